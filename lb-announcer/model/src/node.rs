//! Nodes and endpoints as announcing needs them.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;
use std::net::IpAddr;
use std::sync::Arc;

use k8s_openapi::api::core::v1::{Node, NodeStatus};
use k8s_openapi::api::discovery::v1::EndpointSlice;
use landfall_model::ObjectKey;

use crate::address::Family;
use crate::selector::{Labels, labels_of};

/// The label that keeps load balancers off a node, whatever its value.
pub const EXCLUDE_LABEL: &str = "node.kubernetes.io/exclude-from-external-load-balancers";
const OUT_OF_SERVICE: &str = "node.kubernetes.io/out-of-service";

/// What speaks against a node, the least grave first.
///
/// None of it keeps a node from announcing what no better node can: traffic that may arrive is better than traffic that
/// can't.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
pub enum Flaw {
    /// It is cordoned.
    Cordoned,
    /// Condition `Ready` is not true.
    NotReady,
    /// Condition `NetworkUnavailable`.
    NetworkUnavailable,
    /// The object is being deleted.
    Deleting,
    /// The taint `node.kubernetes.io/out-of-service`.
    OutOfService,
    /// The label [`EXCLUDE_LABEL`].
    Excluded,
}

impl fmt::Display for Flaw {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Cordoned => f.write_str("it is cordoned"),
            Self::NotReady => f.write_str("it is not Ready"),
            Self::NetworkUnavailable => f.write_str("its condition NetworkUnavailable is True"),
            Self::Deleting => f.write_str("it is being deleted"),
            Self::OutOfService => f.write_str("it has the taint node.kubernetes.io/out-of-service"),
            Self::Excluded => write!(f, "it has the label {EXCLUDE_LABEL}"),
        }
    }
}

/// A node.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct NodeFacts {
    /// The name.
    pub name: Arc<str>,
    /// The labels.
    pub labels: Labels,
    /// Its internal addresses, in the order given.
    pub addresses: Vec<IpAddr>,
    /// What speaks against it.
    pub flaws: BTreeSet<Flaw>,
}

/// Whether the exclusion label is heeded.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum ExcludeLabel {
    /// As Kubernetes documents it.
    Heed,
    /// Not, for clusters whose only nodes carry it.
    Ignore,
}

/// Reads a node.
pub fn read_node(node: &Node, exclude: ExcludeLabel) -> NodeFacts {
    let meta = &node.metadata;
    let labels = labels_of(meta.labels.as_ref());
    let status = node.status.clone().unwrap_or_default();
    let spec = node.spec.as_ref();
    let out_of_service = spec.and_then(|s| s.taints.as_ref()).into_iter().flatten().any(|t| t.key == OUT_OF_SERVICE);
    let checks = [
        (spec.and_then(|s| s.unschedulable).unwrap_or(false), Flaw::Cordoned),
        // A Node of a folder has no conditions, and what isn't said doesn't count against it.
        (condition(&status, "Ready").is_some_and(|s| s != "True"), Flaw::NotReady),
        (condition(&status, "NetworkUnavailable").is_some_and(|s| s == "True"), Flaw::NetworkUnavailable),
        (meta.deletion_timestamp.is_some(), Flaw::Deleting),
        (out_of_service, Flaw::OutOfService),
        (exclude == ExcludeLabel::Heed && labels.contains_key(EXCLUDE_LABEL), Flaw::Excluded),
    ];
    let addresses = status.addresses.iter().flatten().filter(|a| a.type_ == "InternalIP");
    NodeFacts {
        name: meta.name.as_deref().unwrap_or_default().into(),
        addresses: addresses.filter_map(|a| a.address.parse().ok()).collect(),
        flaws: checks.into_iter().filter_map(|(holds, flaw)| holds.then_some(flaw)).collect(),
        labels,
    }
}

fn condition<'a>(status: &'a NodeStatus, name: &str) -> Option<&'a str> {
    status.conditions.iter().flatten().find(|c| c.type_ == name).map(|c| c.status.as_str())
}

/// Where a Service's endpoints of each family are.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub struct SliceFacts(BTreeMap<Family, FamilyFacts>);

/// Where a Service's endpoints of one family are.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
struct FamilyFacts {
    /// The nodes that have an endpoint that can serve.
    nodes: BTreeSet<Arc<str>>,
    /// Whether any endpoint can serve, also one whose node isn't named.
    serves: bool,
    /// The nodes that have an endpoint that isn't ready.
    unready: BTreeSet<Arc<str>>,
}

impl SliceFacts {
    /// Adds another slice of the Service.
    pub fn extend(&mut self, slice: &Self) {
        for (family, facts) in &slice.0 {
            let all = self.0.entry(*family).or_default();
            all.serves |= facts.serves;
            all.nodes.extend(facts.nodes.iter().cloned());
            all.unready.extend(facts.unready.iter().cloned());
        }
    }

    /// Whether any endpoint of any family can serve. Where none can, those count whose node is not Ready: the control
    /// plane calls pods unready of which it only doesn't know how they are.
    pub fn serves(&self, nodes: &BTreeMap<Arc<str>, NodeFacts>) -> bool {
        self.0.values().any(|f| f.serves || f.unknown(nodes).next().is_some())
    }

    /// The nodes that have an endpoint of the family that can serve, or may, as [`Self::serves`] says.
    pub fn nodes(&self, family: Family, nodes: &BTreeMap<Arc<str>, NodeFacts>) -> BTreeSet<Arc<str>> {
        match self.0.get(&family) {
            Some(facts) if facts.serves => facts.nodes.clone(),
            Some(facts) => facts.unknown(nodes).cloned().collect(),
            None => BTreeSet::new(),
        }
    }
}

impl FamilyFacts {
    fn unknown<'a>(&'a self, nodes: &'a BTreeMap<Arc<str>, NodeFacts>) -> impl Iterator<Item = &'a Arc<str>> {
        let not_ready = |name: &&Arc<str>| nodes.get(*name).is_some_and(|n| n.flaws.contains(&Flaw::NotReady));
        self.unready.iter().filter(not_ready)
    }
}

/// Reads a slice and tells whose it is; `None` for one that belongs to no Service.
///
/// An endpoint can serve when it is ready, or still serving while it terminates.
pub fn read_slice(slice: &EndpointSlice) -> Option<(ObjectKey, SliceFacts)> {
    let meta = &slice.metadata;
    let service = meta.labels.as_ref()?.get("kubernetes.io/service-name")?;
    let key = ObjectKey::new(meta.namespace.as_deref().unwrap_or_default(), service.as_str());
    let family = match slice.address_type.as_str() {
        "IPv4" => Family::V4,
        "IPv6" => Family::V6,
        _ => return Some((key, SliceFacts::default())),
    };
    let mut facts = FamilyFacts::default();
    for endpoint in &slice.endpoints {
        let conditions = endpoint.conditions.clone().unwrap_or_default();
        let serves = conditions.ready.unwrap_or(true) || conditions.serving.unwrap_or(false);
        facts.serves |= serves;
        let nodes = if serves { &mut facts.nodes } else { &mut facts.unready };
        nodes.extend(endpoint.node_name.as_deref().map(Arc::from));
    }
    Some((key, SliceFacts(BTreeMap::from([(family, facts)]))))
}
