//! A CA that is away.

use anyhow::{Context, Result, ensure};
use landfall_e2e::acme::Router;
use landfall_e2e::wait;
use nix::sys::signal::Signal;
use serde_json::json;

use crate::stage::{ALONE, PATIENCE, Stage, asked, becomes_secure, decode, ingress, serial, stands};

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_ca_that_is_away_is_waited_for_and_one_that_wants_a_renewal_gets_it() -> Result<()> {
    let _alone = ALONE.write().await;
    let mut stage = Stage::new(json!({})).await?;
    stage.pebble.start_names().await?;
    stage.pebble.lead_here(&["a.test"])?;
    stage.folder.write("shop.yaml", &ingress("shop", &["a.test"], &asked()))?;
    let mut first = stage.ingress(&[]).await?;
    let view = stands(&first, "shop-tls", |one| one["lastError"].is_string()).await?;
    assert!(view["lastError"].as_str().is_some_and(|text| text.contains("can't be connected to")), "{view}");
    stage.pebble.start().await?;
    let trust = stage.pebble.trust()?;
    becomes_secure(&first, "a.test", &trust, PATIENCE).await?;
    let before = serial(first.https, "a.test", &trust).await?;
    wait::until(PATIENCE, "the question when to renew", || async {
        let shared = std::fs::read_to_string(stage.state.path().join("acme/shared.json"))?;
        ensure!(shared.contains("\"window\":["), "{shared}");
        Ok(())
    })
    .await?;

    // The CA changes its mind, as it does when it has to revoke. What it said is asked for every six hours; here it is
    // forgotten instead.
    first.signal(Signal::SIGKILL)?;
    first.ended(PATIENCE).await?;
    let pem =
        stage.certificate("shop-tls")?["data"]["tls.crt"].as_str().map(str::to_owned).context("no certificate")?;
    let pem = decode(&pem)?;
    stage.pebble.set_renewal(&pem, "2020-01-01T00:00:00Z", "2020-01-02T00:00:00Z")?;
    std::fs::remove_file(stage.state.path().join("acme/shared.json"))?;
    let second = stage.ingress(&[]).await?;
    wait::until(PATIENCE, "another certificate", || async {
        let after = serial(second.https, "a.test", &trust).await?;
        ensure!(after != before, "it is the same");
        Ok(())
    })
    .await?;
    assert_eq!(stage.pebble.orders(), 2);
    Ok(())
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_ca_that_goes_away_in_the_middle_of_an_order_completes_that_order_later() -> Result<()> {
    let _together = ALONE.read().await;
    let mut stage = Stage::new(json!({})).await?;
    let way = Router::start().await?;
    // Validations take a while, so that there is a middle of an order.
    let pebble = stage.pebble.env("PEBBLE_VA_NOSLEEP", "0").env("PEBBLE_VA_SLEEPTIME", "3");
    stage.pebble = pebble.behind(way.port);
    let at = (std::net::Ipv4Addr::LOCALHOST, stage.pebble.port).into();
    way.lead_to(&[at]);
    stage.pebble.start().await?;
    stage.pebble.lead_all_here()?;
    stage.folder.write("shop.yaml", &ingress("shop", &["a.test", "b.test", "c.test"], &asked()))?;
    let served = stage.ingress(&[]).await?;
    wait::until(PATIENCE, "an order", || async {
        ensure!(stage.pebble.orders() == 1, "none");
        Ok(())
    })
    .await?;
    way.lead_to(&[]);
    let before = way.connections();
    let failed = |one: &serde_json::Value| one["lastError"].is_string();
    let view = stands(&served, "shop-tls", failed).await?;
    assert!(view["nextTry"].is_u64() && view["waitingFor"] == "the next try", "{view}");
    let status = served.status().await?;
    let problems = status["problems"].as_array().context("none")?;
    assert!(problems.iter().any(|one| one["reason"] == "AcmeUnreachable"), "{problems:?}");
    // It is asked again in vain.
    let tried = way.connections();
    wait::until(PATIENCE, "another try", || async {
        ensure!(way.connections() > tried, "none");
        Ok(())
    })
    .await?;
    let count = way.connections() - before;
    assert!(count <= 8, "{count} connections to a CA that is away");
    way.lead_to(&[at]);
    let trust = stage.pebble.trust()?;
    becomes_secure(&served, "c.test", &trust, PATIENCE).await?;
    stands(&served, "shop-tls", |one| one["state"] == "issued" && one["lastError"].is_null()).await?;
    assert_eq!(stage.pebble.orders(), 1, "the order is gone on with");
    assert!(!stage.pebble.log().contains("There are now 2 accounts in memory"), "and so is the account");
    Ok(())
}
