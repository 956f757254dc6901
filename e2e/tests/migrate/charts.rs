//! `charts/`: Ingresses as charts of popular projects make them, by their documentation. Every one is served, or the
//! report says by name what keeps it from being served and what to write instead.
//!
//! `ledger.txt` has what the report says of each, and what a client gets. `LANDFALL_UPDATE=1` writes it anew.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt::Write as _;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result, ensure};
use http::Request;
use landfall_e2e::client::{Answer, Body, Client, empty};
use landfall_e2e::echo::Echo;
use landfall_e2e::ingress::{Ingress, Launch};
use landfall_e2e::manifests::Folder;
use landfall_e2e::tls::Trust;
use landfall_e2e::tools;
use serde_json::Value;

use super::scene::{Pki, Secure, report_on};

/// Names that the certificate is for: those of all hosts.
const NAMES: [&str; 4] = ["example.com", "*.example.com", "*.pages.example.com", "*.s3.example.com"];

/// A client within the source ranges that the charts allow, and one outside of them.
const INSIDE: &str = "10.1.2.3";
const OUTSIDE: &str = "203.0.113.9";

/// admin:secret, as Base64.
const PASSWORD: &str = "Basic YWRtaW46c2VjcmV0";

/// A path for each regular expression that does not begin with one.
const SAMPLES: &[(&str, &str)] = &[
    ("/_matrix/client/(api/v1|r0|v3|unstable)/sync$", "/_matrix/client/v3/sync"),
    ("/_matrix/client/(api/v1|r0|v3|unstable)/events$", "/_matrix/client/r0/events"),
    ("/_matrix/client/.*", "/_matrix/client/versions"),
    ("/api/v[0-9]+/(users/)?websocket$", "/api/v4/websocket"),
    ("/api/[1-9][0-9]*/(.*)", "/api/1/envelope"),
    ("/fn/[a-z]+", "/fn/hello"),
    ("/rabbitmq/(api/exchanges|api/queues)/(.*)", "/rabbitmq/api/queues/all"),
];

fn here() -> PathBuf {
    tools::checkout().join("e2e/tests/migrate")
}

/// The charts with backends of this test and certificates.
struct Stage {
    folder: Folder,
    trust: Trust,
    _backends: (Echo, Echo, Secure),
    _pki: Folder,
}

impl Stage {
    async fn new() -> Result<Self> {
        let pki = Pki::new(&NAMES)?;
        let (web, canary) = (Echo::local("web").await?, Echo::local("canary").await?);
        let secure = Secure::before(web.addr, &pki).await?;
        let ports = [("18081", web.addr), ("18082", canary.addr), ("18443", secure.addr)];
        let edit = |text: String| {
            let text = ports.iter().fold(text, |text, (port, addr)| {
                text.replace(&format!("port: {port}}}"), &format!("port: {}}}", addr.port()))
            });
            let local = |line: &str| if is_elsewhere(line) { to_local(line, web.addr.port()) } else { line.to_owned() };
            text.lines().map(|line| local(line) + "\n").collect()
        };
        let folder = Folder::copy_of(&here().join("charts"), edit)?;
        folder.write("secrets.yaml", &secrets(folder.path(), &pki)?)?;
        let authority = Folder::new()?;
        authority.write("ca.crt", &pki.authority)?;
        let trust = Trust::from_file(&authority.path().join("ca.crt"))?;
        Ok(Self { folder, trust, _backends: (web, canary, secure), _pki: authority })
    }
}

/// Whether a line names a service outside of the folder.
fn is_elsewhere(line: &str) -> bool {
    line.contains("/auth-url:") || line.contains("/mirror-target:")
}

/// The same place at a backend of this test.
fn to_local(line: &str, port: u16) -> String {
    let Some((before, place)) = line.split_once("://") else { return line.to_owned() };
    let path = place.find(['/', '$']).map_or("\"", |at| &place[at..]);
    format!("{}://127.0.0.1:{port}{path}", before.replace("https", "http"))
}

/// The Secrets that the TLS entries and annotations name.
fn secrets(folder: &Path, pki: &Pki) -> Result<String> {
    let mut wanted = BTreeSet::new();
    for entry in std::fs::read_dir(folder)? {
        let text = std::fs::read_to_string(entry?.path())?;
        for document in text.split("\n---\n") {
            let value = |name: &str| document.lines().find_map(|line| line.strip_prefix(name));
            let namespace = value("  namespace: ").unwrap_or("default");
            for line in document.lines().map(str::trim) {
                if let Some(name) = line.strip_prefix("- secretName: ") {
                    wanted.insert((namespace.to_owned(), name.to_owned(), "kubernetes.io/tls"));
                }
                let named = ["auth-tls-secret: ", "proxy-ssl-secret: "].iter().find_map(|name| line.split_once(name));
                if let Some((namespace, name)) = named.and_then(|(_, key)| key.trim_matches('"').split_once('/')) {
                    wanted.insert((namespace.to_owned(), name.to_owned(), "Opaque"));
                }
            }
        }
    }
    Ok(wanted.iter().map(|(namespace, name, kind)| pki.secret(namespace, name, kind)).collect())
}

