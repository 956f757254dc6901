//! Faults that people have, each a change to a cluster that is well: `check` names the object and what to do.

use serde::de::DeserializeOwned;
use serde_json::{Value, json};

use super::*;
use crate::crd::{IPAddressPool, L2Advertisement};
use crate::node::{EXCLUDE_LABEL, ExcludeLabel};
use crate::speakers::INTERFACES;
use crate::subnet::SUBNETS;
use crate::world::Input;
use landfall_model::{Change, Problem};

const NAMESPACE: &str = "landfall-system";

/// A cluster as JSON objects, by kind.
struct Scene(Value);

impl Scene {
    /// Three nodes with speakers, a pool on their LAN, and a Service whose address one of them announces.
    fn well() -> Self {
        let node = |n: u8| {
            json!({"metadata": {"name": format!("n{n}"), "labels": {}}, "status": {
                "addresses": [{"type": "InternalIP", "address": format!("192.168.10.1{n}")}],
                "conditions": [{"type": "Ready", "status": "True"}]}})
        };
        let part = |name: &str| json!({"app.kubernetes.io/name": "landfall", "app.kubernetes.io/component": name});
        let pod = |n: u8| {
            json!({"metadata": {"name": format!("s{n}"), "namespace": NAMESPACE, "labels": part("speaker")},
                "spec": {"nodeName": format!("n{n}"), "containers": []},
                "status": {"phase": "Running", "conditions": [{"type": "Ready", "status": "True"}]}})
        };
        let state = |n: u8| {
            json!({"metadata": {"name": format!("speaker-n{n}"), "namespace": NAMESPACE, "annotations": {
                SUBNETS: format!("192.168.10.1{n}/24"), INTERFACES: format!("eth0=02:00:00:00:00:0{n}")}}})
        };
        let template = json!({"metadata": {}, "spec": {"containers": []}});
        Self(json!({
            "proxy": {"data": {"config.conf": "kind: KubeProxyConfiguration\nmode: ipvs\nipvs: {strictARP: true}\n"}},
            "nodes": [node(1), node(2), node(3)],
            "pods": [pod(1), pod(2), pod(3)],
            "states": [state(1), state(2), state(3)],
            "deployments": [{"metadata": {"name": "landfall-controller", "namespace": NAMESPACE, "labels": part("controller")},
                "spec": {"selector": {}, "template": template, "replicas": 1}, "status": {"readyReplicas": 1}}],
            "daemon_sets": [{"metadata": {"name": "landfall-speaker", "namespace": NAMESPACE, "labels": part("speaker")},
                "spec": {"selector": {}, "template": template},
                "status": {"desiredNumberScheduled": 3, "numberReady": 3, "currentNumberScheduled": 3, "numberMisscheduled": 0}}],
            "services": [{"metadata": {"name": "web", "namespace": "shop", "annotations": {}}, "spec": {
                "type": "LoadBalancer", "clusterIP": "10.96.0.9", "ports": [{"port": 80}], "selector": {"app": "web"}},
                "status": {"loadBalancer": {"ingress": [{"ip": "192.168.10.200"}]}}}],
            "slices": [{"metadata": {"name": "web-1", "namespace": "shop", "labels": {"kubernetes.io/service-name": "web"}},
                "addressType": "IPv4", "ports": [{"port": 8080}],
                "endpoints": [{"addresses": ["10.244.0.5"], "nodeName": "n1", "conditions": {"ready": true}}]}],
            "statuses": [{"metadata": {"name": "l2-1", "namespace": NAMESPACE}, "spec": {}, "status": {
                "node": "n1", "serviceName": "web", "serviceNamespace": "shop"}}],
            "pools": [{"metadata": {"name": "lan", "namespace": NAMESPACE}, "spec": {"addresses": ["192.168.10.200-192.168.10.210"]}}],
            "adverts": [{"metadata": {"name": "lan", "namespace": NAMESPACE}, "spec": {}}],
        }))
    }

    fn list<K: DeserializeOwned>(&self, kind: &str) -> Vec<Arc<K>> {
        let list = self.0.get(kind).and_then(Value::as_array).cloned().unwrap_or_default();
        let read = |object: Value| match serde_json::from_value(object.clone()) {
            Ok(read) => Arc::new(read),
            Err(error) => panic!("{kind}: {error}: {object}"),
        };
        list.into_iter().map(read).collect()
    }

