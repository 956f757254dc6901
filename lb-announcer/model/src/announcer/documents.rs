//! What peers are told: heartbeats, and with them the documents that a peer lacks.

use crate::announcer::address::Standing;
use crate::announcer::{Announcer, Effect, Liveness, Moment};
use crate::wire::heartbeat::{CHUNK, Chunk, Document, Heartbeat, name_hash};
use crate::wire::state::{Claim, State};

impl Announcer {
    /// Sends each peer a heartbeat, and with it what the peer lacks of the documents.
    pub(super) fn beat(&mut self, now: Moment) {
        self.beat = now;
        let Liveness::Heartbeats(key) = &self.liveness else { return };
        let heard: Vec<(u64, u16)> = self.peers.values().filter_map(|p| p.vouch(now)).collect();
        let limit = self.tuning.dead_after;
        for (name, peer) in &mut self.peers {
            // A node that has left is spoken to only for as long as its process lives on.
            if peer.departed.is_some() && peer.silence(now).is_none_or(|silence| silence > limit) {
                continue;
            }
            let mut chunks = Vec::new();
            for (document, bytes) in [(Document::State, &self.state_bytes), (Document::Table, &self.table)] {
                if peer.acknowledged.of(document) != self.versions.of(document) && peer.incarnation.is_some() {
                    chunks.extend(chunks_of(document, self.versions.of(document), bytes));
                }
            }
            let mut chunks = chunks.into_iter();
            let mut next = chunks.next();
            loop {
                peer.sent += 1;
                let (echo_incarnation, echo_sequence) = peer.echo;
                let heartbeat = Heartbeat {
                    from: self.me.clone(),
                    to: name.clone(),
                    incarnation: self.incarnation,
                    sequence: peer.sent,
                    phase: self.phase,
                    versions: self.versions,
                    echo_incarnation,
                    echo_sequence,
                    echo_versions: peer.have,
                    heard: heard.clone(),
                    chunk: next.take(),
                };
                self.effects.push(Effect::Packet { to: name.clone(), bytes: heartbeat.encode(key) });
                next = chunks.next();
                if next.is_none() {
                    break;
                }
            }
        }
    }

    /// Makes the state document anew, and sends it if it changed.
    pub(super) fn publish_state(&mut self, now: Moment) {
        if self.refresh_state() {
            self.beat(now);
        }
    }

    pub(super) fn refresh_state(&mut self) -> bool {
        if !std::mem::take(&mut self.state_stale) {
            return false;
        }
        let claims = self.addresses.iter().filter_map(|(ip, address)| {
            let Standing::Owner(owner) = &address.standing else { return None };
            let offered_to = owner.offer.as_ref().map_or(0, |offer| name_hash(&offer.to));
            Some((*ip, Claim { epoch: owner.epoch, offered_to }))
        });
        let state = State {
            interfaces: self.links.values().map(|l| (l.name.clone(), l.mac)).collect(),
            claims: claims.collect(),
            conflicts: self.conflicts.clone(),
            contested: self.contested.iter().map(|(ip, (mac, _))| (*ip, *mac)).collect(),
        };
        if state == self.state {
            return false;
        }
        self.state_bytes = state.encode();
        self.state = state;
        self.revision += 1;
        self.versions.state += 1;
        true
    }
}

fn chunks_of(document: Document, version: u64, bytes: &[u8]) -> Vec<Chunk> {
    let count = u16::try_from(bytes.len().div_ceil(CHUNK).max(1)).unwrap_or(u16::MAX);
    let part = |index: u16| {
        let start = usize::from(index) * CHUNK;
        bytes.get(start..bytes.len().min(start + CHUNK)).unwrap_or_default().to_vec()
    };
    (0..count).map(|index| Chunk { document, version, index, count, bytes: part(index) }).collect()
}
