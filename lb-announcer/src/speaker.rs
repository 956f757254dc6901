//! `speaker`: announces what is in the Services' status, and tells the API server what it sees on the network.

mod tell;

use std::collections::{BTreeMap, BTreeSet};
use std::net::IpAddr;
use std::sync::Arc;
use std::time::Duration;

use anyhow::{Context, bail};
use kube::Client;
use landfall_lb_model::announcer::{Liveness, PeerFacts, Report, said};
use landfall_lb_model::duty::Duty;
use landfall_lb_model::node::NodeFacts;
use landfall_lb_model::plan::{Grant, TakenBy};
use landfall_lb_model::reason;
use landfall_lb_model::silence::{self, Said};
use landfall_lb_model::speakers::{SpeakerRule, write_interfaces, write_unheard};
use landfall_lb_model::wire::MacAddr;
use landfall_lb_model::wire::heartbeat::Key;
use landfall_lb_model::world::{Changes, Input, World};
use landfall_model::{ObjectKey, ObjectRef, Problem};
use landfall_shared::events::EventPublisher;
use landfall_shared::readiness::{Block, Readiness};
use landfall_shared::source::{Batch, Source, SourceView, kubernetes};
use tokio::signal::unix::{SignalKind, signal};
use tokio::sync::watch;
use tokio::time::Instant;

use crate::Name;
use crate::cli::SpeakerArgs;
use crate::cluster::{self, References, Verdict};
use crate::inputs::{Role, cluster_plan};
use crate::metrics::SpeakerMetrics;
use crate::page::{self, Page, Shown, lock};
use crate::report::{self, ConnectionLog, ProblemLog};
use crate::subnets::OwnSubnets;
use crate::wire::{self, Board, Command, Settings, View, Wire};
use tell::{Announced, Seen, State, Teller};

/// Pause before the heartbeats' key is asked for again.
const RETRY: Duration = Duration::from_secs(2);
/// The longest time for which changes are gathered: in a large cluster, where a decision takes long.
const GATHER: Duration = Duration::from_millis(500);

/// Runs until SIGTERM or SIGINT, and hands over before it ends.
pub fn run(args: &SpeakerArgs) -> anyhow::Result<()> {
    args.admin.log.init_without(crate::QUIET)?;
    crate::install_crypto();
    let node = args.wire.node_name.as_str();
    tracing::info!(node, namespace = args.cluster.namespace, heartbeat = %args.wire.heartbeat, "starting");
    crate::runtime()?.block_on(async {
        let client = kubernetes::client().await?;
        let source =
            kubernetes::start_with(&client, &cluster_plan(&args.cluster, Role::Announces), cluster::patience());
        let (readiness, shown, board) = (Readiness::new(), Shown::default(), Board::default());
        let sources = page::Sources {
            node,
            role: Role::Announces,
            view: &board.view(),
            figures: &board.figures,
            source: &source.view,
            shown: &shown,
            page: &args.admin.page,
            port: Some(args.wire.heartbeat.port()),
        };
        let metrics = page::serve(args.admin.admin, &sources, readiness.clone()).await?;
        let awaited = readiness.block("the heartbeats' key");
        let key = match args.wire.key()? {
            Some(key) => key,
            None => await_key(client.clone(), args).await?,
        };
        let settings = Settings {
            node: node.into(),
            selection: args.wire.selection()?,
            heartbeat: args.wire.heartbeat,
            liveness: Liveness::Heartbeats(key),
            drain_timeout: args.wire.drain_timeout,
        };
        let wire = wire::start(settings, board)?;
        let subnets = OwnSubnets::open().await.context("cannot watch the interfaces")?;
        let speaker = Speaker::new(client, args, source.view.clone(), shown, &readiness);
        drop(awaited);
        speaker.work(source, wire, &metrics, subnets).await
    })
}

/// The controller makes the key; until it has, nothing is announced that a peer couldn't know of.
async fn await_key(client: Client, args: &SpeakerArgs) -> anyhow::Result<Key> {
    let (namespace, name) = (&args.cluster.namespace, &args.cluster.heartbeat_secret);
    let mut terminate = signal(SignalKind::terminate())?;
    loop {
        match cluster::read_key(client.clone(), namespace, name).await {
            Ok(Some(key)) => return Ok(key),
            Ok(None) => tracing::info!(namespace, name, "waiting for the secret with the heartbeats' key"),
            Err(error) => tracing::warn!(error = format!("{error:#}"), "cannot read the heartbeats' key"),
        }
        tokio::select! {
            () = tokio::time::sleep(RETRY) => {}
            _ = terminate.recv() => bail!("asked to end before there was a heartbeat key"),
        }
    }
}

