//! The dialect of ingress-nginx through the whole program, where numbers or time matter.

use std::collections::BTreeMap;
use std::time::Duration;

use anyhow::{Context, Result, ensure};
use futures::future::try_join_all;
use http::Request;
use landfall_e2e::client::{Client, empty};
use landfall_e2e::echo::Echo;
use landfall_e2e::figures;
use landfall_e2e::ingress::{Ingress, Launch};
use landfall_e2e::manifests::{Folder, service};
use landfall_e2e::wait;
use landfall_e2e::ws::Socket;
use nix::sys::resource::{Resource, getrlimit, setrlimit};

const HOST: &str = "shop.example";
/// Sockets that stay open.
const SOCKETS: usize = 1_000;
/// How many are opened and asked at one time.
const AT_ONCE: usize = 50;
/// Requests to a canary. A weight of 5 is met within 1 % of the requests but for one run in 200,000: the standard
/// deviation is 22.
const REQUESTS: usize = 10_000;
/// How long a change may take to be seen before a test gives up.
const PATIENCE: Duration = Duration::from_secs(20);

/// An Ingress of class nginx for [`HOST`], with annotations, and each path a Prefix to a Service.
fn ingress(name: &str, annotations: &[(&str, &str)], paths: &[(&str, &str)]) -> String {
    let annotation =
        |all, (name, value): &(&str, &str)| format!("{all}\n    nginx.ingress.kubernetes.io/{name}: {value:?}");
    let annotations = annotations.iter().fold(String::new(), annotation);
    let rule = |all, (path, service): &(&str, &str)| {
        let backend = format!("{{service: {{name: {service}, port: {{name: http}}}}}}");
        format!("{all}\n      - {{path: {path}, pathType: Prefix, backend: {backend}}}")
    };
    let paths = paths.iter().fold(String::new(), rule);
    format!(
        "apiVersion: networking.k8s.io/v1\nkind: Ingress\nmetadata:\n  name: {name}\n  annotations:\n    a: b{annotations}\n\
         spec:\n  ingressClassName: nginx\n  rules:\n  - host: {HOST}\n    http:\n      paths:{paths}\n---\n"
    )
}

fn options(data: &[(&str, &str)]) -> String {
    let data = data.iter().fold(String::new(), |all, (name, value)| format!("{all}\n  {name}: {value:?}"));
    format!("apiVersion: v1\nkind: ConfigMap\nmetadata: {{name: options}}\ndata:\n  a: b{data}\n---\n")
}

async fn start(folder: &Folder) -> Result<Ingress> {
    Launch::manifests(folder.path()).args(&["--config-map", "default/options", "--no-access-log"]).start().await
}

