//! The announcer's protocol core, without input or output.
//!
//! Frames, heartbeats and the time go in; frames, heartbeats and reports come out. The driver calls
//! [`Announcer::on_timer`] no later than [`Announcer::deadline`], after it has handed over everything received.
//!
//! **Invariant:** an address is answered for only by its owner, and only while the owner's own loop is fresh.
//! **Invariant:** an address is taken from a silent owner only after ARP or NDP probes for it went unanswered
//! too. **Invariant:** of two owners the one with the lower epoch stops, without waiting for the other.
//! **Invariant:** no host is called a foreign one before every node was asked whether it is its own. **Invariant:**
//! silence alone takes no address: where heartbeats don't arrive, the address is its own witness.
//! **Invariant:** an address that was announced is kept and defended, whoever else claims it.
//! **Invariant:** an address that follows its pods moves to an earlier candidate only off a node that has piled up such
//! addresses, one Service at a time. **Invariant:** an owner that leaves on purpose stops only when its successor has begun, if that can be heard.

mod address;
mod claims;
mod documents;
mod exchanges;
mod frames;
mod look;
mod neighbours;
mod peer;
mod queries;
mod segments;
mod settle;
mod silent;
mod spread;
mod types;

use std::collections::{BTreeMap, BTreeSet};
use std::net::IpAddr;
use std::sync::Arc;
use std::time::Duration;

use pnet_base::MacAddr;

use crate::duty::Duty;
use crate::wire::heartbeat::{Heartbeat, Phase, Versions, name_hash};
use crate::wire::state::State;
use address::{Address, Standing};
pub use exchanges::Exchanges;
use look::Watch;
use neighbours::Neighbours;
pub use neighbours::{PeerFacts, Presence, Unheard};
use peer::{Accepted, Peer};
use segments::Segments;
use silent::Silent;
pub use silent::said;
use spread::Relief;
pub use types::{Cause, Counters, Effect, FrameCounters, Link, Liveness, Moment, Report, Tuning};

/// The protocol core of one node.
#[derive(Debug)]
pub struct Announcer {
    me: Arc<str>,
    my_hash: u64,
    liveness: Liveness,
    tuning: Tuning,
    incarnation: u64,
    peers: BTreeMap<Arc<str>, Peer>,
    addresses: BTreeMap<IpAddr, Address>,
    links: BTreeMap<u32, Link>,
    segments: Segments,
    /// Every MAC address this node has had, so that its own frames are known when a switch returns them.
    macs: BTreeSet<MacAddr>,
    neighbours: Neighbours,
    watches: BTreeMap<IpAddr, Watch>,
    conflicts: BTreeMap<IpAddr, MacAddr>,
    /// Announced addresses that a foreign host answers for too, and when it last did.
    contested: BTreeMap<IpAddr, (MacAddr, Moment)>,
    /// The highest epoch ever seen of each address: a successor must exceed it.
    epochs: BTreeMap<IpAddr, u64>,
    phase: Phase,
    started: Option<Moment>,
    configured: bool,
    relief: Relief,
    silent: Silent,
    /// When heartbeats were last sent: what the fence measures.
    beat: Moment,
    deadline: Moment,
    slack: Duration,
    versions: Versions,
    state: State,
    state_bytes: Vec<u8>,
    table: Vec<u8>,
    state_stale: bool,
    effects: Vec<Effect>,
    counters: Counters,
    revision: u64,
}

impl Announcer {
    /// The core of the node `me`; `incarnation` is any number that another run won't have.
    pub fn new(me: &str, liveness: Liveness, incarnation: u64, tuning: Tuning) -> Self {
        Self {
            me: me.into(),
            my_hash: name_hash(me),
            liveness,
            tuning,
            incarnation,
            peers: BTreeMap::new(),
            addresses: BTreeMap::new(),
            links: BTreeMap::new(),
            segments: Segments::default(),
            macs: BTreeSet::new(),
            neighbours: Neighbours::default(),
            watches: BTreeMap::new(),
            conflicts: BTreeMap::new(),
            contested: BTreeMap::new(),
            epochs: BTreeMap::new(),
            phase: Phase::Starting,
            started: None,
            configured: false,
            relief: Relief::default(),
            silent: Silent::default(),
            beat: Moment::ZERO,
            deadline: Moment::ZERO,
            slack: Duration::ZERO,
            // A table that was never set is not an empty one: whoever follows this node keeps what it has until then.
            versions: Versions { state: 1, table: 0 },
            state: State::default(),
            state_bytes: State::default().encode(),
            table: Vec::new(),
            state_stale: true,
            effects: Vec::new(),
            counters: Counters::default(),
            revision: 0,
        }
    }

