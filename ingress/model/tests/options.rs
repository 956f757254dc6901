//! Keys of the `ConfigMap` that are the defaults of annotations: they hold where an Ingress says nothing.
#![allow(clippy::unwrap_used, clippy::panic, reason = "a test may panic")]

mod support;

use std::sync::Arc;
use std::time::Duration;

use http::StatusCode;
use landfall_ingress_model::compiler::Compiler;
use landfall_ingress_model::host::HostName;
use landfall_ingress_model::path::CanonicalPath;
use landfall_ingress_model::policy::{HttpsRedirect, RoutePolicy};
use landfall_ingress_model::settings::Publish;
use landfall_ingress_model::table::Table;
use landfall_model::ObjectKey;
use serde_json::{Map, Value, json};
use support::{input, now, settings};

/// The table of one Ingress of a class with these annotations, under these options.
fn table(class: &str, options: &Value, annotations: &Value) -> (Arc<Table>, Vec<String>) {
    let mut settings = settings(Publish::Nothing);
    settings.config_map = ObjectKey::parse("landfall/options");
    let mut compiler = Compiler::new(settings);
    let annotations: Map<String, Value> = annotations
        .as_object()
        .unwrap()
        .iter()
        .map(|(name, value)| (format!("nginx.ingress.kubernetes.io/{name}"), value.clone()))
        .collect();
    let path =
        json!({"path": "/", "pathType": "Prefix", "backend": {"service": {"name": "a", "port": {"number": 80}}}});
    let ingress = json!({
        "apiVersion": "networking.k8s.io/v1", "kind": "Ingress",
        "metadata": {"name": "web", "namespace": "shop", "annotations": annotations},
        "spec": {"ingressClassName": class, "rules": [{"host": "a.example", "http": {"paths": [path]}}]},
    });
    let map = json!({
        "apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": "options", "namespace": "landfall"},
        "data": options,
    });
    compiler.apply([input(&ingress), input(&map)]);
    let built = compiler.build(now());
    let of_options = built.problems.iter().filter(|problem| &*problem.object.kind == "ConfigMap");
    (built.table.clone(), of_options.map(|problem| problem.field.clone()).collect())
}

fn policy(class: &str, options: &Value, annotations: &Value) -> Arc<RoutePolicy> {
    let (table, problems) = table(class, options, annotations);
    assert_eq!(problems, [""; 0]);
    let path = CanonicalPath::parse("/").unwrap();
    table.find(Some(&HostName::from_authority("a.example").unwrap()), &path).unwrap().policy.clone()
}

#[test]
fn attempts_are_those_of_the_options_unless_an_ingress_says_otherwise() {
    let options = json!({
        "proxy-next-upstream": "error http_502", "proxy-next-upstream-timeout": "7", "retry-non-idempotent": "true",
    });
    let retry = policy("nginx", &options, &json!({})).retry.clone().unwrap();
    assert!(retry.on_error && !retry.on_timeout && retry.any_method);
    assert_eq!((&*retry.statuses, retry.within), (&[502][..], Some(Duration::from_secs(7))));
    let own = json!({"proxy-next-upstream": "timeout", "proxy-next-upstream-timeout": "0"});
    let retry = policy("nginx", &options, &own).retry.clone().unwrap();
    assert!(retry.on_timeout && !retry.on_error && retry.any_method);
    assert_eq!((retry.statuses.len(), retry.within), (0, None));
    assert_eq!(policy("landfall", &options, &json!({})).retry, None, "they are for class nginx");
    assert_eq!(policy("nginx", &json!({"proxy-next-upstream": "error timeout"}), &json!({})).retry, None);
}

#[test]
fn values_of_backends_are_rewritten_by_the_options_unless_an_ingress_says_otherwise() {
    let options = json!({
        "proxy-redirect-from": "http://inner/", "proxy-redirect-to": "/", "proxy-cookie-path": "/one /two",
        "proxy-cookie-domain": "inner outer",
    });
    let rules = policy("nginx", &options, &json!({})).respond.clone().unwrap();
    assert_eq!(&*rules.location.as_ref().unwrap().from, "http://inner/");
    assert_eq!(&*rules.cookie_path.as_ref().unwrap().from, "/one");
    assert_eq!(&*rules.cookie_domain.as_ref().unwrap().from, "inner");
    let off = json!({"proxy-redirect-from": "off", "proxy-cookie-path": "off", "proxy-cookie-domain": "a b"});
    let rules = policy("nginx", &options, &off).respond.clone().unwrap();
    assert!(rules.location.is_none() && rules.cookie_path.is_none());
    assert_eq!(&*rules.cookie_domain.as_ref().unwrap().from, "a");
    assert!(policy("landfall", &options, &json!({})).respond.is_none());
}

