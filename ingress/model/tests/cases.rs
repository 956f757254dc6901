//! Rules of the specification as YAML: objects, requests and what they get, problems and what they name.
//!
//! Each file in `tests/cases/` holds an `expect` document and then ordinary Kubernetes objects:
//!
//! ```yaml
//! rule: the sentence that is tested
//! requests:
//!   # the backend, or the status of our own answer; where it matters, the endpoints and the protocol to them
//!   - {ask: http://foo.example/foo, gets: default/foo:80, endpoints: [10.0.0.1:8080], speaks: Http}
//! problems:
//!   - {reason: UnknownService, object: Ingress default/foo, field: "spec.rules[0]…"}   # exactly these
//! ```
//!
//! A request may say `from`, the client's address, `through`, its `X-Forwarded-For`, and `with`, further fields of it;
//! `target` is what the backend is asked for, `backend` has fields that it gets and `lacks` names of others, `client`
//! has fields of the answer (to 200 of the backend). `settings` may say `folder`, `watch_without_class`,
//! `default_backend`, `external_names`, `host_ownership`, `trusted_proxies`, and `config_map`, which then is
//! `default/options`.
//!
//! A document with `table` instead makes one Ingress a row, as the tables of the Kubernetes documentation do.

#![allow(clippy::unwrap_used, clippy::panic, reason = "a test fails by panicking")]

mod support;

use std::collections::{BTreeMap, BTreeSet};
use std::net::{IpAddr, SocketAddr};
use std::path::{Path, PathBuf};
use std::sync::Arc;

use http::{HeaderMap, HeaderValue, Method, StatusCode, Uri, Version};
use landfall_ingress_model::acme::challenges::Challenges;
use landfall_ingress_model::backend::{AllInUse, BackendState, Target};
use landfall_ingress_model::compiler::Compiler;
use landfall_ingress_model::fields::{Fields, HeaderEdits};
use landfall_ingress_model::input::Input;
use landfall_ingress_model::pipeline::{
    Connection, Decision, Live, PipelineSettings, RequestHead, Tls, TlsSession, decide,
};
use landfall_ingress_model::policy::Unlimited;
use landfall_ingress_model::settings::{ExternalNames, HostOwnership, Origin, Publish};
use landfall_ingress_model::table::Table;
use landfall_model::ObjectKey;
use serde::Deserialize;
use serde_json::{Value, json};
use support::{input, now, settings};

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Expect {
    rule: String,
    #[serde(default)]
    settings: With,
    #[serde(default)]
    requests: Vec<Asked>,
    #[serde(default)]
    problems: Vec<Expected>,
    #[serde(default)]
    table: Vec<Row>,
}

/// What differs from the settings of a cluster.
#[derive(Deserialize, Default)]
#[serde(deny_unknown_fields, default)]
#[expect(clippy::struct_excessive_bools, reason = "each is a setting of its own")]
struct With {
    folder: bool,
    watch_without_class: bool,
    default_backend: Option<String>,
    external_names: Option<String>,
    host_ownership: bool,
    trusted_proxies: Vec<String>,
    config_map: bool,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Asked {
    ask: String,
    gets: Value,
    endpoints: Option<Vec<String>>,
    speaks: Option<String>,
    from: Option<IpAddr>,
    through: Option<String>,
    #[serde(default)]
    with: BTreeMap<String, String>,
    target: Option<String>,
    #[serde(default)]
    backend: Vec<String>,
    #[serde(default)]
    lacks: Vec<String>,
    #[serde(default)]
    client: Vec<String>,
}

#[derive(Deserialize, PartialEq, Eq, PartialOrd, Ord, Debug)]
#[serde(deny_unknown_fields)]
struct Expected {
    reason: String,
    object: String,
    #[serde(default)]
    field: String,
}

/// A row of the documentation's table: paths of one Ingress, a request, and the path that takes it.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Row {
    kinds: Vec<String>,
    paths: Vec<String>,
    request: String,
    takes: Option<usize>,
}

#[test]
fn every_case_holds() {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/cases");
    let mut files: Vec<PathBuf> = std::fs::read_dir(folder).unwrap().map(|entry| entry.unwrap().path()).collect();
    files.sort();
    assert!(!files.is_empty());
    for file in files {
        check(&file);
    }
}

