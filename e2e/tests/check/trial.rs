//! `test` through an ingress that serves the API server's objects. There are no nodes, so the test's pods run nowhere:
//! one process takes their place, and a slice leads to it.

use std::process::{Child, Command, Stdio};
use std::time::Duration;

use anyhow::{Context, Result, ensure};
use landfall_e2e::ingress::Launch;
use landfall_e2e::kube::{Cluster, own_address};
use landfall_e2e::{tools, wait};
use serde_json::{Value, json};

use crate::scene::setup;

const PATIENCE: Duration = Duration::from_secs(30);

/// Ends with the test.
struct Running(Child);

impl Drop for Running {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

#[tokio::test]
async fn every_protocol_is_tried_and_everything_is_removed() -> Result<()> {
    let cluster = setup().await?;
    let (ip, port) = (own_address()?, tools::free_port()?);
    let program = tools::program("landfall-ingress")?;
    let _pod = Running(
        Command::new(&program).args(["echo", "--listen", &format!("{ip}:{port}")]).stderr(Stdio::null()).spawn()?,
    );
    let ingress = Launch::kubeconfig(&cluster.kubeconfig()).start().await?;
    let (http, https) = (ingress.http.port().to_string(), ingress.https.port().to_string());
    let mut command = Command::new(&program);
    command.env("KUBECONFIG", cluster.kubeconfig()).stdout(Stdio::piped());
    command.args([
        "test",
        "--image",
        "landfall-ingress",
        "--address",
        "127.0.0.1",
        "--http-port",
        &http,
        "--https-port",
        &https,
    ]);
    let mut trial = Running(command.args(["--big-body", "8388608", "-o", "json"]).spawn()?);
    wait::until(PATIENCE, "the Service of the test", || async {
        cluster.get(&["-n", "landfall-test", "service", "echo"]).map(drop)
    })
    .await?;
    let slice = json!({"apiVersion": "discovery.k8s.io/v1", "kind": "EndpointSlice", "metadata": {"name": "echo-1",
        "namespace": "landfall-test", "labels": {"kubernetes.io/service-name": "echo"}}, "addressType": "IPv4",
        "ports": [{"name": "http", "port": port}, {"name": "grpc", "port": port}],
        "endpoints": [{"addresses": [ip], "conditions": {"ready": true}}]});
    cluster.create(&slice.to_string())?;
    let output = trial.0.stdout.take().context("it is piped")?;
    let status = trial.0.wait()?;
    let said = std::io::read_to_string(output)?;
    let report: Value = serde_json::from_str(&said).with_context(|| said.clone())?;
    let tried = report["tried"].as_array().context("a list")?;
    ensure!(tried.len() == 7 && tried.iter().all(|one| one["error"].is_null()), "{report:#}\n{}", ingress.log());
    ensure!(status.success(), "{status}");
    // Without a controller nobody finishes it, but it has been asked for.
    let namespace = cluster.get(&["namespace", "landfall-test"]);
    ensure!(namespace.map_or(true, |one| one["metadata"]["deletionTimestamp"].is_string()), "the namespace stays");
    is_careful(&cluster)
}

/// A namespace of somebody else is neither used nor removed.
fn is_careful(cluster: &Cluster) -> Result<()> {
    let mut command = Command::new(tools::program("landfall-ingress")?);
    command.env("KUBECONFIG", cluster.kubeconfig());
    let arguments = ["test", "--image", "i", "--test-namespace", "shop", "--address", "127.0.0.1", "--patience", "1"];
    let (output, said) = tools::run_any(command.args(arguments))?;
    ensure!(output.status.code() == Some(2) && said.contains("cannot create namespace shop"), "{said}");
    ensure!(cluster.get(&["namespace", "shop"])?["metadata"]["deletionTimestamp"].is_null(), "it is removed");
    ensure!(cluster.get(&["-n", "shop", "service", "echo"]).is_err(), "it is used");
    Ok(())
}
