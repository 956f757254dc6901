//! `ConfigMap`s that Ingresses and options name, and that a cluster gives by name only.
#![allow(clippy::unwrap_used, clippy::panic, reason = "a test may panic")]

mod support;

use landfall_ingress_model::compiler::{Built, Compiler};
use landfall_ingress_model::host::HostName;
use landfall_ingress_model::input::Input;
use landfall_ingress_model::path::CanonicalPath;
use landfall_ingress_model::settings::Publish;
use landfall_ingress_model::table::Action;
use landfall_model::{Change, ObjectKey};
use serde_json::{Value, json};
use support::{input, now, settings};

fn map(namespace: &str, name: &str, data: &Value) -> Value {
    json!({
        "apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": name, "namespace": namespace}, "data": data,
    })
}

fn named(namespace: &str, name: &str, data: &Value) -> Input {
    Input::NamedConfigMap(Change::Apply(serde_json::from_value(map(namespace, name, data)).unwrap()))
}

fn missing(built: &Built) -> Vec<String> {
    built.missing_config_maps.iter().map(ToString::to_string).collect()
}

/// The fields that answers of the only route get; `None` where it is out of service.
fn fields(built: &Built) -> Option<Vec<String>> {
    let path = CanonicalPath::parse("/").unwrap();
    let route = built.table.find(Some(&HostName::from_authority("a.example").unwrap()), &path).unwrap();
    let Action::Forward(_) = &route.action else { return None };
    let rules = route.policy.respond.clone().unwrap_or_default();
    Some(rules.set.iter().map(|(name, value)| format!("{name}: {}", value.to_str().unwrap())).collect())
}

#[test]
fn a_config_map_is_asked_for_as_long_as_somebody_names_it_and_counts_once_it_is_there() {
    let mut settings = settings(Publish::Nothing);
    settings.config_map = ObjectKey::parse("landfall/options");
    let mut compiler = Compiler::new(settings);
    let ingress = json!({
        "apiVersion": "networking.k8s.io/v1", "kind": "Ingress",
        "metadata": {
            "name": "web", "namespace": "shop",
            "annotations": {"nginx.ingress.kubernetes.io/custom-headers": "shop/fields"},
        },
        "spec": {
            "ingressClassName": "nginx",
            "defaultBackend": {"service": {"name": "a", "port": {"number": 80}}},
            "rules": [{"host": "a.example"}],
        },
    });
    let options = json!({"add-headers": "landfall/all", "global-allowed-response-headers": "X-One"});
    compiler.apply([input(&ingress), input(&map("landfall", "options", &options))]);
    let built = compiler.build(now());
    assert_eq!(missing(&built), ["landfall/all", "shop/fields"]);
    assert_eq!(fields(&built), None, "what an Ingress asks for and can't be done is not left out");

    compiler.apply([named("shop", "fields", &json!({"X-One": "1"}))]);
    assert_eq!(fields(&compiler.build(now())), Some(vec!["x-one: 1".into()]));
    compiler.apply([named("landfall", "all", &json!({"X-All": "yes"}))]);
    let built = compiler.build(now());
    assert_eq!(fields(&built), Some(vec!["x-all: yes".into(), "x-one: 1".into()]));
    assert_eq!(missing(&built), ["landfall/all", "shop/fields"], "they go on being watched");
    compiler.apply([named("shop", "fields", &json!({"X-One": "2"}))]);
    assert_eq!(fields(&compiler.build(now())), Some(vec!["x-all: yes".into(), "x-one: 2".into()]));

    compiler.apply([Input::Ingress(Change::Delete(ObjectKey::new("shop", "web")))]);
    assert_eq!(missing(&compiler.build(now())), ["landfall/all"]);
}
