//! Which certificate answers which name, and what is said of those that can't.

#![allow(clippy::unwrap_used, clippy::panic, reason = "a test fails by panicking")]

mod support;

use std::sync::Arc;
use std::time::Duration;

use landfall_ingress_model::compiler::{Built, Compiler};
use landfall_ingress_model::host::HostName;
use landfall_ingress_model::input::Input;
use landfall_ingress_model::path::CanonicalPath;
use landfall_ingress_model::policy::Demand;
use landfall_ingress_model::settings::{HostOwnership, Publish};
use landfall_ingress_model::table::{Action, HttpsRedirect};
use landfall_model::{Change, ObjectKey};
use rustls_pki_types::UnixTime;
use serde_json::{Value, json};
use support::{certificate, input, now, settings};

fn ingress(name: &str, age: u8, host: &str, tls: &Value) -> Input {
    ingress_of("landfall", name, age, host, tls)
}

fn ingress_of(class: &str, name: &str, age: u8, host: &str, tls: &Value) -> Input {
    let backend = json!({"service": {"name": "a", "port": {"number": 80}}});
    input(&json!({
        "kind": "Ingress",
        "metadata": {"name": name, "namespace": "shop", "creationTimestamp": format!("2026-01-0{age}T00:00:00Z")},
        "spec": {
            "ingressClassName": class, "tls": tls,
            "rules": [{"host": host, "http": {"paths": [{"path": format!("/{name}"), "pathType": "Prefix", "backend": backend}]}}],
        },
    }))
}

/// An Ingress of any namespace; without a host it has TLS entries only.
fn tenant(namespace: &str, age: u8, host: Option<&str>, tls: &Value) -> Input {
    let backend = json!({"service": {"name": "a", "port": {"number": 80}}});
    let rules = host.map(
        |host| json!({"host": host, "http": {"paths": [{"path": "/", "pathType": "Prefix", "backend": backend}]}}),
    );
    let created = format!("2026-01-0{age}T00:00:00Z");
    let meta = json!({"name": format!("i{age}"), "namespace": namespace, "creationTimestamp": created});
    let rules: Vec<Value> = rules.into_iter().collect();
    input(
        &json!({"kind": "Ingress", "metadata": meta, "spec": {"ingressClassName": "nginx", "tls": tls, "rules": rules}}),
    )
}

fn secret_of(namespace: &str, names: &[&str]) -> Input {
    let (certificate, key) = certificate(names, 2026, 2027);
    let data = json!({"tls.crt": certificate, "tls.key": key});
    let meta = json!({"name": "s", "namespace": namespace});
    input(&json!({"kind": "Secret", "metadata": meta, "type": "kubernetes.io/tls", "stringData": data}))
}

fn service() -> [Input; 2] {
    let meta = json!({"name": "a", "namespace": "shop", "labels": {"kubernetes.io/service-name": "a"}});
    [
        input(&json!({"kind": "Service", "metadata": meta, "spec": {"ports": [{"port": 80}]}})),
        input(&json!({
            "kind": "EndpointSlice", "metadata": meta, "addressType": "IPv4",
            "endpoints": [{"addresses": ["10.0.0.1"]}], "ports": [{"port": 8080}],
        })),
    ]
}

fn secret(name: &str, kind: &str, certificate: Option<&str>, key: Option<&str>) -> Input {
    let data = json!({"tls.crt": certificate.unwrap_or_default(), "tls.key": key.unwrap_or_default()});
    let meta = json!({"name": name, "namespace": "shop"});
    input(&json!({"kind": "Secret", "metadata": meta, "type": kind, "stringData": data}))
}

fn tls_secret(name: &str, (certificate, key): &(String, String)) -> Input {
    secret(name, "kubernetes.io/tls", Some(certificate), Some(key))
}

fn build(compiler: &mut Compiler, inputs: impl IntoIterator<Item = Input>) -> Built {
    compiler.apply(inputs);
    compiler.build(now())
}

