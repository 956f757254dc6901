//! Properties of the compiler over random histories of random objects.

#![allow(clippy::unwrap_used, clippy::panic, reason = "a test fails by panicking")]

mod support;

use std::cmp::Reverse;
use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::sync::Arc;

use landfall_ingress_model::backend::Target;
use landfall_ingress_model::compiler::{Built, Compiler};
use landfall_ingress_model::host::{HostName, HostPattern};
use landfall_ingress_model::input::Input;
use landfall_ingress_model::path::CanonicalPath;
use landfall_ingress_model::settings::{HostOwnership, Publish};
use landfall_ingress_model::table::{Action, HostRoutes, Route, Table};
use landfall_model::{Change, ObjectKey};
use proptest::prelude::*;
use proptest::sample::select;
use serde_json::{Value, json};
use support::{certificates, input, key_of, now, replace, settings};

/// An object, or the key of one that goes away.
#[derive(Clone, Debug)]
enum Step {
    Apply(Value),
    Delete(&'static str, ObjectKey),
    Replace(&'static str),
    Build,
}

const HOSTS: &[&str] = &["", "a.ex", "b.ex", "*.ex", "c.a.ex", "*.a.ex", "bad_host"];
const PATHS: &[&str] = &["/", "", "/foo", "/foo/", "/foo/bar", "/foo/bar/baz", "/%66oo", "bad"];
const TYPES: &[&str] = &["Exact", "Prefix", "Prefix", "ImplementationSpecific", "", "prefix"];
const SERVICES: &[&str] = &["api", "web", "www"];
const KINDS: &[&str] = &["Ingress", "IngressClass", "Service", "EndpointSlice", "Endpoints", "Secret"];

fn backend() -> impl Strategy<Value = Value> {
    let port = prop_oneof![
        4 => Just(json!({"number": 80})),
        2 => Just(json!({"name": "http"})),
        1 => Just(json!({"number": 81})),
        1 => Just(json!({})),
    ];
    prop_oneof![
        9 => (select(SERVICES), port).prop_map(|(name, port)| json!({"service": {"name": name, "port": port}})),
        1 => Just(json!({"resource": {"kind": "Bucket", "name": "b"}})),
    ]
}

fn rule() -> impl Strategy<Value = Value> {
    let path = (select(PATHS), select(TYPES), backend())
        .prop_map(|(path, kind, backend)| json!({"path": path, "pathType": kind, "backend": backend}));
    (select(HOSTS), prop::collection::vec(path, 0..4)).prop_map(|(host, paths)| {
        if paths.is_empty() { json!({"host": host}) } else { json!({"host": host, "http": {"paths": paths}}) }
    })
}

fn meta(names: &'static [&'static str]) -> impl Strategy<Value = Value> {
    (select(names), select(&["x", "x", "y", "z"][..]), 0..3)
        .prop_map(|(name, namespace, age)| meta_of(name, Some(namespace), age))
}

fn meta_of(name: &str, namespace: Option<&str>, age: i32) -> Value {
    json!({"name": name, "namespace": namespace, "creationTimestamp": format!("2026-01-0{}T00:00:00Z", age + 1)})
}

fn ingress() -> impl Strategy<Value = Value> {
    let annotation = prop_oneof![
        6 => Just(json!({})),
        1 => Just(json!({"nginx.ingress.kubernetes.io/ssl-redirect": "false"})),
        1 => Just(json!({"nginx.ingress.kubernetes.io/auth-url": "http://auth"})),
        1 => Just(json!({"nginx.ingress.kubernetes.io/canary": "true"})),
        1 => Just(json!({"nginx.ingress.kubernetes.io/ssl-passthrough": "true"})),
        1 => Just(json!({
            "nginx.ingress.kubernetes.io/auth-tls-secret": "x/t1",
            "nginx.ingress.kubernetes.io/proxy-ssl-secret": "x/t2",
        })),
        1 => Just(json!({"nginx.ingress.kubernetes.io/backend-protocol": "GRPC"})),
        1 => Just(json!({"kubernetes.io/ingress.class": "nginx"})),
        1 => Just(json!({"kubernetes.io/ingress.class": "other"})),
    ];
    let class = select(&[Some("landfall"), Some("nginx"), Some("nginx"), Some("ours"), Some("other"), None][..]);
    let tls = (prop::collection::vec(select(&HOSTS[1..]), 0..3), select(&[Some("t1"), Some("t2"), None][..]))
        .prop_map(|(hosts, secret)| json!({"hosts": hosts, "secretName": secret}));
    let default = prop::option::weighted(0.3, backend());
    let rules = prop::collection::vec(rule(), 0..4);
    (meta(&["a", "b", "c", "d"]), annotation, class, default, rules, prop::collection::vec(tls, 0..3)).prop_map(
        |(mut meta, annotations, class, default, rules, tls)| {
            meta["annotations"] = annotations;
            let spec = json!({"ingressClassName": class, "defaultBackend": default, "rules": rules, "tls": tls});
            json!({"apiVersion": "networking.k8s.io/v1", "kind": "Ingress", "metadata": meta, "spec": spec})
        },
    )
}

fn other() -> impl Strategy<Value = Value> {
    let class = (select(&["ours", "other", "nginx"][..]), any::<bool>(), any::<bool>(), 0..3).prop_map(
        |(name, ours, default, age)| {
            let mut meta = meta_of(name, None, age);
            meta["annotations"] = json!({"ingressclass.kubernetes.io/is-default-class": default.to_string()});
            let controller = if ours { "landfall.dev/ingress" } else { "example.com/other" };
            json!({"kind": "IngressClass", "metadata": meta, "spec": {"controller": controller}})
        },
    );
    let spec = select(vec![
        json!({"selector": {"app": "a"}, "ports": [{"port": 80, "name": "http"}]}),
        json!({"selector": {"app": "a"}, "ports": [{"port": 80}], "sessionAffinity": "ClientIP"}),
        json!({"ports": [{"port": 80, "protocol": "UDP"}, {"port": 81, "name": "http", "appProtocol": "odd"}]}),
        json!({"type": "ExternalName", "externalName": "www.example.org"}),
        json!({"type": "ExternalName", "externalName": "localhost"}),
    ]);
    let service =
        (meta(SERVICES), spec).prop_map(|(meta, spec)| json!({"kind": "Service", "metadata": meta, "spec": spec}));
    let endpoint = (1..5, select(&[None, Some(true), Some(false)][..]))
        .prop_map(|(last, ready)| json!({"addresses": [format!("10.0.0.{last}")], "conditions": {"ready": ready}}));
    let port = select(&["http", ""][..]);
    let endpoints = prop::collection::vec(endpoint, 0..3);
    let slice = (meta(&["e1", "e2", "e3"]), select(SERVICES), port, endpoints, select(&["IPv4", "IPv4", "FQDN"][..]))
        .prop_map(|(mut meta, service, port, endpoints, kind)| {
            meta["labels"] = json!({"kubernetes.io/service-name": service});
            let ports = json!([{"name": port, "port": 8080}]);
            json!({"kind": "EndpointSlice", "metadata": meta, "addressType": kind, "endpoints": endpoints, "ports": ports})
        });
    let by_hand = (meta(SERVICES), select(&["10.0.0.9", "127.0.0.1"][..])).prop_map(|(meta, ip)| {
        let subsets = json!([{"addresses": [{"ip": ip}], "ports": [{"port": 9, "name": "http"}]}]);
        json!({"kind": "Endpoints", "metadata": meta, "subsets": subsets})
    });
    let secret = (meta(&["t1", "t2"]), 0..certificates().len()).prop_map(|(meta, index)| {
        let (certificate, key) = &certificates()[index];
        let data = json!({"tls.crt": certificate, "tls.key": key, "ca.crt": certificate});
        json!({"kind": "Secret", "metadata": meta, "type": "kubernetes.io/tls", "stringData": data})
    });
    prop_oneof![1 => class, 2 => service, 3 => slice, 1 => by_hand, 1 => secret]
}

fn step() -> impl Strategy<Value = Step> {
    let gone = prop_oneof![
        (select(&["a", "b", "c", "d"][..]), select(&["x", "y"][..]))
            .prop_map(|(name, namespace)| Step::Delete("Ingress", ObjectKey::new(namespace, name))),
        select(SERVICES).prop_map(|name| Step::Delete("Service", ObjectKey::new("x", name))),
        select(&["e1", "e2"][..]).prop_map(|name| Step::Delete("EndpointSlice", ObjectKey::new("x", name))),
        select(&["t1", "t2"][..]).prop_map(|name| Step::Delete("Secret", ObjectKey::new("x", name))),
        select(&["ours", "nginx"][..]).prop_map(|name| Step::Delete("IngressClass", ObjectKey::cluster(name))),
    ];
    prop_oneof![
        6 => ingress().prop_map(Step::Apply),
        6 => other().prop_map(Step::Apply),
        2 => gone,
        1 => select(KINDS).prop_map(Step::Replace),
        4 => Just(Step::Build),
    ]
}

type Objects = BTreeMap<(String, ObjectKey), Value>;

fn compiler(ownership: HostOwnership) -> Compiler {
    let mut settings = settings(publish());
    settings.host_ownership = ownership;
    Compiler::new(settings)
}

fn ownership() -> impl Strategy<Value = HostOwnership> {
    select(&[HostOwnership::None, HostOwnership::Namespace][..])
}

/// Runs a history; backends are published as a publisher does it.
fn run(steps: &[Step], ownership: HostOwnership) -> (Objects, Compiler, Built) {
    let mut objects = Objects::new();
    let mut compiler = compiler(ownership);
    for step in steps {
        match step {
            Step::Apply(object) => {
                objects.insert((object["kind"].as_str().unwrap().to_owned(), key_of(object)), object.clone());
                compiler.apply([input(object)]);
            }
            Step::Delete(kind, key) => {
                objects.remove(&((*kind).to_owned(), key.clone()));
                compiler.apply([match *kind {
                    "Ingress" => Input::Ingress(Change::Delete(key.clone())),
                    "Service" => Input::Service(Change::Delete(key.clone())),
                    "EndpointSlice" => Input::EndpointSlice(Change::Delete(key.clone())),
                    "Secret" => Input::Secret(Change::Delete(key.clone())),
                    "IngressClass" => Input::IngressClass(Change::Delete(key.clone())),
                    other => panic!("no step deletes a {other}"),
                }]);
            }
            Step::Replace(kind) => compiler.apply([replace(kind, &of_kind(&objects, kind))]),
            Step::Build => drop(build(&mut compiler)),
        }
    }
    let built = build(&mut compiler);
    (objects, compiler, built)
}

fn publish() -> Publish {
    Publish::Addresses(vec!["192.0.2.1".into()])
}

fn of_kind(objects: &Objects, kind: &str) -> Vec<Value> {
    objects.iter().filter(|((other, _), _)| other == kind).map(|(_, object)| object.clone()).collect()
}

fn build(compiler: &mut Compiler) -> Built {
    let built = compiler.build(now());
    for (backend, state) in &built.backends {
        backend.publish(state.clone());
    }
    built
}

/// All that a build says, as text, without what depends on the history.
fn dump(built: &Built) -> String {
    let mut text = String::new();
    let table = &built.table;
    let mut hosts: Vec<(String, &Arc<HostRoutes>)> = vec![("*".into(), &table.any)];
    hosts.extend(table.exact.iter().map(|(host, routes)| (host.to_string(), routes)));
    hosts.extend(table.wildcard.iter().map(|(host, routes)| (format!("*.{host}"), routes)));
    let mut all = Vec::new();
    for (host, routes) in hosts {
        all.push((host.clone(), &**routes));
        all.extend(routes.others.iter().map(|(namespace, routes)| (format!("{host} for {namespace}"), routes)));
    }
    let mut hosts = all;
    hosts.sort_by(|a, b| a.0.cmp(&b.0));
    for (host, routes) in hosts {
        let mut all: Vec<&Arc<Route>> = routes.exact.values().chain(routes.prefix.values()).collect();
        all.extend(&routes.default);
        let mut lines: Vec<String> = all.into_iter().map(|route| route_text(route)).collect();
        lines.sort();
        writeln!(text, "{host} ({:?}): {lines:#?}", routes.owner).unwrap();
        let tls = (&routes.client_certificates, &routes.upstream_tls, routes.passes_through);
        writeln!(text, "{tls:?}").unwrap();
    }
    writeln!(text, "{:?}", table.connections).unwrap();
    writeln!(text, "default: {:?}", table.default.as_ref().map(|route| route_text(route))).unwrap();
    writeln!(text, "fallback: {:?}", table.fallback.as_ref().map(|route| route_text(route))).unwrap();
    let certificates = &table.certificates;
    let mut names: Vec<String> =
        certificates.exact.iter().map(|(name, found)| format!("{name} {} {:?}", found.secret, found.names)).collect();
    names.extend(certificates.wildcard.iter().map(|(name, found)| format!("*.{name} {}", found.secret)));
    names.extend(certificates.closed.iter().map(|name| format!("{name} closed")));
    names.sort();
    writeln!(text, "certificates: {names:#?}").unwrap();
    writeln!(text, "problems: {:#?}", built.problems).unwrap();
    let views: BTreeMap<_, _> = built.ingresses.iter().collect();
    writeln!(text, "views: {views:#?}").unwrap();
    writeln!(text, "deadline: {:?}", built.next_deadline).unwrap();
    text
}

fn route_text(route: &Route) -> String {
    let action = match &route.action {
        Action::Forward(backend) => {
            let state = backend.state();
            let target = match &state.target {
                Target::Endpoints(addresses) => format!("{addresses:?}"),
                Target::Dns { name, port } => format!("{name}:{port}"),
            };
            let (protocol, affinity) = (state.protocol, state.affinity);
            format!("{} {protocol:?} {affinity:?} {target} {:?}", backend.key, state.unavailable)
        }
        Action::Unavailable(why) => format!("unavailable: {why}"),
        Action::NotFound => "404".to_owned(),
    };
    format!("{:?} {:?} {action} {:?}", route.id, route.dialect, route.policy)
}

/// Scans every rule, with its own idea of what the specification says.
fn naive<'a>(objects: &'a Objects, ours: &dyn Fn(&Value) -> bool, host: &HostName, path: &str) -> Option<Found<'a>> {
    let mut best: Option<(Rank, Found<'a>)> = None;
    for ingress in of(objects, "Ingress").filter(|ingress| ours(ingress)) {
        let rules = ingress["spec"]["rules"].as_array().into_iter().flatten();
        for (rule_index, rule) in rules.enumerate() {
            let Ok(pattern) = HostPattern::parse(rule["host"].as_str().unwrap()) else { continue };
            let host_rank = match &pattern {
                HostPattern::Exact(name) if name == host => 2,
                HostPattern::Wildcard(domain) => match host.as_str().split_once('.') {
                    Some((_, parent)) if parent == domain.as_str() => 1,
                    _ => continue,
                },
                HostPattern::Any => 0,
                HostPattern::Exact(_) => continue,
            };
            let paths = rule["http"]["paths"].as_array().into_iter().flatten();
            for (path_index, entry) in paths.enumerate() {
                let written = match entry["path"].as_str().unwrap() {
                    "" => "/",
                    "/%66oo" => "/foo",
                    written => written,
                };
                let exact = match entry["pathType"].as_str().unwrap() {
                    "Exact" => true,
                    "prefix" => continue,
                    _ => false,
                };
                let elements = |path: &'a str| path.split('/').filter(|part| !part.is_empty()).collect::<Vec<_>>();
                let matches = if exact {
                    written == path
                } else {
                    let wanted = written.split('/').filter(|part| !part.is_empty()).collect::<Vec<_>>();
                    let asked = path.split('/').filter(|part| !part.is_empty()).collect::<Vec<_>>();
                    asked.starts_with(&wanted)
                };
                if !written.starts_with('/') || !matches {
                    continue;
                }
                let length = elements(written).len();
                let created = ingress["metadata"]["creationTimestamp"].as_str().unwrap().to_owned();
                let age = Reverse((created, key_of(ingress), rule_index, path_index));
                let rank = (host_rank, exact, length, age);
                if best.as_ref().is_none_or(|(other, _)| *other < rank) {
                    best = Some((rank, Found { ingress: key_of(ingress), backend: &entry["backend"] }));
                }
            }
        }
    }
    best.map(|(_, found)| found)
}

