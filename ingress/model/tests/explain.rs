//! What `explain` tells of a request.

#![allow(clippy::unwrap_used, clippy::panic, reason = "a test fails by panicking")]

mod support;

use http::HeaderMap;
use landfall_ingress_model::compiler::Compiler;
use landfall_ingress_model::explain::{Explanation, Outcome, Request, explain};
use landfall_ingress_model::settings::{HostOwnership, Publish};
use serde_json::{Value, json};
use support::{input, now, settings};

fn path(path: &str, kind: &str) -> Value {
    json!({"path": path, "pathType": kind, "backend": {"service": {"name": "api", "port": {"number": 80}}}})
}

fn ingress(name: &str, age: u8, class: &str, host: &str, paths: &[Value]) -> Value {
    json!({
        "kind": "Ingress",
        "metadata": {"name": name, "namespace": "shop", "creationTimestamp": format!("2026-01-0{age}T00:00:00Z")},
        "spec": {"ingressClassName": class, "rules": [{"host": host, "http": {"paths": paths}}]},
    })
}

fn compiler() -> Compiler {
    let mut compiler = Compiler::new(settings(Publish::Nothing));
    let labels = json!({"name": "api", "namespace": "shop", "labels": {"kubernetes.io/service-name": "api"}});
    let objects = [
        json!({"kind": "IngressClass", "metadata": {"name": "theirs"}, "spec": {"controller": "example.com/other"}}),
        json!({"kind": "Service", "metadata": labels, "spec": {"ports": [{"port": 80}]}}),
        json!({
            "kind": "EndpointSlice", "metadata": labels, "addressType": "IPv4",
            "endpoints": [{"addresses": ["10.0.0.2"]}, {"addresses": ["10.0.0.1"]}], "ports": [{"port": 8080}],
        }),
        ingress(
            "web",
            1,
            "landfall",
            "shop.example",
            &[
                path("/", "Prefix"),
                path("/api", "Prefix"),
                path("/api", "Exact"),
                path("/api/v2/long", "Prefix"),
                path("api", "Prefix"),
            ],
        ),
        ingress("late", 2, "landfall", "shop.example", &[path("/api", "Prefix")]),
        ingress("wild", 3, "landfall", "*.example", &[path("/api", "Prefix")]),
        ingress("deep", 4, "landfall", "*.shop.example", &[path("/api", "Prefix")]),
        ingress("foreign", 5, "theirs", "shop.example", &[path("/api", "Prefix")]),
    ];
    compiler.apply(objects.iter().map(input));
    compiler.build(now());
    compiler
}

fn ask(scheme: &str, host: &str, path: &str) -> Explanation {
    let (host, path) = (host.into(), path.into());
    let request = Request {
        method: http::Method::GET,
        scheme: scheme.into(),
        host,
        path,
        client: None,
        headers: HeaderMap::new(),
    };
    explain(&compiler(), &request)
}

#[test]
fn the_winner_and_each_loser_is_told() {
    let explanation = ask("https", "SHOP.example:443", "/api/x?y=1");
    let winner = explanation.winner.as_ref().unwrap();
    assert_eq!((&*winner.namespace, &*winner.ingress, &*winner.path), ("shop", "web", "Prefix /api"));
    assert_eq!(winner.backend.as_deref(), Some("shop/api:80"));
    assert_eq!(winner.endpoints, ["10.0.0.1:8080", "10.0.0.2:8080"]);
    assert_eq!(explanation.certificate.as_deref(), Some("self-signed, since no Secret is for this host"));
    let found: Vec<(&str, &str, &str)> =
        explanation.rejected.iter().map(|rejected| (&*rejected.ingress, &*rejected.path, &*rejected.reason)).collect();
    let expected = [
        ("late", "Prefix /api", "lost the conflict to shop/web, which is older"),
        ("web", "Prefix /", "Prefix / is shorter than Prefix /api"),
        ("wild", "Prefix /api", "host *.example is less specific than shop.example"),
        ("web", "Exact /api", "the path is not exactly /api"),
        ("web", "Prefix /api/v2/long", "/api/v2/long is longer than the path"),
        ("web", "spec.rules[0].http.paths[4].path \"api\"", "left out: the path does not start with a slash"),
        ("deep", "Prefix /api", "host differs: *.shop.example is for exactly one label before shop.example"),
        ("foreign", "", "not ours: class \"theirs\" belongs to controller \"example.com/other\""),
    ];
    assert_eq!(found, expected);
}

