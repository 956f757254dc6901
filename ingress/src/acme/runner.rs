//! The loop that keeps certificates as they are wanted.

mod accounts;
mod folder;
mod renewals;

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::Duration;

use k8s_openapi::api::core::v1::{ConfigMap, ObjectReference};
use landfall_ingress_model::acme::challenges::Challenges;
use landfall_ingress_model::acme::plan::{AT_ONCE, Order, Plan};
use landfall_ingress_model::acme::state::Renewal;
use landfall_ingress_model::acme::world::{Outcome, Place, World};
use landfall_ingress_model::input::Input;
use landfall_ingress_model::reason;
use landfall_model::{Change, ObjectKey, ObjectRef, Problem};
use landfall_shared::events::EventPublisher;
use tokio::sync::{mpsc, watch};
use tokio::task::JoinSet;
use tokio::time::sleep;

use super::authority::{Roots, Tending};
use super::dns;
use super::edge::Edge;
use super::link::{Link, Told};
use super::names::Names;
use super::order;
use super::settings::AcmeArgs;
use super::store::{Cluster, Folder, Manifests, Store};
use crate::control::unix_now;
use crate::named::Named;
use crate::observe::AcmeMetrics;
use crate::status::StatusBoard;
use crate::uids::Uids;
use accounts::AccountKeys;
use folder::FolderWatch;

/// The longest time without a look.
const LONGEST_PAUSE: Duration = Duration::from_mins(10);
/// How often a state folder is looked at, and whether its leader has gone.
const FOLDER: Duration = Duration::from_millis(500);
/// Pause before what could not be shared is tried again.
const RETRY: Duration = Duration::from_secs(2);
/// What the loop is made of.
pub(crate) struct Parts {
    /// Where Events are written to; `None` without a cluster.
    pub(crate) cluster: Option<InCluster>,
    /// What the data path answers.
    pub(crate) challenges: Arc<Challenges>,
    /// What devices are to trust.
    pub(crate) roots: Arc<Roots>,
    /// `/status`.
    pub(crate) board: Arc<StatusBoard>,
    /// Counts.
    pub(crate) metrics: AcmeMetrics,
}

/// What a cluster gives.
pub(crate) struct InCluster {
    pub(crate) client: kube::Client,
    pub(crate) namespace: String,
    /// The name of the Lease, which the objects of our own are named after.
    pub(crate) lease: String,
    pub(crate) leader: watch::Receiver<bool>,
    pub(crate) events: EventPublisher,
    pub(crate) uids: Arc<Uids>,
}

/// Starts the loop. Returns the control loop's end, and the certificates that are kept in a state folder.
pub(crate) fn start(args: &AcmeArgs, parts: Parts) -> anyhow::Result<(Link, Vec<Input>)> {
    let (told, heard) = mpsc::unbounded_channel();
    let (problems, problems_seen) = watch::channel(Arc::from(Vec::new()));
    let (secrets, secrets_seen) = mpsc::unbounded_channel();
    let Parts { cluster, challenges, roots, board, metrics } = parts;
    let manifests = Manifests::default();
    let place = if cluster.is_some() { Place::Watched } else { Place::Stored };
    let mut world = World::new(args.issuers()?, place).with_at_once(args.acme_concurrency);
    let (store, kept) = if let Some(InCluster { client, namespace, lease, .. }) = &cluster {
        (Store::Cluster(Cluster::new(client.clone(), namespace.clone(), lease)), Vec::new())
    } else {
        let folder = Folder::open(args.folder()?, manifests.clone())?;
        let kept = folder.certificates();
        (Store::Folder(folder), kept)
    };
    for secret in &kept {
        world.keep(secret);
    }
    let initial = kept.into_iter().map(|secret| Input::NamedSecret(Change::Apply(secret))).collect();
    let edge = Edge::new(store, Names::new(&args.acme_dns), args.acme_self_check, challenges, roots, world);
    let runner = Runner {
        edge: Arc::new(edge),
        issuers: args.acme_issuers.clone(),
        default: args.acme_default.clone(),
        tending: Tending::default(),
        maps: Named::new(cluster.as_ref().map(|cluster| cluster.client.clone()), Input::NamedConfigMap),
        cluster,
        manifests,
        problems,
        secrets,
        board,
        metrics,
        orders: JoinSet::new(),
        checks: JoinSet::new(),
        account_keys: AccountKeys::default(),
        cleaner: JoinSet::new(),
        cleaning: None,
        running: BTreeMap::new(),
        is_complete: false,
        lead: Lead::Follows,
        folder: FolderWatch::default(),
    };
    tokio::spawn(runner.run(heard));
    Ok((Link { told, problems: problems_seen, secrets: secrets_seen, asked: None, is_complete: false }, initial))
}

