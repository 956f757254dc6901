//! Annotations of an Ingress: each line of the input is a name of ours and a value, `auth-url http://a/`.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::{Duration, Instant};

use http::{HeaderMap, HeaderValue, Method, StatusCode, Version};
use k8s_openapi::api::core::v1::{ConfigMap, Secret, Service};
use k8s_openapi::api::discovery::v1::EndpointSlice;
use k8s_openapi::api::networking::v1::Ingress;
use landfall_ingress_model::acme::ask::Asking;
use landfall_ingress_model::acme::challenges::Challenges;
use landfall_ingress_model::backend::AllInUse;
use landfall_ingress_model::compiler::{Built, Compiler};
use landfall_ingress_model::fields::{Fields, HeaderEdits};
use landfall_ingress_model::input::Input;
use landfall_ingress_model::pipeline::{Connection, Decision, Live, Opinion, PipelineSettings, RequestHead, decide};
use landfall_ingress_model::policy::Unlimited;
use landfall_ingress_model::settings::{ExternalNames, HostOwnership, Origin, Publish, Settings};
use landfall_model::Change;
use rustls_pki_types::UnixTime;
use serde_json::{Value, json};

const PREFIX: &str = "nginx.ingress.kubernetes.io/";

pub(crate) fn run(bytes: &[u8]) {
    let text = String::from_utf8_lossy(bytes);
    let lines = text.lines().filter_map(|line| line.split_once(' '));
    let all: BTreeMap<String, String> =
        lines.take(12).map(|(name, value)| (format!("{PREFIX}{name}"), value.to_owned())).collect();
    for class in ["nginx", "landfall"] {
        let mut changed = compiler();
        changed.apply([ingress("noisy", class, &BTreeMap::new())]);
        let before = changed.build(now());
        changed.apply([ingress("noisy", class, &all)]);
        let built = changed.build(now());
        let mut fresh = compiler();
        fresh.apply([ingress("noisy", class, &all)]);
        same(&built, &fresh.build(now()));
        for problem in built.problems.iter() {
            assert!(!problem.cause.is_empty() && problem.object.key.name() == "noisy", "{}", problem.message());
        }
        assert!(is_served(&ask(&before, "quiet.example", "/")), "the neighbour is served before");
        assert!(is_served(&ask(&built, "quiet.example", "/")), "the neighbour is served");
        for target in ["/", "/app/a%20b?c=d&e", "/app"] {
            drop(ask(&built, "noisy.example", target));
        }
    }
}

/// Whether a history leaves nothing behind.
fn same(one: &Built, other: &Built) {
    assert_eq!(one.problems, other.problems);
    assert_eq!(format!("{:?}", one.ingresses), format!("{:?}", other.ingresses));
    for host in ["noisy.example", "quiet.example", "www.noisy.example"] {
        let ours = landfall_ingress_model::host::HostName::from_authority(host).unwrap();
        let path = landfall_ingress_model::path::CanonicalPath::parse("/app").unwrap();
        let policy = |built: &Built| built.table.find(Some(&ours), &path).map(|route| format!("{:?}", route.policy));
        assert_eq!(policy(one), policy(other));
    }
}

fn is_served(decision: &Decision) -> bool {
    matches!(decision, Decision::Forward(forward) if forward.backend.key.service.name() == "quiet")
}