/// Host, exactness, length in elements, and age: an exact match is of the whole path, so no longer prefix exists.
type Rank = (u8, bool, usize, Reverse<(String, ObjectKey, usize, usize)>);

#[derive(Debug)]
struct Found<'a> {
    ingress: ObjectKey,
    backend: &'a Value,
}

fn of<'a>(objects: &'a Objects, kind: &'a str) -> impl Iterator<Item = &'a Value> {
    objects.iter().filter(move |((other, _), _)| other == kind).map(|(_, object)| object)
}

fn found_by(table: &Table, host: &HostName, path: &str) -> Option<Arc<Route>> {
    let route = table.find(Some(host), &CanonicalPath::parse(path).unwrap()).cloned();
    route.filter(|route| route.id.path.is_some())
}

fn check_naive(objects: &Objects, built: &Built, host: &HostName, path: &str) {
    let ours = |ingress: &Value| {
        let key = key_of(ingress);
        let canary = ingress["metadata"]["annotations"]["nginx.ingress.kubernetes.io/canary"] == "true";
        !canary && built.ingresses.get(&key).is_some()
    };
    // What follows is the specification's view; hosts in the dialect of ingress-nginx have rules of their own.
    if of(objects, "Ingress").filter(|ingress| ours(ingress)).any(|ingress| is_of_nginx(ingress, host)) {
        return;
    }
    let expected = naive(objects, &ours, host, path);
    let found = found_by(&built.table, host, path);
    match (&expected, &found) {
        (None, None) => {}
        (Some(expected), Some(found)) => {
            assert_eq!(expected.ingress, found.id.ingress, "{host}{path}");
            if let Action::Forward(backend) = &found.action {
                let service = expected.backend["service"]["name"].as_str().unwrap();
                assert_eq!(service, backend.key.service.name(), "{host}{path}");
            }
        }
        _ => panic!("{host}{path}: {expected:?} and {found:?}"),
    }
}

