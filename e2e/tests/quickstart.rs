//! `examples/quickstart` as a user meets it: what answers, and what happens when a file is edited.

use std::collections::BTreeSet;
use std::process::Command;
use std::time::Duration;

use anyhow::Result;
use landfall_e2e::client::Client;
use landfall_e2e::echo::Echo;
use landfall_e2e::figures;
use landfall_e2e::ingress::{Ingress, Launch};
use landfall_e2e::manifests::Folder;
use landfall_e2e::tls::Trust;
use landfall_e2e::tools;
use landfall_e2e::wait;
use landfall_e2e::ws::Socket;
use tempfile::TempDir;

/// How soon an edit is to be live.
const EDIT: Duration = Duration::from_millis(100);

/// The quickstart with backends on ports of its own.
struct Quickstart {
    ingress: Ingress,
    folder: Folder,
    trust: Trust,
    _keys: TempDir,
    _backends: Vec<Echo>,
}

async fn start() -> Result<Quickstart> {
    let shop = Echo::local("shop-a").await?;
    let other = Echo::start("shop-b", ([127, 0, 0, 2], shop.addr.port()).into()).await?;
    let (cart, api) = (Echo::local("cart").await?, Echo::local("api").await?);
    let folder = Folder::copy_of(&tools::checkout().join("examples/quickstart"), |text| {
        [("18081", &shop), ("18082", &cart), ("18083", &api)]
            .iter()
            .fold(text, |text, (port, echo)| text.replace(port, &echo.addr.port().to_string()))
    })?;
    let keys = TempDir::new()?;
    // One that a user's own `make run` left there was made for another authority.
    let _ = folder.remove("shop-tls.secret.yaml");
    let script = tools::checkout().join("hack/quickstart-pki");
    tools::run(Command::new(script).arg(keys.path()).arg(folder.path()))?;
    let trust = Trust::from_file(&keys.path().join("ca.crt"))?;
    let ingress = Launch::manifests(folder.path()).start().await?;
    Ok(Quickstart { ingress, folder, trust, _keys: keys, _backends: vec![shop, other, cart, api] })
}

#[tokio::test]
async fn hosts_and_paths_answer_as_the_files_say() -> Result<()> {
    let quickstart = start().await?;
    let rows = [
        ("shop.localhost", "/", 200, "shop"),
        ("SHOP.localhost:8080", "/anything", 200, "shop"),
        ("shop.localhost", "/cart", 200, "cart"),
        ("shop.localhost", "/cart/items", 200, "cart"),
        ("shop.localhost", "/cartography", 200, "shop"),
        ("shop.localhost", "/x/../cart", 200, "cart"),
        ("shop.localhost", "/soldout", 503, ""),
        ("api.localhost", "/v1/items", 200, "api"),
        ("api.localhost", "/healthz", 200, "api"),
        ("api.localhost", "/healthz/", 404, ""),
        ("api.localhost", "/v2", 404, ""),
        ("nobody.localhost", "/", 404, ""),
    ];
    for (host, path, status, backend) in rows {
        let answer = quickstart.ingress.get(host, path).await?;
        assert_eq!(answer.status, status, "{host}{path}: {answer}");
        if !backend.is_empty() {
            assert!(answer.backend().starts_with(backend), "{host}{path}: {answer}");
        }
    }
    Ok(())
}

#[tokio::test]
async fn both_endpoints_of_a_service_take_turns_from_the_first_request() -> Result<()> {
    let quickstart = start().await?;
    let mut seen = BTreeSet::new();
    for _ in 0..2 {
        seen.insert(quickstart.ingress.get("shop.localhost", "/").await?.backend());
    }
    assert_eq!(seen.into_iter().collect::<Vec<_>>(), ["shop-a", "shop-b"]);
    Ok(())
}

