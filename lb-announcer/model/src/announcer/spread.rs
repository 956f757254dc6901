//! Addresses that follow their pods (policy Local): an owner that is fit keeps such an address, so that pods which come
//! and go cut no connections. Where several nodes start one after the other that would leave everything to the first.
//!
//! So a node that has just come up waits for its peers where no client waits, and a node on which such addresses have
//! piled up gives them to earlier candidates, one Service at a time and without a gap.

use std::collections::{BTreeMap, BTreeSet};
use std::net::IpAddr;
use std::sync::Arc;

use landfall_model::ObjectKey;

use crate::announcer::address::{Address, Standing};
use crate::announcer::{Announcer, Liveness, Moment, Presence};
use crate::duty::Candidate;
use crate::wire::heartbeat::Phase;

/// The Services whose addresses are moved only because many have piled up here, their next owner, and when the next are
/// looked for.
#[derive(Debug, Default)]
pub(super) struct Relief {
    planned: Option<(Vec<ObjectKey>, Arc<str>)>,
    next: Moment,
}

impl Announcer {
    /// Whether this node has just come up, and an earlier candidate for an address that follows its pods may be about
    /// to. Not while a client asks for the address.
    pub(super) fn awaits_peers(&self, address: &Address, now: Moment) -> bool {
        let asked = address.asked.is_some_and(|at| now < at + self.tuning.asked);
        if self.phase != Phase::Fresh || asked || matches!(self.liveness, Liveness::Assumed) {
            return false;
        }
        let may_come = |candidate: &Candidate| {
            self.peers.get(&candidate.node).is_some_and(|peer| {
                let starts = peer.heard.is_none() || peer.phase == Phase::Starting;
                starts && peer.departed.is_none() && peer.presence != Presence::Absent
            })
        };
        address.equals_before(&self.me).any(may_come)
    }

    /// Looks for the next Service to move, from time to time.
    pub(super) fn plan_relief(&mut self, now: Moment) {
        if now >= self.relief.next {
            self.relief = Relief { planned: self.find_relief(now), next: now + self.tuning.spread_pause };
        }
    }

    /// Who is to have the address instead of this node, its owner, though this node is fit.
    pub(super) fn relief_of(&self, address: &Address, now: Moment) -> Option<Arc<str>> {
        let (_, to) = self.relief.planned.as_ref().filter(|(planned, _)| *planned == address.services)?;
        address.equals_before(&self.me).any(|c| c.node == *to && self.able(c, now)).then(|| to.clone())
    }

    /// The first Service that an earlier candidate has served for a while which has addresses of at least two such
    /// Services fewer than this node. So a single Service that moved with its pods never comes back for that alone.
    fn find_relief(&self, now: Moment) -> Option<(Vec<ObjectKey>, Arc<str>)> {
        let long = self.tuning.spread_after;
        let settled = self.started.is_some_and(|started| now >= started + long);
        if !settled || !self.phase.takes() || matches!(self.liveness, Liveness::Assumed) {
            return None;
        }
        let following: BTreeMap<&IpAddr, &Address> = self.addresses.iter().filter(|(_, a)| a.follows_pods()).collect();
        let owned = || following.iter().filter(|(_, a)| matches!(a.standing, Standing::Owner(_)));
        // A Service may have an address of each family.
        let mine = owned().map(|(_, a)| &a.services).collect::<BTreeSet<_>>().len();
        let mut theirs = BTreeMap::new();
        if mine < 2 {
            return None;
        }
        for (name, peer) in &self.peers {
            let up = peer.up_since.is_some_and(|up| now >= up + long);
            if up {
                let claimed = peer.state.claims.keys().filter_map(|ip| Some(&following.get(ip)?.services));
                theirs.insert(name, claimed.collect::<BTreeSet<_>>().len());
            }
        }
        owned().find_map(|(_, address)| {
            let fewer = |c: &&Candidate| theirs.get(&c.node).is_some_and(|count| mine >= count + 2);
            let served = |c: &&Candidate| address.candidate_for(&c.node, now) >= long;
            let mut earlier = address.equals_before(&self.me).filter(|c| self.able(c, now));
            let to = earlier.find(|c| fewer(c) && served(c))?;
            Some((address.services.clone(), to.node.clone()))
        })
    }
}
