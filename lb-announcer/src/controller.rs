//! `controller`: gives addresses to Services. Every replica plans; the one that holds the Lease writes.

mod observed;

use std::collections::BTreeMap;
use std::net::IpAddr;
use std::sync::Arc;
use std::time::Duration;

use anyhow::bail;
use k8s_openapi::api::core::v1::Service;
use kube::{Api, Client};
use landfall_lb_model::crd::{ConfigurationState, IPAddressPool};
use landfall_lb_model::plan::{Plan, TakenBy, Usage};
use landfall_lb_model::world::World;
use landfall_model::{ObjectKey, ObjectRef, Problem, Severity};
use landfall_shared::events::EventPublisher;
use landfall_shared::lease::Elector;
use landfall_shared::publish::{Publisher, Write};
use landfall_shared::readiness::{Block, Readiness};
use landfall_shared::source::{SourceView, kubernetes};
use serde_json::{Value, json};
use tokio::signal::unix::{SignalKind, signal};
use tokio::sync::watch;

use crate::Name;
use crate::cli::ControllerArgs;
use crate::cluster::{self, References};
use crate::inputs::{Role, plan};
use crate::page::{self, Page, Shown, lock};
use crate::report::{self, ProblemLog};
use crate::wire::{Figures, View};
use observed::Observations;

const MANAGER: &str = "landfall-lb-controller";
/// Pause before the heartbeats' key or the configuration's state is written again after a failure.
const RETRY: Duration = Duration::from_secs(5);

/// Runs until SIGTERM or SIGINT, then gives the Lease back.
pub fn run(args: &ControllerArgs) -> anyhow::Result<()> {
    args.admin.log.init()?;
    crate::install_crypto();
    let cluster = &args.cluster;
    tracing::info!(namespace = cluster.namespace, lb_class = args.rules.lb_class, admin = %args.admin.admin, "starting");
    crate::runtime()?.block_on(async {
        let client = kubernetes::client().await?;
        let mut source = kubernetes::start(&client, &plan(&cluster.namespaces(), Role::Allocates));
        let identity = cluster.identity();
        let elector = Elector::start(client.clone(), &cluster.namespace, MANAGER, &identity);
        let readiness = Readiness::new();
        let shown = Shown::default();
        let (_view, view) = watch::channel(Arc::new(View::default()));
        let figures = Arc::<std::sync::Mutex<Figures>>::default();
        let sources = page::Sources { node: "", view: &view, figures: &figures, source: &source.view, shown: &shown };
        page::serve(args.admin.admin, &sources, readiness.clone()).await?;
        let leader = elector.leader();
        keep_key(client.clone(), cluster.namespace.clone(), cluster.heartbeat_secret.clone(), leader.clone());
        let mut controller = Controller {
            world: World::new(args.rules.rules()),
            observations: Observations::default(),
            references: References::default(),
            held: None,
            services: Publisher::start::<Service>(client.clone(), MANAGER, leader.clone()),
            pools: Publisher::start::<IPAddressPool>(client.clone(), MANAGER, leader.clone()),
            events: EventPublisher::new(client.clone(), MANAGER, &identity, leader.clone()),
            state: keep_state(client, cluster.namespace.clone(), leader.clone()),
            view: source.view.clone(),
            log: ProblemLog::default(),
            shown,
            block: Some(readiness.block("first plan")),
        };
        let mut leads = leader.clone();
        let mut changed = source.view.changed();
        let mut complete = false;
        let mut terminate = signal(SignalKind::terminate())?;
        let mut interrupt = signal(SignalKind::interrupt())?;
        loop {
            tokio::select! {
                batch = source.batches.recv() => {
                    let Some(batch) = batch else { bail!("the API server isn't read any more") };
                    for change in batch.changes {
                        controller.references.note(&change);
                        controller.observations.note(&change);
                        controller.world.apply(change);
                    }
                    complete |= batch.complete;
                }
                changed = leads.changed() => if changed.is_err() { bail!("the candidacy has ended") },
                changed = changed.changed() => drop(changed),
                _ = terminate.recv() => break,
                _ = interrupt.recv() => break,
            }
            if complete {
                controller.decide(*leader.borrow());
            }
        }
        elector.release().await;
        Ok(())
    })
}

struct Controller {
    world: World,
    observations: Observations,
    references: References,
    /// What each Service holds by this replica's own decisions; `None` while it doesn't lead.
    held: Option<BTreeMap<ObjectKey, Vec<IpAddr>>>,
    services: Publisher,
    pools: Publisher,
    events: EventPublisher,
    state: watch::Sender<Option<(String, String)>>,
    view: SourceView,
    log: ProblemLog,
    shown: Shown,
    block: Option<Block>,
}

