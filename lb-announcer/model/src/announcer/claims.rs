//! What others say of an address: that they have it, or that they ask for it.
//!
//! Where heartbeats arrive they decide who has an address. Where they don't, the address is its own witness: whoever
//! asks for it hears its owner, and of several that ask at once the first in the election's order goes on.

use std::net::IpAddr;
use std::sync::Arc;
use std::time::Duration;

use pnet_base::MacAddr;

use crate::announcer::address::{Address, Standing};
use crate::announcer::neighbours::Who;
use crate::announcer::peer::Peer;
use crate::announcer::{Announcer, Effect, Liveness, Moment, Presence, Report};
use crate::wire::heartbeat::Phase;

/// RFC 5227 section 1.1, `DEFEND_INTERVAL`: at most one defence in this time.
const DEFEND_INTERVAL: Duration = Duration::from_secs(10);
/// A peer that was heard so lately has stopped, or some of its heartbeats were lost: its addresses are asked for often.
const LATELY: Duration = Duration::from_secs(1);
/// The longest time between two questions for an address whose owner isn't heard.
const RAREST: Duration = Duration::from_millis(1_200);

impl Announcer {
    /// Somebody says that it has the address.
    pub(super) fn on_claim(&mut self, now: Moment, ip: IpAddr, mac: MacAddr) {
        if self.learn(now, ip, mac) || !(self.addresses.contains_key(&ip) || self.watches.contains_key(&ip)) {
            return;
        }
        match self.who(mac, now) {
            Who::Peer(name) => self.on_peers_claim(now, ip, &name, mac),
            Who::Proxy => {}
            Who::Stranger => self.on_strangers_claim(now, ip, mac),
        }
    }

    /// A node of ours says that it has the address.
    fn on_peers_claim(&mut self, now: Moment, ip: IpAddr, name: &Arc<str>, mac: MacAddr) {
        let lately = self.heard_lately(name, now);
        let pause = if lately { self.tuning.probe_interval } else { self.ask_interval() };
        if let Some(peer) = self.peers.get_mut(name) {
            peer.seen = Some(now);
        }
        let coordinated = self.is_coordinated(name, ip, now);
        let claims = self.peers.get(name).is_some_and(|peer| peer.state.claims.contains_key(&ip));
        let Some(mut address) = self.addresses.remove(&ip) else { return };
        address.announced = true;
        address.squatter = (coordinated && !claims).then(|| (name.clone(), mac, now));
        match &mut address.standing {
            // The address is its own witness: the peer that answers for it is alive.
            Standing::Probing(_) => {
                address.standing = Standing::Idle { until: now + pause };
                if lately && let Some(peer) = self.peers.get_mut(name) {
                    peer.vouched = peer.vouched.max(Some(now));
                }
            }
            Standing::Idle { until } if !coordinated => *until = (*until).max(now + pause),
            Standing::Owner(owner) if !coordinated => {
                if precedes(&address.candidates, name, &self.me) {
                    self.stop(now, ip, &mut address, Some(name.clone()));
                    address.standing = Standing::Idle { until: now + pause };
                } else if owner.corrected.is_none_or(|at| now >= at + LATELY) {
                    owner.corrected = Some(now);
                    address.announce_from(now);
                }
            }
            Standing::Idle { .. } | Standing::Owner(_) => {}
        }
        if !coordinated {
            address.holder = Some(name.clone());
            // It has asked, and whoever was believed to have the address has not answered it.
            self.forget_conflict(ip);
        }
        self.addresses.insert(ip, address);
    }

    /// Somebody asks for the address without having one.
    pub(super) fn on_probe(&mut self, now: Moment, ip: IpAddr, mac: MacAddr) {
        if !self.addresses.contains_key(&ip) {
            return;
        }
        let Who::Peer(name) = self.who(mac, now) else { return };
        if let Some(peer) = self.peers.get_mut(&name) {
            peer.seen = Some(now);
        }
        if self.is_coordinated(&name, ip, now) {
            return;
        }
        let (taking, rarely) = (self.blind_probing() + self.tuning.probe_interval * 4, self.ask_interval() * 2);
        let Some(address) = self.addresses.get_mut(&ip) else { return };
        let first = precedes(&address.candidates, &name, &self.me);
        let held = address.holder.as_ref() == Some(&name);
        match &mut address.standing {
            // Whoever had it asks for it, so it has it no more.
            Standing::Idle { until } if held => *until = now,
            Standing::Probing(_) if first && !held => address.standing = Standing::Idle { until: now + taking },
            // The other looks after it: if it finds the address free, it takes it.
            Standing::Idle { until } if first => *until = (*until).max(now + rarely),
            Standing::Idle { .. } | Standing::Probing(_) | Standing::Owner(_) => {}
        }
    }