struct Speaker {
    node: Name,
    look_ahead: usize,
    world: World,
    references: References,
    events: EventPublisher,
    teller: Teller,
    source: SourceView,
    log: ProblemLog,
    connection: ConnectionLog,
    shown: Shown,
    block: Option<Block>,
    updates: u64,
    /// What the Services have, and what is wrong with announcing it.
    grants: BTreeMap<ObjectKey, Grant>,
    duty_problems: Vec<Problem>,
    /// Nodes that have had a speaker since this one runs.
    met: BTreeSet<Name>,
    sent_duties: Option<BTreeMap<IpAddr, Duty>>,
    /// Addresses that were announced before, as the Services' conditions say.
    sent_announced: BTreeSet<IpAddr>,
    sent_look_ahead: BTreeSet<IpAddr>,
    /// The conflicts that were known when it was last decided what to look at.
    looked_with: BTreeSet<IpAddr>,
    sent_peers: Option<BTreeMap<Name, PeerFacts>>,
    /// The MAC addresses of all interfaces of this node, and the interfaces as they are published.
    own_macs: BTreeSet<MacAddr>,
    /// Which interface has which address.
    own_addresses: BTreeMap<IpAddr, String>,
    interfaces: String,
    /// The port of the heartbeats.
    port: u16,
}

impl Speaker {
    fn new(client: Client, args: &SpeakerArgs, source: SourceView, shown: Shown, readiness: &Readiness) -> Self {
        let node: Name = args.wire.node_name.as_str().into();
        // Every speaker speaks for itself, so each writes its own Events.
        let (_alone, always) = watch::channel(true);
        Self {
            look_ahead: args.wire.look_ahead,
            world: World::new(args.rules.rules(SpeakerRule::SeenFrom(node.clone()))),
            references: References::default(),
            events: EventPublisher::new(client.clone(), "landfall-lb-speaker", &args.cluster.identity(), always),
            teller: Teller::start(client, &node, &args.cluster),
            source,
            log: ProblemLog::default(),
            connection: ConnectionLog::default(),
            shown,
            block: Some(readiness.block("announcer")),
            updates: 0,
            grants: BTreeMap::new(),
            duty_problems: Vec::new(),
            met: BTreeSet::new(),
            sent_duties: None,
            sent_announced: BTreeSet::new(),
            sent_look_ahead: BTreeSet::new(),
            looked_with: BTreeSet::new(),
            sent_peers: None,
            own_macs: BTreeSet::new(),
            own_addresses: BTreeMap::new(),
            interfaces: String::new(),
            port: args.wire.heartbeat.port(),
            node,
        }
    }

    async fn work(
        mut self,
        mut source: Source<Input>,
        mut wire: Wire,
        metrics: &SpeakerMetrics,
        mut subnets: OwnSubnets,
    ) -> anyhow::Result<()> {
        let mut terminate = signal(SignalKind::terminate())?;
        let mut interrupt = signal(SignalKind::interrupt())?;
        let mut source_changed = self.source.changed();
        self.read_interfaces(&subnets);
        let (mut complete, mut stale) = (false, false);
        // Whatever comes until then is decided at once.
        let mut next = Instant::now();
        let mut look = None;
        loop {
            let due = (complete && stale).then_some(next);
            tokio::select! {
                batch = source.batches.recv() => {
                    let Some(batch) = batch else { bail!("the API server isn't read any more") };
                    // The first complete set has to be decided about, even one in which there is nothing.
                    stale |= batch.complete && !complete;
                    complete |= batch.complete;
                    stale |= self.take(batch);
                }
                changed = wire.view.changed() => {
                    changed.context("the announcer's thread has ended")?;
                    stale = true;
                }
                () = subnets.changed() => {
                    self.read_interfaces(&subnets);
                    stale = true;
                }
                _ = source_changed.changed() => look = Some(Instant::now() + ConnectionLog::SETTLES),
                () = cluster::until(look) => {
                    self.connection.update(&self.source);
                    look = None;
                }
                Some(report) = wire.reports.recv() => {
                    report::log(&report, &self.node);
                    metrics.happened(&report);
                    self.write_event(&report);
                    // How it went is told, too.
                    stale |= matches!(report, Report::Took { .. });
                }
                () = cluster::until(due) => {
                    let began = Instant::now();
                    self.decide(&wire, metrics);
                    stale = false;
                    // Half of the time at most goes into decisions, however many changes there are.
                    next = Instant::now() + began.elapsed().min(GATHER);
                }
                _ = terminate.recv() => break,
                _ = interrupt.recv() => break,
            }
        }
        wire::drain(&mut wire, &self.node, [terminate, interrupt]).await;
        self.teller.forget_announcements().await;
        Ok(())
    }