/// What becomes of a request, followed as far as the model goes.
fn ask(built: &Built, host: &str, target: &str) -> Decision {
    let mut headers = HeaderMap::new();
    headers.insert("host", HeaderValue::from_str(host).unwrap());
    headers.insert("authorization", HeaderValue::from_static("Basic YTpi"));
    headers.insert("cookie", HeaderValue::from_static("canary=always; route=x"));
    headers.insert("origin", HeaderValue::from_static("https://other.example"));
    let fields = Fields::from(&headers);
    let method = Method::GET;
    let head = RequestHead { method: &method, version: Version::HTTP_11, target, authority: None, headers: &fields };
    let address = "192.0.2.1:80".parse().unwrap();
    let connection = Connection { client: address, peer: address, local: address, destination: None, tls: None };
    let live = Live {
        dice: 7,
        now: 1_780_000_000,
        instant: Instant::now(),
        limiter: &Unlimited,
        challenges: &Challenges::default(),
        ejections: &AllInUse,
        trace: None,
    };
    let id = HeaderValue::from_static("id");
    let decide = || decide(&head, &connection, &built.table, &PipelineSettings::default(), &id, &live);
    match decide() {
        Decision::Forward(forward) => {
            let mut edits = HeaderEdits::default();
            forward.respond(StatusCode::OK, &fields, &mut edits);
            forward.edits.apply(&mut headers.clone());
            assert!(forward.target.starts_with('/') || forward.target == "*", "{:?}", forward.target);
        }
        Decision::Ask(asked) => {
            let _ = asked.question(false);
            let opinion = Opinion { status: StatusCode::UNAUTHORIZED, fields: headers.clone() };
            let _ = asked.kept_for(&opinion);
            let _ = asked.conclude(false, Some(&opinion), &fields, &id);
        }
        Decision::Answer(..) => {}
    }
    decide()
}

fn read<K: serde::de::DeserializeOwned>(object: Value) -> Change<K> {
    Change::Apply(Arc::new(serde_json::from_value(object).unwrap()))
}

fn ingress(name: &str, class: &str, annotations: &BTreeMap<String, String>) -> Input {
    let path =
        json!({"path": "/app", "pathType": "Prefix", "backend": {"service": {"name": name, "port": {"number": 80}}}});
    let root =
        json!({"path": "/", "pathType": "Prefix", "backend": {"service": {"name": name, "port": {"number": 80}}}});
    let rule = json!({"host": format!("{name}.example"), "http": {"paths": [path, root]}});
    Input::Ingress(read::<Ingress>(json!({
        "metadata": {"name": name, "namespace": name, "annotations": annotations},
        "spec": {"ingressClassName": class, "rules": [rule]},
    })))
}

/// Two tenants: one with an Ingress of its own, and the one whose annotations are to be tried.
fn compiler() -> Compiler {
    let mut compiler = Compiler::new(settings());
    for name in ["quiet", "noisy"] {
        let meta = json!({"name": name, "namespace": name});
        let service = json!({"metadata": meta, "spec": {"clusterIP": "10.0.0.1", "ports": [{"port": 80}]}});
        let labels = json!({"kubernetes.io/service-name": name});
        let slice = json!({
            "metadata": {"name": name, "namespace": name, "labels": labels}, "addressType": "IPv4",
            "endpoints": [{"addresses": ["10.1.0.1"]}], "ports": [{"port": 8080}],
        });
        let secret = json!({"metadata": meta, "stringData": {"auth": "a:{PLAIN}b"}});
        let map = json!({"metadata": meta, "data": {"X-A": "$host", "X-B": "b"}});
        compiler.apply([
            Input::Service(read::<Service>(service)),
            Input::EndpointSlice(read::<EndpointSlice>(slice)),
            Input::Secret(read::<Secret>(secret)),
            Input::ConfigMap(read::<ConfigMap>(map)),
        ]);
    }
    compiler.apply([ingress("quiet", "landfall", &BTreeMap::new())]);
    compiler
}

/// 2026-06-01T00:00:00Z
pub(crate) fn now() -> UnixTime {
    UnixTime::since_unix_epoch(Duration::from_hours(494_520))
}

pub(crate) fn settings() -> Settings {
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
        asking: Asking::Off,
        origin: Origin::Folder,
        secret_namespaces: Vec::new(),
        host_ownership: HostOwnership::None,
        external_names: ExternalNames::Outside,
        cluster_domain: "cluster.local".into(),
        publish: Publish::Nothing,
        crypto: Arc::new(rustls::crypto::aws_lc_rs::default_provider()),
    }
}
