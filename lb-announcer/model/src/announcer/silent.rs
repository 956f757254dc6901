//! Addresses that nobody announces, and why not.

use std::collections::BTreeMap;
use std::net::IpAddr;
use std::time::Duration;

use crate::announcer::address::{Address, Standing};
use crate::announcer::{Announcer, Moment};
use crate::silence::{Said, Silence};

/// How often is looked.
const LOOK: Duration = Duration::from_millis(500);
/// For how long nobody may announce an address before that is said.
const SOON: Duration = Duration::from_secs(2);
/// The same where nothing is known to be wrong: a node that starts may wait for its peers.
const LATE: Duration = Duration::from_secs(5);
/// What answered so long ago says nothing any more: an address that isn't announced is asked for more often.
const ANSWER_HOLDS: Duration = Duration::from_secs(5);

/// What was found when it was last looked.
#[derive(Debug, Default)]
pub(super) struct Silent {
    /// With the reason, as far as this node knows one.
    found: BTreeMap<IpAddr, Option<Silence>>,
    next: Moment,
}

impl Announcer {
    /// Addresses that nobody announces though some node could, each with the reason that this node knows. None, where
    /// it knows none and the address isn't its own to announce.
    pub fn silent(&self) -> &BTreeMap<IpAddr, Option<Silence>> {
        &self.silent.found
    }

    /// Looks which addresses nobody announces.
    pub(super) fn note_silence(&mut self, now: Moment) {
        if now < self.silent.next {
            return;
        }
        self.silent.next = now + LOOK;
        let takes = self.phase.takes();
        let addresses = self.addresses.iter().filter(|(_, a)| takes && !a.candidates.is_empty());
        let found: BTreeMap<IpAddr, Option<Silence>> = addresses
            .filter_map(|(ip, address)| {
                let silence = now.saturating_sub(address.silent?);
                let why = self.why_silent(*ip, address, now);
                let limit =
                    if matches!(why, None | Some(Silence::Waits { .. } | Silence::Unknown)) { LATE } else { SOON };
                (silence >= limit).then_some((*ip, why))
            })
            .collect();
        if found != self.silent.found {
            self.silent.found = found;
            self.revision += 1;
        }
    }

    fn why_silent(&self, ip: IpAddr, address: &Address, now: Moment) -> Option<Silence> {
        let me = address.candidate(&self.me)?;
        if !self.links.values().any(|l| me.interfaces.allow(&l.name)) {
            return Some(Silence::NoInterface { usable: self.links.values().map(|l| l.name.clone()).collect() });
        }
        let fresh = |at: Moment| now.saturating_sub(at) < ANSWER_HOLDS;
        if let Some((node, mac, _)) = address.squatter.as_ref().filter(|(.., at)| fresh(*at)) {
            return Some(Silence::node(node.clone(), *mac));
        }
        if let Some(mac) = self.conflicts.get(&ip) {
            return Some(Silence::foreign(*mac));
        }
        match self.heir(address, None, now) {
            Some(heir) if heir.node != self.me => Some(Silence::Waits { node: heir.node.clone() }),
            _ => Some(Silence::Unknown),
        }
    }

    /// Takes note of whether anybody announces the address.
    pub(super) fn note_announced(now: Moment, address: &mut Address, claimed: bool) {
        let announced = claimed || address.holder.is_some() || matches!(address.standing, Standing::Owner(_));
        address.silent = if announced { None } else { address.silent.or(Some(now)) };
    }
}

/// What this node says of the addresses that nobody announces; `own` tells on which interface of its own it has one.
pub fn said<'a>(silent: &BTreeMap<IpAddr, Option<Silence>>, own: impl Fn(IpAddr) -> Option<&'a str>) -> Said {
    let entry = |(ip, why): (&IpAddr, &Option<Silence>)| {
        let own = own(*ip).map(|interface| Silence::Own { interface: interface.into() });
        let whole = matches!(why, Some(Silence::NoInterface { .. } | Silence::Foreign { .. }));
        let why = if whole { why.clone() } else { own.or_else(|| why.clone()) };
        Some((*ip, why?))
    };
    silent.iter().filter_map(entry).collect()
}
