//! What `migrate` says about Ingresses, options and flags of ingress-nginx.

#![allow(clippy::unwrap_used, clippy::panic, reason = "a test fails by panicking")]

mod support;

use std::sync::Arc;

use k8s_openapi::api::apps::v1::Deployment;
use landfall_ingress_model::migration::{
    Choice, Compiled, Effect, Fact, Finding, Html, IngressReport, Migration, Report, Scheme, Verdict, probes,
};
use landfall_ingress_model::settings::Publish;
use landfall_model::{Change, ObjectKey};
use serde_json::{Value, json};
use support::{input, now, settings};

const PREFIX: &str = "nginx.ingress.kubernetes.io/";

/// An Ingress with one host; paths are `(path, pathType)`.
fn ingress(name: &str, age: u8, annotations: &[(&str, &str)], host: &str, paths: &[(&str, &str)]) -> Value {
    let annotations: serde_json::Map<String, Value> = annotations
        .iter()
        .map(|(name, value)| {
            let name = if name.contains('/') { (*name).to_owned() } else { format!("{PREFIX}{name}") };
            (name, json!(value))
        })
        .collect();
    let paths: Vec<Value> = paths
        .iter()
        .map(|(path, kind)| {
            let backend = json!({"service": {"name": "web", "port": {"number": 80}}});
            json!({"path": path, "pathType": kind, "backend": backend})
        })
        .collect();
    json!({
        "kind": "Ingress",
        "metadata": {
            "name": name, "namespace": "shop", "annotations": annotations,
            "creationTimestamp": format!("2026-01-0{age}T00:00:00Z"),
        },
        "spec": {"ingressClassName": "nginx", "rules": [{"host": host, "http": {"paths": paths}}]},
    })
}

fn service(name: &str) -> [Value; 2] {
    let meta = json!({"name": name, "namespace": "shop", "labels": {"kubernetes.io/service-name": name}});
    let ends = json!([{"addresses": ["10.0.0.1"]}]);
    [
        json!({"kind": "Service", "metadata": meta, "spec": {"ports": [{"port": 80}]}}),
        json!({
            "kind": "EndpointSlice", "metadata": meta, "addressType": "IPv4",
            "endpoints": ends, "ports": [{"port": 8080}],
        }),
    ]
}

fn options(data: &Value) -> Value {
    json!({"kind": "ConfigMap", "metadata": {"name": "options", "namespace": "nginx"}, "data": data})
}

/// A controller with these flags.
fn deployment(flags: &[&str]) -> Fact {
    let mut arguments = vec!["/nginx-ingress-controller", "--configmap=$(POD_NAMESPACE)/options"];
    arguments.extend(flags);
    let container = json!({"name": "controller", "image": "registry.k8s.io/ingress-nginx/controller:v1.15.1",
                           "args": arguments});
    let object = json!({
        "metadata": {"name": "controller", "namespace": "nginx"},
        "spec": {"selector": {}, "template": {"spec": {"containers": [container]}}},
    });
    let object: Deployment = serde_json::from_value(object).unwrap();
    Fact::Deployment(Change::Apply(Arc::new(object)))
}

fn migrated(objects: &[Value], flags: &[&str]) -> (Report, Compiled) {
    // What ingress-nginx was started with is found, so the command line says nothing.
    let settings = landfall_ingress_model::settings::Settings { ssl_passthrough: false, ..settings(Publish::Nothing) };
    let mut migration = Migration::new(settings, Choice::default());
    migration.apply([deployment(flags)]);
    let all = service("web").into_iter().chain(objects.iter().cloned());
    migration.apply(all.map(|object| Fact::Input(input(&object))));
    let compiled = migration.compile(now());
    (migration.report(&compiled), compiled)
}

fn report(objects: &[Value]) -> Report {
    let mut all = vec![options(&json!({})), json!({"kind": "Secret", "metadata": {"name": "x", "namespace": "shop"}})];
    all.extend(objects.iter().cloned());
    migrated(&all, &[]).0
}

