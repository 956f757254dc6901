//! The protocol core on real sockets: one thread that does nothing else.
//!
//! The thread has its own runtime, so that no plan, however large, and no API server, however slow, delays a
//! heartbeat. What goes in are [`Command`]s; what comes out is a [`View`] whenever something changed.

mod guides;
mod ports;
mod thread;

use std::collections::{BTreeMap, BTreeSet};
use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;
use std::time::Duration;

use landfall_lb_model::announcer::{Counters, FrameCounters, Liveness, PeerFacts, Report, Unheard};
use landfall_lb_model::duty::Duty;
use landfall_lb_model::silence::Silence;
use landfall_lb_model::wire::MacAddr;
use tokio::signal::unix::Signal;
use tokio::sync::{mpsc, watch};

pub use thread::start;

use crate::Name;
use crate::edge::links::Selection;

/// How the thread is to work.
#[derive(Debug)]
pub struct Settings {
    /// This node.
    pub node: Name,
    /// Which interfaces are announced on.
    pub selection: Selection,
    /// Where heartbeats are received.
    pub heartbeat: SocketAddr,
    /// How peers are known to be alive.
    pub liveness: Liveness,
    /// The longest time that handing over may take.
    pub drain_timeout: Duration,
}

/// What the thread is told.
#[derive(Debug)]
pub enum Command {
    /// The nodes and what is known of them; this node's own entry tells its addresses.
    Peers(BTreeMap<Name, PeerFacts>),
    /// What is to be announced.
    Duties(BTreeMap<IpAddr, Duty>),
    /// What was announced before, as the API server says. Told after the duties.
    Announced(BTreeSet<IpAddr>),
    /// What may be given next.
    LookAhead(BTreeSet<IpAddr>),
    /// Which Service has which address, where no API server says so.
    Table(Vec<u8>),
    /// Hand over everything, and end.
    Drain,
}

/// What there is to see of the thread.
#[derive(Clone, PartialEq, Debug, Default)]
pub struct View {
    /// Whether this node takes part.
    pub ready: bool,
    /// Whether this node allocates, where there is no API server.
    pub leads: bool,
    /// The table of the node that allocates, with its name.
    pub leaders_table: Option<(Name, Arc<[u8]>)>,
    /// The tables of all peers.
    pub tables: Vec<Arc<[u8]>>,
    /// Who announces each address, and on which interfaces.
    pub announcers: BTreeMap<IpAddr, (Name, Vec<Name>)>,
    /// Addresses that foreign hosts have, with MAC address and the node that found it.
    pub conflicts: BTreeMap<IpAddr, (MacAddr, Name)>,
    /// Announced addresses that foreign hosts answer for too, with MAC address and announcer.
    pub contested: BTreeMap<IpAddr, (MacAddr, Name)>,
    /// The conflicts that this node found.
    pub own_conflicts: BTreeMap<IpAddr, MacAddr>,
    /// The interfaces that are announced on.
    pub interfaces: Vec<Name>,
    /// Their MAC addresses.
    pub macs: BTreeMap<Name, MacAddr>,
    /// Pairs of them that are on one network segment, each with addresses of one family.
    pub doubled_interfaces: Vec<(Name, Name)>,
    /// Peers that are alive.
    pub peers: Vec<Name>,
    /// Peers that ought to be heard and aren't.
    pub unheard: BTreeMap<Name, Unheard>,
    /// Addresses that nobody announces, each with the reason as far as this node knows one.
    pub silent: BTreeMap<IpAddr, Option<Silence>>,
    /// Devices that answer for several nodes' own addresses.
    pub proxies: Vec<MacAddr>,
    /// Where heartbeats are to be received, while another program has the port.
    pub awaited_port: Option<SocketAddr>,
}

/// Figures that change all the time; read when somebody asks.
#[derive(Clone, Debug, Default)]
pub struct Figures {
    /// What the core counts.
    pub counters: Counters,
    /// Frames by address.
    pub frames: Vec<(IpAddr, FrameCounters)>,
}

/// Where the thread shows what there is to see, which may be looked at before it runs.
#[derive(Debug)]
pub struct Board {
    view: watch::Sender<Arc<View>>,
    /// Its figures.
    pub figures: Arc<std::sync::Mutex<Figures>>,
}

impl Default for Board {
    fn default() -> Self {
        Self { view: watch::channel(Arc::default()).0, figures: Arc::default() }
    }
}

impl Board {
    /// What there is to see, now and whenever it changes.
    pub fn view(&self) -> watch::Receiver<Arc<View>> {
        self.view.subscribe()
    }
}

/// The thread from outside.
#[derive(Debug)]
pub struct Wire {
    /// What to tell it.
    pub commands: mpsc::UnboundedSender<Command>,
    /// What there is to see.
    pub view: watch::Receiver<Arc<View>>,
    /// What happens.
    pub reports: mpsc::UnboundedReceiver<Report>,
    /// Ends when the thread does.
    pub ended: watch::Receiver<bool>,
}

impl Wire {
    /// Tells the thread something; one that has ended needs to hear nothing.
    pub fn tell(&self, command: Command) {
        let _ = self.commands.send(command);
    }
}

/// Hands over and returns when the thread has ended; another signal ends the wait.
pub async fn drain(wire: &mut Wire, node: &str, [mut terminate, mut interrupt]: [Signal; 2]) {
    tracing::info!("handing over");
    wire.tell(Command::Drain);
    let mut ended = wire.ended.clone();
    loop {
        tokio::select! {
            // A dropped sender is an end as well.
            _ = ended.wait_for(|ended| *ended) => break,
            Some(report) = wire.reports.recv() => crate::report::log(&report, node),
            _ = terminate.recv() => break,
            _ = interrupt.recv() => break,
        }
    }
    while let Ok(report) = wire.reports.try_recv() {
        crate::report::log(&report, node);
    }
}