#[test]
fn what_the_backend_gets_of_the_headers_is_told() {
    let headers = [("x-forwarded-for", "6.6.6.6"), ("x_real_ip", "6.6.6.6"), ("cookie", "a=1"), ("cookie", "b=2")];
    let headers = headers.iter().map(|(name, value)| (name.parse().unwrap(), value.parse().unwrap())).collect();
    let client = Some("192.0.2.7".parse().unwrap());
    let (scheme, host, path) = ("https".into(), "shop.example".into(), "/api/x".into());
    let explanation = explain(&compiler(), &Request { method: http::Method::GET, scheme, host, path, client, headers });
    let expected = [
        "cookie: a=1; b=2",
        "host: shop.example",
        "x-forwarded-for: 192.0.2.7",
        "x-forwarded-host: shop.example",
        "x-forwarded-port: 443",
        "x-forwarded-proto: https",
        "x-real-ip: 192.0.2.7",
        "x-request-id: (generated)",
    ];
    assert_eq!(explanation.winner.as_ref().unwrap().headers, expected);
    assert!(explanation.to_string().contains("  the backend gets:\n    cookie: a=1; b=2\n"), "{explanation}");
    assert_eq!(ask("https", "shop.example", "/api/x").winner.unwrap().headers, [""; 0]);
}

#[test]
fn a_default_backend_of_an_ingress_with_rules_is_told_of_for_its_hosts_only() {
    let mut with_default = ingress("tenant", 6, "landfall", "tenant.example", &[path("/x", "Prefix")]);
    with_default["spec"]["defaultBackend"] = json!({"service": {"name": "api", "port": {"number": 80}}});
    let mut compiler = compiler();
    compiler.apply([input(&with_default)]);
    compiler.build(now());
    let ask = |host: &str| {
        let (scheme, host, path) = ("http".into(), host.into(), "/other".into());
        explain(
            &compiler,
            &Request { method: http::Method::GET, scheme, host, path, client: None, headers: HeaderMap::new() },
        )
    };
    assert_eq!(ask("tenant.example").winner.unwrap().path, "default backend");
    let elsewhere = ask("elsewhere.test");
    assert!(elsewhere.winner.is_none());
    let told: Vec<_> = elsewhere.rejected.iter().filter(|rejected| rejected.path == "default backend").collect();
    assert!(told.len() == 1 && told[0].reason == "host differs", "{told:?}");
}

#[test]
fn a_rule_for_somebody_elses_host_is_told_of() {
    let mut settings = settings(Publish::Nothing);
    settings.host_ownership = HostOwnership::Namespace;
    let mut compiler = Compiler::new(settings);
    let mut theirs = ingress("theirs", 2, "landfall", "shop.example", &[path("/api", "Prefix")]);
    theirs["metadata"]["namespace"] = json!("evil");
    let ours = ingress("web", 1, "landfall", "shop.example", &[path("/", "Prefix")]);
    compiler.apply([input(&ours), input(&theirs)]);
    compiler.build(now());
    let (scheme, host, path) = ("http".into(), "shop.example".into(), "/api".into());
    let explanation = explain(
        &compiler,
        &Request { method: http::Method::GET, scheme, host, path, client: None, headers: HeaderMap::new() },
    );
    assert_eq!(explanation.winner.unwrap().ingress, "web");
    let reason = "the host belongs to namespace shop, since ingress shop/web is older";
    assert_eq!((&*explanation.rejected[0].ingress, &*explanation.rejected[0].reason), ("theirs", reason));
}