/// The report about one Ingress with a path `/` and these annotations.
fn about(annotations: &[(&str, &str)]) -> IngressReport {
    report(&[ingress("web", 1, annotations, "shop.example", &[("/", "Prefix")])]).ingresses.remove(0)
}

fn codes(findings: &[Finding]) -> Vec<&str> {
    findings.iter().map(|finding| finding.code).collect()
}

#[test]
fn what_is_served_is_alike() {
    let web = about(&[
        ("proxy-body-size", "8m"),
        ("proxy-buffering", "off"),
        ("cert-manager.io/cluster-issuer", "x"),
        ("auth-realm", ""),
    ]);
    assert_eq!(web.verdict, Verdict::Alike);
    let effects: Vec<_> = web.annotations.iter().map(|one| (one.name.as_str(), one.effect)).collect();
    let expected =
        [("auth-realm", Effect::Needless), ("proxy-body-size", Effect::Served), ("proxy-buffering", Effect::Needless)];
    assert_eq!(effects, expected);
    assert_eq!((web.routes[0].endpoints, web.routes[0].fault.as_str()), (1, ""));
    assert!(web.broken.is_empty() && web.quirks.is_empty(), "{web}");
}

#[test]
fn what_differs_or_is_refused_names_annotation_and_remedy() {
    // The annotations, the verdict, and the words for what differs, is refused, and is broken already.
    type Row<'a> = (&'a [(&'a str, &'a str)], Verdict, &'a [&'a str], &'a [&'a str], &'a [&'a str]);
    let rows: &[Row<'_>] = &[
        (&[("enable-modsecurity", "true")], Verdict::Differs, &["annotation"], &[], &[]),
        (&[("enable-modsecurity", "false")], Verdict::Alike, &[], &[], &[]),
        (&[("load-balance", "round_robin")], Verdict::Alike, &[], &[], &[]),
        (&[("load-balance", "ewma")], Verdict::Alike, &[], &[], &[]),
        (&[("load-balance", "fastest")], Verdict::Differs, &["value"], &[], &["dropped"]),
        (&[("client-body-buffer-size", "1 apple")], Verdict::Differs, &["value"], &[], &["dropped"]),
        (&[("backend-protocol", "FCGI")], Verdict::Refused, &[], &["annotation"], &[]),
        (&[("proxy-read-timeout", "30s")], Verdict::Alike, &[], &[], &["ignored"]),
        (&[("proxy-read-timeout", "-1")], Verdict::Differs, &["value"], &[], &["frozen"]),
        (&[("limit-rps", "many")], Verdict::Refused, &[], &["value"], &["dropped"]),
        (&[("whitelist-source-range", "home")], Verdict::Alike, &[], &[], &["denied"]),
        (&[("auth-type", "digest"), ("auth-secret", "x")], Verdict::Refused, &[], &["value"], &[]),
        (&[("auth-type", "basic"), ("auth-secret", "gone")], Verdict::Alike, &[], &[], &["denied"]),
        (&[("auth-secret", "x")], Verdict::Refused, &[], &["value"], &["fails-open"]),
        (
            &[("auth-url", "http://a.example/"), ("auth-always-set-cookie", "perhaps")],
            Verdict::Refused,
            &[],
            &["value"],
            &["fails-open"],
        ),
        (
            &[("enable-cors", "true"), ("cors-allow-origin", "https://*")],
            Verdict::Differs,
            &["value"],
            &[],
            &["fails-open"],
        ),
        (&[("auth-signin", "https://a.example/")], Verdict::Alike, &[], &[], &["fails-open"]),
        (&[("cors-allow-origin", "https://a.example")], Verdict::Alike, &[], &[], &["no-effect"]),
        (&[("session-cookie-name", "a")], Verdict::Alike, &[], &[], &["no-effect"]),
        (&[("ssl-passthrough", "true")], Verdict::Alike, &[], &[], &["no-effect"]),
        (&[("proxy-ssl-verify", "on")], Verdict::Refused, &[], &["value"], &["fails-open"]),
        (&[("auth-tls-verify-client", "on")], Verdict::Refused, &[], &["value"], &["fails-open"]),
        (&[("canary-weight", "10")], Verdict::Alike, &[], &[], &["canary-not-enabled"]),
        (&[("limit-rate", "100")], Verdict::Differs, &["limit-rate"], &[], &[]),
        (&[("limit-rate", "100"), ("proxy-buffering", "on")], Verdict::Alike, &[], &[], &[]),
        (&[("custom-http-errors", "502")], Verdict::Alike, &[], &[], &["errors-become-404"]),
        (
            &[("permanent-redirect", "https://a.example"), ("temporal-redirect", "https://b.example")],
            Verdict::Alike,
            &[],
            &[],
            &["overridden"],
        ),
        (&[("mirror-target", "http://a.example")], Verdict::Differs, &["in-part"], &[], &[]),
        (&[("mirror-target", "http://a.example"), ("mirror-request-body", "off")], Verdict::Alike, &[], &[], &[]),
        (
            &[("whitelist-source-range", "10.0.0.0/8"), ("allowlist-source-range", "10.0.0.0/9")],
            Verdict::Alike,
            &[],
            &[],
            &["ignored"],
        ),
        (
            &[("proxy-ssl-verify", "on"), ("proxy-ssl-secret", "shop/x")],
            Verdict::Alike,
            &[],
            &[],
            &["denied", "denied"],
        ),
        (&[("secure-backends", "true")], Verdict::Alike, &[], &[], &["unknown"]),
        (&[("proxy-bodysize", "1m")], Verdict::Alike, &[], &[], &["unknown"]),
        (&[("nginx.org/client-max-body-size", "1m")], Verdict::Alike, &[], &[], &["foreign"]),
        (&[("ingress.kubernetes.io/proxy-body-size", "1m")], Verdict::Alike, &[], &[], &["foreign"]),
    ];
    let mut wrong = Vec::new();
    for (annotations, verdict, differs, refused, broken) in rows {
        let web = about(annotations);
        let found = (web.verdict, codes(&web.differs), codes(&web.refused), codes(&web.broken));
        if found != (*verdict, differs.to_vec(), refused.to_vec(), broken.to_vec()) {
            wrong.push(format!("{annotations:?}: {found:?}\n{web}"));
        }
        for finding in web.differs.iter().chain(&web.refused).chain(&web.broken) {
            assert!(!finding.remedy.is_empty(), "{annotations:?}: without a remedy: {finding}");
            let named = annotations.iter().any(|(name, _)| finding.subject.contains(name));
            assert!(named, "{annotations:?}: names no annotation: {finding}");
        }
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}