impl Controller {
    fn decide(&mut self, leads: bool) {
        self.world.settle();
        // Whoever doesn't lead plans from what the leader wrote, so that it is up to date when its turn comes.
        let held = self.held.take().filter(|_| leads).unwrap_or_else(|| self.held_by_status());
        let reported = self.world.reported_taken();
        let mut taken = self.world.node_addresses();
        taken.extend(reported.iter().map(|(ip, (by, _))| (*ip, by.clone())));
        let planned = self.world.plan(&held, &taken, 0);
        let (_, duty_problems) = self.world.duties(planned.grants());
        let mut problems = self.view.problems();
        problems.extend(self.world.problems());
        problems.extend(planned.problems.iter().cloned());
        let hindrances: BTreeMap<ObjectKey, Problem> =
            duty_problems.iter().map(|p| (p.object.key.clone(), p.clone())).collect();
        problems.extend(duty_problems);
        problems.extend(taken_problems(&self.world, &reported));
        problems.sort();
        problems.dedup();
        self.log.update(&problems);
        let references = &self.references;
        self.events.report(&problems, |object| references.get(object));
        if leads {
            for note in &planned.notes {
                let (namespace, name) = (note.service.namespace(), note.service.name());
                tracing::info!(kind = "Service", namespace, name, reason = %note.reason, "{}", note.message);
                if let Some(reference) = references.get(&ObjectRef::new("Service", note.service.clone())) {
                    self.events.happened(reference, note.reason, &note.message);
                }
            }
            self.held = Some(planned.held());
        }
        self.publish(&planned, &hindrances, leads);
        self.state.send_replace(Some(state_of(&problems)));
        *lock(&self.shown) = Page {
            services: self.world.services().keys().map(|key| (key.clone(), planned.grant(key).cloned())).collect(),
            waiting: planned.waiting.len(),
            usage: planned.usage,
            problems,
        };
        self.block = None;
    }

    fn held_by_status(&self) -> BTreeMap<ObjectKey, Vec<IpAddr>> {
        let services = self.world.services().iter().filter(|(_, s)| !s.status.is_empty());
        services.map(|(key, service)| (key.clone(), service.status.clone())).collect()
    }

    /// Says what is wanted of every Service and pool. Only the leader writes it.
    fn publish(&self, planned: &Plan, hindrances: &BTreeMap<ObjectKey, Problem>, leads: bool) {
        if !leads {
            return;
        }
        for key in self.world.services().keys() {
            let Some(observed) = self.observations.get(key) else { continue };
            let grant = planned.grant(key);
            let status = observed.wanted_status(grant, planned.waiting.get(key), hindrances.get(key));
            self.services.set(key.clone(), Some(observed.value()), Write::Status(status));
            let pool = grant.map(|g| &*g.pool);
            self.services.set(key.clone(), Some(observed.value()), Write::Object(observed::annotation(pool)));
        }
        for key in self.world.former() {
            let Some(observed) = self.observations.get(key) else { continue };
            self.services.set(key.clone(), Some(observed.value()), Write::Status(observed.cleared()));
            self.services.set(key.clone(), Some(observed.value()), Write::Object(observed::annotation(None)));
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

fn taken_problems(world: &World, reported: &BTreeMap<IpAddr, (TakenBy, Name)>) -> Vec<Problem> {
    let (mut foreign, mut reserved) = (BTreeMap::new(), world.node_addresses());
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

/// Result and summary of the configuration's state.
fn state_of(problems: &[Problem]) -> (String, String) {
    let of_configuration = |p: &&Problem| p.severity == Severity::Error && &*p.object.kind != "Service";
    let errors: Vec<String> = problems.iter().filter(of_configuration).map(Problem::message).collect();
    let result = if errors.is_empty() { "Valid" } else { "Invalid" };
    (result.to_owned(), errors.join("\n"))
}

/// Makes the heartbeats' key as soon as this replica leads.
fn keep_key(client: Client, namespace: String, name: String, mut leader: watch::Receiver<bool>) {
    tokio::spawn(async move {
        loop {
            if leader.wait_for(|leads| *leads).await.is_err() {
                return;
            }
            match cluster::ensure_key(client.clone(), &namespace, &name).await {
                Ok(()) => return,
                Err(error) => tracing::warn!(%error, "cannot make the secret with the heartbeats' key"),
            }
            tokio::time::sleep(RETRY).await;
        }
    });
}

/// Keeps the `ConfigurationState` called `controller` up to date while this replica leads.
fn keep_state(
    client: Client,
    namespace: String,
    mut leader: watch::Receiver<bool>,
) -> watch::Sender<Option<(String, String)>> {
    let (sender, mut wanted) = watch::channel(None);
    tokio::spawn(async move {
        let api: Api<ConfigurationState> = Api::namespaced(client, &namespace);
        let mut written = None;
        loop {
            if wanted.changed().await.is_err() || leader.wait_for(|leads| *leads).await.is_err() {
                return;
            }
            let now: Option<(String, String)> = wanted.borrow_and_update().clone();
            let Some((result, summary)) = now.clone().filter(|_| now != written) else { continue };
            let object = json!({
                "apiVersion": "metallb.io/v1beta1", "kind": "ConfigurationState",
                "metadata": {"name": "controller", "labels": {"metallb.io/component-type": "controller"}},
            });
            let valid = result == "Valid";
            let condition = json!({
                "type": "poolReconcilerValid", "status": if valid { "True" } else { "False" },
                "reason": if valid { "Reconciled" } else { "ConfigurationError" }, "message": summary,
                "lastTransitionTime": jiff::Timestamp::now().to_string(),
            });
            let status = json!({"result": result, "errorSummary": summary, "conditions": [condition]});
            match cluster::apply(&api, MANAGER, &object, Some(status)).await {
                Ok(()) => written = now,
                Err(error) => {
                    tracing::debug!(%error, "cannot write the configuration's state");
                    tokio::time::sleep(RETRY).await;
                    wanted.mark_changed();
                }
            }
        }
    });
    sender
}
