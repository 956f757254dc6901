//! Certificates from a real ACME server, from a folder of manifests and from a cluster.

use std::net::{Ipv4Addr, SocketAddr};
use std::os::unix::fs::PermissionsExt;
use std::path::Path;
use std::process::Command;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, ensure};
use http::Request;
use landfall_e2e::acme::{Pebble, Router};
use landfall_e2e::client::{self, Client};
use landfall_e2e::echo::Echo;
use landfall_e2e::figures;
use landfall_e2e::ingress::{Ingress, Launch};
use landfall_e2e::kube::{Cluster, own_address};
use landfall_e2e::manifests::{self, Folder};
use landfall_e2e::tls::Trust;
use landfall_e2e::{tools, wait};
use nix::sys::signal::Signal;
use serde_json::{Value, json};
use tempfile::TempDir;
use tokio::sync::Mutex;

/// How soon HTTPS has to work once the Ingress is there.
const SOON: Duration = Duration::from_secs(10);
/// For everything else, on machines under load.
const PATIENCE: Duration = Duration::from_mins(1);
/// A Lease runs out before another replica takes over.
const TAKEN_OVER: Duration = Duration::from_mins(2);
const NAMESPACE: &str = "landfall-system";

/// They measure times, and two control planes would slow one another down.
static ONE_AT_A_TIME: Mutex<()> = Mutex::const_new(());

/// A CA, the way from it to the ingress, and a folder.
struct Stage {
    pebble: Pebble,
    plain: Router,
    secure: Router,
    folder: Folder,
    state: TempDir,
    _echo: Echo,
}

impl Stage {
    async fn new(settings: Value) -> Result<Self> {
        let (plain, secure) = (Router::start().await?, Router::start().await?);
        let pebble = Pebble::new(plain.port, secure.port, &settings)?;
        let folder = Folder::new()?;
        let echo = Echo::local("web").await?;
        folder.write("web.yaml", &manifests::service("web", &[echo.addr]))?;
        Ok(Self { pebble, plain, secure, folder, state: TempDir::new()?, _echo: echo })
    }

    async fn ingress(&self, more: &[&str]) -> Result<Ingress> {
        let arguments = self.pebble.arguments(self.plain.port, self.secure.port);
        let arguments: Vec<&str> = arguments.iter().map(String::as_str).collect();
        let state = self.state.path().join("acme").display().to_string();
        let launch = Launch::manifests(self.folder.path()).args(&arguments).args(&["--state-dir", &state]).args(more);
        let ingress = launch.args(&["--lame-duck", "0"]).start().await?;
        self.plain.lead_to(&[ingress.http]);
        self.secure.lead_to(&[ingress.https]);
        Ok(ingress)
    }

    fn certificate(&self, secret: &str) -> Result<Value> {
        let path = self.state.path().join(format!("acme/certificates/default/{secret}.json"));
        Ok(serde_json::from_str(&std::fs::read_to_string(path)?)?)
    }
}

