//! From an Ingress to its certificate.

use std::net::Ipv4Addr;
use std::os::unix::fs::PermissionsExt;
use std::path::Path;
use std::process::Command;

use anyhow::{Context, Result};
use http::Request;
use landfall_e2e::client::{self, Client};
use landfall_e2e::{figures, tools};
use nix::sys::signal::Signal;
use serde_json::{Value, json};

use crate::stage::{ALONE, PATIENCE, SOON, Stage, asked, becomes_secure, ingress, now, secured, stands};

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn https_works_soon_after_the_ingress_is_there_and_after_a_restart_without_the_ca() -> Result<()> {
    let _alone = ALONE.write().await;
    let mut stage = Stage::new(json!({})).await?;
    // One nonce in five is refused.
    stage.pebble = stage.pebble.env("PEBBLE_WFE_NONCEREJECT", "20");
    stage.pebble.start().await?;
    let hosts = ["a.test", "b.test", "c.test"];
    stage.pebble.lead_here(&hosts)?;
    let mut first = stage.ingress(&[]).await?;
    // What is redirected, refused and limited is so after the challenge.
    let annotations = json!({
        "landfall.dev/acme": "true",
        "nginx.ingress.kubernetes.io/force-ssl-redirect": "true",
        "nginx.ingress.kubernetes.io/denylist-source-range": "203.0.113.0/24",
        "nginx.ingress.kubernetes.io/limit-rps": "50",
    });
    stage.folder.write("shop.yaml", &ingress("shop", &hosts, &annotations))?;
    let trust = stage.pebble.trust()?;
    let took = becomes_secure(&first, "a.test", &trust, SOON).await?;
    figures::print(&format!("from an Ingress in a folder to HTTPS by HTTP-01: {:.2} s", took.as_secs_f64()));
    for host in hosts {
        secured(first.https, host, &trust).await?;
    }
    assert_eq!(stage.pebble.orders(), 1);
    assert_eq!(first.get("a.test", "/").await?.status, 308);
    assert_eq!(first.get("a.test", "/.well-known/acme-challenge/other").await?.status, 308, "a token that is not ours");

    let view = stands(&first, "shop-tls", |one| one["state"] == "issued").await?;
    assert!(view["expires"].as_u64() > view["renewsAt"].as_u64(), "{view}");
    let metrics = client::get(first.admin, "admin", "/metrics").await?.text();
    assert!(metrics.contains("landfall_ingress_acme_certificates{state=\"issued\"} 1"), "{metrics}");
    let admin = first.admin.to_string();
    let said = tools::run(Command::new(tools::program("landfall-ingress")?).args(["certs", "--admin", &admin]))?;
    assert!(said.contains("default/shop-tls: issued, issuer default, expires in "), "{said}");

    let mode = |path: &Path| Ok::<_, anyhow::Error>(std::fs::metadata(path)?.permissions().mode() & 0o777);
    let kept = stage.state.path().join("acme");
    assert_eq!(mode(&kept)?, 0o700);
    assert_eq!(mode(&kept.join("certificates/default/shop-tls.json"))?, 0o600);
    assert!(!first.log().contains("PRIVATE KEY") && !first.log().contains("key_pkcs8"));
    assert_eq!(stage.certificate("shop-tls")?["metadata"]["labels"]["landfall.dev/acme"], "managed");

    first.signal(Signal::SIGTERM)?;
    first.ended(PATIENCE).await?;
    stage.pebble.stop();
    let second = stage.ingress(&[]).await?;
    secured(second.https, "b.test", &trust).await?;
    Ok(())
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn tls_alpn_an_external_account_and_a_profile() -> Result<()> {
    let _alone = ALONE.write().await;
    let key = "zWNDZM6eQGHWpSRTPal5eIUYFTu7EajVIoguysqZ9wG44nMEtx3MUAsUDkMTQ12W";
    let settings = json!({"externalAccountBindingRequired": true, "externalAccountMACKeys": {"kid-1": key}});
    let mut stage = Stage::new(settings).await?;
    stage.pebble.start().await?;
    stage.pebble.lead_here(&["a.test", "b.test"])?;
    // The way to plain HTTP leads nowhere.
    let secret = json!({"apiVersion": "v1", "kind": "Secret", "metadata": {"name": "eab"}, "stringData": {"key": key}});
    stage.folder.write("eab.yaml", &secret.to_string())?;
    stage.folder.write("shop.yaml", &ingress("shop", &["a.test", "b.test"], &json!({})))?;
    let issuer = json!({
        "directory": stage.pebble.directory(), "email": "me@example.com", "termsAgreed": true,
        "caBundle": std::fs::read_to_string(stage.pebble.authority())?,
        "externalAccount": {"keyId": "kid-1", "secret": "default/eab"},
        "challenges": ["tls-alpn-01"], "profile": "shortlived", "keyType": "ecdsa-p384",
        "httpPort": 1, "tlsPort": stage.secure.port,
    });
    let map = json!({
        "apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": "issuers"}, "data": {"mine": issuer.to_string()},
    });
    stage.folder.write("issuers.yaml", &map.to_string())?;
    let ingress = stage.ingress(&["--acme-issuers", "default/issuers", "--acme-default", "mine"]).await?;
    let trust = stage.pebble.trust()?;
    becomes_secure(&ingress, "b.test", &trust, PATIENCE).await?;
    let view = stands(&ingress, "shop-tls", |one| one["state"] == "issued").await?;
    let lifetime = view["expires"].as_u64().unwrap_or_default() - now();
    assert!(lifetime <= 518_401, "{lifetime}: the profile has six days");
    assert_eq!(view["issuer"], "mine");
    Ok(())
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_host_that_fails_is_named_and_holds_up_no_other() -> Result<()> {
    let _alone = ALONE.write().await;
    let mut stage = Stage::new(json!({"domainBlocklist": ["guarded.test"]})).await?;
    stage.pebble.start().await?;
    stage.pebble.lead_here(&["good.test", "guarded.test"])?;
    let ingress_at = stage.ingress(&[]).await?;
    let hosts = ["good.test", "nowhere.test", "guarded.test"];
    stage.folder.write("shop.yaml", &ingress("shop", &hosts, &asked()))?;
    let trust = stage.pebble.trust()?;
    becomes_secure(&ingress_at, "good.test", &trust, PATIENCE).await?;

    let view = stands(&ingress_at, "shop-tls", |one| one["state"] == "degraded").await?;
    let host =
        |name: &str| view["hosts"].as_array().and_then(|all| all.iter().find(|one| one["host"] == name).cloned());
    let nowhere = host("nowhere.test").context("nowhere.test")?;
    assert!(
        nowhere["lastError"].as_str().is_some_and(|text| text.contains("does not exist or has no address")),
        "{nowhere}"
    );
    assert!(
        nowhere["remedy"].as_str().is_some_and(|text| text.contains("A or AAAA record for nowhere.test")),
        "{nowhere}"
    );
    let guarded = host("guarded.test").context("guarded.test")?;
    assert!(
        guarded["lastError"].as_str().is_some_and(|text| text.contains("(rejectedIdentifier)")),
        "the CA's own words: {guarded}"
    );
    assert_eq!(host("good.test").context("good.test")?["lastError"], Value::Null);
    let status = ingress_at.status().await?;
    let reasons: Vec<&str> =
        status["problems"].as_array().into_iter().flatten().filter_map(|one| one["reason"].as_str()).collect();
    for reason in ["AcmeChallengeUnreachable", "AcmeRefused"] {
        assert!(reasons.contains(&reason), "{reasons:?}");
    }

    // Once the record is there, nobody has to do anything else.
    stage.pebble.lead_here(&["nowhere.test"])?;
    becomes_secure(&ingress_at, "nowhere.test", &trust, PATIENCE).await?;
    secured(ingress_at.https, "good.test", &trust).await
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_request_for_another_token_is_the_backends() -> Result<()> {
    let stage = Stage::new(json!({})).await?;
    stage.folder.write("shop.yaml", &ingress("shop", &["a.test"], &json!({})))?;
    let ingress = stage.ingress(&[]).await?;
    let mut client = Client::http1((Ipv4Addr::LOCALHOST, ingress.http.port()).into()).await?;
    let request = Request::get("/.well-known/acme-challenge/solver").body(client::empty())?;
    assert_eq!(client.send("a.test", request).await?.backend(), "web");
    Ok(())
}
