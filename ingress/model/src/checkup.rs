//! What `check` says of a cluster: facts in, findings out. What Ingresses mean is the [`crate::compiler`]'s to say; here
//! is what surrounds them, from the address over the Ingress to the pods.

mod address;
mod backends;
mod labels;
mod names;
mod policies;

use std::collections::BTreeMap;
use std::net::IpAddr;
use std::sync::Arc;

use k8s_openapi::api::apps::v1::{DaemonSet, Deployment};
use k8s_openapi::api::core::v1::{Namespace, Pod, Service};
use k8s_openapi::api::networking::v1::{Ingress, IngressBackend, IngressClass, NetworkPolicy};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::ObjectMeta;
use landfall_model::checkup::{Role, Workloads, pod_security, rivals};
use landfall_model::{Findings, ObjectKey, ObjectRef, Problem, Reason};

use crate::compiler::Built;
use crate::compiler::class::{CLASS_ANNOTATION, DEFAULT_ANNOTATION};
use crate::reason;
use crate::settings::Settings;

/// The selector of a Service selects no pod.
pub const NO_MATCHING_PODS: Reason = Reason::new("NoMatchingPods");
/// Pods of a Service are not Ready.
pub const PODS_NOT_READY: Reason = Reason::new("PodsNotReady");
/// A Service sends to a port that its pods don't have.
pub const UNKNOWN_TARGET_PORT: Reason = Reason::new("UnknownTargetPort");
/// A `NetworkPolicy` keeps the ingress from pods that it sends to.
pub const BLOCKED_BY_POLICY: Reason = Reason::new("BlockedByPolicy");
/// A host has no address in the DNS.
pub const DNS_MISSING: Reason = Reason::new("DnsMissing");
/// A host has another address in the DNS than the ingress has.
pub const DNS_ELSEWHERE: Reason = Reason::new("DnsElsewhere");
/// The ingress has no address that clients could use.
pub const NO_ADDRESS: Reason = Reason::new("NoAddress");
/// An Ingress of another controller's class that nobody has served so far.
pub const CLASS_NOT_SERVED: Reason = Reason::new("ClassNotServed");
/// No `IngressClass` belongs to this controller.
pub const NO_CLASS: Reason = Reason::new("NoClass");

/// The reason codes that only `check` has.
pub const ALL: &[Reason] = &[
    NO_MATCHING_PODS,
    PODS_NOT_READY,
    UNKNOWN_TARGET_PORT,
    BLOCKED_BY_POLICY,
    DNS_MISSING,
    DNS_ELSEWHERE,
    NO_ADDRESS,
    NO_CLASS,
    CLASS_NOT_SERVED,
];

/// What a look-up of a host gave.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Lookup {
    /// These addresses.
    Addresses(Vec<IpAddr>),
    /// There is no such name, or it has no address.
    Missing,
    /// Nobody answered.
    Failed(String),
}

/// What was read of the cluster beside what the compiler was fed with.
#[derive(Clone, Debug, Default)]
pub struct Facts {
    /// The namespace of the ingress.
    pub namespace: String,
    /// The object of that name.
    pub own: Option<Arc<Namespace>>,
    /// All classes.
    pub classes: Vec<Arc<IngressClass>>,
    /// All Ingresses.
    pub ingresses: Vec<Arc<Ingress>>,
    /// All Services.
    pub services: Vec<Arc<Service>>,
    /// All pods; `None` if they may not be read.
    pub pods: Option<Vec<Arc<Pod>>>,
    /// All namespaces, for policies that select by their labels.
    pub namespaces: Vec<Arc<Namespace>>,
    /// All policies.
    pub policies: Vec<Arc<NetworkPolicy>>,
    /// All Deployments.
    pub deployments: Vec<Arc<Deployment>>,
    /// All `DaemonSet`s.
    pub daemon_sets: Vec<Arc<DaemonSet>>,
    /// The Service whose addresses are published.
    pub publish_service: Option<ObjectKey>,
    /// Whether Secrets could be read.
    pub reads_secrets: bool,
}

