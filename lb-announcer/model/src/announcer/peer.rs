//! What is known of another node's announcer.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::Duration;

use pnet_base::MacAddr;

use crate::announcer::{Counters, Moment, Presence, Tuning};
use crate::wire::heartbeat::{Chunk, Document, Heartbeat, Phase, Versions, name_hash};
use crate::wire::state::State;

/// A packet whose echo is older than this many packets proves nothing.
const FRESH: u64 = 1_000;

/// Whether a peer is there.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Life {
    /// Heard of recently.
    Alive,
    /// Silent for so long that its addresses are probed.
    Suspect,
    /// Silent for too long, or gone.
    Dead,
}

/// What a heartbeat changed.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Accepted {
    /// It wasn't accepted.
    Nothing,
    /// The peer is alive; nothing else is new.
    Life,
    /// Its phase or one of its documents is new.
    Change,
}

#[derive(Debug)]
struct Assembly {
    version: u64,
    count: u16,
    parts: BTreeMap<u16, Vec<u8>>,
}

/// Another node.
#[derive(Debug)]
pub(crate) struct Peer {
    pub(crate) hash: u64,
    /// The run of the peer that packets are accepted from.
    pub(crate) incarnation: Option<u64>,
    pub(crate) phase: Phase,
    pub(crate) heard: Option<Moment>,
    /// When others last heard it.
    pub(crate) vouched: Option<Moment>,
    pub(crate) up_since: Option<Moment>,
    /// What was reported last.
    pub(crate) reported_up: bool,
    /// Packets sent to it.
    pub(crate) sent: u64,
    /// What to repeat to it: its incarnation and last sequence number.
    pub(crate) echo: (u64, u64),
    /// Versions of its documents that are here whole.
    pub(crate) have: Versions,
    /// Versions of our documents that it has whole.
    pub(crate) acknowledged: Versions,
    pub(crate) state: State,
    pub(crate) table: Arc<[u8]>,
    /// Every MAC address it has had.
    pub(crate) macs: BTreeSet<MacAddr>,
    /// Whether its speaker runs, as the API server says.
    pub(crate) presence: Presence,
    /// Since when it isn't known to be a node any more. It is remembered for as long as its process may live on.
    pub(crate) departed: Option<Moment>,
    /// Since when it is expected to be heard.
    pub(crate) expected: Option<Moment>,
    /// When a frame showed that its speaker runs.
    pub(crate) seen: Option<Moment>,
    /// When a packet of it came that was made with the key, whatever became of it.
    pub(crate) arrived: Option<Moment>,
    /// When a packet came from one of its addresses that was made with another key.
    pub(crate) other_key: Option<Moment>,
    /// How many packets were sent to it since the last one that it says it got.
    pub(crate) lag: u64,
    highest: u64,
    window: u64,
    last_echo: u64,
    assemblies: BTreeMap<Document, Assembly>,
}

impl Peer {
    pub(crate) fn new(name: &str) -> Self {
        Self {
            hash: name_hash(name),
            incarnation: None,
            phase: Phase::Starting,
            heard: None,
            vouched: None,
            up_since: None,
            reported_up: false,
            sent: 0,
            echo: (0, 0),
            have: Versions::default(),
            acknowledged: Versions::default(),
            state: State::default(),
            table: Arc::from([]),
            macs: BTreeSet::new(),
            presence: Presence::Unknown,
            departed: None,
            expected: None,
            seen: None,
            arrived: None,
            other_key: None,
            lag: 0,
            highest: 0,
            window: 0,
            last_echo: 0,
            assemblies: BTreeMap::new(),
        }
    }

    /// How long nobody has heard it.
    pub(crate) fn silence(&self, now: Moment) -> Option<Duration> {
        Some(now.saturating_sub(self.heard?.max(self.vouched.unwrap_or_default())))
    }

    pub(crate) fn life(&self, now: Moment, tuning: &Tuning, slack: Duration) -> Life {
        match self.silence(now) {
            Some(_) if self.phase == Phase::Gone => Life::Dead,
            Some(silence) if silence < tuning.suspect_after + slack => Life::Alive,
            Some(silence) if silence < tuning.dead_after + slack => Life::Suspect,
            _ => Life::Dead,
        }
    }

    /// Forgives silence during a time in which nobody listened.
    pub(crate) fn excuse(&mut self, now: Moment, late: Duration) {
        if let Some(heard) = &mut self.heard {
            *heard = (*heard + late).min(now);
        }
    }

