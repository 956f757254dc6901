//! The addresses that `status.loadBalancer` of each Ingress should have.

use std::collections::BTreeSet;
use std::fmt;
use std::net::IpAddr;
use std::sync::Arc;

use k8s_openapi::api::core::v1::{Node, Pod, Service};
use k8s_openapi::api::networking::v1::Ingress;
use landfall_model::{Change, ObjectKey, ObjectRef, Problem};
use serde::ser::SerializeMap;
use serde::{Serialize, Serializer};

use crate::compiler::store::Store;
use crate::reason;
use crate::settings::Publish;
use crate::shared_map::SharedMap;

/// An address of the ingress: `ip` or `hostname` of one entry of `status.loadBalancer.ingress`.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
pub enum Address {
    /// An address.
    Ip(IpAddr),
    /// A DNS name.
    Hostname(Box<str>),
}

impl Address {
    /// Reads what `--publish-status-address` and the status of a Service hold.
    pub fn parse(text: &str) -> Self {
        text.parse().map_or_else(|_| Self::Hostname(text.into()), Self::Ip)
    }

    /// What the status of an Ingress holds now, sorted.
    pub(crate) fn observed(ingress: &Ingress) -> Arc<[Self]> {
        let balancer = ingress.status.as_ref().and_then(|status| status.load_balancer.as_ref());
        let entries = balancer.and_then(|balancer| balancer.ingress.as_deref()).unwrap_or_default();
        sorted(entries.iter().filter_map(|entry| entry.ip.as_deref().or(entry.hostname.as_deref())).map(Self::parse))
    }
}

impl fmt::Display for Address {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Ip(ip) => write!(f, "{ip}"),
            Self::Hostname(name) => f.write_str(name),
        }
    }
}

impl Serialize for Address {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

/// What the status of one Ingress should be, given whenever that or what is there has changed.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct IngressStatus {
    /// The Ingress.
    pub ingress: ObjectKey,
    /// The addresses to write, sorted and unique; empty clears them. `None`: the status is not ours to touch, or is
    /// no longer (the Ingress is gone, belongs to another controller, or nothing is published).
    pub desired: Option<Arc<[Address]>>,
    /// The addresses that are there. Where they equal `desired` nothing is to be written.
    pub observed: Arc<[Address]>,
}

/// What `/status` tells of one Ingress of ours.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct IngressView {
    /// The Ingress.
    pub ingress: ObjectKey,
    /// The published addresses.
    pub addresses: Arc<[Address]>,
    /// What is wrong with it, its Services and its Secrets.
    pub problems: Arc<[Problem]>,
}

/// Every Ingress of ours.
pub type Views = SharedMap<ObjectKey, Arc<IngressView>>;

impl Serialize for IngressView {
    /// `{"namespace","name","addresses":[..],"problems":[..]}`.
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let mut map = serializer.serialize_map(Some(4))?;
        map.serialize_entry("namespace", self.ingress.namespace())?;
        map.serialize_entry("name", self.ingress.name())?;
        map.serialize_entry("addresses", &self.addresses)?;
        map.serialize_entry("problems", &self.problems)?;
        map.end()
    }
}

/// Knows the addresses to publish.
#[derive(Debug)]
pub(crate) struct Publisher {
    publish: Publish,
    nodes: Store<NodeAddresses>,
    pods: Store<Option<Box<str>>>,
    service: Option<Arc<[Address]>>,
    current: Option<Arc<[Address]>>,
}

#[derive(PartialEq, Debug)]
struct NodeAddresses {
    external: Box<[Address]>,
    internal: Box<[Address]>,
}

impl Publisher {
    pub(crate) fn new(publish: Publish) -> Self {
        let mut publisher =
            Self { publish, nodes: Store::default(), pods: Store::default(), service: None, current: None };
        publisher.current = publisher.compute();
        publisher
    }

    /// The addresses; `None` while they are not known: then no status is touched.
    pub(crate) fn addresses(&self) -> Option<&Arc<[Address]>> {
        self.current.as_ref()
    }

    pub(crate) fn nodes(&mut self, change: Change<Node>) {
        self.nodes.apply(change, |node| &node.metadata, |node, _| node_addresses(node));
    }

    pub(crate) fn pods(&mut self, change: Change<Pod>) {
        self.pods.apply(change, |pod| &pod.metadata, |pod, _| node_of(pod));
    }