    fn world(&self) -> (Facts, World) {
        let facts = Facts {
            namespace: NAMESPACE.to_owned(),
            own: self.list("own").pop(),
            proxy: serde_json::from_value(self.0["proxy"].clone()).ok().map(Arc::new),
            nodes: self.list("nodes"),
            deployments: self.list("deployments"),
            daemon_sets: self.list("daemon_sets"),
            pods: self.list("pods"),
            services: self.list("services"),
            states: self.list("states"),
            statuses: self.list("statuses"),
        };
        let rules = Rules { class: None, exclude: ExcludeLabel::Heed, speakers: facts.speaker_rule() };
        let mut world = World::new(rules);
        world.apply(Input::Service(Change::Replace(facts.services.clone())));
        world.apply(Input::Node(Change::Replace(facts.nodes.clone())));
        world.apply(Input::EndpointSlice(Change::Replace(self.list("slices"))));
        world.apply(Input::SpeakerPod(Change::Replace(facts.pods.clone())));
        world.apply(Input::ConfigurationState(Change::Replace(facts.states.clone())));
        world.apply(Input::Pool(Change::Replace(self.list::<IPAddressPool>("pools"))));
        world.apply(Input::L2Advertisement(Change::Replace(self.list::<L2Advertisement>("adverts"))));
        world.apply(Input::L2Status(Change::Replace(facts.statuses.clone())));
        world.settle();
        (facts, world)
    }

    fn look(&self) -> Findings {
        let (facts, mut world) = self.world();
        let rules = Rules { class: None, exclude: ExcludeLabel::Heed, speakers: facts.speaker_rule() };
        let mut findings = facts.platform(&rules);
        findings.extend(facts.parts());
        findings.extend(facts.addresses(&mut world, &[NAMESPACE.to_owned(), "metallb-system".to_owned()]));
        findings
    }
}

fn says(findings: &Findings) -> Vec<String> {
    findings.problems().map(|problem| format!("{problem} [{}]", problem.reason)).collect()
}

#[test]
fn a_cluster_that_is_well_has_no_problem() {
    let found = Scene::well().look();
    assert_eq!(says(&found), Vec::<String>::new());
    assert!(found.iter().count() >= 8, "{found}");
}

