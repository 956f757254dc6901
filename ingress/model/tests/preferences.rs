//! How endpoints of a Service are chosen: in class nginx its oldest Ingress decides, in class landfall each for itself.
#![allow(clippy::unwrap_used, clippy::panic, reason = "a test may panic")]

mod support;

use landfall_ingress_model::backend::Balance;
use landfall_ingress_model::compiler::{Built, Compiler};
use landfall_ingress_model::host::HostName;
use landfall_ingress_model::input::Input;
use landfall_ingress_model::path::CanonicalPath;
use landfall_ingress_model::settings::Publish;
use landfall_ingress_model::table::Action;
use landfall_model::{Change, ObjectKey};
use serde_json::{Map, Value, json};
use support::{input, now, settings};

fn ingress(class: &str, name: &str, created: u32, annotations: &[(&str, &str)]) -> Input {
    let annotations: Map<String, Value> = annotations
        .iter()
        .map(|(name, value)| (format!("nginx.ingress.kubernetes.io/{name}"), Value::from(*value)))
        .collect();
    let path =
        json!({"path": "/", "pathType": "Prefix", "backend": {"service": {"name": "a", "port": {"number": 80}}}});
    input(&json!({
        "apiVersion": "networking.k8s.io/v1", "kind": "Ingress",
        "metadata": {
            "name": name, "namespace": "shop", "annotations": annotations,
            "creationTimestamp": format!("2026-01-01T00:00:{created:02}Z"),
        },
        "spec": {"ingressClassName": class, "rules": [{"host": format!("{name}.example"), "http": {"paths": [path]}}]},
    }))
}

fn compiler(class: &str) -> Compiler {
    let mut settings = settings(Publish::Nothing);
    settings.config_map = ObjectKey::parse("landfall/options");
    let mut compiler = Compiler::new(settings);
    let service = json!({
        "apiVersion": "v1", "kind": "Service", "metadata": {"name": "a", "namespace": "shop"},
        "spec": {"clusterIP": "10.96.0.1", "selector": {"app": "a"}, "ports": [{"port": 80}]},
    });
    compiler.apply([input(&service), ingress(class, "old", 1, &[])]);
    compiler
}

/// The choice that holds for a host, as the data path takes it: the method, and whether there is a key.
fn choice(built: &Built, name: &str) -> (Balance, bool) {
    for (backend, state) in &built.backends {
        backend.publish(state.clone());
    }
    let host = HostName::from_authority(&format!("{name}.example")).unwrap();
    let route = built.table.find(Some(&host), &CanonicalPath::parse("/").unwrap()).unwrap();
    let Action::Forward(backend) = &route.action else { panic!("{name} is not served") };
    let state = backend.state();
    let own = route.policy.hash_by.is_some();
    (route.policy.balance.unwrap_or(state.balance), own || state.hash_by.is_some())
}

fn fields(built: &Built) -> Vec<String> {
    let of_choice = built.problems.iter().filter(|problem| problem.field.contains("nginx.ingress"));
    of_choice.map(|problem| format!("{} {}", problem.object.key, problem.field)).collect()
}

#[test]
fn the_oldest_ingress_of_class_nginx_decides_for_the_service_even_by_saying_nothing() {
    let mut compiler = compiler("nginx");
    compiler.apply([ingress("nginx", "new", 2, &[("upstream-hash-by", "$request_uri")])]);
    let built = compiler.build(now());
    assert_eq!(choice(&built, "new"), (Balance::RoundRobin, false));
    assert_eq!(fields(&built), ["shop/new metadata.annotations[nginx.ingress.kubernetes.io/upstream-hash-by]"]);

    compiler.apply([ingress("nginx", "old", 1, &[("load-balance", "ewma")])]);
    let built = compiler.build(now());
    assert_eq!(choice(&built, "new"), (Balance::Ewma, false));
    assert_eq!(choice(&built, "old"), (Balance::Ewma, false));

    compiler.apply([Input::Ingress(Change::Delete(ObjectKey::new("shop", "old")))]);
    let built = compiler.build(now());
    assert_eq!(choice(&built, "new"), (Balance::RoundRobin, true), "the one that is left decides");
    assert_eq!(fields(&built), [""; 0]);

    compiler.apply([Input::Ingress(Change::Delete(ObjectKey::new("shop", "new"))), ingress("nginx", "old", 1, &[])]);
    assert_eq!(choice(&compiler.build(now()), "old"), (Balance::RoundRobin, false));
}

#[test]
fn each_ingress_of_class_landfall_decides_for_itself() {
    let mut compiler = compiler("landfall");
    let asked = [("upstream-hash-by", "$request_uri"), ("load-balance", "ewma")];
    compiler.apply([ingress("landfall", "new", 2, &asked)]);
    let built = compiler.build(now());
    assert_eq!(choice(&built, "new"), (Balance::Ewma, true));
    assert_eq!(choice(&built, "old"), (Balance::RoundRobin, false));
    assert_eq!(fields(&built), [""; 0]);
}

#[test]
fn the_options_say_how_endpoints_are_chosen_where_no_ingress_does() {
    let mut compiler = compiler("nginx");
    let options = |method: &str| {
        input(&json!({
            "apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": "options", "namespace": "landfall"},
            "data": {"load-balance": method},
        }))
    };
    assert_eq!(choice(&compiler.build(now()), "old"), (Balance::RoundRobin, false));
    compiler.apply([options("ewma")]);
    assert_eq!(choice(&compiler.build(now()), "old"), (Balance::Ewma, false));
    compiler.apply([ingress("nginx", "old", 1, &[("load-balance", "round_robin")])]);
    assert_eq!(choice(&compiler.build(now()), "old"), (Balance::RoundRobin, false));
    compiler.apply([ingress("nginx", "old", 1, &[]), options("least_time")]);
    let built = compiler.build(now());
    assert_eq!(choice(&built, "old"), (Balance::RoundRobin, false));
    assert!(built.problems.iter().any(|problem| &*problem.field == "data[load-balance]"));
}
