//! `controller`: gives addresses to Services. Every replica plans; the one that holds the Lease writes.

mod observed;
mod upkeep;

use std::collections::{BTreeMap, BTreeSet};
use std::net::IpAddr;
use std::sync::Arc;
use std::time::Duration;

use anyhow::bail;
use k8s_openapi::api::core::v1::Service;
use kube::Client;
use landfall_lb_model::crd::IPAddressPool;
use landfall_lb_model::plan::{Grant, Plan, TakenBy, Usage};
use landfall_lb_model::reason;
use landfall_lb_model::silence;
use landfall_lb_model::speakers::SpeakerRule;
use landfall_lb_model::world::{Changes, Input, World};
use landfall_model::{ObjectKey, ObjectRef, Problem};
use landfall_shared::events::EventPublisher;
use landfall_shared::lease::Elector;
use landfall_shared::publish::{Publisher, Write};
use landfall_shared::readiness::{Block, Readiness};
use landfall_shared::source::{Batch, Source, SourceView, kubernetes};
use serde_json::{Value, json};
use tokio::signal::unix::{SignalKind, signal};
use tokio::sync::watch;
use tokio::time::Instant;

use crate::Name;
use crate::cli::ControllerArgs;
use crate::cluster::{self, References, Verdict};
use crate::inputs::{Role, cluster_plan};
use crate::moves::Move;
use crate::page::{self, Page, Shown, lock};
use crate::report::{self, ConnectionLog, ProblemLog};
use crate::wire::{Figures, View};
use observed::{Observations, Wanted};

const MANAGER: &str = "landfall-lb-controller";
/// The longest time for which changes are gathered: in a large cluster, where a plan takes long.
const GATHER: Duration = Duration::from_millis(500);
/// How long a Service may be without an endpoint before an Event says so: pods take that long to start.
const START_OF_PODS: Duration = Duration::from_secs(10);
/// How long it may take until a Service is announced before an Event says that it isn't: speakers may just start.
const START_OF_SPEAKERS: Duration = Duration::from_secs(10);

/// Runs until SIGTERM or SIGINT, then gives the Lease back.
pub fn run(args: &ControllerArgs) -> anyhow::Result<()> {
    args.admin.log.init_without(crate::QUIET)?;
    crate::install_crypto();
    let cluster = &args.cluster;
    tracing::info!(namespace = cluster.namespace, lb_class = args.rules.lb_class, admin = %args.admin.admin, "starting");
    crate::runtime()?.block_on(async {
        let client = kubernetes::client().await?;
        let source = kubernetes::start_with(&client, &cluster_plan(cluster, Role::Allocates), cluster::patience());
        let elector = Elector::start(client.clone(), &cluster.namespace, MANAGER, &cluster.identity());
        let leader = elector.leader();
        let readiness = Readiness::new();
        let shown = Shown::default();
        let (announced, view) = watch::channel(Arc::new(View::default()));
        let figures = Arc::<std::sync::Mutex<Figures>>::default();
        let sources = page::Sources {
            node: "",
            role: Role::Allocates,
            view: &view,
            figures: &figures,
            source: &source.view,
            shown: &shown,
            page: &args.admin.page,
            port: None,
        };
        page::serve(args.admin.admin, &sources, readiness.clone()).await?;
        upkeep::keep_key(client.clone(), cluster.namespace.clone(), cluster.heartbeat_secret.clone(), leader.clone());
        let pools = upkeep::await_pools(client.clone(), cluster.namespaces());
        let mut controller = Controller::new(client, args, leader, source.view.clone(), shown, &readiness);
        controller.announced = announced;
        controller.work(source, pools).await?;
        elector.release().await;
        Ok(())
    })
}

/// Services of which something holds, and since when.
struct Since {
    begun: BTreeMap<ObjectKey, Instant>,
    /// When that is a long time.
    long: Duration,
}

impl Since {
    fn new(long: Duration) -> Self {
        Self { begun: BTreeMap::new(), long }
    }

