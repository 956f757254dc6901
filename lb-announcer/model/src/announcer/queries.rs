//! What there is to see of the core from outside.

use std::net::IpAddr;
use std::sync::Arc;

use crate::announcer::address::Standing;
use crate::announcer::peer::{Life, Peer};
use crate::announcer::{Announcer, Counters, FrameCounters, Liveness, Moment};

impl Announcer {
    /// The addresses that this node answers for.
    pub fn owned(&self) -> impl Iterator<Item = IpAddr> {
        self.addresses.iter().filter(|(_, a)| matches!(a.standing, Standing::Owner(_))).map(|(ip, _)| *ip)
    }

    /// Whether this node would answer a request for `ip` at this moment.
    pub fn answers(&self, ip: IpAddr, now: Moment) -> bool {
        self.is_fresh(now) && self.addresses.get(&ip).is_some_and(|a| matches!(a.standing, Standing::Owner(_)))
    }

    /// Who announces `ip`, as far as this node knows, and on which interfaces.
    pub fn announcer_of(&self, ip: IpAddr, now: Moment) -> Option<(Arc<str>, Vec<Arc<str>>)> {
        let address = self.addresses.get(&ip)?;
        let rule = |node: &str| address.candidate(node).map(|c| &c.interfaces);
        if matches!(address.standing, Standing::Owner(_)) {
            let links = self.interfaces_for(ip, rule(&self.me));
            return Some((self.me.clone(), links.into_iter().map(|l| l.name.clone()).collect()));
        }
        let (node, _) = self.claim_of_peer(ip, now)?;
        let interfaces: Vec<Arc<str>> =
            self.peers.get(&node)?.state.interfaces.iter().map(|(n, _)| n.clone()).collect();
        let rule = rule(&node);
        Some((node, interfaces.into_iter().filter(|n| rule.is_none_or(|r| r.allow(n))).collect()))
    }

    /// Frames sent and received for each address.
    pub fn frame_counters(&self) -> impl Iterator<Item = (IpAddr, FrameCounters)> {
        self.addresses.iter().map(|(ip, address)| (*ip, address.counters))
    }

    /// What was counted.
    pub fn counters(&self) -> Counters {
        self.counters
    }

    /// Whether the node takes part: it has listened long enough and knows what there is.
    pub fn is_ready(&self) -> bool {
        self.phase.takes()
    }

    /// Peers that aren't dead.
    pub fn live_peers(&self, now: Moment) -> Vec<Arc<str>> {
        self.peers.keys().filter(|name| self.life(name, now) != Life::Dead).cloned().collect()
    }

    /// Whether this node is the one that allocates where there is no API server: the first by name that is ready.
    pub fn leads(&self, now: Moment) -> bool {
        let ready = |name: &Arc<str>| {
            let takes = self.peers.get(name).is_some_and(|p| p.phase.takes() && p.departed.is_none());
            takes && self.life(name, now) != Life::Dead
        };
        self.is_ready()
            && (matches!(self.liveness, Liveness::Assumed) || !self.peers.keys().any(|n| *n < self.me && ready(n)))
    }

    /// The table of the node that allocates, as this node has it; `None` while this node does or nobody does.
    pub fn leaders_table(&self, now: Moment) -> Option<(Arc<str>, Arc<[u8]>)> {
        let takes = |p: &Peer| p.phase.takes() && p.departed.is_none();
        let ready = self.peers.iter().filter(|(name, p)| takes(p) && self.life(name, now) != Life::Dead);
        let (name, peer) = ready.min_by_key(|(name, _)| (*name).clone())?;
        (*name < self.me && peer.have.table > 0).then(|| (name.clone(), peer.table.clone()))
    }

    /// The tables of every live peer, for a node that begins.
    pub fn peers_tables(&self, now: Moment) -> Vec<Arc<[u8]>> {
        let live = self.peers.iter().filter(|(name, p)| p.have.table > 0 && self.life(name, now) != Life::Dead);
        live.map(|(_, p)| p.table.clone()).collect()
    }
}
