//! What the faults are made in, and somebody who looks at it: from a machine of the LAN with a name server of its own.

use std::cell::Cell;
use std::path::PathBuf;
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, ensure};
use landfall_e2e::testbed::{Host, LANDFALL, Namespace, PATIENCE};
use landfall_e2e::{tools, wait};
use rcgen::{CertificateParams, KeyPair, date_time_ymd};
use serde_json::json;
use tempfile::TempDir;

use super::{NAMESPACE, ingresses};
use crate::pebble::{ACME, NAMES, Pebble};
use crate::stage::Stage;

/// The client, where the name server runs.
const CLIENT: &str = "192.168.77.100";
/// The router, whose address is none of the ingress.
pub(super) const ROUTER: &str = "192.168.77.254";

/// Between two looks.
const BETWEEN: Duration = Duration::from_millis(500);

/// The scene.
pub(super) struct Scene<'a> {
    pub(super) stage: &'a Stage,
    /// The name server's files, and `resolv.conf`.
    folder: TempDir,
    names: Child,
    /// How long a look has taken at most.
    slowest: Cell<Duration>,
}

/// What `check` printed.
pub(super) struct Check {
    pub(super) lines: Vec<String>,
    pub(super) code: Option<i32>,
}

impl Drop for Scene<'_> {
    fn drop(&mut self) {
        let _ = self.names.kill();
        let _ = self.names.wait();
    }
}

impl<'a> Scene<'a> {
    /// Sets it, with an app that answers.
    pub(super) async fn set(stage: &'a Stage, namespace: &Namespace<'_>) -> Result<Self> {
        let folder = TempDir::new()?;
        let hosts = folder.path().join("hosts");
        let records = format!("{} app.faults.test\n{ROUTER} elsewhere.faults.test\n", stage.ingress);
        std::fs::write(&hosts, records)?;
        std::fs::write(folder.path().join("resolv.conf"), format!("nameserver {CLIENT}\n"))?;
        let corefile = folder.path().join("Corefile");
        let settings = format!(
            ".:53 {{\n  bind {CLIENT}\n  hosts {} {{\n    fallthrough\n  }}\n  template ANY ANY nowhere.faults.test {{\n    rcode NXDOMAIN\n  }}\n}}\n",
            hosts.display()
        );
        std::fs::write(&corefile, settings)?;
        let mut command = stage.testbed.on(Host::Client, &coredns()?.to_string_lossy());
        let names = command.arg("-conf").arg(&corefile).stdout(Stdio::null()).stderr(Stdio::null()).spawn()?;
        let scene = Self { stage, folder, names, slowest: Cell::default() };
        for (name, host, last_year, pair) in [
            ("good", "app.faults.test", 2099, Pair::Own),
            ("expired", "app.faults.test", 2021, Pair::Own),
            ("elsewhere", "other.faults.test", 2099, Pair::Own),
            ("unpaired", "app.faults.test", 2099, Pair::Mixed),
        ] {
            namespace.apply(&secret(name, host, last_year, pair)?)?;
        }
        namespace.apply(include_str!("../faults.yaml"))?;
        stage.testbed.rolled_out(NAMESPACE, "deployment/echo")?;
        let answers = |answer: &landfall_e2e::client::Answer| answer.status == 308 || answer.status == 200;
        stage.get_until(stage.ingress, 80, ("app.faults.test", "/"), answers).await?;
        Ok(scene)
    }