#[test]
fn snippets_are_dropped_by_ingress_nginx_unless_they_are_allowed() {
    let snippet = ingress("web", 1, &[("stream-snippet", "x;")], "shop.example", &[("/", "Prefix")]);
    let with = |options_: &Value| migrated(&[options(options_), snippet.clone()], &[]).0.ingresses.remove(0);
    assert_eq!(codes(&with(&json!({})).broken), ["dropped"]);
    let allowed = with(&json!({"allow-snippet-annotations": "true", "annotations-risk-level": "Critical"}));
    assert!(allowed.broken.is_empty(), "{allowed}");
    assert!(!allowed.refused.is_empty() && !allowed.routes[0].fault.is_empty(), "{allowed}");
    // An annotation above the level of risk takes its Ingress with it.
    let risky = ingress("web", 1, &[("auth-url", "http://a.example")], "shop.example", &[("/", "Prefix")]);
    let risky = migrated(&[options(&json!({"annotations-risk-level": "Low"})), risky], &[]).0.ingresses.remove(0);
    assert_eq!((risky.verdict, codes(&risky.broken)), (Verdict::Refused, vec!["dropped"]), "{risky}");
}

#[test]
fn quirks_that_answers_rest_on_are_named() {
    let objects = [
        ingress("regex", 1, &[("use-regex", "true")], "a.example", &[("/v[0-9]+", "ImplementationSpecific")]),
        ingress("plain", 2, &[], "a.example", &[("/app.js", "Exact"), ("/", "Prefix")]),
        ingress("slash", 3, &[], "b.example", &[("/docs/", "Prefix"), ("/x", "ImplementationSpecific")]),
        ingress(
            "guarded",
            4,
            &[("whitelist-source-range", "10.0.0.0/8"), ("force-ssl-redirect", "true")],
            "c.example",
            &[("/x", "Prefix")],
        ),
        ingress("any", 5, &[], "", &[("/", "Prefix")]),
    ];
    let report = report(&objects);
    let of = |name: &str| report.ingresses.iter().find(|one| one.name == name).unwrap();
    assert_eq!(codes(&of("regex").quirks), ["regex-host"]);
    let plain = &of("plain").quirks;
    assert_eq!(codes(plain), ["regex-host"]);
    for part in ["shop/regex", "Exact /app.js also takes /app.jsx and /APP.JS", "dot stands for any character"] {
        assert!(plain[0].text.contains(part), "{part:?} is not in: {}", plain[0].text);
    }
    assert_eq!(codes(&of("slash").quirks), ["implicit-root", "path-type", "slash-redirect"]);
    let guarded = &of("guarded").quirks;
    assert_eq!(codes(guarded), ["dropped-slash", "implicit-root"]);
    assert!(guarded[1].text.contains("sends to HTTPS, asks for an allowed address, then answers 404"));
    assert!(guarded[1].text.contains("shop/any"));
    assert!(report.ingresses.iter().all(|one| one.verdict == Verdict::Alike), "{report}");
}