#[tokio::test]
async fn tls_comes_from_the_secret_over_both_protocols() -> Result<()> {
    let Quickstart { ingress, trust, .. } = &start().await?;
    let mut one = Client::https1(ingress.https, "shop.localhost", trust).await?;
    let mut two = Client::https2(ingress.https, "shop.localhost", trust).await?;
    for client in [&mut one, &mut two] {
        let answer = client.get("shop.localhost", "/cart").await?;
        assert_eq!((answer.status, answer.backend().as_str()), (200, "cart"), "{answer}");
        assert!(answer.text().contains("x-forwarded-proto: https"), "{}", answer.text());
    }
    // Another name has no certificate of ours, and the default one is signed by nobody.
    assert!(Client::https1(ingress.https, "api.localhost", trust).await.is_err());
    Ok(())
}

#[tokio::test]
async fn a_websocket_echoes_in_the_clear_and_over_tls() -> Result<()> {
    let Quickstart { ingress, trust, .. } = &start().await?;
    let mut plain = Socket::open("ws://shop.localhost/ws", ingress.http, None).await?;
    let mut secure = Socket::open("wss://shop.localhost/ws", ingress.https, Some(trust)).await?;
    for socket in [&mut plain, &mut secure] {
        assert_eq!(socket.echo_text("ahoy").await?, "ahoy");
    }
    Ok(())
}

#[tokio::test]
async fn an_edit_is_live_at_once_and_closes_nothing() -> Result<()> {
    let Quickstart { ingress, folder, .. } = &start().await?;
    let mut client = Client::http1(ingress.http).await?;
    assert_eq!(client.get("shop.localhost", "/cart").await?.backend(), "cart");

    let mut took = figures::Durations::default();
    for round in 0..20 {
        let (from, to) = if round % 2 == 0 { ("/cart", "/basket") } else { ("/basket", "/cart") };
        folder.edit("shop.yaml", &format!("path: {from}"), &format!("path: {to}"))?;
        let begun = std::time::Instant::now();
        // The very connection that was open before the edit sees it.
        while client.get("shop.localhost", to).await?.backend() != "cart" {
            assert!(begun.elapsed() < Duration::from_secs(5), "{to} never answered");
        }
        took.push(begun.elapsed());
    }
    figures::print(&format!("edit of a file to the new answer: {took}"));
    assert!(took.percentile(50) < EDIT, "{took}");
    Ok(())
}

#[tokio::test]
async fn a_broken_file_keeps_what_it_said_and_is_reported() -> Result<()> {
    let Quickstart { ingress, folder, .. } = &start().await?;
    folder.edit("shop.yaml", "rules:", "rules: [")?;
    let (status, _) = wait::until(Duration::from_secs(5), "the problem", || async {
        let status = ingress.status().await?;
        let problems = status["problems"].to_string();
        anyhow::ensure!(problems.contains("InvalidManifest") && problems.contains("shop.yaml"), "{problems}");
        Ok(status)
    })
    .await?;
    assert_eq!(status["ready"], true);
    assert_eq!(ingress.get("shop.localhost", "/cart").await?.backend(), "cart");
    assert_eq!(ingress.get("api.localhost", "/v1").await?.backend(), "api");

    folder.edit("shop.yaml", "rules: [", "rules:")?;
    wait::until(Duration::from_secs(5), "the problem to go", || async {
        let problems = ingress.status().await?["problems"].to_string();
        anyhow::ensure!(!problems.contains("InvalidManifest"), "{problems}");
        Ok(())
    })
    .await?;
    Ok(())
}

#[tokio::test]
async fn a_removed_file_takes_its_routes_away_and_a_new_one_brings_some() -> Result<()> {
    let Quickstart { ingress, folder, .. } = &start().await?;
    folder.remove("api.yaml")?;
    ingress.answers("api.localhost", "/v1", 404, "").await?;
    folder.write("new.yaml", &landfall_e2e::manifests::ingress("new", "new.localhost", &[("/", "shop")]))?;
    ingress.answers("new.localhost", "/", 200, "").await?;
    Ok(())
}