    /// Grows whenever anything that the queries tell has changed.
    pub fn revision(&self) -> u64 {
        self.revision
    }

    /// What is to be announced. The first call tells that everything is known.
    pub fn set_duties(&mut self, now: Moment, duties: &BTreeMap<IpAddr, Duty>) -> Vec<Effect> {
        self.configured = true;
        if self.addresses.is_empty() && self.links.len() > 1 {
            // Only what is to be announced shows which interfaces are on one segment.
            self.neighbours.ask(now, true);
        }
        let gone: Vec<IpAddr> = self.addresses.keys().filter(|ip| !duties.contains_key(ip)).copied().collect();
        for ip in gone {
            self.leave(ip, None);
            self.addresses.remove(&ip);
        }
        for (ip, duty) in duties {
            match self.addresses.get_mut(ip) {
                Some(address) => address.set_duty(now, duty),
                None => drop(self.addresses.insert(*ip, Address::new(duty))),
            }
        }
        self.settle(now);
        self.flush()
    }

    /// Addresses that are known to have been announced before this process ran: they are kept, whoever claims them.
    pub fn set_announced(&mut self, ips: &BTreeSet<IpAddr>) {
        for ip in ips {
            if let Some(address) = self.addresses.get_mut(ip) {
                address.announced = true;
                self.forget_conflict(*ip);
            }
        }
    }

    /// The interfaces that can be announced on. One that is new gets announcements at once.
    pub fn set_links(&mut self, now: Moment, links: Vec<Link>) -> Vec<Effect> {
        let announced_on = self.interfaces_of_owned();
        let before = std::mem::take(&mut self.links);
        self.macs.extend(links.iter().map(|l| l.mac));
        self.links = links.into_iter().map(|l| (l.index, l)).collect();
        self.segments.retain(&self.links);
        let ends = |links: &BTreeMap<u32, Link>| -> Vec<_> {
            links.values().map(|l| (l.index, l.name.clone(), l.mac)).collect()
        };
        if ends(&before) == ends(&self.links) {
            // Only their addresses have changed, which may decide where an address is announced.
            self.reconsider_interfaces(now, &announced_on);
        } else {
            self.state_stale = true;
            for address in self.addresses.values_mut() {
                address.announce_from(now);
            }
            self.neighbours.ask(now, true);
        }
        self.revision += u64::from(before != self.links);
        self.settle(now);
        self.flush()
    }

    /// Addresses to look at before they are given.
    pub fn set_look_ahead(&mut self, now: Moment, ips: &BTreeSet<IpAddr>) -> Vec<Effect> {
        self.watch(now, ips);
        self.settle(now);
        self.flush()
    }

    /// The table to give to peers.
    pub fn set_table(&mut self, now: Moment, table: Vec<u8>) -> Vec<Effect> {
        if table != self.table {
            self.table = table;
            self.versions.table += 1;
            self.beat(now);
        }
        self.flush()
    }

    /// Begins to hand over everything.
    pub fn drain(&mut self, now: Moment) -> Vec<Effect> {
        self.phase = Phase::Draining;
        self.beat(now);
        self.settle(now);
        self.flush()
    }

    /// The last word: whoever hears it takes over at once.
    pub fn goodbye(&mut self, now: Moment) -> Vec<Effect> {
        // The claims are left in what peers have been told: they say what is free from now on.
        self.refresh_state();
        self.phase = Phase::Gone;
        let owned: Vec<IpAddr> = self.owned().collect();
        for ip in owned {
            self.leave(ip, None);
            if let Some(address) = self.addresses.remove(&ip) {
                self.let_go(now, ip, &address);
                self.addresses.insert(ip, address);
            }
        }
        // Said more than once, since no answer is awaited and one packet in twenty may be lost.
        for _ in 0..3 {
            self.beat(now);
        }
        self.flush()
    }

