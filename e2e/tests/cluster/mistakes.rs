//! What `kubectl describe` says of an object with a mistake: an Event that tells what to do.

use std::time::Duration;

use anyhow::{Context, Result, ensure};
use landfall_e2e::testbed::Namespace;
use landfall_e2e::wait;
use serde_json::Value;

use crate::stage::{Stage, play};

const NAMESPACE: &str = "mistakes";
/// What the mistakes are made beside.
const NEIGHBOURS: &str = "apiVersion: v1\nkind: Service\nmetadata: {name: idle}\n\
    spec: {selector: {app: nobody}, ports: [{name: https, port: 443}]}\n---\n\
    apiVersion: v1\nkind: Service\n\
    metadata: {name: holder, annotations: {metallb.io/loadBalancerIPs: 192.168.77.239}}\n\
    spec: {type: LoadBalancer, ports: [{port: 80}]}\n";
/// How soon after `kubectl apply` the Event has to be there.
const SOON: Duration = Duration::from_secs(20);

#[tokio::test(flavor = "multi_thread")]
async fn describe_says_what_to_do() -> Result<()> {
    play(NAMESPACE, scenario).await
}

async fn scenario(stage: &Stage, namespace: &Namespace<'_>) -> Result<()> {
    namespace.apply(NEIGHBOURS)?;
    let (mut checked, mut missing) = (0, Vec::new());
    for document in include_str!("mistakes.yaml").split("\n---\n") {
        // The first line of each says what the Event has to hold.
        let expected: Vec<_> = document
            .lines()
            .find_map(|line| line.strip_prefix("# expect: "))
            .context("a document does not say what to expect")?
            .split(" | ")
            .collect();
        namespace.apply(document)?;
        let object = stage.testbed.get(&["--namespace", NAMESPACE, "-f", &written(document)?])?;
        let (kind, name) = (text(&object["kind"]), text(&object["metadata"]["name"]));
        let said = wait::until(SOON, &format!("an Event of {kind} {name} that says {expected:?}"), || async {
            let said = stage.testbed.kubectl(&["describe", &kind, &name, "--namespace", NAMESPACE])?;
            let events = said.split_once("Events:").map(|(_, events)| events.to_owned()).unwrap_or_default();
            ensure!(expected.iter().all(|part| events.contains(part)), "{events}");
            Ok(())
        })
        .await;
        missing.extend(said.err().map(|error| format!("{error:#}")));
        checked += 1;
    }
    ensure!(missing.is_empty(), "{}", missing.join("\n"));
    ensure!(checked >= 20, "only {checked} mistakes were looked at");
    Ok(())
}

/// A file with `document` in it, for `kubectl get -f`.
fn written(document: &str) -> Result<String> {
    let path = std::env::temp_dir().join(format!("landfall-mistake-{}.yaml", std::process::id()));
    std::fs::write(&path, document)?;
    Ok(path.to_string_lossy().into_owned())
}

fn text(value: &Value) -> String {
    value.as_str().unwrap_or_default().to_owned()
}
