//! Who is to announce what, as tables over whole worlds.

#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

use std::collections::BTreeMap;
use std::net::IpAddr;
use std::sync::Arc;

use landfall_lb_model::node::ExcludeLabel;
use landfall_lb_model::plan::TakenBy;
use landfall_lb_model::speakers::SpeakerRule;
use landfall_lb_model::world::{Input, Rules, World};
use landfall_model::{Change, ObjectKey};
use serde::de::DeserializeOwned;
use serde_json::{Value, json};

fn world(speakers: SpeakerRule) -> World {
    let mut world = World::new(Rules { class: None, exclude: ExcludeLabel::Heed, speakers });
    let nodes = ["n1", "n2", "n3"].into_iter().enumerate().map(|(index, name)| {
        let address = json!({"type": "InternalIP", "address": format!("10.0.0.{}", 11 + index)});
        json!({"metadata": {"name": name}, "status": {"addresses": [address]}})
    });
    world.apply(Input::Node(Change::Replace(nodes.map(object).collect())));
    world.apply(Input::Pool(Change::Apply(object(json!({
        "apiVersion": "metallb.io/v1beta1", "kind": "IPAddressPool",
        "metadata": {"name": "p", "namespace": "metallb-system"}, "spec": {"addresses": ["10.0.0.0/24"]},
    })))));
    world.apply(Input::L2Advertisement(Change::Apply(object(json!({
        "apiVersion": "metallb.io/v1beta1", "kind": "L2Advertisement",
        "metadata": {"name": "l2", "namespace": "metallb-system"}, "spec": {},
    })))));
    world.settle();
    world
}

fn object<K: DeserializeOwned>(value: Value) -> Arc<K> {
    Arc::new(serde_json::from_value(value).unwrap())
}

/// A Service that has 10.0.0.200 and shares it, with ready endpoints on these nodes.
fn service(world: &mut World, name: &str, policy: &str, nodes: &[&str]) {
    let index = i32::try_from(world.services().len()).unwrap();
    world.apply(Input::Service(Change::Apply(object(json!({
        "metadata": {"name": name, "namespace": "default", "annotations": {"metallb.io/allow-shared-ip": "k"}},
        "spec": {"type": "LoadBalancer", "externalTrafficPolicy": policy, "ports": [{"port": 80 + index}],
            "selector": {"app": "x"}},
        "status": {"loadBalancer": {"ingress": [{"ip": "10.0.0.200"}]}},
    })))));
    let endpoints: Vec<Value> = nodes.iter().map(|node| json!({"addresses": ["10.1.0.1"], "nodeName": node})).collect();
    world.apply(Input::EndpointSlice(Change::Apply(object(json!({
        "metadata": {"name": name, "namespace": "default", "labels": {"kubernetes.io/service-name": name}},
        "addressType": "IPv4", "endpoints": endpoints,
    })))));
}

/// The candidates of 10.0.0.200 in alphabetical order, and the reasons of all problems.
fn found(world: &mut World) -> (String, String) {
    let grants = world.granted_by_status();
    let (duties, problems) = world.duties(grants.iter());
    let duty = duties.get(&IpAddr::from([10, 0, 0, 200]));
    let mut nodes: Vec<&str> = duty.into_iter().flat_map(|d| &d.candidates).map(|c| &*c.node).collect();
    nodes.sort_unstable();
    let mut reasons: Vec<String> = problems.iter().map(|p| format!("{} {}", p.object.key.name(), p.reason)).collect();
    reasons.sort();
    (nodes.join(" "), reasons.join(", "))
}

#[test]
fn a_shared_address_goes_where_all_of_its_services_are_served() {
    let check = |services: &[(&str, &str, &[&str])], expected: &str, problems: &str| {
        let mut world = world(SpeakerRule::EveryNode);
        for (name, policy, nodes) in services {
            service(&mut world, name, policy, nodes);
        }
        assert_eq!(found(&mut world), (expected.to_owned(), problems.to_owned()), "{services:?}");
    };
    check(&[("a", "Local", &["n1", "n2"]), ("b", "Local", &["n2", "n3"])], "n2", "");
    check(&[("a", "Cluster", &["n1"]), ("b", "Local", &["n3"])], "n3", "");
    check(&[("a", "Cluster", &["n1"]), ("b", "Cluster", &["n3"])], "n1 n2 n3", "");
    check(&[("a", "Local", &["n1"]), ("b", "Local", &["n3"])], "n1 n3", "a NoCommonNode, b NoCommonNode");
    // Where there is no node for all, one for most of them.
    check(&[("a", "Local", &["n1"]), ("b", "Local", &["n3"]), ("c", "Local", &["n3"])], "n3", "a NoCommonNode");
    // A Service that can't be served anywhere doesn't hinder the others.
    check(&[("a", "Local", &["n1"]), ("b", "Local", &[])], "n1", "b NoEndpoints");
}