#[test]
fn what_competes_without_a_word_is_told() {
    let canary = &[("canary", "true"), ("canary-weight", "10"), ("auth-url", "http://a.example/")];
    let objects = [
        ingress("main", 1, &[], "a.example", &[("/", "Prefix")]),
        ingress("other", 2, &[], "other.example", &[("/", "Prefix")]),
        ingress("canary", 3, canary, "a.example", &[("/", "Prefix")]),
        ingress("lonely", 4, &[("canary", "true")], "nobody.example", &[("/", "Prefix")]),
        ingress("late", 5, &[], "a.example", &[("/", "Prefix")]),
        ingress("twins", 6, &[], "t.example", &[("/foo", "Prefix"), ("/foo/", "Prefix")]),
        ingress("groups", 7, &[("rewrite-target", "/$2")], "g.example", &[("/app", "Prefix")]),
    ];
    let report = report(&objects);
    let of = |name: &str| report.ingresses.iter().find(|one| one.name == name).unwrap();
    assert_eq!(codes(&of("canary").broken), ["canary-ignores"]);
    assert_eq!(codes(&of("canary").differs), ["canary-leaks"]);
    assert_eq!(codes(&of("lonely").broken), ["canary-without-main"]);
    assert_eq!(codes(&of("late").broken), ["lost"]);
    assert!(codes(&of("twins").broken).contains(&"frozen"));
    assert_eq!(codes(&of("groups").broken), ["empty-group"]);
    assert_eq!(of("late").routes[0].fault, "another Ingress has this path");
}

