//! The announcer's control side against a real kube-apiserver with etcd, with the rights that its page lists:
//! addresses in milliseconds, two replicas, restarts, an API server that goes away, and what an existing user of
//! `MetalLB` brings along.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt::Write as _;
use std::fs::File;
use std::net::{Ipv4Addr, SocketAddr};
use std::path::Path;
use std::process::{Child, Command};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail, ensure};
use futures::StreamExt;
use k8s_openapi::api::core::v1::Service;
use kube::Api;
use kube::api::{ListParams, PostParams, WatchEvent, WatchParams};
use kube::config::{Config, KubeConfigOptions, Kubeconfig};
use landfall_e2e::figures::{self, Durations, resident};
use landfall_e2e::kube::Cluster;
use landfall_e2e::{client, tools, wait};
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use serde_json::{Value, json};
use tempfile::TempDir;
use tokio::sync::Mutex;

/// Two control planes at a time would measure each other.
static ONE_AT_A_TIME: Mutex<()> = Mutex::const_new(());

const NAMESPACE: &str = "landfall-system";
/// How soon something that takes milliseconds must be seen; for machines under load.
const PATIENCE: Duration = Duration::from_secs(30);
/// The Lease's duration, with the other replica's next look.
const LEASE: Duration = Duration::from_secs(18);
/// The budget for an address once a Service is there.
const BUDGET: Duration = Duration::from_millis(100);
/// Services that are timed one by one.
const TIMED: usize = 100;
/// Services that come at once.
const MANY: usize = 1_000;
const RBAC: &str = include_str!("announcer/rbac.yaml");
const METALLB: &str = include_str!("announcer/metallb.yaml");

/// A ready endpoint of the documentation's Service, on node n2.
const SLICE: &str = "apiVersion: discovery.k8s.io/v1\nkind: EndpointSlice\n\
    metadata: {name: nginx-1, labels: {kubernetes.io/service-name: nginx}}\naddressType: IPv4\n\
    ports: [{port: 80}]\nendpoints: [{addresses: [198.51.100.7], nodeName: n2, conditions: {ready: true}}]\n";

/// A running controller or speaker; dropping it kills it, and shows the end of its log when the test failed.
struct Program {
    child: Child,
    admin: SocketAddr,
    log: TempDir,
}

impl Program {
    fn start(cluster: &Cluster, role: &str, name: &str, arguments: &[&str]) -> Result<Self> {
        let log = TempDir::new()?;
        let out = File::create(log.path().join("log"))?;
        let admin = SocketAddr::from((Ipv4Addr::LOCALHOST, tools::free_port()?));
        let mut command = Command::new(tools::program("landfall-lb-announcer")?);
        // The environment of whoever runs the tests must not change what they test.
        for (name, _) in std::env::vars_os() {
            let text = name.to_string_lossy();
            if text.starts_with("LANDFALL_") || text == "RUST_LOG" {
                command.env_remove(&name);
            }
        }
        command.arg(role).args(["--namespace", NAMESPACE, "--pod-name", name, "--admin", &admin.to_string()]);
        command.args(arguments).env("KUBECONFIG", cluster.kubeconfig_of(NAMESPACE, role)?);
        let child = command.stdout(out.try_clone()?).stderr(out).spawn()?;
        Ok(Self { child, admin, log })
    }

    /// Waits until `/readyz` says 200.
    async fn ready(self) -> Result<Self> {
        wait::until(PATIENCE, "/readyz", || async {
            let answer = client::get(self.admin, "admin", "/readyz").await?;
            ensure!(answer.status == 200, "{}", answer.text());
            Ok(())
        })
        .await?;
        Ok(self)
    }

    fn signal(&self, signal: Signal) -> Result<()> {
        Ok(kill(Pid::from_raw(i32::try_from(self.child.id())?), signal)?)
    }

    async fn ended(&mut self) -> Result<()> {
        let child = &mut self.child;
        wait::until(PATIENCE, "the program to end", || {
            let status = child.try_wait();
            async move { status?.context("it still runs") }
        })
        .await?;
        Ok(())
    }

    fn log(&self) -> String {
        std::fs::read_to_string(self.log.path().join("log")).unwrap_or_default()
    }

    async fn metrics(&self) -> Result<String> {
        Ok(client::get(self.admin, "admin", "/metrics").await?.text())
    }
}

impl Drop for Program {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
        if std::thread::panicking() {
            tools::print_end("a program", &self.log());
        }
    }
}