#[test]
fn a_cordon_moves_what_any_node_can_announce_and_leaves_what_follows_its_pods() {
    for policy in ["Cluster", "Local"] {
        let mut world = world(SpeakerRule::EveryNode);
        service(&mut world, "a", policy, &["n1", "n2", "n3"]);
        let first = |world: &mut World| {
            let grants = world.granted_by_status();
            world.duties(grants.iter()).0[&IpAddr::from([10, 0, 0, 200])].candidates[0].node.to_string()
        };
        let before = first(&mut world);
        let number: u8 = before[1..].parse().unwrap();
        world.apply(Input::Node(Change::Apply(object(json!({
            "metadata": {"name": before}, "spec": {"unschedulable": true},
            "status": {"addresses": [{"type": "InternalIP", "address": format!("10.0.0.{}", 10 + number)}]},
        })))));
        assert_eq!(first(&mut world) == before, policy == "Local", "{policy}");
    }
}

#[test]
fn only_an_address_that_any_node_can_announce_goes_back_to_an_earlier_one() {
    for (policy, expected) in [("Cluster", vec![0, 1, 2]), ("Local", vec![0, 0, 0])] {
        let mut world = world(SpeakerRule::EveryNode);
        service(&mut world, "a", policy, &["n1", "n2", "n3"]);
        let grants = world.granted_by_status();
        let duty = &world.duties(grants.iter()).0[&IpAddr::from([10, 0, 0, 200])];
        assert_eq!(duty.candidates.iter().map(|c| c.level).collect::<Vec<_>>(), expected, "{policy}");
    }
}

/// The candidates of 10.0.0.200 in their order.
fn order(world: &mut World) -> Vec<String> {
    let grants = world.granted_by_status();
    let (duties, _) = world.duties(grants.iter());
    let duty = &duties[&IpAddr::from([10, 0, 0, 200])];
    duty.candidates.iter().map(|c| c.node.to_string()).collect()
}

fn node(world: &mut World, name: &str, labels: &Value, ready: &str, unschedulable: bool) {
    let number = 10 + name[1..].parse::<u8>().unwrap();
    world.apply(Input::Node(Change::Apply(object(json!({
        "metadata": {"name": name, "labels": labels}, "spec": {"unschedulable": unschedulable},
        "status": {
            "addresses": [{"type": "InternalIP", "address": format!("10.0.0.{number}")}],
            "conditions": [{"type": "Ready", "status": ready}],
        },
    })))));
}

#[test]
fn a_node_with_flaws_announces_what_no_better_one_can() {
    let excluded = json!({"node.kubernetes.io/exclude-from-external-load-balancers": ""});
    let mut world = world(SpeakerRule::EveryNode);
    service(&mut world, "a", "Cluster", &["n1", "n2", "n3"]);
    node(&mut world, "n1", &excluded, "True", false);
    node(&mut world, "n2", &json!({}), "Unknown", false);
    node(&mut world, "n3", &json!({}), "True", true);
    assert_eq!(
        (order(&mut world), found(&mut world).1),
        (["n3", "n2", "n1"].map(str::to_owned).to_vec(), String::new())
    );
    node(&mut world, "n3", &json!({}), "Unknown", true);
    assert_eq!(order(&mut world)[2], "n1", "the excluded one comes last");
    assert_eq!(found(&mut world), ("n1 n2 n3".to_owned(), "a NoFitNode".to_owned()));
    node(&mut world, "n1", &json!({}), "True", false);
    assert_eq!((order(&mut world)[0].as_str(), found(&mut world).1), ("n1", String::new()));
}

