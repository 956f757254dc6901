//! Against a real kube-apiserver with etcd: from `kubectl apply` to traffic, status by one of two replicas, Events,
//! and an API server that goes away.

use std::fmt::Write as _;
use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, ensure};
use k8s_openapi::api::networking::v1::Ingress as IngressObject;
use kube::Api;
use kube::api::PostParams;
use kube::config::{Config, KubeConfigOptions, Kubeconfig};
use landfall_e2e::client::{self, Client};
use landfall_e2e::echo::Echo;
use landfall_e2e::figures::{self, Durations, resident};
use landfall_e2e::ingress::Launch;
use landfall_e2e::kube::{Cluster, own_address};
use landfall_e2e::manifests;
use landfall_e2e::tools;
use landfall_e2e::wait;
use nix::sys::signal::Signal;
use serde_json::Value;
use tokio::sync::Mutex;

/// Two control planes at a time would measure each other.
static ONE_AT_A_TIME: Mutex<()> = Mutex::const_new(());

/// The address that goes into the status.
const PUBLISHED: &str = "192.0.2.10";
const NAMESPACE: &str = "landfall-system";
/// How soon a state of the API server must be seen; far above the budgets, for machines under load.
const PATIENCE: Duration = Duration::from_secs(30);
/// How long the API server stays away.
const OUTAGE: Duration = Duration::from_mins(1);
/// Ingresses whose way to traffic is timed.
const TIMED: usize = 100;
const MANY: usize = 5_000;

/// A control plane with the role of `examples/cluster`, a class, and Service `web` with one backend.
struct Setup {
    cluster: Cluster,
    echo: Echo,
}

async fn setup() -> Result<Setup> {
    let address = own_address()?;
    let echo = Echo::start("web", (address, 0).into()).await?;
    let cluster = Cluster::start().await?;
    cluster.apply(&std::fs::read_to_string(tools::checkout().join("examples/cluster/rbac.yaml"))?)?;
    cluster.apply(&(manifests::class() + &manifests::service("web", &[echo.addr])))?;
    Ok(Setup { cluster, echo })
}

/// A replica with the rights that `examples/cluster/rbac.yaml` gives.
fn replica(cluster: &Cluster, identity: &str) -> Result<Launch> {
    let kubeconfig = cluster.kubeconfig_of(NAMESPACE, "landfall-ingress")?;
    let arguments =
        ["--publish-status-address", PUBLISHED, "--namespace", NAMESPACE, "--identity", identity, "--no-access-log"];
    Ok(Launch::kubeconfig(&kubeconfig).args(&arguments).args(&["--lame-duck", "0"]))
}

fn route(name: &str) -> String {
    manifests::ingress(name, &format!("{name}.example"), &[("/", "web")])
}

async fn published(cluster: &Cluster, name: &str, address: Option<&str>) -> Result<Duration> {
    let ((), took) = wait::until(PATIENCE, &format!("{address:?} in the status of {name}"), || async {
        let object = cluster.get(&["ingress", name])?;
        let status = object["status"]["loadBalancer"]["ingress"][0]["ip"].as_str();
        ensure!(status == address, "{}", object["status"]);
        Ok(())
    })
    .await?;
    Ok(took)
}