#[test]
fn statuses_ports_and_errors_have_their_defaults_in_the_options() {
    let options = json!({
        "limit-req-status-code": "429", "limit-conn-status-code": "430", "use-port-in-redirects": "true",
        "custom-http-errors": "404", "disable-proxy-intercept-errors": "true", "ignore-invalid-headers": "false",
    });
    let asked = policy("nginx", &options, &json!({"limit-rps": "1", "limit-connections": "1"}));
    let limit = asked.limit.clone().unwrap();
    assert_eq!((limit.status, limit.crowded.as_u16()), (StatusCode::TOO_MANY_REQUESTS, 430));
    assert!(matches!(asked.https_redirect, HttpsRedirect::Never | HttpsRedirect::IngressNginx { with_port: true, .. }));
    assert!(!asked.errors.as_ref().unwrap().intercepts);
    assert!(!asked.forwarding.as_ref().unwrap().drops(b"a.b"));
    // An annotation is about the statuses that its own Ingress names.
    let own = json!({"disable-proxy-intercept-errors": "false"});
    assert!(!policy("nginx", &options, &own).errors.as_ref().unwrap().intercepts);
    let own = json!({"disable-proxy-intercept-errors": "false", "custom-http-errors": "503"});
    assert!(policy("nginx", &options, &own).errors.as_ref().unwrap().intercepts);
}

#[test]
fn connections_are_asked_for_what_the_options_say() {
    let options = json!({
        "keep-alive": "0", "keep-alive-requests": "100", "client-header-timeout": "3", "client-body-timeout": "4",
        "http2-max-concurrent-streams": "7", "use-http2": "false", "upstream-keepalive-connections": "5",
        "upstream-keepalive-timeout": "6", "upstream-keepalive-requests": "8", "upstream-keepalive-time": "9m",
        "ssl-protocols": "TLSv1.3", "ssl-ciphers": "ECDHE-RSA-AES128-GCM-SHA256", "proxy-protocol-header-timeout": "2s",
        "large-client-header-buffers": "8 16k",
    });
    let (table, problems) = table("nginx", &options, &json!({}));
    assert_eq!(problems, [""; 0]);
    let limits = table.connections.limits;
    assert_eq!((limits.idle, limits.requests, limits.streams), (Some(Duration::ZERO), Some(100), Some(7)));
    assert_eq!((limits.head_size, limits.upstream_idle), (Some((16 << 10, 128 << 10)), Some(5)));
    assert!(limits.without_http2 && table.connections.tls.without_http2);
    assert!(table.connections.tls.ciphers.is_some());
    let bad = json!({"keep-alive": "soon", "ssl-protocols": "SSLv3", "ssl-ciphers": "RC4-MD5"});
    let (table, problems) = self::table("nginx", &bad, &json!({}));
    assert_eq!(problems, ["data[keep-alive]", "data[ssl-ciphers]", "data[ssl-protocols]"]);
    assert_eq!(*table.connections, landfall_ingress_model::table::ConnectionRules::default());
}

#[test]
fn a_snippet_of_the_options_runs_where_the_common_service_is_asked() {
    let options = json!({
        "global-auth-url": "http://auth.example/", "global-auth-snippet": "proxy_set_header X-From all;",
    });
    let asked = policy("nginx", &options, &json!({}));
    assert!(asked.auth.as_ref().unwrap().external.as_ref().unwrap().snippet.is_some());
    let own = policy("nginx", &options, &json!({"auth-url": "http://own.example/"}));
    assert!(
        own.auth.as_ref().unwrap().external.as_ref().unwrap().snippet.is_none(),
        "another service, another snippet"
    );
    let bad = json!({"global-auth-url": "http://auth.example/", "global-auth-snippet": "lua_code_cache off;"});
    assert_eq!(table("nginx", &bad, &json!({})).1, ["data[global-auth-snippet]"]);
}

#[test]
fn what_nothing_takes_is_answered_with_the_fields_of_every_answer() {
    let hsts = |class, options: &Value| {
        let (table, _) = table(class, options, &json!({}));
        table.unmatched.as_ref().and_then(|rules| rules.hsts.clone()).map(|hsts| hsts.to_str().unwrap().to_owned())
    };
    let year = "max-age=31536000; includeSubDomains".to_owned();
    assert_eq!(hsts("nginx", &json!({})), Some(year));
    assert_eq!(
        hsts("nginx", &json!({"hsts-max-age": "60", "hsts-include-subdomains": "false"})),
        Some("max-age=60".into())
    );
    assert_eq!(hsts("nginx", &json!({"hsts": "false"})), None);
    assert_eq!(hsts("landfall", &json!({})), None, "without an Ingress of class nginx nothing is sent");
}
