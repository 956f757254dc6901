//! The loop around the protocol core.

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::io::ErrorKind;
use std::net::{IpAddr, SocketAddr};
use std::sync::{Arc, PoisonError};
use std::time::Duration;

use anyhow::Context;
use landfall_lb_model::announcer::{Announcer, Effect, Moment, Report, Tuning};
use landfall_lb_model::reason;
use landfall_shared::memory;
use tokio::sync::{mpsc, watch};

use crate::Name;
use crate::edge::clock;
use crate::edge::heartbeat::{Datagrams, HeartbeatSocket};
use crate::edge::links::LinkWatch;
use crate::wire::guides::Guides;
use crate::wire::ports::Ports;
use crate::wire::{Board, Command, Figures, Settings, View, Wire};

/// Figures are copied this often, which is as often as anybody looks.
const FIGURES: Duration = Duration::from_secs(1);

/// How often a port that another program has is tried again.
const PORT_AGAIN: Duration = Duration::from_millis(100);

/// When memory is given back, after the start: once everything has been read for the first time, and once more when
/// what happens seldom has happened.
const RELEASE: [Duration; 2] = [Duration::from_secs(3), Duration::from_mins(1)];

fn boottime() -> Moment {
    clock::boottime().expect("the kernel has had this clock since 2.6.39")
}

/// What the loop tells the world outside.
struct Outlets {
    board: Board,
    reports: mpsc::UnboundedSender<Report>,
}

/// Opens the sockets and starts the thread.
pub fn start(settings: Settings, board: Board) -> anyhow::Result<Wire> {
    let (commands, told) = mpsc::unbounded_channel();
    let view = board.view();
    let (report_sender, reports) = mpsc::unbounded_channel();
    let (end_sender, ended) = watch::channel(false);
    let (opened, open_result) = std::sync::mpsc::channel();
    let outlets = Outlets { board, reports: report_sender };
    let run = move || {
        let runtime = match crate::runtime() {
            Ok(runtime) => runtime,
            Err(error) => return drop(opened.send(Err(error.into()))),
        };
        runtime.block_on(async move {
            match bind(&settings, told, &outlets, &opened).await {
                Ok(Some((heartbeat, told))) => match Loop::open(settings, heartbeat, told, outlets).await {
                    Ok(work) => {
                        let _ = opened.send(Ok(()));
                        work.run().await;
                    }
                    Err(error) => drop(opened.send(Err(error))),
                },
                // Asked to end while another program had the port.
                Ok(None) => {}
                Err(error) => drop(opened.send(Err(error))),
            }
        });
        end_sender.send_replace(true);
    };
    std::thread::Builder::new().name("announcer".to_owned()).spawn(run).context("cannot start a thread")?;
    open_result.recv().context("the announcer's thread ended before it began")??;
    Ok(Wire { commands, view, reports, ended })
}

/// Binds the port of the heartbeats. While another program has it (`MetalLB`'s speaker has the same one) this waits,
/// and goes on as soon as it is free; `None`: asked to end before.
async fn bind(
    settings: &Settings,
    mut told: mpsc::UnboundedReceiver<Command>,
    outlets: &Outlets,
    opened: &std::sync::mpsc::Sender<anyhow::Result<()>>,
) -> anyhow::Result<Option<(HeartbeatSocket, Told)>> {
    let (address, mut early, mut waits) = (settings.heartbeat, VecDeque::new(), false);
    loop {
        match HeartbeatSocket::bind(address) {
            Ok(heartbeat) => {
                if waits {
                    tracing::info!(%address, "the port of the heartbeats is free");
                    outlets.board.view.send_replace(Arc::default());
                }
                return Ok(Some((heartbeat, Told { early, later: told })));
            }
            Err(error) if error.kind() == ErrorKind::AddrInUse => {
                if !std::mem::replace(&mut waits, true) {
                    tracing::warn!(
                        %address, reason = %reason::PORT_IN_USE,
                        "another program has the UDP port of the heartbeats; nothing is announced until it is free"
                    );
                    outlets.board.view.send_replace(Arc::new(View { awaited_port: Some(address), ..View::default() }));
                    let _ = opened.send(Ok(()));
                }
            }
            Err(error) => return Err(error).with_context(|| format!("cannot receive heartbeats at {address}")),
        }
        tokio::select! {
            () = tokio::time::sleep(PORT_AGAIN) => {}
            command = told.recv() => match command {
                Some(Command::Drain) | None => return Ok(None),
                Some(command) => early.push_back(command),
            },
        }
    }
}

/// The commands: those that came while a port was awaited, then the others.
struct Told {
    early: VecDeque<Command>,
    later: mpsc::UnboundedReceiver<Command>,
}

