//! A CA that offers several chains.

use anyhow::{Context, Result, ensure};
use landfall_e2e::wait;
use serde_json::{Value, json};

use crate::stage::{ALONE, PATIENCE, Stage, becomes_secure, ingress, stands};

/// The common name of a certificate in PEM form.
fn common_name(pem: &str) -> Result<String> {
    let (_, pem) = x509_parser::pem::parse_x509_pem(pem.as_bytes())?;
    let certificate = pem.parse_x509()?;
    let name = certificate.subject().iter_common_name().next().context("no common name")?;
    Ok(name.as_str()?.to_owned())
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_chain_that_is_asked_for_is_served_and_one_that_is_not_offered_is_told() -> Result<()> {
    let _together = ALONE.read().await;
    let mut stage = Stage::new(json!({})).await?;
    let pebble = stage.pebble.env("PEBBLE_ALTERNATE_ROOTS", "2").env("PEBBLE_CHAIN_LENGTH", "2");
    // Chains are not missed for the sake of a nonce.
    stage.pebble = pebble.env("PEBBLE_WFE_NONCEREJECT", "15");
    stage.pebble.start().await?;
    stage.pebble.lead_all_here()?;
    let issuer = |chain: &str| {
        Ok::<_, anyhow::Error>(json!({
            "directory": stage.pebble.directory(), "email": "me@example.com", "termsAgreed": true,
            "caBundle": std::fs::read_to_string(stage.pebble.authority())?, "preferredChain": chain,
            "httpPort": stage.plain.port, "tlsPort": stage.secure.port,
        }))
    };
    let last = common_name(&stage.pebble.root(2)?)?;
    let data = json!({"last": issuer(&last)?.to_string(), "nobody": issuer("Root of Nobody")?.to_string()});
    let map = json!({"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": "issuers"}, "data": data});
    stage.folder.write("issuers.yaml", &map.to_string())?;
    let asked = |issuer: &str| json!({"landfall.dev/acme": issuer});
    let shops =
        ingress("last", &["last.test"], &asked("last")) + &ingress("nobody", &["nobody.test"], &asked("nobody"));
    stage.folder.write("shops.yaml", &shops)?;
    let served = stage.ingress(&["--acme-issuers", "default/issuers"]).await?;
    // Who trusts one root only can connect only where the chain ends at it.
    becomes_secure(&served, "last.test", &stage.pebble.trust_in(2)?, PATIENCE).await?;
    becomes_secure(&served, "nobody.test", &stage.pebble.trust()?, PATIENCE).await?;

    let view = stands(&served, "nobody-tls", |one| one["state"] == "issued").await?;
    assert_eq!(view["lastError"], Value::Null, "it is a certificate like any other: {view}");
    let first = common_name(&stage.pebble.root(0)?)?;
    wait::until(PATIENCE, "the problem", || async {
        let status = served.status().await?;
        let problems = status["problems"].as_array().cloned().unwrap_or_default();
        let told: Vec<&Value> = problems.iter().filter(|one| one["reason"] == "AcmeChainNotOffered").collect();
        ensure!(told.len() == 1, "{problems:?}");
        let message = told[0]["message"].as_str().unwrap_or_default();
        ensure!(message.contains("Root of Nobody") && message.contains(&first), "{message}");
        ensure!(told[0]["name"] == "nobody", "{}", told[0]);
        Ok(())
    })
    .await?;
    assert_eq!(stage.pebble.orders(), 2, "what is not offered is not ordered again and again");
    Ok(())
}
