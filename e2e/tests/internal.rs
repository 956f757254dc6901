//! The CA of one's own: what curl and a browser make of it, in a folder and in a cluster.

use std::collections::BTreeSet;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;

use anyhow::{Context, Result, ensure};
use landfall_e2e::browser::Browser;
use landfall_e2e::client::{self, Client};
use landfall_e2e::echo::Echo;
use landfall_e2e::ingress::{Ingress, Launch};
use landfall_e2e::kube::{Cluster, own_address};
use landfall_e2e::load::{self, Class, Plan};
use landfall_e2e::manifests::{self, Folder};
use landfall_e2e::tls::Trust;
use landfall_e2e::{tools, wait};
use nix::sys::signal::Signal;
use rcgen::{BasicConstraints, CertificateParams, DnType, IsCa, KeyPair};
use serde_json::{Value, json};
use tempfile::TempDir;
use tokio::sync::{Mutex, oneshot};

const PATIENCE: Duration = Duration::from_mins(1);
/// A Lease runs out before another replica takes over.
const TAKEN_OVER: Duration = Duration::from_mins(2);
const NAMESPACE: &str = "landfall-system";
const DAY: i64 = 86_400;
/// What the backend answers to `/seen`.
const SEEN: &str = "GET /seen";

/// Two control planes, or a browser beside a load, would slow one another down.
static ONE_AT_A_TIME: Mutex<()> = Mutex::const_new(());

/// A folder of manifests with a backend, and a state folder.
struct Home {
    folder: Folder,
    state: TempDir,
    _echo: Echo,
}

impl Home {
    async fn new() -> Result<Self> {
        let echo = Echo::local("web").await?;
        let folder = Folder::new()?;
        folder.write("web.yaml", &manifests::service("web", &[echo.addr]))?;
        Ok(Self { folder, state: TempDir::new()?, _echo: echo })
    }

    fn state(&self) -> PathBuf {
        self.state.path().join("state")
    }

    async fn ingress(&self, more: &[&str]) -> Result<Ingress> {
        let state = self.state().display().to_string();
        let launch = Launch::manifests(self.folder.path()).args(&["--acme-default", "internal", "--state-dir", &state]);
        launch.args(&["--lame-duck", "0"]).args(more).start().await
    }
}

/// An Ingress that takes every host, with a TLS entry for these.
fn ingress(name: &str, hosts: &[&str], annotations: &Value) -> String {
    let backend = json!({"service": {"name": "web", "port": {"name": "http"}}});
    let object = json!({
        "apiVersion": "networking.k8s.io/v1", "kind": "Ingress", "metadata": {"name": name, "annotations": annotations},
        "spec": {
            "ingressClassName": "landfall",
            "rules": [{"http": {"paths": [{"path": "/", "pathType": "Prefix", "backend": backend}]}}],
            "tls": [{"hosts": hosts, "secretName": format!("{name}-tls")}],
        },
    });
    format!("{object}\n---\n")
}

/// The root as the admin port shows it.
async fn root(ingress: &Ingress) -> Result<String> {
    let (text, _) = wait::until(PATIENCE, "/ca.crt", || async {
        let answer = client::get(ingress.admin, "admin", "/ca.crt").await?;
        ensure!(answer.status == 200, "{answer}");
        Ok(answer.text())
    })
    .await?;
    Ok(text)
}

/// The same in a file.
async fn root_file(ingress: &Ingress, folder: &Path) -> Result<PathBuf> {
    let path = folder.join("root.crt");
    std::fs::write(&path, root(ingress).await?)?;
    Ok(path)
}

async fn becomes_secure(at: SocketAddr, host: &str, trust: &Trust) -> Result<()> {
    wait::until(PATIENCE, &format!("https://{host} that is trusted"), || async {
        let answer = Client::https1(at, host, trust).await?.get(host, "/").await?;
        ensure!(answer.status == 200 && answer.backend() == "web", "{answer}");
        Ok(())
    })
    .await
    .map(drop)
}

/// The certificates that are sent.
async fn chain(at: SocketAddr, host: &str, trust: &Trust) -> Result<Vec<Vec<u8>>> {
    let stream = trust.connect(at, host, &["http/1.1"]).await?;
    let chain = stream.get_ref().1.peer_certificates().context("no certificate")?;
    Ok(chain.iter().map(|certificate| certificate.to_vec()).collect())
}

