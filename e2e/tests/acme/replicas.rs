//! Several replicas, and a control plane.

use std::time::{Duration, Instant};

use anyhow::{Context, Result, ensure};
use landfall_e2e::echo::Echo;
use landfall_e2e::ingress::{Ingress, Launch};
use landfall_e2e::kube::{Cluster, own_address};
use landfall_e2e::{figures, manifests, tools, wait};
use nix::sys::signal::Signal;
use serde_json::{Value, json};

use crate::stage::{ALONE, PATIENCE, Stage, asked, becomes_secure, ingress, stands};

/// A Lease runs out before another replica takes over.
const TAKEN_OVER: Duration = Duration::from_mins(2);
const NAMESPACE: &str = "landfall-system";

/// A control plane, two replicas and the way to them.
struct Fleet {
    cluster: Cluster,
    stage: Stage,
    _echo: Echo,
}

impl Fleet {
    async fn new(stage: Stage) -> Result<Self> {
        let echo = Echo::start("web", (own_address()?, 0).into()).await?;
        let cluster = Cluster::start().await?;
        cluster.apply(&std::fs::read_to_string(tools::checkout().join("examples/cluster/rbac.yaml"))?)?;
        cluster.apply(&std::fs::read_to_string(tools::checkout().join("examples/cluster/rbac-acme.yaml"))?)?;
        cluster.apply(&(manifests::class() + &manifests::service("web", &[echo.addr])))?;
        Ok(Self { cluster, stage, _echo: echo })
    }

    async fn replica(&self, identity: &str) -> Result<Ingress> {
        let kubeconfig = self.cluster.kubeconfig_of(NAMESPACE, "landfall-ingress")?;
        let arguments = self.stage.pebble.arguments(self.stage.plain.port, self.stage.secure.port);
        let arguments: Vec<&str> = arguments.iter().map(String::as_str).collect();
        let own = ["--publish-status-address", "192.0.2.1", "--namespace", NAMESPACE, "--identity", identity];
        Launch::kubeconfig(&kubeconfig).args(&own).args(&["--lame-duck", "0"]).args(&arguments).start().await
    }

    fn holder(&self) -> Result<String> {
        let lease = self.cluster.get(&["lease", "-n", NAMESPACE, "landfall-ingress"])?;
        let holder = lease["spec"]["holderIdentity"].as_str().filter(|holder| !holder.is_empty());
        Ok(holder.context("nobody holds the lease")?.to_owned())
    }

    /// Waits for Events with these reasons.
    async fn events(&self, wanted: &[&str]) -> Result<()> {
        wait::until(PATIENCE, "Events", || async {
            let list = self.cluster.get(&["events.events.k8s.io", "--all-namespaces"])?;
            let reasons: Vec<&str> =
                list["items"].as_array().into_iter().flatten().filter_map(|one| one["reason"].as_str()).collect();
            for reason in wanted {
                ensure!(reasons.contains(reason), "no {reason} in {reasons:?}");
            }
            Ok(())
        })
        .await?;
        Ok(())
    }

