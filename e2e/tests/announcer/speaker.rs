//! What a speaker tells the API server.

use std::collections::BTreeSet;
use std::process::Command;

use anyhow::{Context, Result, ensure};
use landfall_e2e::{tools, wait};
use nix::sys::signal::Signal;
use serde_json::{Value, json};

use crate::program::{Program, controller};
use crate::scene::{NAMESPACE, ONE_AT_A_TIME, PATIENCE, addresses, condition, event, has, pool, service, setup};

/// A ready endpoint of the documentation's Service, on node n2.
const SLICE: &str = "apiVersion: discovery.k8s.io/v1\nkind: EndpointSlice\n\
    metadata: {name: nginx-1, labels: {kubernetes.io/service-name: nginx}}\naddressType: IPv4\n\
    ports: [{port: 80}]\nendpoints: [{addresses: [198.51.100.7], nodeName: n2, conditions: {ready: true}}]\n";

#[tokio::test]
async fn a_speaker_says_what_it_is_and_its_node_can_announce() -> Result<()> {
    let _alone = ONE_AT_A_TIME.lock().await;
    let cluster = &setup().await?;
    let _controller = controller(cluster, "a", &[]).await?;
    has(cluster, "nginx", Some("192.168.10.1")).await?;
    cluster.apply(SLICE)?;
    let (reason, message) = condition(cluster, "nginx", "Announceable", "False").await?;
    assert!(reason == "NoEndpoints" || message.contains("no speaker runs"), "{reason}: {message}");

    let uid = cluster.get(&["namespace", NAMESPACE])?["metadata"]["uid"].as_str().unwrap_or_default().to_owned();
    let heartbeat = format!("127.0.0.1:{}", tools::free_port()?);
    // On no interface at all, so that nothing leaves this machine.
    let arguments = ["--node-name", "n2", "--heartbeat", &heartbeat, "--interface", "none", "--pod-uid", &uid];
    let speaker = Program::start(cluster, "speaker", "speaker-x", &arguments)?;
    // Without an interface it isn't Ready, and the Service says why nobody announces it.
    let note = event(cluster, "nginx", "NoInterface").await?;
    assert!(note.contains("no node announces 192.168.10.1: node n2 has no interface that can be used"), "{note}");
    let (reason, message) = condition(cluster, "nginx", "Announceable", "False").await?;
    assert_eq!(reason, "NoInterface", "{message}");
    wait::until(PATIENCE, "the metrics' port", || async { speaker.metrics().await }).await?;
    let state = cluster.get(&["configurationstate", "-n", NAMESPACE, "speaker-n2"])?;
    assert_eq!(state["status"]["result"], "Valid", "{state}");
    assert_eq!(state["status"]["conditions"][0]["type"], "configReconcilerValid", "{state}");
    assert_eq!(state["metadata"]["ownerReferences"][0]["uid"], uid.as_str(), "{state}");
    let subnets = &state["metadata"]["annotations"]["landfall.dev/subnets"];
    assert!(subnets.as_str().is_some_and(|s| s.is_empty() || s.contains('/')), "{state}");

    // Removed by mistake, it is made again.
    cluster.kubectl(&["delete", "configurationstate", "-n", NAMESPACE, "speaker-n2"])?;
    wait::until(PATIENCE, "the state to be made again", || async {
        cluster.get(&["configurationstate", "-n", NAMESPACE, "speaker-n2"]).map(drop)
    })
    .await?;

    let metrics = speaker.metrics().await?;
    for name in
        ["metallb_k8s_client_config_loaded_bool 1", "metallb_k8s_client_config_stale_bool 0", "landfall_lb_peers 0"]
    {
        assert!(metrics.contains(name), "{name} is not in\n{metrics}");
    }
    assert!(!metrics.contains("metallb_allocator"), "a speaker allocates nothing");

    // Pods of speakers count as well; one that isn't ours to see doesn't.
    let pod = |name: &str, node: &str, component: &str| {
        format!(
            "---\napiVersion: v1\nkind: Pod\nmetadata: {{name: {name}, namespace: {NAMESPACE}, \
             labels: {{app.kubernetes.io/component: {component}}}}}\n\
             spec: {{nodeName: {node}, containers: [{{name: x, image: x}}]}}\n"
        )
    };
    cluster.apply(&(pod("one", "n1", "speaker") + &pod("three", "n3", "controller")))?;
    cluster.kubectl(&["label", "node", "n2", "node.kubernetes.io/exclude-from-external-load-balancers="])?;
    cluster.kubectl(&["label", "node", "n1", "node.kubernetes.io/exclude-from-external-load-balancers="])?;
    event(cluster, "nginx", "NoFitNode").await.context("excluded nodes are candidates where there is no other")?;
    let nobody = r#"{"spec": {"nodeSelectors": [{"matchLabels": {"kubernetes.io/hostname": "nobody"}}]}}"#;
    let of_metallb = ["patch", "l2advertisement", "example", "--namespace", "metallb-system"];
    cluster.kubectl(&[&of_metallb[..], &["--type", "merge", "--patch", nobody]].concat())?;
    let (_, message) = condition(cluster, "nginx", "Announceable", "False").await?;
    wait::until(PATIENCE, "each node's reason", || async {
        let object = cluster.get(&["service", "nginx"])?.to_string();
        ensure!(object.contains("node n3: no speaker runs on it"), "{message} {object}");
        Ok(())
    })
    .await?;
    Ok(())
}

