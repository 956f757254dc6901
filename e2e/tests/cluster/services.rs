//! Every kind of Service, behind an Ingress and, where it applies, with an address of its own on the LAN.

use std::collections::BTreeSet;
use std::net::{IpAddr, SocketAddr};
use std::time::Duration;

use anyhow::{Context, Result, ensure};
use landfall_e2e::client::Answer;
use landfall_e2e::echo::Echo;
use landfall_e2e::testbed::{Host, Namespace, PATIENCE};
use landfall_e2e::wait;
use tokio::net::UdpSocket;

use crate::stage::{Stage, play};

const APP: &str = include_str!("echo.yaml");
const SERVICES: &str = include_str!("services.yaml");
const NAMESPACE: &str = "services";
const CLIENT: &str = "192.168.77.100";

#[tokio::test(flavor = "multi_thread")]
async fn every_kind_of_service() -> Result<()> {
    play(NAMESPACE, scenario).await
}

async fn scenario(stage: &Stage, namespace: &Namespace<'_>) -> Result<()> {
    namespace.apply(APP)?;
    namespace.apply(SERVICES)?;
    for workload in ["daemonset/echo", "statefulset/stateful", "deployment/wanderer"] {
        stage.testbed.rolled_out(NAMESPACE, workload)?;
    }
    behind_an_ingress(stage).await.context("behind an Ingress")?;
    balanced(stage).await.context("a Service with several ports and both families")?;
    datagrams(stage).await.context("UDP")?;
    sticky(stage).await.context("sessionAffinity")?;
    guarded(stage).await.context("loadBalancerSourceRanges")?;
    local(stage).await.context("externalTrafficPolicy Local")
}

fn is_ok(answer: &Answer) -> bool {
    answer.status == 200
}

async fn behind_an_ingress(stage: &Stage) -> Result<()> {
    // The backend without a selector is a program on the client, as somebody's old server would be.
    let (stop, stopped) = tokio::sync::oneshot::channel::<()>();
    let old_server = stage.testbed.run_on(Host::Client, || async move {
        let _server = Echo::start("old-server", SocketAddr::from(([0, 0, 0, 0], 8080))).await?;
        // It ends with the scenario, however that ends.
        let _ = stopped.await;
        Ok(())
    });
    let asking = async {
        for (path, pod) in [
            ("/clusterip", "echo-"),
            ("/nodeport", "echo-"),
            ("/named", "echo-"),
            ("/external", "echo-"),
            ("/no-selector", "old-server"),
            ("/headless", "stateful-"),
            ("/balanced", "echo-"),
        ] {
            let right = |answer: &Answer| is_ok(answer) && answer.backend().starts_with(pod);
            stage.get_until(stage.ingress, 80, ("kinds.test", path), right).await?;
        }
        drop(stop);
        Ok(())
    };
    let (served, asked) = tokio::join!(old_server, asking);
    asked.and(served)
}

async fn balanced(stage: &Stage) -> Result<()> {
    let addresses = stage.testbed.addresses(NAMESPACE, "balanced").await?;
    let addresses: Vec<IpAddr> = addresses.iter().map(|a| Ok(a.parse()?)).collect::<Result<_>>()?;
    ensure!(addresses.iter().any(IpAddr::is_ipv4) && addresses.iter().any(IpAddr::is_ipv6), "{addresses:?}");
    for address in addresses {
        for port in [80, 81] {
            stage.get_until(address, port, ("balanced.test", "/"), is_ok).await?;
        }
        // A node's kube-proxy hears of the pods one after the other.
        wait::until(PATIENCE, "several pods to answer", || async {
            let mut pods = BTreeSet::new();
            for _ in 0..30 {
                pods.insert(stage.get(address, 80, "balanced.test", "/").await?.backend());
            }
            ensure!(pods.len() > 1, "30 connections to {address} were all for {pods:?}");
            Ok(())
        })
        .await?;
    }
    Ok(())
}

async fn datagrams(stage: &Stage) -> Result<()> {
    let address = stage.address(NAMESPACE, "datagrams").await?;
    let (answer, _) = wait::until(PATIENCE, "a datagram to be answered", || async {
        let asked = stage.testbed.run_on(Host::Client, move || async move {
            let socket = UdpSocket::bind(("0.0.0.0", 0)).await?;
            socket.send_to(b"ahoy", (address, 5353)).await?;
            let mut answer = [0; 512];
            let received = tokio::time::timeout(Duration::from_secs(1), socket.recv_from(&mut answer)).await??;
            ensure!(received.1.ip() == address, "{} answered for {address}", received.1);
            Ok(String::from_utf8_lossy(&answer[..received.0]).into_owned())
        });
        asked.await
    })
    .await?;
    ensure!(answer.starts_with("echo-") && answer.ends_with("ahoy"), "{answer}");
    Ok(())
}

async fn sticky(stage: &Stage) -> Result<()> {
    let address = stage.address(NAMESPACE, "sticky").await?;
    stage.get_until(address, 80, ("sticky.test", "/"), is_ok).await?;
    // Who goes where is known to the kube-proxy of one node, so a client starts anew when its address moves.
    let (pods, _) = wait::until(PATIENCE, "20 requests in a row through one node", || async {
        let before = stage.announcer(NAMESPACE, "sticky").await?;
        let mut pods = BTreeSet::new();
        for _ in 0..20 {
            pods.insert(stage.get(address, 80, "sticky.test", "/").await?.backend());
        }
        let after = stage.announcer(NAMESPACE, "sticky").await?;
        ensure!(before == after, "the address moved from {before} to {after}");
        Ok(pods)
    })
    .await?;
    ensure!(pods.len() == 1, "20 requests of one client were for {pods:?}");
    Ok(())
}

async fn guarded(stage: &Stage) -> Result<()> {
    let address = stage.address(NAMESPACE, "guarded").await?;
    let from_router = || async {
        let mut command = stage.testbed.on(Host::Router, "curl");
        landfall_e2e::tools::run(command.args(["-s", "--max-time", "2", &format!("http://{address}/")]))
    };
    wait::until(PATIENCE, "the router, which is let in", from_router).await?;
    let asked = stage.get(address, 80, "guarded.test", "/").await;
    ensure!(asked.is_err(), "the client is shut out, but it got {}", asked?);
    Ok(())
}

async fn local(stage: &Stage) -> Result<()> {
    let address = stage.address(NAMESPACE, "local").await?;
    let client = |answer: &Answer| answer.text().contains(&format!("client: {CLIENT}:"));
    for node in [Host::Node(1), Host::Node(3), Host::Node(2)] {
        let select =
            format!(r#"{{"spec":{{"template":{{"spec":{{"nodeSelector":{{"kubernetes.io/hostname":"{node}"}}}}}}}}}}"#);
        let patch = ["patch", "deployment", "wanderer", "--namespace", NAMESPACE, "--patch", &select];
        stage.testbed.kubectl(&patch)?;
        stage.testbed.rolled_out(NAMESPACE, "deployment/wanderer")?;
        wait::until(PATIENCE, &format!("{node}, where the pod is, to announce"), || async {
            let announcer = stage.announcer(NAMESPACE, "local").await?;
            ensure!(announcer == node, "{announcer} announces");
            Ok(())
        })
        .await?;
        let answer = stage.get_until(address, 80, ("local.test", "/"), is_ok).await?;
        ensure!(client(&answer), "the pod on {node} does not see the client's address {CLIENT}: {}", answer.text());
    }
    Ok(())
}
