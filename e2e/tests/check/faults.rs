//! Faults that people have, and what `check` says of each.

use std::fmt::Write as _;
use std::process::Command;

use anyhow::{Result, ensure};
use landfall_e2e::figures;
use landfall_e2e::kube::Cluster;
use landfall_e2e::tools;
use rcgen::{CertificateParams, KeyPair, date_time_ymd};
use serde_json::{Value, json};

use crate::fault::Deed::{Create, Delete, Set};
use crate::fault::Part::{Body, Status};
use crate::fault::{Deed, during};
use crate::scene::{check, run, setup};

const INGRESS: &str = "landfall-ingress";
const ANNOUNCER: &str = "landfall-lb-announcer";
const OWN: &str = "landfall-system";

/// What is wrong, what is done, who is asked, and which object and reason is to be named.
struct Row(&'static str, Vec<Deed>, &'static str, [&'static str; 4]);

fn row(what: &'static str, deed: Deed, program: &'static str, named: [&'static str; 4]) -> Row {
    Row(what, vec![deed], program, named)
}

fn shop(place: &'static str, value: Value) -> Deed {
    Set(Body, "ingress", "shop", "web", place, value)
}

fn rule(host: &str, service: &str) -> Value {
    json!([{"host": host, "http": {"paths": [{"path": "/", "pathType": "Prefix",
        "backend": {"service": {"name": service, "port": {"name": "http"}}}}]}}])
}

/// A Secret with a certificate for `host` that ends in this year, with its own key or another one.
fn secret(host: &str, last_year: i32, own_key: bool) -> Result<Deed> {
    let key = KeyPair::generate()?;
    let mut params = CertificateParams::new([host.to_owned()])?;
    params.not_before = date_time_ymd(2020, 1, 1);
    params.not_after = date_time_ymd(last_year, 1, 1);
    let certificate = params.self_signed(&key)?;
    let key = if own_key { key } else { KeyPair::generate()? };
    Ok(Create(
        json!({"apiVersion": "v1", "kind": "Secret", "metadata": {"name": "cert", "namespace": "shop"},
            "type": "kubernetes.io/tls", "stringData": {"tls.crt": certificate.pem(), "tls.key": key.serialize_pem()}})
        .to_string(),
    ))
}

fn tls() -> Deed {
    shop("/spec/tls", json!([{"hosts": ["a.shop.example"], "secretName": "cert"}]))
}

#[expect(clippy::too_many_lines, reason = "a table")]
fn ingresses() -> Result<Vec<Row>> {
    let web = ["Ingress", "shop", "web"];
    let named = |[kind, namespace, name]: [&'static str; 3], reason| [kind, namespace, name, reason];
    let service = ["Service", "shop", "web"];
    let crash = json!([{"name": "web", "ready": false, "restartCount": 3, "image": "web", "imageID": "",
        "state": {"waiting": {"reason": "CrashLoopBackOff", "message": "back-off"}}}]);
    let class = |name: &str, controller: &str| {
        Create(json!({"apiVersion": "networking.k8s.io/v1", "kind": "IngressClass", "metadata": {"name": name,
            "annotations": {"ingressclass.kubernetes.io/is-default-class": "true"}}, "spec": {"controller": controller}}).to_string())
    };
    let deny = json!({"apiVersion": "networking.k8s.io/v1", "kind": "NetworkPolicy",
        "metadata": {"name": "deny", "namespace": "shop"}, "spec": {"podSelector": {}, "policyTypes": ["Ingress"]}});
    let younger = json!({"apiVersion": "networking.k8s.io/v1", "kind": "Ingress", "metadata": {"name": "zz", "namespace": "shop"},
        "spec": {"ingressClassName": "landfall", "rules": rule("*.shop.example", "web")}});
    let nginx = json!({"apiVersion": "apps/v1", "kind": "Deployment", "metadata": {"name": "controller", "namespace": "shop",
        "labels": {"app.kubernetes.io/name": "ingress-nginx"}}, "spec": {"selector": {"matchLabels": {"a": "b"}},
        "template": {"metadata": {"labels": {"a": "b"}}, "spec": {"containers": [{"name": "c", "image": "registry.k8s.io/ingress-nginx/controller:v1.15.1"}]}}}});
    let annotation = json!({"nginx.ingress.kubernetes.io/whitelist-source-range": "everybody"});
    Ok(vec![
        row(
            "a selector that selects nothing",
            Set(Body, "service", "shop", "web", "/spec/selector/app", json!("wbe")),
            INGRESS,
            named(service, "NoMatchingPods"),
        ),
        row(
            "a pod that is not ready",
            Set(Status, "pod", "shop", "web-1", "/status/conditions", json!([])),
            INGRESS,
            ["Pod", "shop", "web-1", "PodsNotReady"],
        ),
        row("a pod that crashes", Row::both(&crash), INGRESS, ["Pod", "shop", "web-1", "PodsNotReady"]),
        row(
            "a Service without endpoints",
            Set(Body, "endpointslice", "shop", "web-1", "/endpoints", json!([])),
            INGRESS,
            named(service, "NoEndpoints"),
        ),
        row(
            "a target port of no container",
            Set(Body, "service", "shop", "web", "/spec/ports/0/targetPort", json!("http")),
            INGRESS,
            named(service, "UnknownTargetPort"),
        ),
        row(
            "a wrong port name",
            shop("/spec/rules/0/http/paths/0/backend/service/port/name", json!("web")),
            INGRESS,
            named(web, "UnknownPort"),
        ),
        row(
            "a Service that is missing",
            shop("/spec/rules", rule("shop.example", "wbe")),
            INGRESS,
            named(web, "UnknownService"),
        ),
        row("a Secret that is missing", tls(), INGRESS, named(web, "UnknownSecret")),
        Row(
            "a certificate that has expired",
            vec![secret("a.shop.example", 2021, true)?, tls()],
            INGRESS,
            named(web, "CertificateExpired"),
        ),
        Row(
            "a certificate for another host",
            vec![secret("b.example", 2099, true)?, tls()],
            INGRESS,
            named(web, "CertificateNameMismatch"),
        ),
        Row(
            "a key of another certificate",
            vec![secret("a.shop.example", 2099, false)?, tls()],
            INGRESS,
            named(web, "KeyMismatch"),
        ),
        Row(
            "two default classes",
            vec![
                class("one", "landfall.dev/ingress"),
                class("two", "landfall.dev/ingress"),
                shop("/spec/ingressClassName", Value::Null),
            ],
            INGRESS,
            ["IngressClass", "", "*", "SeveralDefaultClasses"],
        ),
        row(
            "a class that does not exist",
            shop("/spec/ingressClassName", json!("landfal")),
            INGRESS,
            named(web, "UnknownIngressClass"),
        ),
        row("no class", shop("/spec/ingressClassName", Value::Null), INGRESS, named(web, "NoIngressClass")),
        row(
            "a path that an older Ingress has",
            Create(younger.to_string()),
            INGRESS,
            ["Ingress", "shop", "*", "PathConflict"],
        ),
        row(
            "an access list that can't be read",
            shop("/metadata/annotations", annotation),
            INGRESS,
            named(web, "InvalidAnnotation"),
        ),
        row(
            "a NetworkPolicy in the way",
            Create(deny.to_string()),
            INGRESS,
            ["NetworkPolicy", "shop", "deny", "BlockedByPolicy"],
        ),
        row(
            "an ingress without an address",
            Set(Status, "service", OWN, "landfall-ingress", "/status/loadBalancer", json!({})),
            INGRESS,
            ["Service", OWN, "landfall-ingress", "NoAddress"],
        ),
        row(
            "an ingress that does not run",
            Set(Status, "deployment", OWN, "landfall-ingress", "/status/readyReplicas", json!(0)),
            INGRESS,
            ["Deployment", OWN, "landfall-ingress", "NotRunning"],
        ),
        row(
            "a second Ingress controller",
            Create(nginx.to_string()),
            INGRESS,
            ["Deployment", "shop", "controller", "Rival"],
        ),
        row(
            "a name that leads elsewhere",
            shop("/spec/rules", rule("localhost", "web")),
            INGRESS,
            named(web, "DnsElsewhere"),
        ),
    ])
}

impl Row {
    /// A pod whose container waits is not ready either; both stand in one status.
    fn both(containers: &Value) -> Deed {
        Set(
            Status,
            "pod",
            "shop",
            "web-1",
            "/status",
            json!({"phase": "Running", "conditions": [], "containerStatuses": containers}),
        )
    }
}

#[expect(clippy::too_many_lines, reason = "a table")]
fn addresses() -> Vec<Row> {
    let pool = ["IPAddressPool", OWN, "lan"];
    let named = |[kind, namespace, name]: [&'static str; 3], reason| [kind, namespace, name, reason];
    let front = ["Service", OWN, "landfall-ingress"];
    let of_pool = |part, place, value| Set(part, "ipaddresspool", OWN, "lan", place, value);
    let advert = |place, value| Set(Body, "l2advertisement", OWN, "lan", place, value);
    let unheard = |why: &str| {
        Set(
            Body,
            "configurationstate",
            OWN,
            "speaker-n1",
            "/metadata/annotations/landfall.dev~1unheard",
            json!(format!("n2={why}")),
        )
    };
    let exclude = |node| {
        Set(
            Body,
            "node",
            "",
            node,
            "/metadata/labels",
            json!({"node.kubernetes.io/exclude-from-external-load-balancers": ""}),
        )
    };
    let daemon_set = |name: &str, namespace: &str, labels: Value, image: &str| {
        Create(json!({"apiVersion": "apps/v1", "kind": "DaemonSet", "metadata": {"name": name, "namespace": namespace, "labels": labels},
            "spec": {"selector": {"matchLabels": {"a": "b"}}, "template": {"metadata": {"labels": {"a": "b"}},
            "spec": {"containers": [{"name": "c", "image": image}]}}}}).to_string())
    };
    let service = |more: &str| {
        Create(format!(
            "apiVersion: v1\nkind: Service\nmetadata: {{name: more, namespace: shop{}}}\nspec: {{type: LoadBalancer, ports: [{{port: 80}}]{}}}",
            more.split('|').next().unwrap_or_default(),
            more.split('|').nth(1).unwrap_or_default()
        ))
    };
    let more = ["Service", "shop", "more"];
    let taken = json!([{"ip": "192.168.10.200", "node": "n1", "reason": "ForeignHost", "mac": "02:00:00:00:99:99"}]);
    let usage = json!({"assignedIPv4": 0, "assignedIPv6": 0, "availableIPv4": 0, "availableIPv6": 0, "taken": taken});
    let elsewhere = "apiVersion: metallb.io/v1beta1\nkind: IPAddressPool\nmetadata: {name: lost, namespace: shop}\nspec: {addresses: [192.168.10.220/32]}";
    vec![
        row("no pool", Delete("ipaddresspool", OWN, "lan"), ANNOUNCER, ["Namespace", "", OWN, "NoPool"]),
        row(
            "a pool outside of the LAN",
            of_pool(Body, "/spec/addresses", json!(["10.77.0.1-10.77.0.9"])),
            ANNOUNCER,
            named(pool, "PoolOutsideSubnets"),
        ),
        row(
            "a pool in a namespace that is not read",
            Create(elsewhere.to_owned()),
            ANNOUNCER,
            ["IPAddressPool", "shop", "lost", "NamespaceNotRead"],
        ),
        row(
            "an interface that no node has",
            advert("/spec/interfaces", json!(["eth7"])),
            ANNOUNCER,
            ["L2Advertisement", OWN, "lan", "UnknownInterface"],
        ),
        row(
            "no advertisement",
            Delete("l2advertisement", OWN, "lan"),
            ANNOUNCER,
            named(front, "NoMatchingAdvertisement"),
        ),
        row(
            "nodes that are not selected",
            advert("/spec/nodeSelectors", json!([{"matchLabels": {"lan": "b"}}])),
            ANNOUNCER,
            named(front, "NoEligibleNode"),
        ),
        row("UDP port 7946 is blocked", unheard("Blocked"), ANNOUNCER, ["Node", "", "n1", "HeartbeatsBlocked"]),
        row("another key", unheard("OtherKey"), ANNOUNCER, ["Node", "", "n1", "HeartbeatsBlocked"]),
        row(
            "IPVS without strictARP",
            Set(Body, "configmap", "kube-system", "kube-proxy", "/data/config.conf", json!("mode: ipvs\n")),
            ANNOUNCER,
            ["ConfigMap", "kube-system", "kube-proxy", "StrictArp"],
        ),
        Row(
            "every node is excluded",
            vec![exclude("n1"), exclude("n2"), exclude("n3")],
            ANNOUNCER,
            ["Node", "", "n1", "EveryNodeExcluded"],
        ),
        row(
            "a node that is not Ready",
            Set(Status, "node", "", "n3", "/status/conditions/0/status", json!("Unknown")),
            ANNOUNCER,
            ["Node", "", "n3", "NodeNotReady"],
        ),
        row(
            "MetalLB still runs",
            daemon_set(
                "speaker",
                "shop",
                json!({"app.kubernetes.io/name": "metallb"}),
                "quay.io/metallb/speaker:v0.15.2",
            ),
            ANNOUNCER,
            ["DaemonSet", "shop", "speaker", "Rival"],
        ),
        row(
            "ServiceLB of K3s still runs",
            daemon_set(
                "svclb-web",
                "kube-system",
                json!({"svccontroller.k3s.cattle.io/svcname": "web"}),
                "rancher/klipper-lb:v0.4.9",
            ),
            ANNOUNCER,
            ["DaemonSet", "kube-system", "svclb-web", "Rival"],
        ),
        row(
            "a foreign host has an address",
            of_pool(Status, "/status", usage),
            ANNOUNCER,
            named(pool, "AddressConflict"),
        ),
        row(
            "a Service of another class",
            service("|, loadBalancerClass: example.com/other"),
            ANNOUNCER,
            named(more, "OtherClass"),
        ),
        row(
            "an address outside of every pool",
            service(", annotations: {metallb.io/loadBalancerIPs: 192.168.10.99}|"),
            ANNOUNCER,
            named(more, "AllocationFailed"),
        ),
        Row(
            "a pool that is used up",
            vec![of_pool(Body, "/spec/addresses", json!(["192.168.10.200/32"])), service("|")],
            ANNOUNCER,
            named(more, "AllocationFailed"),
        ),
        row("a controller that does nothing", service("|"), ANNOUNCER, named(more, "NotAllocated")),
        row("nobody announces", Delete("servicel2status", OWN, "l2-1"), ANNOUNCER, named(front, "NotAnnounced")),
        row(
            "no endpoint on any node",
            Set(Body, "endpointslice", OWN, "landfall-ingress-1", "/endpoints", json!([])),
            ANNOUNCER,
            named(front, "NoEndpoints"),
        ),
        row(
            "speakers that do not run",
            Set(Status, "daemonset", OWN, "landfall-speaker", "/status/numberReady", json!(0)),
            ANNOUNCER,
            ["DaemonSet", OWN, "landfall-speaker", "NotRunning"],
        ),
        row(
            "pod security",
            Set(Body, "namespace", "", OWN, "/metadata/labels/pod-security.kubernetes.io~1enforce", json!("baseline")),
            ANNOUNCER,
            ["Namespace", "", OWN, "PodSecurity"],
        ),
    ]
}

/// Whether `check` names the object with the reason and says what to do.
fn names(found: &Value, [kind, namespace, name, reason]: [&str; 4]) -> bool {
    found["problems"].as_array().into_iter().flatten().any(|problem| {
        problem["kind"] == kind
            && problem["namespace"] == namespace
            && (name == "*" || problem["name"] == name)
            && problem["reason"] == reason
            && problem["remedy"].as_str().is_some_and(|remedy| !remedy.is_empty())
    })
}

fn missed(cluster: &Cluster, rows: &[Row]) -> Result<String> {
    let mut missed = String::new();
    for Row(what, deeds, program, named) in rows {
        let found = during(cluster, deeds, || check(cluster, program))?;
        if !names(&found, *named) {
            writeln!(missed, "{what}: {named:?} is not among {:#}", found["problems"])?;
        }
    }
    Ok(missed)
}

#[tokio::test]
async fn every_fault_is_named_with_its_object_and_a_remedy() -> Result<()> {
    let cluster = setup().await?;
    for program in [INGRESS, ANNOUNCER] {
        let (code, said, took) = run(&cluster, program, &["check"])?;
        figures::print(&format!("{program} check of a cluster that is well: {} ms", took.as_millis()));
        ensure!(code == Some(0) && !said.contains('✗') && !said.contains("\n!"), "{program}: {said}");
    }
    let rows: Vec<Row> = ingresses()?.into_iter().chain(addresses()).collect();
    let missed = missed(&cluster, &rows)?;
    figures::print(&format!(
        "faults that check names: {} of {}",
        rows.len() - missed.matches("is not among").count(),
        rows.len()
    ));
    ensure!(missed.is_empty(), "{missed}");
    for program in [INGRESS, ANNOUNCER] {
        let (code, said, _) = run(&cluster, program, &["check"])?;
        ensure!(code == Some(0), "all is undone: {program}: {said}");
    }
    rights(&cluster)
}

/// Whoever may read nothing but Ingresses is told what was not looked at.
fn rights(cluster: &Cluster) -> Result<()> {
    cluster.apply(
        "apiVersion: v1\nkind: ServiceAccount\nmetadata: {name: guest, namespace: shop}\n---\n\
         apiVersion: rbac.authorization.k8s.io/v1\nkind: ClusterRole\nmetadata: {name: guest}\n\
         rules: [{apiGroups: [networking.k8s.io], resources: [ingresses], verbs: [list]}]\n---\n\
         apiVersion: rbac.authorization.k8s.io/v1\nkind: ClusterRoleBinding\nmetadata: {name: guest}\n\
         roleRef: {apiGroup: rbac.authorization.k8s.io, kind: ClusterRole, name: guest}\n\
         subjects: [{kind: ServiceAccount, name: guest, namespace: shop}]\n",
    )?;
    for program in [INGRESS, ANNOUNCER] {
        let mut command = Command::new(tools::program(program)?);
        command.arg("check").env("KUBECONFIG", cluster.kubeconfig_of("shop", "guest")?);
        let (output, said) = tools::run_any(&mut command)?;
        ensure!(
            output.status.code().is_some_and(|code| code < 2) && said.contains("you may not read them"),
            "{program}: {said}"
        );
    }
    Ok(())
}