fn list<'a>(value: &'a Value, name: &str) -> Vec<&'a Value> {
    value[name].as_array().map(|all| all.iter().collect()).unwrap_or_default()
}

fn text<'a>(value: &'a Value, name: &str) -> &'a str {
    value[name].as_str().unwrap_or_default()
}

fn key(ingress: &Value) -> String {
    format!("{}/{}", text(ingress, "namespace"), text(ingress, "name"))
}

fn annotation<'a>(ingress: &'a Value, name: &str) -> Option<&'a str> {
    list(ingress, "annotations").into_iter().find(|one| one["name"] == name).map(|one| text(one, "value"))
}

/// Asks as a browser does: it follows the way to HTTPS, and nowhere else.
struct Visitor<'a> {
    ingress: &'a Ingress,
    trust: &'a Trust,
}

impl Visitor<'_> {
    async fn ask(&self, host: &str, path: &str, fields: &[(&str, &str)]) -> Result<Answer> {
        let plain = Client::http1(self.ingress.http).await?.send(host, request(path, fields)?).await?;
        let place = plain.headers.get("location").and_then(|place| place.to_str().ok()).unwrap_or_default();
        let leads = plain.status == 308 && place.starts_with(&format!("https://{host}"));
        if leads { self.ask_over_tls(host, path, fields).await } else { Ok(plain) }
    }

    async fn ask_over_tls(&self, host: &str, path: &str, fields: &[(&str, &str)]) -> Result<Answer> {
        let client = Client::https1(self.ingress.https, host, self.trust).await;
        client.with_context(|| host.to_owned())?.send(host, request(path, fields)?).await
    }
}

fn request(path: &str, fields: &[(&str, &str)]) -> Result<Request<Body>> {
    let all = fields.iter().fold(Request::get(path), |request, (name, value)| request.header(*name, *value));
    Ok(all.body(empty())?)
}

/// A host that a rule takes.
fn host_of(route: &Value) -> String {
    match text(route, "host") {
        "*" => "unknown.example.org".to_owned(),
        host => host.replace('*', "any"),
    }
}

/// A path that a rule takes.
fn path_of(route: &Value) -> String {
    let path = text(route, "path");
    if let Some((_, sample)) = SAMPLES.iter().find(|(expression, _)| *expression == path) {
        return (*sample).to_owned();
    }
    path.replace("(/|$)(.*)", "/x").replace("/?(.*)", "/x").replace("(.*)", "x")
}

/// What a client gets for each path of an Ingress.
async fn answers(visitor: &Visitor<'_>, ingress: &Value) -> Result<BTreeMap<String, u16>> {
    let mut seen = BTreeMap::new();
    let fields = [("x-forwarded-for", INSIDE), ("authorization", PASSWORD)];
    for route in list(ingress, "routes") {
        let (host, path) = (host_of(route), path_of(route));
        // TLS that ends at the endpoint is what such an Ingress is for.
        let answer = if annotation(ingress, "ssl-passthrough") == Some("true") {
            visitor.ask_over_tls(&host, &path, &fields).await
        } else {
            visitor.ask(&host, &path, &fields).await
        };
        let answer = answer.with_context(|| format!("{} {host}{path}", key(ingress)))?;
        if answer.status == 200 {
            // A canary gets its share of what is asked here, too.
            let said = answer.text();
            ensure!(
                ["web", "canary"].contains(&answer.backend().as_str()) || returns(ingress, 200, said.trim()),
                "{} {host}{path}: not from a backend: {answer}",
                key(ingress)
            );
        }
        seen.insert(format!("{host}{path}"), answer.status);
        guards(visitor, ingress, &host, &path, answer.status).await?;
    }
    Ok(seen)
}

/// What protects a path does so.
async fn guards(visitor: &Visitor<'_>, ingress: &Value, host: &str, path: &str, status: u16) -> Result<()> {
    if status != 200 {
        return Ok(());
    }
    let any = annotation(ingress, "satisfy") == Some("any");
    if annotation(ingress, "auth-type").is_some() {
        let from = if any { OUTSIDE } else { INSIDE };
        let without = visitor.ask(host, path, &[("x-forwarded-for", from)]).await?;
        ensure!(without.status == 401, "{} {host}{path}: without a password: {without}", key(ingress));
    }
    if annotation(ingress, "whitelist-source-range").is_some() && !any {
        let outside = visitor.ask(host, path, &[("x-forwarded-for", OUTSIDE)]).await?;
        ensure!(outside.status == 403, "{} {host}{path}: from elsewhere: {outside}", key(ingress));
    }
    Ok(())
}

/// Whether an answer that is no page is what an annotation asks for.
fn is_asked_for(ingress: &Value, status: u16) -> bool {
    match status {
        301 | 308 if annotation(ingress, "permanent-redirect").is_some() => true,
        302 if annotation(ingress, "app-root").is_some() => true,
        _ => returns(ingress, status, ""),
    }
}

