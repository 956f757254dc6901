//! Speakers that do not hear each other: a firewall drops their heartbeats, or one of them has another key.
//!
//! That is what ufw and firewalld do by default. Nothing that works may be taken away by it, and it has to be named.

use std::process::Command;
use std::time::Duration;

use anyhow::{Result, ensure};
use landfall_e2e::testbed::{Host, LANDFALL, Namespace, Testbed};
use landfall_e2e::{figures, tools, wait};

use crate::crowd::Crowd;
use crate::stage::{Stage, play};

/// What a firewall of every node does, done by the switch between them.
const FIREWALL: &str = "add table bridge landfall\n\
    add chain bridge landfall forward { type filter hook forward priority 0; }\n\
    add rule bridge landfall forward udp dport 7946 drop\n";
/// How long it may take until the blocked port is named.
const NAMED_WITHIN: Duration = Duration::from_secs(30);
/// How long addresses are watched while nothing else happens.
const WATCHED: Duration = Duration::from_secs(15);
/// A planned change of the owner without heartbeats: nobody can lead the other, who sees that nobody answers.
const PLANNED: Duration = Duration::from_secs(2);
/// A node's death without heartbeats: 400 ms with them, and at most 2 s more.
const POWER_CUT: Duration = Duration::from_millis(2_400);
/// How long it is watched after the power is cut.
const AFTER_THE_CUT: Duration = Duration::from_secs(8);
const SPEAKERS: &str = "daemonset/landfall-lb-speaker";
const SPEAKER: &str = "app.kubernetes.io/component=speaker";

/// The switch drops heartbeats while this lives.
struct Blocked<'a>(&'a Testbed);

impl<'a> Blocked<'a> {
    fn begin(testbed: &'a Testbed) -> Result<Self> {
        nft(testbed, FIREWALL)?;
        Ok(Self(testbed))
    }
}

impl Drop for Blocked<'_> {
    fn drop(&mut self) {
        // The scenarios that follow would fail, and say so.
        if let Err(error) = nft(self.0, "delete table bridge landfall\n") {
            eprintln!("heartbeats stay blocked: {error:#}");
        }
    }
}

fn nft(testbed: &Testbed, rules: &str) -> Result<()> {
    let file = tempfile::NamedTempFile::new()?;
    std::fs::write(file.path(), rules)?;
    let mut command: Command = testbed.on(Host::Switch, "nft");
    tools::run(command.arg("-f").arg(file.path())).map(drop)
}

#[tokio::test(flavor = "multi_thread")]
async fn heartbeats_blocked_while_it_runs() -> Result<()> {
    play("blocked", while_it_runs).await
}

async fn while_it_runs(stage: &Stage, namespace: &Namespace<'_>) -> Result<()> {
    let testbed = &stage.testbed;
    let crowd = Crowd::gather(stage, namespace, "192.168.77.226").await?;
    {
        let _blocked = Blocked::begin(testbed)?;
        let seen = crowd.watch("heartbeats blocked", idle()).await?;
        crowd.unchanged("with heartbeats blocked")?;
        seen.none_failed()?;
        named(testbed, namespace.name(), "7946").await?;

        let owner = crowd.owner("anywhere-0")?;
        let seen = crowd.watch("heartbeats blocked, one speaker restarted", restart_one(testbed, owner)).await?;
        crowd.answered_by_one("after one speaker was restarted").await?;
        crowd.unchanged("after one speaker was restarted")?;
        seen.no_longer_than(PLANNED)?;

        let seen = crowd.watch("heartbeats blocked, rolling restart of all speakers", restart_all(testbed)).await?;
        crowd.answered_by_one("after all speakers were restarted").await?;
        crowd.unchanged("after all speakers were restarted")?;
        seen.no_longer_than(PLANNED)?;

        // Kube-proxy sends requests to pods of the dead node till the API server says so; policy Local does not.
        let owner = crowd.owner("local-0")?;
        let gap = power_cut(testbed, &crowd, owner).await;
        testbed.power_on(owner).await?;
        testbed.rolled_out(LANDFALL, SPEAKERS)?;
        testbed.rolled_out(namespace.name(), "daemonset/echo")?;
        crowd.answered_by_one("after a power cut").await?;
        crowd.unchanged("after a power cut")?;
        gap?;
    }
    crowd.watch("heartbeats let through again", idle()).await?.none_failed()?;
    crowd.answered_by_one("at the end").await?;
    crowd.unchanged("at the end")?;
    crowd.print("at the end").await?;
    Ok(())
}

/// Cuts the power of the owner of `local-0` and judges how long its address had no answer.
async fn power_cut(testbed: &Testbed, crowd: &Crowd, owner: Host) -> Result<()> {
    let address = crowd.addresses["local-0"];
    let cut = async {
        tokio::time::sleep(Duration::from_secs(1)).await;
        testbed.power_off(owner)?;
        tokio::time::sleep(AFTER_THE_CUT).await;
        Ok(())
    };
    let seen = crowd.only(address).watch("heartbeats blocked, a node's power cut", cut).await?;
    seen.no_longer_than(POWER_CUT)
}