fn served(built: &Built, host: &str) -> Option<ObjectKey> {
    let host = HostName::from_authority(host).unwrap();
    built.table.certificates.find(Some(&host)).map(|certificate| certificate.secret.clone())
}

fn reasons(built: &Built) -> Vec<(&str, &str, &str)> {
    built.problems.iter().map(|found| (found.reason.as_str(), &*found.field, &*found.value)).collect()
}

#[test]
fn what_is_wrong_with_a_secret_is_said_once_and_the_default_answers() {
    let good = certificate(&["a.example"], 2026, 2027);
    let other = certificate(&["a.example"], 2026, 2027);
    let whole = "kubernetes.io/tls";
    let garbage = "-----BEGIN CERTIFICATE-----\n!!!\n-----END CERTIFICATE-----\n";
    let cases: [(&str, Option<Input>, &str); 11] = [
        ("missing", None, "UnknownSecret"),
        ("type", Some(secret("s", "Opaque", None, None)), "IncompleteSecret"),
        ("no certificate", Some(secret("s", whole, None, Some(&good.1))), "IncompleteSecret"),
        ("no key", Some(secret("s", whole, Some(&good.0), None)), "IncompleteSecret"),
        ("no PEM", Some(secret("s", whole, Some("text"), Some(&good.1))), "InvalidCertificate"),
        ("bad PEM", Some(secret("s", whole, Some(garbage), Some(&good.1))), "InvalidCertificate"),
        ("bad key", Some(secret("s", whole, Some(&good.0), Some("text"))), "InvalidKey"),
        ("swapped", Some(secret("s", whole, Some(&good.1), Some(&good.0))), "InvalidCertificate"),
        ("other key", Some(secret("s", whole, Some(&good.0), Some(&other.1))), "KeyMismatch"),
        ("expired", Some(tls_secret("s", &certificate(&["a.example"], 2020, 2021))), "CertificateExpired"),
        ("early", Some(tls_secret("s", &certificate(&["a.example"], 2030, 2031))), "CertificateNotYetValid"),
    ];
    for (name, secret, reason) in cases {
        let mut settings = settings(Publish::Nothing);
        settings.default_certificate = Some(ObjectKey::new("shop", "default"));
        let mut compiler = Compiler::new(settings);
        let tls = json!([{"hosts": ["a.example"], "secretName": "s"}]);
        let default = tls_secret("default", &certificate(&["*.example"], 2026, 2027));
        let inputs =
            service().into_iter().chain([ingress_of("nginx", "a", 1, "a.example", &tls), default]).chain(secret);
        let built = build(&mut compiler, inputs);
        assert_eq!(reasons(&built), [(reason, "spec.tls[0].secretName", "s")], "{name}");
        assert!(!built.problems[0].remedy.is_empty(), "{name}");
        assert_eq!(served(&built, "a.example"), Some(ObjectKey::new("shop", "default")), "{name}");
    }
}

/// The problem that an Ingress with this Secret has.
fn problem_with(certificate: &str, key: &str) -> String {
    let mut compiler = Compiler::new(settings(Publish::Nothing));
    let tls = json!([{"hosts": ["a.example"], "secretName": "s"}]);
    let secret = secret("s", "kubernetes.io/tls", Some(certificate), Some(key));
    let built = build(&mut compiler, service().into_iter().chain([ingress("a", 1, "a.example", &tls), secret]));
    built.problems.iter().map(landfall_model::Problem::message).collect()
}

#[test]
fn a_key_that_cannot_be_used_is_named() {
    for (pem, name) in [
        (include_str!("keys/secp256k1.pem"), "a key on the curve secp256k1, which can't be used"),
        (include_str!("keys/rsa-1024.pem"), "an RSA key of 1024 bits, which can't be used"),
        (include_str!("keys/ed448.pem"), "a key of the algorithm Ed448, which can't be used"),
    ] {
        let problem = problem_with(pem, pem);
        assert!(problem.contains(name) && problem.contains("P-256, P-384"), "{problem}");
    }
}

