//! What the scenarios stand on.

use std::net::SocketAddr;
use std::process::Command;
use std::time::Duration;

use anyhow::{Context, Result, ensure};
use landfall_e2e::acme::{Pebble, Router};
use landfall_e2e::client::Client;
use landfall_e2e::echo::Echo;
use landfall_e2e::ingress::{Ingress, Launch};
use landfall_e2e::manifests::{self, Folder};
use landfall_e2e::tls::Trust;
use landfall_e2e::{tools, wait};
use serde_json::{Value, json};
use tempfile::TempDir;
use tokio::sync::RwLock;

/// How soon HTTPS has to work once the Ingress is there.
pub(crate) const SOON: Duration = Duration::from_secs(10);
/// For everything else, on machines under load.
pub(crate) const PATIENCE: Duration = Duration::from_mins(1);

/// Some measure times, and two control planes would slow one another down: those are alone. The others are together.
pub(crate) static ALONE: RwLock<()> = RwLock::const_new(());

/// A CA, the way from it to the ingress, and a folder.
pub(crate) struct Stage {
    pub(crate) pebble: Pebble,
    pub(crate) plain: Router,
    pub(crate) secure: Router,
    pub(crate) folder: Folder,
    pub(crate) state: TempDir,
    _echo: Echo,
}

impl Stage {
    pub(crate) async fn new(settings: Value) -> Result<Self> {
        let (plain, secure) = (Router::start().await?, Router::start().await?);
        let pebble = Pebble::new(plain.port, secure.port, &settings)?;
        let folder = Folder::new()?;
        let echo = Echo::local("web").await?;
        folder.write("web.yaml", &manifests::service("web", &[echo.addr]))?;
        Ok(Self { pebble, plain, secure, folder, state: TempDir::new()?, _echo: echo })
    }

    pub(crate) async fn ingress(&self, more: &[&str]) -> Result<Ingress> {
        let arguments = self.pebble.arguments(self.plain.port, self.secure.port);
        let arguments: Vec<&str> = arguments.iter().map(String::as_str).collect();
        let state = self.state.path().join("acme").display().to_string();
        let launch = Launch::manifests(self.folder.path()).args(&arguments).args(&["--state-dir", &state]).args(more);
        let ingress = launch.args(&["--lame-duck", "0"]).start().await?;
        self.plain.lead_to(&[ingress.http]);
        self.secure.lead_to(&[ingress.https]);
        Ok(ingress)
    }

    pub(crate) fn certificate(&self, secret: &str) -> Result<Value> {
        let path = self.state.path().join(format!("acme/certificates/default/{secret}.json"));
        Ok(serde_json::from_str(&std::fs::read_to_string(path)?)?)
    }
}

/// An Ingress with a TLS entry for `hosts`, and these annotations.
pub(crate) fn ingress(name: &str, hosts: &[&str], annotations: &Value) -> String {
    let backend = json!({"service": {"name": "web", "port": {"name": "http"}}});
    let paths = json!([{"path": "/", "pathType": "Prefix", "backend": backend}]);
    let rules: Vec<Value> = hosts.iter().map(|host| json!({"host": host, "http": {"paths": paths}})).collect();
    let object = json!({
        "apiVersion": "networking.k8s.io/v1", "kind": "Ingress", "metadata": {"name": name, "annotations": annotations},
        "spec": {
            "ingressClassName": "landfall", "rules": rules,
            "tls": [{"hosts": hosts, "secretName": format!("{name}-tls")}],
        },
    });
    format!("{object}\n---\n")
}

pub(crate) fn asked() -> Value {
    json!({"landfall.dev/acme": "true"})
}

/// A GET over TLS that nobody but the CA of the test is trusted for.
pub(crate) async fn secured(at: SocketAddr, host: &str, trust: &Trust) -> Result<()> {
    let answer = Client::https1(at, host, trust).await?.get(host, "/").await?;
    ensure!(answer.status == 200 && answer.backend() == "web", "{answer}");
    Ok(())
}

pub(crate) async fn becomes_secure(ingress: &Ingress, host: &str, trust: &Trust, limit: Duration) -> Result<Duration> {
    let what = format!("https://{host} with a certificate of the CA");
    let waited = wait::until(limit, &what, || secured(ingress.https, host, trust)).await;
    let status = ingress.status().await?;
    Ok(waited.with_context(|| format!("{}", status["certificates"]))?.1)
}

/// The certificate of `/status` whose Secret is this one, once it satisfies `is_right`.
pub(crate) async fn stands(ingress: &Ingress, secret: &str, is_right: impl Fn(&Value) -> bool) -> Result<Value> {
    let (found, _) = wait::until(PATIENCE, &format!("{secret} in /status"), || async {
        let status = ingress.status().await?;
        let all = status["certificates"].as_array().cloned().unwrap_or_default();
        let found = all.into_iter().find(|one| one["secret"] == secret).context("it is not there")?;
        ensure!(is_right(&found), "{found}");
        Ok(found)
    })
    .await?;
    Ok(found)
}

/// The serial number of the certificate that is served.
pub(crate) async fn serial(at: SocketAddr, host: &str, trust: &Trust) -> Result<Vec<u8>> {
    let stream = trust.connect(at, host, &["http/1.1"]).await?;
    let chain = stream.get_ref().1.peer_certificates().context("no certificate")?.to_vec();
    let (_, certificate) = x509_parser::parse_x509_certificate(&chain[0])?;
    Ok(certificate.raw_serial().to_vec())
}

pub(crate) fn now() -> u64 {
    let since = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH);
    since.unwrap_or_default().as_secs()
}

/// Text from Base64.
pub(crate) fn decode(text: &str) -> Result<String> {
    let path = tempfile::NamedTempFile::new()?;
    std::fs::write(path.path(), text)?;
    tools::run(Command::new("base64").arg("-d").arg(path.path()))
}