/// Whether this process orders.
enum Lead {
    Follows,
    /// It has become the leader, and has yet to read what its predecessor knew.
    Takes,
    Leads,
}

struct Runner {
    edge: Arc<Edge>,
    issuers: Option<ObjectKey>,
    /// The issuer of Ingresses that name none.
    default: Option<String>,
    tending: Tending,
    maps: Named<ConfigMap>,
    cluster: Option<InCluster>,
    manifests: Manifests,
    problems: watch::Sender<Arc<[Problem]>>,
    secrets: mpsc::UnboundedSender<Input>,
    board: Arc<StatusBoard>,
    metrics: AcmeMetrics,
    orders: JoinSet<(ObjectKey, Outcome)>,
    checks: JoinSet<(ObjectKey, Renewal)>,
    account_keys: AccountKeys,
    /// Removes TXT records of an order that is not under way any more.
    cleaner: JoinSet<()>,
    /// That order's Secret.
    cleaning: Option<ObjectKey>,
    running: BTreeMap<ObjectKey, Order>,
    is_complete: bool,
    lead: Lead,
    folder: FolderWatch,
}

impl Runner {
    async fn run(mut self, mut heard: mpsc::UnboundedReceiver<Told>) {
        if let Store::Cluster(cluster) = &self.edge.store {
            let wanted: BTreeSet<ObjectKey> =
                self.issuers.iter().cloned().chain([cluster.board(), cluster.roots()]).collect();
            self.maps.watch(&wanted);
        }
        let mut leader = self.cluster.as_ref().map(|cluster| cluster.leader.clone());
        loop {
            let leads = match &mut leader {
                Some(leader) => *leader.borrow_and_update(),
                None => self.look_at_folder(),
            };
            self.lead(leads).await;
            let pause = self.work().await;
            let changed = async {
                match &mut leader {
                    // A sender that is gone has said its last word.
                    Some(leader) => match leader.changed().await {
                        Ok(()) => {}
                        Err(_) => std::future::pending().await,
                    },
                    None => sleep(FOLDER).await,
                }
            };
            tokio::select! {
                told = heard.recv() => match told {
                    Some(told) => {
                        self.hear(told);
                        while let Ok(told) = heard.try_recv() {
                            self.hear(told);
                        }
                    }
                    None => return,
                },
                change = self.maps.changed() => self.config_map(change),
                Some(ended) = self.orders.join_next() => match ended {
                    Ok((key, outcome)) => self.ended(&key, outcome),
                    Err(error) if error.is_cancelled() => {}
                    // Which one it was can't be told; all are gone on with.
                    Err(error) => {
                        tracing::error!(%error, "an order has failed within this program");
                        self.orders.abort_all();
                        self.running.clear();
                    }
                },
                Some(checked) = self.checks.join_next() => if let Ok((key, renewal)) = checked {
                    self.asked_about_renewal(&key, renewal);
                },
                Some(changed) = self.account_keys.running.join_next() => if let Ok((issuer, outcome)) = changed {
                    self.account_key_changed(issuer, outcome);
                },
                Some(_) = self.cleaner.join_next() => self.cleaning = None,
                () = changed => {}
                () = sleep(pause) => {}
            }
        }
    }

    fn hear(&mut self, told: Told) {
        match told {
            Told::Asked(asked) => self.edge.memory().world.ask(asked),
            Told::Complete => self.is_complete = true,
            Told::Changed(Input::Secret(change)) => {
                if self.cluster.is_none() {
                    self.note_manifests(&change);
                }
                self.edge.memory().world.secrets(change);
            }
            Told::Changed(Input::ConfigMap(change)) if self.cluster.is_none() => self.issuers_changed(&change),
            Told::Changed(_) => {}
        }
    }

