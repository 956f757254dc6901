//! The rules of allocation as a table, and as properties over random histories.

#![allow(clippy::unwrap_used, clippy::panic, reason = "a test fails by panicking")]

use std::collections::{BTreeMap, BTreeSet};
use std::net::IpAddr;
use std::sync::Arc;
use std::time::Instant;

use k8s_openapi::api::core::v1::Service;
use landfall_lb_model::crd::IPAddressPool;
use landfall_lb_model::plan::{Inputs, Plan, TakenBy, plan};
use landfall_lb_model::pool::{Namespaces, Pool, read_pools};
use landfall_lb_model::selector::labels_of;
use landfall_lb_model::service::{Reading, ServiceFacts, read_service};
use landfall_model::{ObjectKey, Problem};
use proptest::prelude::*;
use serde::Deserialize;
use serde_json::{Value, json};

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Case {
    name: String,
    #[serde(default)]
    namespaces: BTreeMap<String, BTreeMap<String, String>>,
    #[serde(default)]
    pools: Vec<Value>,
    #[serde(default)]
    services: Vec<Value>,
    #[serde(default)]
    held: BTreeMap<String, Vec<IpAddr>>,
    /// What Services asked for when they agreed to share.
    #[serde(default)]
    agreed: Vec<Value>,
    #[serde(default)]
    taken: BTreeMap<IpAddr, String>,
    #[serde(default)]
    doubtful: BTreeSet<IpAddr>,
    /// Addresses that were given and that no node has announced since.
    #[serde(default)]
    unannounced: BTreeMap<String, Vec<IpAddr>>,
    /// Parts of what is worth knowing of a Service that has what it needs.
    #[serde(default)]
    remarks: BTreeMap<String, String>,
    expect: BTreeMap<String, String>,
    #[serde(default)]
    problems: Vec<String>,
}

fn pool(short: &Value) -> Arc<IPAddressPool> {
    let mut spec = short.clone();
    let fields = spec.as_object_mut().unwrap();
    let name = fields.remove("name").unwrap();
    let created = fields.remove("created").unwrap_or(json!("2020-01-01T00:00:00Z"));
    let metadata = json!({"name": name, "namespace": "default", "creationTimestamp": created});
    let object =
        json!({"apiVersion": "metallb.io/v1beta1", "kind": "IPAddressPool", "metadata": metadata, "spec": spec});
    Arc::new(serde_json::from_value(object).unwrap())
}

fn service(short: &Value, index: usize) -> Service {
    let text = |name: &str| short.get(name).and_then(Value::as_str);
    let mut annotations: BTreeMap<String, String> =
        short.get("annotations").map(|a| serde_json::from_value(a.clone()).unwrap()).unwrap_or_default();
    for (field, annotation) in [
        ("pool", "metallb.io/address-pool"),
        ("ips", "metallb.io/loadBalancerIPs"),
        ("share", "metallb.io/allow-shared-ip"),
    ] {
        annotations.extend(text(field).map(|value| (annotation.to_owned(), value.to_owned())));
    }
    let ports: Vec<Value> = short.get("ports").and_then(Value::as_array).cloned().unwrap_or_else(|| vec![json!(80)]);
    let ports: Vec<Value> = ports
        .iter()
        .map(|port| match port.as_str().and_then(|p| p.split_once('/')) {
            Some((number, protocol)) => json!({"port": number.parse::<u16>().unwrap(), "protocol": protocol}),
            None => json!({"port": port}),
        })
        .collect();
    let status: Vec<Value> =
        short.get("status").and_then(Value::as_array).into_iter().flatten().map(|ip| json!({"ip": ip})).collect();
    let object = json!({
        "apiVersion": "v1", "kind": "Service",
        "metadata": {
            "name": short["name"], "namespace": text("namespace").unwrap_or("default"), "annotations": annotations,
            "creationTimestamp": format!("2020-01-01T00:00:{index:02}Z"), "labels": short.get("labels"),
        },
        "spec": {
            "type": "LoadBalancer", "ports": ports, "loadBalancerIP": text("loadBalancerIP"),
            "loadBalancerClass": text("class"), "externalTrafficPolicy": text("policy"),
            "selector": short.get("selector"), "clusterIPs": short.get("clusterIPs"),
            "clusterIP": short.get("clusterIPs").map(|c| c[0].clone()), "ipFamilyPolicy": text("families"),
        },
        "status": {"loadBalancer": {"ingress": status}},
    });
    serde_json::from_value(object).unwrap()
}

