//! Many hosts at once.

use std::collections::BTreeSet;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, ensure};
use landfall_e2e::{figures, wait};
use serde_json::json;

use crate::stage::{ALONE, Stage, asked, ingress, secured};

const SECRETS: usize = 50;
const HOSTS_EACH: usize = 4;
/// Orders that may be under way at one time.
const AT_ONCE: usize = 10;
const LIMIT: Duration = Duration::from_mins(2);

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn two_hundred_hosts_at_once_are_ordered_a_few_at_a_time() -> Result<()> {
    let _together = ALONE.read().await;
    let mut stage = Stage::new(json!({})).await?;
    stage.pebble.start().await?;
    stage.pebble.lead_all_here()?;
    let served = stage.ingress(&["--acme-concurrency", &AT_ONCE.to_string()]).await?;
    let hosts = |secret: usize| (0..HOSTS_EACH).map(move |host| format!("h{host}.s{secret}.test"));
    let all: String = (0..SECRETS)
        .map(|secret| {
            let hosts: Vec<String> = hosts(secret).collect();
            let hosts: Vec<&str> = hosts.iter().map(String::as_str).collect();
            ingress(&format!("s{secret}"), &hosts, &asked())
        })
        .collect();
    let begun = Instant::now();
    stage.folder.write("shops.yaml", &all)?;
    wait::until(LIMIT, "all certificates", || async {
        let status = served.status().await?;
        let all = status["certificates"].as_array().context("none")?;
        let stand: Vec<&str> = all.iter().filter_map(|one| one["state"].as_str()).collect();
        let running = stand.iter().filter(|state| **state == "ordering").count();
        assert!(running <= AT_ONCE, "{running} orders");
        let failing: Vec<_> = all.iter().filter(|one| one["lastError"].is_string()).collect();
        ensure!(
            stand.len() == SECRETS && stand.iter().all(|state| *state == "issued"),
            "{} certificates, of which failing: {failing:?}",
            stand.len()
        );
        Ok(())
    })
    .await?;
    let took = begun.elapsed().as_secs_f64();
    figures::print(&format!("200 hosts in {SECRETS} certificates, {AT_ONCE} orders at a time: {took:.1} s"));
    let trust = stage.pebble.trust()?;
    let missing: BTreeSet<String> = {
        let mut missing = BTreeSet::new();
        for host in (0..SECRETS).flat_map(hosts) {
            if secured(served.https, &host, &trust).await.is_err() {
                missing.insert(host);
            }
        }
        missing
    };
    assert!(missing.is_empty(), "{missing:?}");
    let (orders, most) = (stage.pebble.orders(), stage.pebble.most_at_once());
    assert_eq!(orders, SECRETS, "one order for each certificate");
    assert!((2..=AT_ONCE).contains(&most), "{most} orders at one time");
    Ok(())
}
