//! What can go wrong besides crashes: blocked heartbeats, cut power, deleted Nodes.

use super::*;
use crate::announcer::{PeerFacts, Presence};

impl Lan {
    /// Blocks the heartbeats between all nodes.
    pub(in super::super) fn block_all(&mut self) {
        let all = 0..self.machines.len();
        self.blocked = all.clone().flat_map(|from| all.clone().map(move |to| (from, to))).collect();
    }

    /// Blocks the heartbeats of one node to another, not the other way round.
    pub(in super::super) fn block(&mut self, from: usize, to: usize) {
        self.blocked.insert((from, to));
    }

    pub(in super::super) fn unblock_all(&mut self) {
        self.blocked.clear();
    }

    /// Takes a machine's power: nothing answers there any more, not even for the node's own address.
    pub(in super::super) fn cut_power(&mut self, index: usize) {
        self.crash(index);
        self.dark.insert(index);
    }

    /// Deletes a Node object, or creates it again; `told` are the nodes that hear of it.
    pub(in super::super) fn set_deleted(&mut self, index: usize, deleted: bool, told: &[usize]) {
        if deleted {
            self.deleted.insert(index);
        } else {
            self.deleted.remove(&index);
        }
        let (facts, duties) = (self.peer_facts(), self.duties());
        for index in told.iter().copied() {
            if self.machines[index].run != Run::Running {
                continue;
            }
            let now = self.local(index);
            let mut effects = self.machines[index].core.set_peers(now, &facts);
            effects.extend(self.machines[index].core.set_duties(now, &duties));
            self.carry_out(index, effects);
            self.set_timer(index);
        }
    }

    /// What the API server says of all speakers.
    pub(in super::super) fn set_presence(&mut self, presence: Presence) {
        self.presence = presence;
        self.set_deleted(usize::MAX, false, &(0..self.machines.len()).collect::<Vec<_>>());
    }

    /// Starts a node again with another key.
    pub(in super::super) fn give_other_key(&mut self, index: usize) {
        self.other_key.insert(index);
        self.crash(index);
        self.start(index);
    }

    pub(super) fn peer_facts(&self) -> BTreeMap<Arc<str>, PeerFacts> {
        let here = (0..self.machines.len()).filter(|index| !self.deleted.contains(index));
        here.map(|i| (name(i), self.facts_of(i))).collect()
    }

    fn facts_of(&self, index: usize) -> PeerFacts {
        PeerFacts { addresses: vec![node_ip(index)], presence: self.presence, ..PeerFacts::default() }
    }

    /// The duties as they are when some Nodes are gone.
    pub(super) fn duties(&self) -> BTreeMap<IpAddr, Duty> {
        let gone: BTreeSet<Arc<str>> = self.deleted.iter().map(|index| name(*index)).collect();
        let mut duties = self.duties.clone();
        for duty in duties.values_mut() {
            duty.candidates.retain(|c| !gone.contains(&c.node));
        }
        duties
    }

    /// The MAC address with which a node's kernel answers for its own address, whatever its speaker does.
    pub(super) fn kernel_of(&self, asked_by: usize, ip: IpAddr) -> Option<MacAddr> {
        let index = (0..self.machines.len()).find(|index| node_ip(*index) == ip)?;
        let near = self.machines[index].side == self.machines[asked_by].side;
        (index != asked_by && near && !self.dark.contains(&index)).then(|| mac(index))
    }

    pub(super) fn note_accusation(&mut self, ip: IpAddr, host: MacAddr) {
        if (0..self.machines.len()).any(|index| mac(index) == host) {
            self.accused.push((ip, host));
        }
    }

    /// Exactly one owner for each address, nobody called a foreign host, and no address without or with several
    /// owners for longer than that.
    pub(in super::super) fn check(&self, what: &str, gap: Duration, overlap: Duration) {
        for ip in self.ips() {
            assert_eq!(self.owners(ip).len(), 1, "{what}: {ip} is answered for by {:?}", self.owners(ip));
        }
        assert!(self.accused.is_empty(), "{what}: nodes are called foreign hosts: {:?}", self.accused);
        assert!(self.longest_gap <= gap, "{what}: nobody answered for {:?}", self.longest_gap);
        assert!(self.longest_overlap <= overlap, "{what}: two answered for {:?}", self.longest_overlap);
    }
}