/// An Ingress with a TLS entry for `hosts`, and these annotations.
fn ingress(name: &str, hosts: &[&str], annotations: &Value) -> String {
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

fn asked() -> Value {
    json!({"landfall.dev/acme": "true"})
}

/// A GET over TLS that nobody but the CA of the test is trusted for.
async fn secured(at: SocketAddr, host: &str, trust: &Trust) -> Result<()> {
    let answer = Client::https1(at, host, trust).await?.get(host, "/").await?;
    ensure!(answer.status == 200 && answer.backend() == "web", "{answer}");
    Ok(())
}

async fn becomes_secure(ingress: &Ingress, host: &str, trust: &Trust, limit: Duration) -> Result<Duration> {
    let what = format!("https://{host} with a certificate of the CA");
    let waited = wait::until(limit, &what, || secured(ingress.https, host, trust)).await;
    let status = ingress.status().await?;
    Ok(waited.with_context(|| format!("{}", status["certificates"]))?.1)
}

/// The certificate of `/status` whose Secret is this one, once it satisfies `is_right`.
async fn stands(ingress: &Ingress, secret: &str, is_right: impl Fn(&Value) -> bool) -> Result<Value> {
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
async fn serial(at: SocketAddr, host: &str, trust: &Trust) -> Result<Vec<u8>> {
    let stream = trust.connect(at, host, &["http/1.1"]).await?;
    let chain = stream.get_ref().1.peer_certificates().context("no certificate")?.to_vec();
    let (_, certificate) = x509_parser::parse_x509_certificate(&chain[0])?;
    Ok(certificate.raw_serial().to_vec())
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn https_works_soon_after_the_ingress_is_there_and_after_a_restart_without_the_ca() -> Result<()> {
    let _alone = ONE_AT_A_TIME.lock().await;
    let mut stage = Stage::new(json!({})).await?;
    // One nonce in five is refused.
    stage.pebble = stage.pebble.env("PEBBLE_WFE_NONCEREJECT", "20");
    stage.pebble.start().await?;
    let hosts = ["a.test", "b.test", "c.test"];
    stage.pebble.lead_here(&hosts)?;
    let mut first = stage.ingress(&[]).await?;
    // What is redirected, refused and limited is so after the challenge.
    let annotations = json!({
        "landfall.dev/acme": "true",
        "nginx.ingress.kubernetes.io/force-ssl-redirect": "true",
        "nginx.ingress.kubernetes.io/denylist-source-range": "203.0.113.0/24",
        "nginx.ingress.kubernetes.io/limit-rps": "50",
    });
    stage.folder.write("shop.yaml", &ingress("shop", &hosts, &annotations))?;
    let trust = stage.pebble.trust()?;
    let took = becomes_secure(&first, "a.test", &trust, SOON).await?;
    figures::print(&format!("from an Ingress in a folder to HTTPS by HTTP-01: {:.2} s", took.as_secs_f64()));
    for host in hosts {
        secured(first.https, host, &trust).await?;
    }
    assert_eq!(stage.pebble.orders(), 1);
    assert_eq!(first.get("a.test", "/").await?.status, 308);
    assert_eq!(first.get("a.test", "/.well-known/acme-challenge/other").await?.status, 308, "a token that is not ours");

    let view = stands(&first, "shop-tls", |one| one["state"] == "issued").await?;
    assert!(view["expires"].as_u64() > view["renewsAt"].as_u64(), "{view}");
    let metrics = client::get(first.admin, "admin", "/metrics").await?.text();
    assert!(metrics.contains("landfall_ingress_acme_certificates{state=\"issued\"} 1"), "{metrics}");
    let admin = first.admin.to_string();
    let said = tools::run(Command::new(tools::program("landfall-ingress")?).args(["certs", "--admin", &admin]))?;
    assert!(said.contains("default/shop-tls: issued, issuer default, expires in "), "{said}");

    let mode = |path: &Path| Ok::<_, anyhow::Error>(std::fs::metadata(path)?.permissions().mode() & 0o777);
    let kept = stage.state.path().join("acme");
    assert_eq!(mode(&kept)?, 0o700);
    assert_eq!(mode(&kept.join("certificates/default/shop-tls.json"))?, 0o600);
    assert!(!first.log().contains("PRIVATE KEY") && !first.log().contains("key_pkcs8"));
    assert_eq!(stage.certificate("shop-tls")?["metadata"]["labels"]["landfall.dev/acme"], "managed");

    first.signal(Signal::SIGTERM)?;
    first.ended(PATIENCE).await?;
    stage.pebble.stop();
    let second = stage.ingress(&[]).await?;
    secured(second.https, "b.test", &trust).await?;
    Ok(())
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn tls_alpn_an_external_account_and_a_profile() -> Result<()> {
    let _alone = ONE_AT_A_TIME.lock().await;
    let key = "zWNDZM6eQGHWpSRTPal5eIUYFTu7EajVIoguysqZ9wG44nMEtx3MUAsUDkMTQ12W";
    let settings = json!({"externalAccountBindingRequired": true, "externalAccountMACKeys": {"kid-1": key}});
    let mut stage = Stage::new(settings).await?;
    stage.pebble.start().await?;
    stage.pebble.lead_here(&["a.test", "b.test"])?;
    // The way to plain HTTP leads nowhere.
    let secret = json!({"apiVersion": "v1", "kind": "Secret", "metadata": {"name": "eab"}, "stringData": {"key": key}});
    stage.folder.write("eab.yaml", &secret.to_string())?;
    stage.folder.write("shop.yaml", &ingress("shop", &["a.test", "b.test"], &json!({})))?;
    let issuer = json!({
        "directory": stage.pebble.directory(), "email": "me@example.com", "termsAgreed": true,
        "caBundle": std::fs::read_to_string(stage.pebble.authority())?,
        "externalAccount": {"keyId": "kid-1", "secret": "default/eab"},
        "challenges": ["tls-alpn-01"], "profile": "shortlived", "keyType": "ecdsa-p384",
        "httpPort": 1, "tlsPort": stage.secure.port,
    });
    let map = json!({
        "apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": "issuers"}, "data": {"mine": issuer.to_string()},
    });
    stage.folder.write("issuers.yaml", &map.to_string())?;
    let ingress = stage.ingress(&["--acme-issuers", "default/issuers", "--acme-default", "mine"]).await?;
    let trust = stage.pebble.trust()?;
    becomes_secure(&ingress, "b.test", &trust, PATIENCE).await?;
    let view = stands(&ingress, "shop-tls", |one| one["state"] == "issued").await?;
    let lifetime = view["expires"].as_u64().unwrap_or_default() - now();
    assert!(lifetime <= 518_401, "{lifetime}: the profile has six days");
    assert_eq!(view["issuer"], "mine");
    Ok(())
}

fn now() -> u64 {
    let since = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH);
    since.unwrap_or_default().as_secs()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_host_that_fails_is_named_and_holds_up_no_other() -> Result<()> {
    let _alone = ONE_AT_A_TIME.lock().await;
    let mut stage = Stage::new(json!({"domainBlocklist": ["guarded.test"]})).await?;
    stage.pebble.start().await?;
    stage.pebble.lead_here(&["good.test", "guarded.test"])?;
    let ingress_at = stage.ingress(&[]).await?;
    let hosts = ["good.test", "nowhere.test", "guarded.test"];
    stage.folder.write("shop.yaml", &ingress("shop", &hosts, &asked()))?;
    let trust = stage.pebble.trust()?;
    becomes_secure(&ingress_at, "good.test", &trust, PATIENCE).await?;

    let view = stands(&ingress_at, "shop-tls", |one| one["state"] == "degraded").await?;
    let host =
        |name: &str| view["hosts"].as_array().and_then(|all| all.iter().find(|one| one["host"] == name).cloned());
    let nowhere = host("nowhere.test").context("nowhere.test")?;
    assert!(
        nowhere["lastError"].as_str().is_some_and(|text| text.contains("does not exist or has no address")),
        "{nowhere}"
    );
    assert!(
        nowhere["remedy"].as_str().is_some_and(|text| text.contains("A or AAAA record for nowhere.test")),
        "{nowhere}"
    );
    let guarded = host("guarded.test").context("guarded.test")?;
    assert!(
        guarded["lastError"].as_str().is_some_and(|text| text.contains("(rejectedIdentifier)")),
        "the CA's own words: {guarded}"
    );
    assert_eq!(host("good.test").context("good.test")?["lastError"], Value::Null);
    let status = ingress_at.status().await?;
    let reasons: Vec<&str> =
        status["problems"].as_array().into_iter().flatten().filter_map(|one| one["reason"].as_str()).collect();
    for reason in ["AcmeChallengeUnreachable", "AcmeRefused"] {
        assert!(reasons.contains(&reason), "{reasons:?}");
    }

    // Once the record is there, nobody has to do anything else.
    stage.pebble.lead_here(&["nowhere.test"])?;
    becomes_secure(&ingress_at, "nowhere.test", &trust, PATIENCE).await?;
    secured(ingress_at.https, "good.test", &trust).await
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_ca_that_is_away_is_waited_for_and_one_that_wants_a_renewal_gets_it() -> Result<()> {
    let _alone = ONE_AT_A_TIME.lock().await;
    let mut stage = Stage::new(json!({})).await?;
    stage.pebble.start_names().await?;
    stage.pebble.lead_here(&["a.test"])?;
    stage.folder.write("shop.yaml", &ingress("shop", &["a.test"], &asked()))?;
    let mut first = stage.ingress(&[]).await?;
    let view = stands(&first, "shop-tls", |one| one["lastError"].is_string()).await?;
    assert!(view["lastError"].as_str().is_some_and(|text| text.contains("can't be connected to")), "{view}");
    stage.pebble.start().await?;
    let trust = stage.pebble.trust()?;
    becomes_secure(&first, "a.test", &trust, PATIENCE).await?;
    let before = serial(first.https, "a.test", &trust).await?;
    wait::until(PATIENCE, "the question when to renew", || async {
        let shared = std::fs::read_to_string(stage.state.path().join("acme/shared.json"))?;
        ensure!(shared.contains("\"window\":["), "{shared}");
        Ok(())
    })
    .await?;

    // The CA changes its mind, as it does when it has to revoke. What it said is asked for every six hours; here it is
    // forgotten instead.
    first.signal(Signal::SIGKILL)?;
    first.ended(PATIENCE).await?;
    let pem =
        stage.certificate("shop-tls")?["data"]["tls.crt"].as_str().map(str::to_owned).context("no certificate")?;
    let pem = decode(&pem)?;
    stage.pebble.set_renewal(&pem, "2020-01-01T00:00:00Z", "2020-01-02T00:00:00Z")?;
    std::fs::remove_file(stage.state.path().join("acme/shared.json"))?;
    let second = stage.ingress(&[]).await?;
    wait::until(PATIENCE, "another certificate", || async {
        let after = serial(second.https, "a.test", &trust).await?;
        ensure!(after != before, "it is the same");
        Ok(())
    })
    .await?;
    assert_eq!(stage.pebble.orders(), 2);
    Ok(())
}

/// Text from Base64.
fn decode(text: &str) -> Result<String> {
    let path = tempfile::NamedTempFile::new()?;
    std::fs::write(path.path(), text)?;
    tools::run(Command::new("base64").arg("-d").arg(path.path()))
}

/// A control plane, two replicas and the way to them.
struct Fleet {
    cluster: Cluster,
    stage: Stage,
    _echo: Echo,
}

impl Fleet {
    async fn new(stage: Stage) -> Result<Self> {
        let echo = Echo::start("web", (own_address()?, 0).into()).await?;
        let cluster = Cluster::start().await?;
        cluster.apply(&std::fs::read_to_string(tools::checkout().join("examples/cluster/rbac.yaml"))?)?;
        cluster.apply(&std::fs::read_to_string(tools::checkout().join("examples/cluster/rbac-acme.yaml"))?)?;
        cluster.apply(&(manifests::class() + &manifests::service("web", &[echo.addr])))?;
        Ok(Self { cluster, stage, _echo: echo })
    }

    async fn replica(&self, identity: &str) -> Result<Ingress> {
        let kubeconfig = self.cluster.kubeconfig_of(NAMESPACE, "landfall-ingress")?;
        let arguments = self.stage.pebble.arguments(self.stage.plain.port, self.stage.secure.port);
        let arguments: Vec<&str> = arguments.iter().map(String::as_str).collect();
        let own = ["--publish-status-address", "192.0.2.1", "--namespace", NAMESPACE, "--identity", identity];
        Launch::kubeconfig(&kubeconfig).args(&own).args(&["--lame-duck", "0"]).args(&arguments).start().await
    }

    fn holder(&self) -> Result<String> {
        let lease = self.cluster.get(&["lease", "-n", NAMESPACE, "landfall-ingress"])?;
        let holder = lease["spec"]["holderIdentity"].as_str().filter(|holder| !holder.is_empty());
        Ok(holder.context("nobody holds the lease")?.to_owned())
    }

    fn shared(&self) -> Result<Value> {
        let map = self.cluster.get(&["configmap", "-n", NAMESPACE, "landfall-ingress-acme"])?;
        Ok(serde_json::from_str(map["data"]["state"].as_str().unwrap_or("{}"))?)
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn two_replicas_order_once_and_never_replace_a_foreign_secret() -> Result<()> {
    let _alone = ONE_AT_A_TIME.lock().await;
    let mut stage = Stage::new(json!({})).await?;
    stage.pebble.start().await?;
    stage.pebble.lead_here(&["a.test", "b.test"])?;
    let fleet = Fleet::new(stage).await?;
    let (a, b) = (fleet.replica("a").await?, fleet.replica("b").await?);
    // The CA meets whichever replica is next.
    fleet.stage.plain.lead_to(&[a.http, b.http]);
    fleet.stage.secure.lead_to(&[a.https, b.https]);
    let foreign = json!({
        "apiVersion": "v1", "kind": "Secret", "metadata": {"name": "foreign-tls"}, "type": "kubernetes.io/tls",
        "stringData": {"tls.crt": "mine", "tls.key": "mine"},
    });
    fleet.cluster.apply(&foreign.to_string())?;
    let begun = Instant::now();
    fleet.cluster.apply(&(ingress("shop", &["a.test"], &asked()) + &ingress("foreign", &["b.test"], &asked())))?;
    let trust = fleet.stage.pebble.trust()?;
    for replica in [&a, &b] {
        becomes_secure(replica, "a.test", &trust, PATIENCE).await?;
    }
    figures::print(&format!(
        "from an Ingress in a cluster to HTTPS at both replicas: {:.2} s",
        begun.elapsed().as_secs_f64()
    ));
    for replica in [&a, &b] {
        stands(replica, "shop-tls", |one| one["state"] == "issued").await?;
        stands(replica, "foreign-tls", |one| one["state"] == "foreign").await?;
    }
    assert_eq!(fleet.stage.pebble.orders(), 1);
    let secret = fleet.cluster.get(&["secret", "shop-tls"])?;
    assert_eq!(
        (&secret["type"], &secret["metadata"]["labels"]["landfall.dev/acme"]),
        (&"kubernetes.io/tls".into(), &"managed".into())
    );
    let secret = fleet.cluster.get(&["secret", "foreign-tls"])?;
    assert_eq!(secret["data"]["tls.crt"], "bWluZQ==");
    wait::until(PATIENCE, "Events about both", || async {
        let list = fleet.cluster.get(&["events.events.k8s.io", "--all-namespaces"])?;
        let reasons: Vec<&str> =
            list["items"].as_array().into_iter().flatten().filter_map(|one| one["reason"].as_str()).collect();
        for reason in ["CertificateOrdered", "CertificateIssued", "AcmeForeignSecret"] {
            ensure!(reasons.contains(&reason), "no {reason} in {reasons:?}");
        }
        Ok(())
    })
    .await?;
    Ok(())
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn another_replica_completes_the_order_of_a_leader_that_was_killed() -> Result<()> {
    let _alone = ONE_AT_A_TIME.lock().await;
    let mut stage = Stage::new(json!({})).await?;
    // Validations take a while, so that there is a middle of an order.
    stage.pebble = stage.pebble.env("PEBBLE_VA_NOSLEEP", "0").env("PEBBLE_VA_SLEEPTIME", "8");
    stage.pebble.start().await?;
    let hosts = ["a.test", "b.test", "c.test", "d.test"];
    stage.pebble.lead_here(&hosts)?;
    let fleet = Fleet::new(stage).await?;
    let (a, b) = (fleet.replica("a").await?, fleet.replica("b").await?);
    fleet.stage.plain.lead_to(&[a.http, b.http]);
    wait::until(PATIENCE, "a leader", || async { fleet.holder() }).await?;
    fleet.cluster.apply(&ingress("shop", &hosts, &asked()))?;
    wait::until(PATIENCE, "an order that the CA knows", || async {
        let shared = fleet.shared()?;
        ensure!(shared["certificates"]["default/shop-tls"]["order"]["url"].is_string(), "{shared}");
        Ok(())
    })
    .await?;
    let (mut leader, other) = if fleet.holder()? == "a" { (a, b) } else { (b, a) };
    leader.signal(Signal::SIGKILL)?;
    leader.ended(PATIENCE).await?;
    let trust = fleet.stage.pebble.trust()?;
    let took = becomes_secure(&other, "d.test", &trust, TAKEN_OVER).await?;
    figures::print(&format!("order completed by another replica: {:.2} s", took.as_secs_f64()));
    assert_eq!(fleet.stage.pebble.orders(), 1, "the order of the one that was killed is gone on with");
    Ok(())
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_request_for_another_token_is_the_backends() -> Result<()> {
    let stage = Stage::new(json!({})).await?;
    stage.folder.write("shop.yaml", &ingress("shop", &["a.test"], &json!({})))?;
    let ingress = stage.ingress(&[]).await?;
    let mut client = Client::http1((Ipv4Addr::LOCALHOST, ingress.http.port()).into()).await?;
    let request = Request::get("/.well-known/acme-challenge/solver").body(client::empty())?;
    assert_eq!(client.send("a.test", request).await?.backend(), "web");
    Ok(())
}