    fn config_map(&mut self, change: Input) {
        let Input::NamedConfigMap(change) = change else { return };
        let map = match &change {
            Change::Apply(map) => Some(&**map),
            Change::Delete(_) | Change::Replace(_) => None,
        };
        let (own, roots) = match &self.edge.store {
            Store::Cluster(cluster) => (Some(cluster.board()), Some(cluster.roots())),
            Store::Folder(_) => (None, None),
        };
        let key = key_of(&change);
        if key == roots {
            if matches!(self.lead, Lead::Follows) {
                self.edge.roots.follow(Cluster::read_roots(map));
            }
        } else if key != own {
            self.issuers_changed(&change);
        } else if matches!(self.lead, Lead::Follows) {
            match Cluster::read(map) {
                Ok(shared) => self.edge.follow(shared),
                Err(error) => tracing::warn!(%error, "what the leader shares can't be read"),
            }
        }
    }

    fn issuers_changed(&self, change: &Change<ConfigMap>) {
        let Some(wanted) = &self.issuers else { return };
        let found = match change {
            Change::Replace(all) => all.iter().find(|map| meta_key(map) == *wanted),
            Change::Apply(map) if meta_key(map) == *wanted => Some(map),
            Change::Delete(key) if key == wanted => None,
            Change::Apply(_) | Change::Delete(_) => return,
        };
        let empty = BTreeMap::new();
        let data = found.map(|map| map.data.as_ref().unwrap_or(&empty));
        self.edge.memory().world.set_issuers(data.map(|data| (wanted, data)));
    }

    /// Begins or ceases to order.
    async fn lead(&mut self, leads: bool) {
        match (&self.lead, leads) {
            (Lead::Leads | Lead::Takes, false) => {
                self.orders.abort_all();
                self.checks.abort_all();
                self.account_keys.running.abort_all();
                self.cleaner.abort_all();
                self.cleaning = None;
                self.running.clear();
                self.lead = Lead::Follows;
            }
            (Lead::Follows, true) => {
                self.lead = Lead::Takes;
                // Others may have looked after the roots meanwhile.
                self.tending = Tending::default();
                self.account_keys = AccountKeys::default();
            }
            _ => {}
        }
        if matches!(self.lead, Lead::Takes) {
            match self.edge.store.load().await {
                Ok(shared) => {
                    self.edge.begin_to_lead().await;
                    self.edge.follow(shared);
                    self.lead = Lead::Leads;
                }
                Err(error) => tracing::warn!(%error, "what was tried can't be read, so nothing is ordered yet"),
            }
        }
    }

    /// Does what there is to do; returns how long there will be nothing.
    async fn work(&mut self) -> Duration {
        if !self.is_complete {
            return LONGEST_PAUSE;
        }
        let now = unix_now().as_secs();
        let leads = matches!(self.lead, Lead::Leads);
        let mut running: BTreeSet<ObjectKey> = self.running.keys().cloned().collect();
        let (mut tend, mut clean, mut rolled) = (None, None, None);
        if leads {
            self.edge.tidy(&running);
            clean = self.clean(&running, now);
            // What is removed now must not be set anew meanwhile.
            running.extend(self.cleaning.clone());
            rolled = self.tend_account_keys(now);
            tend = self.tending.tend(&self.edge, self.default.as_deref(), now).await;
        }
        let plan = self.edge.memory().world.plan(now, &running);
        let next = plan.next.into_iter().chain(tend).chain(clean).chain(rolled).min();
        let mut pause = next.map_or(LONGEST_PAUSE, |next| Duration::from_secs(next.saturating_sub(now).max(1)));
        self.tell(&plan);
        if leads {
            plan.orders.into_iter().for_each(|order| self.begin(order));
            if self.checks.is_empty() {
                plan.checks.into_iter().take(AT_ONCE).for_each(|check| self.ask_about_renewal(check, now));
            }
            if let Err(error) = self.edge.save().await {
                tracing::warn!(%error, "what was tried can't be kept");
                pause = pause.min(RETRY);
            }
        } else if matches!(self.lead, Lead::Takes) {
            pause = RETRY;
        }
        pause.min(LONGEST_PAUSE)
    }

