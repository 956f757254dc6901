//! What people and controllers do by mistake: a Node object deleted, a pool mistyped, every speaker restarted at once.
//!
//! No Service loses or changes its address by any of it.

use std::time::Duration;

use anyhow::{Context, Result, ensure};
use landfall_e2e::testbed::{LANDFALL, Namespace, PATIENCE, Testbed};
use landfall_e2e::wait;
use serde_json::Value;

use crate::crowd::Crowd;
use crate::stage::{Stage, play};

/// How long addresses are watched after each step.
const WATCHED: Duration = Duration::from_secs(12);
/// What a take-over that nobody planned may cost.
const TAKE_OVER: Duration = Duration::from_secs(2);
/// How soon owners are spread over the nodes again.
const SPREAD_WITHIN: Duration = Duration::from_secs(90);
const SPEAKERS: &str = "daemonset/landfall-lb-speaker";
const SPEAKER: &str = "app.kubernetes.io/component=speaker";
const POOLS: &str = "ipaddresspools.metallb.io";
const RIGHT: &str = r#"{"spec":{"addresses":["192.168.77.200-192.168.77.239","fd77::200-fd77::23f"]}}"#;
const TYPO: &str = r#"{"spec":{"addresses":["192.168.77.200-192.168.77.23","fd77::200-fd77::23f"]}}"#;

#[tokio::test(flavor = "multi_thread")]
async fn a_node_object_is_deleted() -> Result<()> {
    play("node-deleted", node_deleted).await
}

async fn node_deleted(stage: &Stage, namespace: &Namespace<'_>) -> Result<()> {
    let testbed = &stage.testbed;
    let crowd = Crowd::gather(stage, namespace, "192.168.77.229").await?;
    let node = crowd.owner("anywhere-0")?;
    let event = async {
        testbed.kubectl(&["delete", "node", &node.to_string()])?;
        tokio::time::sleep(WATCHED).await;
        Ok(())
    };
    let seen = crowd.watch(&format!("Node {node} is deleted, which announces"), event).await;
    let kept = crowd.unchanged("after the Node was deleted");
    let one = crowd.answered_by_one("after the Node was deleted").await;
    // Its kubelet does not register a second time.
    testbed.power_off(node)?;
    testbed.power_on(node).await?;
    testbed.rolled_out(LANDFALL, SPEAKERS)?;
    testbed.rolled_out(namespace.name(), "daemonset/echo")?;
    kept?;
    one?;
    seen?.no_longer_than(TAKE_OVER)?;
    crowd.unchanged("when the Node is back")?;
    crowd.answered_by_one("when the Node is back").await
}

#[tokio::test(flavor = "multi_thread")]
async fn a_pool_is_mistyped_and_mended() -> Result<()> {
    play("pool-typo", pool_mistyped).await
}

async fn pool_mistyped(stage: &Stage, namespace: &Namespace<'_>) -> Result<()> {
    let testbed = &stage.testbed;
    let crowd = Crowd::gather(stage, namespace, "192.168.77.230").await?;
    let refused = patch(testbed, TYPO).err().map(|error| format!("{error:#}"));
    println!("the API server says: {}", refused.as_deref().unwrap_or("nothing, it took the mistyped range"));
    // The definitions of MetalLB, which its users keep, have no such rules.
    let definition = testbed.get(&["crd", POOLS])?;
    replace(testbed, definition.clone(), true)?;
    let outcome = unreadable(testbed, &crowd).await;
    patch(testbed, RIGHT)?;
    replace(testbed, definition, false)?;
    outcome?;
    namespace.apply(
        "apiVersion: v1\nkind: Service\nmetadata: {name: newcomer}\n\
         spec: {type: LoadBalancer, selector: {app: echo}, ports: [{port: 80, targetPort: http}]}\n",
    )?;
    let address = stage.address(namespace.name(), "newcomer").await?;
    stage.get_until(address, 80, ("newcomer.test", "/"), |answer| answer.status == 200).await?;
    let refused = refused.context("a range that ends before it begins was not refused by the API server")?;
    ensure!(refused.contains("192.168.77.23") || refused.contains("range"), "the refusal does not help: {refused}");
    Ok(())
}

