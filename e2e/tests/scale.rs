//! 5,000 Ingresses in a folder: time to ready, memory, and how fast one change is live.

use std::fmt::Write as _;
use std::time::{Duration, Instant};

use anyhow::{Result, ensure};
use landfall_e2e::client::Client;
use landfall_e2e::echo::Echo;
use landfall_e2e::figures::{self, Durations, resident};
use landfall_e2e::ingress::Launch;
use landfall_e2e::manifests::{self, Folder};

const INGRESSES: usize = 5_000;
/// Ingresses in one file, with a Service and a slice for each.
const IN_ONE_FILE: usize = 50;
/// Changes whose way is timed.
const CHANGES: usize = 50;

#[tokio::test]
async fn five_thousand_ingresses() -> Result<()> {
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

fn host(number: usize) -> String {
    format!("app-{number}.example")
}

fn app(number: usize, endpoint: std::net::SocketAddr, path: &str) -> String {
    let name = format!("app-{number}");
    manifests::ingress(&name, &host(number), &[(path, &name)]) + &manifests::service(&name, &[endpoint])
}