/// The control plane calls the pods of a node unready that it can't reach.
#[test]
fn pods_of_unreachable_nodes_count_where_no_other_serves() {
    for policy in ["Cluster", "Local"] {
        let mut world = world(SpeakerRule::EveryNode);
        service(&mut world, "a", policy, &[]);
        slice(&mut world, "a", "IPv4", &[("n1", false), ("n2", false)]);
        assert_eq!(found(&mut world), (String::new(), "a NoEndpoints".to_owned()), "{policy}: both nodes are Ready");
        for name in ["n1", "n2", "n3"] {
            node(&mut world, name, &json!({}), "Unknown", false);
        }
        let nodes = if policy == "Local" { "n1 n2" } else { "n1 n2 n3" };
        assert_eq!(found(&mut world), (nodes.to_owned(), "a NoFitNode".to_owned()), "{policy}");
        slice(&mut world, "a", "IPv4", &[("n1", false), ("n2", true)]);
        let nodes = if policy == "Local" { "n2" } else { "n1 n2 n3" };
        assert_eq!(found(&mut world).0, nodes, "{policy}: one pod serves");
    }
}

#[test]
fn each_family_is_announced_where_it_has_endpoints() {
    let mut world = world(SpeakerRule::EveryNode);
    world.apply(Input::Pool(Change::Apply(object(json!({
        "apiVersion": "metallb.io/v1beta1", "kind": "IPAddressPool",
        "metadata": {"name": "p", "namespace": "metallb-system"}, "spec": {"addresses": ["10.0.0.0/24", "fd00::/120"]},
    })))));
    world.settle();
    world.apply(Input::Service(Change::Apply(object(json!({
        "metadata": {"name": "a", "namespace": "default"},
        "spec": {"type": "LoadBalancer", "externalTrafficPolicy": "Local", "ports": [{"port": 80}],
            "ipFamilyPolicy": "RequireDualStack", "ipFamilies": ["IPv4", "IPv6"], "selector": {"app": "x"}},
        "status": {"loadBalancer": {"ingress": [{"ip": "10.0.0.200"}, {"ip": "fd00::20"}]}},
    })))));
    let announced = |world: &mut World| {
        let grants = world.granted_by_status();
        let (duties, problems) = world.duties(grants.iter());
        let of = |ip: &str| {
            let mut nodes: Vec<String> =
                duties[&ip.parse::<IpAddr>().unwrap()].candidates.iter().map(|c| c.node.to_string()).collect();
            nodes.sort();
            nodes.join(" ")
        };
        let problems: Vec<String> = problems.iter().map(|p| p.cause.clone()).collect();
        (of("10.0.0.200"), of("fd00::20"), problems)
    };
    slice(&mut world, "a", "IPv4", &[("n1", true), ("n3", true)]);
    slice(&mut world, "a", "IPv6", &[("n2", true)]);
    assert_eq!(announced(&mut world), ("n1 n3".to_owned(), "n2".to_owned(), vec![]));
    slice(&mut world, "a", "IPv6", &[("n2", false)]);
    let (v4, v6, problems) = announced(&mut world);
    assert_eq!((v4.as_str(), v6.as_str(), problems.len()), ("n1 n3", "", 1));
    assert!(problems[0].starts_with("fd00::20 is not announced: no node has an IPv6 endpoint"), "{problems:?}");
}

/// A slice of a family of a Service with an endpoint on each of the nodes, ready or not.
fn slice(world: &mut World, service: &str, family: &str, endpoints: &[(&str, bool)]) {
    let endpoint = |(node, ready): &(&str, bool)| json!({"addresses": ["10.1.0.1"], "nodeName": node, "conditions": {"ready": ready, "serving": ready}});
    let name = if family == "IPv4" { service.to_owned() } else { format!("{service}-{family}") };
    world.apply(Input::EndpointSlice(Change::Apply(object(json!({
        "metadata": {"name": name, "namespace": "default", "labels": {"kubernetes.io/service-name": service}},
        "addressType": family, "endpoints": endpoints.iter().map(endpoint).collect::<Vec<_>>(),
    })))));
}

fn pod(world: &mut World, node: &str, phase: &str) {
    world.apply(Input::SpeakerPod(Change::Apply(object(json!({
        "metadata": {"name": format!("speaker-{node}"), "namespace": "landfall-system"},
        "spec": {"containers": [], "nodeName": node}, "status": {"phase": phase},
    })))));
}