fn program(arguments: &[&str]) -> Result<Command> {
    let mut command = Command::new(tools::program("landfall-ingress")?);
    command.args(arguments);
    Ok(command)
}

/// What curl says of `https://HOST` at an address: the status, or 0 if it does not trust it.
fn curl(at: SocketAddr, host: &str, root: &Path) -> Result<String> {
    let way = format!("{host}:{}:{}", at.port(), at.ip());
    let url = format!("https://{host}:{}/", at.port());
    let mut curl = Command::new("curl");
    curl.args(["--silent", "--output", "/dev/null", "--write-out", "%{http_code}", "--resolve", &way, "--cacert"]);
    let (output, _) = tools::run_any(curl.arg(root).arg(url))?;
    Ok(String::from_utf8_lossy(&output.stdout).into_owned())
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn curl_and_a_browser_trust_names_wildcards_and_addresses_once_they_have_the_root() -> Result<()> {
    let _alone = ONE_AT_A_TIME.lock().await;
    let home = Home::new().await?;
    let hosts = ["nas.home.arpa", "*.lab.home.arpa", "127.0.0.1", "shop.example.com"];
    home.folder.write("nas.yaml", &ingress("nas", &hosts, &json!({})))?;
    let mut first = home.ingress(&[]).await?;
    let file = root_file(&first, home.state.path()).await?;
    let trust = Trust::from_file(&file)?;
    for host in ["nas.home.arpa", "any.lab.home.arpa", "127.0.0.1"] {
        becomes_secure(first.https, host, &trust).await?;
        assert_eq!(curl(first.https, host, &file)?, "200", "{host}");
    }
    assert_eq!(curl(first.https, "shop.example.com", &file)?, "000");

    // Short-lived, with the intermediate and without the root.
    let sent = chain(first.https, "nas.home.arpa", &trust).await?;
    assert_eq!(sent.len(), 2);
    let (_, leaf) = x509_parser::parse_x509_certificate(&sent[0])?;
    let life = leaf.validity().not_after.timestamp() - leaf.validity().not_before.timestamp();
    assert!((7 * DAY..8 * DAY).contains(&life), "{life} s");
    assert!(leaf.extended_key_usage()?.is_some_and(|usage| usage.value.server_auth && !usage.value.client_auth));
    let (_, intermediate) = x509_parser::parse_x509_certificate(&sent[1])?;
    assert!(intermediate.name_constraints()?.is_some_and(|constraints| constraints.critical));

    // What it does not sign for is reported with the way out, and holds up no other.
    let status = first.status().await?;
    let said: Vec<&Value> = status["problems"].as_array().into_iter().flatten().collect();
    let outside = said.iter().find(|problem| problem["reason"] == "AcmeUnprovableHost").context("no problem")?;
    let text = outside["message"].as_str().unwrap_or_default();
    assert!(text.contains("shop.example.com") && text.contains("--ca-permitted"), "{text}");

    let admin = first.admin.to_string();
    let by_admin = tools::run(&mut program(&["ca", "root", "--admin", &admin])?)?;
    let state = home.state().display().to_string();
    let by_folder = tools::run(&mut program(&["ca", "root", "--state-dir", &state])?)?;
    assert_eq!((&by_admin, &by_folder), (&std::fs::read_to_string(&file)?, &by_admin));

    let port = first.https.port();
    let (stranger, friend) = (Browser::new(&["*.home.arpa"])?, Browser::new(&["*.home.arpa"])?);
    friend.trust(&file)?;
    for host in ["nas.home.arpa", "any.lab.home.arpa", "127.0.0.1"] {
        let page = friend.document(&format!("https://{host}:{port}/seen")).await?;
        assert!(page.contains(SEEN), "{host}: {page}");
    }
    let page = stranger.document(&format!("https://nas.home.arpa:{port}/seen")).await?;
    assert!(!page.contains(SEEN), "{page}");

    // Another start goes on with the same root and the same certificate.
    first.signal(Signal::SIGTERM)?;
    first.ended(PATIENCE).await?;
    let second = home.ingress(&[]).await?;
    assert_eq!(root(&second).await?, by_admin);
    assert_eq!(chain(second.https, "nas.home.arpa", &trust).await?, sent);
    Ok(())
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_certificate_is_renewed_under_load_without_a_failed_handshake() -> Result<()> {
    let _alone = ONE_AT_A_TIME.lock().await;
    let home = Home::new().await?;
    home.folder.write("nas.yaml", &ingress("nas", &["nas.home.arpa"], &json!({})))?;
    // The shortest there is: it is renewed after some 40 seconds.
    let ingress = home.ingress(&["--ca-lifetime", "1m", "--no-access-log"]).await?;
    let trust = Trust::from_file(&root_file(&ingress, home.state.path()).await?)?;
    becomes_secure(ingress.https, "nas.home.arpa", &trust).await?;
    let before = chain(ingress.https, "nas.home.arpa", &trust).await?;
    let plan = Plan::new("nas.home.arpa", [ingress.http]).tls([ingress.https], trust.clone());
    let (stop, stopped) = oneshot::channel::<()>();
    let plan = plan.rate(Class::Tls, 20).rate(Class::H2, 20);
    let running = tokio::spawn(load::run(plan, async move { drop(stopped.await) }));
    let renewed = wait::until(PATIENCE, "another certificate", || async {
        let now = chain(ingress.https, "nas.home.arpa", &trust).await?;
        ensure!(now[0] != before[0], "it is the same");
        ensure!(now[1] == before[1], "the intermediate is good for a year");
        Ok(())
    })
    .await;
    // Some more handshakes with the new one.
    tokio::time::sleep(Duration::from_secs(2)).await;
    let _ = stop.send(());
    let report = running.await??;
    renewed?;
    for (class, counted) in &report.classes {
        assert!(counted.failed == 0 && counted.ok > 500, "{class}: {counted:?}");
    }
    Ok(())
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_root_that_somebody_brings_along_signs_for_what_it_is_asked_to() -> Result<()> {
    let _alone = ONE_AT_A_TIME.lock().await;
    let home = Home::new().await?;
    let key = KeyPair::generate()?;
    let mut params = CertificateParams::default();
    params.distinguished_name.push(DnType::CommonName, "Example Home");
    params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
    let own = params.self_signed(&key)?.pem();
    let secret = json!({
        "apiVersion": "v1", "kind": "Secret", "metadata": {"name": "mine"},
        "stringData": {"ca.crt": own, "ca.key": key.serialize_pem()},
    });
    let issuer = json!({
        "directory": "internal", "keyType": "rsa-2048",
        "authority": {"permitted": ["home.example"], "lifetime": "12h", "root": "default/mine"},
    });
    let map = json!({
        "apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": "issuers"}, "data": {"mine": issuer.to_string()},
    });
    home.folder.write("mine.yaml", &format!("{secret}\n---\n{map}\n"))?;
    let asked = json!({"landfall.dev/acme": "mine"});
    let both = ingress("nas", &["nas.home.example"], &asked) + &ingress("lan", &["nas.lan"], &json!({}));
    home.folder.write("nas.yaml", &both)?;
    let ingress = home.ingress(&["--acme-issuers", "default/issuers"]).await?;
    let file = home.state.path().join("own.crt");
    std::fs::write(&file, &own)?;
    becomes_secure(ingress.https, "nas.home.example", &Trust::from_file(&file)?).await?;
    // The issuer beside it has the root that was made.
    let all = root_file(&ingress, home.state.path()).await?;
    becomes_secure(ingress.https, "nas.lan", &Trust::from_file(&all)?).await?;
    let text = root(&ingress).await?;
    assert!(text.contains(own.trim()) && text.matches("BEGIN CERTIFICATE").count() == 2, "{text}");
    assert_eq!(curl(ingress.https, "nas.lan", &file)?, "000", "that root is another one");
    Ok(())
}

/// A control plane with the rights of `examples/cluster`, and a backend.
struct Fleet {
    cluster: Cluster,
    _echo: Echo,
}

impl Fleet {
    async fn new() -> Result<Self> {
        let echo = Echo::start("web", (own_address()?, 0).into()).await?;
        let cluster = Cluster::start().await?;
        for file in ["rbac.yaml", "rbac-acme.yaml"] {
            cluster.apply(&std::fs::read_to_string(tools::checkout().join("examples/cluster").join(file))?)?;
        }
        cluster.apply(&(manifests::class() + &manifests::service("web", &[echo.addr])))?;
        Ok(Self { cluster, _echo: echo })
    }

    async fn replica(&self, identity: &str) -> Result<Ingress> {
        let kubeconfig = self.cluster.kubeconfig_of(NAMESPACE, "landfall-ingress")?;
        let own = ["--publish-status-address", "192.0.2.1", "--namespace", NAMESPACE, "--identity", identity];
        let launch = Launch::kubeconfig(&kubeconfig).args(&own).args(&["--acme-default", "internal"]);
        launch.args(&["--lame-duck", "0"]).start().await
    }

    fn holder(&self) -> Result<String> {
        let lease = self.cluster.get(&["lease", "-n", NAMESPACE, "landfall-ingress"])?;
        let holder = lease["spec"]["holderIdentity"].as_str().filter(|holder| !holder.is_empty());
        Ok(holder.context("nobody holds the lease")?.to_owned())
    }

    /// Waits for a warning with this reason about an Ingress; returns its text.
    async fn warning(&self, reason: &str, about: &str) -> Result<String> {
        let (text, _) = wait::until(PATIENCE, &format!("an Event {reason} about {about}"), || async {
            let list = self.cluster.get(&["events.events.k8s.io"])?;
            let mut all = list["items"].as_array().into_iter().flatten();
            let found = all.find(|one| one["reason"] == reason && one["regarding"]["name"] == about);
            let found = found.with_context(|| format!("not among {}", list["items"]))?;
            ensure!(found["type"] == "Warning", "{found}");
            Ok(found["note"].as_str().unwrap_or_default().to_owned())
        })
        .await?;
        Ok(text)
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn two_replicas_have_one_ca_and_one_certificate_and_the_next_leader_goes_on_with_both() -> Result<()> {
    let _alone = ONE_AT_A_TIME.lock().await;
    let fleet = Fleet::new().await?;
    let foreign = json!({
        "apiVersion": "v1", "kind": "Secret", "metadata": {"name": "foreign-tls"}, "type": "kubernetes.io/tls",
        "stringData": {"tls.crt": "mine", "tls.key": "mine"},
    });
    fleet.cluster.apply(&foreign.to_string())?;
    let (a, b) = (fleet.replica("a").await?, fleet.replica("b").await?);
    let asked = json!({"landfall.dev/acme": "internal"});
    let objects = ingress("nas", &["nas.home.arpa", "192.168.7.7"], &asked)
        + &ingress("foreign", &["other.home.arpa"], &asked)
        + &ingress("outside", &["shop.example.com"], &asked);
    fleet.cluster.apply(&objects)?;
    let folder = TempDir::new()?;
    let trust = Trust::from_file(&root_file(&a, folder.path()).await?)?;
    let mut served = BTreeSet::new();
    for replica in [&a, &b] {
        becomes_secure(replica.https, "nas.home.arpa", &trust).await?;
        served.insert(chain(replica.https, "nas.home.arpa", &trust).await?);
    }
    assert_eq!(served.len(), 1, "both serve one certificate");
    let shown = root(&a).await?;
    assert_eq!(root(&b).await?, shown);
    let secret = fleet.cluster.get(&["secret", "nas-tls"])?;
    assert_eq!(secret["type"], "kubernetes.io/tls");
    assert_eq!(secret["metadata"]["labels"]["landfall.dev/acme"], "managed");

    // With the rights of whoever may read a ConfigMap.
    let mut asked_for = program(&["ca", "root", "--namespace", NAMESPACE])?;
    let by_cluster = tools::run(asked_for.env("KUBECONFIG", fleet.cluster.kubeconfig()))?;
    assert_eq!(by_cluster, shown);

    let text = fleet.warning("AcmeForeignSecret", "foreign").await?;
    assert!(text.contains("kubectl -n default label secret foreign-tls landfall.dev/acme=managed"), "{text}");
    assert_eq!(fleet.cluster.get(&["secret", "foreign-tls"])?["data"]["tls.crt"], "bWluZQ==");
    let text = fleet.warning("AcmeUnprovableHost", "outside").await?;
    assert!(text.contains("shop.example.com is none of the names"), "{text}");

    let (mut leader, other) = if fleet.holder()? == "a" { (a, b) } else { (b, a) };
    leader.signal(Signal::SIGKILL)?;
    leader.ended(PATIENCE).await?;
    fleet.cluster.apply(&ingress("late", &["late.home.arpa"], &asked))?;
    wait::until(TAKEN_OVER, "a certificate by the next leader", || async {
        chain(other.https, "late.home.arpa", &trust).await.map(drop)
    })
    .await?;
    let late = chain(other.https, "late.home.arpa", &trust).await?;
    let first = served.pop_first().context("none")?;
    assert_eq!(late[1], first[1], "one intermediate");
    assert_eq!((root(&other).await?, chain(other.https, "nas.home.arpa", &trust).await?), (shown, first));
    Ok(())
}
