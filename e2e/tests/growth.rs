//! How the control plane grows with a cluster, against a real API server: 50, 5,000, 20,000 and 50,000 Ingresses, each
//! with a Service and a slice, and a Secret for ten of them.
//!
//! For each size: the cold start, memory, from a change to its effect, alone and below 100 other changes a second, and
//! the processor time of a change. `make growth`; `LANDFALL_SIZES` lists other sizes.

use std::net::SocketAddr;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, ensure};
use futures::{StreamExt, TryStreamExt, stream};
use k8s_openapi::NamespaceResourceScope;
use k8s_openapi::api::core::v1::{Secret, Service};
use k8s_openapi::api::discovery::v1::EndpointSlice;
use k8s_openapi::api::networking::v1::Ingress;
use kube::api::{Patch, PatchParams, PostParams};
use kube::config::{Config, KubeConfigOptions, Kubeconfig};
use kube::{Api, Resource};
use landfall_e2e::client::Client;
use landfall_e2e::echo::Echo;
use landfall_e2e::figures::{Durations, resident};
use landfall_e2e::ingress::{Ingress as Program, Launch};
use landfall_e2e::kube::{Cluster, own_address};
use landfall_e2e::{figures, manifests, tools};
use serde::Serialize;
use serde::de::DeserializeOwned;
use serde_json::{Value, json};

const NAMESPACE: &str = "landfall-system";
const SIZES: [usize; 4] = [50, 5_000, 20_000, 50_000];
/// How long a program has to give back what starting needed, which is no part of what a change costs.
const SETTLED: Duration = Duration::from_secs(12);
/// Changes whose way is timed, and changes whose processor time is measured.
const TIMED: usize = 100;
const COUNTED: usize = 500;
/// Other changes a second while changes are timed.
const RATE: u32 = 100;
/// Requests at the API server at a time.
const AT_ONCE: usize = 16;
/// Bars for the greatest size: from a change to its effect, and the processor time of a change beside that at the
/// smallest size.
const SEEN_WITHIN: Duration = Duration::from_millis(15);
const MORE_AT_MOST: f64 = 1.3;
const READY_WITHIN: Duration = Duration::from_secs(5);

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_change_costs_the_same_in_a_large_cluster() -> Result<()> {
    let echo = Echo::start("web", (own_address()?, 0).into()).await?;
    let cluster = Cluster::start().await?;
    cluster.apply(&std::fs::read_to_string(tools::checkout().join("examples/cluster/rbac.yaml"))?)?;
    cluster.apply(&manifests::class())?;
    let grown = Grown { client: client(&cluster).await?, endpoint: echo.addr };
    let (mut made, mut costs) = (0, Vec::new());
    for size in sizes()? {
        grown.grow(made, size).await?;
        made = size;
        costs.push(measure(&cluster, &grown, size).await.with_context(|| format!("with {size} Ingresses"))?);
    }
    let (first, last) = (costs.first().context("no size")?, costs.last().context("no size")?);
    let times = last.cpu.as_secs_f64() / first.cpu.as_secs_f64();
    figures::print(&format!("a change at {} Ingresses costs {times:.2} times that at {}", last.size, first.size));
    if figures::held_to_budgets() {
        ensure!(last.ready <= READY_WITHIN, "ready after {:?}", last.ready);
        ensure!(last.seen <= SEEN_WITHIN, "99 of 100 changes are seen within {:?}", last.seen);
    }
    ensure!(times <= MORE_AT_MOST, "a change costs {times:.2} times what it does in a small cluster");
    Ok(())
}

fn sizes() -> Result<Vec<usize>> {
    match std::env::var("LANDFALL_SIZES") {
        Ok(list) => list.split(',').map(|size| Ok(size.trim().parse()?)).collect(),
        Err(_) => Ok(SIZES.to_vec()),
    }
}

async fn client(cluster: &Cluster) -> Result<kube::Client> {
    let options = KubeConfigOptions::default();
    let config = Config::from_custom_kubeconfig(Kubeconfig::read_from(cluster.kubeconfig())?, &options).await?;
    // The process has one TLS provider, whoever asks first.
    let _ = rustls::crypto::aws_lc_rs::default_provider().install_default();
    Ok(kube::Client::try_from(config)?)
}