#[test]
fn a_pem_file_is_read_as_people_have_it_or_the_line_is_named() {
    let (certificate, key) = certificate(&["a.example"], 2026, 2027);
    for end in [" \n", "\t\n", " \t\r\n", "\r\n"] {
        let ends = |pem: &str| pem.replace('\n', end);
        assert_eq!(problem_with(&ends(&certificate), &ends(&key)), "", "{end:?}");
    }
    let broken = format!("# mine\n{}", key.replace("KEY-----\n", "KEY----\n"));
    let problem = problem_with(&certificate, &broken);
    assert!(problem.contains("line 2 begins with -----BEGIN but does not end in -----"), "{problem}");
    let encrypted = key.replace("PRIVATE KEY", "ENCRYPTED PRIVATE KEY");
    assert!(problem_with(&certificate, &encrypted).contains("it is encrypted"));
}

#[test]
fn a_chain_that_clients_refuse_is_a_problem() {
    let (certificate, key) = certificate(&["a.example"], 2026, 2027);
    assert_eq!(problem_with(&certificate.repeat(20), &key), "");
    let problem = problem_with(&certificate.repeat(40_000), &key);
    assert!(problem.contains("the chain is longer than 64 KiB"), "{problem}");
}

#[test]
fn names_are_matched_exactly_then_by_wildcard() {
    let mut compiler = Compiler::new(settings(Publish::Nothing));
    let tls = json!([
        {"hosts": ["*.shop.example"], "secretName": "wild"},
        {"hosts": ["www.shop.example", "other.example"], "secretName": "exact"},
    ]);
    let built = build(
        &mut compiler,
        service().into_iter().chain([
            ingress("a", 1, "www.shop.example", &tls),
            tls_secret("wild", &certificate(&["*.SHOP.example"], 2026, 2027)),
            tls_secret("exact", &certificate(&["www.shop.example"], 2026, 2027)),
        ]),
    );
    let shop = |name| Some(ObjectKey::new("shop", name));
    assert_eq!(served(&built, "www.shop.example"), shop("exact"));
    assert_eq!(served(&built, "api.shop.example"), shop("wild"));
    assert_eq!(served(&built, "a.b.shop.example"), None);
    assert_eq!(served(&built, "other.example"), None);
    assert_eq!(reasons(&built), [("CertificateNameMismatch", "spec.tls[1].hosts", "other.example")]);
}

#[test]
fn an_entry_without_hosts_is_for_the_hosts_of_the_rules_else_for_the_names_of_the_certificate() {
    let tls = json!([{"secretName": "s"}]);
    for (host, found) in [("a.example", ["a.example"].as_slice()), ("", &["a.example", "b.example"])] {
        let mut compiler = Compiler::new(settings(Publish::Nothing));
        let pair = tls_secret("s", &certificate(&["a.example", "b.example"], 2026, 2027));
        let built = build(&mut compiler, service().into_iter().chain([ingress("a", 1, host, &tls), pair]));
        for name in ["a.example", "b.example"] {
            assert_eq!(served(&built, name).is_some(), found.contains(&name), "{host:?} {name}");
        }
        assert_eq!(reasons(&built), [], "{host:?}");
    }
}