fn check(case: &Case) {
    let namespaces: Namespaces =
        case.namespaces.iter().map(|(name, labels)| (Arc::from(name.as_str()), labels_of(Some(labels)))).collect();
    let objects: Vec<_> = case.pools.iter().map(pool).collect();
    let (pools, mut problems) = read_pools(&objects, &namespaces);
    let mut services = BTreeMap::new();
    for (index, short) in case.services.iter().enumerate() {
        if let Reading::Ours(facts, found) = read_service(&service(short, index), None) {
            problems.extend(found);
            services.insert(facts.key.clone(), Arc::new(*facts));
        }
    }
    let held = case.held.iter().map(|(name, ips)| (ObjectKey::new("default", name.as_str()), ips.clone())).collect();
    let by = |text: &str| match text {
        "network" => TakenBy::Network,
        mac if mac.contains(':') => TakenBy::ForeignHost(mac.parse().unwrap()),
        node => TakenBy::Node(node.into()),
    };
    let taken = case.taken.iter().map(|(ip, text)| (*ip, by(text))).collect();
    let agreed = case.agreed.iter().enumerate().filter_map(|(index, short)| {
        let Reading::Ours(facts, _) = read_service(&service(short, index), None) else { return None };
        Some((facts.key.clone(), Arc::new(*facts)))
    });
    let agreed = agreed.collect();
    let unannounced = case
        .unannounced
        .iter()
        .flat_map(|(name, ips)| ips.iter().map(|ip| (ObjectKey::new("default", name.as_str()), *ip)));
    let inputs = Inputs {
        pools: &pools,
        namespaces: &namespaces,
        services: &services,
        held: &held,
        agreed: &agreed,
        taken: &taken,
        unannounced: &unannounced.collect(),
        doubtful: &case.doubtful,
        look_ahead: 2,
    };
    let plan = plan(&inputs);
    problems.extend(plan.problems.iter().cloned());
    let found: BTreeMap<String, String> =
        services.keys().map(|key| (key.name().to_owned(), outcome(&plan, key))).collect();
    for (name, expected) in &case.expect {
        let found = &found[name];
        let same = if let Some(part) = expected.strip_prefix("waiting: ") {
            found.starts_with("waiting: ") && found.contains(part)
        } else {
            found == expected
        };
        assert!(same, "{}: {name}: expected {expected:?}, found {found:?}", case.name);
    }
    assert_eq!(found.len(), case.expect.len(), "{}: {found:?}", case.name);
    for part in &case.problems {
        let known: Vec<String> = problems.iter().map(Problem::message).collect();
        assert!(known.iter().any(|p| p.contains(part.as_str())), "{}: no problem has {part:?}: {known:#?}", case.name);
    }
    for problem in &problems {
        assert!(!problem.remedy.is_empty(), "{}: {problem} says what to do", case.name);
    }
    for (name, part) in &case.remarks {
        let remark = plan.remarks.get(&ObjectKey::new("default", name.as_str())).map_or("", String::as_str);
        assert!(remark.contains(part.as_str()), "{}: {name}: {remark:?}", case.name);
    }
    check_invariants(&plan, &services, &pools);
}

fn outcome(plan: &Plan, key: &ObjectKey) -> String {
    match (plan.grant(key), plan.waiting.get(key)) {
        (Some(grant), None) => {
            let ips: Vec<String> = grant.ips.iter().map(IpAddr::to_string).collect();
            format!("{} from {}", ips.join(","), grant.pool)
        }
        (None, Some(problem)) => format!("waiting: {problem}"),
        both => panic!("a service either has an address or waits: {both:?}"),
    }
}

/// No address twice, unless shared by the rules, and never one outside a pool.
fn check_invariants(plan: &Plan, services: &BTreeMap<ObjectKey, Arc<ServiceFacts>>, pools: &[Pool]) {
    let mut users: BTreeMap<IpAddr, Vec<&ServiceFacts>> = BTreeMap::new();
    for (key, grant) in plan.grants() {
        for ip in &grant.ips {
            assert!(pools.iter().any(|p| p.name() == &*grant.pool && p.contains(*ip)), "{ip} is not in {}", grant.pool);
            users.entry(*ip).or_default().push(&services[key]);
        }
    }
    for (ip, users) in users {
        let mut ports = BTreeSet::new();
        for user in &users {
            assert!(users.len() == 1 || user.sharing.is_some(), "{ip} has two users and {} doesn't share", user.key);
            assert_eq!((&user.sharing, &user.backend), (&users[0].sharing, &users[0].backend), "{ip}");
            assert!(user.ports.iter().all(|p| ports.insert(p)), "{ip} has a port twice");
        }
    }
}

#[test]
fn the_cases_hold() {
    let cases: Vec<Case> = serde_saphyr::from_str(include_str!("cases/plan.yaml")).unwrap();
    for case in &cases {
        check(case);
    }
    assert!(cases.len() > 40);
}

#[derive(Clone, Debug)]
enum Step {
    Add { name: u8, share: Option<u8>, port: u16, wanted: Option<u8>, pool: Option<u8> },
    Delete(u8),
    Pools(Vec<(u8, u8)>),
    Take(u8),
}

