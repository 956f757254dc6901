//! `explain`, `status`, `who-has` and `--wait` look at a cluster.

use std::net::TcpListener;
use std::process::{Command, Stdio};

use anyhow::{Context, Result, ensure};
use landfall_e2e::kube::{Cluster, own_address};
use landfall_e2e::tools;
use serde_json::{Value, json};

use crate::fault::Deed::Set;
use crate::fault::Part::{Body, Status};
use crate::fault::during;
use crate::scene::{run, setup};

#[tokio::test]
async fn the_commands_look_at_a_cluster_as_at_a_folder() -> Result<()> {
    let cluster = setup().await?;
    explains(&cluster)?;
    finds_an_address(&cluster)?;
    lists_addresses(&cluster)?;
    is_a_plugin(&cluster)?;
    asks_replicas(&cluster)?;
    waits(&cluster)
}

fn explains(cluster: &Cluster) -> Result<()> {
    let (code, said, _) = run(cluster, "landfall-ingress", &["explain", "http://a.shop.example/cart"])?;
    ensure!(code == Some(0) && said.contains("shop/web") && said.contains("10.244.0.5:8080"), "{said}");
    let (code, said, _) = run(cluster, "landfall-ingress", &["explain", "-o", "json", "http://other.example/"])?;
    ensure!(code == Some(1) && serde_json::from_str::<Value>(&said)?["winner"].is_null(), "{said}");
    Ok(())
}

fn finds_an_address(cluster: &Cluster) -> Result<()> {
    let (code, said, _) = run(cluster, "landfall-lb-announcer", &["who-has", "192.168.10.200"])?;
    for part in
        ["landfall-system/landfall-ingress", "node       n1", "02:00:00:00:00:01", "n2", "n3", "ARP        not asked"]
    {
        ensure!(said.contains(part), "{part:?} is not in {said}");
    }
    ensure!(code == Some(0), "{said}");
    let (_, said, _) = run(cluster, "landfall-lb-announcer", &["who-has", "192.168.10.200", "-o", "json"])?;
    let found: Value = serde_json::from_str(&said)?;
    ensure!(found["node"] == "n1" && found["pool"] == "lan" && found["since"].is_string(), "{found}");
    let standbys = found["standbys"].as_array().context("a list")?;
    ensure!(standbys.len() == 2 && !standbys.contains(&json!("n1")), "{found}");
    let (code, said, _) = run(cluster, "landfall-lb-announcer", &["who-has", "192.168.10.205"])?;
    ensure!(code == Some(1) && said.contains("none announces it"), "{said}");
    Ok(())
}

fn lists_addresses(cluster: &Cluster) -> Result<()> {
    let (code, said, _) = run(cluster, "landfall-lb-announcer", &["status"])?;
    ensure!(
        code == Some(0) && said.contains("192.168.10.200") && said.contains("landfall-system/landfall-ingress"),
        "{said}"
    );
    let (_, said, _) = run(cluster, "landfall-lb-announcer", &["status", "-o", "json"])?;
    let found: Value = serde_json::from_str(&said)?;
    ensure!(found["addresses"][0]["node"] == "n1" && found["nodes"][0]["speaker"] == true, "{found}");
    Ok(())
}

/// The script chooses the program; kubectl takes whatever is called kubectl-NAME in the PATH.
fn is_a_plugin(cluster: &Cluster) -> Result<()> {
    let folder = tools::program("landfall-ingress")?.parent().context("a folder")?.display().to_string();
    let path = format!("{folder}:{}", std::env::var("PATH")?);
    let script = tools::checkout().join("hack/kubectl-landfall");
    let run = |arguments: &[&str]| {
        let mut command = Command::new(&script);
        tools::run_any(command.args(arguments).env("PATH", &path).env("KUBECONFIG", cluster.kubeconfig()))
    };
    let (output, said) = run(&["check", "--no-dns"])?;
    ensure!(output.status.code() == Some(2) && said.contains("[address]"), "an option of one program only: {said}");
    let (output, said) = run(&["check"])?;
    ensure!(output.status.success() && said.contains("[address]") && said.contains("[kube-proxy]"), "{said}");
    let (output, said) = run(&["who-has", "192.168.10.200"])?;
    ensure!(output.status.success() && said.contains("n1"), "{said}");
    let (output, said) = run(&["nothing"])?;
    ensure!(output.status.code() == Some(2) && said.contains("usage: kubectl landfall"), "{said}");
    Ok(())
}

