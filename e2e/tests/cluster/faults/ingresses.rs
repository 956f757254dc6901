//! Faults of Ingresses, and of what stands behind and around them.

use landfall_e2e::testbed::LANDFALL;
use serde_json::{Value, json};

use super::deed::Deed::{self, Create, Set};
use super::deed::Object;
use super::{Fault, NAMESPACE};
use crate::pebble::REFUSED;

pub(super) const PROGRAM: &str = "landfall-ingress";

const WEB: Object = ["ingress", NAMESPACE, "web"];
const SERVICE: Object = ["service", NAMESPACE, "web"];
const ECHO: Object = ["deployment", NAMESPACE, "echo"];
const CLASS: Object = ["ingressclass", "", "landfall"];
const IS_DEFAULT: &str = "/metadata/annotations/ingressclass.kubernetes.io~1is-default-class";
const SECRET: &str = "/spec/tls/0/secretName";

fn fault(what: &'static str, deeds: Vec<Deed>, line: [&'static str; 3]) -> Fault {
    Fault { what, deeds, program: PROGRAM, line }
}

fn one(what: &'static str, deed: Deed, line: [&'static str; 3]) -> Fault {
    fault(what, vec![deed], line)
}

fn web(place: &'static str, value: Value) -> Deed {
    Set(WEB, place, value)
}

fn service(place: &'static str, value: Value) -> Deed {
    Set(SERVICE, place, value)
}

fn container(field: &'static str, value: Value) -> Deed {
    Set(ECHO, field, value)
}

fn class(name: &str, controller: &str, is_default: bool) -> Deed {
    let annotations =
        if is_default { json!({"ingressclass.kubernetes.io/is-default-class": "true"}) } else { json!({}) };
    Create(
        json!({"apiVersion": "networking.k8s.io/v1", "kind": "IngressClass",
            "metadata": {"name": name, "annotations": annotations}, "spec": {"controller": controller}})
        .to_string(),
    )
}

/// One more Ingress for the app, with TLS by a Secret of its own.
fn asks(class: &str, annotations: Value, host: &str) -> Deed {
    Create(
        json!({"apiVersion": "networking.k8s.io/v1", "kind": "Ingress",
            "metadata": {"name": "asks", "namespace": NAMESPACE, "annotations": annotations},
            "spec": {"ingressClassName": class, "tls": [{"hosts": [host], "secretName": "asks"}],
                "rules": [{"host": host, "http": {"paths": [{"path": "/", "pathType": "Prefix",
                    "backend": {"service": {"name": "web", "port": {"number": 80}}}}]}}]}})
        .to_string(),
    )
}