    fn update(&mut self, now: Instant, services: impl Iterator<Item = ObjectKey>) {
        let before = std::mem::take(&mut self.begun);
        self.begun = services.map(|key| (key.clone(), before.get(&key).copied().unwrap_or(now))).collect();
    }

    /// Whether it has been so for long.
    fn lasts(&self, service: &ObjectKey, now: Instant) -> bool {
        self.begun.get(service).is_some_and(|begun| now >= *begun + self.long)
    }

    /// When the next one has been so for long.
    fn next(&self, now: Instant) -> Option<Instant> {
        self.begun.values().map(|begun| *begun + self.long).filter(|due| *due > now).min()
    }
}

struct Controller {
    leader: watch::Receiver<bool>,
    world: World,
    observations: Observations,
    references: References,
    /// What each Service holds by this replica's own decisions; `None` while it doesn't lead.
    held: Option<BTreeMap<ObjectKey, Vec<IpAddr>>>,
    services: Publisher,
    pools: Publisher,
    events: EventPublisher,
    state: watch::Sender<Option<Verdict>>,
    view: SourceView,
    log: ProblemLog,
    connection: ConnectionLog,
    shown: Shown,
    /// Who announces what, as the speakers say of themselves.
    announced: watch::Sender<Arc<View>>,
    block: Option<Block>,
    updates: u64,
    /// Services without an endpoint that can serve.
    endpointless: Since,
    /// Services that no node announces, without a word of why.
    silent: Since,
    /// When the next of them has been so for long.
    recheck: Option<Instant>,
    /// Whether there has been a pool since this replica started.
    pools_seen: bool,
}

impl Controller {
    fn new(
        client: Client,
        args: &ControllerArgs,
        leader: watch::Receiver<bool>,
        view: SourceView,
        shown: Shown,
        readiness: &Readiness,
    ) -> Self {
        let (cluster, owner) = (&args.cluster, cluster::owner(&args.cluster));
        Self {
            world: World::new(args.rules.rules(SpeakerRule::Seen)),
            observations: Observations::default(),
            references: References::default(),
            held: None,
            services: Publisher::start::<Service>(client.clone(), MANAGER, leader.clone()),
            pools: Publisher::start::<IPAddressPool>(client.clone(), MANAGER, leader.clone()),
            events: EventPublisher::new(client.clone(), MANAGER, &cluster.identity(), leader.clone()),
            state: upkeep::keep_state(client, cluster.namespace.clone(), MANAGER, owner, leader.clone()),
            view,
            log: ProblemLog::default(),
            connection: ConnectionLog::default(),
            shown,
            announced: watch::channel(Arc::default()).0,
            block: Some(readiness.block("first plan")),
            updates: 0,
            endpointless: Since::new(START_OF_PODS),
            silent: Since::new(START_OF_SPEAKERS),
            recheck: None,
            pools_seen: false,
            leader,
        }
    }

    async fn work(mut self, mut source: Source<Input>, mut pools: watch::Receiver<bool>) -> anyhow::Result<()> {
        let mut leads = self.leader.clone();
        let mut view = self.view.changed();
        let mut terminate = signal(SignalKind::terminate())?;
        let mut interrupt = signal(SignalKind::interrupt())?;
        let (mut complete, mut stale) = (false, false);
        // Whatever comes until then is decided at once.
        let mut next = Instant::now();
        let mut look = None;
        loop {
            let due = (complete && stale).then_some(next);
            tokio::select! {
                batch = source.batches.recv() => {
                    let Some(batch) = batch else { bail!("the Kubernetes watch stopped unexpectedly") };
                    complete |= batch.complete;
                    stale |= self.take(batch);
                }
                changed = leads.changed() => {
                    if changed.is_err() { bail!("leader election stopped unexpectedly") }
                    stale = true;
                }
                changed = pools.changed(), if !*pools.borrow() => stale |= changed.is_ok(),
                _ = view.changed() => {
                    look = Some(Instant::now() + ConnectionLog::SETTLES);
                    stale = true;
                }
                () = cluster::until(self.recheck) => {
                    self.recheck = None;
                    stale = true;
                }
                () = cluster::until(look) => {
                    self.connection.update(&self.view);
                    look = None;
                }
                () = cluster::until(due) => {
                    let began = Instant::now();
                    self.decide(*leads.borrow(), *pools.borrow());
                    stale = false;
                    // Half of the time at most goes into plans, however many changes there are.
                    next = Instant::now() + began.elapsed().min(GATHER);
                }
                _ = terminate.recv() => return Ok(()),
                _ = interrupt.recv() => return Ok(()),
            }
        }
    }

