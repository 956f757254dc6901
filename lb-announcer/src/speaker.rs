//! `speaker`: announces what is in the Services' status, and tells the API server what it sees on the network.

mod tell;

use std::collections::{BTreeMap, BTreeSet};
use std::net::IpAddr;
use std::sync::Arc;
use std::time::Duration;

use anyhow::{Context, bail};
use kube::Client;
use landfall_lb_model::announcer::{Liveness, Report};
use landfall_lb_model::duty::Duty;
use landfall_lb_model::plan::TakenBy;
use landfall_lb_model::reason;
use landfall_lb_model::wire::heartbeat::Key;
use landfall_lb_model::world::{Input, World};
use landfall_model::{ObjectKey, ObjectRef};
use landfall_shared::events::EventPublisher;
use landfall_shared::readiness::{Block, Readiness};
use landfall_shared::source::{Source, kubernetes};
use tokio::signal::unix::{SignalKind, signal};
use tokio::sync::watch;

use crate::Name;
use crate::cli::SpeakerArgs;
use crate::cluster::{self, References};
use crate::inputs::{Role, plan};
use crate::metrics::SpeakerMetrics;
use crate::page::{self, Page, Shown, lock};
use crate::report::{self, ProblemLog};
use crate::wire::{self, Command, Settings, View, Wire};
use tell::{Seen, Teller};

/// Pause before the heartbeats' key is asked for again.
const RETRY: Duration = Duration::from_secs(2);

/// Runs until SIGTERM or SIGINT, and hands over before it ends.
pub fn run(args: &SpeakerArgs) -> anyhow::Result<()> {
    args.admin.log.init()?;
    crate::install_crypto();
    let node = args.wire.node_name.as_str();
    tracing::info!(node, namespace = args.cluster.namespace, heartbeat = %args.wire.heartbeat, "starting");
    crate::runtime()?.block_on(async {
        let client = kubernetes::client().await?;
        let key = match args.wire.key()? {
            Some(key) => key,
            None => await_key(client.clone(), args).await?,
        };
        let source = kubernetes::start(&client, &plan(&args.cluster.namespaces(), Role::Announces));
        let wire = wire::start(Settings {
            node: node.into(),
            selection: args.wire.selection()?,
            heartbeat: args.wire.heartbeat,
            liveness: Liveness::Heartbeats(key),
            drain_timeout: args.wire.drain_timeout,
        })?;
        let readiness = Readiness::new();
        let shown = Shown::default();
        let sources =
            page::Sources { node, view: &wire.view, figures: &wire.figures, source: &source.view, shown: &shown };
        let metrics = page::serve(args.admin.admin, &sources, readiness.clone()).await?;
        // Every speaker speaks for itself, so each writes its own Events.
        let (_alone, always) = watch::channel(true);
        let identity = args.cluster.identity();
        let speaker = Speaker {
            node: node.into(),
            look_ahead: args.wire.look_ahead,
            world: World::new(args.rules.rules()),
            references: References::default(),
            events: EventPublisher::new(client.clone(), "landfall-lb-speaker", &identity, always),
            teller: Teller::start(client, node, &args.cluster.namespace),
            log: ProblemLog::default(),
            shown,
            block: Some(readiness.block("announcer")),
            sent_duties: None,
            sent_look_ahead: BTreeSet::new(),
            sent_peers: BTreeMap::new(),
        };
        speaker.work(source, wire, &metrics).await
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
    log: ProblemLog,
    shown: Shown,
    block: Option<Block>,
    sent_duties: Option<BTreeMap<IpAddr, Duty>>,
    sent_look_ahead: BTreeSet<IpAddr>,
    sent_peers: BTreeMap<Name, Vec<IpAddr>>,
}

impl Speaker {
    async fn work(mut self, mut source: Source<Input>, mut wire: Wire, metrics: &SpeakerMetrics) -> anyhow::Result<()> {
        let mut terminate = signal(SignalKind::terminate())?;
        let mut interrupt = signal(SignalKind::interrupt())?;
        let mut complete = false;
        loop {
            tokio::select! {
                batch = source.batches.recv() => {
                    let Some(batch) = batch else { bail!("the API server isn't read any more") };
                    for change in batch.changes {
                        self.references.note(&change);
                        self.world.apply(change);
                    }
                    complete |= batch.complete;
                }
                changed = wire.view.changed() => changed.context("the announcer's thread has ended")?,
                Some(report) = wire.reports.recv() => {
                    report::log(&report, &self.node);
                    metrics.happened(&report);
                    self.write_event(&report);
                    continue;
                }
                _ = terminate.recv() => break,
                _ = interrupt.recv() => break,
            }
            if complete {
                self.decide(&wire);
            }
        }
        wire::drain(&mut wire, &self.node, [terminate, interrupt]).await;
        self.teller.forget_announcements().await;
        Ok(())
    }

    fn decide(&mut self, wire: &Wire) {
        let view = wire.view.borrow().clone();
        self.world.settle();
        self.tell_peers(wire);
        let grants = self.world.granted_by_status();
        let (duties, mut problems) = self.world.duties(grants.iter());
        if self.sent_duties.as_ref() != Some(&duties) {
            wire.tell(Command::Duties(duties.clone()));
            self.sent_duties = Some(duties);
        }
        self.look_ahead(wire, &view);
        problems.extend(report::conflict_problems(&self.world, &view.conflicts));
        problems.extend(report::contest_problems(&self.world, &view.contested));
        problems.sort();
        self.log.update(&problems);
        self.teller.tell(self.seen(&view));
        let services = self.world.services().keys().map(|key| (key.clone(), grants.get(key).cloned())).collect();
        *lock(&self.shown) = Page { services, problems, ..Page::default() };
        if view.ready {
            self.block = None;
        }
    }

    fn tell_peers(&mut self, wire: &Wire) {
        let nodes = self.world.nodes().iter().filter(|(name, _)| **name != self.node);
        let peers: BTreeMap<Name, Vec<IpAddr>> = nodes.map(|(name, n)| (name.clone(), n.addresses.clone())).collect();
        if peers != self.sent_peers {
            wire.tell(Command::Peers(peers.clone()));
            self.sent_peers = peers;
        }
    }

    /// The controller gives the lowest free addresses next, so those are looked at.
    fn look_ahead(&mut self, wire: &Wire, view: &View) {
        if self.look_ahead == 0 {
            return;
        }
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
    fn seen(&self, view: &View) -> Seen {
        let mut announced: BTreeMap<ObjectKey, BTreeSet<Name>> = BTreeMap::new();
        for (ip, duty) in self.sent_duties.iter().flatten() {
            let Some((_, interfaces)) = view.announcers.get(ip).filter(|(node, _)| *node == self.node) else {
                continue;
            };
            for service in &duty.services {
                announced.entry(service.clone()).or_default().extend(interfaces.iter().cloned());
            }
        }
        let mut taken: BTreeMap<ObjectKey, BTreeMap<IpAddr, TakenBy>> = BTreeMap::new();
        let conflicts = view.own_conflicts.iter().map(|(ip, mac)| (*ip, TakenBy::ForeignHost(*mac)));
        for (ip, by) in view.reserved.iter().map(|(ip, by)| (*ip, by.clone())).chain(conflicts) {
            if let Some(pool) = self.world.pool_of(ip) {
                taken.entry(pool.key.clone()).or_default().insert(ip, by);
            }
        }
        for pool in self.world.pools() {
            taken.entry(pool.key.clone()).or_default();
        }
        Seen { announced, taken: Arc::new(taken) }
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