async fn controller(cluster: &Cluster, name: &str, arguments: &[&str]) -> Result<Program> {
    Program::start(cluster, "controller", name, arguments)?.ready().await
}

/// A cluster with the namespace, the rights, and three nodes that are ready; without the definitions.
async fn bare() -> Result<Cluster> {
    let cluster = Cluster::start().await?;
    cluster.apply(RBAC)?;
    let mut nodes = String::new();
    for number in 1..=3 {
        writeln!(
            nodes,
            "---\napiVersion: v1\nkind: Node\nmetadata: {{name: n{number}}}\nstatus:\n  \
             addresses: [{{type: InternalIP, address: 192.168.10.{}}}]\n  \
             conditions: [{{type: Ready, status: \"True\", reason: x, message: x}}]",
            10 + number
        )?;
    }
    cluster.create(&nodes)?;
    Ok(cluster)
}

fn definitions(cluster: &Cluster) -> Result<()> {
    let crds = tools::run(Command::new(tools::program("landfall-lb-announcer")?).arg("crds"))?;
    cluster.apply(&crds)?;
    cluster.kubectl(&["wait", "--for=condition=Established", "crd", "--all", "--timeout=30s"])?;
    Ok(())
}

/// A cluster with the definitions, and the objects of `MetalLB`'s documentation.
async fn setup() -> Result<Cluster> {
    let cluster = bare().await?;
    definitions(&cluster)?;
    cluster.apply(METALLB)?;
    Ok(cluster)
}

fn service(name: &str, more: &str) -> String {
    format!(
        "---\napiVersion: v1\nkind: Service\nmetadata: {{name: {name}, annotations: {{{more}}}}}\n\
         spec: {{type: LoadBalancer, ports: [{{port: 80}}], selector: {{app: {name}}}}}\n"
    )
}

fn pool(addresses: &str) -> String {
    format!(
        "apiVersion: metallb.io/v1beta1\nkind: IPAddressPool\nmetadata: {{name: first-pool, namespace: metallb-system}}\n\
         spec: {{addresses: [{addresses}]}}\n"
    )
}

/// The addresses of every Service, by name.
fn addresses(cluster: &Cluster) -> Result<BTreeMap<String, String>> {
    let list = cluster.get(&["services"])?;
    let address = |service: &Value| {
        let name = service["metadata"]["name"].as_str()?.to_owned();
        let ips = service["status"]["loadBalancer"]["ingress"].as_array()?;
        let ips: Vec<&str> = ips.iter().filter_map(|one| one["ip"].as_str()).collect();
        Some((name, ips.join(",")))
    };
    Ok(list["items"].as_array().into_iter().flatten().filter_map(address).collect())
}

async fn has(cluster: &Cluster, name: &str, expected: Option<&str>) -> Result<Duration> {
    let ((), took) = wait::until(PATIENCE, &format!("{name} to have {expected:?}"), || async {
        let all = addresses(cluster)?;
        ensure!(all.get(name).map(String::as_str) == expected, "{all:?}");
        Ok(())
    })
    .await?;
    Ok(took)
}

/// Waits until a condition of a Service has this status, and returns its reason and message.
async fn condition(cluster: &Cluster, name: &str, kind: &str, status: &str) -> Result<(String, String)> {
    let what = format!("condition {kind} of {name} to be {status}");
    let (found, _) = wait::until(PATIENCE, &what, || async {
        let object = cluster.get(&["service", name])?;
        let all = object["status"]["conditions"].as_array().cloned().unwrap_or_default();
        let found = all.into_iter().find(|c| c["type"] == format!("landfall.dev/{kind}") && c["status"] == status);
        found.with_context(|| object["status"].to_string())
    })
    .await?;
    let text = |field: &str| found[field].as_str().unwrap_or_default().to_owned();
    Ok((text("reason"), text("message")))
}

async fn event(cluster: &Cluster, name: &str, reason: &str) -> Result<String> {
    let what = format!("event {reason} of {name}");
    let (note, _) = wait::until(PATIENCE, &what, || async {
        let list = cluster.get(&["events.events.k8s.io", "--all-namespaces"])?;
        let all = list["items"].as_array().cloned().unwrap_or_default();
        let found = all.into_iter().find(|e| e["regarding"]["name"] == name && e["reason"] == reason);
        Ok(found.context("none")?["note"].as_str().unwrap_or_default().to_owned())
    })
    .await?;
    Ok(note)
}