    /// Takes in changes; says whether anything is to be decided anew.
    fn take(&mut self, batch: Batch<Input>) -> bool {
        let mut stale = false;
        for change in batch.changes {
            self.updates += 1;
            self.references.note(&change);
            let (changed, gone) = self.observations.note(&change);
            stale |= changed || matches!(change, Input::Pool(_));
            for key in gone {
                // Another Service of this name would not be the one that was written to.
                self.services.forget(&key);
            }
            self.world.apply(change);
        }
        self.world.take_changes() != Changes::default() || stale
    }

    fn decide(&mut self, leads: bool, pools_readable: bool) {
        self.world.settle();
        // Whoever doesn't know the pools must not say that a Service has no address.
        let leads = leads && pools_readable;
        // Whoever doesn't lead plans from what the leader wrote, so that it is up to date when its turn comes.
        let held = self.held.take().filter(|_| leads).unwrap_or_else(|| self.held_by_status());
        let reported = self.world.reported_taken();
        let mut taken = self.world.reserved();
        taken.extend(reported.iter().map(|(ip, (by, _))| (*ip, by.clone())));
        let planned = self.world.plan(&held, &taken, 0);
        self.world.agree(&planned);
        let duty_problems = self.world.hindrances(planned.grants());
        let mut problems = self.view.problems();
        problems.extend(self.world.problems());
        problems.extend(planned.problems.iter().cloned());
        let unheard = report::unheard_problems(&self.world);
        let mut hindrances = report::slow_failovers(&self.world, &unheard);
        let silence = self.silence(&planned, &duty_problems);
        for problem in duty_problems.iter().chain(&silence) {
            let hindrance = hindrances.entry(problem.object.key.clone());
            // What can be announced has the least of problems.
            let hindrance = hindrance.or_insert_with(|| problem.clone());
            if problem.reason != reason::NO_FIT_NODE {
                hindrance.clone_from(problem);
            }
        }
        problems.extend(unheard);
        problems.extend(duty_problems);
        problems.extend(silence);
        problems.extend(taken_problems(&self.world, &reported));
        problems.sort();
        problems.dedup();
        let lasting = self.lasting(&problems);
        self.log.update(&lasting);
        let references = &self.references;
        self.events.report(&lasting, |object| references.get(object));
        if leads {
            // A pool that nobody has seen yet may be on its way, and with it the addresses that Services have.
            self.pools_seen |= !self.world.pools().is_empty();
            self.tell(&planned);
            self.held = self.pools_seen.then(|| planned.held());
            self.publish(&planned, &hindrances);
        } else {
            self.withdraw();
        }
        let verdict = cluster::verdict(&problems);
        let stale = verdict.0 != "Valid";
        self.state.send_replace(Some(verdict));
        let mut announcing: BTreeMap<ObjectKey, Vec<(Name, Vec<Name>)>> = BTreeMap::new();
        for now in self.world.announcing() {
            announcing.entry(now.service.clone()).or_default().push((now.node.clone(), now.interfaces.clone()));
        }
        let (announcers, moves) = whereabouts(&self.world, &planned);
        self.announced.send_if_modified(|view| {
            let is_news = view.announcers != announcers;
            if is_news {
                *view = Arc::new(View { announcers, ..View::default() });
            }
            is_news
        });
        *lock(&self.shown) = Page {
            services: self.world.services().keys().map(|key| (key.clone(), planned.grant(key).cloned())).collect(),
            waiting: planned.waiting.len(),
            usage: planned.usage,
            announcing,
            moves,
            macs: page::macs(&self.world),
            standbys: BTreeMap::new(),
            problems,
            updates: self.updates,
            update_errors: self.connection.losses(),
            loaded: pools_readable,
            stale,
        };
        if pools_readable {
            self.block = None;
        }
    }