#[test]
fn the_oldest_ingress_with_a_usable_secret_has_the_name() {
    let mut compiler = Compiler::new(settings(Publish::Nothing));
    let tls = |secret: &str| json!([{"hosts": ["a.example"], "secretName": secret}]);
    let pair = || certificate(&["a.example"], 2026, 2027);
    let built = build(
        &mut compiler,
        service().into_iter().chain([
            ingress("new", 2, "a.example", &tls("s2")),
            ingress("old", 1, "a.example", &tls("s1")),
            tls_secret("s1", &pair()),
            tls_secret("s2", &pair()),
        ]),
    );
    assert_eq!(served(&built, "a.example"), Some(ObjectKey::new("shop", "s1")));
    assert_eq!(reasons(&built), [("TlsConflict", "spec.tls[0].secretName", "s2")]);
    let built = build(&mut compiler, [Input::Secret(Change::Delete(ObjectKey::new("shop", "s1")))]);
    assert_eq!(served(&built, "a.example"), Some(ObjectKey::new("shop", "s2")));
    assert_eq!(reasons(&built), [("UnknownSecret", "spec.tls[0].secretName", "s1")]);
}

#[test]
fn in_class_nginx_the_oldest_ingress_with_an_entry_decides_even_without_a_certificate() {
    let mut compiler = Compiler::new(settings(Publish::Nothing));
    let own = |secret: &str| json!([{"hosts": ["a.ex"], "secretName": secret}]);
    let age = |name: &str, age, tls: &Value| ingress_of("nginx", name, age, "a.ex", tls);
    let good = tls_secret("good", &certificate(&["a.ex"], 2026, 2027));
    let built = build(
        &mut compiler,
        [age("plain", 1, &json!([])), age("first", 2, &own("gone")), age("second", 3, &own("good")), good],
    );
    assert_eq!(served(&built, "a.ex"), None);
    assert!(reasons(&built).contains(&("TlsConflict", "spec.tls[0].secretName", "a.ex")), "{:?}", reasons(&built));
    // An entry for another host decides, too.
    let other = json!([{"hosts": ["b.ex"], "secretName": "gone"}]);
    assert_eq!(served(&build(&mut compiler, [age("first", 2, &other)]), "a.ex"), None);
    // Who has no entry decides nothing.
    let built = build(&mut compiler, [age("first", 2, &json!([]))]);
    assert_eq!(served(&built, "a.ex"), Some(ObjectKey::new("shop", "good")));
    // Nor does the wildcard's certificate take the place of one that is not there.
    let wildcard = tls_secret("wide", &certificate(&["*.ex"], 2026, 2027));
    let wide = ingress_of("nginx", "wide", 4, "*.ex", &json!([{"hosts": ["*.ex"], "secretName": "wide"}]));
    let built = build(&mut compiler, [wildcard, wide, age("first", 2, &own("gone"))]);
    assert_eq!(served(&built, "a.ex"), None);
    assert_eq!(served(&built, "z.ex"), Some(ObjectKey::new("shop", "wide")));
    // Nor does a certificate for the names below it, whatever came first.
    let secret = tls_secret("below", &certificate(&["*.a.ex"], 2026, 2027));
    let below = ingress_of("nginx", "below", 5, "*.a.ex", &json!([{"hosts": ["*.a.ex"], "secretName": "below"}]));
    let built = build(&mut compiler, [secret, below]);
    assert_eq!(served(&built, "a.ex"), None);
    assert_eq!(served(&built, "z.a.ex"), Some(ObjectKey::new("shop", "below")));
}

#[test]
fn a_secret_is_swapped_and_nothing_else_changes() {
    let mut compiler = Compiler::new(settings(Publish::Nothing));
    let tls = json!([{"hosts": ["a.example"], "secretName": "s"}]);
    let first = certificate(&["a.example"], 2026, 2027);
    let inputs = service().into_iter().chain([ingress("a", 1, "a.example", &tls), tls_secret("s", &first)]);
    let before = build(&mut compiler, inputs);
    let same = build(&mut compiler, [tls_secret("s", &first)]);
    assert!(Arc::ptr_eq(&before.table, &same.table));
    let after = build(&mut compiler, [tls_secret("s", &certificate(&["a.example"], 2026, 2027))]);
    assert!(!Arc::ptr_eq(&before.table, &after.table));
    let host = HostName::from_authority("a.example").unwrap();
    assert!(
        Arc::ptr_eq(before.table.exact.get(&host).unwrap(), after.table.exact.get(&host).unwrap()),
        "the routes are the same ones"
    );
    let unused = build(&mut compiler, [tls_secret("unused", &first)]);
    assert!(Arc::ptr_eq(&after.table, &unused.table));
}

