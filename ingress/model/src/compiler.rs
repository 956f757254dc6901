//! The compiler: Kubernetes objects in, table, backends, statuses and problems out, as little anew as possible.
//!
//! It remembers what every object said and who uses what. A change marks what it touches; [`Compiler::build`] then
//! works on that alone: an endpoint change on its backends, an Ingress change on its hosts, a Secret change on the
//! names it is used for.
//!
//! **Invariant:** after any history of changes, a build gives what a new compiler gives that is fed with the same
//! objects.

pub mod annotations;
mod asked;
mod auth;
pub(crate) mod backends;
pub(crate) mod certificates;
pub(crate) mod class;
mod config_maps;
mod endpoints;
mod entries;
mod external;
pub(crate) mod ingress;
pub(crate) mod link;
mod names;
mod notes;
pub(crate) mod options;
mod overlap;
pub(crate) mod ownership;
mod preferences;
mod report;
mod routes;
mod service;
pub(crate) mod set;
pub(crate) mod snippets;
pub(crate) mod store;
mod streams;
pub(crate) mod suggest;
mod tables;
mod tls_policies;
mod users;

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::sync::Arc;

use k8s_openapi::api::core::v1::Service;
use k8s_openapi::api::networking::v1::Ingress;
use landfall_model::{Change, ObjectKey, Problem};
use rustls_pki_types::UnixTime;

use crate::acme::ask::Asked;
use crate::backend::{Backend, BackendState};
use crate::host::HostPattern;
use crate::input::Input;
use crate::settings::Settings;
use crate::status::{IngressStatus, Publisher, Views};
use crate::table::{Dialect, HttpsRedirect, RoutePolicy, Table};

use annotations::Annotations;
use backends::{Backends, PoolKey};
use certificates::Secrets;
use class::Classes;
use config_maps::ConfigMaps;
use ingress::{Age, StoredIngress};
use link::Linked;
use notes::Notes;
use options::Options;
use overlap::Overlaps;
use ownership::Covered;
use report::Reports;
use set::SmallSet;
use store::Store;
use streams::StreamMaps;
use users::Users;

/// What a build gives.
#[derive(Clone, Debug)]
pub struct Built {
    /// The table; the very same one as before if nothing in it changed.
    pub table: Arc<Table>,
    /// New states of backends that stay. A publisher stores each by [`Backend::publish`].
    pub backends: Vec<(Arc<Backend>, Arc<BackendState>)>,
    /// The statuses for which something changed since the last build.
    pub statuses: Vec<IngressStatus>,
    /// Every Ingress of ours.
    pub ingresses: Views,
    /// Every Problem there is, sorted.
    pub problems: Arc<[Problem]>,
    /// Secrets that class nginx names and that are of no known type: it takes any type, so they are to be asked for by
    /// name. The very same set as before if nothing in it changed.
    pub missing_secrets: Arc<BTreeSet<ObjectKey>>,
    /// `ConfigMap`s that are named and that no source has.
    pub missing_config_maps: Arc<BTreeSet<ObjectKey>>,
    /// The certificates that are asked for, the oldest Ingress first. The very same list as before if nothing in it
    /// changed.
    pub asked: Arc<[Asked]>,
    /// When time alone will change the outcome: a certificate becomes valid or expires.
    pub next_deadline: Option<UnixTime>,
}

/// Compiles objects into what the data path and the status writer need.
#[derive(Debug)]
pub struct Compiler {
    pub(crate) settings: Settings,
    pub(crate) classes: Classes,
    pub(crate) ingresses: Store<StoredIngress>,
    pub(crate) backends: Backends,
    secrets: Secrets,
    config_maps: ConfigMaps,
    streams: StreamMaps,
    /// What the `ConfigMap` of ingress-nginx says, and what is wrong with it.
    options: Options,
    option_problems: Vec<Problem>,
    publisher: Publisher,
    /// The Ingresses of ours.
    pub(crate) linked: HashMap<ObjectKey, Box<Linked>>,
    /// How many of them are in the dialect of ingress-nginx.
    nginx: usize,
    /// Which Ingresses have routes for a host.
    pub(crate) hosts: HashMap<HostPattern, SmallSet<Age>>,
    /// Which Ingresses have a TLS entry for a name.
    names: HashMap<HostPattern, SmallSet<Age>>,
    /// Hosts for which there is a TLS entry that may speak for routes of theirs.
    covered: HashMap<HostPattern, Covered>,
    /// Which Ingresses are canaries for a host.
    canaries: HashMap<HostPattern, SmallSet<Age>>,
    /// Which Ingresses ask for certificates.
    askers: BTreeSet<Age>,
    /// Which Ingresses give hosts further names.
    namers: BTreeSet<Age>,
    /// Which Ingresses have a Service answer in the place of others.
    default_users: Users,
    /// Which Ingresses are nothing but a default backend.
    defaults: BTreeSet<Age>,
    /// The policies that most routes have: those of Ingresses without annotations.
    policies: Vec<Arc<RoutePolicy>>,
    /// What is wrong with the class of an Ingress, ours or not.
    class_problems: BTreeMap<ObjectKey, Problem>,
    default_certificate_problem: Option<Problem>,
    /// What became of an Ingress in competition with others.
    notes: Notes,
    overlaps: Overlaps,
    reports: Reports,
    asked: Arc<[Asked]>,
    pub(crate) table: Arc<Table>,
    dirty: Dirty,
}

