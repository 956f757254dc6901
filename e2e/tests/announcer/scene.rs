//! A control plane with what a user has made there, and what is seen of it.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt::Write as _;
use std::process::Command;
use std::time::Duration;

use anyhow::{Context, Result, ensure};
use landfall_e2e::kube::Cluster;
use landfall_e2e::{tools, wait};
use serde_json::Value;
use tokio::sync::Mutex;

/// Two control planes at a time would measure each other.
pub(crate) static ONE_AT_A_TIME: Mutex<()> = Mutex::const_new(());

pub(crate) const NAMESPACE: &str = "landfall-system";
/// How soon something that takes milliseconds must be seen; for machines under load.
pub(crate) const PATIENCE: Duration = Duration::from_secs(30);
/// The Lease's duration, with the other replica's next look.
pub(crate) const LEASE: Duration = Duration::from_secs(18);
const RBAC: &str = include_str!("rbac.yaml");
pub(crate) const METALLB: &str = include_str!("metallb.yaml");

/// A cluster with the namespace, the rights, and three nodes that are ready; without the definitions.
pub(crate) async fn bare() -> Result<Cluster> {
    let cluster = Cluster::start().await?;
    cluster.apply(RBAC)?;
    let mut nodes = String::new();
    for number in 1..=3 {
        writeln!(
            nodes,
            "---\napiVersion: v1\nkind: Node\nmetadata: {{name: n{number}}}\nstatus:\n  \
             addresses: [{{type: InternalIP, address: 192.168.10.{}}}]\n  \
             conditions: [{{type: Ready, status: \"True\", reason: x, message: x}}]",
            10 + number
        )?;
    }
    cluster.create(&nodes)?;
    Ok(cluster)
}

pub(crate) fn definitions(cluster: &Cluster) -> Result<()> {
    let crds = tools::run(Command::new(tools::program("landfall-lb-announcer")?).arg("crds"))?;
    cluster.apply(&crds)?;
    cluster.kubectl(&["wait", "--for=condition=Established", "crd", "--all", "--timeout=30s"])?;
    Ok(())
}

/// A cluster with the definitions, and the objects of `MetalLB`'s documentation.
pub(crate) async fn setup() -> Result<Cluster> {
    let cluster = bare().await?;
    definitions(&cluster)?;
    cluster.apply(METALLB)?;
    Ok(cluster)
}

pub(crate) fn service(name: &str, more: &str) -> String {
    format!(
        "---\napiVersion: v1\nkind: Service\nmetadata: {{name: {name}, annotations: {{{more}}}}}\n\
         spec: {{type: LoadBalancer, ports: [{{port: 80}}], selector: {{app: {name}}}}}\n"
    )
}

pub(crate) fn pool(addresses: &str) -> String {
    format!(
        "apiVersion: metallb.io/v1beta1\nkind: IPAddressPool\nmetadata: {{name: first-pool, namespace: metallb-system}}\n\
         spec: {{addresses: [{addresses}]}}\n"
    )
}

/// The addresses of every Service, by name.
pub(crate) fn addresses(cluster: &Cluster) -> Result<BTreeMap<String, String>> {
    let list = cluster.get(&["services"])?;
    let address = |service: &Value| {
        let name = service["metadata"]["name"].as_str()?.to_owned();
        let ips = service["status"]["loadBalancer"]["ingress"].as_array()?;
        let ips: Vec<&str> = ips.iter().filter_map(|one| one["ip"].as_str()).collect();
        Some((name, ips.join(",")))
    };
    Ok(list["items"].as_array().into_iter().flatten().filter_map(address).collect())
}

pub(crate) async fn has(cluster: &Cluster, name: &str, expected: Option<&str>) -> Result<Duration> {
    let ((), took) = wait::until(PATIENCE, &format!("{name} to have {expected:?}"), || async {
        let all = addresses(cluster)?;
        ensure!(all.get(name).map(String::as_str) == expected, "{all:?}");
        Ok(())
    })
    .await?;
    Ok(took)
}

/// Waits until a condition of a Service has this status, and returns its reason and message.
pub(crate) async fn condition(cluster: &Cluster, name: &str, kind: &str, status: &str) -> Result<(String, String)> {
    let what = format!("condition {kind} of {name} to be {status}");
    let (found, _) = wait::until(PATIENCE, &what, || async {
        let object = cluster.get(&["service", name])?;
        let all = object["status"]["conditions"].as_array().cloned().unwrap_or_default();
        let found = all.into_iter().find(|c| c["type"] == format!("landfall.dev/{kind}") && c["status"] == status);
        found.with_context(|| object["status"].to_string())
    })
    .await?;
    let text = |field: &str| found[field].as_str().unwrap_or_default().to_owned();
    Ok((text("reason"), text("message")))
}

pub(crate) async fn event(cluster: &Cluster, name: &str, reason: &str) -> Result<String> {
    let what = format!("event {reason} of {name}");
    let (note, _) = wait::until(PATIENCE, &what, || async {
        let list = cluster.get(&["events.events.k8s.io", "--all-namespaces"])?;
        let all = list["items"].as_array().cloned().unwrap_or_default();
        let found = all.into_iter().find(|e| e["regarding"]["name"] == name && e["reason"] == reason);
        Ok(found.context("none")?["note"].as_str().unwrap_or_default().to_owned())
    })
    .await?;
    Ok(note)
}

/// Waits until `count` Services have an address; none is given twice.
pub(crate) async fn all_have_one(cluster: &Cluster, count: usize) -> Result<BTreeMap<String, String>> {
    let (all, _) = wait::until(LEASE + PATIENCE, &format!("{count} Services to have an address"), || async {
        let all = addresses(cluster)?;
        ensure!(all.len() == count, "{} have one", all.len());
        Ok(all)
    })
    .await?;
    let different: BTreeSet<&String> = all.values().collect();
    ensure!(different.len() == count, "an address was given twice: {all:?}");
    Ok(all)
}
