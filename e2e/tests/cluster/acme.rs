//! Certificates by Landfall itself, from an ACME server on the LAN that asks port 80 of the ingress' address: at rest,
//! during a rollout of the ingress, and while its address moves to another node.

use std::net::SocketAddr;
use std::time::Duration;

use anyhow::{Context, Result, ensure};
use landfall_e2e::client::Client;
use landfall_e2e::testbed::{Host, LANDFALL, Namespace, PATIENCE, Testbed};
use landfall_e2e::tls::Trust;
use landfall_e2e::{figures, wait};
use serde_json::{Value, json};

use crate::pebble::{ACME, NAMES, Pebble};
use crate::stage::{Stage, play};

const APP: &str = include_str!("echo.yaml");
/// From the Ingress to the first answer over TLS, while nothing else happens.
const SOON: Duration = Duration::from_secs(20);
/// The same while pods and the address go from one node to another: a leader that goes gives up its Lease, and what it
/// has begun is gone on with.
const MEANWHILE: Duration = Duration::from_mins(2);

#[tokio::test(flavor = "multi_thread")]
async fn certificates_come_through_the_address_of_the_lan() -> Result<()> {
    play("acme", scenario).await
}

async fn scenario(stage: &Stage, namespace: &Namespace<'_>) -> Result<()> {
    let testbed = &stage.testbed;
    let folder = tempfile::TempDir::new()?;
    let server = Pebble::start(testbed, folder.path(), stage.ingress).await?;
    let values = folder.path().join("acme.yaml");
    std::fs::write(&values, settings(&server)?.to_string())?;
    Stage::install(testbed, &["--values", &values.to_string_lossy(), "--wait", "--timeout", "120s"])?;
    namespace.apply(APP)?;
    namespace.apply(&service().to_string())?;
    testbed.rolled_out(namespace.name(), "daemonset/echo")?;
    let root = folder.path().join("root.pem");
    std::fs::write(&root, server.root()?)?;
    let scene = Scene { stage, namespace, server: &server, trust: Trust::from_file(&root)? };
    let outcome = scene.play().await;
    if outcome.is_err() {
        println!("{}", server.log());
    }
    outcome
}

/// What the chart is told besides the values of all scenarios.
fn settings(server: &Pebble<'_>) -> Result<Value> {
    let issuer = json!({
        "directory": format!("https://{ACME}:14000/dir"), "email": "me@example.com", "termsAgreed": true,
        "caBundle": server.bundle()?,
    });
    let acme = json!({"enabled": true, "issuers": {"lan": issuer}});
    Ok(json!({"ingress": {"acme": acme, "extraArgs": [format!("--acme-dns={ACME}:{NAMES}")]}}))
}

struct Scene<'a> {
    stage: &'a Stage,
    namespace: &'a Namespace<'a>,
    server: &'a Pebble<'a>,
    trust: Trust,
}

impl Scene<'_> {
    async fn play(&self) -> Result<()> {
        let testbed = &self.stage.testbed;
        self.ask("rest")?;
        let took = self.issued("rest", SOON.max(PATIENCE)).await?;
        figures::print(&format!("ACME on the LAN: from the Ingress to TLS in {:.1} s", took.as_secs_f64()));
        figures::within(took, SOON, PATIENCE)?;

        let deployment = "deployment/landfall-ingress";
        testbed.kubectl(&["rollout", "restart", "--namespace", LANDFALL, deployment])?;
        self.ask("rollout")?;
        let took = self.issued("rollout", MEANWHILE).await?;
        figures::print(&format!("ACME during a rollout of the ingress: {:.1} s", took.as_secs_f64()));
        testbed.rolled_out(LANDFALL, deployment)?;

        let before = self.stage.announcer(LANDFALL, "landfall-ingress").await?;
        let node = before.to_string();
        let drain = ["--ignore-daemonsets", "--delete-emptydir-data", "--timeout=120s"];
        self.ask("move")?;
        let moved = testbed.kubectl(&[&["drain", &node], &drain[..]].concat());
        let took = self.issued("move", MEANWHILE).await;
        let after = self.moved(before).await;
        // The scenarios after this one need all nodes.
        testbed.kubectl(&["uncordon", &node])?;
        moved?;
        figures::print(&format!("ACME during a move of the address: {:.1} s", took?.as_secs_f64()));
        after?;
        testbed.rolled_out(LANDFALL, deployment)?;

        self.events(testbed).await?;
        // Whoever led when one of them began, each was ordered once.
        ensure!(self.server.orders() == 3, "{} orders for three certificates", self.server.orders());
        Ok(())
    }

    /// Applies an Ingress that asks for a certificate for `NAME.acme.test`.
    fn ask(&self, name: &str) -> Result<()> {
        let host = format!("{name}.acme.test");
        let backend = json!({"service": {"name": "app", "port": {"number": 80}}});
        let ingress = json!({
            "apiVersion": "networking.k8s.io/v1", "kind": "Ingress",
            "metadata": {"name": name, "annotations": {"landfall.dev/acme": "lan"}},
            "spec": {
                "ingressClassName": "landfall", "tls": [{"hosts": [host], "secretName": format!("{name}-tls")}],
                "rules": [{"host": host, "http": {"paths": [{"path": "/", "pathType": "Prefix", "backend": backend}]}}],
            },
        });
        self.namespace.apply(&ingress.to_string())
    }

    /// Waits until the client gets an answer over TLS, trusting nobody but the ACME server.
    async fn issued(&self, name: &str, limit: Duration) -> Result<Duration> {
        let host = format!("{name}.acme.test");
        let what = format!("https://{host} with a certificate of the ACME server");
        let ((), took) = wait::until(limit, &what, || async {
            let (at, trust, host) = (SocketAddr::new(self.stage.ingress, 443), self.trust.clone(), host.clone());
            let asked = self.stage.testbed.run_on(Host::Client, move || async move {
                Client::https2(at, &host, &trust).await?.get(&host, "/").await
            });
            let answer = tokio::time::timeout(Duration::from_secs(5), asked).await??;
            ensure!(answer.status == 200 && answer.backend().starts_with("echo-"), "{answer}");
            Ok(())
        })
        .await?;
        Ok(took)
    }

    /// Waits until another node announces the address.
    async fn moved(&self, before: Host) -> Result<()> {
        wait::until(PATIENCE, "another node to announce the address", || async {
            ensure!(self.stage.announcer(LANDFALL, "landfall-ingress").await? != before, "it is still {before}");
            Ok(())
        })
        .await?;
        Ok(())
    }

    /// Waits until each Ingress has an Event of its certificate.
    async fn events(&self, testbed: &Testbed) -> Result<()> {
        wait::until(PATIENCE, "Events of three certificates", || async {
            let list = testbed.get(&["events.events.k8s.io", "--namespace", self.namespace.name()])?;
            let all = list["items"].as_array().context("no list")?;
            let issued = all.iter().filter(|event| event["reason"] == "CertificateIssued");
            let names: std::collections::BTreeSet<&str> =
                issued.filter_map(|event| event["regarding"]["name"].as_str()).collect();
            ensure!(names.len() == 3, "{names:?}");
            Ok(())
        })
        .await?;
        Ok(())
    }
}

fn service() -> Value {
    json!({
        "apiVersion": "v1", "kind": "Service", "metadata": {"name": "app"},
        "spec": {"selector": {"app": "echo"}, "ports": [{"port": 80, "targetPort": "http"}]},
    })
}