    /// What this node can say to others of having heard the peer.
    pub(crate) fn vouch(&self, now: Moment) -> Option<(u64, u16)> {
        let age = now.saturating_sub(self.heard?).as_millis();
        if self.phase == Phase::Gone {
            return None;
        }
        u16::try_from(age).ok().filter(|age| *age < 1_000).map(|age| (self.hash, age))
    }

    /// Takes over a heartbeat if it is new and fresh.
    pub(crate) fn accept(
        &mut self,
        now: Moment,
        heartbeat: &Heartbeat,
        mine: u64,
        dead_after: Duration,
        counters: &mut Counters,
    ) -> Accepted {
        let fresh = heartbeat.echo_incarnation == mine && heartbeat.echo_sequence.saturating_add(FRESH) >= self.sent;
        if !fresh {
            // A peer that doesn't know this run yet learns of it by having its own number repeated. While its
            // present run is heard, an old packet can't change what is repeated.
            let silent = self.heard.is_none_or(|heard| now.saturating_sub(heard) > dead_after);
            if silent || self.incarnation == Some(heartbeat.incarnation) && heartbeat.sequence > self.highest {
                self.echo = (heartbeat.incarnation, heartbeat.sequence);
                self.incarnation.get_or_insert(heartbeat.incarnation);
            } else {
                counters.replayed += 1;
            }
            return Accepted::Nothing;
        }
        let restarted = self.incarnation != Some(heartbeat.incarnation);
        if restarted && self.heard.is_some() && heartbeat.echo_sequence <= self.last_echo {
            counters.replayed += 1;
            return Accepted::Nothing;
        }
        let first = self.heard.is_none();
        if restarted || first {
            self.begin_run(now, heartbeat);
        }
        if !self.slide(heartbeat.sequence, counters) {
            counters.replayed += 1;
            return Accepted::Nothing;
        }
        counters.received += 1;
        self.last_echo = self.last_echo.max(heartbeat.echo_sequence);
        self.lag = self.sent.saturating_sub(self.last_echo);
        self.echo = (heartbeat.incarnation, self.highest);
        self.heard = Some(now);
        self.acknowledged = heartbeat.echo_versions;
        let mut change = restarted || first || !self.reported_up;
        // Of packets that overtook each other the later one tells the phase.
        if heartbeat.sequence == self.highest {
            change |= self.phase != heartbeat.phase;
            self.phase = heartbeat.phase;
        }
        if let Some(chunk) = &heartbeat.chunk {
            change |= self.assemble(chunk);
        }
        if change { Accepted::Change } else { Accepted::Life }
    }

    fn begin_run(&mut self, now: Moment, heartbeat: &Heartbeat) {
        self.incarnation = Some(heartbeat.incarnation);
        self.highest = heartbeat.sequence.saturating_sub(1);
        self.window = u64::MAX;
        self.have = Versions::default();
        self.state.claims.clear();
        self.assemblies.clear();
        self.up_since = Some(now);
    }

    /// Whether the number is new: greater than all before, or among the 64 below and not seen yet.
    fn slide(&mut self, sequence: u64, counters: &mut Counters) -> bool {
        if sequence > self.highest {
            let ahead = sequence - self.highest;
            counters.lost += ahead - 1;
            self.window = if ahead >= 64 { 1 } else { (self.window << ahead) | 1 };
            self.highest = sequence;
            return true;
        }
        let behind = self.highest - sequence;
        if behind >= 64 || self.window & (1 << behind) != 0 {
            return false;
        }
        self.window |= 1 << behind;
        counters.lost = counters.lost.saturating_sub(1);
        true
    }

    fn assemble(&mut self, chunk: &Chunk) -> bool {
        if chunk.version <= self.have.of(chunk.document) {
            return false;
        }
        let fresh = || Assembly { version: chunk.version, count: chunk.count, parts: BTreeMap::new() };
        let assembly = self.assemblies.entry(chunk.document).or_insert_with(fresh);
        if assembly.version < chunk.version {
            *assembly = fresh();
        }
        if assembly.version != chunk.version || assembly.count != chunk.count {
            return false;
        }
        assembly.parts.insert(chunk.index, chunk.bytes.clone());
        if assembly.parts.len() < usize::from(assembly.count) {
            return false;
        }
        let bytes: Vec<u8> = assembly.parts.values().flatten().copied().collect();
        self.assemblies.remove(&chunk.document);
        *self.have.of_mut(chunk.document) = chunk.version;
        match chunk.document {
            Document::State => {
                // A document that can't be read comes from another version of the program; the old one stays.
                if let Some(state) = State::decode(&bytes) {
                    self.macs.extend(state.interfaces.iter().map(|(_, mac)| *mac));
                    self.state = state;
                }
            }
            Document::Table => self.table = bytes.into(),
        }
        true
    }
}
