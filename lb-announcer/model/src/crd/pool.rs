//! `IPAddressPool`: which addresses there are to give, and to whom.

use kube::CustomResource;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::{LabelSelector, rules};

/// The addresses of a pool and who may have them.
#[derive(CustomResource, Clone, Debug, Default, PartialEq, Eq, Deserialize, Serialize, JsonSchema)]
#[kube(
    group = "metallb.io",
    version = "v1beta1",
    kind = "IPAddressPool",
    plural = "ipaddresspools",
    singular = "ipaddresspool",
    namespaced,
    status = "IPAddressPoolStatus",
    derive = "PartialEq",
    doc = "IPAddressPool is a set of addresses that Services of type LoadBalancer can get.",
    printcolumn(name = "Auto Assign", type_ = "boolean", json_path = ".spec.autoAssign"),
    printcolumn(name = "Avoid Buggy IPs", type_ = "boolean", json_path = ".spec.avoidBuggyIPs"),
    printcolumn(name = "Addresses", type_ = "string", json_path = ".spec.addresses")
)]
#[serde(rename_all = "camelCase")]
pub struct IPAddressPoolSpec {
    /// Prefixes (`192.0.2.0/28`), ranges (`192.0.2.10-192.0.2.20`) and single addresses, of IPv4 and IPv6;
    /// an entry that begins with `!` is taken out of the others.
    // The API server takes rules over the items of lists only where it knows how long these can get.
    #[schemars(length(min = 1, max = 512), inner(length(max = 100)), transform = rules::entries)]
    pub addresses: Vec<String>,
    /// Whether Services that don't name the pool can get its addresses.
    #[serde(default = "yes")]
    pub auto_assign: bool,
    /// Leaves out IPv4 addresses that end in .0 or .255, which some old devices refuse.
    #[serde(rename = "avoidBuggyIPs", default)]
    pub avoid_buggy_ips: bool,
    /// Which Services can get addresses, and which pool comes first; absent: every Service.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub service_allocation: Option<ServiceAllocation>,
}

/// Which Services can get a pool's addresses, and how early the pool is tried.
#[derive(Clone, Debug, Default, PartialEq, Eq, Deserialize, Serialize, JsonSchema)]
#[serde(rename_all = "camelCase", default)]
pub struct ServiceAllocation {
    /// Pools with a lower number are tried first; 0 or nothing comes last.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(range(min = 0))]
    pub priority: Option<i64>,
    /// Namespaces whose Services can have addresses, in addition to those that `namespaceSelectors` select.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    #[schemars(extend("x-kubernetes-list-type" = "set"))]
    pub namespaces: Vec<String>,
    /// Selects namespaces by their labels; one of these must match.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(max = 1024))]
    pub namespace_selectors: Vec<LabelSelector>,
    /// Selects Services by their labels; one of these must match.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(max = 1024))]
    pub service_selectors: Vec<LabelSelector>,
}

/// How much of a pool is given out.
#[derive(Clone, Debug, Default, PartialEq, Eq, Deserialize, Serialize, JsonSchema)]
#[serde(rename_all = "camelCase", default)]
pub struct IPAddressPoolStatus {
    /// IPv4 addresses that Services hold; a shared one counts once.
    #[serde(rename = "assignedIPv4")]
    pub assigned_ipv4: i64,
    /// IPv6 addresses that Services hold; a shared one counts once.
    #[serde(rename = "assignedIPv6")]
    pub assigned_ipv6: i64,
    /// IPv4 addresses still to give.
    #[serde(rename = "availableIPv4")]
    pub available_ipv4: i64,
    /// IPv6 addresses still to give, at most 2^63 - 1.
    #[serde(rename = "availableIPv6")]
    pub available_ipv6: i64,
    /// Addresses that aren't given because something on the network uses them.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    #[schemars(extend("x-kubernetes-list-type" = "map", "x-kubernetes-list-map-keys" = ["ip", "node"]))]
    pub taken: Vec<TakenAddress>,
}

/// An address of a pool that something on the network uses, as one node saw it.
#[derive(Clone, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Deserialize, Serialize, JsonSchema)]
pub struct TakenAddress {
    /// The address.
    pub ip: String,
    /// The node that found it.
    pub node: String,
    /// `ForeignHost`, `NetworkAddress`, `BroadcastAddress` or `NodeAddress`.
    pub reason: String,
    /// The MAC address that answered for it; empty when the reason isn't `ForeignHost`.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub mac: String,
}

fn yes() -> bool {
    true
}