fn check(file: &Path) {
    let name = file.file_name().unwrap().to_string_lossy().into_owned();
    let text = std::fs::read_to_string(file).unwrap();
    let mut documents = text.split("\n---\n");
    let expect: Expect = serde_saphyr::from_str(documents.next().unwrap()).unwrap_or_else(|e| panic!("{name}: {e}"));
    for (index, row) in expect.table.iter().enumerate() {
        check_row(&format!("{name}, row {index}"), row);
    }
    let inputs = documents.enumerate().map(|(index, document)| {
        let object: Value = serde_saphyr::from_str(document).unwrap_or_else(|e| panic!("{name}: {e}"));
        input(&with_age(object, index))
    });
    let (table, problems) = build(&expect.settings, inputs.collect());
    for asked in &expect.requests {
        let expected = asked.gets.as_str().map_or_else(|| asked.gets.to_string(), str::to_owned);
        let Found { gets: found, state, target, backend, client } = answer(&table, asked, &expect.settings);
        let place = format!("{name} ({}): {}\n{problems:#?}", expect.rule, asked.ask);
        assert_eq!(found, expected, "{place}");
        assert!(asked.target.is_none() || asked.target == target, "{target:?} {place}");
        for line in &asked.backend {
            assert!(backend.contains(line), "{line} is not in {backend:?} {place}");
        }
        for name in &asked.lacks {
            let prefix = format!("{name}: ");
            assert!(!backend.iter().any(|line| line.starts_with(&prefix)), "{name} is in {backend:?} {place}");
        }
        for line in &asked.client {
            assert!(client.contains(line), "{line} is not in {client:?} {place}");
        }
        if let Some(speaks) = &asked.speaks {
            assert_eq!(state.as_ref().map(|state| format!("{:?}", state.protocol)).as_ref(), Some(speaks), "{place}");
        }
        if let Some(endpoints) = &asked.endpoints {
            assert_eq!(&targets(state.as_deref()), endpoints, "{place}");
        }
    }
    let found: BTreeSet<_> = problems.into_iter().collect();
    let wanted: BTreeSet<_> = expect.problems.into_iter().collect();
    assert_eq!(found, wanted, "{name} ({})", expect.rule);
}

fn check_row(name: &str, row: &Row) {
    let paths = row.paths.iter().enumerate().map(|(index, path)| {
        let kind = &row.kinds[index.min(row.kinds.len() - 1)];
        json!({"path": path, "pathType": kind, "backend": {"service": {"name": format!("s{index}"), "port": {"number": 80}}}})
    });
    let ingress = json!({
        "apiVersion": "networking.k8s.io/v1", "kind": "Ingress", "metadata": {"name": "row", "namespace": "default"},
        "spec": {"ingressClassName": "landfall", "rules": [{"http": {"paths": paths.collect::<Vec<_>>()}}]},
    });
    let mut inputs = vec![input(&ingress)];
    for index in 0..row.paths.len() {
        inputs.extend(service(&format!("s{index}")));
    }
    let (table, problems) = build(&With::default(), inputs);
    let expected = row.takes.map_or("404".into(), |index| format!("default/s{index}:80"));
    let ask = format!("http://any.example{}", row.request);
    let asked: Asked = serde_json::from_value(json!({"ask": ask, "gets": null})).unwrap();
    assert_eq!(answer(&table, &asked, &With::default()).gets, expected, "{name}\n{problems:#?}");
}

/// A Service with one ready endpoint.
fn service(name: &str) -> [Input; 2] {
    let service = json!({
        "apiVersion": "v1", "kind": "Service", "metadata": {"name": name, "namespace": "default"},
        "spec": {"clusterIP": "10.96.0.1", "ports": [{"port": 80}]},
    });
    let slice = json!({
        "apiVersion": "discovery.k8s.io/v1", "kind": "EndpointSlice", "addressType": "IPv4",
        "metadata": {"name": name, "namespace": "default", "labels": {"kubernetes.io/service-name": name}},
        "endpoints": [{"addresses": ["10.0.0.1"]}], "ports": [{"port": 8080}],
    });
    [input(&service), input(&slice)]
}

/// Objects are as old as their place in the file, unless they say.
fn with_age(mut object: Value, index: usize) -> Value {
    let is_class = object["kind"] == "IngressClass";
    let meta = object.as_object_mut().unwrap().entry("metadata").or_insert_with(|| json!({}));
    let meta = meta.as_object_mut().unwrap();
    meta.entry("creationTimestamp").or_insert_with(|| json!(format!("2026-01-01T00:00:{index:02}Z")));
    if !is_class {
        meta.entry("namespace").or_insert_with(|| json!("default"));
    }
    object
}