/// The identity that holds the Lease.
fn holder(cluster: &Cluster) -> Result<String> {
    let lease = cluster.get(&["lease", "-n", NAMESPACE, "landfall-ingress"])?;
    let holder = lease["spec"]["holderIdentity"].as_str().filter(|holder| !holder.is_empty());
    Ok(holder.context("nobody holds the lease")?.to_owned())
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_is_applied_is_live_in_milliseconds() -> Result<()> {
    let _alone = ONE_AT_A_TIME.lock().await;
    let Setup { cluster, .. } = &setup().await?;
    let ingress = replica(cluster, "a")?.start().await?;

    let options = KubeConfigOptions::default();
    let config = Config::from_custom_kubeconfig(Kubeconfig::read_from(cluster.kubeconfig())?, &options).await?;
    // The process has one TLS provider, whoever asks first.
    let _ = rustls::crypto::aws_lc_rs::default_provider().install_default();
    let api: Api<IngressObject> = Api::default_namespaced(kube::Client::try_from(config)?);
    let mut probe = Client::http1(ingress.http).await?;
    let mut took = Durations::default();
    for number in 0..TIMED {
        let name = format!("timed-{number}");
        let host = format!("{name}.example");
        let object: IngressObject = serde_json::from_value(as_json(&name, &host))?;
        let begun = Instant::now();
        let (posted, parameters) = (api.clone(), PostParams::default());
        let post = tokio::spawn(async move { posted.create(&parameters, &object).await });
        while probe.get(&host, "/").await?.status != 200 {
            ensure!(begun.elapsed() < PATIENCE, "{host} is not live");
        }
        took.push(begun.elapsed());
        post.await??;
    }
    figures::print(&format!("POST of an Ingress to the first 200: {took}"));

    let mut took = Durations::default();
    for number in 0..TIMED {
        let name = format!("applied-{number}");
        let begun = Instant::now();
        cluster.apply(&route(&name))?;
        let applied = begun.elapsed();
        ingress.answers(&format!("{name}.example"), "/", 200, "web").await?;
        took.push(begun.elapsed().saturating_sub(applied));
    }
    figures::print(&format!("end of kubectl apply to the first 200: {took}"));

    cluster.apply(&std::fs::read_to_string(tools::checkout().join("examples/cluster/shop.yaml"))?)?;
    // Its one endpoint is an address for documentation; what counts is that the rules are there.
    wait::until(PATIENCE, "the route of the example", || async {
        let status = ingress.status().await?;
        let names: Vec<_> = status["ingresses"].as_array().into_iter().flatten().map(|one| &one["name"]).collect();
        ensure!(names.contains(&&Value::from("shop")), "{names:?}");
        Ok(())
    })
    .await?;
    Ok(())
}

fn as_json(name: &str, host: &str) -> Value {
    serde_json::json!({
        "metadata": {"name": name},
        "spec": {"ingressClassName": "landfall", "rules": [{"host": host, "http": {"paths": [{
            "path": "/", "pathType": "Prefix", "backend": {"service": {"name": "web", "port": {"name": "http"}}},
        }]}}]},
    })
}

#[tokio::test]
async fn one_of_two_replicas_writes_each_status_once() -> Result<()> {
    let _alone = ONE_AT_A_TIME.lock().await;
    let Setup { cluster, .. } = &setup().await?;
    let a = replica(cluster, "a")?.start().await?;
    let b = replica(cluster, "b")?.start().await?;
    let names: Vec<_> = (0..20).map(|number| format!("status-{number}")).collect();
    cluster.apply(&names.iter().map(|name| route(name)).collect::<String>())?;
    for name in &names {
        published(cluster, name, Some(PUBLISHED)).await?;
    }
    let first = holder(cluster)?;
    // A write that changes nothing is a request all the same; the audit log has every one.
    let writes = |name: &str| -> Result<usize> {
        let log = cluster.audit()?;
        Ok(log.iter().filter(|uri| uri.contains(&format!("/ingresses/{name}/status"))).count())
    };
    for name in &names {
        assert_eq!(writes(name)?, 1, "writes of the status of {name}");
    }

    // The holder goes: the other one takes over and touches nothing that is right.
    let (mut leader, other) = if first == "a" { (a, b) } else { (b, a) };
    leader.signal(Signal::SIGTERM)?;
    leader.ended(PATIENCE).await?;
    cluster.apply(&route("later"))?;
    let took = published(cluster, "later", Some(PUBLISHED)).await?;
    figures::print(&format!("status written after the leader went: {:.2} s", took.as_secs_f64()));
    assert_ne!(holder(cluster)?, first);
    for name in &names {
        assert_eq!(writes(name)?, 1, "writes of the status of {name} after the change of the leader");
    }

    // An Ingress that leaves the class is let go.
    cluster.kubectl(&[
        "patch",
        "ingress",
        "later",
        "--type=merge",
        "-p",
        r#"{"spec":{"ingressClassName":"other"}}"#,
    ])?;
    published(cluster, "later", None).await?;
    other.answers("later.example", "/", 404, "").await?;
    Ok(())
}

#[tokio::test]
async fn a_problem_becomes_one_event_on_its_object() -> Result<()> {
    let _alone = ONE_AT_A_TIME.lock().await;
    let Setup { cluster, .. } = &setup().await?;
    let (_a, _b) = (replica(cluster, "a")?.start().await?, replica(cluster, "b")?.start().await?);
    cluster.apply(&manifests::ingress("lost", "lost.example", &[("/", "nowhere")]))?;
    let events = || -> Result<Vec<Value>> {
        let list = cluster.get(&["events.events.k8s.io", "--all-namespaces"])?;
        let all = list["items"].as_array().cloned().unwrap_or_default();
        Ok(all.into_iter().filter(|event| event["regarding"]["name"] == "lost").collect())
    };
    let (seen, _) = wait::until(PATIENCE, "an Event on ingress lost", || async {
        let events = events()?;
        ensure!(!events.is_empty(), "none");
        Ok(events)
    })
    .await?;
    assert_eq!(seen.len(), 1, "{seen:?}");
    assert_eq!((&seen[0]["reason"], &seen[0]["type"]), (&"UnknownService".into(), &"Warning".into()), "{seen:?}");
    let described = cluster.kubectl(&["describe", "ingress", "lost"])?;
    assert!(described.contains("UnknownService") && described.contains("nowhere"), "{described}");
    // Mending is seen too: the status of another object goes through the same queue after this one.
    cluster.apply(&route("after"))?;
    published(cluster, "after", Some(PUBLISHED)).await?;
    assert_eq!(events()?.len(), 1);
    Ok(())
}

/// A `ConfigMap` of the default namespace with one entry.
fn config_map(name: &str, data: &[(&str, &str)]) -> String {
    let mut yaml = format!("apiVersion: v1\nkind: ConfigMap\nmetadata: {{name: {name}}}\ndata:\n");
    for (key, value) in data {
        let _ = writeln!(yaml, "  {key}: {value:?}");
    }
    yaml + "---\n"
}

#[tokio::test]
async fn config_maps_that_are_named_count_and_so_do_their_edits() -> Result<()> {
    let _alone = ONE_AT_A_TIME.lock().await;
    let Setup { cluster, .. } = &setup().await?;
    let options = [("add-headers", "default/all"), ("global-allowed-response-headers", "X-One")];
    cluster.apply(&(config_map("options", &options) + &config_map("all", &[("X-All", "yes")])))?;
    let annotation = "metadata: {annotations: {nginx.ingress.kubernetes.io/custom-headers: default/fields}, ";
    let nginx = route("web").replace("metadata: {", annotation).replace("Name: landfall", "Name: nginx");
    cluster.apply(&nginx)?;
    let ingress = replica(cluster, "a")?.args(&["--config-map", "default/options"]).start().await?;
    let mut client = Client::http1(ingress.http).await?;
    let answer = client.get("web.example", "/").await?;
    ensure!(answer.status == 503, "fields that are not known yet were left out: {answer}");
    for value in ["1", "2"] {
        cluster.apply(&config_map("fields", &[("X-One", value)]))?;
        wait::until(PATIENCE, "the field of the ConfigMap", || async {
            let answer = Client::http1(ingress.http).await?.get("web.example", "/").await?;
            let fields = ["x-one", "x-all"].map(|name| answer.headers.get(name).and_then(|field| field.to_str().ok()));
            ensure!(answer.status == 200 && fields == [Some(value), Some("yes")], "{answer} {fields:?}");
            Ok(())
        })
        .await?;
    }
    Ok(())
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_api_server_that_goes_away_costs_no_request() -> Result<()> {
    let _alone = ONE_AT_A_TIME.lock().await;
    let Setup { mut cluster, echo } = setup().await?;
    cluster.apply(&(route("stays") + &route("goes")))?;
    let ingress = replica(&cluster, "a")?.start().await?;
    ingress.answers("stays.example", "/", 200, "web").await?;

    let load = Load::start(ingress.http).await?;
    cluster.kill_api()?;
    let begun = Instant::now();
    wait::until(PATIENCE, "/status to say that the API server is away", || async {
        let source = ingress.status().await?["source"].take();
        ensure!(source["disconnectedSince"].is_string(), "{source}");
        Ok(())
    })
    .await?;

    // Meanwhile somebody changes things through another API server, which the ingress cannot reach.
    cluster.start_api_elsewhere().await?;
    cluster.apply(&route("comes"))?;
    cluster.kubectl(&["delete", "ingress", "goes"])?;
    cluster.kill_api()?;
    tokio::time::sleep(OUTAGE.saturating_sub(begun.elapsed())).await;
    for (host, status) in [("stays.example", 200), ("goes.example", 200), ("comes.example", 404)] {
        assert_eq!(ingress.get(host, "/").await?.status, status, "{host} during the outage");
    }
    assert_eq!(client::get(ingress.admin, "admin", "/readyz").await?.status, 200);

    cluster.start_api().await?;
    let back = Instant::now();
    ingress.answers("comes.example", "/", 200, "web").await?;
    ingress.answers("goes.example", "/", 404, "").await?;
    figures::print(&format!("caught up after the API server was back: {:.2} s", back.elapsed().as_secs_f64()));
    wait::until(PATIENCE, "/status to be connected again", || async {
        let source = ingress.status().await?["source"].take();
        ensure!(!source["disconnectedSince"].is_string(), "{source}");
        Ok(())
    })
    .await?;
    let requests = load.finish().await?;
    figures::print(&format!("{requests} requests while the API server was away for {OUTAGE:?}: 0 failed"));
    assert!(echo.requests() >= requests);
    Ok(())
}

/// One connection that asks all the time.
struct Load {
    stop: Arc<AtomicBool>,
    worker: tokio::task::JoinHandle<Result<u64>>,
}

impl Load {
    async fn start(addr: SocketAddr) -> Result<Self> {
        let stop = Arc::new(AtomicBool::new(false));
        let mut client = Client::http1(addr).await?;
        let stopped = Arc::clone(&stop);
        let worker = tokio::spawn(async move {
            let mut done = 0;
            while !stopped.load(Ordering::Relaxed) {
                let answer = client.get("stays.example", "/").await?;
                ensure!(answer.status == 200, "request {done}: {answer}");
                done += 1;
                // A steady load, not one that takes the machine from the API server.
                tokio::time::sleep(Duration::from_millis(1)).await;
            }
            Ok(done)
        });
        Ok(Self { stop, worker })
    }

    async fn finish(self) -> Result<u64> {
        self.stop.store(true, Ordering::Relaxed);
        self.worker.await?
    }
}

#[tokio::test]
async fn an_ingress_without_an_api_server_starts_and_waits() -> Result<()> {
    let _alone = ONE_AT_A_TIME.lock().await;
    let Setup { mut cluster, echo: _echo } = setup().await?;
    let launch = replica(&cluster, "a")?;
    cluster.apply(&route("early"))?;
    cluster.kill_api()?;
    let mut ingress = launch.spawn()?;
    let answer = wait::until(PATIENCE, "the admin port", || client::get(ingress.admin, "admin", "/readyz")).await?.0;
    assert_eq!(answer.status, 503, "{answer}");
    assert!(answer.text().contains("ingresses.networking.k8s.io"), "what is awaited: {}", answer.text());
    cluster.start_api().await?;
    ingress.ready(PATIENCE).await?;
    ingress.answers("early.example", "/", 200, "web").await?;
    Ok(())
}

#[tokio::test]
async fn five_thousand_ingresses_from_an_api_server() -> Result<()> {
    let _alone = ONE_AT_A_TIME.lock().await;
    let Setup { cluster, echo } = &setup().await?;
    for batch in 0..MANY / 500 {
        let mut yaml = String::new();
        for number in batch * 500..(batch + 1) * 500 {
            write!(yaml, "{}", app(&format!("app-{number}"), echo.addr))?;
        }
        cluster.create(&yaml)?;
    }
    let mut ingress = replica(cluster, "a")?.args(&["--no-status"]).spawn()?;
    let took = ingress.ready(Duration::from_mins(1)).await?;
    assert_eq!(ingress.get(&format!("app-{}.example", MANY - 1), "/").await?.backend(), "web");
    figures::print(&format!("time to ready with {MANY} Ingresses at an API server: {:.2} s", took.as_secs_f64()));
    figures::print(&format!("resident memory with {MANY} Ingresses from an API server: {}", resident(ingress.pid())?));
    let mut took = Durations::default();
    for number in 0..20 {
        let begun = Instant::now();
        cluster.apply(&route(&format!("one-{number}")))?;
        let applied = begun.elapsed();
        ingress.answers(&format!("one-{number}.example"), "/", 200, "web").await?;
        took.push(begun.elapsed().saturating_sub(applied));
    }
    figures::print(&format!("end of kubectl apply beside {MANY} Ingresses to the first 200: {took}"));
    Ok(())
}

fn app(name: &str, endpoint: SocketAddr) -> String {
    manifests::ingress(name, &format!("{name}.example"), &[("/", name)]) + &manifests::service(name, &[endpoint])
}