    /// Without that a Service has no endpoint where that is news: at first every Service has none, and nobody has to
    /// do anything about it. The condition says it at once.
    fn lasting(&mut self, problems: &[Problem]) -> Vec<Problem> {
        let now = Instant::now();
        let without = problems.iter().filter(|p| p.reason == reason::NO_ENDPOINTS).map(|p| p.object.key.clone());
        self.endpointless.update(now, without);
        self.recheck = [&self.endpointless, &self.silent].into_iter().filter_map(|since| since.next(now)).min();
        let young = |p: &Problem| p.reason == reason::NO_ENDPOINTS && !self.endpointless.lasts(&p.object.key, now);
        problems.iter().filter(|p| !young(p)).cloned().collect()
    }

    /// Problems of Services that some node could announce and none does: by what the speakers say, and after a while
    /// also where none says anything.
    fn silence(&mut self, planned: &Plan, hindrances: &[Problem]) -> Vec<Problem> {
        let now = Instant::now();
        let announced = self.world.announced();
        let grave = hindrances.iter().filter(|p| p.reason != reason::NO_FIT_NODE);
        let hindered: BTreeSet<&ObjectKey> = grave.map(|p| &p.object.key).collect();
        // Which of several addresses is announced only the speakers know.
        let open = |(key, grant): &(&ObjectKey, &Grant)| {
            !hindered.contains(key) && (grant.ips.len() > 1 || !announced.contains(*key))
        };
        let grants: Vec<(&ObjectKey, &Grant)> = planned.grants().filter(open).collect();
        let mut problems = report::silence_problems(grants.iter().copied(), self.world.speakers().silent());
        let explained: BTreeSet<ObjectKey> = problems.iter().map(|p| p.object.key.clone()).collect();
        let unexplained = |(key, _): &&(&ObjectKey, &Grant)| !announced.contains(*key) && !explained.contains(*key);
        let unexplained: Vec<_> = grants.iter().filter(unexplained).collect();
        self.silent.update(now, unexplained.iter().map(|(key, _)| (*key).clone()));
        for (key, grant) in unexplained {
            if let Some(ip) = grant.ips.first().filter(|_| self.silent.lasts(key, now)) {
                problems.push(silence::problem(key, *ip, std::iter::empty()));
            }
        }
        problems
    }

    fn tell(&self, planned: &Plan) {
        for note in &planned.notes {
            let (namespace, name) = (note.service.namespace(), note.service.name());
            tracing::info!(kind = "Service", namespace, name, reason = %note.reason, "{}", note.message);
            if let Some(reference) = self.references.get(&ObjectRef::new("Service", note.service.clone())) {
                self.events.happened(reference, note.reason, &note.message);
            }
        }
    }

    /// Wants nothing any more: what was wanted while this replica led may be wrong when it leads again.
    fn withdraw(&mut self) {
        if self.services.pending() > 0 {
            self.world.services().keys().for_each(|key| self.services.forget(key));
        }
        self.observations.forget_said();
    }

    fn held_by_status(&self) -> BTreeMap<ObjectKey, Vec<IpAddr>> {
        let services = self.world.services().iter().filter(|(_, s)| !s.status.is_empty());
        services.map(|(key, service)| (key.clone(), service.status.clone())).collect()
    }

