//! `standalone`: allocates and announces from a folder of manifests, without a cluster.
//!
//! Nodes that exchange heartbeats agree on one that allocates: the first by name that is ready. It gives its table
//! to the others, who follow it; whoever comes next begins with the table it has. So all nodes give a Service the
//! same address, whatever order they saw the files in.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt::Write as _;
use std::net::IpAddr;
use std::sync::Arc;

use anyhow::Context;
use landfall_lb_model::announcer::{Liveness, PeerFacts, said};
use landfall_lb_model::duty::Duty;
use landfall_lb_model::node::NodeFacts;
use landfall_lb_model::plan::{Grant, Note};
use landfall_lb_model::reason;
use landfall_lb_model::speakers::SpeakerRule;
use landfall_lb_model::wire::MacAddr;
use landfall_lb_model::world::{Input, World};
use landfall_model::{ObjectKey, ObjectRef, Problem};
use landfall_shared::readiness::{Block, Readiness};
use landfall_shared::source::{Source, SourceView, manifests};
use tokio::signal::unix::{SignalKind, signal};

use crate::Name;
use crate::cli::StandaloneArgs;
use crate::inputs::{Role, plan};
use crate::metrics::SpeakerMetrics;
use crate::page::{self, Page, Shown, lock};
use crate::report::{self, ProblemLog};
use crate::subnets::OwnSubnets;
use crate::wire::{self, Board, Command, Settings, View, Wire};

type Held = BTreeMap<ObjectKey, Vec<IpAddr>>;

/// Runs until SIGTERM or SIGINT, and hands over before it ends.
pub fn run(args: &StandaloneArgs) -> anyhow::Result<()> {
    args.admin.log.init()?;
    tracing::info!(settings = ?Redacted(args), "starting");
    let key = args.wire.key()?;
    let liveness = key.map_or(Liveness::Assumed, Liveness::Heartbeats);
    let with_key = matches!(liveness, Liveness::Heartbeats(_));
    let runtime = crate::runtime()?;
    runtime.block_on(async {
        let source = manifests::start(&args.manifests, &plan(&[], Role::Everything))?;
        let settings = Settings {
            node: args.wire.node_name.as_str().into(),
            selection: args.wire.selection()?,
            heartbeat: args.wire.heartbeat,
            liveness,
            drain_timeout: args.wire.drain_timeout,
        };
        let board = Board::default();
        let figures = board.figures.clone();
        let wire = wire::start(settings, board)?;
        let readiness = Readiness::new();
        let shown: Shown = Arc::default();
        let standalone = Standalone {
            node: args.wire.node_name.as_str().into(),
            look_ahead: args.wire.look_ahead,
            with_key,
            world: World::new(args.rules.rules(SpeakerRule::EveryNode)),
            view: source.view.clone(),
            held: None,
            blocks: Some((readiness.block("manifests"), readiness.block("announcer"))),
            log: ProblemLog::default(),
            updates: 0,
            shown: shown.clone(),
            sent_table: Vec::new(),
            sent_duties: None,
            sent_look_ahead: BTreeSet::new(),
            sent_peers: BTreeMap::new(),
            own_macs: BTreeSet::new(),
            own_addresses: BTreeMap::new(),
            port: args.wire.heartbeat.port(),
        };
        let sources = page::Sources {
            node: &args.wire.node_name,
            role: Role::Everything,
            view: &wire.view,
            figures: &figures,
            source: &source.view,
            shown: &shown,
            page: &args.admin.page,
            port: Some(args.wire.heartbeat.port()),
        };
        let metrics = page::serve(args.admin.admin, &sources, readiness).await?;
        standalone.work(source, wire, &metrics).await
    })
}

struct Redacted<'a>(&'a StandaloneArgs);

impl std::fmt::Debug for Redacted<'_> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let wire = &self.0.wire;
        f.debug_struct("Standalone")
            .field("manifests", &self.0.manifests)
            .field("node_name", &wire.node_name)
            .field("interfaces", &wire.interfaces)
            .field("heartbeat", &wire.heartbeat)
            .field("heartbeat_key", &wire.heartbeat_key.as_ref().map(|_| "given"))
            .field("look_ahead", &wire.look_ahead)
            .field("admin", &self.0.admin.admin)
            .finish_non_exhaustive()
    }
}

struct Standalone {
    node: Name,
    look_ahead: usize,
    with_key: bool,
    world: World,
    view: SourceView,
    /// What each Service holds; `None` until this node takes part.
    held: Option<Held>,
    blocks: Option<(Block, Block)>,
    log: ProblemLog,
    updates: u64,
    shown: Shown,
    sent_table: Vec<u8>,
    sent_duties: Option<BTreeMap<IpAddr, Duty>>,
    sent_look_ahead: BTreeSet<IpAddr>,
    sent_peers: BTreeMap<Name, PeerFacts>,
    own_macs: BTreeSet<MacAddr>,
    /// Which interface has which address.
    own_addresses: BTreeMap<IpAddr, String>,
    /// The port of the heartbeats.
    port: u16,
}