impl Facts {
    /// The ingress as a workload.
    pub fn workloads(&self) -> Workloads<'_> {
        Workloads {
            part: "ingress",
            component: "ingress",
            deployments: &self.deployments,
            daemon_sets: &self.daemon_sets,
            pods: self.pods.as_deref().unwrap_or_default(),
        }
    }

    /// Everything but what the DNS says.
    pub fn judge(&self, built: &Built, settings: &Settings) -> Findings {
        let mut findings = Findings::new();
        if self.uses_node_network() {
            findings.extend(pod_security(&self.namespace, self.own.as_deref()));
        }
        findings.extend(rivals(Role::Ingress, &self.deployments, &self.daemon_sets));
        findings.extend(self.classes(settings));
        findings.extend(self.workloads().judge());
        findings.extend(address::judge(self));
        let problems = built.problems.iter().filter(|problem| self.reads_secrets || !is_about_secrets(problem));
        let count = built.ingresses.len();
        let others = self.ingresses.len().saturating_sub(count);
        findings.all(
            "ingresses",
            problems.cloned(),
            format!("{count} Ingresses are served and nothing is wrong with them; {others} are left to others"),
        );
        if !self.reads_secrets {
            findings.unknown("certificates", "the certificates were not looked at, since you may not list Secrets");
        }
        let users = self.users(built);
        findings.extend(backends::judge(self, &users));
        findings.extend(policies::judge(self, &users));
        findings
    }

    /// What the DNS says of hosts, by what was looked up.
    pub fn judge_names(&self, built: &Built, lookups: &BTreeMap<String, Lookup>) -> Findings {
        names::judge(self, built, lookups)
    }

    /// The hosts to look up: of every Ingress of ours that has an address.
    pub fn hosts(&self, built: &Built) -> Vec<String> {
        names::hosts(self, built)
    }

    fn uses_node_network(&self) -> bool {
        let templates =
            self.deployments.iter().map(|object| (&object.metadata, object.spec.as_ref().map(|s| &s.template)));
        let sets = self.daemon_sets.iter().map(|object| (&object.metadata, object.spec.as_ref().map(|s| &s.template)));
        let ours = templates.chain(sets).filter(|(meta, _)| self.workloads().owns(meta));
        ours.filter_map(|(_, template)| template?.spec.as_ref()).any(|spec| {
            let ports = spec.containers.iter().flat_map(|container| container.ports.iter().flatten());
            spec.host_network == Some(true) || ports.into_iter().any(|port| port.host_port.is_some())
        })
    }

    fn classes(&self, settings: &Settings) -> Findings {
        let ours = |class: &&Arc<IngressClass>| {
            let controller = class.spec.as_ref().and_then(|spec| spec.controller.as_deref()).unwrap_or_default();
            settings.controller_classes.iter().any(|name| name == controller)
        };
        let names: Vec<&str> =
            self.classes.iter().filter(ours).filter_map(|class| class.metadata.name.as_deref()).collect();
        let mut findings = Findings::new();
        if names.is_empty() && self.workloads().exists() {
            let about = ObjectRef::new("IngressClass", ObjectKey::cluster("landfall"));
            let cause = "there is no IngressClass of this controller, so Ingresses have no class to name";
            let problem =
                Problem::new(about, NO_CLASS, cause).at("spec.controller", settings.controller_classes.join(", "));
            findings
                .bad("classes", problem.remedy("install the chart with ingress.ingressClass.create=true").warning());
        } else if !names.is_empty() {
            findings.good("classes", format!("Ingresses of these classes are served: {}", names.join(", ")));
        }
        if !settings.watch_without_class {
            self.classless().for_each(|problem| findings.bad("classes", problem));
        }
        self.left_to_others(settings, &names).for_each(|problem| findings.bad("classes", problem));
        findings
    }

    /// Ingresses whose class is another controller's, while no controller has given them an address: often what is left
    /// of one that was removed.
    fn left_to_others<'a>(&'a self, settings: &'a Settings, ours: &'a [&str]) -> impl Iterator<Item = Problem> + 'a {
        let left = move |ingress: &'a Arc<Ingress>| {
            let name = ingress.spec.as_ref()?.ingress_class_name.as_deref()?;
            let class = self.classes.iter().find(|class| class.metadata.name.as_deref() == Some(name))?;
            let controller = class.spec.as_ref()?.controller.as_deref()?;
            let served = ingress.status.as_ref().and_then(|status| status.load_balancer.as_ref()?.ingress.as_ref());
            let is_left = !settings.controller_classes.iter().any(|own| own == controller);
            (is_left && served.is_none_or(Vec::is_empty)).then_some((ingress, name, controller))
        };
        self.ingresses.iter().filter_map(left).map(move |(ingress, name, controller)| {
            let about = ObjectRef::new("Ingress", ObjectKey::of(&ingress.metadata));
            let cause =
                format!("this class is left to controller {controller}, which has given the Ingress no address");
            let problem = Problem::new(about, CLASS_NOT_SERVED, cause).at("spec.ingressClassName", name);
            let instead = ours.first().copied().unwrap_or("landfall");
            let remedy = match controller {
                "k8s.io/ingress-nginx" => {
                    format!("set it to {instead}, or have this class served too: ingress.nginx.enabled=true")
                }
                _ => format!("set it to {instead}, or see whether that controller runs"),
            };
            problem.remedy(remedy).warning()
        })
    }

    /// Ingresses that name no class while none is the default. The compiler says nothing of them in a cluster, where
    /// somebody else may serve them.
    fn classless(&self) -> impl Iterator<Item = Problem> {
        let annotated =
            |meta: &ObjectMeta, name: &str| meta.annotations.as_ref().is_some_and(|all| all.contains_key(name));
        let is_default = |class: &Arc<IngressClass>| {
            let all = class.metadata.annotations.as_ref();
            all.and_then(|all| all.get(DEFAULT_ANNOTATION)).is_some_and(|value| value == "true")
        };
        let has_default = self.classes.iter().any(is_default);
        let names_none = move |ingress: &&Arc<Ingress>| {
            let named = ingress.spec.as_ref().is_some_and(|spec| spec.ingress_class_name.is_some());
            !has_default && !named && !annotated(&ingress.metadata, CLASS_ANNOTATION)
        };
        self.ingresses.iter().filter(names_none).map(|ingress| {
            let about = ObjectRef::new("Ingress", ObjectKey::of(&ingress.metadata));
            let cause =
                "no class is named and no IngressClass is the default, so no controller need serve this Ingress";
            let problem = Problem::new(about, reason::NO_INGRESS_CLASS, cause).at("spec.ingressClassName", "");
            let remedy = format!("set it to landfall, or mark an IngressClass with {DEFAULT_ANNOTATION}: \"true\"");
            problem.remedy(remedy).warning()
        })
    }

    /// The backends of the Ingresses of ours: which ports of which Services.
    fn users(&self, built: &Built) -> BTreeMap<ObjectKey, Vec<PortChoice>> {
        let mut users: BTreeMap<ObjectKey, Vec<PortChoice>> = BTreeMap::new();
        let ours = |ingress: &&Arc<Ingress>| built.ingresses.get(&ObjectKey::of(&ingress.metadata)).is_some();
        for ingress in self.ingresses.iter().filter(ours) {
            let namespace = ingress.metadata.namespace.as_deref().unwrap_or_default();
            let Some(spec) = &ingress.spec else { continue };
            let rules = spec.rules.iter().flatten().filter_map(|rule| rule.http.as_ref());
            let backends = rules.flat_map(|http| http.paths.iter().map(|path| &path.backend));
            for (name, port) in spec.default_backend.iter().chain(backends).filter_map(service) {
                let ports = users.entry(ObjectKey::new(namespace, name)).or_default();
                if !ports.contains(&port) {
                    ports.push(port);
                }
            }
        }
        users
    }

    fn service(&self, key: &ObjectKey) -> Option<&Arc<Service>> {
        self.services.iter().find(|service| ObjectKey::of(&service.metadata) == *key)
    }
}

/// A port of a Service as an Ingress names it.
#[derive(Clone, PartialEq, Eq, Debug)]
enum PortChoice {
    Name(String),
    Number(i32),
}

fn service(backend: &IngressBackend) -> Option<(&str, PortChoice)> {
    let service = backend.service.as_ref()?;
    let port = service.port.as_ref()?;
    let port = match (&port.name, port.number) {
        (Some(name), _) => PortChoice::Name(name.clone()),
        (None, Some(number)) => PortChoice::Number(number),
        (None, None) => return None,
    };
    Some((&service.name, port))
}

fn is_about_secrets(problem: &Problem) -> bool {
    problem.reason == reason::UNKNOWN_SECRET
}