/// What a size came to.
struct Cost {
    size: usize,
    ready: Duration,
    seen: Duration,
    cpu: Duration,
}

async fn measure(cluster: &Cluster, grown: &Grown, size: usize) -> Result<Cost> {
    let kubeconfig = cluster.kubeconfig_of(NAMESPACE, "landfall-ingress")?;
    let arguments = ["--namespace", NAMESPACE, "--no-access-log", "--no-status"];
    let mut ingress = Launch::kubeconfig(&kubeconfig).args(&arguments).spawn()?;
    let ready = ingress.ready(Duration::from_mins(2)).await?;
    let start = cpu(&ingress)?;
    assert_eq!(ingress.get(&host(size - 1), "/").await?.backend(), "web");
    tokio::time::sleep(SETTLED).await;
    let memory = resident(ingress.pid())?;
    let alone = grown.timed(&ingress, "alone").await?;
    let before = cpu(&ingress)?;
    for number in 0..COUNTED {
        grown.change(number % size, &format!("/counted-{number}")).await?;
    }
    settled(grown, &ingress).await?;
    let cpu = cpu(&ingress)?.saturating_sub(before) / u32::try_from(COUNTED)?;
    let other = grown.changes_all_the_time(size);
    let busy = grown.timed(&ingress, "busy").await?;
    other.abort();
    let _ = other.await;
    figures::print(&format!(
        "{size} Ingresses: ready after {:.2} s and {:.2} s of processor time, {memory}; from a change to its effect {alone}; beside {RATE} others a \
         second {busy}; {:.2} ms of processor time for a change",
        ready.as_secs_f64(),
        start.as_secs_f64(),
        cpu.as_secs_f64() * 1e3
    ));
    Ok(Cost { size, ready, seen: alone.percentile(99).max(busy.percentile(99)), cpu })
}

/// Waits until the program has seen all changes made so far.
async fn settled(grown: &Grown, ingress: &Program) -> Result<()> {
    grown.timed_once(ingress, "settled", &mut Client::http1(ingress.http).await?).await.map(drop)
}

fn cpu(ingress: &Program) -> Result<Duration> {
    let mut nanos = 0;
    for task in std::fs::read_dir(format!("/proc/{}/task", ingress.pid()))? {
        // The scheduler's own count, in nanoseconds.
        let text = std::fs::read_to_string(task?.path().join("schedstat"))?;
        nanos += text.split_whitespace().next().unwrap_or_default().parse::<u64>()?;
    }
    Ok(Duration::from_nanos(nanos))
}

/// A cluster that grows.
struct Grown {
    client: kube::Client,
    endpoint: SocketAddr,
}

impl Grown {
    fn api<K>(&self) -> Api<K>
    where
        K: Resource<Scope = NamespaceResourceScope, DynamicType = ()>,
    {
        Api::default_namespaced(self.client.clone())
    }

    async fn create<K>(&self, object: Value) -> Result<()>
    where
        K: Resource<Scope = NamespaceResourceScope, DynamicType = ()>
            + Clone
            + std::fmt::Debug
            + DeserializeOwned
            + Serialize,
    {
        let object: K = serde_json::from_value(object)?;
        self.api().create(&PostParams::default(), &object).await?;
        Ok(())
    }

    /// Makes the apps from number `from` to `to`, and some to be changed.
    async fn grow(&self, from: usize, to: usize) -> Result<()> {
        if from == 0 {
            self.create::<Ingress>(app_ingress("changed", "changed.example", "/none")).await?;
            self.create::<Service>(service("changed")).await?;
            self.create::<EndpointSlice>(slice("changed", self.endpoint)).await?;
        }
        let one = |number: usize| async move {
            let name = format!("app-{number}");
            if number.is_multiple_of(10) {
                self.create::<Secret>(secret(&format!("tls-{}", number / 10))?).await?;
            }
            self.create::<Service>(service(&name)).await?;
            self.create::<EndpointSlice>(slice(&name, self.endpoint)).await?;
            let mut ingress = app_ingress(&name, &host(number), "/");
            ingress["spec"]["tls"] = json!([{"hosts": [host(number)], "secretName": format!("tls-{}", number / 10)}]);
            self.create::<Ingress>(ingress).await
        };
        stream::iter((from..to).map(one)).buffer_unordered(AT_ONCE).try_collect().await
    }

