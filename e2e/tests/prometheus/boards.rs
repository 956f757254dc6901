//! Boards, alerts and documentation speak of metrics that there are, and every metric is documented.

use std::collections::{BTreeMap, BTreeSet};

use anyhow::{Result, ensure};
use landfall_e2e::{manifests, tools, wait};
use regex::Regex;
use serde_json::Value;

use crate::scene::{ANNOUNCER, INGRESS, Scene};

/// Expressions and metrics without data here, each with the reason.
const SILENT: &[(&str, &str)] = &[
    ("landfall_ingress_acme_certificates", "there are some where certificates are ordered; tests/acme.rs"),
    ("landfall_ingress_acme_renewal_timestamp_seconds", "as above"),
    ("landfall_ingress_acme_issued_total", "as above"),
    ("landfall_ingress_acme_failures_total", "as above"),
    ("landfall_ingress_stream_", "there are some where ports of Services are configured; tests/streams.rs"),
    ("landfall_ingress_memory_limit_bytes", "there is one where the process has a limit; tests/abuse"),
    ("landfall_ingress_memory_used_bytes", "as above"),
    ("landfall_lb_conflicts", "no foreign host is here; the speaker's own tests have one"),
    ("landfall_lb_peers_unheard", "there is one node; tests/cluster/heartbeats.rs"),
    ("landfall_lb_problems", "nothing is wrong with the pools"),
    ("landfall_ingress_lacks_total", "open files don't run out here; tests/ends.rs of the ingress"),
];

fn silent(text: &str) -> bool {
    SILENT.iter().any(|(part, _)| text.contains(part))
}

/// Every expression of a board, with Grafana's variables filled in.
fn expressions(board: &Value, found: &mut BTreeSet<String>) {
    match board {
        Value::Object(fields) => {
            for (name, value) in fields {
                match (name.as_str(), value.as_str()) {
                    ("expr", Some(text)) => {
                        let filled =
                            text.replace("$__rate_interval", "1m").replace("$namespace", ".*").replace("$host", ".*");
                        found.insert(filled);
                    }
                    _ => expressions(value, found),
                }
            }
        }
        Value::Array(list) => list.iter().for_each(|one| expressions(one, found)),
        _ => {}
    }
}

/// Objects for both programs: an app that answers, one whose endpoints refuse, one that is missing.
fn objects(scene: &Scene) -> Result<()> {
    let certificate = rcgen::generate_simple_self_signed(vec!["a.example".to_owned()])?;
    let indented = |pem: String| pem.replace('\n', "\n    ");
    let tls = format!(
        "apiVersion: v1\nkind: Secret\nmetadata: {{name: cert}}\ntype: kubernetes.io/tls\nstringData:\n  tls.crt: |\n    {}\n  tls.key: |\n    {}\n---\n",
        indented(certificate.cert.pem()),
        indented(certificate.signing_key.serialize_pem())
    );
    let shop = manifests::ingress("shop", "a.example", &[("/", "web"), ("/flaky", "flaky"), ("/gone", "gone")]);
    let shop = shop.replace("spec:\n", "spec:\n  tls: [{hosts: [a.example], secretName: cert}]\n");
    let web = manifests::service("web", &["127.0.0.1:18081".parse()?]);
    // One of the two refuses, so that requests are sent again.
    let flaky = manifests::service("flaky", &["127.0.0.1:18081".parse()?, "127.0.0.2:18081".parse()?]);
    let folder = scene.folder().join("ingress");
    std::fs::create_dir(&folder)?;
    std::fs::write(folder.join("all.yaml"), manifests::class() + &tls + &shop + &web + &flaky)?;
    let folder = scene.folder().join("announcer");
    std::fs::create_dir(&folder)?;
    let lan = "apiVersion: v1\nkind: Node\nmetadata: {name: n1}\nstatus: {addresses: [{type: InternalIP, address: 192.168.99.1}]}\n---\n\
        apiVersion: metallb.io/v1beta1\nkind: IPAddressPool\nmetadata: {name: lan, namespace: landfall-system}\nspec: {addresses: [192.168.99.200-192.168.99.203]}\n---\n\
        apiVersion: metallb.io/v1beta1\nkind: L2Advertisement\nmetadata: {name: lan, namespace: landfall-system}\n---\n\
        apiVersion: v1\nkind: Service\nmetadata: {name: front}\nspec: {type: LoadBalancer, clusterIP: 10.96.0.9, ports: [{port: 80}]}\n---\n\
        apiVersion: discovery.k8s.io/v1\nkind: EndpointSlice\nmetadata: {name: front-1, labels: {kubernetes.io/service-name: front}}\n\
        addressType: IPv4\nports: [{port: 80}]\nendpoints: [{addresses: [192.168.99.1], nodeName: n1, conditions: {ready: true}}]\n";
    Ok(std::fs::write(folder.join("all.yaml"), lan)?)
}