    fn read_interfaces(&mut self, subnets: &OwnSubnets) {
        self.world.set_subnets(&self.node, subnets.get());
        self.own_macs = subnets.macs().map(|(_, mac)| mac).collect();
        self.own_addresses = subnets.addresses();
        self.interfaces = write_interfaces(subnets.macs());
    }

    /// Takes in changes; says whether anything is to be decided anew.
    fn take(&mut self, batch: Batch<Input>) -> bool {
        for change in batch.changes {
            self.updates += 1;
            self.references.note(&change);
            self.world.apply(change);
        }
        self.world.changes().any()
    }

    fn decide(&mut self, wire: &Wire, metrics: &SpeakerMetrics) {
        let view = wire.view.borrow().clone();
        self.world.settle();
        let changes = self.world.take_changes();
        self.tell_peers(wire);
        if changes.any() || self.sent_duties.is_none() {
            self.grants = self.world.granted_by_status();
            let (duties, problems) = self.world.duties(self.grants.iter());
            self.duty_problems = problems;
            if self.sent_duties.as_ref() != Some(&duties) {
                wire.tell(Command::Duties(duties.clone()));
                self.sent_duties = Some(duties);
                self.sent_announced.clear();
            }
            let services = self.world.services().values();
            let held = services.flat_map(|s| s.status.iter().filter(|ip| !s.unannounced.contains(ip)));
            let announced: BTreeSet<IpAddr> = held.copied().collect();
            if announced != self.sent_announced {
                wire.tell(Command::Announced(announced.clone()));
                self.sent_announced = announced;
            }
        }
        self.look_ahead(wire, &view, changes);
        let mut problems = self.duty_problems.clone();
        problems.extend(report::conflict_problems(&self.world, &view.conflicts));
        problems.extend(report::contest_problems(&self.world, &view.contested));
        problems.extend(report::network_problems(&self.node, self.port, &view, self.world.nodes()));
        let silent = BTreeMap::from([(self.node.clone(), self.silent(&view))]);
        problems.extend(report::silence_problems(self.grants.iter(), &silent));
        problems.sort();
        self.log.update(&problems);
        let verdict = cluster::verdict(&self.world.problems());
        let stale = verdict.0 != "Valid";
        self.teller.tell(self.seen(&view, verdict, metrics));
        let services = self.world.services().keys().map(|key| (key.clone(), self.grants.get(key).cloned())).collect();
        let (updates, update_errors) = (self.updates, self.connection.losses());
        let (standbys, macs) = (page::standbys(self.sent_duties.as_ref()), page::macs(&self.world));
        *lock(&self.shown) =
            Page { services, problems, updates, update_errors, standbys, macs, loaded: true, stale, ..Page::default() };
        if view.ready {
            self.block = None;
        }
    }

    /// Tells the protocol who takes part.
    ///
    /// A node whose speaker's pod is gone stays a peer while there is the node: its process may live on for a while,
    /// and one that comes back with another pod is to be known still. It costs a few packets, and nobody takes a
    /// silent peer for alive. The same goes for one whose Node is gone: the protocol remembers it.
    fn tell_peers(&mut self, wire: &Wire) {
        let speakers = self.world.speakers().nodes();
        self.met.extend(speakers.into_iter().flatten().cloned());
        let everywhere = speakers.is_none();
        let takes_part = |name: &Name| *name == self.node || everywhere || self.met.contains(name);
        let speakers = self.world.speakers();
        let facts = |(name, node): (&Name, &NodeFacts)| {
            let macs = if *name == self.node { self.own_macs.clone() } else { speakers.macs(name) };
            let facts = PeerFacts { addresses: node.addresses.clone(), macs, presence: speakers.presence(name) };
            (name.clone(), facts)
        };
        let nodes = self.world.nodes().iter().filter(|(name, _)| takes_part(name));
        let peers: BTreeMap<Name, PeerFacts> = nodes.map(facts).collect();
        if self.sent_peers.as_ref() != Some(&peers) {
            wire.tell(Command::Peers(peers.clone()));
            self.sent_peers = Some(peers);
        }
    }