    /// Says what is wanted of every Service and pool.
    fn publish(&mut self, planned: &Plan, hindrances: &BTreeMap<ObjectKey, Problem>) {
        let mut unannounced: BTreeMap<ObjectKey, Vec<IpAddr>> = BTreeMap::new();
        for (key, ip) in self.world.unannounced() {
            unannounced.entry(key).or_default().push(ip);
        }
        let services = &self.services;
        for (key, service) in self.world.services() {
            if !self.pools_seen && !service.status.is_empty() {
                continue;
            }
            let Some(observed) = self.observations.get_mut(key) else { continue };
            let grant = planned.grant(key);
            let wanted = Wanted {
                grant: grant.cloned(),
                waiting: planned.waiting.get(key).cloned(),
                hindrance: hindrances.get(key).cloned(),
                contested: planned.contested.get(key).cloned(),
                remark: planned.remarks.get(key).cloned(),
                unannounced: unannounced.get(key).cloned().unwrap_or_default(),
            };
            if !observed.is_news(&wanted) {
                continue;
            }
            let status = observed.wanted_status(&wanted);
            let told = observed.has(grant);
            services.set(key.clone(), Some(observed.value()), Write::Status(status));
            // Two writes of one object at a time hinder each other, and somebody waits for the address.
            if told {
                let annotation = observed.annotation(grant.map(|g| &*g.pool));
                services.set(key.clone(), Some(observed.value()), Write::Object(annotation));
            }
        }
        for key in self.world.former() {
            let Some(observed) = self.observations.get_mut(key) else { continue };
            if !observed.is_news(&Wanted::default()) {
                continue;
            }
            services.set(key.clone(), Some(observed.value()), Write::Status(observed.cleared()));
            services.set(key.clone(), Some(observed.value()), Write::Object(observed.annotation(None)));
        }
        for (key, object) in self.world.pool_objects() {
            let Some((v4, v6)) = planned.usage.get(key.name()) else { continue };
            let observed = json!({"status": object.status});
            self.pools.set(key.clone(), Some(&observed), Write::Status(json!({"status": pool_status(v4, v6)})));
        }
    }
}

fn pool_status(v4: &Usage, v6: &Usage) -> Value {
    let number = |value: u128| i64::try_from(value).unwrap_or(i64::MAX);
    json!({
        "assignedIPv4": number(v4.assigned), "assignedIPv6": number(v6.assigned),
        "availableIPv4": number(v4.available()), "availableIPv6": number(v6.available()),
    })
}

pub(crate) fn taken_problems(world: &World, reported: &BTreeMap<IpAddr, (TakenBy, Name)>) -> Vec<Problem> {
    let (mut foreign, mut reserved) = (BTreeMap::new(), world.reserved());
    for (ip, (by, node)) in reported {
        match by {
            TakenBy::ForeignHost(mac) => drop(foreign.insert(*ip, (*mac, node.clone()))),
            other => drop(reserved.insert(*ip, other.clone())),
        }
    }
    let mut problems = report::conflict_problems(world, &foreign);
    problems.extend(report::reserved_problems(world, &reserved));
    problems
}

/// By address, the node that announces it and the interfaces on which it does.
type Announcers = BTreeMap<IpAddr, (Name, Vec<Name>)>;

/// Who announces each address, and how it came there, as the speakers say.
fn whereabouts(world: &World, planned: &Plan) -> (Announcers, BTreeMap<IpAddr, Move>) {
    let (mut announcers, mut moves) = (BTreeMap::new(), BTreeMap::new());
    for (key, ip) in planned.grants().flat_map(|(key, grant)| grant.ips.iter().map(move |ip| (key, *ip))) {
        let Some(now) = world.announcer(key, ip) else { continue };
        announcers.insert(ip, (now.node.clone(), now.interfaces.clone()));
        if let Some(moved) = now.moves.get(&ip).filter(|moved| moved.since_ms > 0) {
            moves.insert(ip, Move::told(now.node.clone(), moved.clone()));
        }
    }
    (announcers, moves)
}
