//! What changes for each Ingress of ingress-nginx when Landfall serves it: what is answered alike, what differs, what
//! is refused and what to write instead.
//!
//! [`Migration`] takes the objects of a cluster or a folder, finds ingress-nginx among them, compiles everything as it
//! would be served, and gives a typed [`Report`]. It is pure: who reads the objects and prints the report is outside.

mod annotations;
mod comparison;
mod controller;
mod findings;
mod flags;
mod html;
mod options;
mod probes;
mod problems;
mod quirks;
mod report;
mod review;
mod silent;
mod text;
mod values;

use std::collections::BTreeMap;
use std::sync::Arc;

use k8s_openapi::api::apps::v1::{DaemonSet, Deployment};
use k8s_openapi::api::core::v1::ConfigMap;
use k8s_openapi::api::networking::v1::Ingress;
use landfall_model::{Change, ObjectKey};
use rustls_pki_types::UnixTime;

use crate::compiler::{Built, Compiler};
use crate::input::Input;
use crate::settings::{Origin, Settings};

pub use comparison::{Comparison, Difference, Seen, differences};
pub use controller::Flag;
pub use findings::{Finding, Verdict};
pub use flags::inherited;
pub use html::Html;
pub use probes::{Method, Probe, Scheme, probes};
pub use report::{
    Annotation, ControllerReport, Effect, Foreign, IngressReport, Report, RouteReport, Setting, Summary, Tally,
};

use controller::{Controller, Workload};

/// One change to the objects that a report is made from.
#[derive(Clone, Debug)]
pub enum Fact {
    /// What the ingress reads.
    Input(Input),
    /// A Deployment, which may run ingress-nginx.
    Deployment(Change<Deployment>),
    /// A `DaemonSet`, which may run ingress-nginx.
    DaemonSet(Change<DaemonSet>),
}

/// What the command line says about the controller that is left.
#[derive(Clone, Debug, Default)]
pub struct Choice {
    /// The Deployment or `DaemonSet` that runs it; the oldest one that is found where none is named.
    pub workload: Option<ObjectKey>,
    /// Flags that it runs with, besides those of the workload: `--name=value`.
    pub flags: Vec<String>,
}

/// Objects to be migrated.
#[derive(Debug)]
pub struct Migration {
    settings: Settings,
    choice: Choice,
    inputs: Vec<Input>,
    ingresses: BTreeMap<ObjectKey, Arc<Ingress>>,
    config_maps: BTreeMap<ObjectKey, BTreeMap<String, String>>,
    workloads: BTreeMap<ObjectKey, Workload>,
    /// Whether there was any Secret, and any Service: a folder may leave them out.
    has_secrets: bool,
    has_services: bool,
}

/// Objects as they would be served.
#[derive(Debug)]
pub struct Compiled {
    /// Knows every route.
    pub compiler: Compiler,
    /// The first table, and what is missing for it.
    pub built: Built,
    controller: Controller,
}

impl Migration {
    /// Knows no object yet. `settings` are those that Landfall is going to have; what ingress-nginx was started with is
    /// added to them.
    pub fn new(settings: Settings, choice: Choice) -> Self {
        Self {
            settings,
            choice,
            inputs: Vec::new(),
            ingresses: BTreeMap::new(),
            config_maps: BTreeMap::new(),
            workloads: BTreeMap::new(),
            has_secrets: false,
            has_services: false,
        }
    }

    /// Takes changes in.
    pub fn apply(&mut self, facts: impl IntoIterator<Item = Fact>) {
        for fact in facts {
            match fact {
                Fact::Input(input) => {
                    self.look_at(&input);
                    self.inputs.push(input);
                }
                Fact::Deployment(change) => self.take_workloads(&change, Workload::of_deployment),
                Fact::DaemonSet(change) => self.take_workloads(&change, Workload::of_daemon_set),
            }
        }
    }

    /// Keeps what the model forgets once it has read it.
    fn look_at(&mut self, input: &Input) {
        match input {
            Input::Ingress(change) => {
                for ingress in objects(change) {
                    self.ingresses.insert(ObjectKey::of(&ingress.metadata), ingress.clone());
                }
            }
            Input::ConfigMap(change) | Input::NamedConfigMap(change) => {
                for map in objects::<ConfigMap>(change) {
                    self.config_maps.insert(ObjectKey::of(&map.metadata), map.data.clone().unwrap_or_default());
                }
            }
            // A cluster that has none was asked; a folder may leave them out.
            Input::Secret(change) | Input::NamedSecret(change) => {
                self.has_secrets |= self.settings.origin == Origin::Cluster || !objects(change).is_empty();
            }
            Input::Service(change) => self.has_services |= !objects(change).is_empty(),
            _ => {}
        }
    }

    fn take_workloads<K>(&mut self, change: &Change<K>, read: fn(&K) -> Option<Workload>) {
        for workload in objects(change).iter().filter_map(|object| read(object)) {
            self.workloads.insert(workload.key.clone(), workload);
        }
    }

    /// Compiles the objects as Landfall would serve them. The time decides about certificates.
    pub fn compile(&self, now: UnixTime) -> Compiled {
        let controller = Controller::find(&self.workloads, &self.choice);
        let mut settings = self.settings.clone();
        controller.amend(&mut settings);
        let mut compiler = Compiler::new(settings);
        compiler.apply(self.inputs.iter().cloned());
        let built = compiler.build(now);
        Compiled { compiler, built, controller }
    }

    /// The `ConfigMap` with ingress-nginx's options, by its flags or by the command line.
    pub fn config_map(&self) -> Option<ObjectKey> {
        let mut settings = self.settings.clone();
        Controller::find(&self.workloads, &self.choice).amend(&mut settings);
        settings.config_map
    }

    /// What becomes of each Ingress, option and flag.
    pub fn report(&self, compiled: &Compiled) -> Report {
        report::make(self, compiled)
    }
}

/// The objects of a change that are there after it.
fn objects<K>(change: &Change<K>) -> &[Arc<K>] {
    match change {
        Change::Replace(objects) => objects,
        Change::Apply(object) => std::slice::from_ref(object),
        Change::Delete(_) => &[],
    }
}