/// What changes have touched since the last build.
#[derive(Debug, Default)]
struct Dirty {
    classes: bool,
    ingresses: BTreeSet<ObjectKey>,
    /// Only `status` differs.
    observed: BTreeSet<ObjectKey>,
    services: BTreeSet<ObjectKey>,
    /// Services that came or went, for messages that name similar ones.
    existence: BTreeSet<ObjectKey>,
    secrets: BTreeSet<ObjectKey>,
    publisher: bool,
}

/// What a build has found to do or to tell.
#[derive(Debug, Default)]
struct Effects {
    hosts: BTreeSet<HostPattern>,
    /// Names whose certificate may be another one.
    names: BTreeSet<HostPattern>,
    default: bool,
    default_certificate: bool,
    released: BTreeSet<PoolKey>,
    /// Backends that Ingresses have come to use, or use no longer.
    used: BTreeSet<PoolKey>,
    published: Vec<(Arc<Backend>, Arc<BackendState>)>,
    /// Ingresses about which there is something new to tell.
    views: BTreeSet<ObjectKey>,
    problems: bool,
}

/// What an Ingress without annotations can get.
fn plain_policies(options: &Options) -> Vec<Arc<RoutePolicy>> {
    let annotations = Annotations::default();
    let plain = |dialect| {
        let redirects = [HttpsRedirect::Never, annotations.https_redirect(dialect, options)];
        redirects.map(|redirect| Arc::new(annotations.policy(dialect, options, redirect, None, 0)))
    };
    [Dialect::Kubernetes, Dialect::IngressNginx].into_iter().flat_map(plain).collect()
}

impl Compiler {
    /// A compiler that knows no object yet.
    pub fn new(settings: Settings) -> Self {
        Self {
            classes: Classes::default(),
            ingresses: Store::default(),
            backends: Backends::new(&settings),
            secrets: Secrets::new(&settings),
            config_maps: ConfigMaps::new(streams::named(&settings).map(|(_, map)| map.clone())),
            streams: StreamMaps::default(),
            policies: plain_policies(&Options::default()),
            options: Options::default(),
            option_problems: Vec::new(),
            publisher: Publisher::new(settings.publish.clone()),
            linked: HashMap::new(),
            nginx: 0,
            hosts: HashMap::new(),
            names: HashMap::new(),
            covered: HashMap::new(),
            canaries: HashMap::new(),
            default_users: Users::default(),
            askers: BTreeSet::new(),
            namers: BTreeSet::new(),
            defaults: BTreeSet::new(),
            class_problems: BTreeMap::new(),
            default_certificate_problem: None,
            notes: Notes::default(),
            overlaps: Overlaps::default(),
            reports: Reports::default(),
            asked: Arc::default(),
            table: Arc::default(),
            dirty: Dirty::default(),
            settings,
        }
    }

    /// Takes changes in. Nothing is compiled before the next [`Compiler::build`].
    pub fn apply(&mut self, inputs: impl IntoIterator<Item = Input>) {
        for input in inputs {
            match input {
                Input::Ingress(change) => self.apply_ingresses(change),
                Input::IngressClass(change) => self.dirty.classes |= self.classes.apply(change),
                Input::Service(change) => self.apply_services(change),
                Input::EndpointSlice(change) => {
                    self.dirty.services.extend(self.backends.endpoints.slices(change));
                }
                Input::Endpoints(change) => {
                    self.dirty.services.extend(self.backends.endpoints.endpoints(change));
                }
                Input::Secret(change) => self.dirty.secrets.extend(self.secrets.apply(change)),
                Input::NamedSecret(change) => self.dirty.secrets.extend(self.secrets.apply_named(change)),
                Input::ConfigMap(change) => {
                    let changed = self.config_maps.apply(change);
                    self.config_maps_changed(&changed);
                }
                Input::NamedConfigMap(change) => {
                    let changed = self.config_maps.apply_named(change);
                    self.config_maps_changed(&changed);
                }
                Input::Node(change) => {
                    self.publisher.nodes(change);
                    self.dirty.publisher = true;
                }
                Input::Pod(change) => {
                    self.publisher.pods(change);
                    self.dirty.publisher = true;
                }
            }
        }
    }

