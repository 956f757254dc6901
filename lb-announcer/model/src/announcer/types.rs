//! What goes into the core and what comes out of it.

use std::net::IpAddr;
use std::sync::Arc;
use std::time::Duration;

use pnet_base::MacAddr;

use crate::subnet::Subnet;
use crate::wire::heartbeat::Key;

/// A point in time: the time since the machine started, suspended time included.
pub type Moment = Duration;

/// The periods of the protocol.
#[derive(Clone, Copy, Debug)]
pub struct Tuning {
    /// Between heartbeats.
    pub heartbeat: Duration,
    /// Silence after which the owner's addresses are probed: late enough for two heartbeats to be lost, early
    /// enough for all probes to be over when the silence is long enough.
    pub suspect_after: Duration,
    /// Silence after which a node counts as dead: four heartbeats.
    pub dead_after: Duration,
    /// Age of the last own heartbeat at which an owner stops to answer. Well below `dead_after`, so that a
    /// process that was stopped is silent before anybody takes over.
    pub fence_after: Duration,
    /// Between probes.
    pub probe_interval: Duration,
    /// Probes before an address is taken.
    pub probes: u8,
    /// How long a node listens before it takes anything.
    pub listen: Duration,
    /// How long a node must have been up, and a candidate, before addresses are moved to it, or taken over by it where
    /// there is another.
    pub hold_down: Duration,
    /// How long a node must have been up, and have served an address that follows its pods, before one that has piled
    /// up elsewhere is moved to it, and the time between two such moves.
    pub spread_after: Duration,
    /// See [`Self::spread_after`].
    pub spread_pause: Duration,
    /// How long a client's question for an address that nobody may have counts.
    pub asked: Duration,
    /// How long a successor has to take what it is offered.
    pub offer: Duration,
    /// How long a successor lets the former owner lead the neighbours over before it announces itself.
    pub guide: Duration,
    /// Between two looks at an address that may be given next.
    pub look_again: Duration,
    /// Between two questions for an address whose owner isn't heard, at least.
    pub ask_silent: Duration,
    /// Probes before an address is taken while a node may be there that isn't heard, and the time between them: more
    /// and slower ones, since nothing but them tells.
    pub blind_probes: u8,
    /// See [`Self::blind_probes`].
    pub blind_interval: Duration,
    /// How long a host that claims an address may turn out to be a node's before it is called a foreign one.
    pub verify: Duration,
    /// Silence of a peer that runs after which it is said that it isn't heard.
    pub unheard_after: Duration,
    /// How long a node that has left is remembered.
    pub remember: Duration,
}

impl Default for Tuning {
    fn default() -> Self {
        let ms = Duration::from_millis;
        Self {
            heartbeat: ms(50),
            suspect_after: ms(125),
            dead_after: ms(200),
            fence_after: ms(150),
            probe_interval: ms(25),
            probes: 3,
            listen: ms(300),
            hold_down: ms(3_000),
            spread_after: ms(30_000),
            spread_pause: ms(5_000),
            asked: ms(2_000),
            offer: ms(500),
            guide: ms(500),
            look_again: ms(30_000),
            ask_silent: ms(400),
            blind_probes: 5,
            blind_interval: ms(50),
            verify: ms(300),
            unheard_after: ms(3_000),
            remember: Duration::from_hours(24),
        }
    }
}

/// An interface that can be announced on: up, with carrier, and allowed by the settings.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Link {
    /// The kernel's index.
    pub index: u32,
    /// The name.
    pub name: Arc<str>,
    /// The MAC address.
    pub mac: MacAddr,
    /// The networks that it has an address in, without link-local and single addresses.
    pub networks: Vec<Subnet>,
    /// The interface whose segment it is on by its nature, as a macvlan's.
    pub lower: Option<u32>,
}

/// Something to do.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Effect {
    /// Send this Ethernet frame.
    Frame {
        /// On this interface.
        link: u32,
        /// The bytes.
        bytes: Vec<u8>,
    },
    /// Send this heartbeat.
    Packet {
        /// To this node.
        to: Arc<str>,
        /// The bytes.
        bytes: Vec<u8>,
    },
    /// Send these Ethernet frames, each on its interface, when no client of the address is in the middle of an
    /// exchange, and at the latest before [`Tuning::guide`] is over: they lead the neighbours to the new owner.
    Guide {
        /// The address.
        ip: IpAddr,
        /// Interface and bytes.
        frames: Vec<(u32, Vec<u8>)>,
    },
    /// Tell the user.
    Report(Report),
}

/// Why an address was taken.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Cause {
    /// Nobody had it.
    Free,
    /// Its owner fell silent.
    Failover,
    /// Its owner handed it over, or said goodbye.
    Handover,
    /// This node's process had been stopped and nobody else took over meanwhile.
    Resumed,
}

/// Something that changed.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Report {
    /// This node announces the address from now on.
    Took {
        /// The address.
        ip: IpAddr,
        /// The new epoch.
        epoch: u64,
        /// Why.
        cause: Cause,
        /// How long the former owner had been silent.
        silence: Option<Duration>,
    },
    /// This node doesn't announce the address any more.
    Left {
        /// The address.
        ip: IpAddr,
        /// Who does, if that is known.
        to: Option<Arc<str>>,
    },
    /// A host that isn't ours answers for the address.
    Conflict {
        /// The address.
        ip: IpAddr,
        /// The host's MAC address.
        mac: MacAddr,
        /// Whether this node announces the address and defends it.
        defended: bool,
    },
    /// The foreign host doesn't answer for the address any more.
    ConflictOver {
        /// The address.
        ip: IpAddr,
    },
    /// A device answers for several nodes' own addresses, so that its answers say nothing.
    Proxy {
        /// Its MAC address.
        mac: MacAddr,
    },
    /// A peer is there.
    PeerUp(Arc<str>),
    /// A peer fell silent or left.
    PeerDown(Arc<str>),
    /// This process had been stopped.
    Woke {
        /// For how long.
        after: Duration,
    },
}

/// How peers are known to be alive.
#[derive(Clone, Debug)]
pub enum Liveness {
    /// By heartbeats made with this key.
    Heartbeats(Key),
    /// They are assumed to be: there is no key, so each node announces what it is the first candidate for.
    Assumed,
}

/// What the core counts.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct Counters {
    /// Heartbeats that weren't made with the key, or aren't for this node.
    pub rejected: u64,
    /// Heartbeats that came twice or had been recorded.
    pub replayed: u64,
    /// Heartbeats accepted.
    pub received: u64,
    /// Sequence numbers that never came.
    pub lost: u64,
    /// Addresses taken from silent owners.
    pub failovers: u64,
    /// Claims of foreign hosts.
    pub conflicts: u64,
}

/// Frames that concern one address.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct FrameCounters {
    /// Requests and solicitations for it while it was announced.
    pub requests: u64,
    /// Answers to those.
    pub responses: u64,
    /// Gratuitous frames.
    pub gratuitous: u64,
}