#[test]
fn time_alone_makes_a_certificate_valid_and_ends_it() {
    let mut compiler = Compiler::new(settings(Publish::Nothing));
    let tls = json!([{"hosts": ["a.example"], "secretName": "s"}]);
    let pair = tls_secret("s", &certificate(&["a.example"], 2027, 2028));
    let built = build(&mut compiler, service().into_iter().chain([ingress("a", 1, "a.example", &tls), pair]));
    assert_eq!(reasons(&built)[0].0, "CertificateNotYetValid");
    let begin = built.next_deadline.unwrap();
    let shortly_before = UnixTime::since_unix_epoch(Duration::from_secs(begin.as_secs() - 1));
    assert_eq!(served(&compiler.build(shortly_before), "a.example"), None);
    let valid = compiler.build(begin);
    assert!(served(&valid, "a.example").is_some() && valid.problems.is_empty());
    let end = valid.next_deadline.unwrap();
    assert!(end.as_secs() > begin.as_secs());
    let over = compiler.build(end);
    assert_eq!(reasons(&over)[0].0, "CertificateExpired");
    assert_eq!((served(&over, "a.example"), over.next_deadline), (None, None));
}

#[test]
fn ingress_nginx_redirects_where_a_tls_entry_covers_the_host() {
    let mut compiler = Compiler::new(settings(Publish::Nothing));
    let none = json!([]);
    let redirect = |built: &Built, host: &str| {
        let routes = built.table.exact.get(&HostName::from_authority(host).unwrap()).unwrap();
        routes.prefix.values().all(|route| route.policy.https_redirect != HttpsRedirect::Never)
    };
    let built = build(&mut compiler, service().into_iter().chain([ingress_of("nginx", "a", 1, "a.example", &none)]));
    assert!(!redirect(&built, "a.example"));
    // The entry of another Ingress counts as well, also as a wildcard and without a certificate of its own.
    let cover = json!([{"hosts": ["*.example"]}]);
    let built = build(&mut compiler, [ingress_of("nginx", "b", 2, "*.example", &cover)]);
    assert!(redirect(&built, "a.example"));
    let built = build(&mut compiler, [Input::Ingress(Change::Delete(ObjectKey::new("shop", "b")))]);
    assert!(!redirect(&built, "a.example"));
}

#[test]
fn a_default_certificate_that_cannot_be_used_is_a_problem_of_the_secret() {
    let mut settings = settings(Publish::Nothing);
    settings.default_certificate = Some(ObjectKey::new("shop", "default"));
    let mut compiler = Compiler::new(settings);
    let built = compiler.build(now());
    assert_eq!(built.problems[0].object.to_string(), "secret shop/default");
    assert_eq!(reasons(&built), [("UnknownSecret", "metadata.name", "default")]);
    let built = build(&mut compiler, [tls_secret("default", &certificate(&["x.example"], 2026, 2027))]);
    assert_eq!(reasons(&built), []);
    assert_eq!(served(&built, "any.example"), Some(ObjectKey::new("shop", "default")));
}