/// Where the fault is put in, what stands there then, and what is said of it: object and reason.
type Row = (&'static str, Value, &'static str, &'static str);

fn rows() -> Vec<Row> {
    let crash = json!([{"name": "main", "ready": false, "restartCount": 3, "image": "", "imageID": "",
        "state": {"waiting": {"reason": "CrashLoopBackOff"}}}]);
    vec![
        ("/proxy/data/config.conf", json!("mode: ipvs\n"), "configmap kube-system/kube-proxy", "StrictArp"),
        ("/pools", json!([]), "namespace landfall-system", "NoPool"),
        (
            "/pools/0/spec/addresses",
            json!(["10.77.0.1-10.77.0.9"]),
            "ipaddresspool landfall-system/lan",
            "PoolOutsideSubnets",
        ),
        (
            "/pools/0/spec/addresses",
            json!(["192.168.10.210-192.168.10.200"]),
            "ipaddresspool landfall-system/lan",
            "InvalidAddressRange",
        ),
        ("/adverts/0/spec", json!({"interfaces": ["eth7"]}), "l2advertisement landfall-system/lan", "UnknownInterface"),
        ("/adverts/0/spec", json!({"ipAddressPools": ["wan"]}), "l2advertisement landfall-system/lan", "UnknownPool"),
        ("/adverts", json!([]), "service shop/web", "NoMatchingAdvertisement"),
        (
            "/adverts/0/spec",
            json!({"nodeSelectors": [{"matchLabels": {"lan": "b"}}]}),
            "service shop/web",
            "NoEligibleNode",
        ),
        ("/slices", json!([]), "service shop/web", "NoEndpoints"),
        ("/slices/0/endpoints/0/conditions/ready", json!(false), "service shop/web", "NoEndpoints"),
        ("/services/0/status", json!({}), "service shop/web", "NotAllocated"),
        ("/services/0/spec/loadBalancerClass", json!("other"), "", ""),
        (
            "/services/0/metadata/annotations",
            json!({"metallb.io/loadBalancerIPs": "10.1.1.1"}),
            "service shop/web",
            "AllocationFailed",
        ),
        (
            "/services/0/metadata/annotations",
            json!({"metallb.io/address-pool": "wan"}),
            "service shop/web",
            "AllocationFailed",
        ),
        ("/statuses", json!([]), "service shop/web", "NotAnnounced"),
        ("/daemon_sets/0/status/numberReady", json!(0), "daemonset landfall-system/landfall-speaker", "NotRunning"),
        (
            "/deployments/0/status/readyReplicas",
            json!(0),
            "deployment landfall-system/landfall-controller",
            "NotRunning",
        ),
        ("/pods/1/status", json!({"containerStatuses": crash}), "pod landfall-system/s2", "NotRunning"),
        ("/nodes/2/status/conditions/0/status", json!("Unknown"), "node n3", "NodeNotReady"),
        (
            "/own",
            json!([{"metadata": {"name": NAMESPACE, "labels": {"pod-security.kubernetes.io/enforce": "baseline"}}}]),
            "namespace landfall-system",
            "PodSecurity",
        ),
    ]
}

#[test]
fn each_fault_is_named_with_its_object_and_a_remedy() {
    for (place, value, object, reason) in rows() {
        let mut scene = Scene::well();
        let (parent, name) = place.rsplit_once('/').expect("a path");
        match scene.0.pointer_mut(place) {
            Some(there) => *there = value.clone(),
            None => scene.0.pointer_mut(parent).expect("its parent")[name] = value.clone(),
        }
        let found = scene.look();
        let named = |problem: &&Problem| problem.object.to_string() == object && problem.reason.as_str() == reason;
        if reason.is_empty() {
            // The Service has its address from somebody else.
            assert!(!found.fails(), "{place}: {found}");
            continue;
        }
        let problem = found.problems().find(named);
        let problem = problem.unwrap_or_else(|| panic!("{place} = {value}: no {reason} of {object} in\n{found}"));
        assert!(!problem.remedy.is_empty(), "{problem}");
    }
}

#[test]
fn excluded_nodes_matter_when_there_is_no_other() {
    let mut scene = Scene::well();
    let label = |scene: &mut Scene, n: usize| scene.0["nodes"][n]["metadata"]["labels"][EXCLUDE_LABEL] = json!("");
    label(&mut scene, 0);
    assert_eq!(says(&scene.look()), Vec::<String>::new());
    label(&mut scene, 1);
    label(&mut scene, 2);
    let said = says(&scene.look());
    assert!(
        said.iter().any(|line| line.contains("[EveryNodeExcluded]") && line.contains("kubectl label nodes")),
        "{said:?}"
    );
}

#[test]
fn an_empty_cluster_is_told_what_is_missing_and_fails_in_nothing() {
    let mut scene = Scene::well();
    for kind in ["pods", "states", "deployments", "daemon_sets", "services", "statuses", "pools", "adverts", "slices"] {
        scene.0[kind] = json!([]);
    }
    let found = scene.look();
    assert!(!found.fails(), "{found}");
    assert!(says(&found).iter().any(|line| line.contains("[NoPool]")), "{found}");
}

#[test]
fn a_service_of_another_class_that_waits_is_named() {
    let mut scene = Scene::well();
    scene.0["services"][0]["spec"]["loadBalancerClass"] = json!("example.com/other");
    scene.0["services"][0]["status"] = json!({});
    let said = says(&scene.look());
    assert!(said.iter().any(|line| line.contains("service shop/web") && line.contains("[OtherClass]")), "{said:?}");
}

#[test]
fn before_speakers_run_the_usual_prefix_decides_what_is_outside() {
    let mut scene = Scene::well();
    for kind in ["pods", "states", "deployments", "daemon_sets", "statuses"] {
        scene.0[kind] = json!([]);
    }
    scene.0["pools"][0]["spec"]["addresses"] = json!(["192.168.99.10-192.168.99.20"]);
    let found = scene.look();
    assert!(!found.fails(), "a guess is only a warning: {found}");
    assert!(says(&found).iter().any(|line| line.contains("[PoolOutsideSubnets]")), "{found}");
}

/// Last bytes of addresses that were asked for, each with last bytes of the MAC addresses that answered.
type Answers<'a> = &'a [(u8, &'a [u8])];

/// What is said of a scene where this is heard on the LAN.
fn heard(scene: &Scene, answers: Answers<'_>) -> Vec<String> {
    let (_, world) = scene.world();
    let asked = answers::questions(&world, 256);
    let mac = |n: &u8| pnet_base::MacAddr::new(2, 0, 0, 0, 0, *n);
    let answers =
        answers.iter().map(|(ip, macs)| ([192, 168, 10, *ip].into(), macs.iter().map(mac).collect())).collect();
    answers::judge(&world, &answers, &asked).iter().map(|problem| format!("{problem} [{}]", problem.reason)).collect()
}

#[test]
fn strangers_that_answer_are_told_apart() {
    let scene = Scene::well();
    let (_, world) = scene.world();
    let asked = answers::questions(&world, 4);
    assert_eq!(asked, (200..204).map(|n| std::net::Ipv4Addr::new(192, 168, 10, n)).collect::<Vec<_>>());
    let nothing: &[&str] = &[];
    let one = |parts: &'static [&'static str]| parts;
    let rows: [(Answers<'_>, &[&str]); 8] = [
        (&[], nothing),
        // n1 announces it.
        (&[(200, &[1])], nothing),
        // It has just moved.
        (&[(200, &[2])], nothing),
        (&[(200, &[1, 2])], one(&["service shop/web", "02:00:00:00:00:02", "strictARP", "[AddressOnNode]"])),
        (&[(200, &[1, 9])], one(&["service shop/web", "192.168.10.200", "02:00:00:00:00:09", "[AddressConflict]"])),
        (&[(200, &[9])], one(&["service shop/web", "give that host another address", "[AddressConflict]"])),
        (&[(205, &[9])], one(&["ipaddresspool landfall-system/lan", "192.168.10.205", "[AddressAnswers]"])),
        (&[(205, &[3])], one(&["a node with MAC address 02:00:00:00:00:03", "[AddressAnswers]"])),
    ];
    for (answers, parts) in rows {
        let said = heard(&scene, answers);
        match parts {
            [] => assert_eq!(said, Vec::<String>::new(), "{answers:?}"),
            parts => {
                assert_eq!(said.len(), 1, "{answers:?}: {said:?}");
                assert!(parts.iter().all(|part| said[0].contains(part)), "{answers:?}: {said:?} lacks {parts:?}");
            }
        }
    }
}

#[test]
fn a_router_that_answers_for_everybody_is_named_once() {
    let answers: Vec<(u8, &[u8])> =
        (200..=210).map(|n| if n == 200 { (n, &[1, 9][..]) } else { (n, &[9][..]) }).collect();
    let said = heard(&Scene::well(), &answers);
    assert_eq!(said.len(), 1, "{said:?}");
    assert!(said[0].contains("turn proxy ARP off") && said[0].contains("02:00:00:00:00:09"), "{said:?}");
    // It leaves a host alone that others answer for.
    let said = heard(&Scene::well(), &answers[..10]);
    assert!(said.iter().all(|line| !line.contains("[ProxyARP]")), "{said:?}");
}

#[test]
fn a_node_outside_of_the_pools_network_is_told_by_what_its_speaker_says() {
    let mut scene = Scene::well();
    // A /16 that the usual prefix would take for several networks.
    for n in 1..=3 {
        scene.0["states"][n - 1]["metadata"]["annotations"][SUBNETS] = json!(format!("192.168.{n}.1{n}/16"));
        scene.0["nodes"][n - 1]["status"]["addresses"][0]["address"] = json!(format!("192.168.{n}.1{n}"));
    }
    scene.0["pools"][0]["spec"]["addresses"] = json!(["192.168.10.200-192.168.10.210", "192.168.1.200-192.168.1.210"]);
    assert_eq!(says(&scene.look()), Vec::<String>::new());
    // One that only n1 is on.
    scene.0["states"][0]["metadata"]["annotations"][SUBNETS] = json!("192.168.1.11/16,10.5.0.1/24");
    scene.0["pools"][0]["spec"]["addresses"] = json!(["192.168.10.200-192.168.10.210"]);
    let next =
        json!({"metadata": {"name": "next", "namespace": NAMESPACE}, "spec": {"addresses": ["10.5.0.7-10.5.0.9"]}});
    scene.0["pools"].as_array_mut().expect("a list").push(next);
    let said = says(&scene.look());
    let named = |node: &str| {
        said.iter()
            .any(|line| line.contains(&format!("node {node}")) && line.contains("pool next, which node n1 is in"))
    };
    assert!(named("n2") && named("n3") && said.len() == 2, "{said:?}");
}
