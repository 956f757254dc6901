//! A well-behaved client and its backend, on a thread of their own: what keeps the attackers busy is not charged to the
//! one that is attacked.

use std::net::SocketAddr;
use std::process::{Command, Stdio};
use std::sync::atomic::{AtomicU8, Ordering};
use std::sync::{Arc, mpsc};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, anyhow, ensure};
use landfall_e2e::client::Client;
use landfall_e2e::echo::Echo;
use landfall_e2e::figures::Durations;

use crate::scene::GOOD;

/// How often it asks.
const PACE: Duration = Duration::from_millis(20);
/// How long it waits: longer means that it is not served.
pub(crate) const PATIENCE: Duration = Duration::from_secs(5);

const BEFORE: u8 = 0;
const DURING: u8 = 1;
const OVER: u8 = 2;

/// What it saw.
#[derive(Debug, Default)]
pub(crate) struct Seen {
    pub(crate) before: Durations,
    pub(crate) during: Durations,
    /// Requests that got no answer, or a wrong one; of which the first.
    pub(crate) failures: usize,
    pub(crate) first: Option<String>,
}

/// One that runs.
pub(crate) struct Good {
    /// Its backend.
    pub(crate) backend: SocketAddr,
    phase: Arc<AtomicU8>,
    proxy: mpsc::Sender<SocketAddr>,
    thread: JoinHandle<Result<Seen>>,
}

impl Good {
    /// Starts the backend.
    pub(crate) fn start() -> Result<Self> {
        let phase = Arc::new(AtomicU8::new(BEFORE));
        let (there, told) = mpsc::channel();
        let (proxy, ready) = mpsc::channel();
        let running = phase.clone();
        let thread = std::thread::spawn(move || run(&there, ready, &running));
        let backend = told.recv().context("the other backend does not start")?;
        Ok(Self { backend, phase, proxy, thread })
    }

    /// Begins to ask.
    pub(crate) fn ask(&self, proxy: SocketAddr) -> Result<()> {
        Ok(self.proxy.send(proxy)?)
    }

    /// From now on it is attacked.
    pub(crate) fn attack(&self) {
        self.phase.store(DURING, Ordering::Relaxed);
    }

    /// Ends it.
    pub(crate) fn end(self) -> Result<Seen> {
        self.phase.store(OVER, Ordering::Relaxed);
        self.thread.join().map_err(|_| anyhow!("the well-behaved client panicked"))?
    }
}

fn run(there: &mpsc::Sender<SocketAddr>, ready: mpsc::Receiver<SocketAddr>, phase: &AtomicU8) -> Result<Seen> {
    // It stands for a client that has a machine of its own. Without the right to this it has to share.
    let thread = nix::unistd::gettid().to_string();
    let mut renice = Command::new("renice");
    let _ = renice.args(["-n", "-15", "-p", &thread]).stdout(Stdio::null()).stderr(Stdio::null()).status();
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    runtime.block_on(async {
        let backend = Echo::local("good").await?;
        let _ = there.send(backend.addr);
        let proxy = tokio::task::spawn_blocking(move || ready.recv()).await??;
        Ok(behave(proxy, phase).await)
    })
}

/// Asks again and again. A connection that is closed while nothing is under way may be replaced.
async fn behave(proxy: SocketAddr, phase: &AtomicU8) -> Seen {
    let mut seen = Seen::default();
    let mut client = None;
    loop {
        let begun = Instant::now();
        let now = phase.load(Ordering::Relaxed);
        if now == OVER {
            return seen;
        }
        match tokio::time::timeout(PATIENCE, ask(&mut client, proxy)).await {
            Ok(Ok(())) if now == BEFORE => seen.before.push(begun.elapsed()),
            Ok(Ok(())) => seen.during.push(begun.elapsed()),
            failed => {
                client = None;
                seen.failures += 1;
                let reason = failed.map_or_else(|_| "no answer in time".to_owned(), |error| format!("{error:?}"));
                seen.first.get_or_insert(reason);
            }
        }
        tokio::time::sleep(PACE).await;
    }
}

async fn ask(client: &mut Option<Client>, proxy: SocketAddr) -> Result<()> {
    let mut asking = match client.take() {
        Some(client) if !client.is_closed() => client,
        _ => Client::http1(proxy).await?,
    };
    let answer = asking.get(GOOD, "/").await?;
    ensure!(answer.status == 200, "{answer}");
    *client = Some(asking);
    Ok(())
}