#[test]
fn a_certificate_is_used_only_where_nobody_elses_rules_are_for_the_host() {
    let tls = |host: &str| json!([{"hosts": [host], "secretName": "s"}]);
    let secrets = || ["shop", "evil"].map(|namespace| secret_of(namespace, &["www.example", "*.example"]));
    // The older Ingress's claim, the rule and the claim of the newer one, and who is served.
    let cases: [(&str, Option<&str>, Value, Option<&str>); 7] = [
        // Nobody has a rule.
        ("www.example", None, json!([]), Some("evil")),
        ("www.example", Some("www.example"), json!([]), None),
        ("www.example", Some("*.example"), json!([]), None),
        ("*.example", Some("www.example"), json!([]), None),
        ("*.example", Some("www.example"), tls("*.example"), Some("shop")),
        ("www.example", Some("www.example"), tls("www.example"), Some("shop")),
        ("*.example", Some("other.example"), json!([]), Some("evil")),
    ];
    for (claimed, rule, own, expected) in cases {
        for ownership in [HostOwnership::None, HostOwnership::Namespace] {
            let mut settings = settings(Publish::Nothing);
            settings.host_ownership = ownership;
            let mut compiler = Compiler::new(settings);
            let evil = tenant("evil", 1, None, &tls(claimed));
            let shop = rule.map(|rule| tenant("shop", 2, Some(rule), &own));
            let built = build(&mut compiler, secrets().into_iter().chain([evil]).chain(shop));
            let place = format!("evil claims {claimed}, shop has a rule for {rule:?} ({ownership:?})");
            assert_eq!(
                served(&built, "www.example").map(|secret| secret.namespace().to_owned()).as_deref(),
                expected,
                "{place}"
            );
            // Plain requests go to HTTPS only where the certificate may be used.
            let path = CanonicalPath::parse("/").unwrap();
            let route = built.table.find(Some(&HostName::from_authority("www.example").unwrap()), &path);
            let redirected = route.map(|route| route.policy.https_redirect != HttpsRedirect::Never);
            let covered = rule.filter(|rule| *rule != "other.example").map(|_| expected == Some("shop"));
            assert_eq!(redirected, covered, "{place}");
        }
    }
}

#[test]
fn a_certificate_that_is_not_used_is_told_of() {
    let mut compiler = Compiler::new(settings(Publish::Nothing));
    let tls = json!([{"hosts": ["www.example"], "secretName": "s"}]);
    let inputs = [
        secret_of("evil", &["www.example"]),
        tenant("evil", 1, None, &tls),
        tenant("shop", 2, Some("www.example"), &json!([])),
    ];
    let built = build(&mut compiler, inputs);
    let told = |built: &Built| reasons(built).contains(&("HostNotOwned", "spec.tls[0].hosts", "www.example"));
    assert!(told(&built), "{:?}", built.problems);
    // The owner of a host under a foreign wildcard learns why its certificate is not used.
    let wild = json!([{"hosts": ["*.example"], "secretName": "s"}]);
    let inputs = [secret_of("evil", &["*.example"]), tenant("evil", 1, None, &wild)];
    let under = build(&mut compiler, inputs);
    let owner = under.problems.iter().find(|problem| problem.object.key == ObjectKey::new("shop", "i2")).unwrap();
    assert_eq!((owner.reason.as_str(), &*owner.field, &*owner.value), ("HostNotOwned", "spec.tls", "www.example"));
    let built = build(&mut compiler, [secret_of("evil", &["www.example"]), tenant("evil", 1, None, &tls)]);
    assert!(told(&built), "{:?}", built.problems);
    // With the rule its claim goes into force.
    let built = build(&mut compiler, [Input::Ingress(Change::Delete(ObjectKey::new("shop", "i2")))]);
    assert!(!told(&built) && served(&built, "www.example") == Some(ObjectKey::new("evil", "s")));
}

/// An Ingress of the class with TLS for a.example from Secret `s`.
fn with_tls(class: &str) -> Input {
    input(&json!({
        "kind": "Ingress", "metadata": {"name": "a", "namespace": "shop"},
        "spec": {
            "ingressClassName": class, "tls": [{"hosts": ["a.example"], "secretName": "s"}],
            "rules": [{"host": "a.example"}],
            "defaultBackend": {"service": {"name": "a", "port": {"number": 80}}},
        },
    }))
}

