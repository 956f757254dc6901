//! kube-proxy: whether it lets one node alone answer for an address.

use std::sync::Arc;

use k8s_openapi::api::apps::v1::DaemonSet;
use k8s_openapi::api::core::v1::ConfigMap;
use landfall_model::{Findings, ObjectKey, ObjectRef, Problem};
use serde::Deserialize;

use super::STRICT_ARP;

#[derive(Deserialize, Default)]
struct Config {
    #[serde(default)]
    mode: Option<String>,
    #[serde(default)]
    ipvs: Option<Ipvs>,
}

#[derive(Deserialize, Default)]
struct Ipvs {
    #[serde(default, rename = "strictARP")]
    strict_arp: Option<bool>,
}

/// Judges kube-proxy's configuration.
pub(super) fn judge(map: Option<&ConfigMap>, daemon_sets: &[Arc<DaemonSet>]) -> Findings {
    let mut findings = Findings::new();
    let Some(text) = map.and_then(|map| map.data.as_ref()?.get("config.conf")) else {
        let runs = daemon_sets.iter().any(|set| set.metadata.name.as_deref() == Some("kube-proxy"));
        let says = if runs {
            "kube-proxy's configuration is not in configmap kube-system/kube-proxy, so its mode is not known; in mode \
             ipvs it needs strictARP"
        } else {
            "no kube-proxy of kubeadm's is here; whatever takes its place has to take traffic for addresses in the \
             status of Services (Cilium: kubeProxyReplacement)"
        };
        findings.unknown("kube-proxy", says);
        return findings;
    };
    let Ok(config) = serde_saphyr::from_str::<Config>(text) else {
        findings.unknown("kube-proxy", "configmap kube-system/kube-proxy: data.config.conf can't be read");
        return findings;
    };
    let mode = config.mode.filter(|mode| !mode.is_empty()).unwrap_or_else(|| "iptables".to_owned());
    let strict = config.ipvs.and_then(|ipvs| ipvs.strict_arp).unwrap_or(false);
    if mode == "ipvs" && !strict {
        let about = ObjectRef::new("ConfigMap", ObjectKey::new("kube-system", "kube-proxy"));
        let cause = "in mode ipvs without strictARP every node answers ARP for every address";
        let problem = Problem::new(about, STRICT_ARP, cause).at("data.config.conf: ipvs.strictARP", "false");
        findings.bad(
            "kube-proxy",
            problem.remedy("set it to true and run: kubectl -n kube-system rollout restart daemonset/kube-proxy"),
        );
    } else {
        let strict = if mode == "ipvs" { " with strictARP" } else { ", which needs no strictARP" };
        findings.good("kube-proxy", format!("kube-proxy is in mode {mode}{strict}"));
    }
    findings
}
