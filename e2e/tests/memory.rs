//! `--memory-limit`, as its operator sees it.

use anyhow::{Result, ensure};
use landfall_e2e::client;
use landfall_e2e::echo::Echo;
use landfall_e2e::ingress::{Ingress, Launch};
use landfall_e2e::manifests::{self, Folder};

const HOST: &str = "shop.example";

async fn start(folder: &Folder, limit: &str) -> Result<Ingress> {
    Launch::manifests(folder.path()).args(&["--memory-limit", limit]).start().await
}

async fn metrics(ingress: &Ingress) -> Result<String> {
    Ok(client::get(ingress.admin, "admin", "/metrics").await?.text())
}

#[tokio::test(flavor = "multi_thread")]
async fn a_program_at_its_limit_says_so_everywhere() -> Result<()> {
    let (folder, web) = (Folder::new()?, Echo::local("web").await?);
    let rules = manifests::ingress("shop", HOST, &[("/", "web")]) + &manifests::service("web", &[web.addr]);
    folder.write("shop.yaml", &(manifests::class() + &rules))?;

    // Less than any program has.
    let ingress = start(&folder, "1Mi").await?;
    ingress.answers(HOST, "/", 503, "").await?;
    let page = ingress.get(HOST, "/").await?.text();
    ensure!(page.contains("short of memory"), "{page}");
    let memory = ingress.status().await?["memory"].clone();
    ensure!(memory["limit"] == 1 << 20 && memory["pressure"] == "full", "{memory}");
    ensure!(memory["used"].as_u64() > Some(1 << 20), "{memory}");
    let metrics_then = metrics(&ingress).await?;
    for line in ["landfall_ingress_memory_limit_bytes 1048576", "landfall_ingress_memory_pressure 2"] {
        ensure!(metrics_then.contains(line), "{metrics_then}");
    }
    let refused = metrics_then
        .lines()
        .find_map(|line| line.strip_prefix("landfall_ingress_memory_refused_total{what=\"connection\"} "));
    ensure!(refused.and_then(|count| count.parse::<u32>().ok()) >= Some(2), "{refused:?}");
    ensure!(metrics_then.contains("reason=\"memory\""), "{metrics_then}");
    ensure!(ingress.log().contains("memory is at its limit"), "{}", ingress.log());
    drop(ingress);

    let ingress = start(&folder, "4Gi").await?;
    ingress.answers(HOST, "/", 200, "web").await?;
    let memory = ingress.status().await?["memory"].clone();
    ensure!(memory["pressure"] == "none" && memory["limit"] == 4_u64 << 30, "{memory}");
    Ok(())
}