fn step() -> impl Strategy<Value = Step> {
    let add = (
        0u8..30,
        proptest::option::of(0u8..2),
        80u16..83,
        proptest::option::weighted(0.2, 0u8..40),
        proptest::option::weighted(0.2, 0u8..3),
    )
        .prop_map(|(name, share, port, wanted, pool)| Step::Add { name, share, port, wanted, pool });
    prop_oneof![
        6 => add,
        2 => (0u8..30).prop_map(Step::Delete),
        1 => proptest::collection::vec((0u8..40, 0u8..8), 1..3).prop_map(Step::Pools),
        1 => (0u8..40).prop_map(Step::Take),
    ]
}

proptest! {
    #[test]
    fn over_any_history_no_address_is_given_twice_and_a_restart_changes_nothing(
        steps in proptest::collection::vec(step(), 1..60)
    ) {
        let namespaces = Namespaces::new();
        let (mut pools, _) = read_pools(&[pool(&json!({"name": "p0", "addresses": ["10.0.0.8-10.0.0.30"]}))], &namespaces);
        let mut services = BTreeMap::new();
        let mut held = BTreeMap::new();
        let mut taken = BTreeMap::new();
        let mut agreed = BTreeMap::new();
        let doubtful = BTreeSet::from([IpAddr::from([10, 0, 0, 8]), IpAddr::from([10, 0, 0, 15])]);
        for (index, step) in steps.into_iter().enumerate() {
            match step {
                Step::Add { name, share, port, wanted, pool } => {
                    let short = json!({
                        "name": format!("s{name}"), "share": share.map(|s| s.to_string()), "ports": [port],
                        "ips": wanted.map(|w| format!("10.0.0.{w}")), "pool": pool.map(|p| format!("p{p}")),
                    });
                    let Reading::Ours(facts, _) = read_service(&service(&short, index % 60), None) else { unreachable!() };
                    services.insert(facts.key.clone(), Arc::new(*facts));
                }
                Step::Delete(name) => { services.remove(&ObjectKey::new("default", format!("s{name}"))); }
                Step::Pools(list) => {
                    let objects: Vec<_> = list.iter().enumerate().map(|(i, (first, size))| pool(&json!({
                        "name": format!("p{i}"), "addresses": [format!("10.0.0.{first}-10.0.0.{}", first + size)]
                    }))).collect();
                    pools = read_pools(&objects, &namespaces).0;
                }
                Step::Take(ip) => { taken.insert(IpAddr::from([10, 0, 0, ip]), TakenBy::Network); }
            }
            let inputs = Inputs { pools: &pools, namespaces: &namespaces, services: &services, held: &held, agreed: &agreed, taken: &taken, unannounced: &BTreeSet::new(), doubtful: &doubtful, look_ahead: 0 };
            let first = plan(&inputs);
            check_invariants(&first, &services, &pools);
            let next = first.held();
            let now_agreed = services.clone();
            let again = plan(&Inputs { held: &next, agreed: &now_agreed, ..inputs });
            held = next;
            agreed = now_agreed;
            prop_assert!(again.assign.is_empty() && again.release.is_empty(), "a restart changed {:?}", again.assign);
            prop_assert_eq!(&again.keep.into_iter().collect::<Vec<_>>(), &first.grants().map(|(k, g)| (k.clone(), g.clone())).collect::<BTreeMap<_, _>>().into_iter().collect::<Vec<_>>());
        }
    }
}

/// Allocates `count` Services from a /16 at once and returns the seconds it took.
fn allocate(count: usize) -> f64 {
    let namespaces = Namespaces::new();
    let (pools, _) =
        read_pools(&[pool(&json!({"name": "a", "addresses": ["10.0.0.0/16"], "avoidBuggyIPs": true}))], &namespaces);
    let services: BTreeMap<_, _> = (0..count)
        .map(|i| {
            let Reading::Ours(facts, _) = read_service(&service(&json!({"name": format!("s{i}")}), 0), None) else {
                unreachable!()
            };
            (facts.key.clone(), Arc::new(*facts))
        })
        .collect();
    let (held, taken, agreed, doubtful) = (BTreeMap::new(), BTreeMap::new(), BTreeMap::new(), BTreeSet::new());
    let inputs = Inputs {
        pools: &pools,
        namespaces: &namespaces,
        services: &services,
        held: &held,
        agreed: &agreed,
        taken: &taken,
        unannounced: &BTreeSet::new(),
        doubtful: &doubtful,
        look_ahead: 4,
    };
    let start = Instant::now();
    let made = plan(&inputs);
    let seconds = start.elapsed().as_secs_f64();
    assert_eq!(made.assign.len(), count);
    let held = made.held();
    let start = Instant::now();
    let kept = plan(&Inputs { held: &held, ..inputs });
    assert_eq!(kept.keep.len(), count);
    println!(
        "{count} services from a /16: {:.1} ms to allocate, {:.1} ms to keep",
        seconds * 1e3,
        start.elapsed().as_secs_f64() * 1e3
    );
    seconds
}

#[test]
fn ten_thousand_services_cost_linear_time() {
    let small = allocate(1_000);
    let large = allocate(10_000);
    assert!(large < small.max(0.005) * 40.0, "1,000: {small:.4} s, 10,000: {large:.4} s");
}
