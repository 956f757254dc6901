//! `L2Advertisement` and `ServiceL2Status`: where addresses are announced, and by whom.

#![allow(unreachable_pub, reason = "the schema derive repeats each struct inside a function")]

use std::borrow::Cow;

use k8s_openapi::NamespaceResourceScope;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::ObjectMeta;
use kube::{CustomResource, KubeSchema, Resource};
use schemars::JsonSchema;
use serde::{Deserialize, Deserializer, Serialize};

use super::{LabelSelector, rules};

/// Says that the addresses of the selected pools are announced on the local network.
///
/// The spec may be left out, as the documentation's own example does. The derived type would need it, or be flattened,
/// and a flattened one can't tell which fields it doesn't know; so this one is made by hand.
#[derive(Clone, Debug, Default, PartialEq, Deserialize)]
pub struct L2Advertisement {
    /// Name, namespace and the like.
    #[serde(default)]
    pub metadata: ObjectMeta,
    /// What is announced where; absent: everything everywhere.
    #[serde(default, deserialize_with = "null_is_absent")]
    pub spec: L2AdvertisementSpec,
    /// Nothing yet.
    #[serde(default)]
    pub status: Option<L2AdvertisementStatus>,
}

fn null_is_absent<'de, D: Deserializer<'de>>(deserializer: D) -> Result<L2AdvertisementSpec, D::Error> {
    Ok(Option::deserialize(deserializer)?.unwrap_or_default())
}

impl Resource for L2Advertisement {
    type DynamicType = ();
    type Scope = NamespaceResourceScope;

    fn kind((): &()) -> Cow<'_, str> {
        "L2Advertisement".into()
    }

    fn group((): &()) -> Cow<'_, str> {
        "metallb.io".into()
    }

    fn version((): &()) -> Cow<'_, str> {
        "v1beta1".into()
    }

    fn plural((): &()) -> Cow<'_, str> {
        "l2advertisements".into()
    }

    fn meta(&self) -> &ObjectMeta {
        &self.metadata
    }

    fn meta_mut(&mut self) -> &mut ObjectMeta {
        &mut self.metadata
    }
}

/// From what the definition is made.
#[derive(CustomResource, Clone, Debug, Default, PartialEq, Eq, Deserialize, Serialize, JsonSchema)]
#[kube(
    group = "metallb.io",
    version = "v1beta1",
    kind = "L2Advertisement",
    root = "L2AdvertisementDefinition",
    plural = "l2advertisements",
    singular = "l2advertisement",
    namespaced,
    no_spec,
    status = "L2AdvertisementStatus",
    derive = "PartialEq",
    doc = "L2Advertisement says that the addresses of the selected pools are announced on the local network.",
    printcolumn(name = "IPAddressPools", type_ = "string", json_path = ".spec.ipAddressPools"),
    printcolumn(name = "IPAddressPool Selectors", type_ = "string", json_path = ".spec.ipAddressPoolSelectors"),
    printcolumn(name = "Interfaces", type_ = "string", json_path = ".spec.interfaces"),
    printcolumn(name = "Node Selectors", type_ = "string", json_path = ".spec.nodeSelectors", priority = "10")
)]
#[serde(default)]
pub struct L2AdvertisementBody {
    /// What is announced where; absent: everything everywhere.
    pub spec: L2AdvertisementSpec,
}

/// Which pools are announced by ARP and NDP, by which nodes and on which interfaces.
#[derive(Clone, Debug, Default, PartialEq, Eq, Deserialize, Serialize, JsonSchema)]
#[serde(rename_all = "camelCase", default)]
pub struct L2AdvertisementSpec {
    /// Names of the pools; with `ipAddressPoolSelectors` empty too: every pool.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    #[schemars(extend("x-kubernetes-list-type" = "set"))]
    pub ip_address_pools: Vec<String>,
    /// Selects further pools by their labels.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(max = 1024))]
    pub ip_address_pool_selectors: Vec<LabelSelector>,
    /// Selects the nodes that may announce; one must match; empty: every node.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(max = 1024))]
    pub node_selectors: Vec<LabelSelector>,
    /// Names of the interfaces to announce on; empty: every interface.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(max = 1024), inner(length(max = 256)), transform = rules::interfaces)]
    #[schemars(extend("x-kubernetes-list-type" = "set"))]
    pub interfaces: Vec<String>,
    /// Selects the Services whose addresses are announced; one must match; empty: every Service.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(max = 1024))]
    pub service_selectors: Vec<LabelSelector>,
    /// Nodes that announce rather than others while they can.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(max = 1024))]
    pub preferred_node_selectors: Vec<NodePreference>,
}

/// A preference for some nodes.
#[derive(Clone, Debug, Default, PartialEq, Eq, Deserialize, Serialize, JsonSchema)]
pub struct NodePreference {
    /// From 1 to 100; a node's score is the sum of the weights of what matches it.
    #[schemars(range(min = 1, max = 100))]
    pub weight: i32,
    /// The nodes that are meant; empty: every node.
    pub preference: LabelSelector,
}

/// Nothing yet.
#[derive(Clone, Debug, Default, PartialEq, Eq, Deserialize, Serialize, JsonSchema)]
pub struct L2AdvertisementStatus {}

/// Empty: everything stands in the status.
#[derive(CustomResource, Clone, Debug, Default, PartialEq, Eq, Deserialize, Serialize, JsonSchema)]
#[kube(
    group = "metallb.io",
    version = "v1beta1",
    kind = "ServiceL2Status",
    plural = "servicel2statuses",
    singular = "servicel2status",
    namespaced,
    status = "ServiceL2StatusStatus",
    derive = "PartialEq",
    doc = "ServiceL2Status says which node announces a Service's address, and on which interfaces.",
    printcolumn(name = "Allocated Node", type_ = "string", json_path = ".status.node"),
    printcolumn(name = "Service Name", type_ = "string", json_path = ".status.serviceName"),
    printcolumn(name = "Service Namespace", type_ = "string", json_path = ".status.serviceNamespace")
)]
pub struct ServiceL2StatusSpec {}

/// Which node announces a Service, and where.
#[derive(KubeSchema, Clone, Debug, Default, PartialEq, Eq, Deserialize, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct ServiceL2StatusStatus {
    /// The node that announces.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    #[x_kube(validation = Rule::new("self == oldSelf").message("the value is immutable"))]
    pub node: String,
    /// The Service's name.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    #[x_kube(validation = Rule::new("self == oldSelf").message("the value is immutable"))]
    pub service_name: String,
    /// The Service's namespace.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    #[x_kube(validation = Rule::new("self == oldSelf").message("the value is immutable"))]
    pub service_namespace: String,
    /// The interfaces it is announced on; empty: all of them.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub interfaces: Vec<InterfaceName>,
}

/// An interface, by name.
#[derive(Clone, Debug, Default, PartialEq, Eq, Deserialize, Serialize, JsonSchema)]
#[serde(default)]
pub struct InterfaceName {
    /// The name as the kernel has it.
    #[serde(skip_serializing_if = "String::is_empty")]
    pub name: String,
}
