//! The ingress, its backends, a well-behaved client, and what is looked at.

use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::mpsc;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, anyhow, ensure};
use landfall_e2e::client::Client;
use landfall_e2e::echo::Echo;
use landfall_e2e::figures::{self, Durations, megabytes, resident};
use landfall_e2e::ingress::{Ingress, Launch};
use landfall_e2e::manifests::{self, Folder};
use nix::sys::resource::{Resource, getrlimit, setrlimit};
use tokio::sync::oneshot;
use tokio::task::JoinHandle;

/// The host that is attacked.
pub(crate) const HOST: &str = "shop.example";
/// The host of the well-behaved client, whose backend nobody else asks.
const GOOD: &str = "good.example";
/// How often the well-behaved client asks.
const PACE: Duration = Duration::from_millis(20);
/// How long it waits: longer means that it is not served.
const PATIENCE: Duration = Duration::from_secs(5);
/// How long an attack is looked at, at least.
const SHORTEST: Duration = Duration::from_secs(3);
/// How long the ingress may take to give memory back.
const RELEASE: Duration = Duration::from_secs(15);

/// A fresh ingress for one attack.
pub(crate) struct Scene {
    pub(crate) ingress: Ingress,
    name: &'static str,
    before: u64,
    most: Arc<AtomicU64>,
    over: Arc<AtomicBool>,
    watch: JoinHandle<()>,
    good: std::thread::JoinHandle<Result<Durations>>,
    begun: Instant,
    _folder: Folder,
    _web: Echo,
}

/// What an attack may cost.
pub(crate) struct Budget {
    /// Bytes by which the resident memory may grow.
    pub(crate) growth: u64,
    /// The 99th percentile of the well-behaved client, where budgets are held.
    pub(crate) good: Duration,
}

impl Budget {
    pub(crate) fn megabytes(growth: u64) -> Self {
        Self { growth: growth * 1_000_000, good: Duration::from_millis(250) }
    }
}

impl Scene {
    pub(crate) async fn start(name: &'static str) -> Result<Self> {
        let (_, most) = getrlimit(Resource::RLIMIT_NOFILE)?;
        setrlimit(Resource::RLIMIT_NOFILE, most, most)?;
        let web = Echo::local("web").await?;
        let (over, ready) = (Arc::new(AtomicBool::new(false)), mpsc::channel());
        let (there, told) = oneshot::channel();
        let good = good(Arc::clone(&over), there, ready.1);
        let backend = told.await.context("the other backend does not start")?;
        let folder = Folder::new()?;
        let rules =
            manifests::ingress("shop", HOST, &[("/", "web")]) + &manifests::ingress("good", GOOD, &[("/", "good")]);
        let services = manifests::service("web", &[web.addr]) + &manifests::service("good", &[backend]);
        folder.write("shop.yaml", &(manifests::class() + &rules + &services))?;
        let ingress = Launch::manifests(folder.path()).args(&["--no-access-log"]).start().await?;
        // What a program that has worked needs anyway is not charged to the attack.
        for _ in 0..200 {
            ingress.get(GOOD, "/").await?;
        }
        let before = resident(ingress.pid())?.resident;
        let most = Arc::new(AtomicU64::new(before));
        let watch = tokio::spawn(watch(ingress.pid(), Arc::clone(&most)));
        ready.0.send(ingress.http)?;
        Ok(Self { ingress, name, before, most, over, watch, good, begun: Instant::now(), _folder: folder, _web: web })
    }

    /// How much the memory has grown at most.
    fn growth(&self) -> u64 {
        self.most.load(Ordering::Relaxed).saturating_sub(self.before)
    }

    /// Looks at what the attack has cost, and lets it end by dropping `held`.
    pub(crate) async fn end<T>(self, held: T, budget: &Budget) -> Result<()> {
        // Some attacks are over at once, and others are asked after for long enough to say something.
        tokio::time::sleep_until((self.begun + SHORTEST).into()).await;
        let growth = self.growth();
        drop(held);
        self.over.store(true, Ordering::Relaxed);
        let name = self.name;
        let good = tokio::task::spawn_blocking(|| self.good.join()).await?;
        let good = good.map_err(|_| anyhow!("the well-behaved client panicked"))?;
        let good = good.with_context(|| format!("{name}: the well-behaved client"))?;
        let begun = Instant::now();
        let left = loop {
            let left = resident(self.ingress.pid())?.resident.saturating_sub(self.before);
            if left < budget.growth / 2 || begun.elapsed() > RELEASE {
                break left;
            }
            // Memory is given back by whoever works.
            self.ingress.get(GOOD, "/").await?;
            tokio::time::sleep(PACE).await;
        };
        self.watch.abort();
        figures::print(&format!(
            "{}: memory grew by {:.1} MB at most, of which {:.1} MB are left after {:.1} s; others: {good}",
            self.name,
            megabytes(growth),
            megabytes(left),
            begun.elapsed().as_secs_f64(),
        ));
        ensure!(growth <= budget.growth, "{}: memory grew by {:.1} MB", self.name, megabytes(growth));
        figures::within(good.percentile(99), budget.good, PATIENCE).with_context(|| self.name)
    }
}

async fn watch(pid: u32, most: Arc<AtomicU64>) {
    let mut every = tokio::time::interval(Duration::from_millis(10));
    loop {
        every.tick().await;
        most.fetch_max(resident(pid).map_or(0, |memory| memory.resident), Ordering::Relaxed);
    }
}

/// The well-behaved client and its backend, on a thread of their own: what keeps the attackers busy is not charged to the
/// ingress.
fn good(
    over: Arc<AtomicBool>,
    there: oneshot::Sender<SocketAddr>,
    ready: mpsc::Receiver<SocketAddr>,
) -> std::thread::JoinHandle<Result<Durations>> {
    std::thread::spawn(move || {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
        runtime.block_on(async {
            let backend = Echo::local("good").await?;
            let _ = there.send(backend.addr);
            let wait = tokio::task::spawn_blocking(move || ready.recv());
            behave(wait.await??, over).await
        })
    })
}

/// Asks again and again; every answer must be the right one. A connection that is closed while nothing is under way may
/// be replaced.
async fn behave(http: SocketAddr, over: Arc<AtomicBool>) -> Result<Durations> {
    let mut durations = Durations::default();
    let mut client = Client::http1(http).await?;
    while !over.load(Ordering::Relaxed) {
        if client.is_closed() {
            client = Client::http1(http).await?;
        }
        let begun = Instant::now();
        let answer = tokio::time::timeout(PATIENCE, client.get(GOOD, "/")).await.context("no answer in time")??;
        ensure!(answer.status == 200, "{answer}");
        durations.push(begun.elapsed());
        tokio::time::sleep(PACE).await;
    }
    Ok(durations)
}