    /// What the program's `check` prints, as whoever stands on the LAN sees it.
    pub(super) async fn check(&self, program: &str) -> Result<Check> {
        let program = tools::program(program)?;
        let resolv_conf = self.folder.path().join("resolv.conf");
        let mut command: Command = self.stage.testbed.on(Host::Client, "unshare");
        let script = "mount --bind \"$0\" /etc/resolv.conf && exec \"$@\"";
        command.args(["--mount", "sh", "-c", script]).arg(resolv_conf).arg(program).arg("check");
        command.env("KUBECONFIG", self.stage.testbed.kubeconfig());
        // What looks all the time takes the processors that the cluster needs, too.
        tokio::time::sleep(BETWEEN).await;
        let (check, took) = tokio::task::spawn_blocking(move || {
            let begun = Instant::now();
            let (output, said) = tools::run_any(&mut command)?;
            let took = begun.elapsed();
            let code = output.status.code();
            ensure!(code.is_some_and(|code| code < 2), "{}: {said}", output.status);
            let lines = String::from_utf8_lossy(&output.stdout).lines().map(str::to_owned).collect();
            anyhow::Ok((Check { lines, code }, took))
        })
        .await??;
        self.slowest.set(self.slowest.get().max(took));
        Ok(check)
    }

    /// How long a look has taken at most.
    pub(super) fn slowest(&self) -> Duration {
        self.slowest.get()
    }

    /// Waits until a program's `check` finds nothing wrong.
    pub(super) async fn clean(&self, program: &str) -> Result<()> {
        wait::until(2 * PATIENCE, &format!("{program} check to find nothing wrong"), || async {
            let Check { lines, code } = self.check(program).await?;
            let wrong: Vec<&String> = lines.iter().filter(|line| line.starts_with(['✗', '!'])).collect();
            ensure!(code == Some(0) && wrong.is_empty(), "it exits with {code:?}: {wrong:#?}");
            Ok(())
        })
        .await?;
        Ok(())
    }

    /// Has the ingress order certificates from a CA on the LAN, which refuses one host.
    pub(super) async fn order_certificates(&self) -> Result<Pebble<'a>> {
        let server = Pebble::start(&self.stage.testbed, self.folder.path(), self.stage.ingress).await?;
        let issuer = |address: &str| {
            let directory = format!("https://{address}:14000/dir");
            let bundle = server.bundle()?;
            anyhow::Ok(
                json!({"directory": directory, "email": "me@example.com", "termsAgreed": true, "caBundle": bundle}),
            )
        };
        let issuers = json!({"lan": issuer(ACME)?, "away": issuer(ROUTER)?});
        let values = json!({"ingress": {"acme": {"enabled": true, "issuers": issuers},
            "extraArgs": [format!("--acme-dns={ACME}:{NAMES}")]}});
        let file = self.folder.path().join("acme.yaml");
        std::fs::write(&file, values.to_string())?;
        Stage::install(&self.stage.testbed, &["--values", &file.to_string_lossy(), "--wait", "--timeout", "120s"])?;
        self.stage.testbed.rolled_out(LANDFALL, "deployment/landfall-ingress")?;
        self.clean(ingresses::PROGRAM).await?;
        Ok(server)
    }
}

/// The name server that the testbed's pods have, too.
fn coredns() -> Result<PathBuf> {
    let tools = tools::cache()?.join("tools");
    let folders = std::fs::read_dir(&tools).with_context(|| tools.display().to_string())?;
    let found = folders.filter_map(|entry| Some(entry.ok()?.path().join("coredns")));
    found.filter(|path| path.is_file()).max().context("coredns is missing: `hack/deps cluster` builds it")
}

/// Whose key a Secret has.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Pair {
    Own,
    Mixed,
}

/// A Secret with a certificate for `host` that ends with this year's beginning.
fn secret(name: &str, host: &str, last_year: i32, pair: Pair) -> Result<String> {
    let key = KeyPair::generate()?;
    let mut params = CertificateParams::new([host.to_owned()])?;
    params.not_before = date_time_ymd(2020, 1, 1);
    params.not_after = date_time_ymd(last_year, 1, 1);
    let certificate = params.self_signed(&key)?;
    let key = if pair == Pair::Own { key } else { KeyPair::generate()? };
    let data = json!({"tls.crt": certificate.pem(), "tls.key": key.serialize_pem()});
    Ok(json!({"apiVersion": "v1", "kind": "Secret", "metadata": {"name": name}, "type": "kubernetes.io/tls",
        "stringData": data})
    .to_string())
}