#[test]
fn what_belongs_to_a_service_or_a_host_is_told() {
    let mtls = &[("auth-tls-secret", "shop/authority")];
    let authority = rcgen::CertificateParams::new(vec![]).unwrap().self_signed(&rcgen::KeyPair::generate().unwrap());
    let secret = json!({
        "kind": "Secret", "metadata": {"name": "authority", "namespace": "shop"},
        "data": {"ca.crt": k8s_openapi::ByteString(authority.unwrap().pem().into_bytes())},
    });
    let objects = [
        secret,
        ingress("hashed", 1, &[("upstream-hash-by", "$remote_addr")], "a.example", &[("/", "Prefix")]),
        ingress("plain", 2, &[], "b.example", &[("/", "Prefix")]),
        ingress("late", 7, &[("upstream-hash-by", "$request_uri")], "f.example", &[("/", "Prefix")]),
        ingress("certified", 3, mtls, "c.example", &[("/", "Prefix")]),
        ingress("beside", 4, &[], "c.example", &[("/beside", "Prefix")]),
        ingress("broken", 5, &[("use-regex", "true")], "d.example", &[("/(", "ImplementationSpecific")]),
        ingress("pcre", 6, &[("use-regex", "true")], "e.example", &[("/(?!x)", "ImplementationSpecific")]),
    ];
    let report = report(&objects);
    let of = |name: &str| report.ingresses.iter().find(|one| one.name == name).unwrap();
    assert!(of("hashed").differs.is_empty(), "{report}");
    assert_eq!((codes(&of("late").broken), of("late").differs.len()), (vec!["no-effect"], 0));
    assert!(of("plain").differs.is_empty(), "{report}");
    assert_eq!(
        (codes(&of("certified").broken), codes(&of("certified").differs)),
        (vec!["fails-open"], vec!["plain-http"])
    );
    assert_eq!(codes(&of("beside").quirks), ["host-wide"]);
    assert_eq!(codes(&of("broken").broken), ["frozen"]);
    assert_eq!((of("pcre").verdict, codes(&of("pcre").refused)), (Verdict::Refused, vec!["regular-expression"]));
}

#[test]
fn options_and_flags_are_found_and_judged() {
    let data = json!({
        "proxy-body-size": "8m", "proxy-buffer-size": "16k", "http-snippet": "x;", "use-htttp2": "true",
        "proxy-read-timeout": "soon",
    });
    let flags = [
        "--tcp-services-configmap=nginx/tcp",
        "--enable-ssl-passthrough",
        "--watch-namespace",
        "shop",
        "--report-node-internal-ip-address",
        "-v=2",
    ];
    let passthrough = ingress("web", 1, &[("ssl-passthrough", "true")], "a.example", &[("/", "Prefix")]);
    let (report, compiled) = migrated(&[options(&data), passthrough], &flags);
    let summary = &report.summary;
    let tally = (summary.options.served, summary.options.needless, summary.options.differs);
    assert_eq!((tally, summary.options.unknown, summary.options.invalid), ((1, 1, 1), 1, 1));
    assert_eq!((summary.flags.served, summary.flags.differs, summary.flags.needless), (4, 1, 1));
    assert_eq!(report.controller.workload.as_deref(), Some("Deployment nginx/controller"));
    let start = report.controller.start_with.join(" ");
    let rest = "--enable-ssl-passthrough --watch-namespace shop";
    assert_eq!(start, format!("--config-map nginx/options --tcp-services-configmap nginx/tcp {rest}"));
    // The flag is taken over, so what needs it is alike.
    assert_eq!(report.ingresses[0].verdict, Verdict::Alike, "{report}");
    assert!(report.ingresses[0].broken.is_empty(), "{report}");
    assert!(compiled.compiler.table().connections.passthrough.len() == 1);
    assert!(report.differs());
}

#[test]
fn a_controller_may_be_chosen_and_flags_be_given() {
    let choice = Choice {
        workload: Some(ObjectKey::new("other", "controller")),
        flags: vec!["--configmap=nginx/options".into(), "--enable-ssl-passthrough=true".into()],
    };
    let mut migration = Migration::new(settings(Publish::Nothing), choice);
    migration.apply([deployment(&["--ingress-class=internal"])]);
    migration.apply([Fact::Input(input(&options(&json!({"hsts": "false"}))))]);
    let report = migration.report(&migration.compile(now()));
    assert_eq!(report.controller.workload, None);
    assert_eq!(report.controller.config_map.as_deref(), Some("nginx/options"));
    assert_eq!(report.summary.options.served, 1);
    assert_eq!(report.controller.start_with, ["--config-map nginx/options", "--enable-ssl-passthrough"]);
}

