//! A CA that refuses nonces and takes its time, as pebble does to find out who is not prepared.

use std::time::Duration;

use anyhow::Result;
use landfall_e2e::figures;
use serde_json::json;

use crate::stage::{ALONE, Stage, asked, becomes_secure, ingress};

const CERTIFICATES: usize = 8;
/// What a certificate of two hosts needs without any trouble is about 15; polls and refused nonces come on top.
const REQUESTS_EACH: usize = 40;
const LIMIT: Duration = Duration::from_mins(2);

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn refused_nonces_and_slow_validations_cost_no_order() -> Result<()> {
    let _together = ALONE.read().await;
    let mut stage = Stage::new(json!({})).await?;
    // Three nonces in ten are refused, no host is proven for the next order, and each validation waits up to two seconds.
    let random = [
        ("PEBBLE_WFE_NONCEREJECT", "30"),
        ("PEBBLE_AUTHZREUSE", "0"),
        ("PEBBLE_VA_NOSLEEP", "0"),
        ("PEBBLE_VA_SLEEPTIME", "2"),
    ];
    for (name, value) in random {
        stage.pebble = stage.pebble.env(name, value);
    }
    stage.pebble.start().await?;
    stage.pebble.lead_all_here()?;
    let served = stage.ingress(&["--acme-concurrency", "8"]).await?;
    let hosts = |number: usize| [format!("a{number}.test"), format!("b{number}.test")];
    let all: String = (0..CERTIFICATES)
        .map(|number| {
            let [a, b] = hosts(number);
            ingress(&format!("shop{number}"), &[&a, &b], &asked())
        })
        .collect();
    stage.folder.write("shops.yaml", &all)?;
    let trust = stage.pebble.trust()?;
    for host in (0..CERTIFICATES).flat_map(hosts) {
        becomes_secure(&served, &host, &trust, LIMIT).await?;
    }
    let (orders, requests) = (stage.pebble.orders(), stage.pebble.asked("POST /"));
    figures::print(&format!("{CERTIFICATES} certificates with three nonces in ten refused: {requests} requests"));
    assert_eq!(orders, CERTIFICATES, "whatever fails, an order is gone on with");
    assert!(stage.pebble.log().contains("There are now 1 accounts in memory"));
    assert!(!stage.pebble.log().contains("There are now 2 accounts in memory"), "one account for all");
    assert!(requests <= CERTIFICATES * REQUESTS_EACH, "{requests} requests for {CERTIFICATES} certificates");
    Ok(())
}
