//! A Service as allocation and announcing need it: what it asks for, and what it has.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;
use std::net::IpAddr;
use std::sync::Arc;

use k8s_openapi::api::core::v1::{Service, ServiceSpec};
use landfall_model::{ObjectKey, ObjectRef, Problem};

use crate::address::Family;
use crate::reason;
use crate::selector::{Labels, labels_of};

/// Annotation that names the pool.
pub const ADDRESS_POOL: &str = "metallb.io/address-pool";
/// Annotation with the wanted addresses.
pub const LOAD_BALANCER_IPS: &str = "metallb.io/loadBalancerIPs";
/// Annotation with the sharing key.
pub const ALLOW_SHARED_IP: &str = "metallb.io/allow-shared-ip";
/// Annotation that the controller writes: the pool that the address came from.
pub const ALLOCATED_FROM_POOL: &str = "metallb.io/ip-allocated-from-pool";
/// The condition of a Service that lists the addresses that it was given and that no node has announced since. They may
/// be exchanged for others; without the condition an address stays.
pub const UNANNOUNCED: &str = "landfall.dev/NotYetAnnounced";
/// The older prefix of the same annotations.
const OLD_PREFIX: &str = "metallb.universe.tf/";

/// A port that a Service takes of its address.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
pub struct Port {
    /// `TCP`, `UDP` or `SCTP`.
    pub protocol: Arc<str>,
    /// The number.
    pub number: u16,
}

impl fmt::Display for Port {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/{}", self.protocol, self.number)
    }
}

/// The families that a Service needs addresses of.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Families {
    /// One of this family.
    One(Family),
    /// One, of whichever family is to be had, IPv4 first: a folder's Service that says nothing.
    Either,
    /// Both, or this one if both can't be had.
    Prefer(Family),
    /// Both or nothing.
    Require,
}

impl ServiceFacts {
    /// Whether it asks of an address that it shares what `before` asked.
    pub(crate) fn shares_as(&self, before: &Self) -> bool {
        (&self.sharing, &self.backend, &self.ports) == (&before.sharing, &before.backend, &before.ports)
    }
}

impl Families {
    /// Whether addresses of these families are what it needs; `Prefer` tolerates one.
    pub fn accepts(self, ips: &[IpAddr]) -> bool {
        let found: BTreeSet<Family> = ips.iter().map(|ip| Family::of(*ip)).collect();
        if found.len() != ips.len() {
            return false;
        }
        match self {
            Self::One(family) => found == BTreeSet::from([family]),
            Self::Either => found.len() == 1,
            Self::Prefer(_) => !found.is_empty(),
            Self::Require => found.len() == 2,
        }
    }
}

/// What keeps an address to Services that send traffic to the same places.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
pub enum BackendKey {
    /// Policy Cluster: any node serves. A Service under policy Local that selects no pods counts as one of these,
    /// as it does for `MetalLB`.
    Anywhere,
    /// Policy Local: only nodes with one of these pods do.
    Local(Arc<str>),
}

impl fmt::Display for TrafficPolicy {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Cluster => "Cluster",
            Self::Local => "Local",
        })
    }
}

/// `spec.externalTrafficPolicy`: which nodes take traffic for a Service.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum TrafficPolicy {
    /// Every node.
    Cluster,
    /// Those that have an endpoint of it.
    Local,
}

/// A Service of type `LoadBalancer` that is ours.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct ServiceFacts {
    /// Namespace and name.
    pub key: ObjectKey,
    /// What decides who comes first: the creation time in milliseconds, then the key.
    pub created: i64,
    /// The labels.
    pub labels: Labels,
    /// The addresses it asks for.
    pub wanted: Vec<IpAddr>,
    /// The pool it asks for.
    pub pool: Option<Arc<str>>,
    /// With whom it shares its address.
    pub sharing: Option<Arc<str>>,
    /// The ports.
    pub ports: BTreeSet<Port>,
    /// With which backends an address can be shared.
    pub backend: BackendKey,
    /// Which nodes take its traffic.
    pub policy: TrafficPolicy,
    /// The families it needs.
    pub families: Families,
    /// The addresses in its status.
    pub status: Vec<IpAddr>,
    /// Those of them that no node has announced since the Service was given them, as its condition says.
    pub unannounced: BTreeSet<IpAddr>,
    /// The pool that they came from, as the annotation says.
    pub allocated_from: Option<Arc<str>>,
    /// Why it can't have an address at all, or why what it asks for can't be understood.
    pub refused: Option<Problem>,
}

/// What a Service is to us.
#[derive(Clone, Debug)]
pub enum Reading {
    /// To be given an address.
    Ours(Box<ServiceFacts>, Vec<Problem>),
    /// It has been of our kind and still carries our annotation: status and annotation are to be cleared.
    Former(ObjectKey),
    /// Of another class: somebody else's, with the addresses that it has.
    Foreign(Vec<IpAddr>),
    /// Nothing.
    Ignored,
}

