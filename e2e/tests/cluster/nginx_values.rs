//! A values file of ingress-nginx's chart is installed as it is, and what is behind it answers as it did.

use std::net::IpAddr;
use std::time::Duration;

use anyhow::{Context, Result, ensure};
use http::Request;
use landfall_e2e::client::{self, Client};
use landfall_e2e::testbed::{Host, LANDFALL, Namespace, PATIENCE};
use landfall_e2e::{tools, wait};
use tokio::net::UdpSocket;

use crate::stage::{Stage, play_and_restore};

const APP: &str = include_str!("echo.yaml");
const ROUTES: &str = include_str!("nginx-routes.yaml");
const NAMESPACE: &str = "moved";

#[tokio::test(flavor = "multi_thread")]
async fn a_values_file_of_ingress_nginx_is_taken_as_it_is() -> Result<()> {
    play_and_restore(NAMESPACE, scenario).await
}

async fn scenario(stage: &Stage, namespace: &Namespace<'_>) -> Result<()> {
    namespace.apply(&format!("{APP}---\n{ROUTES}"))?;
    stage.testbed.rolled_out(NAMESPACE, "daemonset/echo")?;
    let values = tools::checkout().join("e2e/tests/cluster/nginx-values.yaml");
    let values = values.to_string_lossy();
    Stage::install(&stage.testbed, &["--values", &values, "--wait", "--timeout", "180s"])?;
    let ingress = stage.address(LANDFALL, "landfall-ingress").await?;
    by_http(stage, ingress).await?;
    by_ports(stage, ingress).await?;
    around(stage).await
}

/// What `controller.config`, `addHeaders`, `proxySetHeaders` and `defaultBackend` say.
async fn by_http(stage: &Stage, ingress: IpAddr) -> Result<()> {
    let answer = stage.get_until(ingress, 80, ("moved.test", "/app/x"), |answer| answer.status == 200).await?;
    ensure!(answer.backend().starts_with("echo-"), "{answer}");
    ensure!(answer.headers.get("x-edge").is_some_and(|value| value == "lab"), "addHeaders: {:?}", answer.headers);
    ensure!(answer.headers.get("x-snippet").is_some_and(|value| value == "GET"), "snippets: {:?}", answer.headers);
    let seen = answer.text().to_ascii_lowercase();
    ensure!(seen.contains("x-cluster: lab") && seen.contains(" /x "), "proxySetHeaders and the rewrite: {seen}");
    for host in ["moved.test", "nobody.test"] {
        let answer = stage.get_until(ingress, 80, (host, "/nowhere"), |answer| answer.status == 200).await?;
        ensure!(answer.backend().starts_with("landfall-default-backend-"), "the default backend for {host}: {answer}");
    }
    // A replica from before may have the connection while it leaves, and knows nothing of the class.
    wait::until(PATIENCE, "proxy-body-size to be heeded", || async {
        let asked = stage.testbed.run_on(Host::Client, move || async move {
            let mut client = Client::http1((ingress, 80).into()).await?;
            let request = Request::post("/app/x").body(client::whole("x".repeat(2000)))?;
            Ok(client.send("moved.test", request).await?.status)
        });
        let status = asked.await?;
        ensure!(status == 413, "{status}");
        Ok(())
    })
    .await?;
    Ok(())
}

/// What `tcp` and `udp` say.
async fn by_ports(stage: &Stage, ingress: IpAddr) -> Result<()> {
    let answer = stage.get_until(ingress, 9000, ("any.test", "/tcp"), |answer| answer.status == 200).await?;
    ensure!(answer.backend().starts_with("echo-"), "{answer}");
    let (answer, _) = wait::until(PATIENCE, "a datagram to be answered", || async {
        let asked = stage.testbed.run_on(Host::Client, move || async move {
            let socket = UdpSocket::bind(("0.0.0.0", 0)).await?;
            socket.send_to(b"ahoy", (ingress, 9053)).await?;
            let mut answer = [0; 512];
            let (length, _) = tokio::time::timeout(Duration::from_secs(1), socket.recv_from(&mut answer)).await??;
            Ok(String::from_utf8_lossy(&answer[..length]).into_owned())
        });
        asked.await
    })
    .await?;
    ensure!(answer.starts_with("echo-") && answer.ends_with("ahoy"), "{answer}");
    Ok(())
}

/// What `service`, `autoscaling`, `ingressClassResource` and `metrics` say.
async fn around(stage: &Stage) -> Result<()> {
    let service = stage.testbed.get(&["service", "landfall-ingress", "--namespace", LANDFALL])?;
    ensure!(service["metadata"]["annotations"]["example.com/owner"] == "edge", "{service}");
    let class = stage.testbed.get(&["ingressclass", "nginx"])?;
    ensure!(class["spec"]["controller"] == "k8s.io/ingress-nginx", "{class}");
    let scaler = stage.testbed.get(&["hpa", "landfall-ingress", "--namespace", LANDFALL])?;
    let bounds = (scaler["spec"]["minReplicas"].as_u64(), scaler["spec"]["maxReplicas"].as_u64());
    ensure!(bounds == (Some(2), Some(4)), "{scaler}");
    wait::until(PATIENCE, "requests among the metrics, under ingress-nginx's names", || async {
        let selector = "app.kubernetes.io/component=ingress";
        let pods = stage.testbed.get(&["pods", "--namespace", LANDFALL, "--selector", selector])?;
        let mut found = String::new();
        for pod in pods["items"].as_array().context("no list of pods")? {
            let name = pod["metadata"]["name"].as_str().context("a pod without a name")?;
            let path = format!("/api/v1/namespaces/{LANDFALL}/pods/{name}:10254/proxy/metrics");
            found.push_str(&stage.testbed.kubectl(&["get", "--raw", &path])?);
        }
        let wanted = |line: &str| line.starts_with("nginx_ingress_controller_requests{") && line.contains("\"moved\"");
        ensure!(found.lines().any(wanted), "there are none");
        Ok(())
    })
    .await?;
    Ok(())
}