/// Whether an Ingress of class nginx has a rule for a host, for its wildcard, or for all hosts.
fn is_of_nginx(ingress: &Value, host: &HostName) -> bool {
    let annotation = &ingress["metadata"]["annotations"]["kubernetes.io/ingress.class"];
    let named = |rule: &Value| {
        let pattern = HostPattern::parse(rule["host"].as_str().unwrap());
        pattern.is_ok_and(|pattern| pattern == HostPattern::Any || pattern.matches(Some(host)))
    };
    let field = &ingress["spec"]["ingressClassName"];
    let class = if field.is_null() { annotation } else { field };
    class == "nginx" && ingress["spec"]["rules"].as_array().into_iter().flatten().any(named)
}

proptest! {
    #![proptest_config(ProptestConfig { failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn a_history_leaves_nothing_behind(steps in prop::collection::vec(step(), 0..40), ownership in ownership()) {
        let (objects, _, built) = run(&steps, ownership);
        let mut fresh = compiler(ownership);
        fresh.apply(KINDS.iter().map(|kind| replace(kind, &of_kind(&objects, kind))));
        let fresh = build(&mut fresh);
        pretty_eq(&dump(&built), &dump(&fresh));
    }

    #[test]
    fn the_table_answers_as_a_scan_of_all_rules_does(steps in prop::collection::vec(step(), 0..30)) {
        let (objects, _, built) = run(&steps, HostOwnership::None);
        for host in ["a.ex", "b.ex", "z.ex", "c.a.ex", "ex", "other"] {
            let host = HostName::from_authority(host).unwrap();
            for path in ["/", "/foo", "/foo/", "/foobar", "/foo/bar", "/foo/bar/", "/foo/bar/baz/x", "/x"] {
                check_naive(&objects, &built, &host, path);
            }
        }
    }

    #[test]
    fn no_namespace_changes_anothers_answers(steps in prop::collection::vec(step(), 0..40)) {
        let (objects, _, built) = run(&steps, HostOwnership::Namespace);
        for namespace in ["x", "y", "z"] {
            let mut alone = compiler(HostOwnership::Namespace);
            alone.apply(KINDS.iter().map(|kind| {
                let mut own = of_kind(&objects, kind);
                own.retain(|object| object["metadata"]["namespace"].as_str().is_none_or(|of| of == namespace));
                replace(kind, &own)
            }));
            let alone = build(&mut alone);
            for host in ["a.ex", "b.ex", "z.ex", "c.a.ex", "d.a.ex"] {
                let host = HostName::from_authority(host).unwrap();
                if owner(&objects, &built, &host).as_deref() != Some(namespace) {
                    continue;
                }
                for path in ["/", "/foo", "/foo/", "/foobar", "/foo/bar", "/foo/bar/baz/x", "/x"] {
                    let path = CanonicalPath::parse(path).unwrap();
                    let ask = |built: &Built| built.table.find(Some(&host), &path).map(|route| route_text(route));
                    prop_assert_eq!(ask(&built), ask(&alone), "{}{} of namespace {}", host, path, namespace);
                }
                let passed = |built: &Built| built.table.passthrough(&host).is_some();
                prop_assert_eq!(passed(&built), passed(&alone), "where TLS of {} of namespace {} ends", host, namespace);
                let asked = |built: &Built| format!("{:?}", built.table.host(Some(&host)).asks());
                prop_assert_eq!(asked(&built), asked(&alone), "what {} of namespace {} asks for", host, namespace);
                let shown = |built: &Built| {
                    let found = built.table.certificates.find(Some(&host));
                    found.map(|found| (found.secret.clone(), found.names.clone()))
                };
                prop_assert_eq!(shown(&built), shown(&alone), "the certificate of {} of namespace {}", host, namespace);
            }
        }
    }

    #[test]
    fn nothing_new_is_nothing_to_do(steps in prop::collection::vec(step(), 0..20), ownership in ownership()) {
        let (objects, mut compiler, built) = run(&steps, ownership);
        compiler.apply(KINDS.iter().map(|kind| replace(kind, &of_kind(&objects, kind))));
        let again = build(&mut compiler);
        prop_assert!(Arc::ptr_eq(&built.table, &again.table));
        prop_assert!(Arc::ptr_eq(&built.problems, &again.problems));
        prop_assert!(again.backends.is_empty() && again.statuses.is_empty());
    }
}

