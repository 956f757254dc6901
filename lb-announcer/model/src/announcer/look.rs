//! Looking ahead: probes for addresses that may be given next, and for those that foreign hosts have.

use std::collections::btree_map::Entry;
use std::collections::{BTreeMap, BTreeSet};
use std::net::IpAddr;
use std::sync::Arc;

use pnet_base::MacAddr;

use crate::announcer::neighbours::Who;
use crate::announcer::peer::Life;
use crate::announcer::{Announcer, Effect, Moment, Report};
use crate::election::Rank;

/// Rounds without an answer after which a foreign host is believed to be gone.
const CLEAN_ROUNDS: u8 = 2;

/// An address that is looked at.
#[derive(Debug)]
pub(super) struct Watch {
    /// Whether it may be given next; else only a conflict keeps it here.
    wanted: bool,
    sent: u8,
    next: Moment,
    answered: bool,
    clean: u8,
}

impl Watch {
    fn new(wanted: bool, next: Moment) -> Self {
        Self { wanted, sent: 0, next, answered: false, clean: 0 }
    }
}

impl Announcer {
    pub(super) fn watch(&mut self, now: Moment, ips: &BTreeSet<IpAddr>) {
        for watch in self.watches.values_mut() {
            watch.wanted = false;
        }
        for ip in ips {
            self.watches.entry(*ip).or_insert_with(|| Watch::new(true, now)).wanted = true;
        }
        let conflicts = &self.conflicts;
        self.watches.retain(|ip, watch| watch.wanted || conflicts.contains_key(ip));
    }

    /// Sends the probes that are due.
    pub(super) fn look(&mut self, now: Moment) {
        let due: Vec<IpAddr> = self.watches.iter().filter(|(_, w)| now >= w.next).map(|(ip, _)| *ip).collect();
        for ip in due {
            let mine = self.conflicts.contains_key(&ip) || self.looks_at(ip, now);
            let owned = self.addresses.contains_key(&ip) && !self.conflicts.contains_key(&ip);
            let idle = !mine || owned || !self.is_ready();
            let Some(watch) = self.watches.get_mut(&ip) else { continue };
            if idle {
                watch.next = now + self.tuning.heartbeat * 4;
                continue;
            }
            if watch.sent < self.tuning.probes {
                watch.sent += 1;
                // Slower than before a takeover: nothing waits for it, and sleepy hosts get time to answer.
                watch.next = now + self.tuning.probe_interval * 4;
                let links: Vec<u32> = self.links.keys().copied().collect();
                for link in links {
                    self.probe_on(link, ip);
                }
                continue;
            }
            let clean = if watch.answered { 0 } else { watch.clean.saturating_add(1) };
            let pause =
                if self.conflicts.contains_key(&ip) { self.tuning.look_again / 6 } else { self.tuning.look_again };
            *watch = Watch { clean, ..Watch::new(watch.wanted, now + pause) };
            let wanted = watch.wanted;
            if clean >= CLEAN_ROUNDS {
                self.forget_conflict(ip);
            }
            if !wanted && !self.conflicts.contains_key(&ip) {
                self.watches.remove(&ip);
            }
        }
    }

    /// Whether this node is the one to look at the address: the first of the live ones in the address's order.
    fn looks_at(&self, ip: IpAddr, now: Moment) -> bool {
        let mine = Rank::new(&self.me, ip, 0, None);
        let others = self.peers.iter().filter(|(name, p)| p.departed.is_none() && self.life(name, now) == Life::Alive);
        others.map(|(name, _)| Rank::new(name, ip, 0, None)).all(|rank| mine < rank)
    }

    /// A host that isn't ours answers for an address that is looked at.
    pub(super) fn on_watched_answer(&mut self, now: Moment, ip: IpAddr, mac: MacAddr) {
        if let Some(watch) = self.watches.get_mut(&ip)
            && (!self.addresses.contains_key(&ip) || self.conflicts.contains_key(&ip))
        {
            watch.answered = true;
            self.note_conflict(now, ip, mac);
        }
    }

    pub(super) fn note_conflict(&mut self, now: Moment, ip: IpAddr, mac: MacAddr) {
        let again = now + self.tuning.look_again / 6;
        self.watches.entry(ip).or_insert_with(|| Watch::new(false, again)).clean = 0;
        // A stranger decides how many MAC addresses claim an address: the first one is told of.
        if let Entry::Vacant(vacant) = self.conflicts.entry(ip) {
            vacant.insert(mac);
            self.counters.conflicts += 1;
            self.state_stale = true;
            self.effects.push(Effect::Report(Report::Conflict { ip, mac, defended: false }));
        }
    }

    pub(super) fn forget_conflict(&mut self, ip: IpAddr) {
        if self.conflicts.remove(&ip).is_some() {
            self.state_stale = true;
            self.effects.push(Effect::Report(Report::ConflictOver { ip }));
        }
    }

    /// A host that was taken for a foreign one turns out to be a peer whose interfaces weren't known yet.
    pub(super) fn forget_conflicts_with_peers(&mut self, now: Moment) {
        let ours: Vec<IpAddr> =
            self.conflicts.iter().filter(|(_, mac)| !self.is_foreign(**mac, now)).map(|(ip, _)| *ip).collect();
        for ip in ours {
            self.forget_conflict(ip);
        }
        let mine: Vec<IpAddr> =
            self.contested.iter().filter(|(_, (mac, _))| !self.is_foreign(*mac, now)).map(|(ip, _)| *ip).collect();
        for ip in mine {
            self.contested.remove(&ip);
            self.state_stale = true;
            self.effects.push(Effect::Report(Report::ConflictOver { ip }));
        }
    }

    /// Whether the host is neither ours nor one that answers for everybody.
    fn is_foreign(&self, mac: MacAddr, now: Moment) -> bool {
        !self.macs.contains(&mac) && self.who(mac, now) == Who::Stranger
    }

    /// Addresses that foreign hosts have, as this node and its live peers found: with MAC address and finder.
    ///
    /// A peer may not know yet whom it accuses: what this node knows better doesn't count.
    pub fn conflicts(&self, now: Moment) -> BTreeMap<IpAddr, (MacAddr, Arc<str>)> {
        let live = self.peers.iter().filter(|(name, _)| self.life(name, now) != Life::Dead);
        let theirs = live.flat_map(|(name, p)| p.state.conflicts.iter().map(|(ip, mac)| (*ip, (*mac, name.clone()))));
        let mine = self.conflicts.iter().map(|(ip, mac)| (*ip, (*mac, self.me.clone())));
        theirs.chain(mine).filter(|(_, (mac, _))| self.is_foreign(*mac, now)).collect()
    }

    /// Announced addresses that foreign hosts answer for too: with MAC address and announcer.
    pub fn contested(&self, now: Moment) -> BTreeMap<IpAddr, (MacAddr, Arc<str>)> {
        let live = self.peers.iter().filter(|(name, _)| self.life(name, now) != Life::Dead);
        let theirs = live.flat_map(|(name, p)| p.state.contested.iter().map(|(ip, mac)| (*ip, (*mac, name.clone()))));
        let mine = self.contested.iter().map(|(ip, (mac, _))| (*ip, (*mac, self.me.clone())));
        theirs.chain(mine).filter(|(_, (mac, _))| self.is_foreign(*mac, now)).collect()
    }

    /// The conflicts that this node itself found.
    pub fn own_conflicts(&self) -> &BTreeMap<IpAddr, MacAddr> {
        &self.conflicts
    }
}