#[test]
fn only_nodes_with_a_speaker_are_candidates() {
    let mut world = world(SpeakerRule::Seen);
    service(&mut world, "a", "Cluster", &["n1"]);
    assert_eq!(found(&mut world), (String::new(), "a NoEligibleNode".to_owned()));
    pod(&mut world, "n1", "Running");
    pod(&mut world, "n2", "Pending");
    pod(&mut world, "n3", "Failed");
    assert_eq!(found(&mut world).0, "n1 n2");
    // One that is no pod says so itself.
    state(&mut world, "n3", "");
    assert_eq!(found(&mut world).0, "n1 n2 n3");
    let key = ObjectKey::new("landfall-system", "speaker-n1");
    world.apply(Input::SpeakerPod(Change::Delete(key)));
    assert_eq!(found(&mut world).0, "n2 n3");
}

#[test]
fn a_speaker_that_does_not_see_itself_trusts_nobody() {
    let mut world = world(SpeakerRule::SeenFrom("n1".into()));
    service(&mut world, "a", "Cluster", &["n1"]);
    assert_eq!(found(&mut world).0, "n1 n2 n3");
    pod(&mut world, "n2", "Running");
    assert_eq!(found(&mut world).0, "n1 n2 n3");
    pod(&mut world, "n1", "Running");
    assert_eq!(found(&mut world).0, "n1 n2");
}

fn state(world: &mut World, node: &str, subnets: &str) {
    world.apply(Input::ConfigurationState(Change::Apply(object(json!({
        "apiVersion": "metallb.io/v1beta1", "kind": "ConfigurationState",
        "metadata": {"name": format!("speaker-{node}"), "annotations": {"landfall.dev/subnets": subnets}},
    })))));
}

#[test]
fn a_networks_own_addresses_are_not_given() {
    let first = |world: &World| {
        let planned = world.plan(&BTreeMap::new(), &world.reserved(), 0);
        planned.grants().next().unwrap().1.ips[0].to_string()
    };
    let mut world = world(SpeakerRule::Seen);
    world.apply(Input::Service(Change::Apply(object(json!({
        "metadata": {"name": "a", "namespace": "default"}, "spec": {"type": "LoadBalancer"},
    })))));
    // Nobody has said what network the nodes are on, and 10.0.0.0 is the network address of many that are possible.
    assert_eq!(first(&world), "10.0.0.1");
    // One speaker says it for all nodes of that network; addresses of their own are theirs alone.
    state(&mut world, "n2", "10.0.0.12/24,10.9.0.1/32");
    assert_eq!(first(&world), "10.0.0.1");
    let reserved = world.reserved();
    let by = |ip: [u8; 4]| reserved.get(&IpAddr::from(ip)).map(TakenBy::word);
    assert_eq!(by([10, 0, 0, 0]), Some("NetworkAddress"));
    assert_eq!(by([10, 0, 0, 255]), Some("BroadcastAddress"));
    assert_eq!(by([10, 0, 0, 13]), Some("NodeAddress"));
    assert_eq!(by([10, 9, 0, 1]), None, "a single address may be a Service's own, bound by kube-proxy");
    // A network that ends elsewhere: 10.0.0.0 is an address like any other.
    let mut world = world_of("10.0.8.12");
    state(&mut world, "n1", "10.0.8.12/24");
    world.apply(Input::Service(Change::Apply(object(json!({
        "metadata": {"name": "a", "namespace": "default"}, "spec": {"type": "LoadBalancer"},
    })))));
    assert_eq!(first(&world), "10.0.0.0");
}

fn world_of(ip: &str) -> World {
    let mut world = world(SpeakerRule::Seen);
    let address = json!({"type": "InternalIP", "address": ip});
    let node = object(json!({"metadata": {"name": "n1"}, "status": {"addresses": [address]}}));
    world.apply(Input::Node(Change::Replace(vec![node])));
    world
}

#[test]
fn what_changes_nothing_is_no_change() {
    let mut world = world(SpeakerRule::Seen);
    service(&mut world, "a", "Cluster", &["n1"]);
    assert!(world.take_changes().allocation);
    // The same again, as after a relist of one object; a heartbeat of a kubelet; somebody else's endpoints.
    world.apply(Input::Node(Change::Apply(object(json!({
        "metadata": {"name": "n1", "resourceVersion": "7"},
        "status": {"addresses": [{"type": "InternalIP", "address": "10.0.0.11"}]},
    })))));
    world.apply(Input::EndpointSlice(Change::Apply(object(json!({
        "metadata": {"name": "x", "namespace": "default", "labels": {"kubernetes.io/service-name": "other"}},
        "addressType": "IPv4", "endpoints": [{"addresses": ["10.1.0.1"]}],
    })))));
    assert!(!world.take_changes().any());
    service(&mut world, "a", "Cluster", &["n1"]);
    let changes = world.take_changes();
    assert!(changes.any(), "its port is another");
    pod(&mut world, "n1", "Running");
    assert!(world.take_changes().announcing);
    pod(&mut world, "n1", "Running");
    assert!(!world.take_changes().any());
}