/// The interface that is announced on in a network of the test's own, and what it is connected with.
const LINKS: &str = "ip link set lo up && ip link add lan0 type veth peer name lan1 && ip link set lan0 up && \
    ip link set lan1 up && ip addr add 192.168.10.12/24 dev lan0 && ip route add default via 192.168.10.1";

/// Runs this test again in a network namespace of its own, where frames reach nobody. Says whether this is that run.
fn alone_in_a_network(test: &str) -> Result<bool> {
    const MARK: &str = "E2E_NETWORK_OF_ITS_OWN";
    if std::env::var_os(MARK).is_some() {
        return Ok(true);
    }
    let script = format!("{LINKS} && exec \"$0\" --exact --nocapture {test}");
    let mut again = Command::new("unshare");
    again.args(["--user", "--map-root-user", "--net", "sh", "-c", &script]).arg(std::env::current_exe()?);
    print!("{}", tools::run(again.env(MARK, "1"))?);
    Ok(false)
}

#[tokio::test]
async fn a_speaker_tells_what_it_announces() -> Result<()> {
    let _alone = ONE_AT_A_TIME.lock().await;
    if !alone_in_a_network("speaker::a_speaker_tells_what_it_announces")? {
        return Ok(());
    }
    let cluster = &setup().await?;
    let _controller = controller(cluster, "a", &[]).await?;
    cluster.apply(SLICE)?;
    let uid = cluster.get(&["namespace", NAMESPACE])?["metadata"]["uid"].as_str().unwrap_or_default().to_owned();
    let arguments = ["--node-name", "n2", "--interface", "lan0", "--pod-uid", &uid];
    let mut speaker = Program::start(cluster, "speaker", "speaker-x", &arguments)?.ready().await?;

    let statuses = || -> Result<Vec<Value>> {
        let list = cluster.get(&["servicel2statuses", "-n", NAMESPACE])?;
        Ok(list["items"].as_array().cloned().unwrap_or_default())
    };
    let (status, _) = wait::until(PATIENCE, "what is announced", || async {
        let status = statuses()?.pop().context("nothing")?;
        ensure!(status["status"]["node"] == "n2", "{status}");
        Ok(status)
    })
    .await?;
    assert_eq!(status["status"]["serviceName"], "nginx", "{status}");
    assert_eq!(status["status"]["serviceNamespace"], "default", "{status}");
    assert_eq!(status["status"]["interfaces"], json!([{"name": "lan0"}]), "{status}");
    assert_eq!(status["metadata"]["labels"]["metallb.io/service-name"], "nginx", "{status}");
    assert_eq!(status["metadata"]["ownerReferences"][0]["uid"], uid.as_str(), "{status}");
    let note = event(cluster, "nginx", "nodeAssigned").await?;
    assert_eq!(note, "announcing from node \"n2\" with protocol \"layer2\"");
    let state = cluster.get(&["configurationstate", "-n", NAMESPACE, "speaker-n2"])?;
    assert_eq!(state["metadata"]["annotations"]["landfall.dev/subnets"], "192.168.10.12/24", "{state}");

    // The network's own address isn't given to a Service that comes now; the node's isn't either.
    cluster.apply(&pool("192.168.10.0/30, 192.168.10.12-192.168.10.13"))?;
    cluster.apply(&(0..4).map(|n| service(&format!("s-{n}"), "")).collect::<String>())?;
    for name in ["s-0", "s-1"] {
        wait::until(PATIENCE, &format!("an address of {name}"), || async {
            addresses(cluster)?.get(name).map(drop).context("none")
        })
        .await?;
    }
    let (reason, message) = condition(cluster, "s-3", "AddressAllocated", "False").await?;
    assert!(reason == "AllocationFailed" && message.contains("pool first-pool"), "{reason}: {message}");
    let given: BTreeSet<String> = addresses(cluster)?.into_values().collect();
    let expected = ["192.168.10.1", "192.168.10.2", "192.168.10.3"].map(str::to_owned);
    assert_eq!(given, BTreeSet::from(expected), "192.168.10.12 and .13 are nodes, and .0 is the network's");

    let metrics = speaker.metrics().await?;
    let announced =
        "metallb_speaker_announced{service=\"default/nginx\",protocol=\"layer2\",node=\"n2\",ip=\"192.168.10.1\"} 1";
    assert!(metrics.lines().any(|line| line == announced), "{metrics}");
    assert!(metrics.contains("metallb_layer2_gratuitous_sent{ip=\"192.168.10.1\"}"), "{metrics}");

    // Asked to end, it takes back what it told.
    speaker.signal(Signal::SIGTERM)?;
    speaker.ended().await?;
    assert_eq!(statuses()?.len(), 0);
    Ok(())
}