/// The namespace of the oldest Ingress of ours that has a rule for the host or for its wildcard.
fn owner(objects: &Objects, built: &Built, host: &HostName) -> Option<String> {
    let names = |ingress: &Value| {
        let canary = ingress["metadata"]["annotations"]["nginx.ingress.kubernetes.io/canary"] == "true";
        let has_default = !ingress["spec"]["defaultBackend"].is_null();
        ingress["spec"]["rules"].as_array().into_iter().flatten().any(|rule| {
            let pattern = HostPattern::parse(rule["host"].as_str().unwrap());
            let paths = rule["http"]["paths"].as_array().into_iter().flatten();
            let usable = paths.into_iter().any(|path| path["path"] != "bad" && path["pathType"] != "prefix");
            let named = pattern.is_ok_and(|pattern| pattern != HostPattern::Any && pattern.matches(Some(host)));
            !canary && named && (usable || has_default)
        })
    };
    let ours = |ingress: &&Value| built.ingresses.get(&key_of(ingress)).is_some();
    let age = |ingress: &&Value| (ingress["metadata"]["creationTimestamp"].to_string(), key_of(ingress));
    let oldest = of(objects, "Ingress").filter(ours).filter(|ingress| names(ingress)).min_by_key(age)?;
    Some(key_of(oldest).namespace().to_owned())
}

/// Compares texts of many lines by their first difference.
fn pretty_eq(found: &str, expected: &str) {
    for (number, (found, expected)) in found.lines().zip(expected.lines()).enumerate() {
        assert_eq!(found, expected, "line {number}");
    }
    assert_eq!(found.lines().count(), expected.lines().count());
}
