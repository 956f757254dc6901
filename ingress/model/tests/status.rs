//! The addresses in the status of each Ingress: where they come from, when they are written and cleared.

#![allow(clippy::unwrap_used, clippy::panic, reason = "a test fails by panicking")]

mod support;

use landfall_ingress_model::compiler::Compiler;
use landfall_ingress_model::input::Input;
use landfall_ingress_model::settings::Publish;
use landfall_model::{Change, ObjectKey};
use serde_json::{Value, json};
use support::{input, now, settings};

fn ingress(class: &str, observed: &[&str]) -> Input {
    let entries: Vec<Value> = observed.iter().map(|ip| json!({"ip": ip})).collect();
    input(&json!({
        "kind": "Ingress", "metadata": {"name": "web", "namespace": "shop"},
        "spec": {"ingressClassName": class, "defaultBackend": {"service": {"name": "a", "port": {"number": 80}}}},
        "status": {"loadBalancer": {"ingress": entries}},
    }))
}

fn class(name: &str, controller: &str) -> Input {
    input(&json!({"kind": "IngressClass", "metadata": {"name": name}, "spec": {"controller": controller}}))
}

type Told = Vec<(Option<Vec<String>>, Vec<String>)>;

fn told(compiler: &mut Compiler, inputs: impl IntoIterator<Item = Input>) -> Told {
    let text = |list: &[landfall_ingress_model::status::Address]| list.iter().map(ToString::to_string).collect();
    compiler.apply(inputs);
    let statuses = compiler.build(now()).statuses;
    statuses.iter().map(|status| (status.desired.as_deref().map(text), text(&status.observed))).collect()
}

fn addresses(list: &[&str]) -> Vec<String> {
    list.iter().map(|address| (*address).to_owned()).collect()
}

#[test]
fn a_status_is_told_when_it_or_what_is_there_changes() {
    let mut compiler = Compiler::new(settings(Publish::Addresses(addresses(&["192.0.2.2", "192.0.2.1", "192.0.2.1"]))));
    let ours = Some(addresses(&["192.0.2.1", "192.0.2.2"]));
    assert_eq!(told(&mut compiler, [ingress("landfall", &[])]), [(ours.clone(), vec![])]);
    assert_eq!(told(&mut compiler, [ingress("landfall", &[])]), []);
    let written = ["192.0.2.1", "192.0.2.2"];
    assert_eq!(told(&mut compiler, [ingress("landfall", &written)]), [(ours.clone(), addresses(&written))]);
    assert_eq!(told(&mut compiler, [ingress("landfall", &["10.9.9.9"])]), [(ours, addresses(&["10.9.9.9"]))]);
    let gone = Input::Ingress(Change::Delete(ObjectKey::new("shop", "web")));
    assert_eq!(told(&mut compiler, [gone]), [(None, vec![])]);
}

#[test]
fn leaving_our_class_clears_what_we_published_and_nothing_else() {
    let start = || {
        let mut compiler = Compiler::new(settings(Publish::Addresses(addresses(&["192.0.2.1"]))));
        told(&mut compiler, [class("theirs", "example.com/other"), ingress("landfall", &["192.0.2.1"])]);
        compiler
    };
    let published = addresses(&["192.0.2.1"]);
    let mut compiler = start();
    assert_eq!(told(&mut compiler, [ingress("theirs", &["192.0.2.1"])]), [(Some(vec![]), published.clone())]);
    assert_eq!(told(&mut compiler, [ingress("theirs", &[])]), [(None, vec![])]);
    // The other controller may have the same address; by now it is not ours to clear.
    assert_eq!(told(&mut compiler, [ingress("theirs", &["192.0.2.1"])]), []);

    let mut compiler = start();
    let foreign = addresses(&["198.51.100.1"]);
    assert_eq!(told(&mut compiler, [ingress("theirs", &["198.51.100.1"])]), [(None, foreign)]);
    assert_eq!(told(&mut compiler, [ingress("theirs", &["198.51.100.2"])]), []);

    // Our write is still under way when the class changes.
    let mut compiler = Compiler::new(settings(Publish::Addresses(published.clone())));
    told(&mut compiler, [class("theirs", "example.com/other"), ingress("landfall", &[])]);
    assert_eq!(told(&mut compiler, [ingress("theirs", &[])]), [(None, vec![])]);
    assert_eq!(told(&mut compiler, [ingress("theirs", &["192.0.2.1"])]), [(Some(vec![]), published)]);

    // What was never ours is never touched.
    let mut compiler = Compiler::new(settings(Publish::Addresses(addresses(&["192.0.2.1"]))));
    let inputs = [class("theirs", "example.com/other"), ingress("theirs", &["192.0.2.1"])];
    assert_eq!(told(&mut compiler, inputs), []);
}