#[test]
fn class_nginx_takes_a_secret_of_any_type() {
    let (certificate, key) = certificate(&["a.example"], 2026, 2027);
    let opaque = || secret("s", "Opaque", Some(&certificate), Some(&key));
    let served = |class: &str| {
        let built = build(&mut Compiler::new(settings(Publish::Nothing)), [with_tls(class), opaque()]);
        let reasons = reasons(&built).iter().map(|(reason, ..)| (*reason).to_owned()).collect::<Vec<_>>();
        (served(&built, "a.example").is_some(), reasons.contains(&"InvalidSecretType".to_owned()))
    };
    assert_eq!(served("nginx"), (true, false));
    assert_eq!(served("landfall"), (false, true));
}

#[test]
fn a_secret_that_class_nginx_names_is_asked_for_by_name_until_it_is_known_by_its_type() {
    let mut compiler = Compiler::new(settings(Publish::Nothing));
    let wanted = |built: &Built| built.missing_secrets.iter().map(ToString::to_string).collect::<Vec<_>>();
    assert!(build(&mut compiler, [with_tls("landfall")]).missing_secrets.is_empty());
    let built = build(&mut compiler, [with_tls("nginx")]);
    assert_eq!(wanted(&built), ["shop/s"]);
    // It is found by its name, and stays wanted, since that is how it is watched.
    let pair = certificate(&["a.example"], 2026, 2027);
    let Input::Secret(found) = secret("s", "Opaque", Some(&pair.0), Some(&pair.1)) else { panic!("a Secret") };
    let built = build(&mut compiler, [Input::NamedSecret(found)]);
    assert_eq!(
        (served(&built, "a.example"), wanted(&built)),
        (Some(ObjectKey::new("shop", "s")), vec!["shop/s".into()])
    );
    // A list of those of the right type leaves it alone.
    let built = build(&mut compiler, [Input::Secret(Change::Replace(Vec::new()))]);
    assert!(served(&built, "a.example").is_some());
    let built = build(&mut compiler, [tls_secret("s", &pair)]);
    assert!(wanted(&built).is_empty());
    let built = build(&mut compiler, [Input::NamedSecret(Change::Delete(ObjectKey::new("shop", "s")))]);
    assert!(served(&built, "a.example").is_some());
    let built = build(&mut compiler, [Input::Ingress(Change::Delete(ObjectKey::new("shop", "a")))]);
    assert!(wanted(&built).is_empty());
}

#[test]
fn a_secret_of_a_namespace_that_is_not_read_is_told_of() {
    let mut settings = settings(Publish::Nothing);
    settings.secret_namespaces = vec!["certificates".into()];
    let mut compiler = Compiler::new(settings);
    let built = build(&mut compiler, [with_tls("nginx")]);
    let told = built.problems.iter().find(|problem| problem.reason.as_str() == "UnknownSecret").unwrap();
    assert!(told.cause.contains("Secrets of namespace shop are not read"), "{}", told.cause);
    assert!(built.missing_secrets.is_empty());
}

/// An Ingress of class nginx with annotations, at `/NAME` of `a.example`.
fn annotated(name: &str, age: u8, annotations: &[(&str, &str)]) -> Input {
    let backend = json!({"service": {"name": "a", "port": {"number": 80}}});
    let annotations: serde_json::Map<String, Value> =
        annotations.iter().map(|(name, value)| (format!("nginx.ingress.kubernetes.io/{name}"), json!(value))).collect();
    let created = format!("2026-01-0{age}T00:00:00Z");
    let meta = json!({"name": name, "namespace": "shop", "creationTimestamp": created, "annotations": annotations});
    let path = json!({"path": format!("/{name}"), "pathType": "Prefix", "backend": backend});
    let rules = json!([{"host": "a.example", "http": {"paths": [path]}}]);
    input(&json!({"kind": "Ingress", "metadata": meta, "spec": {"ingressClassName": "nginx", "rules": rules}}))
}