    /// The controller gives the lowest free addresses next, so those are looked at.
    fn look_ahead(&mut self, wire: &Wire, view: &View, changes: Changes) {
        let conflicts: BTreeSet<IpAddr> = view.conflicts.keys().copied().collect();
        if self.look_ahead == 0 || !(changes.allocation || conflicts != self.looked_with) {
            return;
        }
        self.looked_with = conflicts;
        let services = self.world.services().iter().filter(|(_, s)| !s.status.is_empty());
        let held = services.map(|(key, s)| (key.clone(), s.status.clone())).collect();
        let mut taken = report::taken(&self.world, view);
        taken.extend(self.world.reported_taken().into_iter().map(|(ip, (by, _))| (ip, by)));
        let planned = self.world.plan(&held, &taken, self.look_ahead);
        let upcoming: BTreeSet<IpAddr> = planned.upcoming.values().flatten().copied().collect();
        if upcoming != self.sent_look_ahead {
            wire.tell(Command::LookAhead(upcoming.clone()));
            self.sent_look_ahead = upcoming;
        }
    }

    /// What the API server is to know.
    fn seen(&self, view: &View, verdict: Verdict, metrics: &SpeakerMetrics) -> Seen {
        let mut announced: BTreeMap<ObjectKey, Announced> = BTreeMap::new();
        for (ip, duty) in self.sent_duties.iter().flatten() {
            let Some((_, interfaces)) = view.announcers.get(ip).filter(|(node, _)| *node == self.node) else {
                continue;
            };
            // What isn't noted yet is told as soon as it is.
            let last = metrics.last_move(*ip).filter(|last| last.node.as_ref() == Some(&self.node));
            let moved = last.map(|last| last.moved).unwrap_or_default();
            for service in &duty.services {
                let announced = announced.entry(service.clone()).or_default();
                announced.interfaces.extend(interfaces.iter().cloned());
                announced.moves.insert(*ip, moved.clone());
            }
        }
        let mut taken: BTreeMap<ObjectKey, BTreeMap<IpAddr, TakenBy>> = BTreeMap::new();
        for (ip, mac) in &view.own_conflicts {
            if let Some(pool) = self.world.pool_of(*ip) {
                taken.entry(pool.key.clone()).or_default().insert(*ip, TakenBy::ForeignHost(*mac));
            }
        }
        for pool in self.world.pools() {
            taken.entry(pool.key.clone()).or_default();
        }
        let subnets: Vec<String> = self.world.speakers().own_subnets(&self.node).map(ToString::to_string).collect();
        let state = State {
            verdict,
            subnets: subnets.join(","),
            interfaces: self.interfaces.clone(),
            unheard: write_unheard(&view.unheard),
            silent: silence::write(&self.silent(view)),
            missing: !self.world.speakers().has_state(&self.node),
        };
        Seen { announced, taken: Arc::new(taken), state }
    }

    /// What this node says of addresses that nobody announces.
    fn silent(&self, view: &View) -> Said {
        said(&view.silent, |ip| self.own_addresses.get(&ip).map(String::as_str))
    }

    fn write_event(&self, report: &Report) {
        let services = |ip: &IpAddr| {
            let duty = self.sent_duties.as_ref().and_then(|d| d.get(ip));
            duty.map(|d| d.services.clone()).unwrap_or_default()
        };
        let (ip, reason, note) = match report {
            Report::Took { ip, .. } => {
                let note = format!("announcing from node \"{}\" with protocol \"layer2\"", self.node);
                (ip, reason::NODE_ASSIGNED, note)
            }
            Report::Conflict { ip, mac, defended } => {
                let done = if *defended { "it is defended" } else { "it isn't announced" };
                (ip, reason::ADDRESS_CONFLICT, format!("a host with MAC address {mac} answers for {ip}; {done}"))
            }
            _ => return,
        };
        for service in services(ip) {
            if let Some(reference) = self.references.get(&ObjectRef::new("Service", service)) {
                self.events.happened(reference, reason, &note);
            }
        }
    }
}