#[test]
fn what_a_service_of_another_class_has_is_not_given() {
    let mut world = world(SpeakerRule::Seen);
    let service = |name: &str, class: Option<&str>, ips: &[&str]| {
        let ips: Vec<Value> = ips.iter().map(|ip| json!({"ip": ip})).collect();
        Input::Service(Change::Apply(object(json!({
            "metadata": {"name": name, "namespace": "default"},
            "spec": {"type": "LoadBalancer", "loadBalancerClass": class},
            "status": {"loadBalancer": {"ingress": ips}},
        }))))
    };
    world.apply(service("theirs", Some("example.com/other"), &["10.0.0.1"]));
    assert!(world.take_changes().allocation);
    world.apply(service("ours", None, &[]));
    let key = ObjectKey::new("default", "ours");
    let ip = |world: &World, held: &BTreeMap<ObjectKey, Vec<IpAddr>>| {
        world.plan(held, &world.reserved(), 0).grant(&key).unwrap().ips[0].to_string()
    };
    assert_eq!(ip(&world, &BTreeMap::new()), "10.0.0.2");
    // Whoever has it keeps it, whatever another one's status says later.
    let held = BTreeMap::from([(key.clone(), vec![IpAddr::from([10, 0, 0, 1])])]);
    assert_eq!(ip(&world, &held), "10.0.0.1");
    world.apply(service("theirs", Some("example.com/other"), &[]));
    assert_eq!(ip(&world, &BTreeMap::new()), "10.0.0.1");
}

#[test]
fn ten_thousand_services_and_a_hundred_nodes_are_soon_decided() {
    let mut world = world(SpeakerRule::EveryNode);
    let nodes = (0..100).map(|number| object(json!({"metadata": {"name": format!("node-{number}")}})));
    world.apply(Input::Node(Change::Replace(nodes.collect())));
    let status = |number: u16| json!([{"ip": format!("10.0.{}.{}", number / 256, number % 256)}]);
    world.apply(Input::Pool(Change::Apply(object(json!({
        "apiVersion": "metallb.io/v1beta1", "kind": "IPAddressPool",
        "metadata": {"name": "p", "namespace": "metallb-system"}, "spec": {"addresses": ["10.0.0.0/16"]},
    })))));
    world.settle();
    let services = (0..10_000).map(|number| {
        object(json!({
            "metadata": {"name": format!("s-{number}"), "namespace": "default"}, "spec": {"type": "LoadBalancer"},
            "status": {"loadBalancer": {"ingress": status(number)}},
        }))
    });
    world.apply(Input::Service(Change::Replace(services.collect())));
    let slices = (0..10_000).map(|number| {
        let labels = json!({"kubernetes.io/service-name": format!("s-{number}")});
        object(json!({
            "metadata": {"name": format!("s-{number}"), "namespace": "default", "labels": labels},
            "addressType": "IPv4", "endpoints": [{"addresses": ["10.1.0.1"]}],
        }))
    });
    world.apply(Input::EndpointSlice(Change::Replace(slices.collect())));
    let begun = std::time::Instant::now();
    let grants = world.granted_by_status();
    assert!(world.hindrances(grants.iter()).is_empty());
    let without = begun.elapsed();
    let (duties, problems) = world.duties(grants.iter());
    assert_eq!((duties.len(), problems.len()), (10_000, 0));
    assert!(duties.values().all(|duty| duty.candidates.len() == 100));
    let (first, begun) = (begun.elapsed(), std::time::Instant::now());
    assert_eq!(world.duties(grants.iter()).0, duties);
    let again = begun.elapsed();
    println!("10,000 Services, 100 nodes: {without:?} for a controller; {first:?} for a speaker, then {again:?}");
    assert!(without < first / 4 && again < first / 4, "the hashes take most of the time, and are made once");
}