impl Told {
    /// Safe to cancel.
    async fn recv(&mut self) -> Option<Command> {
        match self.early.pop_front() {
            Some(command) => Some(command),
            None => self.later.recv().await,
        }
    }
}

struct Loop {
    core: Announcer,
    settings: Settings,
    heartbeat: HeartbeatSocket,
    datagrams: Datagrams,
    links: LinkWatch,
    ports: Ports,
    guides: Guides,
    /// Where heartbeats are sent, also to nodes that have left: their processes may live on for a while.
    peers: BTreeMap<Name, Vec<IpAddr>>,
    /// The nodes' own addresses.
    nodes: BTreeSet<IpAddr>,
    duties: BTreeSet<IpAddr>,
    look_ahead: BTreeSet<IpAddr>,
    conflicts: BTreeSet<IpAddr>,
    told: Told,
    outlets: Outlets,
    /// The core's revision when it was last shown, and when its figures were.
    shown: (u64, Moment),
    /// When memory is next given back.
    release: std::slice::Iter<'static, Duration>,
    began: Moment,
    draining: Option<Moment>,
}

impl Loop {
    async fn open(
        settings: Settings,
        heartbeat: HeartbeatSocket,
        told: Told,
        outlets: Outlets,
    ) -> anyhow::Result<Self> {
        let links = LinkWatch::open().await.context("cannot watch the interfaces")?;
        let core = Announcer::new(&settings.node, settings.liveness.clone(), rand::random(), Tuning::default());
        let mut work = Self {
            core,
            settings,
            heartbeat,
            datagrams: Datagrams::new(),
            links,
            ports: Ports::default(),
            guides: Guides::default(),
            peers: BTreeMap::new(),
            nodes: BTreeSet::new(),
            duties: BTreeSet::new(),
            look_ahead: BTreeSet::new(),
            conflicts: BTreeSet::new(),
            told,
            outlets,
            shown: (u64::MAX, Moment::ZERO),
            release: RELEASE.iter(),
            began: boottime(),
            draining: None,
        };
        work.links_changed();
        Ok(work)
    }

    async fn run(mut self) {
        loop {
            let wait = self.core.deadline().saturating_sub(boottime()).min(self.guides.patience());
            tokio::select! {
                biased;
                received = self.heartbeat.recv(&mut self.datagrams) => if received.is_ok() {
                    self.on_datagrams();
                },
                frames = self.ports.wait() => self.on_frames(frames),
                () = self.guides.wait(boottime) => {}
                changed = self.links.changed() => match changed {
                    Ok(_) => self.links_changed(),
                    Err(error) => tracing::error!(%error, "cannot watch the interfaces"),
                },
                command = self.told.recv() => match command {
                    Some(command) => self.obey(command),
                    // Nobody is left to tell anything, so nobody wants announcements any more.
                    None => self.begin_drain(),
                },
                () = tokio::time::sleep(wait) => {}
            }
            self.receive();
            while let Some(frames) = self.guides.due(boottime()) {
                for (link, frame) in frames {
                    self.ports.send(link, &frame);
                }
            }
            if boottime() >= self.core.deadline() {
                let effects = self.core.on_timer(boottime());
                self.carry_out(effects);
            }
            self.show();
            if self.is_drained() {
                let effects = self.core.goodbye(boottime());
                self.carry_out(effects);
                self.show();
                return;
            }
        }
    }

    /// Hands over everything that has been received: whatever waits is older than the timer.
    fn receive(&mut self) {
        while self.heartbeat.try_recv(&mut self.datagrams).is_ok() {
            self.on_datagrams();
        }
        let frames = self.ports.take();
        self.on_frames(frames);
    }

    fn on_datagrams(&mut self) {
        let mut effects = Vec::new();
        for datagram in self.datagrams.iter() {
            effects.extend(self.core.on_heartbeat(boottime(), datagram.from.ip(), datagram.bytes));
        }
        self.carry_out(effects);
    }

    fn on_frames(&mut self, frames: Vec<(u32, Vec<u8>)>) {
        for (link, frame) in frames {
            let effects = self.core.on_frame(boottime(), link, &frame);
            self.carry_out(effects);
        }
    }

    fn links_changed(&mut self) {
        self.ports.set_links(self.links.links(), &self.settings.selection);
        let effects = self.core.set_links(boottime(), self.ports.links());
        self.carry_out(effects);
        self.shown.0 = u64::MAX;
    }

