//! The ways to reach the ingress that are no LoadBalancer: ports of the nodes themselves, and a class of ingress-nginx.

use std::net::IpAddr;

use anyhow::{Context, Result, ensure};
use landfall_e2e::testbed::{LANDFALL, Namespace, PATIENCE};
use landfall_e2e::wait;
use serde_json::Value;

use crate::stage::{Stage, play_and_restore};

const APP: &str = include_str!("echo.yaml");
const FRONT_DOOR: &str = include_str!("front-door.yaml");
const NAMESPACE: &str = "expose";
/// Every node's own addresses.
const NODES: [&str; 3] = ["192.168.77.11", "192.168.77.12", "192.168.77.13"];

#[tokio::test(flavor = "multi_thread")]
async fn on_ports_of_the_nodes() -> Result<()> {
    play_and_restore(NAMESPACE, scenario).await
}

async fn scenario(stage: &Stage, namespace: &Namespace<'_>) -> Result<()> {
    namespace.apply(&format!("{APP}---\n{FRONT_DOOR}"))?;
    namespace.apply(
        &FRONT_DOOR
            .replace("front-door", "by-nginx")
            .replace("first.test", "nginx.test")
            .replace("spec: {rules", "spec: {ingressClassName: nginx, rules"),
    )?;
    stage.testbed.rolled_out(NAMESPACE, "daemonset/echo")?;
    for (mode, http) in [("HostNetwork", 80), ("HostPort", 80), ("NodePort", 30080)] {
        let expose = format!("ingress.expose={mode}");
        // Of a Service that keeps the client's address only nodes with a pod answer.
        let with_ports = "ingress.kind=DaemonSet,ingress.service.nodePorts.http=30080";
        let ports = if mode == "NodePort" { with_ports } else { "ingress.kind=" };
        let arguments = ["--set", &expose, "--set", ports, "--set", "ingress.nginx.enabled=true"];
        Stage::install(&stage.testbed, &[&arguments[..], &["--wait", "--timeout", "120s"]].concat())
            .with_context(|| mode.to_owned())?;
        for node in NODES {
            let node: IpAddr = node.parse()?;
            for host in ["first.test", "nginx.test"] {
                let answered = stage.get_until(node, http, (host, "/"), |answer| answer.status == 200).await;
                answered.with_context(|| mode.to_owned())?;
            }
        }
        published(stage).await.with_context(|| mode.to_owned())?;
    }
    let log = ["logs", "--namespace", LANDFALL, "--selector", "app.kubernetes.io/component=ingress", "--tail=-1"];
    ensure!(!stage.testbed.kubectl(&log)?.contains("ERROR"), "the ingress has logged an error");
    Ok(())
}

/// The Ingress' status has the addresses of nodes, and nothing else.
async fn published(stage: &Stage) -> Result<()> {
    wait::until(PATIENCE, "the nodes' addresses in the status of the Ingress", || async {
        let ingress = stage.testbed.get(&["ingress", "front-door", "--namespace", NAMESPACE])?;
        let entries = ingress.pointer("/status/loadBalancer/ingress").and_then(Value::as_array);
        let addresses: Vec<_> = entries.into_iter().flatten().filter_map(|entry| entry["ip"].as_str()).collect();
        let of_nodes = |address: &&str| NODES.contains(address) || address.starts_with("fd77::1");
        ensure!(!addresses.is_empty() && addresses.iter().all(of_nodes), "{addresses:?}");
        Ok(())
    })
    .await?;
    Ok(())
}