/// Reads a Service; `class` is the value of `spec.loadBalancerClass` that is ours, `None`: none.
pub fn read_service(service: &Service, class: Option<&str>) -> Reading {
    let meta = &service.metadata;
    let key = ObjectKey::of(meta);
    let empty = ServiceSpec::default();
    let spec = service.spec.as_ref().unwrap_or(&empty);
    let annotations = meta.annotations.clone().unwrap_or_default();
    if spec.type_.as_deref() != Some("LoadBalancer") {
        let former = annotations.contains_key(ALLOCATED_FROM_POOL);
        return if former { Reading::Former(key) } else { Reading::Ignored };
    }
    if spec.load_balancer_class.as_deref() != class {
        return Reading::Foreign(addresses(service));
    }
    if meta.deletion_timestamp.is_some() {
        return Reading::Ignored;
    }
    let mut reader = Reader { about: ObjectRef::new("Service", key.clone()), annotations, problems: Vec::new() };
    reader.check_names();
    let pool = reader.get(ADDRESS_POOL).filter(|p| !p.is_empty());
    let sharing = reader.get(ALLOW_SHARED_IP).filter(|k| !k.is_empty());
    let wanted = reader.wanted(spec);
    let (families, headless) = reader.families(spec, wanted.as_deref().unwrap_or_default());
    let (wanted, refused) = match wanted {
        Ok(wanted) => (wanted, headless),
        Err(problem) => (Vec::new(), Some(*problem)),
    };
    let facts = ServiceFacts {
        created: meta.creation_timestamp.as_ref().map_or(i64::MAX, |t| t.0.as_millisecond()),
        labels: labels_of(meta.labels.as_ref()),
        wanted,
        pool: pool.map(Arc::from),
        sharing: sharing.map(Arc::from),
        ports: ports(spec),
        backend: backend(spec),
        policy: policy(spec),
        families,
        status: addresses(service),
        unannounced: unannounced(service),
        allocated_from: reader.annotations.get(ALLOCATED_FROM_POOL).map(|pool| pool.as_str().into()),
        refused,
        key,
    };
    Reading::Ours(Box::new(facts), reader.problems)
}

/// The addresses in the status; entries that name a host only are left out.
fn addresses(service: &Service) -> Vec<IpAddr> {
    let status = service.status.as_ref().and_then(|s| s.load_balancer.as_ref()).and_then(|l| l.ingress.as_ref());
    status.into_iter().flatten().filter_map(|i| address(i.ip.as_deref()?)).collect()
}

/// An address; an IPv4 one may be written as an IPv6 one (RFC 4291 section 2.5.5.2).
fn address(text: &str) -> Option<IpAddr> {
    text.parse::<IpAddr>().ok().map(|ip| ip.to_canonical())
}

/// What the condition [`UNANNOUNCED`] lists.
fn unannounced(service: &Service) -> BTreeSet<IpAddr> {
    let conditions = service.status.as_ref().and_then(|s| s.conditions.as_ref()).into_iter().flatten();
    let held = conditions.filter(|c| c.type_ == UNANNOUNCED && c.status == "True");
    let words = held.flat_map(|c| c.message.split([' ', ',']));
    words.filter_map(|word| address(word.trim_matches(';'))).collect()
}

fn ports(spec: &ServiceSpec) -> BTreeSet<Port> {
    let ports = spec.ports.iter().flatten();
    ports
        .filter_map(|p| {
            let protocol = p.protocol.as_deref().unwrap_or("TCP");
            Some(Port { protocol: protocol.into(), number: u16::try_from(p.port).ok()? })
        })
        .collect()
}

fn policy(spec: &ServiceSpec) -> TrafficPolicy {
    if spec.external_traffic_policy.as_deref() == Some("Local") { TrafficPolicy::Local } else { TrafficPolicy::Cluster }
}

fn backend(spec: &ServiceSpec) -> BackendKey {
    match (policy(spec), &spec.selector) {
        (TrafficPolicy::Local, Some(selector)) if !selector.is_empty() => {
            let text: Vec<String> = selector.iter().map(|(k, v)| format!("{k}={v}")).collect();
            BackendKey::Local(text.join(",").into())
        }
        _ => BackendKey::Anywhere,
    }
}

struct Reader {
    about: ObjectRef,
    annotations: BTreeMap<String, String>,
    problems: Vec<Problem>,
}

impl Reader {
    /// The value under the newer name, which wins even when empty, else under the older one.
    fn get(&mut self, name: &str) -> Option<String> {
        if let Some(value) = self.annotations.get(name) {
            return Some(value.trim().to_owned());
        }
        let old = name.replacen("metallb.io/", OLD_PREFIX, 1);
        let value = self.annotations.get(&old)?.trim().to_owned();
        let problem =
            Problem::new(self.about.clone(), reason::DEPRECATED_ANNOTATION, "the annotation has a newer name");
        let problem = problem.at(format!("metadata.annotations[{old}]"), &value).warning();
        self.problems.push(problem.remedy(format!("rename it to {name}")));
        Some(value)
    }

