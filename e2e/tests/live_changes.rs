//! Routes and endpoints change under load: nothing fails, and no connection is closed by us.

use std::net::SocketAddr;
use std::process::Command;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, ensure};
use landfall_e2e::client::Client;
use landfall_e2e::echo::Echo;
use landfall_e2e::figures::{self, Durations};
use landfall_e2e::ingress::Launch;
use landfall_e2e::manifests::{self, Folder};
use landfall_e2e::tls::Trust;
use landfall_e2e::tools;

/// Changes, half of routes and half of endpoints.
const CHANGES: usize = 1_000;
/// Requests at least; the load goes on until the last change.
const REQUESTS: u64 = 10_000;
/// How long one change may take to be seen before the test gives up.
const PATIENCE: Duration = Duration::from_secs(5);
/// The host of the quickstart's certificate.
const HOST: &str = "shop.localhost";

/// Load on connections that are never opened again: one that is closed fails the test.
struct Load {
    stop: Arc<AtomicBool>,
    done: Arc<AtomicU64>,
    workers: Vec<tokio::task::JoinHandle<Result<()>>>,
}

impl Load {
    fn start(clients: Vec<Client>) -> Self {
        let (stop, done) = (Arc::new(AtomicBool::new(false)), Arc::new(AtomicU64::new(0)));
        let work = |(number, client)| tokio::spawn(ask(number, client, Arc::clone(&stop), Arc::clone(&done)));
        let workers = clients.into_iter().enumerate().map(work).collect();
        Self { stop, done, workers }
    }

    /// Stops once enough was asked; the first failure of any worker is the result.
    async fn finish(self) -> Result<u64> {
        while self.done.load(Ordering::Relaxed) < REQUESTS && self.workers.iter().all(|worker| !worker.is_finished()) {
            tokio::task::yield_now().await;
        }
        self.stop.store(true, Ordering::Relaxed);
        for worker in self.workers {
            worker.await??;
        }
        Ok(self.done.load(Ordering::Relaxed))
    }
}

async fn ask(number: usize, mut client: Client, stop: Arc<AtomicBool>, done: Arc<AtomicU64>) -> Result<()> {
    while !stop.load(Ordering::Relaxed) {
        let asked = done.load(Ordering::Relaxed);
        let answer = client.get(HOST, "/").await.with_context(|| format!("connection {number} after {asked}"))?;
        ensure!(answer.status == 200, "connection {number} after {asked}: {answer}");
        done.fetch_add(1, Ordering::Relaxed);
    }
    // A connection that ends with the last answer was closed too.
    ensure!(!client.is_closed(), "connection {number} was closed");
    Ok(())
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn no_request_fails_and_no_connection_closes_under_a_thousand_changes() -> Result<()> {
    let (a, b) = (Echo::local("a").await?, Echo::local("b").await?);
    let other = Echo::local("other").await?;
    let folder = Folder::new()?;
    let keys = tempfile::TempDir::new()?;
    tools::run(Command::new(tools::checkout().join("hack/quickstart-pki")).arg(keys.path()).arg(folder.path()))?;
    let trust = Trust::from_file(&keys.path().join("ca.crt"))?;
    folder.write("web.yaml", &manifests::service("web", &[a.addr]))?;
    folder.write("other.yaml", &manifests::service("other", &[other.addr]))?;
    folder.write("shop.yaml", &ingress(0))?;
    let ingress = Launch::manifests(folder.path()).args(&["--no-access-log"]).start().await?;

    let load = Load::start(vec![
        Client::http1(ingress.http).await?,
        Client::http1(ingress.http).await?,
        Client::http2(ingress.http).await?,
        Client::https1(ingress.https, HOST, &trust).await?,
        Client::https2(ingress.https, HOST, &trust).await?,
    ]);
    let mut probe = Client::http1(ingress.http).await?;
    let mut took = Durations::default();
    for change in 0..CHANGES {
        let begun = Instant::now();
        if change % 2 == 0 {
            folder.write("shop.yaml", &self::ingress(change))?;
            seen(&mut probe, &format!("/new-{change}"), "other", begun).await?;
        } else {
            let (to, name): (SocketAddr, _) = if change % 4 == 1 { (b.addr, "b") } else { (a.addr, "a") };
            folder.write("web.yaml", &manifests::service("web", &[to]))?;
            seen(&mut probe, "/", name, begun).await?;
        }
        took.push(begun.elapsed());
    }
    let requests = load.finish().await?;
    figures::print(&format!("{requests} requests under {CHANGES} live changes: 0 failed, 0 connections closed"));
    figures::print(&format!("change of a file to the new answer under load: {took}"));
    Ok(())
}

/// The Ingress with a path that is new with each change.
fn ingress(change: usize) -> String {
    let path = format!("/new-{change}");
    let yaml = manifests::ingress("shop", HOST, &[("/", "web"), (&path, "other")]);
    yaml.replace("  rules:", &format!("  tls: [{{hosts: [{HOST}], secretName: shop-tls}}]\n  rules:"))
}

async fn seen(probe: &mut Client, path: &str, backend: &str, begun: Instant) -> Result<()> {
    loop {
        let answer = probe.get(HOST, path).await.context("the probe's connection")?;
        if answer.backend() == backend {
            return Ok(());
        }
        ensure!(begun.elapsed() < PATIENCE, "{path} is not answered by {backend} after {PATIENCE:?}: {answer}");
    }
}
