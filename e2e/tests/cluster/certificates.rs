//! A certificate from an ACME server for an Ingress of ours, by cert-manager and HTTP-01.
//!
//! Both are the real programs: cert-manager from its module, and Let's Encrypt's server for tests, which resolves names
//! by a DNS server of its own and then asks port 80 of the address as Let's Encrypt does.

use std::net::SocketAddr;
use std::path::Path;
use std::process::Command;
use std::time::Duration;

use anyhow::{Context, Result, ensure};
use landfall_e2e::client::Client;
use landfall_e2e::testbed::{Host, Namespace, PATIENCE, Testbed};
use landfall_e2e::tls::Trust;
use landfall_e2e::{figures, tools, wait};
use serde_json::{Value, json};

use crate::pebble::{ACME, Pebble};
use crate::stage::{Stage, play};

const APP: &str = include_str!("echo.yaml");
const CERT_MANAGER: &str = include_str!("cert-manager.yaml");
const VERSION: &str = "1.21.2";
const HOST: &str = "certified.test";
/// From the Ingress to the first answer over TLS.
const ISSUED_WITHIN: Duration = Duration::from_mins(3);

#[tokio::test(flavor = "multi_thread")]
async fn cert_manager_gets_a_certificate() -> Result<()> {
    play("certificates", scenario).await
}

async fn scenario(stage: &Stage, namespace: &Namespace<'_>) -> Result<()> {
    let testbed = &stage.testbed;
    let folder = tempfile::TempDir::new()?;
    let server = Pebble::start(testbed, folder.path(), stage.ingress).await?;
    install_cert_manager(testbed, folder.path())?;
    namespace.apply(APP)?;
    testbed.rolled_out(namespace.name(), "daemonset/echo")?;
    let outcome = issued(stage, namespace, &server, folder.path()).await;
    if outcome.is_err() {
        println!("{}\n{}", testbed.dump("cert-manager"), server.log());
        let kinds = "issuers,certificates,certificaterequests,orders,challenges";
        println!("{}", testbed.kubectl(&["describe", kinds, "--namespace", namespace.name()])?);
        return outcome;
    }
    testbed.kubectl(&["delete", "namespace", "cert-manager"])?;
    testbed.kubectl(&["delete", "clusterrolebinding", "testbed-cert-manager"])?;
    Ok(())
}

async fn issued(stage: &Stage, namespace: &Namespace<'_>, server: &Pebble<'_>, folder: &Path) -> Result<()> {
    let testbed = &stage.testbed;
    namespace.apply(&issuer(&server.authority()?).to_string())?;
    namespace.apply(&ingress().to_string())?;
    // The certificate is one of the server's, so nothing but it is trusted.
    let root = server.root()?;
    let file = folder.join("root.pem");
    std::fs::write(&file, root)?;
    let trust = Trust::from_file(&file)?;
    let what = format!("https://{HOST} with a certificate of the ACME server");
    let (answer, after) = wait::until(ISSUED_WITHIN, &what, || async {
        let (at, trust) = (SocketAddr::new(stage.ingress, 443), trust.clone());
        let asked = testbed.run_on(Host::Client, move || async move {
            let mut client = Client::https2(at, HOST, &trust).await?;
            client.get(HOST, "/").await
        });
        let answer = tokio::time::timeout(Duration::from_secs(5), asked).await??;
        ensure!(answer.status == 200, "{answer}");
        Ok(answer)
    })
    .await?;
    ensure!(answer.backend().starts_with("echo-"), "{answer}");
    figures::print(&format!("cert-manager, HTTP-01: from the Ingress to TLS in {:.1} s", after.as_secs_f64()));
    let (entries, _) = wait::until(PATIENCE, "our address in the Ingress' status", || async {
        let object = testbed.get(&["ingress", "certified", "--namespace", namespace.name()])?;
        let entries = object.pointer("/status/loadBalancer/ingress").and_then(Value::as_array).cloned();
        entries.context("it has none")
    })
    .await?;
    ensure!(entries.iter().any(|entry| entry["ip"] == stage.ingress.to_string()), "{entries:?}");
    wait::until(PATIENCE, "the solver to be gone", || async {
        let left = testbed.kubectl(&["get", "ingress,pods", "--namespace", namespace.name(), "-o", "name"])?;
        ensure!(!left.contains("cm-acme"), "{left}");
        Ok(())
    })
    .await?;
    Ok(())
}

fn issuer(authority: &str) -> Value {
    json!({
        "apiVersion": "cert-manager.io/v1", "kind": "Issuer", "metadata": {"name": "acme"},
        "spec": {"acme": {
            "server": format!("https://{ACME}:14000/dir"),
            "caBundle": authority,
            "privateKeySecretRef": {"name": "acme-account"},
            "solvers": [{"http01": {"ingress": {"ingressClassName": "landfall"}}}],
        }},
    })
}

fn ingress() -> Value {
    let backend = json!({"service": {"name": "app", "port": {"number": 80}}});
    json!({"apiVersion": "v1", "kind": "List", "items": [
        {
            "apiVersion": "v1", "kind": "Service", "metadata": {"name": "app"},
            "spec": {"selector": {"app": "echo"}, "ports": [{"port": 80, "targetPort": "http"}]},
        },
        {
            "apiVersion": "networking.k8s.io/v1", "kind": "Ingress",
            "metadata": {"name": "certified", "annotations": {"cert-manager.io/issuer": "acme"}},
            "spec": {
                "ingressClassName": "landfall",
                "tls": [{"hosts": [HOST], "secretName": "certified-tls"}],
                "rules": [{"host": HOST, "http": {"paths": [{"path": "/", "pathType": "Prefix", "backend": backend}]}}],
            },
        },
    ]})
}

/// The controller as a pod, and the solver's image for the pods that it makes.
fn install_cert_manager(testbed: &Testbed, folder: &Path) -> Result<()> {
    let programs = tools::cache()?.join(format!("tools/cert-manager-{VERSION}"));
    for name in ["cert-manager", "acmesolver"] {
        let program = programs.join(name);
        ensure!(program.exists(), "{} is missing: `make deps` builds it", program.display());
        let archive = folder.join(format!("{name}.tar"));
        let mut pack = Command::new(tools::checkout().join("hack/oci-archive.py"));
        tools::run(pack.arg(&archive).arg(format!("landfall/testbed-{name}:1")).arg(&program))?;
        testbed.import_image(&archive)?;
    }
    testbed.kubectl(&["apply", "--server-side", "-f", &programs.join("crds").to_string_lossy()])?;
    testbed.kubectl(&["delete", "namespace", "cert-manager", "--ignore-not-found"])?;
    testbed.kubectl(&["create", "namespace", "cert-manager"])?;
    testbed.apply("cert-manager", CERT_MANAGER)?;
    testbed.rolled_out("cert-manager", "deployment/cert-manager")
}
