//! 5,000 Ingresses in a folder: time to ready, memory, and how fast one change is live.

use std::fmt::Write as _;
use std::process::Command;
use std::time::{Duration, Instant};

use anyhow::{Result, ensure};
use futures::{StreamExt, TryStreamExt, stream};
use landfall_e2e::client::Client;
use landfall_e2e::echo::Echo;
use landfall_e2e::figures::{self, Durations, resident};
use landfall_e2e::ingress::Launch;
use landfall_e2e::manifests::{self, Folder};
use landfall_e2e::tls::Trust;
use landfall_e2e::tools;
use nix::sys::resource::{Resource, getrlimit, setrlimit};
use tokio::sync::Mutex;

/// What is timed must not be disturbed by the other test.
static ONE_AT_A_TIME: Mutex<()> = Mutex::const_new(());

const INGRESSES: usize = 5_000;
/// Ingresses in one file, with a Service and a slice for each.
const IN_ONE_FILE: usize = 50;
/// Changes whose way is timed.
const CHANGES: usize = 50;

#[tokio::test]
async fn five_thousand_ingresses() -> Result<()> {
    let _alone = ONE_AT_A_TIME.lock().await;
    let echo = Echo::local("web").await?;
    let folder = Folder::new()?;
    folder.write("class.yaml", &manifests::class())?;
    let mut idle = Launch::manifests(folder.path()).spawn()?;
    idle.ready(Duration::from_secs(10)).await?;
    figures::print(&format!("resident memory idle: {}", resident(idle.pid())?));
    drop(idle);

    for file in 0..INGRESSES / IN_ONE_FILE {
        let mut yaml = String::new();
        for number in file * IN_ONE_FILE..(file + 1) * IN_ONE_FILE {
            write!(yaml, "{}", app(number, echo.addr, "/"))?;
        }
        folder.write(&format!("apps-{file:03}.yaml"), &yaml)?;
    }
    // Without a rule for every path: only the change itself answers.
    folder.write("one.yaml", &app(INGRESSES, echo.addr, "/none"))?;

    let mut ingress = Launch::manifests(folder.path()).spawn()?;
    let took = ingress.ready(Duration::from_mins(1)).await?;
    for number in [0, INGRESSES / 2, INGRESSES - 1] {
        assert_eq!(ingress.get(&host(number), "/").await?.backend(), "web");
    }
    figures::print(&format!("time to ready with {INGRESSES} Ingresses in a folder: {:.2} s", took.as_secs_f64()));
    figures::print(&format!("resident memory with {INGRESSES} Ingresses: {}", resident(ingress.pid())?));

    let mut client = Client::http1(ingress.http).await?;
    let mut took = Durations::default();
    for change in 0..CHANGES {
        let path = format!("/change-{change}");
        folder.write("one.yaml", &app(INGRESSES, echo.addr, &path))?;
        let begun = Instant::now();
        while client.get(&host(INGRESSES), &path).await?.status != 200 {
            ensure!(begun.elapsed() < Duration::from_secs(10), "{path} is not live");
        }
        took.push(begun.elapsed());
    }
    figures::print(&format!("change of one file beside {INGRESSES} Ingresses to the new answer: {took}"));
    figures::print(&format!(
        "resident memory with {INGRESSES} Ingresses after {CHANGES} changes: {}",
        resident(ingress.pid())?
    ));
    Ok(())
}

/// TLS connections that have asked once and then stay idle.
const IDLE: usize = 10_000;

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn ten_thousand_idle_tls_connections() -> Result<()> {
    let _alone = ONE_AT_A_TIME.lock().await;
    raise_file_limit()?;
    let echo = Echo::local("web").await?;
    let folder = Folder::new()?;
    let keys = tempfile::TempDir::new()?;
    let script = tools::checkout().join("hack/quickstart-pki");
    tools::run(Command::new(script).arg(keys.path()).arg(folder.path()))?;
    let trust = Trust::from_file(&keys.path().join("ca.crt"))?;
    let tls = "  tls: [{hosts: [shop.localhost], secretName: shop-tls}]\n  rules:";
    let shop = manifests::ingress("shop", "shop.localhost", &[("/", "web")]).replace("  rules:", tls);
    folder.write("shop.yaml", &(shop + &manifests::service("web", &[echo.addr])))?;
    let ingress = Launch::manifests(folder.path()).args(&["--no-access-log"]).start().await?;

    let connected: Vec<Client> = stream::iter(0..IDLE)
        .map(|_| async {
            let mut client = Client::https1(ingress.https, "shop.localhost", &trust).await?;
            let answer = client.get("shop.localhost", "/").await?;
            ensure!(answer.status == 200, "{answer}");
            anyhow::Ok(client)
        })
        .buffer_unordered(32)
        .try_collect()
        .await?;
    let memory = resident(ingress.pid())?;
    figures::print(&format!("resident memory with {IDLE} idle TLS connections: {memory}"));
    assert!(connected.iter().all(|client| !client.is_closed()));
    Ok(())
}

/// Files that this process and its children may have open: as many as the administrator allows.
fn raise_file_limit() -> Result<()> {
    let (_, hard) = getrlimit(Resource::RLIMIT_NOFILE)?;
    ensure!(hard >= IDLE as u64 + 1_000, "only {hard} files may be open; raise the limit (ulimit -Hn)");
    Ok(setrlimit(Resource::RLIMIT_NOFILE, hard, hard)?)
}

fn host(number: usize) -> String {
    format!("app-{number}.example")
}

fn app(number: usize, endpoint: std::net::SocketAddr, path: &str) -> String {
    let name = format!("app-{number}");
    manifests::ingress(&name, &host(number), &[(path, &name)]) + &manifests::service(&name, &[endpoint])
}