/// Requests of all kinds: answered, refused, over TLS, and what is no request.
fn traffic(scene: &Scene) -> Result<()> {
    let ask = |arguments: &[&str]| {
        scene.inside("curl", &[&["-sS", "-o", "/dev/null", "-k", "--max-time", "10"], arguments].concat())
    };
    for path in ["/", "/flaky/1", "/flaky/2", "/flaky/3", "/gone", "/", "/flaky/4"] {
        ask(&["-H", "Host: a.example", &format!("http://127.0.0.1:8080{path}"), "-d", "body"])?;
        ask(&["-H", "Host: a.example", &format!("http://127.0.0.1:8080{path}")])?;
    }
    ask(&["-H", "Host: none.example", "http://127.0.0.1:8080/"])?;
    ask(&["--resolve", "a.example:8443:127.0.0.1", "https://a.example:8443/"])?;
    // Plain HTTP at the port of TLS.
    let _ = ask(&["http://127.0.0.1:8443/"]);
    Ok(())
}

async fn started() -> Result<Scene> {
    let mut scene = Scene::new()?;
    objects(&scene)?;
    let path = |name: &str| scene.folder().join(name).display().to_string();
    let (ingress, announcer) = (path("ingress"), path("announcer"));
    scene.start(&tools::program("landfall-echo")?, &["serve", "web=127.0.0.1:18081"])?;
    scene.start(
        &tools::program("landfall-ingress")?,
        &[
            "serve",
            "--manifests",
            &ingress,
            "--http",
            "127.0.0.1:8080",
            "--https",
            "127.0.0.1:8443",
            "--admin",
            INGRESS,
        ],
    )?;
    scene.start(
        &tools::program("landfall-lb-announcer")?,
        &["standalone", "--manifests", &announcer, "--node-name", "n1", "--admin", ANNOUNCER],
    )?;
    let ready = |admin: &str| scene.inside("curl", &["-sSf", &format!("http://{admin}/readyz")]);
    wait::until(std::time::Duration::from_secs(30), "both programs to be ready", || async {
        ready(INGRESS)?;
        ready(ANNOUNCER).map(drop)
    })
    .await?;
    Ok(scene)
}

#[tokio::test]
async fn boards_alerts_and_documentation_speak_of_the_metrics_that_there_are() -> Result<()> {
    let mut scene = started().await?;
    traffic(&scene)?;
    scene.prometheus().await?;
    // What is counted from one scrape to the next needs two of them of each program, with something in between.
    traffic(&scene)?;
    wait::until(std::time::Duration::from_secs(30), "boards to show data", || async { boards(&scene) }).await?;
    alerts(&scene)?;
    let types = types(&(scene.metrics(INGRESS)? + &scene.metrics(ANNOUNCER)?));
    rates(&types)?;
    documented(&types)
}

fn boards(scene: &Scene) -> Result<()> {
    let mut empty = Vec::new();
    for name in ["ingress", "lb-announcer"] {
        let file = tools::checkout().join(format!("charts/landfall/dashboards/{name}.json"));
        let mut found = BTreeSet::new();
        expressions(&serde_json::from_str(&std::fs::read_to_string(file)?)?, &mut found);
        ensure!(found.len() > 15, "{name}: the expressions were not found: {found:?}");
        for expression in found {
            let has_data = scene.query(&expression)?.as_array().is_some_and(|list| !list.is_empty());
            if !has_data && !silent(&expression) {
                empty.push(expression);
            }
        }
    }
    ensure!(empty.is_empty(), "these give nothing: {empty:#?}");
    Ok(())
}