/// The mistyped range is in the pool, and the controller is restarted with it there.
async fn unreadable(testbed: &Testbed, crowd: &Crowd) -> Result<()> {
    // The rules of a definition are in force a moment after it.
    wait::until(PATIENCE, "the mistyped range to be taken", || async { patch(testbed, TYPO) }).await?;
    let seen = crowd.watch("a pool is mistyped", watched()).await?;
    crowd.unchanged("with a mistyped pool")?;
    seen.none_failed()?;
    wait::until(PATIENCE, "an Event of the pool", || async {
        let said = testbed.kubectl(&["describe", POOLS, "lan", "--namespace", LANDFALL])?;
        let events = said.split_once("Events:").map(|(_, events)| events.to_owned()).unwrap_or_default();
        ensure!(events.contains("192.168.77.200-192.168.77.23"), "{events}");
        println!("{}", events.trim());
        Ok(())
    })
    .await?;
    let restart = async {
        let controller = "deployment/landfall-lb-controller";
        testbed.kubectl(&["rollout", "restart", "--namespace", LANDFALL, controller])?;
        testbed.rolled_out(LANDFALL, controller)?;
        watched().await
    };
    let seen = crowd.watch("the controller restarts with a mistyped pool", restart).await?;
    crowd.unchanged("after the controller restarted with a mistyped pool")?;
    seen.none_failed()
}

async fn watched() -> Result<()> {
    tokio::time::sleep(WATCHED).await;
    Ok(())
}

fn patch(testbed: &Testbed, patch: &str) -> Result<()> {
    testbed.kubectl(&["patch", POOLS, "lan", "--namespace", LANDFALL, "--type", "merge", "--patch", patch]).map(drop)
}

/// Puts a definition in the place of the one that is there, without its rules if they are not wanted.
fn replace(testbed: &Testbed, mut definition: Value, without_rules: bool) -> Result<()> {
    if without_rules {
        forget_rules(&mut definition);
    }
    // Without its version it replaces whatever is there.
    if let Some(metadata) = definition["metadata"].as_object_mut() {
        metadata.remove("resourceVersion");
    }
    let file = tempfile::NamedTempFile::with_suffix(".json")?;
    std::fs::write(file.path(), definition.to_string())?;
    testbed.kubectl(&["replace", "-f", &file.path().to_string_lossy()]).map(drop)
}

fn forget_rules(value: &mut Value) {
    match value {
        Value::Object(fields) => {
            fields.remove("x-kubernetes-validations");
            fields.values_mut().for_each(forget_rules);
        }
        Value::Array(entries) => entries.iter_mut().for_each(forget_rules),
        _ => {}
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn all_speakers_restart_at_once() -> Result<()> {
    play("all-at-once", all_at_once).await
}

async fn all_at_once(stage: &Stage, namespace: &Namespace<'_>) -> Result<()> {
    let testbed = &stage.testbed;
    let crowd = Crowd::gather(stage, namespace, "192.168.77.231").await?;
    crowd.print("before all speakers are restarted at once").await?;
    let event = async {
        testbed.kubectl(&["delete", "pods", "--namespace", LANDFALL, "--selector", SPEAKER, "--now"])?;
        testbed.rolled_out(LANDFALL, SPEAKERS)?;
        watched().await
    };
    crowd.watch("all speakers are restarted at once", event).await?;
    crowd.unchanged("after all speakers were restarted at once")?;
    crowd.answered_by_one("after all speakers were restarted at once").await?;
    crowd.print("right after all speakers were restarted at once").await?;
    wait::until(SPREAD_WITHIN, "owners of policy Local on more than one node", || async {
        let by_node = crowd.print("some time after").await?;
        let local = |services: &&Vec<String>| services.iter().any(|service| service.starts_with("local-"));
        let nodes = by_node.values().filter(local).count();
        ensure!(nodes > 1, "one node has all of them: {by_node:?}");
        Ok(())
    })
    .await?;
    crowd.unchanged("at the end")
}
