//! Snippets together with authentication services, and what `explain` says of them.
#![allow(clippy::unwrap_used, clippy::panic, reason = "a test may panic")]

mod support;

use std::net::SocketAddr;

use http::{HeaderMap, HeaderValue, Method, StatusCode, Version};
use landfall_ingress_model::acme::challenges::Challenges;
use landfall_ingress_model::backend::AllInUse;
use landfall_ingress_model::compiler::Compiler;
use landfall_ingress_model::explain::{Explanation, Request, explain};
use landfall_ingress_model::fields::{Fields, HeaderEdits};
use landfall_ingress_model::pipeline::{
    Ask, Connection, Decision, Live, Opinion, PipelineSettings, RequestHead, decide,
};
use landfall_ingress_model::policy::Unlimited;
use landfall_ingress_model::settings::Publish;
use landfall_model::ObjectKey;
use serde_json::{Value, json};
use support::{input, now, settings};

/// A compiler in which snippets are allowed, with one Ingress for everything below h.test that has these annotations.
fn compiler(annotations: &[(&str, &str)]) -> Compiler {
    let mut settings = settings(Publish::Nothing);
    settings.config_map = Some(ObjectKey::new("shop", "options"));
    let mut compiler = Compiler::new(settings);
    let mut all = serde_json::Map::new();
    for (name, value) in annotations {
        all.insert(format!("nginx.ingress.kubernetes.io/{name}"), Value::from(*value));
    }
    let rule = |path: &str| json!({"path": path, "pathType": "Prefix", "backend": {"service": {"name": "api", "port": {"number": 80}}}});
    let objects = [
        json!({"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": "options", "namespace": "shop"},
            "data": {"allow-snippet-annotations": "true", "annotations-risk-level": "Critical"}}),
        json!({"apiVersion": "v1", "kind": "Service", "metadata": {"name": "api", "namespace": "shop"},
            "spec": {"clusterIP": "10.96.0.1", "ports": [{"port": 80}]}}),
        json!({"apiVersion": "discovery.k8s.io/v1", "kind": "EndpointSlice", "addressType": "IPv4",
            "metadata": {"name": "api", "namespace": "shop", "labels": {"kubernetes.io/service-name": "api"}},
            "endpoints": [{"addresses": ["10.0.0.1"]}], "ports": [{"port": 8080}]}),
        json!({"apiVersion": "networking.k8s.io/v1", "kind": "Ingress",
            "metadata": {"name": "web", "namespace": "shop", "annotations": all},
            "spec": {"ingressClassName": "nginx",
                "rules": [{"host": "h.test", "http": {"paths": [rule("/"), rule("/new")]}}]}}),
    ];
    compiler.apply(objects.iter().map(input));
    let built = compiler.build(now());
    assert_eq!(built.problems.len(), 0, "{:#?}", built.problems);
    for (backend, state) in built.backends {
        backend.publish(state);
    }
    compiler
}

fn decision(compiler: &Compiler, target: &str) -> Decision {
    let mut headers = HeaderMap::new();
    headers.insert("host", HeaderValue::from_static("h.test"));
    headers.insert("x-tenant", HeaderValue::from_static("acme"));
    let headers = Fields::from(&headers);
    let (method, version) = (&Method::GET, Version::HTTP_11);
    let head = RequestHead { method, version, target, authority: None, headers: &headers };
    let client = SocketAddr::from(([192, 0, 2, 1], 80));
    let connection = Connection { client, peer: client, local: client, destination: None, tls: None };
    let live = Live {
        dice: 0,
        now: 0,
        instant: std::time::Instant::now(),
        limiter: &Unlimited,
        challenges: &Challenges::default(),
        ejections: &AllInUse,
        trace: None,
    };
    let id = HeaderValue::from_static("id");
    decide(&head, &connection, compiler.table(), &PipelineSettings::default(), &id, &live)
}

fn ask(compiler: &Compiler, target: &str) -> Box<Ask> {
    match decision(compiler, target) {
        Decision::Ask(ask) => ask,
        other => panic!("{other:?}"),
    }
}

const AUTH: (&str, &str) = ("auth-url", "http://auth.test/check");

