//! The command line on a real cluster: what it says of one that is well, from a machine on its LAN.

use std::process::Command;

use anyhow::{Context, Result, ensure};
use landfall_e2e::testbed::{Host, LANDFALL, Namespace};
use landfall_e2e::{figures, tools};
use serde_json::Value;

use crate::stage::{Stage, play};

#[tokio::test(flavor = "multi_thread")]
async fn the_command_line_looks_at_the_cluster() -> Result<()> {
    play("commands", scenario).await
}

/// Runs a program on a host; exit status and standard output.
fn run(stage: &Stage, host: Host, program: &str, arguments: &[&str]) -> Result<(Option<i32>, String)> {
    let path = tools::program(program)?;
    let mut command: Command = stage.testbed.on(host, &path.to_string_lossy());
    let (output, said) = tools::run_any(command.args(arguments).env("KUBECONFIG", stage.testbed.kubeconfig()))?;
    ensure!(output.status.code().is_some_and(|code| code < 2), "{program} {arguments:?}: {said}");
    Ok((output.status.code(), String::from_utf8_lossy(&output.stdout).into_owned()))
}

async fn scenario(stage: &Stage, _namespace: &Namespace<'_>) -> Result<()> {
    for program in ["landfall-ingress", "landfall-lb-announcer"] {
        let (code, said) = run(stage, Host::Client, program, &["check", "--wait", "60"])?;
        ensure!(code == Some(0), "{program} check: {said}");
    }
    let owner = stage.announcer(LANDFALL, "landfall-ingress").await?;
    let address = stage.ingress.to_string();
    let (code, said) = run(stage, Host::Client, "landfall-lb-announcer", &["who-has", &address, "-o", "json"])?;
    let found: Value = serde_json::from_str(&said)?;
    ensure!(found["node"] == owner.to_string(), "{owner} announces it: {found}");
    if stage.ingress.is_ipv4() {
        let answers = found["arp"]["answers"].as_array().context("ARP was not asked")?;
        ensure!(
            answers.len() == 1 && found["macs"].as_array().is_some_and(|macs| macs.contains(&answers[0])),
            "{found}"
        );
    }
    ensure!(code == Some(0), "{found}");
    let (code, said) = run(stage, Host::Client, "landfall-ingress", &["status"])?;
    ensure!(code == Some(0) && said.contains("yes"), "{said}");
    let arguments = ["test", "--drain", "--fail-over", "--big-body", "8388608", "-o", "json"];
    let (code, said) = run(stage, Host::Client, "landfall-ingress", &arguments)?;
    let report: Value = serde_json::from_str(&said)?;
    ensure!(code == Some(0), "{report:#}");
    for what in report["disturbed"].as_array().into_iter().flatten() {
        figures::print(&format!("test: {what}"));
    }
    let gone = stage.testbed.kubectl(&["wait", "--for=delete", "namespace/landfall-test", "--timeout=60s"]);
    gone.map(drop).context("the test leaves nothing behind")
}