/// Whether a snippet of an Ingress answers so.
fn returns(ingress: &Value, status: u16, said: &str) -> bool {
    let snippets = ["configuration-snippet", "server-snippet"].map(|name| annotation(ingress, name));
    let mut snippets = snippets.into_iter().flatten();
    snippets.any(|snippet| snippet.contains(&format!("return {status}")) && snippet.contains(said))
}

fn ledger_of(report: &Value, seen: &BTreeMap<String, BTreeMap<String, u16>>) -> String {
    let summary = &report["summary"];
    let mut ledger =
        String::from("# What `migrate` says of charts/ and what clients get. LANDFALL_UPDATE=1 writes it anew.\n\n");
    for name in ["ingresses", "alike", "differs", "refused", "with_quirks", "with_broken", "routes", "live_routes"] {
        let _ = writeln!(ledger, "{name}: {}", summary[name]);
    }
    for name in ["annotations", "options", "flags"] {
        let _ = writeln!(ledger, "{name}: {}", summary[name]);
    }
    for ingress in list(report, "ingresses") {
        let key = key(ingress);
        let mut statuses: Vec<String> = seen[&key].values().map(ToString::to_string).collect();
        statuses.dedup();
        if statuses.is_empty() {
            statuses.push("where it is a canary".to_owned());
        }
        let _ = writeln!(ledger, "\n{key}: {}, answers {}", text(ingress, "verdict"), statuses.join(" "));
        for word in ["refused", "differs", "broken", "quirks"] {
            for finding in list(ingress, word) {
                let _ = writeln!(ledger, "  {word}: {} [{}]", text(finding, "subject"), text(finding, "code"));
            }
        }
    }
    ledger
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn every_chart_is_served_or_the_report_says_why_not() -> Result<()> {
    let stage = Stage::new().await?;
    let report = report_on(stage.folder.path())?;
    ensure!(list(&report, "ingresses").len() >= 200, "{}", report["summary"]);

    // Started as the report says.
    let start: Vec<&str> = list(&report["controller"], "start_with")
        .iter()
        .filter_map(|flag| flag.as_str())
        .flat_map(str::split_whitespace)
        .collect();
    let ingress = Launch::manifests(stage.folder.path()).args(&start).start().await?;
    let visitor = Visitor { ingress: &ingress, trust: &stage.trust };
    let (mut seen, mut wrong) = (BTreeMap::new(), Vec::new());
    for one in list(&report, "ingresses") {
        let key = key(one);
        let statuses = answers(&visitor, one).await?;
        let refused = !list(one, "refused").is_empty();
        for (url, status) in &statuses {
            let right = if refused { *status == 503 } else { *status == 200 || is_asked_for(one, *status) };
            if !right {
                wrong.push(format!("{key}: {url} answers {status}"));
            }
        }
        for finding in list(one, "refused").into_iter().chain(list(one, "differs")) {
            if text(finding, "remedy").is_empty() || text(finding, "subject").is_empty() {
                wrong.push(format!("{key}: {finding} says no name or no remedy"));
            }
        }
        for route in list(one, "routes") {
            if text(route, "fault").is_empty() == refused {
                wrong.push(format!("{key}: {route} is not what the report says"));
            }
        }
        seen.insert(key, statuses);
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));

    let (path, ledger) = (here().join("ledger.txt"), ledger_of(&report, &seen));
    if std::env::var_os("LANDFALL_UPDATE").is_some() {
        std::fs::write(&path, &ledger)?;
    }
    let expected = std::fs::read_to_string(&path).unwrap_or_default();
    let lines = |text: &str| text.lines().map(str::to_owned).collect::<Vec<_>>();
    assert_eq!(lines(&ledger), lines(&expected), "LANDFALL_UPDATE=1 writes {} anew", path.display());
    Ok(())
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn canaries_of_charts_get_their_share() -> Result<()> {
    /// With the smallest weight, 5 of 100, all of so many requests miss once in a hundred million runs.
    const MOST: usize = 360;
    let stage = Stage::new().await?;
    let ingress = Launch::manifests(stage.folder.path())
        .args(&["--config-map", "ingress-nginx/ingress-nginx-controller"])
        .start()
        .await?;
    let visitor = Visitor { ingress: &ingress, trust: &stage.trust };
    let asked = visitor.ask("shop-h.example.com", "/", &[("x-canary", "iwantsit")]).await?;
    assert_eq!(asked.backend(), "canary", "{asked}");
    assert_eq!(visitor.ask("shop-h.example.com", "/", &[]).await?.backend(), "web");
    for host in ["shop.example.com", "podinfo.example.com"] {
        let mut found = BTreeSet::new();
        for _ in 0..MOST {
            found.insert(visitor.ask(host, "/", &[]).await?.backend());
            if found.len() == 2 {
                break;
            }
        }
        assert_eq!(found, BTreeSet::from(["web".to_owned(), "canary".to_owned()]), "{host}");
    }
    Ok(())
}