fn authorities(name: &str, text: &str) -> Input {
    let meta = json!({"name": name, "namespace": "shop"});
    input(&json!({"kind": "Secret", "metadata": meta, "type": "Opaque", "stringData": {"ca.crt": text}}))
}

#[test]
fn the_oldest_ingress_of_a_host_says_whose_clients_are_let_in() {
    let mut compiler = Compiler::new(settings(Publish::Nothing));
    let inputs = service().into_iter().chain([
        annotated("a", 1, &[]),
        annotated("b", 2, &[("auth-tls-secret", "shop/one")]),
        annotated("c", 3, &[("auth-tls-secret", "shop/two"), ("auth-tls-verify-client", "optional")]),
    ]);
    let asked = |built: &Built| {
        let host = HostName::from_authority("a.example").unwrap();
        let policy = built.table.host(Some(&host)).client_certificates().cloned();
        policy.map(|policy| (policy.demand, policy.authorities.as_ref().map(drop).map_err(ToString::to_string)))
    };
    let built = build(&mut compiler, inputs);
    assert_eq!(asked(&built), Some((Demand::Required, Err("there is no Secret shop/one".into()))));
    assert!(built.missing_secrets.contains(&ObjectKey::new("shop", "one")));
    for (text, expected) in [
        ("", Err("Secret shop/one has no ca.crt".to_owned())),
        ("x", Err("in Secret shop/one, ca.crt can't be read: it has no certificate".to_owned())),
        (&*certificate(&["x"], 2026, 2027).0, Ok(())),
    ] {
        let built = build(&mut compiler, [authorities("one", text)]);
        assert_eq!(asked(&built), Some((Demand::Required, expected)));
    }
    let gone = Input::Ingress(Change::Delete(ObjectKey::new("shop", "b")));
    let built = build(&mut compiler, [gone, authorities("two", &certificate(&["x"], 2026, 2027).0)]);
    assert_eq!(asked(&built), Some((Demand::Optional, Ok(()))));
}

#[test]
fn nothing_is_served_less_protected_than_it_says() {
    let ca = certificate(&["x"], 2026, 2027).0;
    let cases: [(&[(&str, &str)], bool); 12] = [
        (&[("auth-tls-verify-client", "on")], false),
        (&[("auth-tls-verify-client", "optional")], true),
        (&[("auth-tls-match-cn", "CN=x")], false),
        (&[("auth-tls-secret", "shop/ca"), ("auth-tls-match-cn", "CN=x")], true),
        (&[("proxy-ssl-verify", "on")], false),
        (&[("proxy-ssl-verify", "off"), ("proxy-ssl-name", "x")], true),
        (&[("proxy-ssl-verify", "yes"), ("proxy-ssl-secret", "shop/ca")], false),
        (&[("proxy-ssl-secret", "ca")], false),
        (&[("proxy-ssl-secret", "other/ca")], false),
        (&[("proxy-ssl-secret", "shop/none")], false),
        (&[("proxy-ssl-secret", "shop/ca"), ("proxy-ssl-verify", "on"), ("proxy-ssl-name", "x")], true),
        (&[("proxy-ssl-secret", "shop/bad")], true),
    ];
    for (annotations, is_served) in cases {
        let mut compiler = Compiler::new(settings(Publish::Nothing));
        let secrets = [authorities("ca", &ca), authorities("bad", "x")];
        let inputs = service().into_iter().chain(secrets).chain([annotated("a", 1, annotations)]);
        let built = build(&mut compiler, inputs);
        let host = HostName::from_authority("a.example").unwrap();
        let route = built.table.find(Some(&host), &CanonicalPath::parse("/a").unwrap()).unwrap();
        assert_eq!(matches!(route.action, Action::Forward(_)), is_served, "{annotations:?}");
        assert!(is_served || !built.problems.is_empty(), "{annotations:?}");
    }
}
