//! From nothing to the first answer, an uninstall that leaves nothing, and an installation in place of MetalLB.
//!
//! This is the only scenario that begins and ends with a cluster without Landfall.

use std::collections::BTreeSet;
use std::net::IpAddr;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, ensure};
use landfall_e2e::testbed::{LANDFALL, PATIENCE, Testbed};
use landfall_e2e::{figures, tools, wait};

use crate::stage::Stage;

const APP: &str = include_str!("echo.yaml");
const FRONT_DOOR: &str = include_str!("front-door.yaml");
const METALLB_SYSTEM: &str = include_str!("metallb-system.yaml");
const METALLB: &str = include_str!("metallb.yaml");
/// From the first of two commands to the first answer.
const BUDGET: Duration = Duration::from_mins(1);
/// How long addresses are watched for not moving.
const WATCHED: Duration = Duration::from_secs(20);
/// Kinds whose objects come and go without anybody's doing.
const RESTLESS: [&str; 8] = [
    "events",
    "events.events.k8s.io",
    "pods",
    "leases.coordination.k8s.io",
    "componentstatuses",
    "endpoints",
    "endpointslices.discovery.k8s.io",
    "ipaddresses.networking.k8s.io",
];

#[tokio::test(flavor = "multi_thread")]
async fn from_nothing_and_back_and_in_place_of_metallb() -> Result<()> {
    let testbed = Testbed::running()?;
    uninstall(&testbed)?;
    let before = objects(&testbed)?;
    {
        let namespace = testbed.namespace("first")?;
        let outcome = from_nothing(&testbed).await;
        namespace.conclude(outcome)?;
    }
    uninstall(&testbed)?;
    wait::until(PATIENCE, "the uninstallation to be over", || async {
        let left: BTreeSet<_> = objects(&testbed)?.difference(&before).cloned().collect();
        // The definitions are kept, since removing them removes every pool of the user.
        let kept = |object: &String| object.contains(".metallb.io") || object.contains("namespace/first");
        let left: Vec<_> = left.into_iter().filter(|object| !kept(object)).collect();
        ensure!(left.is_empty(), "these are left: {left:?}");
        Ok(())
    })
    .await?;
    let namespace = testbed.namespace("metallb-user")?;
    let outcome = in_place_of_metallb(&testbed).await;
    uninstall(&testbed)?;
    namespace.conclude(outcome)
}

/// Two commands, as the README has them: install the chart with a pool, apply an app.
async fn from_nothing(testbed: &Testbed) -> Result<()> {
    let begun = Instant::now();
    Stage::install(testbed, &[])?;
    testbed.apply("first", &format!("{APP}---\n{FRONT_DOOR}"))?;
    let stage = Stage::of(testbed.clone()).await?;
    stage.get_until(stage.ingress, 80, ("first.test", "/"), |answer| answer.status == 200).await?;
    let took = begun.elapsed();
    figures::print(&format!("helm install and kubectl apply to the first 200 on the LAN: {:.1} s", took.as_secs_f64()));
    figures::within(took, BUDGET, 2 * PATIENCE)
}

/// What MetalLB left behind: its definitions, its objects in its namespace, and addresses in the Services' status.
async fn in_place_of_metallb(testbed: &Testbed) -> Result<()> {
    for definition in metallb_definitions()? {
        // Ours are there already from the installation before; a MetalLB user has these.
        testbed.kubectl(&["delete", "-f", &definition, "--ignore-not-found"])?;
        testbed.kubectl(&["create", "-f", &definition])?;
    }
    wait::until(PATIENCE, "the definitions to be served", || async {
        testbed.kubectl(&["get", "ipaddresspools", "--all-namespaces"])
    })
    .await?;
    testbed.apply("metallb-system", METALLB_SYSTEM)?;
    testbed.apply("metallb-user", &format!("{APP}---\n{METALLB}"))?;
    let mut held = Vec::new();
    for (name, address) in [("a", "192.168.77.233"), ("b", "192.168.77.207"), ("c", "192.168.77.239")] {
        let status = format!(r#"{{"status":{{"loadBalancer":{{"ingress":[{{"ip":"{address}"}}]}}}}}}"#);
        let patch =
            ["patch", "service", name, "--namespace", "metallb-user", "--subresource", "status", "--patch", &status];
        testbed.kubectl(&patch)?;
        held.push((name, address.parse::<IpAddr>()?));
    }
    // The user's pool is there, so the chart is asked for none.
    Stage::install(testbed, &["--set", "addressPools=null"])?;
    let stage = Stage::of(testbed.clone()).await?;
    for (name, address) in &held {
        stage.get_until(*address, 80, (name, "/"), |answer| answer.status == 200).await?;
    }
    let end = Instant::now() + WATCHED;
    while Instant::now() < end {
        for (name, address) in &held {
            let now = stage.address("metallb-user", name).await?;
            ensure!(now == *address, "service {name} had {address} and now has {now}");
        }
        tokio::time::sleep(Duration::from_millis(500)).await;
    }
    let waiting = stage.address("metallb-user", "waiting").await?;
    ensure!(held.iter().all(|(_, address)| *address != waiting), "{waiting} was given twice");
    Ok(())
}

/// `MetalLB`'s own definitions.
fn metallb_definitions() -> Result<Vec<String>> {
    let folder = tools::cache()?.join("tools/metallb-0.15.2");
    let entries =
        std::fs::read_dir(&folder).with_context(|| format!("{}: `make deps` fetches it", folder.display()))?;
    let mut files: Vec<_> =
        entries.filter_map(|entry| Some(entry.ok()?.path().to_string_lossy().into_owned())).collect();
    files.sort();
    ensure!(files.len() > 3, "{} has hardly any definitions", folder.display());
    Ok(files)
}

fn uninstall(testbed: &Testbed) -> Result<()> {
    testbed.helm(&["uninstall", "landfall", "--namespace", LANDFALL, "--ignore-not-found", "--wait"])?;
    testbed.kubectl(&["delete", "namespace", LANDFALL, "metallb-system", "--ignore-not-found"])?;
    Ok(())
}

/// Every object of the cluster but those of restless kinds, as `kind/namespace/name`.
fn objects(testbed: &Testbed) -> Result<BTreeSet<String>> {
    let kinds = testbed.kubectl(&["api-resources", "--verbs=list", "-o", "name"])?;
    let kinds: Vec<_> = kinds.lines().filter(|kind| !RESTLESS.contains(kind)).collect();
    let format = r#"{range .items[*]}{.kind}/{.metadata.namespace}/{.metadata.name}{"\n"}{end}"#;
    let list = testbed.kubectl(&[
        "get",
        &kinds.join(","),
        "--all-namespaces",
        "--ignore-not-found",
        "-o",
        &format!("jsonpath={format}"),
    ])?;
    Ok(list.lines().map(str::to_lowercase).collect())
}