/// The table and the problems that these objects give.
fn build(with: &With, inputs: Vec<Input>) -> (Arc<Table>, Vec<Expected>) {
    let mut settings = settings(Publish::Nothing);
    settings.origin = if with.folder { Origin::Folder } else { Origin::Cluster };
    settings.watch_without_class = with.watch_without_class;
    settings.host_ownership = if with.host_ownership { HostOwnership::Namespace } else { HostOwnership::None };
    settings.external_names = match with.external_names.as_deref() {
        None | Some("outside") => ExternalNames::Outside,
        Some("none") => ExternalNames::None,
        Some("all") => ExternalNames::All,
        Some(other) => panic!("external_names: {other}"),
    };
    settings.config_map = with.config_map.then(|| ObjectKey::new("default", "options"));
    settings.default_backend = with.default_backend.as_deref().and_then(ObjectKey::parse);
    let mut compiler = Compiler::new(settings);
    compiler.apply(inputs);
    let built = compiler.build(now());
    for (backend, state) in built.backends {
        backend.publish(state);
    }
    for problem in built.problems.iter() {
        assert!(!problem.field.is_empty() && !problem.remedy.is_empty(), "{problem:#?}");
    }
    let problems = built.problems.iter().map(|problem| Expected {
        reason: problem.reason.to_string(),
        object: format!("{} {}", problem.object.kind, problem.object.key),
        field: problem.field.clone(),
    });
    (built.table, problems.collect())
}

/// Addresses, or the DNS name.
fn targets(state: Option<&BackendState>) -> Vec<String> {
    match state.map(|state| &state.target) {
        Some(Target::Endpoints(addresses)) => addresses.iter().map(ToString::to_string).collect(),
        Some(Target::Dns { name, port }) => vec![format!("{name}:{port}")],
        None => Vec::new(),
    }
}

/// What becomes of a request.
#[derive(Default)]
struct Found {
    /// The backend that takes it, or the status of our own answer.
    gets: String,
    state: Option<Arc<BackendState>>,
    /// What the backend is asked for.
    target: Option<String>,
    /// The fields that the backend gets.
    backend: Vec<String>,
    /// The fields of the answer.
    client: Vec<String>,
}

fn lines(headers: &HeaderMap) -> Vec<String> {
    headers.iter().map(|(name, value)| format!("{name}: {}", value.to_str().unwrap())).collect()
}

fn answer(table: &Table, asked: &Asked, with: &With) -> Found {
    let uri: Uri = asked.ask.parse().unwrap();
    let mut headers = HeaderMap::new();
    headers.insert(http::header::HOST, HeaderValue::from_str(uri.authority().unwrap().as_str()).unwrap());
    for (name, value) in &asked.with {
        headers.insert(name.parse::<http::HeaderName>().unwrap(), HeaderValue::from_str(value).unwrap());
    }
    if let Some(through) = &asked.through {
        headers.insert("x-forwarded-for", HeaderValue::from_str(through).unwrap());
    }
    let head = RequestHead {
        method: &Method::GET,
        version: Version::HTTP_11,
        target: uri.path_and_query().unwrap().as_str(),
        authority: None,
        headers: &Fields::from(&headers),
    };
    let address = SocketAddr::new(asked.from.unwrap_or_else(|| "192.0.2.1".parse().unwrap()), 80);
    let tls = (uri.scheme_str() == Some("https")).then_some(Tls {
        server_name: None,
        client: None,
        session: TlsSession::default(),
    });
    let connection = Connection { client: address, peer: address, local: address, destination: None, tls };
    let settings =
        PipelineSettings { trusted_proxies: with.trusted_proxies.iter().map(|net| net.parse().unwrap()).collect() };
    let live = Live {
        dice: 0,
        now: 0,
        instant: std::time::Instant::now(),
        limiter: &Unlimited,
        challenges: &Challenges::default(),
        ejections: &AllInUse,
        trace: None,
    };
    match decide(&head, &connection, table, &settings, &HeaderValue::from_static("id"), &live) {
        Decision::Ask(_) => Found { gets: "ask".to_owned(), ..Found::default() },
        Decision::Forward(forward) => {
            let (mut request, mut response) = (headers.clone(), HeaderMap::new());
            forward.edits.apply(&mut request);
            let mut edits = HeaderEdits::default();
            forward.respond(StatusCode::OK, &Fields::default(), &mut edits);
            edits.apply(&mut response);
            Found {
                gets: forward.backend.key.to_string(),
                state: Some(forward.state.clone()),
                target: Some(forward.target.clone()),
                backend: lines(&request),
                client: lines(&response),
            }
        }
        Decision::Answer(answer, _) => {
            let client = lines(&answer.headers.iter().cloned().collect());
            Found { gets: answer.status.as_u16().to_string(), client, ..Found::default() }
        }
    }
}
