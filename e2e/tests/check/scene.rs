//! A cluster that is well, as its objects say.

use std::process::Command;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, ensure};
use landfall_e2e::kube::Cluster;
use landfall_e2e::tools;
use serde_json::{Value, json};

/// Everything but what is a status.
const OBJECTS: &str = include_str!("scene.yaml");

/// What kubelets, controllers and our own programs would have written: resource, namespace, name, status.
fn statuses() -> Vec<(&'static str, &'static str, String, Value)> {
    let ready = json!([{"type": "Ready", "status": "True"}]);
    let address = json!({"loadBalancer": {"ingress": [{"ip": "192.168.10.200"}]}});
    let mut all = vec![
        ("service", "landfall-system", "landfall-ingress".to_owned(), address.clone()),
        ("ingress", "shop", "web".to_owned(), address),
        (
            "pod",
            "shop",
            "web-1".to_owned(),
            json!({"phase": "Running", "podIP": "10.244.0.5", "podIPs": [{"ip": "10.244.0.5"}], "conditions": ready}),
        ),
        (
            "pod",
            "landfall-system",
            "ingress-1".to_owned(),
            json!({"phase": "Running", "podIP": "10.244.0.9", "podIPs": [{"ip": "10.244.0.9"}], "conditions": ready}),
        ),
        ("deployment", "landfall-system", "landfall-ingress".to_owned(), json!({"replicas": 1, "readyReplicas": 1})),
        ("deployment", "landfall-system", "landfall-controller".to_owned(), json!({"replicas": 1, "readyReplicas": 1})),
        (
            "daemonset",
            "landfall-system",
            "landfall-speaker".to_owned(),
            json!({"desiredNumberScheduled": 3, "numberReady": 3, "currentNumberScheduled": 3, "numberMisscheduled": 0}),
        ),
        (
            "servicel2status",
            "landfall-system",
            "l2-1".to_owned(),
            json!({"node": "n1", "serviceName": "landfall-ingress", "serviceNamespace": "landfall-system"}),
        ),
    ];
    for node in 1..=3 {
        all.push((
            "pod",
            "landfall-system",
            format!("speaker-n{node}"),
            json!({"phase": "Running", "conditions": ready}),
        ));
    }
    all
}

/// Starts it.
pub(crate) async fn setup() -> Result<Cluster> {
    let cluster = Cluster::start().await?;
    let definitions = tools::run(Command::new(tools::program("landfall-lb-announcer")?).arg("crds"))?;
    cluster.apply(&definitions)?;
    cluster.kubectl(&["wait", "--for=condition=Established", "crd", "--all", "--timeout=30s"])?;
    cluster.create(OBJECTS)?;
    for (resource, namespace, name, status) in statuses() {
        let patch = json!({ "status": status }).to_string();
        cluster.kubectl(&[
            "-n",
            namespace,
            "patch",
            resource,
            &name,
            "--subresource=status",
            "--type=merge",
            "-p",
            &patch,
        ])?;
    }
    Ok(cluster)
}

/// Runs a program against the cluster; exit status, standard output, and how long it took.
pub(crate) fn run(cluster: &Cluster, program: &str, arguments: &[&str]) -> Result<(Option<i32>, String, Duration)> {
    let mut command = Command::new(tools::program(program)?);
    command.args(arguments).env("KUBECONFIG", cluster.kubeconfig());
    let begun = Instant::now();
    let (output, said) = tools::run_any(&mut command)?;
    let took = begun.elapsed();
    ensure!(output.status.code().is_some_and(|code| code < 2), "{program} {arguments:?}: {}\n{said}", output.status);
    Ok((output.status.code(), String::from_utf8_lossy(&output.stdout).into_owned(), took))
}

/// What `check` of a program says, as JSON.
pub(crate) fn check(cluster: &Cluster, program: &str) -> Result<Value> {
    let (_, said, _) = run(cluster, program, &["check", "-o", "json"])?;
    serde_json::from_str(&said).with_context(|| said)
}