    /// Sees each change of a Service, since only one of them may be of interest.
    pub(crate) fn services(&mut self, change: &Change<Service>) {
        let Publish::Service(wanted) = &self.publish else { return };
        match change {
            Change::Replace(all) => {
                let found = all.iter().find(|service| ObjectKey::of(&service.metadata) == *wanted);
                self.service = found.map(|service| service_addresses(service));
            }
            Change::Apply(service) if ObjectKey::of(&service.metadata) == *wanted => {
                self.service = Some(service_addresses(service));
            }
            Change::Delete(key) if key == wanted => self.service = None,
            Change::Apply(_) | Change::Delete(_) => {}
        }
    }

    /// Computes the addresses anew; true if they changed.
    pub(crate) fn refresh(&mut self) -> bool {
        let new = self.compute();
        let changed = new != self.current;
        self.current = new;
        changed
    }

    pub(crate) fn problem(&self) -> Option<Problem> {
        let Publish::Service(key) = &self.publish else { return None };
        if self.service.is_some() {
            return None;
        }
        let cause = "--publish-service points to this Service, but it does not exist, so no status is written";
        let problem = Problem::new(ObjectRef::new("Service", key.clone()), reason::UNKNOWN_SERVICE, cause);
        Some(problem.at("metadata.name", key.name()).remedy("create the Service or fix the flag"))
    }

    fn compute(&self) -> Option<Arc<[Address]>> {
        match &self.publish {
            Publish::Addresses(list) => Some(sorted(list.iter().map(|text| Address::parse(text)))),
            Publish::Service(_) => self.service.clone(),
            Publish::Nodes => {
                let names: BTreeSet<&str> = self.pods.iter().filter_map(|(_, node)| node.as_deref()).collect();
                let nodes = names.into_iter().filter_map(|name| self.nodes.get(&ObjectKey::cluster(name)));
                let of = |node: &NodeAddresses| {
                    if node.external.is_empty() { node.internal.to_vec() } else { node.external.to_vec() }
                };
                let addresses = sorted(nodes.flat_map(of));
                // None of our pods runs anywhere: they are not listed yet, or are being replaced.
                (!addresses.is_empty()).then_some(addresses)
            }
            Publish::Nothing => None,
        }
    }
}

fn sorted(addresses: impl Iterator<Item = Address>) -> Arc<[Address]> {
    addresses.collect::<BTreeSet<_>>().into_iter().collect()
}

/// The status of a Service of type LoadBalancer with its `externalIPs`, else those, else the cluster's addresses.
fn service_addresses(service: &Service) -> Arc<[Address]> {
    let Some(spec) = &service.spec else { return Arc::default() };
    let status = service.status.as_ref().and_then(|status| status.load_balancer.as_ref());
    let entries = status.and_then(|balancer| balancer.ingress.as_deref()).unwrap_or_default();
    let balanced = entries.iter().filter_map(|entry| entry.ip.as_deref().or(entry.hostname.as_deref()));
    let external = spec.external_ips.iter().flatten().map(String::as_str);
    let found = sorted(balanced.chain(external).map(Address::parse));
    match spec.type_.as_deref() {
        Some("ExternalName") => sorted(spec.external_name.iter().map(|name| Address::parse(name))),
        // A load balancer without an address has none yet; its cluster address would mislead.
        Some("LoadBalancer") => found,
        _ if found.is_empty() => {
            let cluster = spec.cluster_ips.iter().flatten().chain(&spec.cluster_ip);
            sorted(cluster.filter(|ip| *ip != "None" && !ip.is_empty()).map(|ip| Address::parse(ip)))
        }
        _ => found,
    }
}

fn node_addresses(node: &Node) -> NodeAddresses {
    let all = node.status.as_ref().and_then(|status| status.addresses.as_deref()).unwrap_or_default();
    let of = |kind: &str| {
        all.iter().filter(|address| address.type_ == kind).map(|address| Address::parse(&address.address)).collect()
    };
    NodeAddresses { external: of("ExternalIP"), internal: of("InternalIP") }
}

/// The node of a pod that runs and is not on its way out.
fn node_of(pod: &Pod) -> Option<Box<str>> {
    let phase = pod.status.as_ref().and_then(|status| status.phase.as_deref());
    if phase != Some("Running") || pod.metadata.deletion_timestamp.is_some() {
        return None;
    }
    pod.spec.as_ref()?.node_name.as_deref().map(Into::into)
}
