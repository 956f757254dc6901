//! Faults that people have, each a change to a cluster that is well: `check` names the object and what to do.

#![allow(clippy::unwrap_used, clippy::panic, reason = "a test fails by panicking")]

mod support;

use std::sync::Arc;
use std::time::Duration;

use landfall_ingress_model::checkup::{Facts, Lookup};
use landfall_ingress_model::compiler::Compiler;
use landfall_ingress_model::input::Input;
use landfall_ingress_model::settings::Publish;
use landfall_model::{Change, Findings, ObjectKey};
use rustls_pki_types::UnixTime;
use serde::de::DeserializeOwned;
use serde_json::{Value, json};
use support::settings;

const NAMESPACE: &str = "landfall-system";

struct Scene(Value);

impl Scene {
    /// An ingress that runs and has an address, and a shop whose pod is Ready.
    fn well() -> Self {
        let part = json!({"app.kubernetes.io/name": "landfall", "app.kubernetes.io/component": "ingress"});
        Self(json!({
            "classes": [{"metadata": {"name": "landfall"}, "spec": {"controller": "landfall.dev/ingress"}}],
            "ingresses": [{"metadata": {"name": "web", "namespace": "shop"},
                "spec": {"ingressClassName": "landfall", "rules": [{"host": "shop.example", "http": {"paths": [
                    {"path": "/", "pathType": "Prefix", "backend": {"service": {"name": "web", "port": {"name": "http"}}}}]}}]},
                "status": {"loadBalancer": {"ingress": [{"ip": "192.168.10.200"}]}}}],
            "services": [
                {"metadata": {"name": "web", "namespace": "shop"}, "spec": {"type": "ClusterIP", "clusterIP": "10.96.0.9",
                    "selector": {"app": "web"}, "ports": [{"name": "http", "port": 80, "targetPort": "web"}]}},
                {"metadata": {"name": "landfall-ingress", "namespace": NAMESPACE}, "spec": {"type": "LoadBalancer", "ports": [{"port": 80}]},
                    "status": {"loadBalancer": {"ingress": [{"ip": "192.168.10.200"}]}}}],
            "slices": [{"metadata": {"name": "web-1", "namespace": "shop", "labels": {"kubernetes.io/service-name": "web"}},
                "addressType": "IPv4", "ports": [{"name": "http", "port": 8080}],
                "endpoints": [{"addresses": ["10.244.0.5"], "conditions": {"ready": true}}]}],
            "pods": [
                {"metadata": {"name": "web-1", "namespace": "shop", "labels": {"app": "web"}},
                    "spec": {"containers": [{"name": "web", "ports": [{"name": "web", "containerPort": 8080}]}]},
                    "status": {"podIP": "10.244.0.5", "conditions": [{"type": "Ready", "status": "True"}]}},
                {"metadata": {"name": "i-1", "namespace": NAMESPACE, "labels": part},
                    "spec": {"containers": []},
                    "status": {"podIP": "10.244.0.9", "conditions": [{"type": "Ready", "status": "True"}]}}],
            "namespaces": [{"metadata": {"name": "shop"}}, {"metadata": {"name": NAMESPACE, "labels": {"team": "edge"}}}],
            "policies": [],
            "deployments": [{"metadata": {"name": "landfall-ingress", "namespace": NAMESPACE, "labels": part},
                "spec": {"selector": {}, "template": {"metadata": {}, "spec": {"containers": []}}, "replicas": 1},
                "status": {"readyReplicas": 1}}],
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

    fn look(&self, lookups: &[(&str, Lookup)]) -> Findings {
        let facts = Facts {
            namespace: NAMESPACE.to_owned(),
            own: None,
            classes: self.list("classes"),
            ingresses: self.list("ingresses"),
            services: self.list("services"),
            pods: Some(self.list("pods")),
            namespaces: self.list("namespaces"),
            policies: self.list("policies"),
            deployments: self.list("deployments"),
            daemon_sets: self.list("daemon_sets"),
            publish_service: Some(ObjectKey::new(NAMESPACE, "landfall-ingress")),
            reads_secrets: true,
        };
        let mut compiler = Compiler::new(settings(Publish::Nothing));
        compiler.apply([
            Input::IngressClass(Change::Replace(facts.classes.clone())),
            Input::Ingress(Change::Replace(facts.ingresses.clone())),
            Input::Service(Change::Replace(facts.services.clone())),
            Input::EndpointSlice(Change::Replace(self.list("slices"))),
            Input::Secret(Change::Replace(self.list("secrets"))),
        ]);
        let built = compiler.build(UnixTime::since_unix_epoch(Duration::from_hours(500_000)));
        let mut findings = facts.judge(&built, &settings(Publish::Nothing));
        let lookups = lookups.iter().map(|(host, lookup)| ((*host).to_owned(), lookup.clone())).collect();
        findings.extend(facts.judge_names(&built, &lookups));
        findings
    }
}

fn says(findings: &Findings) -> Vec<String> {
    findings.problems().map(|problem| format!("{problem} [{}]", problem.reason)).collect()
}

/// Asserts that `reason` is said of `object`, with what to do.
fn named(found: &Findings, object: &str, reason: &str, what: &str) {
    let problem = found.problems().find(|one| one.object.to_string() == object && one.reason.as_str() == reason);
    let problem = problem.unwrap_or_else(|| panic!("{what}: no {reason} of {object} in\n{found}"));
    assert!(!problem.remedy.is_empty(), "{problem}");
}

#[test]
fn a_cluster_that_is_well_has_no_problem() {
    let found = Scene::well().look(&[("shop.example", Lookup::Addresses(vec![[192, 168, 10, 200].into()]))]);
    assert_eq!(says(&found), Vec::<String>::new());
    assert!(found.iter().count() >= 7, "{found}");
}

/// Where the fault is put in, what stands there then, and what is said of it: object and reason.
type Row = (&'static str, Value, &'static str, &'static str);

fn rows() -> Vec<Row> {
    let crash = json!({"containerStatuses": [{"name": "web", "ready": false, "restartCount": 3, "image": "", "imageID": "",
        "state": {"waiting": {"reason": "CrashLoopBackOff"}}}]});
    let tls = |host: &str| json!([{"hosts": [host], "secretName": "cert"}]);
    let deny = |spec: Value| json!([{"metadata": {"name": "deny", "namespace": "shop"}, "spec": spec}]);
    let nginx = json!([{"metadata": {"name": "ingress-nginx-controller", "namespace": "ingress-nginx",
        "labels": {"app.kubernetes.io/name": "ingress-nginx"}}, "spec": {"selector": {}, "template": {}}, "status": {}}]);
    vec![
        ("/services/0/spec/selector/app", json!("wbe"), "service shop/web", "NoMatchingPods"),
        ("/pods/0/status", crash, "pod shop/web-1", "PodsNotReady"),
        ("/pods/0/status", json!({"conditions": []}), "pod shop/web-1", "PodsNotReady"),
        ("/services/0/spec/ports/0/targetPort", json!("http"), "service shop/web", "UnknownTargetPort"),
        ("/services/0/spec/ports/0/targetPort", json!(80), "service shop/web", "UnknownTargetPort"),
        ("/services/0/spec/ports/0/name", json!("web"), "ingress shop/web", "UnknownPort"),
        ("/services/0/metadata/name", json!("wbe"), "ingress shop/web", "UnknownService"),
        ("/slices", json!([]), "service shop/web", "NoEndpoints"),
        ("/ingresses/0/spec/ingressClassName", json!("landfal"), "ingress shop/web", "UnknownIngressClass"),
        ("/ingresses/0/spec/ingressClassName", Value::Null, "ingress shop/web", "NoIngressClass"),
        ("/ingresses/0/spec/tls", tls("shop.example"), "ingress shop/web", "UnknownSecret"),
        ("/policies", deny(json!({"podSelector": {}})), "networkpolicy shop/deny", "BlockedByPolicy"),
        (
            "/policies",
            deny(json!({"podSelector": {"matchLabels": {"app": "web"}}, "policyTypes": ["Ingress"],
            "ingress": [{"from": [{"podSelector": {}}]}]})),
            "networkpolicy shop/deny",
            "BlockedByPolicy",
        ),
        (
            "/policies",
            deny(json!({"podSelector": {}, "ingress": [{"ports": [{"port": 80}]}]})),
            "networkpolicy shop/deny",
            "BlockedByPolicy",
        ),
        (
            "/policies",
            json!([{"metadata": {"name": "shut", "namespace": NAMESPACE}, "spec": {"podSelector": {},
            "policyTypes": ["Egress"], "egress": [{"ports": [{"port": 53, "protocol": "UDP"}]}]}}]),
            "networkpolicy landfall-system/shut",
            "BlockedByPolicy",
        ),
        ("/services/1/status", json!({}), "service landfall-system/landfall-ingress", "NoAddress"),
        ("/services/1/metadata/name", json!("other"), "service landfall-system/landfall-ingress", "NoAddress"),
        ("/classes", json!([]), "ingressclass landfall", "NoClass"),
        ("/deployments/0/status/readyReplicas", json!(0), "deployment landfall-system/landfall-ingress", "NotRunning"),
        ("/daemon_sets", nginx, "daemonset ingress-nginx/ingress-nginx-controller", "Rival"),
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
        named(&scene.look(&[]), object, reason, &format!("{place} = {value}"));
    }
}

#[test]
fn policies_that_let_the_ingress_through_are_no_problem() {
    let from = |peer: Value| json!({"podSelector": {}, "ingress": [{"from": [peer], "ports": [{"port": "web"}]}]});
    let rows = [
        from(json!({"namespaceSelector": {"matchLabels": {"kubernetes.io/metadata.name": NAMESPACE}}})),
        from(
            json!({"namespaceSelector": {"matchExpressions": [{"key": "team", "operator": "In", "values": ["edge"]}]},
            "podSelector": {"matchLabels": {"app.kubernetes.io/component": "ingress"}}}),
        ),
        from(json!({"ipBlock": {"cidr": "10.244.0.0/16", "except": ["10.244.0.5/32"]}})),
        json!({"podSelector": {}, "ingress": [{}]}),
        json!({"podSelector": {}, "ingress": [{"ports": [{"port": 8000, "endPort": 8100, "protocol": "TCP"}]}]}),
        json!({"podSelector": {"matchLabels": {"app": "db"}}}),
        json!({"podSelector": {}, "policyTypes": ["Egress"]}),
    ];
    for spec in rows {
        let mut scene = Scene::well();
        scene.0["policies"] = json!([{"metadata": {"name": "p", "namespace": "shop"}, "spec": spec}]);
        assert_eq!(says(&scene.look(&[])), Vec::<String>::new(), "{spec}");
    }
}

#[test]
fn several_policies_allow_what_one_of_them_allows() {
    let mut scene = Scene::well();
    let policy = |name: &str, spec: Value| json!({"metadata": {"name": name, "namespace": "shop"}, "spec": spec});
    scene.0["policies"] = json!([
        policy("deny", json!({"podSelector": {}})),
        policy("allow", json!({"podSelector": {}, "ingress": [{"from": [{"namespaceSelector": {}}]}]})),
    ]);
    assert_eq!(says(&scene.look(&[])), Vec::<String>::new());
}

#[test]
fn what_the_dns_says_is_compared_with_the_address() {
    let scene = Scene::well();
    let elsewhere = scene.look(&[("shop.example", Lookup::Addresses(vec![[203, 0, 113, 7].into()]))]);
    named(&elsewhere, "ingress shop/web", "DnsElsewhere", "another address");
    assert!(!elsewhere.fails(), "a router may forward: {elsewhere}");
    named(&scene.look(&[("shop.example", Lookup::Missing)]), "ingress shop/web", "DnsMissing", "no address");
    let failed = scene.look(&[("shop.example", Lookup::Failed("timed out".into()))]);
    assert_eq!(says(&failed), Vec::<String>::new());
    assert!(failed.to_string().contains("timed out"), "{failed}");
}

#[test]
fn what_must_not_be_read_is_said_and_is_no_fault() {
    let facts = Facts { namespace: NAMESPACE.to_owned(), ..Facts::default() };
    let mut compiler = Compiler::new(settings(Publish::Nothing));
    let built = compiler.build(UnixTime::since_unix_epoch(Duration::from_secs(1)));
    let found = facts.judge(&built, &settings(Publish::Nothing));
    assert!(!found.fails(), "{found}");
    assert!(found.to_string().contains("you may not list Secrets"), "{found}");
}

#[test]
fn a_deployment_without_replicas_is_named_where_its_pods_are_missing() {
    let mut scene = Scene::well();
    scene.0["pods"][0]["metadata"]["namespace"] = json!("elsewhere");
    let idle = json!({"metadata": {"name": "web", "namespace": "shop"}, "spec": {"replicas": 0, "selector": {},
        "template": {"metadata": {"labels": {"app": "web", "tier": "front"}}}}});
    scene.0["deployments"].as_array_mut().expect("a list").push(idle);
    let found = scene.look(&[]);
    named(&found, "service shop/web", "NoMatchingPods", "no replica");
    assert!(found.to_string().contains("kubectl -n shop scale deployment web --replicas=1"), "{found}");
}

#[test]
fn an_ingress_that_is_left_to_others_is_named_until_one_serves_it() {
    let mut scene = Scene::well();
    let class = |name: &str, controller: &str| json!({"metadata": {"name": name}, "spec": {"controller": controller}});
    scene.0["classes"] =
        json!([class("landfall", "landfall.dev/ingress"), class("public", "traefik.io/ingress-controller")]);
    scene.0["ingresses"][0]["spec"]["ingressClassName"] = json!("public");
    assert_eq!(says(&scene.look(&[])), Vec::<String>::new(), "it has an address");
    scene.0["ingresses"][0]["status"] = json!({});
    let found = scene.look(&[]);
    named(&found, "ingress shop/web", "ClassNotServed", "nobody has served it");
    assert!(!found.fails() && found.to_string().contains("set it to landfall"), "{found}");
}