#[test]
fn a_service_is_asked_with_what_its_snippet_sets_and_what_it_says_goes_on() {
    let compiler = compiler(&[
        AUTH,
        ("auth-snippet", "set $who $http_x_tenant; proxy_set_header X-Who $who; proxy_set_header Cookie '';"),
        (
            "configuration-snippet",
            "auth_request_set $user $upstream_http_x_user;
             proxy_set_header X-User $user;
             add_header X-User $user always;
             more_set_headers 'X-Status: $status';",
        ),
    ]);
    let ask = ask(&compiler, "/");
    let question = ask.question(false).unwrap();
    assert_eq!(question.fields.get("x-who").unwrap(), "acme");
    assert!(!question.fields.contains_key("cookie"));
    let (headers, id) = (Fields::default(), HeaderValue::from_static("id"));
    let mut fields = HeaderMap::new();
    fields.insert("x-user", HeaderValue::from_static("ann"));
    let forward = ask.conclude(false, Some(&Opinion { status: StatusCode::OK, fields }), &headers, &id).unwrap();
    let mut request = HeaderMap::new();
    forward.edits.apply(&mut request);
    assert_eq!(request.get("x-user").unwrap(), "ann");
    let mut edits = HeaderEdits::default();
    forward.respond(StatusCode::NOT_FOUND, &Fields::default(), &mut edits);
    let mut response = HeaderMap::new();
    edits.apply(&mut response);
    assert_eq!(response.get("x-user").unwrap(), "ann");
    assert_eq!(response.get("x-status").unwrap(), "404");
}

#[test]
fn a_refusal_of_the_service_has_the_fields_of_snippets_and_none_of_its_own_words() {
    let compiler = compiler(&[
        AUTH,
        ("configuration-snippet", "more_set_headers 'X-Status: $status'; add_header X-User $http_x_tenant;"),
    ]);
    let (headers, id) = (Fields::default(), HeaderValue::from_static("id"));
    let opinion = Opinion { status: StatusCode::FORBIDDEN, fields: HeaderMap::new() };
    let answer = ask(&compiler, "/").conclude(false, Some(&opinion), &headers, &id).unwrap_err();
    assert_eq!(answer.status, StatusCode::FORBIDDEN);
    let field = |name: &str| answer.headers.iter().find(|(found, _)| found == name).map(|(_, value)| value.clone());
    assert_eq!(field("x-status").unwrap(), "403");
    assert_eq!(field("x-user"), None, "add_header is not for this status");
}

#[test]
fn a_snippet_may_answer_in_the_place_of_the_service() {
    let compiler = compiler(&[
        AUTH,
        ("auth-snippet", "if ($request_uri ~ ^/open) { return 200; } if ($uri = /shut) { return 403; }"),
    ]);
    let (headers, id) = (Fields::default(), HeaderValue::from_static("id"));
    let open = ask(&compiler, "/open/x");
    assert!(open.question(false).is_none());
    assert!(open.conclude(false, None, &headers, &id).is_ok());
    let shut = ask(&compiler, "/shut").conclude(false, None, &headers, &id).unwrap_err();
    assert_eq!(shut.status, StatusCode::FORBIDDEN);
    let other = ask(&compiler, "/other");
    assert!(other.question(false).is_some());
    assert_eq!(other.conclude(false, None, &headers, &id).unwrap_err().status, StatusCode::INTERNAL_SERVER_ERROR);
}

#[test]
fn explain_says_which_directive_answered_or_rewrote() {
    let compiler = compiler(&[
        ("server-snippet", "if ($uri = /gone) { return 410; }\nlocation /snip { return 200 hi; }"),
        (
            "configuration-snippet",
            "rewrite ^/old/(.*)$ /new/$1 last;\nif ($uri = /away) { return 301 https://n.test/; }",
        ),
    ]);
    let told = |path: &str| -> Explanation {
        let (scheme, host, path) = ("http".into(), "h.test".into(), path.into());
        explain(
            &compiler,
            &Request { method: http::Method::GET, scheme, host, path, client: None, headers: HeaderMap::new() },
        )
    };
    assert_eq!(told("/gone").answer.as_deref(), Some("410, by server-snippet 1:21"));
    assert!(told("/gone").to_string().contains("  answer: 410, by server-snippet 1:21\n"));
    assert_eq!(told("/snip").answer.as_deref(), Some("200, by server-snippet 2:18"));
    let away = told("/away").winner.unwrap();
    assert_eq!(away.answer.as_deref(), Some("301 to https://n.test/, by configuration-snippet 2:21"));
    let rewritten = told("/old/x");
    let winner = rewritten.winner.as_ref().unwrap();
    assert_eq!(winner.path, "Prefix /new");
    assert_eq!(winner.answer.as_deref(), Some("the backend gets /new/x"));
    assert_eq!(winner.snippets, ["configuration-snippet 1:1 rewrites the path to /new/x"]);
    assert!(rewritten.to_string().contains("  snippet: configuration-snippet 1:1 rewrites"), "{rewritten}");
}
