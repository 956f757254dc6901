//! Nodes and endpoints as announcing needs them.

use std::collections::BTreeSet;
use std::fmt;
use std::net::IpAddr;
use std::sync::Arc;

use k8s_openapi::api::core::v1::{Node, NodeStatus};
use k8s_openapi::api::discovery::v1::EndpointSlice;
use landfall_model::ObjectKey;

use crate::selector::{Labels, labels_of};

/// The label that keeps load balancers off a node, whatever its value.
pub const EXCLUDE_LABEL: &str = "node.kubernetes.io/exclude-from-external-load-balancers";
const OUT_OF_SERVICE: &str = "node.kubernetes.io/out-of-service";

/// Why a node can't announce anything.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
pub enum Ineligible {
    /// Condition `NetworkUnavailable`.
    NetworkUnavailable,
    /// The label [`EXCLUDE_LABEL`].
    Excluded,
    /// Condition `Ready` is not true.
    NotReady,
    /// The taint `node.kubernetes.io/out-of-service`.
    OutOfService,
    /// The object is being deleted.
    Deleting,
}

impl fmt::Display for Ineligible {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::NetworkUnavailable => f.write_str("its condition NetworkUnavailable is True"),
            Self::Excluded => write!(f, "it has the label {EXCLUDE_LABEL}"),
            Self::NotReady => f.write_str("it is not Ready"),
            Self::OutOfService => f.write_str("it has the taint node.kubernetes.io/out-of-service"),
            Self::Deleting => f.write_str("it is being deleted"),
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
    /// Why it can't announce.
    pub ineligible: Option<Ineligible>,
    /// Whether it is cordoned: it announces only what no other node can.
    pub cordoned: bool,
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
        (meta.deletion_timestamp.is_some(), Ineligible::Deleting),
        (out_of_service, Ineligible::OutOfService),
        (exclude == ExcludeLabel::Heed && labels.contains_key(EXCLUDE_LABEL), Ineligible::Excluded),
        (condition(&status, "NetworkUnavailable").is_some_and(|s| s == "True"), Ineligible::NetworkUnavailable),
        // A Node of a folder has no conditions, and what isn't said doesn't count against it.
        (condition(&status, "Ready").is_some_and(|s| s != "True"), Ineligible::NotReady),
    ];
    let addresses = status.addresses.iter().flatten().filter(|a| a.type_ == "InternalIP");
    NodeFacts {
        name: meta.name.as_deref().unwrap_or_default().into(),
        addresses: addresses.filter_map(|a| a.address.parse().ok()).collect(),
        ineligible: checks.into_iter().find_map(|(holds, why)| holds.then_some(why)),
        cordoned: spec.and_then(|s| s.unschedulable).unwrap_or(false),
        labels,
    }
}

fn condition<'a>(status: &'a NodeStatus, name: &str) -> Option<&'a str> {
    status.conditions.iter().flatten().find(|c| c.type_ == name).map(|c| c.status.as_str())
}

/// Where one slice of a Service's endpoints serves.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub struct SliceFacts {
    /// The nodes that have an endpoint that can serve.
    pub nodes: BTreeSet<Arc<str>>,
    /// Whether any endpoint can serve, also one whose node isn't named.
    pub serves: bool,
}

/// Reads a slice and tells whose it is; `None` for one that belongs to no Service.
///
/// An endpoint can serve when it is ready, or still serving while it terminates.
pub fn read_slice(slice: &EndpointSlice) -> Option<(ObjectKey, SliceFacts)> {
    let meta = &slice.metadata;
    let service = meta.labels.as_ref()?.get("kubernetes.io/service-name")?;
    let key = ObjectKey::new(meta.namespace.as_deref().unwrap_or_default(), service.as_str());
    let mut facts = SliceFacts::default();
    for endpoint in &slice.endpoints {
        let conditions = endpoint.conditions.clone().unwrap_or_default();
        if conditions.ready.unwrap_or(true) || conditions.serving.unwrap_or(false) {
            facts.serves = true;
            facts.nodes.extend(endpoint.node_name.as_deref().map(Arc::from));
        }
    }
    Some((key, facts))
}
