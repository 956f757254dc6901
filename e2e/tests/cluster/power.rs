//! The node that announces an address loses its power: how long the client waits for an answer.

use std::net::IpAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, ensure};
use landfall_e2e::client;
use landfall_e2e::figures::{self, Durations};
use landfall_e2e::testbed::{Host, Namespace};

use crate::stage::{Stage, play, rounds};

const APP: &str = include_str!("echo.yaml");
const NAMESPACE: &str = "power";
/// Of 99 in 100 losses of power.
const BUDGET: Duration = Duration::from_millis(400);
const ROUNDS: usize = 20;
/// Between the beginnings of two requests.
const EVERY: Duration = Duration::from_millis(5);
/// A request that takes longer has failed; the next ones do not wait for it.
const TIMEOUT: Duration = Duration::from_secs(1);
/// The same where nothing is to be noticed, on a machine that may be busy with other things.
const PATIENT_TIMEOUT: Duration = Duration::from_secs(10);
/// How long the API server stays away.
const OUTAGE: Duration = Duration::from_mins(5);
/// How long it is watched after the power is cut.
const WATCHED: Duration = Duration::from_secs(3);

#[tokio::test(flavor = "multi_thread")]
async fn an_address_outlives_its_node() -> Result<()> {
    play(NAMESPACE, scenario).await
}

/// The same without an API server, which is not on the way of any of it.
#[tokio::test(flavor = "multi_thread")]
async fn an_address_outlives_the_api_server() -> Result<()> {
    play(NAMESPACE, without_the_api_server).await
}

async fn without_the_api_server(stage: &Stage, namespace: &Namespace<'_>) -> Result<()> {
    let address = deploy(stage, namespace).await?;
    let owner = stage.announcer(NAMESPACE, "app").await?;
    // In the short form a minute shows the same: every limit that could run out is shorter.
    let outage = if rounds(ROUNDS)? == ROUNDS { OUTAGE } else { OUTAGE / 5 };
    stage.testbed.kill("kube-apiserver")?;
    let outcome = async {
        let over = Arc::new(AtomicBool::new(false));
        let watching = Arc::clone(&over);
        let timeout = if figures::held_to_budgets() { TIMEOUT } else { PATIENT_TIMEOUT };
        let client = stage.testbed.run_on(Host::Client, move || watch(address, timeout, watching));
        let wait = async {
            tokio::time::sleep(outage).await;
            over.store(true, Ordering::Relaxed);
        };
        let (answered, ()) = tokio::join!(client, wait);
        let (answered, failed) = answered?;
        let (count, asked) = (failed.len(), answered.len() + failed.len());
        figures::print(&format!("API server dead for {outage:?}: {count} of {asked} requests to an address failed"));
        ensure!(failed.is_empty(), "{count} of {asked} failed: {failed:?}");
        let gap = cut(stage, address, owner).await?;
        let gap_ms = gap.as_secs_f64() * 1000.0;
        figures::print(&format!("and then a node's power is cut: {gap_ms:.0} ms without an answer"));
        figures::within(gap, BUDGET, WATCHED)
    }
    .await;
    stage.testbed.revive_api_server().await?;
    stage.testbed.power_on(owner).await?;
    outcome
}

/// The app with an address of its own, which answers.
async fn deploy(stage: &Stage, namespace: &Namespace<'_>) -> Result<IpAddr> {
    // Every node has a pod, and the node that takes over is to use its own: under policy Cluster kube-proxy goes on to
    // choose pods of the dead node until the API server says that they are.
    namespace.apply(APP)?;
    namespace.apply(
        "apiVersion: v1\nkind: Service\nmetadata: {name: app}\nspec:\n  type: LoadBalancer\n  \
         externalTrafficPolicy: Local\n  selector: {app: echo}\n  ports: [{port: 80, targetPort: http}]\n",
    )?;
    stage.testbed.rolled_out(NAMESPACE, "daemonset/echo")?;
    let address = stage.address(NAMESPACE, "app").await?;
    stage.get_until(address, 80, ("app.test", "/"), |answer| answer.status == 200).await?;
    Ok(address)
}

async fn scenario(stage: &Stage, namespace: &Namespace<'_>) -> Result<()> {
    let address = deploy(stage, namespace).await?;
    let mut gaps = Durations::default();
    for round in 0..rounds(ROUNDS)? {
        stage.get_until(address, 80, ("app.test", "/"), |answer| answer.status == 200).await?;
        let owner = stage.announcer(NAMESPACE, "app").await?;
        let gap = cut(stage, address, owner).await.with_context(|| format!("round {round}, {owner} dies"))?;
        println!("round {round}: {owner} dies, {:.0} ms without an answer", gap.as_secs_f64() * 1000.0);
        gaps.push(gap);
        stage.testbed.power_on(owner).await?;
        stage.testbed.rolled_out(NAMESPACE, "daemonset/echo")?;
        stage.testbed.rolled_out(landfall_e2e::testbed::LANDFALL, "daemonset/landfall-lb-speaker")?;
    }
    figures::print(&format!("a node's power is cut, until the address answers again: {gaps}"));
    figures::within(gaps.percentile(99), BUDGET, WATCHED)
}

/// Cuts the power of `owner` and returns the longest time between two answers that the client got.
async fn cut(stage: &Stage, address: IpAddr, owner: Host) -> Result<Duration> {
    let over = Arc::new(AtomicBool::new(false));
    let watching = Arc::clone(&over);
    let client = stage.testbed.run_on(Host::Client, move || watch(address, TIMEOUT, watching));
    let fault = async {
        tokio::time::sleep(Duration::from_millis(500)).await;
        let cut = stage.testbed.power_off(owner);
        tokio::time::sleep(WATCHED).await;
        over.store(true, Ordering::Relaxed);
        cut
    };
    let (answered, cut) = tokio::join!(client, fault);
    cut?;
    let (answered, _) = answered?;
    let longest = answered.windows(2).map(|pair| pair[1] - pair[0]).max().context("there was hardly an answer")?;
    let last = answered.last().context("there was no answer")?;
    ensure!(last.elapsed() < WATCHED, "there was no answer after the power was cut");
    Ok(longest)
}

/// When each answer came, in order, and how many requests had none.
async fn watch(address: IpAddr, timeout: Duration, over: Arc<AtomicBool>) -> Result<(Vec<Instant>, Vec<String>)> {
    let mut requests = tokio::task::JoinSet::new();
    let mut clock = tokio::time::interval(EVERY);
    let begun = Instant::now();
    while !over.load(Ordering::Relaxed) {
        clock.tick().await;
        requests.spawn(async move {
            let since = begun.elapsed();
            let why = match tokio::time::timeout(timeout, client::get((address, 80).into(), "app.test", "/")).await {
                Ok(Ok(answer)) if answer.status == 200 => return Ok(Instant::now()),
                Ok(Ok(answer)) => answer.status.to_string(),
                Ok(Err(error)) => format!("{error:#}"),
                Err(_) => format!("nothing within {timeout:?}"),
            };
            Err(format!("after {since:.3?}: {why}"))
        });
    }
    let (mut answered, mut failed) = (Vec::new(), Vec::new());
    for outcome in requests.join_all().await {
        match outcome {
            Ok(at) => answered.push(at),
            Err(why) => failed.push(why),
        }
    }
    answered.sort_unstable();
    Ok((answered, failed))
}