    /// Takes a heartbeat that was received from an address.
    pub fn on_heartbeat(&mut self, now: Moment, from: IpAddr, packet: &[u8]) -> Vec<Effect> {
        let Liveness::Heartbeats(key) = &self.liveness else { return Vec::new() };
        let Some(heartbeat) = Heartbeat::decode(packet, key).filter(|h| h.to == self.me) else {
            self.counters.rejected += 1;
            if Heartbeat::claims_to_be(packet) {
                self.on_other_key(now, from);
            }
            return Vec::new();
        };
        let Some(peer) = self.peers.get_mut(&heartbeat.from) else {
            self.counters.rejected += 1;
            return Vec::new();
        };
        peer.arrived = Some(now);
        let dead_after = self.tuning.dead_after;
        let accepted = peer.accept(now, &heartbeat, self.incarnation, dead_after, &mut self.counters);
        if accepted == Accepted::Nothing {
            return Vec::new();
        }
        for (hash, age) in &heartbeat.heard {
            let seen = now.saturating_sub(Duration::from_millis(u64::from(*age)));
            if let Some(other) = self.peers.values_mut().find(|p| p.hash == *hash) {
                other.vouched = other.vouched.max(Some(seen));
            }
        }
        if accepted == Accepted::Change {
            self.revision += 1;
            self.forget_conflicts_with_peers(now);
            self.settle(now);
        }
        self.flush()
    }

    /// Does what is due. Everything that was received before must have been handed over.
    pub fn on_timer(&mut self, now: Moment) -> Vec<Effect> {
        let first = self.started.is_none();
        if first {
            self.started = Some(now);
            self.deadline = now;
        } else {
            // Forgets slowly what it knows of its own machine: by half in about seven seconds.
            self.slack = self.slack.mul_f64(0.995);
            self.notice_lateness(now);
        }
        let heard_enough = self.started.is_some_and(|started| now >= started + self.tuning.listen);
        if self.phase == Phase::Starting && self.configured && heard_enough {
            self.phase = Phase::Fresh;
            self.revision += 1;
        }
        let settled = self.started.is_some_and(|started| now >= started + self.tuning.hold_down);
        if self.phase == Phase::Fresh && settled {
            self.phase = Phase::Ready;
        }
        if first || now >= self.beat + self.tuning.heartbeat {
            self.beat(now);
        }
        self.settle(now);
        self.flush()
    }

    /// When [`Self::on_timer`] is to be called at the latest.
    pub fn deadline(&self) -> Moment {
        self.deadline
    }

    /// A process that ran late heard nothing meanwhile, so nobody's silence during that time counts.
    ///
    /// Asked before every decision, whatever led to it: what arrives first after a stop is mostly not the timer.
    fn notice_lateness(&mut self, now: Moment) {
        let late = now.saturating_sub(self.deadline);
        if self.started.is_none() || late < self.tuning.heartbeat / 2 {
            return;
        }
        self.deadline = now;
        self.slack = self.slack.max(late.min(self.tuning.dead_after));
        for peer in self.peers.values_mut() {
            peer.excuse(now, late);
        }
        if self.phase == Phase::Starting {
            self.started = self.started.map(|started| started + late);
        }
        if now.saturating_sub(self.beat) > self.tuning.fence_after {
            self.wake(now);
        }
    }

    fn wake(&mut self, now: Moment) {
        let after = now.saturating_sub(self.beat);
        self.effects.push(Effect::Report(Report::Woke { after }));
        for address in self.addresses.values_mut() {
            if matches!(address.standing, Standing::Owner(_)) {
                // Longer than two heartbeats, so that whoever took over has been heard.
                address.probe(now, Cause::Resumed, now + self.tuning.heartbeat * 2 + self.tuning.probe_interval);
                self.state_stale = true;
            }
        }
    }

    /// Whether the loop ran so recently that nobody can have taken over.
    fn is_fresh(&self, now: Moment) -> bool {
        now.saturating_sub(self.beat) <= self.tuning.fence_after
    }

    fn flush(&mut self) -> Vec<Effect> {
        std::mem::take(&mut self.effects)
    }
}

#[cfg(test)]
mod tests;
