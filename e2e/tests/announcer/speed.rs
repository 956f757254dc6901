//! How soon a Service has its address.

use std::path::Path;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail, ensure};
use futures::StreamExt;
use k8s_openapi::api::core::v1::Service;
use kube::Api;
use kube::api::{ListParams, PostParams, WatchEvent, WatchParams};
use kube::config::{Config, KubeConfigOptions, Kubeconfig};
use landfall_e2e::figures::{self, Durations, resident};
use landfall_e2e::kube::Cluster;
use landfall_e2e::wait;
use serde_json::json;

use crate::program::controller;
use crate::scene::{NAMESPACE, ONE_AT_A_TIME, PATIENCE, all_have_one, condition, event, has, pool, service, setup};

/// The budget for an address once a Service is there.
const BUDGET: Duration = Duration::from_millis(100);
/// On any machine: less than the least time after which anything is asked again or looked at again by itself.
const ALWAYS: Duration = Duration::from_secs(5);
/// Services that are timed one by one.
const TIMED: usize = 100;
/// Services that come at once.
const MANY: usize = 1_000;

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
    figures::within(took.percentile(99), BUDGET, ALWAYS)?;

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