#[test]
fn ingresses_of_others_are_listed_and_not_judged() {
    let mut foreign = ingress("foreign", 1, &[("server-snippet", "x;")], "a.example", &[("/", "Prefix")]);
    foreign["spec"]["ingressClassName"] = json!("traefik");
    let mut ours = ingress("ours", 2, &[], "b.example", &[("/", "Prefix")]);
    ours["spec"]["ingressClassName"] = json!("landfall");
    let report = report(&[foreign, ours]);
    assert_eq!((report.summary.ingresses, report.summary.foreign), (0, 2));
    assert!(!report.differs());
}

#[test]
fn what_a_folder_leaves_out_is_not_said_to_be_missing() {
    let mut migration = Migration::new(settings(Publish::Nothing), Choice::default());
    let guarded = [("auth-type", "basic"), ("auth-secret", "users")];
    let mut object = ingress("web", 1, &guarded, "a.example", &[("/", "Prefix")]);
    object["spec"]["tls"] = json!([{"hosts": ["a.example"], "secretName": "web-tls"}]);
    migration.apply([Fact::Input(input(&object))]);
    let report = migration.report(&migration.compile(now()));
    assert_eq!(report.ingresses[0].verdict, Verdict::Alike, "{report}");
    assert!(report.ingresses[0].broken.is_empty(), "{report}");
    assert!(report.ingresses[0].routes[0].fault.starts_with("not known"), "{report}");
}

#[test]
fn every_host_is_asked_before_the_limit_ends() {
    let hosts: Vec<String> = (0..10).map(|number| format!("h{number}.example")).collect();
    let paths: Vec<String> = (0..10).map(|number| format!("/p{number}(/|$)(.*)")).collect();
    let paths: Vec<(&str, &str)> = paths.iter().map(|path| (path.as_str(), "ImplementationSpecific")).collect();
    let annotations = [("rewrite-target", "/$2"), ("enable-cors", "true")];
    let objects: Vec<Value> = hosts
        .iter()
        .enumerate()
        .map(|(age, host)| ingress(host, u8::try_from(age % 9).unwrap() + 1, &annotations, host, &paths))
        .collect();
    let (_, compiled) = migrated(&objects, &[]);
    let (some, left_out) = probes(&compiled, 100);
    assert_eq!(some.len(), 100);
    assert!(left_out > 100);
    for host in hosts.iter().map(String::as_str).chain(["landfall-compare.invalid"]) {
        assert!(some.iter().any(|probe| probe.host == host), "{host}");
    }
    let (all, left_out) = probes(&compiled, usize::MAX);
    assert_eq!(left_out, 0);
    for url in ["http://h0.example/p3", "https://h0.example/p3/", "http://h0.example/landfall-compare-unknown"] {
        assert!(all.iter().any(|probe| probe.url() == url), "{url}");
    }
    assert!(all.iter().any(|probe| probe.method.as_str() == "OPTIONS" && probe.scheme == Scheme::Https));
}

#[test]
fn text_and_html_hold_what_was_found() {
    let bad = ingress("web", 1, &[("load-balance", "<b>ewma</b>")], "shop.example", &[("/", "Prefix")]);
    let report = report(&[bad]);
    let (text, html) = (report.to_string(), Html(&report).to_string());
    assert!(text.contains("shop/web: differs") && text.contains("<b>ewma</b>"), "{text}");
    assert!(html.starts_with("<!DOCTYPE html>") && html.trim_end().ends_with("</html>"), "{html}");
    assert!(html.contains("&lt;b&gt;ewma&lt;/b&gt;") && !html.contains("<b>ewma"), "{html}");
    for outside in ["src=", "href=", "@import", "url("] {
        assert!(!html.contains(outside), "{outside}");
    }
}
