//! Hosts that are proven by TXT records, to a real ACME server.

use std::time::Duration;

use anyhow::{Context, Result, ensure};
use landfall_e2e::acme::Pebble;
use landfall_e2e::client::Client;
use landfall_e2e::echo::Echo;
use landfall_e2e::ingress::{Ingress, Launch};
use landfall_e2e::manifests::{self, Folder};
use landfall_e2e::names::{Hook, KEY, Kind, NameServer};
use landfall_e2e::wait;
use nix::sys::signal::Signal;
use serde_json::{Value, json};
use tempfile::TempDir;
use tokio::sync::Mutex;

const PATIENCE: Duration = Duration::from_mins(1);

/// They start several programs each.
static ONE_AT_A_TIME: Mutex<()> = Mutex::const_new(());

/// A CA, and a folder with one Ingress.
struct Stage {
    pebble: Pebble,
    folder: Folder,
    state: TempDir,
    _echo: Echo,
}

impl Stage {
    async fn new(pebble: Pebble, hosts: &[&str]) -> Result<Self> {
        let folder = Folder::new()?;
        let echo = Echo::local("web").await?;
        folder.write("web.yaml", &manifests::service("web", &[echo.addr]))?;
        let backend = json!({"service": {"name": "web", "port": {"name": "http"}}});
        let paths = json!([{"path": "/", "pathType": "Prefix", "backend": backend}]);
        let rules: Vec<Value> = hosts.iter().map(|host| json!({"host": host, "http": {"paths": paths}})).collect();
        let ingress = json!({
            "apiVersion": "networking.k8s.io/v1", "kind": "Ingress",
            "metadata": {"name": "shop", "annotations": {"landfall.dev/acme": "mine"}},
            "spec": {
                "ingressClassName": "landfall", "rules": rules,
                "tls": [{"hosts": hosts, "secretName": "shop-tls"}],
            },
        });
        folder.write("shop.yaml", &ingress.to_string())?;
        Ok(Self { pebble, folder, state: TempDir::new()?, _echo: echo })
    }