#[expect(clippy::too_many_lines, reason = "a table")]
pub(super) fn faults() -> Vec<Fault> {
    let deny = json!({"apiVersion": "networking.k8s.io/v1", "kind": "NetworkPolicy",
        "metadata": {"name": "deny", "namespace": NAMESPACE}, "spec": {"podSelector": {}, "policyTypes": ["Ingress"]}});
    // The same host and path in another namespace, younger than the one that is there.
    let younger = json!({"apiVersion": "v1", "kind": "List", "items": [
        {"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": "faults-too"}},
        {"apiVersion": "networking.k8s.io/v1", "kind": "Ingress", "metadata": {"name": "web", "namespace": "faults-too"},
            "spec": {"ingressClassName": "landfall", "rules": [{"host": "app.faults.test", "http": {"paths": [
                {"path": "/", "pathType": "Prefix", "backend": {"service": {"name": "web", "port": {"number": 80}}}}]}}]}}]});
    let traefik = json!({"apiVersion": "apps/v1", "kind": "Deployment", "metadata": {"name": "traefik",
        "namespace": NAMESPACE, "labels": {"app.kubernetes.io/name": "traefik"}}, "spec": {"replicas": 1,
        "selector": {"matchLabels": {"a": "traefik"}}, "template": {"metadata": {"labels": {"a": "traefik"}},
        "spec": {"containers": [{"name": "c", "image": "landfall/testbed-pause:1", "imagePullPolicy": "Never"}]}}}});
    let ingress: Object = ["deployment", LANDFALL, "landfall-ingress"];
    vec![
        one(
            "a Secret that is missing",
            web(SECRET, json!("nothing")),
            ["ingress faults/web", "create", "[UnknownSecret]"],
        ),
        one(
            "a certificate that has expired",
            web(SECRET, json!("expired")),
            ["ingress faults/web", "renew", "[CertificateExpired]"],
        ),
        one(
            "a certificate for another host",
            web(SECRET, json!("elsewhere")),
            ["ingress faults/web", "app.faults.test", "[CertificateNameMismatch]"],
        ),
        one("a key of another certificate", web(SECRET, json!("unpaired")), ["faults/", "key", "[KeyMismatch]"]),
        one(
            "a Service that is missing",
            web("/spec/rules/0/http/paths/0/backend/service/name", json!("wbe")),
            ["ingress faults/web", "wbe", "[UnknownService]"],
        ),
        one(
            "a wrong port name",
            web("/spec/rules/0/http/paths/0/backend/service/port/name", json!("web")),
            ["ingress faults/web", "http", "[UnknownPort]"],
        ),
        one(
            "a target port of no container",
            service("/spec/ports/0/targetPort", json!("web")),
            ["service faults/web", "name a port of the containers", "[UnknownTargetPort]"],
        ),
        one(
            "a selector that selects nothing",
            service("/spec/selector/app", json!("ehco")),
            ["service faults/web", "selector", "[NoMatchingPods]"],
        ),
        one(
            "no replica",
            container("/spec/replicas", json!(0)),
            ["service faults/web", "kubectl -n faults scale deployment echo", "[NoMatchingPods]"],
        ),
        one(
            "pods that are not ready",
            container("/spec/template/spec/containers/0/readinessProbe/httpGet/port", json!(1)),
            ["pod faults/echo-", "readiness probe", "[PodsNotReady]"],
        ),
        one(
            "a pod that crashes",
            container("/spec/template/spec/containers/0/args", json!(["pod", "--nonsense"])),
            ["pod faults/echo-", "CrashLoopBackOff", "[PodsNotReady]"],
        ),
        one(
            "an image that no node has",
            container("/spec/template/spec/containers/0/image", json!("landfall/nothing:1")),
            ["pod faults/echo-", "ErrImageNeverPull", "[PodsNotReady]"],
        ),
        one(
            "a NetworkPolicy in the way",
            Create(deny.to_string()),
            ["networkpolicy faults/deny", "add a rule", "[BlockedByPolicy]"],
        ),
        one(
            "a class that does not exist",
            web("/spec/ingressClassName", json!("landfal")),
            ["ingress faults/web", "landfall", "[UnknownIngressClass]"],
        ),
        fault(
            "a class that nobody serves",
            vec![class("public", "k8s.io/ingress-nginx", false), asks("public", json!({}), "app.faults.test")],
            ["ingress faults/asks", "landfall", "[ClassNotServed]"],
        ),
        fault(
            "no class and no default",
            vec![Set(CLASS, IS_DEFAULT, json!("false")), web("/spec/ingressClassName", Value::Null)],
            ["ingress faults/web", "set it to landfall", "[NoIngressClass]"],
        ),
        fault(
            "two default classes",
            vec![class("two", "landfall.dev/ingress", true), web("/spec/ingressClassName", Value::Null)],
            ["ingressclass ", "is-default-class", "[SeveralDefaultClasses]"],
        ),
        one(
            "one host and path in two namespaces",
            Create(younger.to_string()),
            ["ingress faults-too/web", "faults/web", "[PathConflict]"],
        ),
        one(
            "an annotation that can't be read",
            web("/metadata/annotations/nginx.ingress.kubernetes.io~1whitelist-source-range", json!("everybody")),
            ["ingress faults/web", "whitelist-source-range", "[InvalidAnnotation]"],
        ),
        one(
            "a DNS record that leads elsewhere",
            web("/spec/rules/0/host", json!("elsewhere.faults.test")),
            ["ingress faults/web", "correct the record", "[DnsElsewhere]"],
        ),
        one(
            "no DNS record",
            web("/spec/rules/0/host", json!("nowhere.faults.test")),
            ["ingress faults/web", "add a record", "[DnsMissing]"],
        ),
        one(
            "another Ingress controller",
            Create(traefik.to_string()),
            ["deployment faults/traefik", "Traefik", "[Rival]"],
        ),
        one(
            "an ingress that does not run",
            Set(ingress, "/spec/replicas", json!(0)),
            ["deployment landfall-system/landfall-ingress", "kubectl", "[NotRunning]"],
        ),
        one(
            "a certificate is asked for, and nobody orders any",
            web("/metadata/annotations/landfall.dev~1acme", json!("true")),
            ["ingress faults/web", "ingress.acme in the chart", "[AcmeOff]"],
        ),
    ]
}

/// Faults of certificates that the ingress orders itself.
pub(super) fn faults_of_certificates() -> Vec<Fault> {
    let asks = |issuer: &str, host: &str| asks("landfall", json!({"landfall.dev/acme": issuer}), host);
    vec![
        one(
            "an issuer that is not known",
            asks("lna", "app.faults.test"),
            ["ingress faults/asks", "lan", "[AcmeUnknownIssuer]"],
        ),
        one(
            "a CA that can't be reached",
            asks("away", "app.faults.test"),
            ["ingress faults/asks", "", "[AcmeUnreachable]"],
        ),
        one("a CA that refuses a host", asks("lan", REFUSED), ["ingress faults/asks", "", "[AcmeRefused]"]),
    ]
}
