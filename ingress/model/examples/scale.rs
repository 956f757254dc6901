//! Prints what 5,000 Ingresses with their Services and slices cost to compile, and what one change costs then.
//!
//! `cargo run --release -p landfall-ingress-model --example scale [COUNT]`

#![allow(clippy::unwrap_used, clippy::panic, reason = "a measurement fails by panicking")]

use std::sync::Arc;
use std::time::{Duration, Instant};

use k8s_openapi::api::core::v1::Service;
use k8s_openapi::api::discovery::v1::EndpointSlice;
use k8s_openapi::api::networking::v1::Ingress;
use landfall_ingress_model::acme::ask::Asking;
use landfall_ingress_model::compiler::{Built, Compiler};
use landfall_ingress_model::host::HostName;
use landfall_ingress_model::input::Input;
use landfall_ingress_model::path::CanonicalPath;
use landfall_ingress_model::settings::{ExternalNames, HostOwnership, Origin, Publish, Settings};
use landfall_model::Change;
use rustls_pki_types::UnixTime;
use serde::de::DeserializeOwned;
use serde_json::{Value, json};

fn read<K: DeserializeOwned>(object: &Value) -> Arc<K> {
    Arc::new(K::deserialize(object).expect("the objects made here are whole"))
}

fn ingress(index: usize, host: &str, path: &str) -> Arc<Ingress> {
    let backend = json!({"service": {"name": format!("service-{index}"), "port": {"number": 80}}});
    read(&json!({
        "metadata": {"name": format!("ingress-{index}"), "namespace": format!("team-{}", index % 50),
                     "creationTimestamp": "2026-01-01T00:00:00Z", "uid": "0f0bc0a1-0000-0000-0000-000000000000"},
        "spec": {"ingressClassName": "landfall", "rules": [{"host": host, "http": {"paths": [
            {"path": path, "pathType": "Prefix", "backend": backend}]}}]},
        "status": {"loadBalancer": {"ingress": [{"ip": "192.0.2.1"}]}},
    }))
}

fn service(index: usize) -> Arc<Service> {
    read(&json!({
        "metadata": {"name": format!("service-{index}"), "namespace": format!("team-{}", index % 50)},
        "spec": {"clusterIP": "10.96.0.1", "selector": {"app": format!("app-{index}")}, "ports": [{"port": 80}]},
    }))
}

fn slice(index: usize, last: u8) -> Arc<EndpointSlice> {
    let address = |byte: u8| json!({"addresses": [format!("10.{}.{}.{byte}", index / 256, index % 256)]});
    read(&json!({
        "metadata": {"name": format!("service-{index}-abcde"), "namespace": format!("team-{}", index % 50),
                     "labels": {"kubernetes.io/service-name": format!("service-{index}")}},
        "addressType": "IPv4", "endpoints": [address(1), address(last)], "ports": [{"name": "", "port": 8080}],
    }))
}

fn settings() -> Settings {
    Settings {
        controller_classes: vec!["landfall.dev/ingress".into()],
        ingress_classes: vec!["landfall".into()],
        watch_without_class: false,
        default_certificate: None,
        default_backend: None,
        config_map: None,
        tcp_services: None,
        udp_services: None,
        reserved_ports: [80, 443, 10254].into(),
        disable_catch_all: false,
        ssl_passthrough: false,
        origin: Origin::Cluster,
        secret_namespaces: Vec::new(),
        host_ownership: HostOwnership::None,
        external_names: ExternalNames::Outside,
        cluster_domain: "cluster.local".into(),
        asking: Asking::Off,
        publish: Publish::Addresses(vec!["192.0.2.1".into()]),
        crypto: Arc::new(rustls::crypto::aws_lc_rs::default_provider()),
    }
}

fn build(compiler: &mut Compiler) -> Built {
    let built = compiler.build(UnixTime::since_unix_epoch(Duration::from_hours(494_520)));
    for (backend, state) in &built.backends {
        backend.publish(state.clone());
    }
    built
}

/// Resident memory in MiB.
fn resident() -> f64 {
    let text = std::fs::read_to_string("/proc/self/status").unwrap_or_default();
    let line = text.lines().find(|line| line.starts_with("VmRSS")).unwrap_or_default();
    line.split_whitespace().nth(1).and_then(|kib| kib.parse::<f64>().ok()).unwrap_or_default() / 1024.0
}

fn measure(name: &str, compiler: &mut Compiler, mut change: impl FnMut(usize) -> Input) {
    let mut times: Vec<Duration> = (0..200)
        .map(|round| {
            let input = change(round);
            let start = Instant::now();
            compiler.apply([input]);
            drop(build(compiler));
            start.elapsed()
        })
        .collect();
    times.sort_unstable();
    println!("{name}: p50 {:?}, p99 {:?}, max {:?}", times[100], times[197], times[199]);
}

fn run(name: &str, count: usize, host: &dyn Fn(usize) -> String) {
    println!("{name}, {count} Ingresses with Service and slice");
    let path = |index: usize| format!("/app-{index}");
    let before = resident();
    let mut compiler = Compiler::new(settings());
    let mut reading = Duration::ZERO;
    let mut take = |compiler: &mut Compiler, input: Input| {
        let start = Instant::now();
        compiler.apply([input]);
        reading += start.elapsed();
    };
    // One by one, as a watch brings them, so that what is resident afterwards is what the compiler holds.
    for index in 0..count {
        take(&mut compiler, Input::Service(Change::Apply(service(index))));
        take(&mut compiler, Input::EndpointSlice(Change::Apply(slice(index, 2))));
        take(&mut compiler, Input::Ingress(Change::Apply(ingress(index, &host(index), &path(index)))));
    }
    println!("  objects held: {:.1} MiB", resident() - before);
    let start = Instant::now();
    let built = build(&mut compiler);
    let problems = built.problems.len();
    println!("  full build: {:?}, and {reading:?} to read the objects; {problems} problems", start.elapsed());
    println!("  objects, table and backends: {:.1} MiB", resident() - before);
    drop(built);
    measure("  path of an Ingress changed", &mut compiler, |round| {
        Input::Ingress(Change::Apply(ingress(round, &host(round), &format!("/changed-{round}"))))
    });
    measure("  host of an Ingress changed", &mut compiler, |round| {
        Input::Ingress(Change::Apply(ingress(round, &format!("changed-{round}.example"), &path(round))))
    });
    measure("  endpoints changed", &mut compiler, |round| Input::EndpointSlice(Change::Apply(slice(round, 3))));
    let table = compiler.table().clone();
    let host = HostName::from_authority(&host(count - 1)).expect("a host name");
    let path = CanonicalPath::parse(&format!("{}/below/it", path(count - 1))).expect("a path");
    let start = Instant::now();
    let found = (0..1_000_000).filter(|_| std::hint::black_box(table.find(Some(&host), &path)).is_some()).count();
    println!("  lookup: {:?} ({found} found)", start.elapsed() / 1_000_000);
}

fn main() {
    let count = std::env::args().nth(1).and_then(|text| text.parse().ok()).unwrap_or(5_000);
    run("a host each", count, &|index| format!("host-{index}.example"));
    run("one host for all", count, &|_| "shop.example".to_owned());
}