async fn idle() -> Result<()> {
    tokio::time::sleep(WATCHED).await;
    Ok(())
}

/// Deletes the speaker of one node and waits for the next one.
async fn restart_one(testbed: &Testbed, node: Host) -> Result<()> {
    let field = format!("spec.nodeName={node}");
    testbed.kubectl(&["delete", "pod", "--namespace", LANDFALL, "--selector", SPEAKER, "--field-selector", &field])?;
    testbed.rolled_out(LANDFALL, SPEAKERS)?;
    idle().await
}

async fn restart_all(testbed: &Testbed) -> Result<()> {
    testbed.kubectl(&["rollout", "restart", "--namespace", LANDFALL, SPEAKERS])?;
    testbed.rolled_out(LANDFALL, SPEAKERS)?;
    idle().await
}

/// Waits until an Event and a condition of a Service of `namespace` say `text`.
async fn named(testbed: &Testbed, namespace: &str, text: &str) -> Result<()> {
    let what = format!("an Event and a condition that say \"{text}\"");
    let (said, after) = wait::until(NAMED_WITHIN, &what, || async {
        let events = testbed.get(&["events", "--all-namespaces"])?;
        let services = testbed.get(&["services", "--namespace", namespace])?;
        let event = messages(&events["items"], "/message").find(|said| said.contains(text));
        let of_services = services["items"].as_array().into_iter().flatten();
        let mut conditions = of_services.flat_map(|service| messages(&service["status"]["conditions"], "/message"));
        let condition = conditions.find(|said| said.contains(text));
        ensure!(event.is_some() && condition.is_some(), "event: {event:?}, condition: {condition:?}");
        Ok((event.unwrap_or_default(), condition.unwrap_or_default()))
    })
    .await?;
    figures::print(&format!("that heartbeats do not arrive is named after {:.1} s", after.as_secs_f64()));
    println!("Event: {}\ncondition: {}", said.0, said.1);
    Ok(())
}

/// The texts at `pointer` in each entry of `list`.
fn messages<'a>(list: &'a serde_json::Value, pointer: &'a str) -> impl Iterator<Item = String> + use<'a> {
    let texts = list.as_array().into_iter().flatten().filter_map(move |entry| entry.pointer(pointer)?.as_str());
    texts.map(str::to_owned)
}

#[tokio::test(flavor = "multi_thread")]
async fn heartbeats_blocked_before_the_installation() -> Result<()> {
    let testbed = Testbed::running()?;
    testbed.helm(&["uninstall", "landfall", "--namespace", LANDFALL, "--ignore-not-found", "--wait"])?;
    let _blocked = Blocked::begin(&testbed)?;
    play("blocked-first", before_the_installation).await
}

async fn before_the_installation(stage: &Stage, namespace: &Namespace<'_>) -> Result<()> {
    let crowd = Crowd::gather(stage, namespace, "192.168.77.227").await?;
    named(&stage.testbed, namespace.name(), "7946").await?;
    let seen = crowd.watch("heartbeats blocked since before the installation", idle()).await?;
    crowd.unchanged("with heartbeats blocked since before the installation")?;
    crowd.answered_by_one("with heartbeats blocked since before the installation").await?;
    seen.none_failed()
}

#[tokio::test(flavor = "multi_thread")]
async fn heartbeats_under_another_key() -> Result<()> {
    play("other-key", under_another_key).await
}

/// The Secret is changed for as long as one speaker starts.
async fn under_another_key(stage: &Stage, namespace: &Namespace<'_>) -> Result<()> {
    let testbed = &stage.testbed;
    let crowd = Crowd::gather(stage, namespace, "192.168.77.228").await?;
    let secret = testbed.get(&["secret", "landfall-heartbeat", "--namespace", LANDFALL])?;
    let right = secret["data"]["key"].as_str().unwrap_or_default().to_owned();
    let wrong = "MmFhNTBiNDdjOTIzNDJkZGRhMWRjY2I3NzRlNTBlNDk3ZDc1OTYzMmRiMmMzYThiODZiMzFhOWQ3MzdmODE1MQ==";
    let node = crowd.owner("anywhere-0")?;
    let event = async {
        set_key(testbed, wrong)?;
        let restarted = restart_one(testbed, node).await;
        set_key(testbed, &right)?;
        restarted
    };
    let seen = crowd.watch(&format!("the speaker of {node} gets another key"), event).await?;
    crowd.unchanged("with another key on one node")?;
    crowd.answered_by_one("with another key on one node").await?;
    let named = named(testbed, namespace.name(), "key").await;
    crowd.watch("it gets the right key again", restart_one(testbed, node)).await?.no_longer_than(PLANNED)?;
    crowd.unchanged("with the right key again")?;
    crowd.answered_by_one("with the right key again").await?;
    seen.no_longer_than(PLANNED)?;
    named
}

fn set_key(testbed: &Testbed, key: &str) -> Result<()> {
    let patch = format!(r#"{{"data":{{"key":"{key}"}}}}"#);
    testbed.kubectl(&["patch", "secret", "landfall-heartbeat", "--namespace", LANDFALL, "--patch", &patch]).map(drop)
}