    fn shared(&self) -> Result<Value> {
        let map = self.cluster.get(&["configmap", "-n", NAMESPACE, "landfall-ingress-acme"])?;
        Ok(serde_json::from_str(map["data"]["state"].as_str().unwrap_or("{}"))?)
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn two_replicas_order_once_and_replace_what_is_theirs_alone() -> Result<()> {
    let _alone = ALONE.write().await;
    let mut stage = Stage::new(json!({})).await?;
    stage.pebble.start().await?;
    stage.pebble.lead_here(&["a.test", "b.test"])?;
    let mut fleet = Fleet::new(stage).await?;
    let (a, b) = (fleet.replica("a").await?, fleet.replica("b").await?);
    // The CA meets whichever replica is next.
    fleet.stage.plain.lead_to(&[a.http, b.http]);
    fleet.stage.secure.lead_to(&[a.https, b.https]);
    let foreign = json!({
        "apiVersion": "v1", "kind": "Secret", "metadata": {"name": "foreign-tls"}, "type": "kubernetes.io/tls",
        "stringData": {"tls.crt": "mine", "tls.key": "mine"},
    });
    fleet.cluster.apply(&foreign.to_string())?;
    let begun = Instant::now();
    fleet.cluster.apply(&(ingress("shop", &["a.test"], &asked()) + &ingress("foreign", &["b.test"], &asked())))?;
    let trust = fleet.stage.pebble.trust()?;
    for replica in [&a, &b] {
        becomes_secure(replica, "a.test", &trust, PATIENCE).await?;
    }
    figures::print(&format!(
        "from an Ingress in a cluster to HTTPS at both replicas: {:.2} s",
        begun.elapsed().as_secs_f64()
    ));
    for replica in [&a, &b] {
        stands(replica, "shop-tls", |one| one["state"] == "issued").await?;
        stands(replica, "foreign-tls", |one| one["state"] == "foreign").await?;
    }
    assert_eq!(fleet.stage.pebble.orders(), 1);
    let secret = fleet.cluster.get(&["secret", "shop-tls"])?;
    assert_eq!(
        (&secret["type"], &secret["metadata"]["labels"]["landfall.dev/acme"]),
        (&"kubernetes.io/tls".into(), &"managed".into())
    );
    let key = secret["data"]["tls.key"].clone();
    let secret = fleet.cluster.get(&["secret", "foreign-tls"])?;
    assert_eq!(secret["data"]["tls.crt"], "bWluZQ==");
    fleet.events(&["CertificateOrdered", "CertificateIssued", "AcmeForeignSecret"]).await?;

    // Somebody has lost a key, and the CA all accounts.
    fleet.stage.pebble.stop();
    fleet.stage.pebble.start().await?;
    fleet.cluster.kubectl(&["annotate", "secret", "shop-tls", "foreign-tls", "landfall.dev/acme-replace=true"])?;
    let trust = fleet.stage.pebble.trust()?;
    for replica in [&a, &b] {
        becomes_secure(replica, "a.test", &trust, PATIENCE).await?;
    }
    let next = fleet.cluster.get(&["secret", "shop-tls"])?;
    assert_ne!(next["data"]["tls.key"], key, "another key");
    assert_eq!(next["metadata"]["annotations"]["landfall.dev/acme-replace"], Value::Null, "it was asked for once");
    assert_eq!(fleet.cluster.get(&["secret", "foreign-tls"])?["data"]["tls.crt"], "bWluZQ==");
    assert_eq!(fleet.stage.pebble.orders(), 2);
    fleet.events(&["AcmeAccountReplaced"]).await
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn another_replica_completes_the_order_of_a_leader_that_was_killed() -> Result<()> {
    let _alone = ALONE.write().await;
    let mut stage = Stage::new(json!({})).await?;
    // Validations take a while, so that there is a middle of an order.
    stage.pebble = stage.pebble.env("PEBBLE_VA_NOSLEEP", "0").env("PEBBLE_VA_SLEEPTIME", "8");
    stage.pebble.start().await?;
    let hosts = ["a.test", "b.test", "c.test", "d.test"];
    stage.pebble.lead_here(&hosts)?;
    let fleet = Fleet::new(stage).await?;
    let (a, b) = (fleet.replica("a").await?, fleet.replica("b").await?);
    fleet.stage.plain.lead_to(&[a.http, b.http]);
    wait::until(PATIENCE, "a leader", || async { fleet.holder() }).await?;
    fleet.cluster.apply(&ingress("shop", &hosts, &asked()))?;
    wait::until(PATIENCE, "an order that the CA knows", || async {
        let shared = fleet.shared()?;
        ensure!(shared["certificates"]["default/shop-tls"]["order"]["url"].is_string(), "{shared}");
        Ok(())
    })
    .await?;
    let (mut leader, other) = if fleet.holder()? == "a" { (a, b) } else { (b, a) };
    leader.signal(Signal::SIGKILL)?;
    leader.ended(PATIENCE).await?;
    let trust = fleet.stage.pebble.trust()?;
    let took = becomes_secure(&other, "d.test", &trust, TAKEN_OVER).await?;
    figures::print(&format!("order completed by another replica: {:.2} s", took.as_secs_f64()));
    assert_eq!(fleet.stage.pebble.orders(), 1, "the order of the one that was killed is gone on with");
    Ok(())
}