    /// Removes what orders have left behind that have ended with a former process; says when to look again.
    fn clean(&mut self, running: &BTreeSet<ObjectKey>, now: u64) -> Option<u64> {
        if self.cleaning.is_some() {
            return None;
        }
        let (due, next) = self.edge.memory().world.leftovers(running, now);
        let Some(first) = due.first().map(|record| record.secret.clone()) else { return next };
        let edge = self.edge.clone();
        self.cleaning = ObjectKey::parse(&first);
        let due: Vec<_> = due.into_iter().filter(|record| record.secret == first).collect();
        self.cleaner.spawn(async move { dns::clean_up(&edge, &due).await });
        next
    }

    fn tell(&self, plan: &Plan) {
        self.board.certificates(&plan.views);
        self.metrics.stand(&plan.views);
        self.problems.send_if_modified(|problems| {
            let is_news = **problems != *plan.problems;
            if is_news {
                *problems = plan.problems.clone().into();
            }
            is_news
        });
    }

    fn begin(&mut self, order: Order) {
        let key = order.secret.clone();
        let (secret, hosts) = (key.to_string(), order.hosts.join(", "));
        tracing::info!(secret, issuer = order.issuer.name, hosts, renewal = order.is_renewal, "certificate ordered");
        let note = format!("a certificate for {hosts} is ordered from issuer {}", order.issuer.name);
        // What is tried again and again is told once, by its Problem.
        let is_first = self
            .edge
            .memory()
            .world
            .state()
            .certificates
            .get(&secret)
            .is_none_or(|state| state.trouble.is_none() && state.hosts.is_empty());
        if is_first {
            self.happened(&order.ingresses, reason::CERTIFICATE_ORDERED, &note);
        }
        self.running.insert(key.clone(), order.clone());
        let edge = self.edge.clone();
        self.orders.spawn(async move { (key, order::carry_out(edge, order).await) });
    }

    fn ended(&mut self, key: &ObjectKey, outcome: Outcome) {
        let Some(order) = self.running.remove(key) else { return };
        let issuer = order.issuer.name.as_str();
        for (host, failure) in &outcome.hosts {
            let reason = failure.kind.reason().as_str();
            self.metrics.failed(issuer, reason);
            tracing::warn!(secret = %key, host, issuer, reason, error = failure.error, "a host can't be proven");
        }
        if let Some(failure) = &outcome.whole {
            let reason = failure.kind.reason().as_str();
            self.metrics.failed(issuer, reason);
            tracing::warn!(secret = %key, issuer, reason, error = failure.error, "a certificate can't be had");
        }
        if let Some(lost) = &outcome.lost_account {
            let note = format!("issuer {issuer} does not know the account {lost} any more; another one was opened");
            self.happened(&order.ingresses, reason::ACME_ACCOUNT_REPLACED, &note);
        }
        if let Some(facts) = outcome.issued.as_ref().and_then(|existing| existing.certificate.as_ref()) {
            self.metrics.issued(issuer);
            let names = facts.names.iter().cloned().collect::<Vec<_>>().join(", ");
            tracing::info!(secret = %key, issuer, names, expires = facts.not_after, "certificate issued");
            let how = if order.is_renewal { "renewed" } else { "issued" };
            let note =
                format!("the certificate for {names} was {how} by issuer {issuer} and is in Secret {}", key.name());
            self.happened(&order.ingresses, reason::CERTIFICATE_ISSUED, &note);
        }
        self.edge.memory().world.ended(key, issuer, outcome, unix_now().as_secs());
    }

    fn happened(&self, ingresses: &[ObjectKey], reason: landfall_model::Reason, note: &str) {
        let Some(cluster) = &self.cluster else { return };
        for ingress in ingresses {
            let object = ObjectRef::new("Ingress", ingress.clone());
            let Some(uid) = cluster.uids.get(&object) else { continue };
            let reference = ObjectReference {
                api_version: Some("networking.k8s.io/v1".to_owned()),
                kind: Some("Ingress".to_owned()),
                namespace: Some(ingress.namespace().to_owned()),
                name: Some(ingress.name().to_owned()),
                uid: Some(uid),
                ..ObjectReference::default()
            };
            cluster.events.happened(reference, reason, note);
        }
    }
}

fn meta_key(map: &ConfigMap) -> ObjectKey {
    let meta = &map.metadata;
    ObjectKey::of(meta)
}

fn key_of(change: &Change<ConfigMap>) -> Option<ObjectKey> {
    match change {
        Change::Apply(map) => Some(meta_key(map)),
        Change::Delete(key) => Some(key.clone()),
        Change::Replace(_) => None,
    }
}