    /// A host that is no node of ours says that it has the address.
    ///
    /// RFC 5227 section 2.4 (c): an address that has been announced is defended and kept. Only one that hasn't been is
    /// left to the other host.
    pub(super) fn on_foreign_claim(&mut self, now: Moment, ip: IpAddr, mac: MacAddr) {
        self.on_watched_answer(now, ip, mac);
        let Some(mut address) = self.addresses.remove(&ip) else { return };
        match &mut address.standing {
            Standing::Probing(_) if !address.announced => {
                address.standing = Standing::Idle { until: now };
                self.note_conflict(now, ip, mac);
            }
            Standing::Owner(owner) => {
                let due = owner.defended.is_none_or(|at| now >= at + DEFEND_INTERVAL);
                if due {
                    owner.defended = Some(now);
                }
                self.note_contest(now, ip, mac);
                if due {
                    self.announce(ip, &mut address);
                }
            }
            Standing::Probing(_) | Standing::Idle { .. } => {}
        }
        self.addresses.insert(ip, address);
    }

    /// A stranger decides how many MAC addresses claim an address, so another one is told of only after a while.
    fn note_contest(&mut self, now: Moment, ip: IpAddr, mac: MacAddr) {
        match self.contested.get_mut(&ip) {
            Some((known, seen)) if *known == mac || now < *seen + DEFEND_INTERVAL => {
                if *known == mac {
                    *seen = now;
                }
                return;
            }
            _ => drop(self.contested.insert(ip, (mac, now))),
        }
        self.state_stale = true;
        self.counters.conflicts += 1;
        self.effects.push(Effect::Report(Report::Conflict { ip, mac, defended: true }));
    }

    /// Whether heartbeats decide between this node and the peer, or another that is heard has the address.
    fn is_coordinated(&self, name: &str, ip: IpAddr, now: Moment) -> bool {
        let left = |peer: &Peer| peer.phase == Phase::Gone && self.heard_lately(name, now);
        self.hears(name, now) || self.peers.get(name).is_some_and(left) || self.claim_of_peer(ip, now).is_some()
    }

    /// Whether the peer's own heartbeats come: that others vouch for it tells nothing of what it has.
    fn hears(&self, name: &str, now: Moment) -> bool {
        let limit = self.tuning.dead_after + self.slack;
        let heard = |peer: &Peer| {
            peer.phase != Phase::Gone && peer.heard.is_some_and(|heard| now.saturating_sub(heard) < limit)
        };
        matches!(self.liveness, Liveness::Assumed) || self.peers.get(name).is_some_and(heard)
    }

    /// Whether heartbeats of the peer came within the last second, so that they decide.
    pub(super) fn heard_lately(&self, name: &str, now: Moment) -> bool {
        let heard = |at: Moment| now.saturating_sub(at) < LATELY;
        matches!(self.liveness, Liveness::Assumed) || self.peers.get(name).and_then(|p| p.heard).is_some_and(heard)
    }

    /// Whether a node may be there that isn't heard.
    pub(super) fn is_blind(&self, now: Moment) -> bool {
        let hidden = |(name, peer): (&Arc<str>, &Peer)| {
            let gone = peer.phase == Phase::Gone && peer.heard > peer.seen;
            !self.hears(name, now) && !gone && peer.presence != Presence::Absent
        };
        self.peers.iter().any(hidden)
    }

    /// How long a node asks for an address before it takes it while others may do the same without being heard.
    pub(super) fn blind_probing(&self) -> Duration {
        self.tuning.blind_interval * u32::from(self.tuning.blind_probes)
    }

    /// How often an address is asked for whose owner isn't heard: in all never more than about 250 times a second.
    fn ask_interval(&self) -> Duration {
        let addresses = u32::try_from(self.addresses.len()).unwrap_or(u32::MAX);
        (Duration::from_millis(4) * addresses).clamp(self.tuning.ask_silent, RAREST)
    }

    /// Lets those know that can't be heard that this node has the address no more: it asks for it.
    pub(super) fn let_go(&mut self, now: Moment, ip: IpAddr, address: &Address) {
        if self.is_blind(now) {
            // Twice, since one frame in twenty may be lost.
            self.send_probe(ip, address);
            self.send_probe(ip, address);
        }
    }
}

/// Whether `other` comes before `me` in the order for the address.
fn precedes(candidates: &[crate::duty::Candidate], other: &Arc<str>, me: &Arc<str>) -> bool {
    let place = |name: &Arc<str>| candidates.iter().position(|c| c.node == *name).unwrap_or(usize::MAX);
    (place(other), other) < (place(me), me)
}
