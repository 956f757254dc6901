//! Objects and settings for tests of the compiler.

#![allow(dead_code, unreachable_pub, reason = "each test uses a part of this")]

use std::sync::{Arc, OnceLock};
use std::time::Duration;

use landfall_ingress_model::acme::ask::Asking;
use landfall_ingress_model::input::Input;
use landfall_ingress_model::settings::{ExternalNames, HostOwnership, Origin, Publish, Settings};
use landfall_model::{Change, ObjectKey};
use rcgen::{CertificateParams, KeyPair, date_time_ymd};
use rustls_pki_types::UnixTime;
use serde::de::DeserializeOwned;
use serde_json::Value;

/// 2026-06-01T00:00:00Z
pub fn now() -> UnixTime {
    UnixTime::since_unix_epoch(Duration::from_hours(494_520))
}

/// The settings of a cluster.
pub fn settings(publish: Publish) -> Settings {
    Settings {
        controller_classes: vec!["landfall.dev/ingress".into(), "k8s.io/ingress-nginx".into()],
        ingress_classes: vec!["landfall".into(), "nginx".into()],
        watch_without_class: false,
        default_certificate: None,
        default_backend: None,
        config_map: None,
        tcp_services: None,
        udp_services: None,
        reserved_ports: [80, 443, 10254].into(),
        disable_catch_all: false,
        ssl_passthrough: true,
        origin: Origin::Cluster,
        secret_namespaces: Vec::new(),
        host_ownership: HostOwnership::None,
        external_names: ExternalNames::Outside,
        cluster_domain: "cluster.local".into(),
        asking: Asking::Off,
        publish,
        crypto: Arc::new(rustls::crypto::aws_lc_rs::default_provider()),
    }
}

/// Namespace and name.
pub fn key_of(object: &Value) -> ObjectKey {
    let meta = &object["metadata"];
    ObjectKey::new(meta["namespace"].as_str().unwrap_or_default(), meta["name"].as_str().unwrap_or_default())
}

fn read<K: DeserializeOwned>(object: &Value) -> Arc<K> {
    Arc::new(K::deserialize(object).unwrap_or_else(|error| panic!("{error}: {object}")))
}

/// A change that applies one object.
pub fn input(object: &Value) -> Input {
    match object["kind"].as_str().unwrap_or_default() {
        "Ingress" => Input::Ingress(Change::Apply(read(object))),
        "IngressClass" => Input::IngressClass(Change::Apply(read(object))),
        "Service" => Input::Service(Change::Apply(read(object))),
        "EndpointSlice" => Input::EndpointSlice(Change::Apply(read(object))),
        "Endpoints" => Input::Endpoints(Change::Apply(read(object))),
        "Secret" => Input::Secret(Change::Apply(read(object))),
        "ConfigMap" => Input::ConfigMap(Change::Apply(read(object))),
        "Node" => Input::Node(Change::Apply(read(object))),
        "Pod" => Input::Pod(Change::Apply(read(object))),
        other => panic!("no test needs a {other}"),
    }
}

/// A change that replaces all objects of a kind.
pub fn replace(kind: &str, objects: &[Value]) -> Input {
    fn all<K: DeserializeOwned>(objects: &[Value]) -> Change<K> {
        Change::Replace(objects.iter().map(read).collect())
    }
    match kind {
        "Ingress" => Input::Ingress(all(objects)),
        "IngressClass" => Input::IngressClass(all(objects)),
        "Service" => Input::Service(all(objects)),
        "EndpointSlice" => Input::EndpointSlice(all(objects)),
        "Endpoints" => Input::Endpoints(all(objects)),
        "Secret" => Input::Secret(all(objects)),
        other => panic!("no test needs a {other}"),
    }
}

/// A certificate and its key in PEM form, valid in the given years.
pub fn certificate(names: &[&str], from: i32, until: i32) -> (String, String) {
    let names: Vec<String> = names.iter().map(|name| (*name).to_owned()).collect();
    let mut params = CertificateParams::new(names).unwrap();
    params.not_before = date_time_ymd(from, 1, 1);
    params.not_after = date_time_ymd(until, 1, 1);
    let key = KeyPair::generate().unwrap();
    (params.self_signed(&key).unwrap().pem(), key.serialize_pem())
}

/// Good and bad pairs of certificate and key.
pub fn certificates() -> &'static [(String, String)] {
    static PAIRS: OnceLock<Vec<(String, String)>> = OnceLock::new();
    PAIRS.get_or_init(|| {
        let good = certificate(&["a.ex", "*.a.ex"], 2026, 2027);
        let other = certificate(&["a.ex", "b.ex", "*.ex"], 2026, 2028);
        let mismatch = (good.0.clone(), other.1.clone());
        let broken = ("-----BEGIN CERTIFICATE-----".to_owned(), good.1.clone());
        vec![good, other, mismatch, broken, certificate(&["a.ex"], 2020, 2021), certificate(&["a.ex"], 2030, 2031)]
    })
}