/// Has every socket say something and hear it back.
async fn all_answer(sockets: &mut [Socket], when: &str) -> Result<()> {
    for (index, some) in sockets.chunks_mut(AT_ONCE).enumerate() {
        let asked = some.iter_mut().map(|socket| socket.echo_text(when));
        for (place, answer) in
            try_join_all(asked).await.with_context(|| format!("{when}: near {index}"))?.iter().enumerate()
        {
            ensure!(answer.contains(when), "{when}: socket {place} of part {index} got {answer:?}");
        }
    }
    Ok(())
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_thousand_websockets_outlive_edits_of_their_ingress_and_of_the_config_map() -> Result<()> {
    let (_, hard) = getrlimit(Resource::RLIMIT_NOFILE)?;
    setrlimit(Resource::RLIMIT_NOFILE, hard, hard)?;
    let (web, other) = (Echo::local("web").await?, Echo::local("other").await?);
    let folder = Folder::new()?;
    folder.write("options.yaml", &options(&[]))?;
    folder.write("services.yaml", &(service("web", &[web.addr]) + &service("other", &[other.addr])))?;
    folder.write("web.yaml", &ingress("web", &[], &[("/", "web")]))?;
    let server = start(&folder).await?;
    server.answers(HOST, "/", 200, "web").await?;

    let url = format!("ws://{HOST}/load/socket");
    let mut sockets = Vec::with_capacity(SOCKETS);
    while sockets.len() < SOCKETS {
        let some = (0..AT_ONCE).map(|_| Socket::open(&url, server.http, None));
        sockets.extend(try_join_all(some).await?);
    }
    all_answer(&mut sockets, "before").await?;

    let annotations = [("proxy-read-timeout", "600"), ("custom-http-errors", "404"), ("limit-rps", "1000")];
    folder.write("web.yaml", &ingress("web", &annotations, &[("/", "web"), ("/other", "other")]))?;
    server.answers(HOST, "/other", 200, "other").await?;
    all_answer(&mut sockets, "after the Ingress").await?;

    let all = [
        ("keep-alive", "1"),
        ("keep-alive-requests", "2"),
        ("upstream-keepalive-connections", "0"),
        ("ssl-protocols", "TLSv1.3"),
        ("use-http2", "false"),
        ("proxy-read-timeout", "5"),
    ];
    folder.write("options.yaml", &options(&all))?;
    let live = async || {
        let mut client = Client::http1(server.http).await?;
        client.get(HOST, "/").await?;
        let last = client.get(HOST, "/").await?;
        ensure!(last.headers.get("connection").is_some_and(|value| value == "close"), "{last}");
        Ok(())
    };
    wait::until(PATIENCE, "the options are in force", live).await?;
    all_answer(&mut sockets, "after the options").await?;

    // The route itself goes: whoever is connected stays so.
    folder.remove("web.yaml")?;
    server.answers(HOST, "/", 404, "").await?;
    all_answer(&mut sockets, "after the end of the Ingress").await?;
    ensure!(web.connections() >= u64::try_from(SOCKETS)?, "each socket has a connection of its own");
    figures::print(&format!("{SOCKETS} WebSockets over edits of Ingress and ConfigMap: 0 closed"));
    Ok(())
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_canary_gets_its_weight_of_ten_thousand_requests() -> Result<()> {
    let (web, canary) = (Echo::local("web").await?, Echo::local("canary").await?);
    let folder = Folder::new()?;
    folder.write("options.yaml", &options(&[]))?;
    folder.write("services.yaml", &(service("web", &[web.addr]) + &service("canary", &[canary.addr])))?;
    folder.write("web.yaml", &ingress("web", &[], &[("/", "web")]))?;
    let server = start(&folder).await?;
    server.answers(HOST, "/", 200, "web").await?;
    for (weight, total, share) in [("5", "100", 5), ("950", "1000", 95)] {
        // By its header it is seen for certain, and the weight with it.
        let header = format!("X-Canary-{share}");
        let annotations = [
            ("canary", "true"),
            ("canary-weight", weight),
            ("canary-weight-total", total),
            ("canary-by-header", &*header),
        ];
        folder.write("canary.yaml", &ingress("canary", &annotations, &[("/", "canary")]))?;
        let seen = async || {
            let mut client = Client::http1(server.http).await?;
            for (word, backend) in [("always", "canary"), ("never", "web")] {
                let request = Request::get("/").header(&*header, word).body(empty())?;
                let answer = client.send(HOST, request).await?;
                ensure!(answer.backend() == backend, "{answer}");
            }
            Ok(())
        };
        wait::until(PATIENCE, "the canary is in force", seen).await?;
        let mut counts: BTreeMap<String, usize> = BTreeMap::new();
        let mut client = Client::http1(server.http).await?;
        for _ in 0..REQUESTS {
            *counts.entry(client.get(HOST, "/").await?.backend()).or_default() += 1;
        }
        let (got, wanted) = (counts.get("canary").copied().unwrap_or_default(), REQUESTS * share / 100);
        ensure!(counts.values().sum::<usize>() == REQUESTS && counts.len() == 2, "{counts:?}");
        ensure!(got.abs_diff(wanted) <= REQUESTS / 100, "weight {weight} of {total}: {got} of {REQUESTS}");
        figures::print(&format!("a canary of weight {weight} of {total}: {got} of {REQUESTS} requests"));
    }
    Ok(())
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_limit_lets_the_right_number_through_for_each_client() -> Result<()> {
    let web = Echo::local("web").await?;
    let folder = Folder::new()?;
    folder.write("options.yaml", &options(&[("use-forwarded-headers", "true"), ("limit-req-status-code", "429")]))?;
    folder.write("services.yaml", &service("web", &[web.addr]))?;
    // One in ten seconds, and thirty more at once.
    folder.write("web.yaml", &ingress("web", &[("limit-rpm", "6")], &[("/", "web")]))?;
    let server = start(&folder).await?;
    let mut client = Client::http1(server.http).await?;
    let begun = std::time::Instant::now();
    for address in ["192.0.2.1", "192.0.2.2", "2001:db8::1"] {
        let mut counts: BTreeMap<u16, usize> = BTreeMap::new();
        for _ in 0..60 {
            let request = Request::get("/").header("X-Forwarded-For", address).body(empty())?;
            *counts.entry(client.send(HOST, request).await?.status).or_default() += 1;
        }
        // What drained meanwhile may pass besides.
        let drained = usize::try_from(begun.elapsed().as_secs() / 10 + 1)?;
        let passed = counts.get(&200).copied().unwrap_or_default();
        ensure!((31..=31 + drained).contains(&passed), "{address}: {counts:?}");
        ensure!(passed + counts.get(&429).copied().unwrap_or_default() == 60, "{address}: {counts:?}");
    }
    Ok(())
}