    /// Reports annotations of our group that don't exist.
    fn check_names(&mut self) {
        const KNOWN: [&str; 4] = [ADDRESS_POOL, LOAD_BALANCER_IPS, ALLOW_SHARED_IP, ALLOCATED_FROM_POOL];
        for (name, value) in &self.annotations {
            let Some(rest) = name.strip_prefix("metallb.io/").or_else(|| name.strip_prefix(OLD_PREFIX)) else {
                continue;
            };
            if KNOWN.iter().any(|k| k.ends_with(&format!("/{rest}"))) {
                continue;
            }
            let near = KNOWN.iter().find(|k| k.to_lowercase().ends_with(&format!("/{}", rest.to_lowercase())));
            let problem = Problem::new(self.about.clone(), reason::UNKNOWN_ANNOTATION, "there is no such annotation");
            self.problems.push(problem.at(format!("metadata.annotations[{name}]"), value).warning().remedy(
                near.map_or_else(|| format!("use one of {}", KNOWN[..3].join(", ")), |near| format!("write {near}")),
            ));
        }
    }

    fn wanted(&mut self, spec: &ServiceSpec) -> Result<Vec<IpAddr>, Box<Problem>> {
        let field_ip = spec.load_balancer_ip.as_deref().filter(|ip| !ip.is_empty());
        let annotation = self.get(LOAD_BALANCER_IPS).filter(|list| !list.is_empty());
        let name = format!("metadata.annotations[{LOAD_BALANCER_IPS}]");
        let refuse = |field: &str, value: &str, cause: String, remedy: &str| {
            let problem = Problem::new(self.about.clone(), reason::LOAD_BALANCER_FAILED, cause);
            Err(Box::new(problem.at(field, value).remedy(remedy)))
        };
        let (field, text) = match (field_ip, &annotation) {
            (Some(_), Some(list)) => {
                let cause = format!("service can not have both {LOAD_BALANCER_IPS} and svc.Spec.LoadBalancerIP");
                return refuse(&name, list, cause, "remove one of them");
            }
            (Some(ip), None) => ("spec.loadBalancerIP", ip),
            (None, Some(list)) => (name.as_str(), list.as_str()),
            (None, None) => return Ok(Vec::new()),
        };
        let mut ips: Vec<IpAddr> = Vec::new();
        for part in text.split(',').map(str::trim) {
            match address(part) {
                Some(ip) => ips.push(ip),
                None => return refuse(field, text, format!("{part:?} is not an IP address"), "correct the address"),
            }
        }
        if ips.len() > 2 {
            return refuse(field, text, format!("more than two addresses {ips:?}"), "name one for each family");
        }
        if let [a, b] = ips[..]
            && Family::of(a) == Family::of(b)
        {
            return refuse(field, text, format!("\"{a}\" \"{b}\" has the same family"), "name one for each family");
        }
        ips.sort();
        Ok(ips)
    }

    fn families(&self, spec: &ServiceSpec, wanted: &[IpAddr]) -> (Families, Option<Problem>) {
        let policy = spec.ip_family_policy.as_deref();
        let listed: Vec<&str> =
            spec.cluster_ips.iter().flatten().map(String::as_str).filter(|i| !i.is_empty()).collect();
        let single = spec.cluster_ip.as_deref().filter(|ip| !ip.is_empty());
        let cluster: Vec<&str> = if listed.is_empty() { single.into_iter().collect() } else { listed };
        let named: Vec<Family> = spec.ip_families.iter().flatten().filter_map(|f| family_named(f)).collect();
        let first = named.first().copied().unwrap_or(Family::V4);
        if cluster.first() == Some(&"None") {
            let problem =
                Problem::new(self.about.clone(), reason::NO_CLUSTER_IP, "a headless Service can't have an address");
            let problem =
                problem.at("spec.clusterIP", "None").remedy("remove spec.clusterIP, or the type LoadBalancer");
            return (Families::One(first), Some(problem));
        }
        let dual = if policy == Some("RequireDualStack") { Families::Require } else { Families::Prefer(first) };
        let found: Vec<Family> = cluster.iter().filter_map(|ip| ip.parse().ok()).map(Family::of).collect();
        match (found.as_slice(), policy) {
            ([one], Some("RequireDualStack")) => {
                let problem = Problem::new(
                    self.about.clone(),
                    reason::NOT_ENOUGH_CLUSTER_IPS,
                    "dual stack needs two cluster addresses",
                );
                let problem = problem.at("spec.clusterIPs", cluster.join(", "));
                let problem = problem.remedy("let the API server give both, or use ipFamilyPolicy PreferDualStack");
                (Families::One(*one), Some(problem))
            }
            ([one], _) => (Families::One(*one), None),
            // Nobody gave cluster addresses: a folder's Service. What it says of families counts instead.
            ([_, _, ..], _) | ([], Some("RequireDualStack" | "PreferDualStack")) => (dual, None),
            ([], _) if named.len() == 1 => (Families::One(first), None),
            ([], _) => match wanted {
                [] => (Families::Either, None),
                [one] => (Families::One(Family::of(*one)), None),
                _ => (Families::Prefer(first), None),
            },
        }
    }
}

fn family_named(name: &str) -> Option<Family> {
    match name {
        "IPv4" => Some(Family::V4),
        "IPv6" => Some(Family::V6),
        _ => None,
    }
}