#[test]
fn who_may_not_use_a_rule_is_told() {
    let mut restricted = ingress("vpn", 6, "landfall", "vpn.example", &[path("/", "Prefix")]);
    restricted["metadata"]["annotations"] = json!({
        "nginx.ingress.kubernetes.io/allowlist-source-range": "10.0.0.0/8",
        "nginx.ingress.kubernetes.io/denylist-source-range": "10.1.0.0/16",
    });
    let mut compiler = compiler();
    compiler.apply([input(&restricted)]);
    compiler.build(now());
    let ask = |client: Option<&str>| {
        let (scheme, host, path) = ("http".into(), "vpn.example".into(), "/".into());
        let client = client.map(|client| client.parse().unwrap());
        explain(
            &compiler,
            &Request { method: http::Method::GET, scheme, host, path, client, headers: HeaderMap::new() },
        )
        .winner
        .unwrap()
    };
    let access = "allowed: 10.0.0.0/8; denied: 10.1.0.0/16; 403 for others";
    assert_eq!((ask(None).access.as_deref(), ask(None).answer), (Some(access), None));
    assert_eq!(ask(Some("10.2.0.1")).answer, None);
    for client in ["10.1.0.1", "192.0.2.1"] {
        let answer = format!("403: {client} may not use this rule");
        assert_eq!(ask(Some(client)).answer, Some(answer));
    }
}

#[test]
fn an_exact_path_comes_before_the_same_prefix() {
    let explanation = ask("http", "shop.example", "/api");
    assert_eq!(explanation.winner.as_ref().unwrap().path, "Exact /api");
    assert_eq!(explanation.certificate, None);
    assert!(explanation.rejected.iter().any(|rejected| rejected.reason == "Exact /api comes before Prefix /api"));
}

#[test]
fn no_rule_and_no_request_are_told_apart() {
    let missing = ask("http", "elsewhere.test", "/");
    assert!(!missing.found());
    assert!(missing.refused.is_none() && !missing.rejected.is_empty());
    assert!(missing.to_string().contains("404"), "{missing}");
    let refused = ask("http", "shop.example", "/a/..%2fb");
    assert!(refused.refused.is_some() && refused.to_string().contains("400"), "{refused}");
}

#[test]
fn the_text_names_what_matters() {
    let text = ask("http", "shop.example", "/api/x").to_string();
    for part in ["shop/web", "Prefix /api", "shop/api:80 -> 10.0.0.1:8080, 10.0.0.2:8080", "rejected:"] {
        assert!(text.contains(part), "{part}: {text}");
    }
    serde_json::to_value(ask("http", "shop.example", "/api/x")).unwrap();
}

#[test]
fn the_steps_are_those_of_the_pipeline_and_end_where_it_ends() {
    let steps = |explanation: &Explanation| -> Vec<(&'static str, Outcome)> {
        explanation.steps.iter().map(|step| (step.step, step.outcome)).collect()
    };
    let forwarded = ask("https", "shop.example", "/api/x");
    let names: Vec<&str> = forwarded.steps.iter().map(|step| step.step).collect();
    let in_order = ["rule", "size of the body", "HTTPS", "backend", "endpoints", "limit", "access", "rewrite"];
    let places: Vec<_> = in_order.iter().map(|name| names.iter().position(|known| known == name)).collect();
    assert!(places.is_sorted() && places.iter().all(Option::is_some), "{names:?}");
    assert_eq!(steps(&forwarded).last(), Some(&("authentication", Outcome::Forwarded)));
    let rule = forwarded.steps.iter().find(|step| step.step == "rule").unwrap();
    assert_eq!(rule.by.as_deref(), Some("shop.example Prefix /api of shop/web"));
    let unknown = ask("https", "nobody.test", "/");
    assert_eq!(steps(&unknown).last(), Some(&("rule", Outcome::Answered)));
}