#[test]
fn nothing_is_touched_where_nothing_is_published() {
    let mut compiler = Compiler::new(settings(Publish::Nothing));
    assert_eq!(told(&mut compiler, [ingress("landfall", &["10.0.0.1"])]), []);
}

#[test]
fn the_addresses_of_a_service_are_its_own_then_its_external_then_its_cluster_ones() {
    let cases = [
        (json!({"type": "LoadBalancer", "clusterIP": "10.96.0.1"}), json!([{"ip": "192.0.2.1"}]), vec!["192.0.2.1"]),
        (json!({"type": "LoadBalancer"}), json!([{"hostname": "lb.example"}]), vec!["lb.example"]),
        (json!({"type": "LoadBalancer", "clusterIP": "10.96.0.1"}), json!([]), vec![]),
        (
            json!({"type": "LoadBalancer", "externalIPs": ["198.51.100.7"]}),
            json!([{"ip": "192.0.2.1"}, {"ip": "2001:db8::1"}]),
            vec!["192.0.2.1", "198.51.100.7", "2001:db8::1"],
        ),
        (
            json!({"type": "NodePort", "clusterIP": "10.96.0.1", "externalIPs": ["192.0.2.9"]}),
            json!([]),
            vec!["192.0.2.9"],
        ),
        (
            json!({"clusterIP": "10.96.0.1", "clusterIPs": ["10.96.0.1", "fd00::1"]}),
            json!([]),
            vec!["10.96.0.1", "fd00::1"],
        ),
        (json!({"clusterIP": "None"}), json!([]), vec![]),
        (json!({"type": "ExternalName", "externalName": "www.example"}), json!([]), vec!["www.example"]),
    ];
    for (spec, balanced, expected) in cases {
        let mut compiler = Compiler::new(settings(Publish::Service(ObjectKey::new("edge", "front"))));
        let service = input(&json!({
            "kind": "Service", "metadata": {"name": "front", "namespace": "edge"}, "spec": spec,
            "status": {"loadBalancer": {"ingress": balanced}},
        }));
        let found = told(&mut compiler, [service, ingress("landfall", &[])]);
        assert_eq!(found, [(Some(addresses(&expected)), vec![])], "{spec}");
    }
}

#[test]
fn a_missing_service_is_a_problem_and_leaves_every_status_alone() {
    let mut compiler = Compiler::new(settings(Publish::Service(ObjectKey::new("edge", "front"))));
    assert_eq!(told(&mut compiler, [ingress("landfall", &["10.0.0.1"])]), []);
    let problems = compiler.build(now()).problems;
    assert!(problems.iter().any(|problem| problem.object.to_string() == "service edge/front"), "{problems:#?}");
}

#[test]
fn under_host_network_the_nodes_of_our_pods_are_published() {
    let node = |name: &str, addresses: &Value| {
        input(&json!({"kind": "Node", "metadata": {"name": name}, "status": {"addresses": addresses}}))
    };
    let pod = |name: &str, node: &str, phase: &str| {
        let meta = json!({"name": name, "namespace": "edge"});
        input(&json!({
            "kind": "Pod", "metadata": meta, "spec": {"nodeName": node, "containers": []}, "status": {"phase": phase},
        }))
    };
    let internal = |ip: &str| json!({"type": "InternalIP", "address": ip});
    let mut compiler = Compiler::new(settings(Publish::Nodes));
    let nodes = [
        node("a", &json!([internal("10.0.0.1"), {"type": "ExternalIP", "address": "192.0.2.1"}])),
        node("b", &json!([internal("10.0.0.2"), {"type": "Hostname", "address": "b"}])),
        node("c", &json!([internal("10.0.0.3")])),
    ];
    assert_eq!(told(&mut compiler, nodes.into_iter().chain([ingress("landfall", &[])])), [], "no pod is known yet");
    let found = told(&mut compiler, [pod("1", "a", "Running"), pod("2", "b", "Running"), pod("3", "c", "Pending")]);
    assert_eq!(found, [(Some(addresses(&["10.0.0.2", "192.0.2.1"])), vec![])]);
    let found = told(&mut compiler, [pod("3", "c", "Running"), pod("4", "a", "Running")]);
    assert_eq!(found, [(Some(addresses(&["10.0.0.2", "10.0.0.3", "192.0.2.1"])), vec![])]);
}