/// The API server's own proxy leads to a replica that stands on this machine.
fn asks_replicas(cluster: &Cluster) -> Result<()> {
    let ip = own_address()?;
    let listener = TcpListener::bind((ip, 0))?;
    let port = listener.local_addr()?.port();
    std::thread::spawn(move || -> Result<()> {
        let body = json!({"ready": true, "generation": 7, "ingresses": [], "certificates": [],
            "problems": [{"message": "ingress shop/web: is odd", "reason": "Odd"}]})
        .to_string();
        for stream in listener.incoming() {
            use std::io::{Read, Write};
            let mut stream = stream?;
            let mut request = [0; 4096];
            let length = stream.read(&mut request)?;
            ensure!(request[..length].starts_with(b"GET /status HTTP/1.1\r\n"), "another question");
            write!(stream, "HTTP/1.1 200 OK\r\nContent-Length: {}\r\nConnection: close\r\n\r\n{body}", body.len())?;
        }
        Ok(())
    });
    let pod = json!({"apiVersion": "v1", "kind": "Pod", "metadata": {"name": "ingress-2", "namespace": "landfall-system",
        "labels": {"app.kubernetes.io/name": "landfall", "app.kubernetes.io/component": "ingress"}},
        "spec": {"nodeName": "n2", "containers": [{"name": "ingress", "image": "landfall-ingress",
        "ports": [{"name": "admin", "containerPort": port}]}]}});
    cluster.create(&pod.to_string())?;
    let status = json!({"status": {"phase": "Running", "podIP": ip, "podIPs": [{"ip": ip}], "conditions": [{"type": "Ready", "status": "True"}]}});
    cluster.kubectl(&[
        "-n",
        "landfall-system",
        "patch",
        "pod",
        "ingress-2",
        "--subresource=status",
        "--type=merge",
        "-p",
        &status.to_string(),
    ])?;
    // The replica of the scene is nowhere.
    cluster.kubectl(&["-n", "landfall-system", "delete", "pod", "ingress-1", "--grace-period=0", "--force"])?;
    let (code, said, _) = run(cluster, "landfall-ingress", &["status"])?;
    let row: Vec<&str> = said.lines().nth(1).unwrap_or_default().split_whitespace().collect();
    ensure!(row == ["ingress-2", "n2", "yes", "7", "0", "1", "0"], "{said}");
    ensure!(code == Some(0) && said.contains("ingress shop/web: is odd [Odd]"), "{said}");
    Ok(())
}

/// `--wait` ends as soon as nothing fails any more.
fn waits(cluster: &Cluster) -> Result<()> {
    let arguments = ["check", "--no-dns", "--wait", "60"];
    let fault = [
        Set(Body, "service", "shop", "web", "/spec/selector/app", json!("wbe")),
        Set(Status, "deployment", "landfall-system", "landfall-ingress", "/status/readyReplicas", json!(0)),
    ];
    let waiting = during(cluster, &fault, || {
        let (code, said, _) = run(cluster, "landfall-ingress", &["check", "--no-dns", "--wait", "1"])?;
        ensure!(code == Some(1) && said.contains("[NoMatchingPods]"), "{said}");
        let mut command = Command::new(tools::program("landfall-ingress")?);
        command.args(arguments).env("KUBECONFIG", cluster.kubeconfig()).stdout(Stdio::piped());
        Ok(command.spawn()?)
    })?;
    let output = waiting.wait_with_output()?;
    ensure!(output.status.success(), "{}: {}", output.status, String::from_utf8_lossy(&output.stdout));
    Ok(())
}