/// A healthy place fires no alert, so it is their metrics that are looked for.
fn alerts(scene: &Scene) -> Result<()> {
    let name = Regex::new(r"\b(landfall|metallb)_[a-z0-9_]+\b")?;
    let mut names = BTreeSet::new();
    for file in ["ingress", "lb-announcer"] {
        let text = std::fs::read_to_string(tools::checkout().join(format!("charts/landfall/alerts/{file}.yaml")))?;
        names.extend(name.find_iter(&text).map(|found| found.as_str().to_owned()));
    }
    let mut empty = Vec::new();
    for name in names.into_iter().filter(|name| !silent(name)) {
        // A text may speak of a histogram as a whole.
        if scene.query(&format!("count({name} or {name}_count)"))?[0].is_null() {
            empty.push(name);
        }
    }
    ensure!(empty.is_empty(), "alerts ask for what nobody has: {empty:?}");
    Ok(())
}

/// The types of all metrics, by name as it is asked for.
fn types(text: &str) -> BTreeMap<String, String> {
    let lines = text.lines().filter_map(|line| line.strip_prefix("# TYPE "));
    let pairs = lines.filter_map(|line| line.split_once(' '));
    let full = |(name, kind): (&str, &str)| match kind {
        "counter" => (format!("{name}_total"), kind.to_owned()),
        "info" => (format!("{name}_info"), kind.to_owned()),
        _ => (name.to_owned(), kind.to_owned()),
    };
    pairs.map(full).collect()
}

/// Whatever a rate is taken of is a counter; where `MetalLB` calls a counter by a name that a counter can't have, it is
/// listed.
fn rates(types: &BTreeMap<String, String>) -> Result<()> {
    const METALLB: &[&str] =
        &["metallb_layer2_requests_received", "metallb_layer2_responses_sent", "metallb_layer2_gratuitous_sent"];
    let rated = Regex::new(r"(?:rate|increase)\(([a-z0-9_]+)")?;
    let root = tools::checkout().join("charts/landfall");
    for file in
        ["dashboards/ingress.json", "dashboards/lb-announcer.json", "alerts/ingress.yaml", "alerts/lb-announcer.yaml"]
    {
        let text = std::fs::read_to_string(root.join(file))?;
        for name in rated.captures_iter(&text).map(|found| found[1].to_owned()) {
            let base = ["_bucket", "_sum", "_count"].iter().find_map(|end| name.strip_suffix(end));
            let kind = types.get(base.unwrap_or(&name)).map(String::as_str);
            let counts = matches!(kind, Some("counter" | "histogram")) || METALLB.contains(&name.as_str());
            ensure!(counts || (kind.is_none() && silent(&name)), "{file}: a rate of {name}, which is {kind:?}");
        }
    }
    let misnamed: Vec<&String> = types
        .iter()
        .filter(|(name, kind)| {
            // An `_total` that is no counter: MetalLB's pools.
            name.ends_with("_total") && *kind != "counter" && !name.starts_with("metallb_allocator_")
        })
        .map(|(name, _)| name)
        .collect();
    ensure!(misnamed.is_empty(), "these are no counters: {misnamed:?}");
    Ok(())
}

/// docs/metrics.md has every metric that there is, and no other.
fn documented(types: &BTreeMap<String, String>) -> Result<()> {
    let page = std::fs::read_to_string(tools::checkout().join("docs/metrics.md"))?;
    let row = Regex::new(r"(?m)^\| `((?:landfall|metallb)_[a-z0-9_]+)` \|")?;
    let listed: BTreeSet<String> = row.captures_iter(&page).map(|found| found[1].to_owned()).collect();
    let missing: Vec<&String> = types.keys().filter(|name| !listed.contains(*name)).collect();
    ensure!(missing.is_empty(), "docs/metrics.md lacks {missing:?}");
    let stale: Vec<&String> = listed.iter().filter(|name| !types.contains_key(*name) && !silent(name)).collect();
    ensure!(stale.is_empty(), "nobody has {stale:?}");
    let total = types.len();
    ensure!(total > 40, "only {total} metrics were found");
    Ok(())
}