async fn api(cluster: &Cluster) -> Result<Api<Service>> {
    // The process has one TLS provider, whoever asks first.
    let _ = rustls::crypto::aws_lc_rs::default_provider().install_default();
    let options = KubeConfigOptions::default();
    let config = Config::from_custom_kubeconfig(Kubeconfig::read_from(cluster.kubeconfig())?, &options).await?;
    Ok(Api::default_namespaced(kube::Client::try_from(config)?))
}

fn object(name: &str) -> Result<Service> {
    let spec = json!({"type": "LoadBalancer", "ports": [{"port": 80}], "selector": {"app": name}});
    Ok(serde_json::from_value(json!({"metadata": {"name": name}, "spec": spec}))?)
}

/// Makes Services one after the other and waits for the address of each: how long that took from the request on, and
/// how long the request alone.
async fn timed(api: &Api<Service>) -> Result<(Durations, Durations)> {
    let version = api.list_metadata(&ListParams::default()).await?.metadata.resource_version.unwrap_or_default();
    // A watch tells as soon as it is so, and takes the machine less from the API server than asking again and again.
    let mut events = api.watch(&WatchParams::default(), &version).await?.boxed();
    let (mut took, mut created) = (Durations::default(), Durations::default());
    for number in 0..TIMED {
        let name = format!("timed-{number}");
        let begun = Instant::now();
        api.create(&PostParams::default(), &object(&name)?).await?;
        created.push(begun.elapsed());
        let given = async {
            while let Some(event) = events.next().await {
                let WatchEvent::Modified(service) = event? else { continue };
                let ingress = service.status.and_then(|s| s.load_balancer).and_then(|l| l.ingress);
                if service.metadata.name.as_deref() == Some(&*name) && ingress.is_some_and(|i| !i.is_empty()) {
                    return Ok(());
                }
            }
            bail!("the watch has ended")
        };
        tokio::time::timeout(PATIENCE, given).await.with_context(|| format!("{name} has no address"))??;
        took.push(begun.elapsed());
    }
    Ok((took, created))
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_objects_of_the_documentation_work_and_an_address_comes_at_once() -> Result<()> {
    let _alone = ONE_AT_A_TIME.lock().await;
    let cluster = &setup().await?;
    let controller = controller(cluster, "a", &[]).await?;
    // The nodes are on that network, of which nobody has said where it begins; .0 is likely its own.
    has(cluster, "nginx", Some("192.168.10.1")).await?;

    let (took, created) = timed(&api(cluster).await?).await?;
    figures::print(&format!("POST of a Service to its address: {took}"));
    figures::print(&format!("of that the POST itself: {created}"));
    assert!(took.percentile(99) <= BUDGET, "{took}");

    let note = event(cluster, "nginx", "IPAllocated").await?;
    assert_eq!(note, "Assigned IP [\"192.168.10.1\"]");
    let (reason, message) = condition(cluster, "nginx", "AddressAllocated", "True").await?;
    assert_eq!((reason.as_str(), message.as_str()), ("IPAllocated", "from pool first-pool"));
    let (reason, message) = condition(cluster, "nginx", "Announceable", "False").await?;
    assert!(reason == "NoEndpoints" && message.contains("no endpoint can serve"), "{reason}: {message}");

    cluster.apply(&service("lost", "metallb.io/address-pool: other"))?;
    let (reason, message) = condition(cluster, "lost", "AddressAllocated", "False").await?;
    assert!(reason == "AllocationFailed" && message.contains("unknown pool \"other\""), "{reason}: {message}");
    event(cluster, "lost", "AllocationFailed").await?;
    let described = cluster.kubectl(&["describe", "service", "lost"])?;
    assert!(described.contains("AllocationFailed") && described.contains("unknown pool"), "{described}");
    let described = cluster.kubectl(&["describe", "service", "nginx"])?;
    assert!(described.contains("192.168.10.1") && described.contains("IPAllocated"), "{described}");

    let (counts, _) = wait::until(PATIENCE, "the pool's status", || async {
        let pool = cluster.get(&["ipaddresspool", "-n", "metallb-system", "first-pool"])?;
        ensure!(pool["status"]["assignedIPv4"] == TIMED + 1, "{}", pool["status"]);
        Ok(pool["status"].clone())
    })
    .await?;
    // 256 + 5 without those of three nodes; what is only doubtful can still be given.
    assert_eq!(counts["availableIPv4"], 256 + 5 - 3 - (TIMED + 1), "{counts}");
    let state = cluster.get(&["configurationstate", "-n", NAMESPACE, "controller"])?;
    assert_eq!(state["status"]["result"], "Valid", "{state}");

    let metrics = controller.metrics().await?;
    for line in [
        "metallb_allocator_addresses_total{pool=\"first-pool\"} 277".to_owned(),
        format!("metallb_allocator_addresses_in_use_total{{pool=\"first-pool\"}} {}", TIMED + 1),
        "metallb_allocator_ipv4_addresses_total{pool=\"first-pool\"} 261".to_owned(),
        "metallb_allocator_ipv6_addresses_total{pool=\"first-pool\"} 16".to_owned(),
        format!("metallb_allocator_ipv4_addresses_in_use_total{{pool=\"first-pool\"}} {}", TIMED + 1),
        "metallb_allocator_ipv6_addresses_in_use_total{pool=\"first-pool\"} 0".to_owned(),
        format!("metallb_allocator_services_allocated_total{{pool=\"first-pool\"}} {}", TIMED + 1),
        "metallb_k8s_client_config_loaded_bool 1".to_owned(),
        "metallb_k8s_client_config_stale_bool 0".to_owned(),
        "landfall_lb_services_waiting 1".to_owned(),
    ] {
        assert!(metrics.lines().any(|found| found == line), "{line} is not in\n{metrics}");
    }
    for name in ["metallb_k8s_client_updates_total", "metallb_k8s_client_update_errors_total"] {
        assert!(metrics.contains(&format!("\n{name} ")), "{metrics}");
    }
    assert!(!metrics.contains("metallb_speaker_announced"), "a controller announces nothing");
    Ok(())
}

#[tokio::test]
async fn a_replica_goes_on_where_the_other_was_killed_and_nothing_moves() -> Result<()> {
    let _alone = ONE_AT_A_TIME.lock().await;
    let mut cluster = setup().await?;
    let first = controller(&cluster, "a", &[]).await?;
    has(&cluster, "nginx", Some("192.168.10.1")).await?;
    let second = controller(&cluster, "b", &[]).await?;
    cluster.apply(&(0..20).map(|n| service(&format!("s-{n}"), "")).collect::<String>())?;
    let before = all_have_one(&cluster, 21).await?;

    // The leader is killed, and Services come before anybody has taken over.
    first.signal(Signal::SIGKILL)?;
    let killed = Instant::now();
    cluster.apply(&(20..25).map(|n| service(&format!("s-{n}"), "")).collect::<String>())?;
    let after = all_have_one(&cluster, 26).await?;
    let took = killed.elapsed();
    figures::print(&format!("an address after the leading controller was killed: {:.1} s", took.as_secs_f64()));
    assert!(took <= LEASE, "{took:?}");
    assert!(before.iter().all(|(name, ip)| after.get(name) == Some(ip)), "{before:?} became {after:?}");

    // Everything starts again: not one status is written but that of a new Service.
    let writes = || -> Result<Vec<String>> {
        let log = cluster.audit()?;
        Ok(log.into_iter().filter(|uri| uri.contains("/services/")).collect())
    };
    let (written, _) = wait::until(PATIENCE, "the audit log to have a write of each status", || async {
        let written = writes()?;
        for name in after.keys() {
            ensure!(written.iter().any(|uri| uri.contains(&format!("/services/{name}/status"))), "none of {name}");
        }
        Ok(written.len())
    })
    .await?;
    drop((first, second));
    let mut again = controller(&cluster, "c", &[]).await?;
    cluster.apply(&service("later", ""))?;
    wait::until(LEASE + PATIENCE, "an address for a Service that came later", || async {
        addresses(&cluster)?.get("later").map(drop).context("none")
    })
    .await?;
    let restarted = addresses(&cluster)?;
    assert!(after.iter().all(|(name, ip)| restarted.get(name) == Some(ip)), "{after:?} became {restarted:?}");
    let since = writes()?.split_off(written);
    assert!(since.iter().all(|uri| uri.contains("/services/later/status")), "{since:?}");

    // The API server goes and comes back.
    cluster.kill_api()?;
    wait::until(PATIENCE, "the log to say that the API server is away", || async {
        ensure!(again.log().contains("cannot read from the api server"), "{}", again.log());
        Ok(())
    })
    .await?;
    assert_eq!(client::get(again.admin, "admin", "/readyz").await?.status, 200);
    cluster.start_api().await?;
    cluster.apply(&service("back", ""))?;
    let back = Instant::now();
    wait::until(LEASE + PATIENCE, "an address after the API server was back", || async {
        addresses(&cluster)?.get("back").map(drop).context("none")
    })
    .await?;
    figures::print(&format!("an address after the API server was back: {:.1} s", back.elapsed().as_secs_f64()));
    let now = addresses(&cluster)?;
    assert!(restarted.iter().all(|(name, ip)| now.get(name) == Some(ip)), "{restarted:?} became {now:?}");
    let (log, _) = wait::until(PATIENCE, "the log to say that the API server is back", || async {
        let log = again.log();
        ensure!(log.contains("reading from the api server again"), "{log}");
        Ok(log)
    })
    .await?;
    let lines = |text: &str| log.lines().filter(|line| line.contains(text)).count();
    assert_eq!(lines("cannot read from the api server"), 1, "{log}");
    assert_eq!(lines("reading from the api server again"), 1, "{log}");
    assert_eq!(lines("kube_client"), 0, "{log}");

    // Asked to end, it lets go of the Lease, and the next one needs not wait for it.
    again.signal(Signal::SIGTERM)?;
    again.ended().await?;
    let _next = controller(&cluster, "d", &[]).await?;
    cluster.apply(&service("next", ""))?;
    let begun = Instant::now();
    wait::until(PATIENCE, "an address by the next leader", || async {
        addresses(&cluster)?.get("next").map(drop).context("none")
    })
    .await?;
    figures::print(&format!("an address after the leading controller ended: {:.1} s", begun.elapsed().as_secs_f64()));
    Ok(())
}

/// Waits until `count` Services have an address; none is given twice.
async fn all_have_one(cluster: &Cluster, count: usize) -> Result<BTreeMap<String, String>> {
    let (all, _) = wait::until(LEASE + PATIENCE, &format!("{count} Services to have an address"), || async {
        let all = addresses(cluster)?;
        ensure!(all.len() == count, "{} have one", all.len());
        Ok(all)
    })
    .await?;
    let different: BTreeSet<&String> = all.values().collect();
    ensure!(different.len() == count, "an address was given twice: {all:?}");
    Ok(all)
}

#[tokio::test]
async fn what_a_metallb_user_has_is_kept_and_pools_can_change() -> Result<()> {
    let _alone = ONE_AT_A_TIME.lock().await;
    let cluster = &bare().await?;
    // Services with addresses that somebody else gave, and nothing yet that says where those came from.
    let class = "---\napiVersion: v1\nkind: Service\nmetadata: {name: foreign}\n\
        spec: {type: LoadBalancer, loadBalancerClass: example.com/other, ports: [{port: 80}]}\n";
    cluster.apply(&(service("nginx", "") + &service("old", "metallb.universe.tf/address-pool: first-pool") + class))?;
    for (name, ip) in [("nginx", "192.168.10.240"), ("old", "192.168.10.77"), ("foreign", "192.168.10.2")] {
        let patch = json!({"status": {"loadBalancer": {"ingress": [{"ip": ip}]}}}).to_string();
        cluster.kubectl(&["patch", "service", name, "--subresource=status", "--type=merge", "-p", &patch])?;
    }
    let kept = addresses(cluster)?;
    assert_eq!(kept.len(), 3);

    // Without the definitions nobody knows of any pool, so nothing is taken away.
    let early = Program::start(cluster, "controller", "a", &[])?;
    wait::until(PATIENCE, "the log to say that there are no definitions", || async {
        ensure!(early.log().contains("no address is given or taken away"), "{}", early.log());
        Ok(())
    })
    .await?;
    assert_eq!(client::get(early.admin, "admin", "/readyz").await?.status, 503);
    definitions(cluster)?;
    cluster.apply(METALLB)?;
    let _controller = early.ready().await?;
    cluster.apply(&service("new", ""))?;
    has(cluster, "new", Some("192.168.10.1")).await?;
    let now = addresses(cluster)?;
    assert!(kept.iter().all(|(name, ip)| now.get(name) == Some(ip)), "{kept:?} became {now:?}");
    condition(cluster, "old", "AddressAllocated", "True").await?;
    event(cluster, "old", "deprecatedAnnotation").await?;
    let foreign = cluster.get(&["service", "foreign"])?;
    assert!(foreign["status"]["conditions"].is_null(), "another class is not ours: {}", foreign["status"]);

    // The pool shrinks: who stood outside moves, and the others stay. The Service of another class has .2.
    cluster.apply(&pool("192.168.10.0/25"))?;
    has(cluster, "nginx", Some("192.168.10.3")).await?;
    let note = event(cluster, "nginx", "ClearAssignment").await?;
    assert!(note.contains("not allowed by config"), "{note}");
    has(cluster, "old", Some("192.168.10.77")).await?;

    // It goes: its Services wait and say why. It comes back, larger: they have addresses again.
    cluster.kubectl(&["delete", "ipaddresspool", "-n", "metallb-system", "first-pool"])?;
    has(cluster, "old", None).await?;
    let (_, message) = condition(cluster, "new", "AddressAllocated", "False").await?;
    assert!(message.contains("there is no pool"), "{message}");
    let object = cluster.get(&["service", "new"])?;
    assert!(object["metadata"]["annotations"]["metallb.io/ip-allocated-from-pool"].is_null(), "{object}");
    cluster.apply(&pool("192.168.10.0/24"))?;
    all_have_one(cluster, 4).await?;

    // A Service that is made anew under its old name is another Service.
    for round in 0..5 {
        cluster.kubectl(&["delete", "service", "new", "--wait=false"])?;
        cluster.apply(&service("new", ""))?;
        wait::until(PATIENCE, &format!("an address for the Service made anew, round {round}"), || async {
            addresses(cluster)?.get("new").map(drop).context("none")
        })
        .await?;
    }

    // What is written names the Service that it is meant for; the API server refuses it for another.
    let patch = json!({"metadata": {"uid": "00000000-0000-0000-0000-000000000000"}, "status": {"conditions": []}});
    let wrong = ["patch", "service", "new", "--subresource=status", "--type=merge", "-p", &patch.to_string()];
    let refused = cluster.kubectl(&wrong).err().context("a patch for another Service was taken")?.to_string();
    assert!(refused.contains("metadata.uid"), "{refused}");

    // It becomes another type, and everything of ours goes from it.
    cluster.kubectl(&["patch", "service", "new", "--type=merge", "-p", r#"{"spec":{"type":"ClusterIP"}}"#])?;
    has(cluster, "new", None).await?;
    wait::until(PATIENCE, "the annotation and the conditions to go", || async {
        let object = cluster.get(&["service", "new"])?;
        let annotation = &object["metadata"]["annotations"]["metallb.io/ip-allocated-from-pool"];
        let conditions = object["status"]["conditions"].as_array().map_or(0, Vec::len);
        ensure!(annotation.is_null() && conditions == 0, "{object}");
        Ok(())
    })
    .await?;
    Ok(())
}

#[tokio::test]
async fn a_controller_of_a_class_serves_that_class_only() -> Result<()> {
    let _alone = ONE_AT_A_TIME.lock().await;
    let cluster = &setup().await?;
    let _controller = controller(cluster, "a", &["--lb-class", "example.com/lan"]).await?;
    cluster.apply(
        "apiVersion: v1\nkind: Service\nmetadata: {name: lan}\n\
         spec: {type: LoadBalancer, loadBalancerClass: example.com/lan, ports: [{port: 80}]}\n",
    )?;
    has(cluster, "lan", Some("192.168.10.1")).await?;
    has(cluster, "nginx", None).await?;
    Ok(())
}

#[tokio::test]
async fn a_speaker_says_what_it_is_and_its_node_can_announce() -> Result<()> {
    let _alone = ONE_AT_A_TIME.lock().await;
    let cluster = &setup().await?;
    let _controller = controller(cluster, "a", &[]).await?;
    has(cluster, "nginx", Some("192.168.10.1")).await?;
    cluster.apply(SLICE)?;
    let (reason, message) = condition(cluster, "nginx", "Announceable", "False").await?;
    assert!(reason == "NoEndpoints" || message.contains("no speaker runs"), "{reason}: {message}");

    let uid = cluster.get(&["namespace", NAMESPACE])?["metadata"]["uid"].as_str().unwrap_or_default().to_owned();
    let heartbeat = format!("127.0.0.1:{}", tools::free_port()?);
    // On no interface at all, so that nothing leaves this machine.
    let arguments = ["--node-name", "n2", "--heartbeat", &heartbeat, "--interface", "none", "--pod-uid", &uid];
    let speaker = Program::start(cluster, "speaker", "speaker-x", &arguments)?.ready().await?;
    condition(cluster, "nginx", "Announceable", "True").await?;
    let state = cluster.get(&["configurationstate", "-n", NAMESPACE, "speaker-n2"])?;
    assert_eq!(state["status"]["result"], "Valid", "{state}");
    assert_eq!(state["status"]["conditions"][0]["type"], "configReconcilerValid", "{state}");
    assert_eq!(state["metadata"]["ownerReferences"][0]["uid"], uid.as_str(), "{state}");
    let subnets = &state["metadata"]["annotations"]["landfall.dev/subnets"];
    assert!(subnets.as_str().is_some_and(|s| s.is_empty() || s.contains('/')), "{state}");

    // Removed by mistake, it is made again.
    cluster.kubectl(&["delete", "configurationstate", "-n", NAMESPACE, "speaker-n2"])?;
    wait::until(PATIENCE, "the state to be made again", || async {
        cluster.get(&["configurationstate", "-n", NAMESPACE, "speaker-n2"]).map(drop)
    })
    .await?;

    let metrics = speaker.metrics().await?;
    for name in
        ["metallb_k8s_client_config_loaded_bool 1", "metallb_k8s_client_config_stale_bool 0", "landfall_lb_peers 0"]
    {
        assert!(metrics.contains(name), "{name} is not in\n{metrics}");
    }
    assert!(!metrics.contains("metallb_allocator"), "a speaker allocates nothing");

    // Pods of speakers count as well; one that isn't ours to see doesn't.
    let pod = |name: &str, node: &str, component: &str| {
        format!(
            "---\napiVersion: v1\nkind: Pod\nmetadata: {{name: {name}, namespace: {NAMESPACE}, \
             labels: {{app.kubernetes.io/component: {component}}}}}\n\
             spec: {{nodeName: {node}, containers: [{{name: x, image: x}}]}}\n"
        )
    };
    cluster.apply(&(pod("one", "n1", "speaker") + &pod("three", "n3", "controller")))?;
    cluster.kubectl(&["label", "node", "n2", "node.kubernetes.io/exclude-from-external-load-balancers="])?;
    cluster.kubectl(&["label", "node", "n1", "node.kubernetes.io/exclude-from-external-load-balancers="])?;
    let (_, message) = condition(cluster, "nginx", "Announceable", "False").await?;
    wait::until(PATIENCE, "each node's reason", || async {
        let object = cluster.get(&["service", "nginx"])?.to_string();
        ensure!(object.contains("node n3: no speaker runs on it"), "{message} {object}");
        Ok(())
    })
    .await?;
    Ok(())
}

/// The interface that is announced on in a network of the test's own, and what it is connected with.
const LINKS: &str = "ip link set lo up && ip link add lan0 type veth peer name lan1 && ip link set lan0 up && \
    ip link set lan1 up && ip addr add 192.168.10.12/24 dev lan0 && ip route add default via 192.168.10.1";

/// Runs this test again in a network namespace of its own, where frames reach nobody. Says whether this is that run.
fn alone_in_a_network(test: &str) -> Result<bool> {
    const MARK: &str = "E2E_NETWORK_OF_ITS_OWN";
    if std::env::var_os(MARK).is_some() {
        return Ok(true);
    }
    let script = format!("{LINKS} && exec \"$0\" --exact --nocapture {test}");
    let mut again = Command::new("unshare");
    again.args(["--user", "--map-root-user", "--net", "sh", "-c", &script]).arg(std::env::current_exe()?);
    print!("{}", tools::run(again.env(MARK, "1"))?);
    Ok(false)
}

#[tokio::test]
async fn a_speaker_tells_what_it_announces() -> Result<()> {
    let _alone = ONE_AT_A_TIME.lock().await;
    if !alone_in_a_network("a_speaker_tells_what_it_announces")? {
        return Ok(());
    }
    let cluster = &setup().await?;
    let _controller = controller(cluster, "a", &[]).await?;
    cluster.apply(SLICE)?;
    let uid = cluster.get(&["namespace", NAMESPACE])?["metadata"]["uid"].as_str().unwrap_or_default().to_owned();
    let arguments = ["--node-name", "n2", "--interface", "lan0", "--pod-uid", &uid];
    let mut speaker = Program::start(cluster, "speaker", "speaker-x", &arguments)?.ready().await?;

    let statuses = || -> Result<Vec<Value>> {
        let list = cluster.get(&["servicel2statuses", "-n", NAMESPACE])?;
        Ok(list["items"].as_array().cloned().unwrap_or_default())
    };
    let (status, _) = wait::until(PATIENCE, "what is announced", || async {
        let status = statuses()?.pop().context("nothing")?;
        ensure!(status["status"]["node"] == "n2", "{status}");
        Ok(status)
    })
    .await?;
    assert_eq!(status["status"]["serviceName"], "nginx", "{status}");
    assert_eq!(status["status"]["serviceNamespace"], "default", "{status}");
    assert_eq!(status["status"]["interfaces"], json!([{"name": "lan0"}]), "{status}");
    assert_eq!(status["metadata"]["labels"]["metallb.io/service-name"], "nginx", "{status}");
    assert_eq!(status["metadata"]["ownerReferences"][0]["uid"], uid.as_str(), "{status}");
    let note = event(cluster, "nginx", "nodeAssigned").await?;
    assert_eq!(note, "announcing from node \"n2\" with protocol \"layer2\"");
    let state = cluster.get(&["configurationstate", "-n", NAMESPACE, "speaker-n2"])?;
    assert_eq!(state["metadata"]["annotations"]["landfall.dev/subnets"], "192.168.10.12/24", "{state}");

    // The network's own address isn't given to a Service that comes now; the node's isn't either.
    cluster.apply(&pool("192.168.10.0/30, 192.168.10.12-192.168.10.13"))?;
    cluster.apply(&(0..4).map(|n| service(&format!("s-{n}"), "")).collect::<String>())?;
    for name in ["s-0", "s-1"] {
        wait::until(PATIENCE, &format!("an address of {name}"), || async {
            addresses(cluster)?.get(name).map(drop).context("none")
        })
        .await?;
    }
    let (reason, message) = condition(cluster, "s-3", "AddressAllocated", "False").await?;
    assert!(reason == "AllocationFailed" && message.contains("pool first-pool"), "{reason}: {message}");
    let given: BTreeSet<String> = addresses(cluster)?.into_values().collect();
    let expected = ["192.168.10.1", "192.168.10.2", "192.168.10.3"].map(str::to_owned);
    assert_eq!(given, BTreeSet::from(expected), "192.168.10.12 and .13 are nodes, and .0 is the network's");

    let metrics = speaker.metrics().await?;
    let announced =
        "metallb_speaker_announced{service=\"default/nginx\",protocol=\"layer2\",node=\"n2\",ip=\"192.168.10.1\"} 1";
    assert!(metrics.lines().any(|line| line == announced), "{metrics}");
    assert!(metrics.contains("metallb_layer2_gratuitous_sent{ip=\"192.168.10.1\"}"), "{metrics}");

    // Asked to end, it takes back what it told.
    speaker.signal(Signal::SIGTERM)?;
    speaker.ended().await?;
    assert_eq!(statuses()?.len(), 0);
    Ok(())
}

#[tokio::test]
async fn many_services_at_once_have_their_addresses_soon() -> Result<()> {
    let _alone = ONE_AT_A_TIME.lock().await;
    let cluster = &setup().await?;
    cluster.apply(&pool("10.20.0.0/16"))?;
    let controller = controller(cluster, "a", &[]).await?;
    has(cluster, "nginx", Some("10.20.0.0")).await?;
    let begun = Instant::now();
    cluster.create(&(0..MANY).map(|n| service(&format!("s-{n}"), "")).collect::<String>())?;
    let created = begun.elapsed();
    all_have_one(cluster, MANY + 1).await?;
    let left = begun.elapsed().saturating_sub(created);
    let cpu = cpu_time(controller.child.id())?;
    figures::print(&format!(
        "{MANY} Services made in {:.1} s: the last has its address {:.2} s later; {:.2} s of CPU time; {}",
        created.as_secs_f64(),
        left.as_secs_f64(),
        cpu.as_secs_f64(),
        resident(controller.child.id())?
    ));
    assert!(left < Duration::from_secs(10), "{left:?}");
    Ok(())
}

/// User and system time of a process.
fn cpu_time(pid: u32) -> Result<Duration> {
    let stat = std::fs::read_to_string(Path::new("/proc").join(pid.to_string()).join("stat"))?;
    let fields: Vec<&str> = stat.rsplit(')').next().unwrap_or_default().split_whitespace().collect();
    // The 14th and 15th fields of all, in ticks of a hundredth of a second.
    let ticks: u64 = fields.iter().skip(11).take(2).filter_map(|f| f.parse::<u64>().ok()).sum();
    Ok(Duration::from_millis(ticks * 10))
}