impl Standalone {
    async fn work(mut self, mut source: Source<Input>, mut wire: Wire, metrics: &SpeakerMetrics) -> anyhow::Result<()> {
        let mut terminate = signal(SignalKind::terminate())?;
        let mut interrupt = signal(SignalKind::interrupt())?;
        let mut source_changed = self.view.changed();
        let mut subnets = OwnSubnets::open().await.context("cannot watch the interfaces")?;
        self.read_interfaces(&subnets, &wire);
        let mut complete = false;
        loop {
            tokio::select! {
                () = subnets.changed() => self.read_interfaces(&subnets, &wire),
                batch = source.batches.recv() => {
                    let Some(batch) = batch else { anyhow::bail!("the folder isn't read any more") };
                    self.updates += batch.changes.len() as u64;
                    batch.changes.into_iter().for_each(|change| self.world.apply(change));
                    complete |= batch.complete;
                    self.settle_world(&wire);
                }
                changed = wire.view.changed() => changed.context("the announcer's thread has ended")?,
                changed = source_changed.changed() => drop(changed),
                Some(report) = wire.reports.recv() => {
                    report::log(&report, &self.node);
                    metrics.happened(&report);
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
        Ok(())
    }

    fn read_interfaces(&mut self, subnets: &OwnSubnets, wire: &Wire) {
        self.world.set_subnets(&self.node, subnets.get());
        self.own_macs = subnets.macs().map(|(_, mac)| mac).collect();
        self.own_addresses = subnets.addresses();
        if !self.sent_peers.is_empty() {
            self.settle_world(wire);
        }
    }

    fn settle_world(&mut self, wire: &Wire) {
        self.world.settle();
        let facts = |(name, node): (&Name, &NodeFacts)| {
            let macs = if *name == self.node { self.own_macs.clone() } else { BTreeSet::new() };
            (name.clone(), PeerFacts { addresses: node.addresses.clone(), macs, ..PeerFacts::default() })
        };
        let peers: BTreeMap<Name, PeerFacts> = self.world.nodes().iter().map(facts).collect();
        if peers != self.sent_peers {
            wire.tell(Command::Peers(peers.clone()));
            self.sent_peers = peers;
        }
    }

    /// Decides anew from everything that is known.
    fn decide(&mut self, wire: &Wire) {
        let view = wire.view.borrow().clone();
        let mut problems = self.problems(&view);
        let mut page = Page::default();
        // While this node only listens it announces nothing and has to know what others have decided.
        let grants = if view.ready { self.grants(wire, &view, &mut page, &mut problems) } else { BTreeMap::new() };
        let (duties, duty_problems) = self.world.duties(grants.iter());
        problems.extend(duty_problems);
        let silent = said(&view.silent, |ip| self.own_addresses.get(&ip).map(String::as_str));
        problems.extend(report::silence_problems(grants.iter(), &BTreeMap::from([(self.node.clone(), silent)])));
        if self.sent_duties.as_ref() != Some(&duties) {
            wire.tell(Command::Duties(duties.clone()));
            self.sent_duties = Some(duties);
        }
        for key in self.world.services().keys() {
            page.services.insert(key.clone(), grants.get(key).cloned());
        }
        for problem in &mut problems {
            if problem.location.is_none() {
                problem.location = self.view.locate(&problem.object);
            }
        }
        problems.sort();
        problems.dedup();
        self.log.update(&problems);
        page.stale = crate::cluster::verdict(&problems).0 != "Valid";
        (page.problems, page.loaded, page.updates) = (problems, true, self.updates);
        (page.standbys, page.macs) = (page::standbys(self.sent_duties.as_ref()), page::macs(&self.world));
        *lock(&self.shown) = page;
        if view.ready {
            self.blocks = None;
        }
    }

    /// What each Service has: by this node's own plan, or by the table of the one that allocates.
    fn grants(
        &mut self,
        wire: &Wire,
        view: &View,
        page: &mut Page,
        problems: &mut Vec<Problem>,
    ) -> BTreeMap<ObjectKey, Grant> {
        self.world.note_announced(&view.announcers.keys().copied().collect());
        let taken = report::taken(&self.world, view);
        let theirs = view.leaders_table.as_ref().filter(|_| !view.leads).map(|(_, table)| read_table(table));
        if let Some(table) = theirs {
            let known = self.world.grants_of(|service| table.get(&service.key).cloned().unwrap_or_default());
            // What the other decided is this node's starting point should it have to go on alone.
            self.held = Some(table);
            let held = known.iter().map(|(key, grant)| (key.clone(), grant.ips.clone())).collect();
            let planned = self.world.plan(&held, &taken, 0);
            let pending = |key: &ObjectKey| !known.contains_key(key) && planned.waiting.contains_key(key);
            problems.extend(planned.problems.iter().filter(|p| pending(&p.object.key)).cloned());
            page.waiting = planned.waiting.len();
            page.usage = planned.usage;
            return known;
        }
        if !view.leads {
            let held = self.held.clone().unwrap_or_default();
            return self.world.grants_of(|service| held.get(&service.key).cloned().unwrap_or_default());
        }
        let held = self.held.take().unwrap_or_else(|| self.first_held(view));
        let planned = self.world.plan(&held, &taken, self.look_ahead);
        self.world.agree(&planned);
        planned.notes.iter().for_each(log_note);
        problems.extend(planned.problems.iter().cloned());
        page.waiting = planned.waiting.len();
        page.usage.clone_from(&planned.usage);
        let table = write_table(&planned.held());
        if table != self.sent_table {
            wire.tell(Command::Table(table.clone()));
            self.sent_table = table;
        }
        let upcoming: BTreeSet<IpAddr> = planned.upcoming.values().flatten().copied().collect();
        if upcoming != self.sent_look_ahead {
            wire.tell(Command::LookAhead(upcoming.clone()));
            self.sent_look_ahead = upcoming;
        }
        self.held = Some(planned.held());
        planned.grants().map(|(key, grant)| (key.clone(), grant.clone())).collect()
    }

    /// What Services hold when this node begins to allocate: what peers say, else what the files say.
    fn first_held(&self, view: &View) -> Held {
        let mut held: Held = self
            .world
            .services()
            .iter()
            .filter(|(_, service)| !service.status.is_empty())
            .map(|(key, service)| (key.clone(), service.status.clone()))
            .collect();
        for table in &view.tables {
            held.extend(read_table(table));
        }
        held
    }

    fn problems(&self, view: &View) -> Vec<Problem> {
        let mut problems = self.view.problems();
        problems.extend(self.world.problems());
        problems.extend(report::conflict_problems(&self.world, &view.conflicts));
        problems.extend(report::contest_problems(&self.world, &view.contested));
        problems.extend(report::reserved_problems(&self.world, &self.world.reserved()));
        problems.extend(report::network_problems(&self.node, self.port, view, self.world.nodes()));
        let nodes = self.world.nodes();
        let node = ObjectRef::new("Node", ObjectKey::cluster(self.node.clone()));
        if !nodes.contains_key(&self.node) {
            let problem = Problem::new(
                node,
                reason::NO_ELIGIBLE_NODE,
                "no Node of this name is in the folder, so this node announces nothing",
            );
            problems.push(problem.at("--node-name", &*self.node).remedy("add the Node, or correct --node-name"));
        } else if nodes.len() > 1 && !self.with_key {
            let cause = "there are several nodes and no heartbeat key, so nobody takes over from a node that fails";
            let problem = Problem::new(node, reason::HEARTBEATS_OFF, cause).at("--heartbeat-key", "");
            problems.push(problem.remedy(
                "give every node the same key of 64 hexadecimal digits, for example from \"openssl rand -hex 32\"",
            ));
        }
        let addressless = |n: &&NodeFacts| n.addresses.is_empty() && nodes.len() > 1 && self.with_key;
        for node in nodes.values().filter(addressless) {
            let object = ObjectRef::new("Node", ObjectKey::cluster(node.name.clone()));
            let cause = "the node has no InternalIP, so no heartbeats can be sent to it";
            let problem = Problem::new(object, reason::HEARTBEATS_OFF, cause).at("status.addresses", "");
            problems.push(problem.remedy("add its address with type InternalIP"));
        }
        problems
    }
}

fn log_note(note: &Note) {
    let (namespace, name) = (note.service.namespace(), note.service.name());
    tracing::info!(kind = "Service", namespace, name, reason = %note.reason, "{}", note.message);
}

/// One line for each Service: `NAMESPACE/NAME IP[,IP]`.
fn write_table(held: &Held) -> Vec<u8> {
    let mut text = String::new();
    for (key, ips) in held {
        let ips: Vec<String> = ips.iter().map(IpAddr::to_string).collect();
        let _ = writeln!(text, "{key} {}", ips.join(","));
    }
    text.into_bytes()
}

/// Reads what [`write_table`] wrote; lines that can't be read are left out.
fn read_table(bytes: &[u8]) -> Held {
    let text = String::from_utf8_lossy(bytes);
    let line = |line: &str| {
        let (key, ips) = line.split_once(' ')?;
        let ips = ips.split(',').map(|ip| ip.parse().ok()).collect::<Option<Vec<_>>>()?;
        Some((ObjectKey::parse(key)?, ips))
    };
    text.lines().filter_map(line).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_table_is_read_as_it_was_written() {
        let key = ObjectKey::new("shop", "web");
        let held = Held::from([(key, vec![[10, 0, 0, 1].into(), "fd00::1".parse().unwrap()])]);
        assert_eq!(read_table(&write_table(&held)), held);
        assert!(read_table(b"what is this\nshop/web 10.0.0\n\xff").is_empty());
    }
}
