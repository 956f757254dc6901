//! `AddressPool`: pools as `MetalLB` had them before 0.13. Read from folders, to say what to write instead.

use kube::CustomResource;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// The addresses of a pool, and how they are announced. Pools in the older `ConfigMap` have the same fields.
#[derive(CustomResource, Clone, Debug, Default, PartialEq, Eq, Deserialize, Serialize, JsonSchema)]
#[kube(
    group = "metallb.io",
    version = "v1beta1",
    kind = "AddressPool",
    plural = "addresspools",
    namespaced,
    derive = "PartialEq"
)]
#[serde(rename_all = "camelCase")]
pub struct AddressPoolSpec {
    /// `layer2` or `bgp`.
    #[serde(default)]
    pub protocol: String,
    /// Prefixes and ranges.
    #[serde(default)]
    pub addresses: Vec<String>,
    /// Whether Services that don't name the pool can get its addresses.
    #[serde(default, alias = "auto-assign", skip_serializing_if = "Option::is_none")]
    pub auto_assign: Option<bool>,
    /// Whether addresses that end in .0 or .255 are left out.
    #[serde(default, rename = "avoidBuggyIPs", alias = "avoid-buggy-ips", skip_serializing_if = "Option::is_none")]
    pub avoid_buggy_ips: Option<bool>,
    /// For protocol `bgp`.
    #[serde(default, alias = "bgp-advertisements", skip_serializing_if = "Vec::is_empty")]
    pub bgp_advertisements: Vec<serde_json::Value>,
}