    /// Gives an app another path beside its own.
    async fn change(&self, number: usize, path: &str) -> Result<()> {
        let name = format!("app-{number}");
        let paths = json!([path_to(&name, "/"), path_to(&name, path)]);
        self.patch(&name, &host(number), paths).await
    }

    async fn patch(&self, name: &str, host: &str, paths: Value) -> Result<()> {
        let patch = json!({"spec": {"rules": [{"host": host, "http": {"paths": paths}}]}});
        self.api::<Ingress>().patch(name, &PatchParams::default(), &Patch::Merge(patch)).await?;
        Ok(())
    }

    /// From the answer of the API server to the first request that is answered as the change says.
    async fn timed(&self, ingress: &Program, name: &str) -> Result<Durations> {
        let mut probe = Client::http1(ingress.http).await?;
        let mut took = Durations::default();
        for number in 0..TIMED {
            took.push(self.timed_once(ingress, &format!("{name}-{number}"), &mut probe).await?);
        }
        Ok(took)
    }

    async fn timed_once(&self, _: &Program, path: &str, probe: &mut Client) -> Result<Duration> {
        let path = format!("/{path}");
        self.patch("changed", "changed.example", json!([path_to("changed", &path)])).await?;
        let begun = Instant::now();
        while probe.get("changed.example", &path).await?.status != 200 {
            ensure!(begun.elapsed() < Duration::from_secs(30), "{path} is not live");
        }
        Ok(begun.elapsed())
    }

    /// Changes apps until it is aborted.
    fn changes_all_the_time(&self, size: usize) -> tokio::task::JoinHandle<Result<()>> {
        const HANDS: u32 = 4;
        let grown = Self { client: self.client.clone(), endpoint: self.endpoint };
        tokio::spawn(async move {
            let grown = &grown;
            let hands = (0..HANDS).map(|hand| grown.changes(hand as usize, HANDS, size));
            futures::future::try_join_all(hands).await.map(drop)
        })
    }

    /// One of several that change apps in turn.
    async fn changes(&self, hand: usize, hands: u32, size: usize) -> Result<()> {
        let mut pace = tokio::time::interval(Duration::from_secs(1) * hands / RATE);
        for round in 0_usize.. {
            pace.tick().await;
            self.change((round * hands as usize + hand) * 7 % size, &format!("/busy-{round}")).await?;
        }
        Ok(())
    }
}

fn host(number: usize) -> String {
    format!("app-{number}.growth.example")
}

fn path_to(service: &str, path: &str) -> Value {
    json!({"path": path, "pathType": "Prefix", "backend": {"service": {"name": service, "port": {"name": "http"}}}})
}

fn app_ingress(name: &str, host: &str, path: &str) -> Value {
    json!({
        "metadata": {"name": name},
        "spec": {"ingressClassName": "landfall", "rules": [{"host": host, "http": {"paths": [path_to(name, path)]}}]},
    })
}

fn service(name: &str) -> Value {
    json!({"metadata": {"name": name}, "spec": {"clusterIP": "None", "ports": [{"name": "http", "port": 80}]}})
}

fn slice(name: &str, endpoint: SocketAddr) -> Value {
    json!({
        "metadata": {"name": format!("{name}-1"), "labels": {"kubernetes.io/service-name": name}},
        "addressType": if endpoint.is_ipv4() { "IPv4" } else { "IPv6" },
        "ports": [{"name": "http", "port": endpoint.port()}],
        "endpoints": [{"addresses": [endpoint.ip().to_string()], "conditions": {"ready": true}}],
    })
}

/// A certificate for all hosts here; what it holds is the same for each Secret.
fn secret(name: &str) -> Result<Value> {
    static PAIR: std::sync::OnceLock<(String, String)> = std::sync::OnceLock::new();
    if PAIR.get().is_none() {
        let made = rcgen::generate_simple_self_signed(vec!["*.growth.example".to_owned()])?;
        let _ = PAIR.set((made.cert.pem(), made.signing_key.serialize_pem()));
    }
    let (certificate, key) = PAIR.get().context("no certificate")?;
    Ok(json!({
        "metadata": {"name": name}, "type": "kubernetes.io/tls",
        "stringData": {"tls.crt": certificate, "tls.key": key},
    }))
}
