//! Configuration of `MetalLB` before 0.13, and what to write in its place.

use std::fmt::Write as _;

use k8s_openapi::api::core::v1::ConfigMap;
use landfall_model::{ObjectRef, Problem};
use serde::Deserialize;

use crate::crd::{AddressPool, AddressPoolSpec};
use crate::reason;

/// An object that nothing reads any more, with the pools that it meant.
#[derive(Clone, PartialEq, Debug)]
pub(crate) struct Outdated {
    namespace: String,
    pools: Vec<(String, AddressPoolSpec)>,
    /// Why the text in it can't be read.
    unreadable: Option<String>,
    has_peers: bool,
}

#[derive(Deserialize)]
struct Config {
    #[serde(default, rename = "address-pools")]
    pools: Vec<NamedPool>,
    #[serde(default)]
    peers: Vec<serde_json::Value>,
}

#[derive(Deserialize)]
struct NamedPool {
    #[serde(default)]
    name: String,
    #[serde(flatten)]
    spec: AddressPoolSpec,
}

impl Outdated {
    /// An `AddressPool`.
    pub(crate) fn pool(object: &AddressPool) -> Self {
        let name = object.metadata.name.clone().unwrap_or_default();
        let namespace = object.metadata.namespace.clone().unwrap_or_default();
        Self { namespace, pools: vec![(name, object.spec.clone())], unreadable: None, has_peers: false }
    }

    /// The `ConfigMap` called `config`, if it holds `MetalLB`'s configuration.
    pub(crate) fn config(object: &ConfigMap) -> Option<Self> {
        let text = object.data.as_ref()?.get("config")?;
        if !["address-pools:", "peers:"].iter().any(|word| text.lines().any(|line| line.starts_with(word))) {
            return None;
        }
        let namespace = object.metadata.namespace.clone().unwrap_or_default();
        let mut outdated = Self { namespace, pools: Vec::new(), unreadable: None, has_peers: false };
        match serde_saphyr::from_str::<Config>(text) {
            Ok(config) => {
                outdated.has_peers = !config.peers.is_empty();
                outdated.pools = config.pools.into_iter().map(|pool| (pool.name, pool.spec)).collect();
            }
            Err(error) => outdated.unreadable = Some(error.to_string().lines().next().unwrap_or_default().to_owned()),
        }
        Some(outdated)
    }

    pub(crate) fn problem(&self, object: &ObjectRef) -> Problem {
        let mut cause = "MetalLB 0.13 and later don't read this object, and neither does this program".to_owned();
        if let Some(error) = &self.unreadable {
            let _ = write!(cause, "; its text can't be read either: {error}");
        }
        if self.has_peers || self.pools.iter().any(|(_, pool)| pool.protocol == "bgp") {
            cause += "; it uses BGP, which isn't served";
        }
        let names: Vec<&str> = self.pools.iter().map(|(name, _)| name.as_str()).collect();
        let remedy = if names.is_empty() {
            "write an IPAddressPool and an L2Advertisement instead".to_owned()
        } else {
            format!("write an IPAddressPool and an L2Advertisement instead, for: {}", names.join(", "))
        };
        let field = if &*object.kind == "ConfigMap" { "data.config" } else { "" };
        Problem::new(object.clone(), reason::OUTDATED_CONFIGURATION, cause).at(field, "").remedy(remedy)
    }

    /// The objects to write instead.
    pub(crate) fn replacement(&self) -> String {
        let mut text = String::new();
        let quoted = |value: &str| serde_json::Value::from(value).to_string();
        let namespace = if self.namespace.is_empty() { "metallb-system" } else { &self.namespace };
        for (name, pool) in &self.pools {
            let metadata = format!("metadata: {{name: {}, namespace: {}}}", quoted(name), quoted(namespace));
            let _ = writeln!(text, "---\napiVersion: metallb.io/v1beta1\nkind: IPAddressPool\n{metadata}\nspec:");
            let _ = writeln!(text, "  addresses:");
            for address in &pool.addresses {
                let _ = writeln!(text, "  - {}", quoted(address));
            }
            if let Some(value) = pool.auto_assign {
                let _ = writeln!(text, "  autoAssign: {value}");
            }
            if let Some(value) = pool.avoid_buggy_ips {
                let _ = writeln!(text, "  avoidBuggyIPs: {value}");
            }
            if pool.protocol != "bgp" {
                let _ = writeln!(text, "---\napiVersion: metallb.io/v1beta1\nkind: L2Advertisement\n{metadata}\nspec:");
                let _ = writeln!(text, "  ipAddressPools: [{}]", quoted(name));
            }
        }
        text
    }
}