    /// Has the issuer prove hosts in this way, with these credentials.
    fn issuer(&self, dns: &Value, credentials: &Value) -> Result<()> {
        let secret = json!({
            "apiVersion": "v1", "kind": "Secret", "metadata": {"name": "credentials"}, "stringData": credentials,
        });
        self.folder.write("credentials.yaml", &secret.to_string())?;
        let issuer = json!({
            "directory": self.pebble.directory(), "email": "me@example.com", "termsAgreed": true,
            "caBundle": std::fs::read_to_string(self.pebble.authority())?, "dns": dns,
        });
        let map = json!({
            "apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": "issuers"},
            "data": {"mine": issuer.to_string()},
        });
        self.folder.write("issuers.yaml", &map.to_string())
    }

    async fn ingress(&self) -> Result<Ingress> {
        // Nothing leads to the ports of HTTP-01 and TLS-ALPN-01.
        let arguments = self.pebble.arguments(1, 1);
        let arguments: Vec<&str> = arguments.iter().map(String::as_str).collect();
        let state = self.state.path().join("acme").display().to_string();
        let own = ["--state-dir", &state, "--acme-issuers", "default/issuers", "--lame-duck", "0"];
        Launch::manifests(self.folder.path()).args(&arguments).args(&own).start().await
    }

    async fn becomes_secure(&self, ingress: &Ingress, hosts: &[&str]) -> Result<()> {
        let trust = self.pebble.trust()?;
        for host in hosts {
            let what = format!("https://{host} with a certificate of the CA");
            let waited = wait::until(PATIENCE, &what, || async {
                let answer = Client::https1(ingress.https, host, &trust).await?.get(host, "/").await?;
                ensure!(answer.status == 200 && answer.backend() == "web", "{answer}");
                Ok(())
            })
            .await;
            let status = ingress.status().await?;
            waited.with_context(|| format!("{} {}", status["certificates"], ingress.log()))?;
        }
        Ok(())
    }

    /// Waits for a problem with these words in it.
    async fn told(&self, ingress: &Ingress, words: &[&str]) -> Result<()> {
        wait::until(PATIENCE, &format!("a problem with {words:?}"), || async {
            let problems = ingress.status().await?["problems"].to_string();
            ensure!(
                problems.contains("AcmeDnsFailed") && words.iter().all(|word| problems.contains(word)),
                "{problems}"
            );
            Ok(())
        })
        .await?;
        assert_eq!(self.pebble.orders(), 0, "the CA is not asked");
        Ok(())
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_wildcard_its_domain_and_a_delegated_name_by_a_web_hook() -> Result<()> {
    let _alone = ONE_AT_A_TIME.lock().await;
    // One nonce in five is refused.
    let mut pebble = Pebble::new(1, 1, &json!({}))?.env("PEBBLE_WFE_NONCEREJECT", "20");
    pebble.start().await?;
    let (names, management) = pebble.name_ports();
    pebble.post_names("set-cname", &json!({"host": "_acme-challenge.b.test.", "target": "b.elsewhere.test."}))?;
    let stage = Stage::new(pebble, &["*.a.test", "a.test", "b.test"]).await?;
    let here = format!("127.0.0.1:{names}");

    // Its records are never seen, and the process dies meanwhile.
    let blind = Hook::start(None).await?;
    let dns = |hook: &Hook| json!({"provider": "webhook", "url": hook.url, "nameservers": [here], "propagation": 5});
    stage.issuer(&dns(&blind), &json!({}))?;
    let mut first = stage.ingress().await?;
    wait::until(PATIENCE, "records", || async {
        ensure!(blind.asked().there.len() == 3, "{:?}", blind.asked());
        Ok(())
    })
    .await?;
    first.signal(Signal::SIGKILL)?;
    first.ended(PATIENCE).await?;
    let hook = Hook::start(Some(management)).await?;
    let second = stage.ingress().await?;
    wait::until(PATIENCE, "no record of the process that was killed", || async {
        ensure!(blind.asked().presented > 3 || blind.asked().there.is_empty(), "{:?}", blind.asked());
        Ok(())
    })
    .await?;

    stage.issuer(&dns(&hook), &json!({}))?;
    stage.becomes_secure(&second, &["x.a.test", "a.test", "b.test"]).await?;
    let asked = hook.asked();
    assert_eq!(asked.most, 2, "the wildcard and its domain have the same name: {asked:?}");
    wait::until(PATIENCE, "no record left", || async {
        ensure!(hook.asked().there.is_empty(), "{:?}", hook.asked());
        Ok(())
    })
    .await?;
    assert_eq!(stage.pebble.orders(), 1, "the order of the process that was killed is gone on with");
    Ok(())
}

async fn takes_updates(kind: Kind) -> Result<()> {
    let _alone = ONE_AT_A_TIME.lock().await;
    // The secondary hears of nothing, and looks every five seconds.
    let server = NameServer::start(kind, true).await?;
    let mut pebble = Pebble::new(1, 1, &json!({}))?.names_at(server.port);
    pebble.start().await?;
    let stage = Stage::new(pebble, &["*.home.test", "home.test"]).await?;
    let dns = |key: &str| {
        json!({
            "provider": "rfc2136", "server": format!("127.0.0.1:{}", server.port), "keyName": key,
            "secret": "credentials", "port": server.port,
        })
    };
    stage.issuer(&dns("landfall"), &json!({"key": "d3Jvbmc="}))?;
    let ingress = stage.ingress().await?;
    stage.told(&ingress, &["BADSIG", "entry key of the issuer's Secret"]).await?;
    stage.issuer(&dns("nobody"), &json!({"key": KEY}))?;
    stage.told(&ingress, &["BADKEY", "nobody"]).await?;
    stage.issuer(&dns("stranger"), &json!({"key": KEY}))?;
    // Knot tells whose key may not change a zone what it tells whose key it does not know.
    let why = if kind == Kind::Bind { "may not change zone home.test" } else { "BADKEY" };
    stage.told(&ingress, &["stranger", why]).await?;
    stage.issuer(&dns("landfall"), &json!({"other": KEY}))?;
    stage.told(&ingress, &["default/credentials", "no entry key"]).await?;
    stage.issuer(&dns("landfall"), &json!({"key": KEY}))?;
    stage.becomes_secure(&ingress, &["x.home.test", "home.test"]).await?;
    assert_eq!(stage.pebble.orders(), 1);
    Ok(())
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn bind_takes_updates_and_its_secondary_is_waited_for() -> Result<()> {
    takes_updates(Kind::Bind).await
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn knot_takes_updates_and_its_secondary_is_waited_for() -> Result<()> {
    takes_updates(Kind::Knot).await
}