    fn obey(&mut self, command: Command) {
        let now = boottime();
        let effects = match command {
            Command::Peers(peers) => {
                self.nodes = peers.values().flat_map(|facts| &facts.addresses).copied().collect();
                self.narrow();
                self.peers.extend(peers.iter().map(|(name, facts)| (name.clone(), facts.addresses.clone())));
                self.core.set_peers(now, &peers)
            }
            Command::Duties(duties) => {
                self.duties = duties.keys().copied().collect();
                self.narrow();
                self.core.set_duties(now, &duties)
            }
            Command::LookAhead(ips) => {
                self.look_ahead.clone_from(&ips);
                self.narrow();
                self.core.set_look_ahead(now, &ips)
            }
            Command::Announced(ips) => {
                self.core.set_announced(&ips);
                self.core.on_timer(now)
            }
            Command::Table(table) => self.core.set_table(now, table),
            Command::Drain => return self.begin_drain(),
        };
        self.carry_out(effects);
        self.shown.0 = u64::MAX;
    }

    /// Lets only frames through that concern addresses of interest.
    fn narrow(&mut self) {
        let all = self.duties.iter().chain(&self.look_ahead).chain(&self.conflicts);
        let all: BTreeSet<IpAddr> = all.copied().collect();
        self.ports.set_addresses(&all, &self.nodes);
    }

    fn begin_drain(&mut self) {
        if self.draining.is_none() {
            let now = boottime();
            self.draining = Some(now + self.settings.drain_timeout);
            let effects = self.core.drain(now);
            self.carry_out(effects);
        }
    }

    fn is_drained(&self) -> bool {
        let Some(deadline) = self.draining else { return false };
        let now = boottime();
        let alone = self.core.live_peers(now).is_empty();
        if !self.guides.are_done() {
            return false;
        }
        alone || self.core.owned().next().is_none() || now >= deadline
    }

    fn carry_out(&mut self, effects: Vec<Effect>) {
        for effect in effects {
            match effect {
                Effect::Frame { link, bytes } => self.ports.send(link, &bytes),
                Effect::Packet { to, bytes } => {
                    let Some(ip) = self.peers.get(&to).and_then(|ips| ips.first()) else { continue };
                    // A heartbeat that can't be sent is a heartbeat lost; the rules about silence decide.
                    let _ = self.heartbeat.send(&bytes, SocketAddr::new(*ip, self.settings.heartbeat.port()));
                }
                Effect::Guide { ip, frames } => self.guides.add(boottime(), ip, frames, &self.ports.macs()),
                Effect::Report(report) => drop(self.outlets.reports.send(report)),
            }
        }
    }

    /// Gives back the memory that only starting needed, once that is over.
    fn release(&mut self, now: Moment) {
        if self.release.as_slice().first().is_some_and(|due| now >= self.began + *due) {
            self.release.next();
            if let Err(error) = memory::release_code() {
                tracing::debug!(%error, "cannot give back memory");
            }
        }
    }

    /// Shows what changed since it was last shown.
    fn show(&mut self) {
        let now = boottime();
        if now >= self.shown.1 + FIGURES {
            self.shown.1 = now;
            let figures = Figures { counters: self.core.counters(), frames: self.core.frame_counters().collect() };
            *self.outlets.board.figures.lock().unwrap_or_else(PoisonError::into_inner) = figures;
            self.release(now);
        }
        if self.shown.0 == self.core.revision() {
            return;
        }
        self.shown.0 = self.core.revision();
        let conflicts: BTreeSet<IpAddr> = self.core.own_conflicts().keys().copied().collect();
        if conflicts != self.conflicts {
            self.conflicts = conflicts;
            self.narrow();
        }
        let announcers = self.duties.iter().filter_map(|ip| Some((*ip, self.core.announcer_of(*ip, now)?)));
        let view = View {
            ready: self.core.is_ready(),
            leads: self.core.leads(now),
            leaders_table: self.core.leaders_table(now),
            tables: self.core.peers_tables(now),
            announcers: announcers.collect(),
            conflicts: self.core.conflicts(now),
            contested: self.core.contested(now),
            own_conflicts: self.core.own_conflicts().clone(),
            interfaces: self.ports.links().into_iter().map(|l| l.name).collect(),
            macs: self.ports.links().into_iter().map(|l| (l.name, l.mac)).collect(),
            doubled_interfaces: self.core.doubled_interfaces(),
            peers: self.core.live_peers(now),
            unheard: self.core.unheard().clone(),
            silent: self.core.silent().clone(),
            proxies: self.core.proxies(now),
            awaited_port: None,
        };
        self.outlets.board.view.send_if_modified(|shown| {
            let changed = **shown != view;
            if changed {
                *shown = Arc::new(view);
            }
            changed
        });
    }
}