    fn apply_ingresses(&mut self, change: Change<Ingress>) {
        let changed = self.ingresses.apply(change, |ingress| &ingress.metadata, ingress::parse);
        for (key, old) in changed {
            let new = self.ingresses.get(&key);
            let is_same = matches!((&old, new), (Some(old), Some(new)) if old.parsed == new.parsed);
            self.dirty.observed.insert(key.clone());
            if !is_same {
                self.dirty.ingresses.insert(key);
            }
        }
    }

    /// The options hold for every Ingress of their dialect, so a change of them is one of all.
    fn config_maps_changed(&mut self, changed: &[ObjectKey]) {
        for key in changed {
            self.dirty.ingresses.extend(self.config_maps.users(key).cloned());
            self.streams.is_stale |= streams::named(&self.settings).any(|(_, map)| map == key);
        }
        let Some(key) = self.settings.config_map.clone() else { return };
        if changed.is_empty() {
            return;
        }
        let data = self.config_maps.get(&key).cloned().unwrap_or_default();
        let mut others = BTreeSet::new();
        let other = |name: &str| {
            let key = ObjectKey::parse(name)?;
            others.insert(key.clone());
            self.config_maps.get(&key)
        };
        let (options, problems) = Options::parse(&data, &key, other);
        self.config_maps.set_of_options(others);
        self.dirty.publisher |= problems != self.option_problems;
        self.option_problems = problems;
        if options != self.options {
            self.dirty.classes = true;
            self.streams.is_stale = true;
            self.policies = plain_policies(&options);
            self.options = options;
        }
    }

    fn apply_services(&mut self, change: Change<Service>) {
        self.publisher.services(&change);
        self.dirty.publisher = true;
        let changed = self.backends.services.apply(change, |service| &service.metadata, service::parse);
        for (key, old) in changed {
            if old.is_none() || self.backends.services.get(&key).is_none() {
                self.dirty.existence.insert(key.clone());
            }
            self.dirty.services.insert(key);
        }
    }

    /// Compiles what has changed. `now` decides about the validity of certificates.
    pub fn build(&mut self, now: UnixTime) -> Built {
        let passed = self.secrets.pass_time(now);
        self.dirty.secrets.extend(passed);
        let mut dirty = std::mem::take(&mut self.dirty);
        let first = self.table.generation == 0;
        let mut effects = Effects {
            default: first,
            default_certificate: first,
            problems: first || dirty.classes || dirty.publisher,
            ..Effects::default()
        };
        if dirty.classes {
            dirty.ingresses.extend(self.ingresses.iter().map(|(key, _)| key.clone()));
        }
        for secret in &dirty.secrets {
            dirty.ingresses.extend(self.secrets.users(secret).cloned());
            effects.default_certificate |= self.settings.default_certificate.as_ref() == Some(secret);
        }
        for service in &dirty.services {
            dirty.ingresses.extend(self.default_users.of(service).cloned());
        }
        self.refresh_backends(&dirty, &mut effects);
        self.relink(&dirty.ingresses, &mut effects);
        self.prefer(&mut effects);
        self.rebuild_table(first, &mut effects);
        self.backends.drop_unused(&effects.released);
        if dirty.publisher && self.publisher.refresh() {
            effects.views.extend(self.linked.keys().cloned());
        }
        if first || !dirty.ingresses.is_empty() {
            self.collect_asked();
        }
        let statuses = self.report(&dirty.observed, &effects);
        Built {
            table: self.table.clone(),
            backends: effects.published,
            statuses,
            ingresses: self.reports.views.clone(),
            problems: self.reports.problems.clone(),
            missing_secrets: self.secrets.missing(),
            missing_config_maps: self.config_maps.missing(),
            asked: self.asked.clone(),
            next_deadline: self.secrets.next_deadline(),
        }
    }

    /// The table of the last build.
    pub fn table(&self) -> &Arc<Table> {
        &self.table
    }

    /// Brings the backends of changed Services and endpoints up to date.
    fn refresh_backends(&mut self, dirty: &Dirty, effects: &mut Effects) {
        let mut pools: BTreeSet<PoolKey> = BTreeSet::new();
        for service in &dirty.services {
            pools.extend(self.backends.of_service(service));
            effects.default |= self.settings.default_backend.as_ref() == Some(service);
        }
        for service in &dirty.existence {
            pools.extend(self.backends.unknown_in(service.namespace()));
        }
        for key in pools {
            let refreshed = self.backends.refresh(&key);
            effects.published.extend(refreshed.publish);
            if refreshed.news {
                effects.problems = true;
                effects.views.extend(self.backends.get(&key).into_iter().flat_map(|pool| pool.users.iter().cloned()));
            }
        }
    }
}
