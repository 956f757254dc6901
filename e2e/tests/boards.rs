//! ingress-nginx's boards and common alerts find what they ask for.

use std::collections::BTreeSet;

use anyhow::{Context, Result, ensure};
use landfall_e2e::echo::Echo;
use landfall_e2e::ingress::Launch;
use landfall_e2e::manifests::{self, Folder};

/// The series that the boards "NGINX Ingress controller" and "Request Handling Performance" and the alerts of
/// ingress-nginx's documentation ask for, each with the labels by which they choose or group.
const ASKED_FOR: &[(&str, &[&str])] = &[
    ("requests", &["controller_pod", "controller_class", "controller_namespace", "namespace", "ingress", "status"]),
    ("requests", &["host", "path", "method", "service", "canary"]),
    ("request_duration_seconds_bucket", &["ingress", "host", "path", "method", "le"]),
    ("request_duration_seconds_sum", &["ingress"]),
    ("request_duration_seconds_count", &["ingress"]),
    ("response_duration_seconds_bucket", &["ingress", "path", "method", "le"]),
    ("header_duration_seconds_bucket", &["ingress", "le"]),
    ("connect_duration_seconds_bucket", &["ingress", "le"]),
    ("request_size_sum", &["ingress", "namespace"]),
    ("response_size_sum", &["ingress", "namespace", "method", "path"]),
    ("bytes_sent_sum", &["ingress"]),
    ("nginx_process_connections", &["controller_pod", "state"]),
    ("nginx_process_connections_total", &["state"]),
    ("nginx_process_requests_total", &["controller_pod"]),
    ("nginx_process_resident_memory_bytes", &["controller_pod", "controller_class"]),
    ("nginx_process_virtual_memory_bytes", &["controller_pod"]),
    ("nginx_process_cpu_seconds_total", &["controller_pod"]),
    ("config_last_reload_successful", &["controller_pod", "controller_namespace"]),
    ("config_last_reload_successful_timestamp_seconds", &["controller_pod"]),
    ("success_total", &["controller_pod"]),
    ("ssl_expire_time_seconds", &["host", "namespace", "secret_name", "class"]),
];

/// The labels of every sample of a metric.
fn labels(text: &str, name: &str) -> Vec<BTreeSet<String>> {
    let start = format!("nginx_ingress_controller_{name}{{");
    let lines = text.lines().filter_map(|line| line.strip_prefix(&start));
    // No value here has a comma or a brace.
    let names = |line: &str| {
        let pairs = line.split('}').next().unwrap_or_default().split(',');
        pairs.filter_map(|pair| pair.split('=').next().map(str::to_owned)).collect()
    };
    lines.map(names).collect()
}

#[tokio::test]
async fn boards_and_alerts_of_ingress_nginx_find_their_series() -> Result<()> {
    let echo = Echo::start("web", ([127, 0, 0, 1], 0).into()).await?;
    let folder = Folder::new()?;
    let certificate = rcgen::generate_simple_self_signed(vec!["a.example".to_owned()])?;
    let indented = |pem: String| pem.replace('\n', "\n    ");
    folder.write(
        "all.yaml",
        &(manifests::class()
            + &manifests::service("web", &[echo.addr])
            + &manifests::ingress("shop", "a.example", &[("/cart", "web")])
                .replace("spec:\n", "spec:\n  tls: [{hosts: [a.example], secretName: cert}]\n")
            + &format!(
                "apiVersion: v1\nkind: Secret\nmetadata: {{name: cert}}\ntype: kubernetes.io/tls\nstringData:\n  \
                 tls.crt: |\n    {}\n  tls.key: |\n    {}\n",
                indented(certificate.cert.pem()),
                indented(certificate.signing_key.serialize_pem())
            )),
    )?;
    let launch = Launch::manifests(folder.path()).env("POD_NAME", "pod-1").env("POD_NAMESPACE", "landfall-system");
    let ingress = launch.args(&["--metrics-compatibility", "nginx"]).start().await?;
    for _ in 0..3 {
        ensure!(ingress.get("a.example", "/cart/7?x=1").await?.status == 200);
    }
    ensure!(ingress.get("a.example", "/none").await?.status == 404);
    let text = landfall_e2e::client::get(ingress.admin, "admin", "/metrics").await?.text();
    for (name, wanted) in ASKED_FOR {
        let found = labels(&text, name);
        ensure!(!found.is_empty(), "there is no nginx_ingress_controller_{name}\n{text}");
        for found in found {
            let missing: Vec<_> = wanted.iter().filter(|label| !found.contains(**label)).collect();
            ensure!(missing.is_empty(), "nginx_ingress_controller_{name} has no {missing:?} but {found:?}");
        }
    }
    let counted = text.lines().find(|line| line.starts_with("nginx_ingress_controller_requests{"));
    let counted = counted.context("no request was counted")?;
    let is = |label: &str| counted.contains(label);
    ensure!(
        is("ingress=\"shop\"") && is("service=\"web\"") && is("path=\"/cart\"") && is("status=\"200\""),
        "{counted}"
    );
    ensure!(counted.ends_with("} 3") && is("controller_pod=\"pod-1\""), "{counted}");
    // The names of our own are there as ever.
    ensure!(text.contains("landfall_ingress_requests_total{"), "{text}");
    Ok(())
}
