//! Replicas, restarts, an API server that goes away, and what an existing user of `MetalLB` brings along.

use std::time::Instant;

use anyhow::{Context, Result, ensure};
use landfall_e2e::{client, figures, wait};
use nix::sys::signal::Signal;
use serde_json::json;

use crate::program::{Program, controller};
use crate::scene::{
    LEASE, METALLB, ONE_AT_A_TIME, PATIENCE, addresses, all_have_one, bare, condition, definitions, event, has, pool,
    service, setup,
};

#[tokio::test]
async fn a_replica_goes_on_where_the_other_was_killed_and_nothing_moves() -> Result<()> {
    let _alone = ONE_AT_A_TIME.lock().await;
    let mut cluster = setup().await?;
    let first = controller(&cluster, "a", &[]).await?;
    has(&cluster, "nginx", Some("192.168.10.1")).await?;
    let second = controller(&cluster, "b", &[]).await?;
    cluster.apply(&(0..20).map(|n| service(&format!("s-{n}"), "")).collect::<String>())?;
    let before = all_have_one(&cluster, 21).await?;

    // The leader is killed, and Services come before anybody has taken over.
    first.signal(Signal::SIGKILL)?;
    let killed = Instant::now();
    cluster.apply(&(20..25).map(|n| service(&format!("s-{n}"), "")).collect::<String>())?;
    let after = all_have_one(&cluster, 26).await?;
    let took = killed.elapsed();
    figures::print(&format!("an address after the leading controller was killed: {:.1} s", took.as_secs_f64()));
    figures::within(took, LEASE, LEASE + PATIENCE)?;
    assert!(before.iter().all(|(name, ip)| after.get(name) == Some(ip)), "{before:?} became {after:?}");

    // Everything starts again: not one status is written but that of a new Service.
    let writes = || -> Result<Vec<String>> {
        let log = cluster.audit()?;
        Ok(log.into_iter().filter(|uri| uri.contains("/services/")).collect())
    };
    let (written, _) = wait::until(PATIENCE, "the audit log to have a write of each status", || async {
        let written = writes()?;
        for name in after.keys() {
            ensure!(written.iter().any(|uri| uri.contains(&format!("/services/{name}/status"))), "none of {name}");
        }
        Ok(written.len())
    })
    .await?;
    drop((first, second));
    let mut again = controller(&cluster, "c", &[]).await?;
    cluster.apply(&service("later", ""))?;
    wait::until(LEASE + PATIENCE, "an address for a Service that came later", || async {
        addresses(&cluster)?.get("later").map(drop).context("none")
    })
    .await?;
    let restarted = addresses(&cluster)?;
    assert!(after.iter().all(|(name, ip)| restarted.get(name) == Some(ip)), "{after:?} became {restarted:?}");
    let since = writes()?.split_off(written);
    assert!(since.iter().all(|uri| uri.contains("/services/later/status")), "{since:?}");

    // The API server goes and comes back.
    cluster.kill_api()?;
    wait::until(PATIENCE, "the log to say that the API server is away", || async {
        ensure!(again.log().contains("cannot read from the api server"), "{}", again.log());
        Ok(())
    })
    .await?;
    assert_eq!(client::get(again.admin, "admin", "/readyz").await?.status, 200);
    cluster.start_api().await?;
    cluster.apply(&service("back", ""))?;
    let back = Instant::now();
    wait::until(LEASE + PATIENCE, "an address after the API server was back", || async {
        addresses(&cluster)?.get("back").map(drop).context("none")
    })
    .await?;
    figures::print(&format!("an address after the API server was back: {:.1} s", back.elapsed().as_secs_f64()));
    let now = addresses(&cluster)?;
    assert!(restarted.iter().all(|(name, ip)| now.get(name) == Some(ip)), "{restarted:?} became {now:?}");
    let (log, _) = wait::until(PATIENCE, "the log to say that the API server is back", || async {
        let log = again.log();
        ensure!(log.contains("reading from the api server again"), "{log}");
        Ok(log)
    })
    .await?;
    let lines = |text: &str| log.lines().filter(|line| line.contains(text)).count();
    assert_eq!(lines("cannot read from the api server"), 1, "{log}");
    assert_eq!(lines("reading from the api server again"), 1, "{log}");
    assert_eq!(lines("kube_client"), 0, "{log}");

    // Asked to end, it lets go of the Lease, and the next one needs not wait for it.
    again.signal(Signal::SIGTERM)?;
    again.ended().await?;
    let _next = controller(&cluster, "d", &[]).await?;
    cluster.apply(&service("next", ""))?;
    let begun = Instant::now();
    wait::until(PATIENCE, "an address by the next leader", || async {
        addresses(&cluster)?.get("next").map(drop).context("none")
    })
    .await?;
    figures::print(&format!("an address after the leading controller ended: {:.1} s", begun.elapsed().as_secs_f64()));
    Ok(())
}

#[tokio::test]
async fn what_a_metallb_user_has_is_kept_and_pools_can_change() -> Result<()> {
    let _alone = ONE_AT_A_TIME.lock().await;
    let cluster = &bare().await?;
    // Services with addresses that somebody else gave, and nothing yet that says where those came from.
    let class = "---\napiVersion: v1\nkind: Service\nmetadata: {name: foreign}\n\
        spec: {type: LoadBalancer, loadBalancerClass: example.com/other, ports: [{port: 80}]}\n";
    cluster.apply(&(service("nginx", "") + &service("old", "metallb.universe.tf/address-pool: first-pool") + class))?;
    for (name, ip) in [("nginx", "192.168.10.240"), ("old", "192.168.10.77"), ("foreign", "192.168.10.2")] {
        let patch = json!({"status": {"loadBalancer": {"ingress": [{"ip": ip}]}}}).to_string();
        cluster.kubectl(&["patch", "service", name, "--subresource=status", "--type=merge", "-p", &patch])?;
    }
    let kept = addresses(cluster)?;
    assert_eq!(kept.len(), 3);

    // Without the definitions nobody knows of any pool, so nothing is taken away.
    let early = Program::start(cluster, "controller", "a", &[])?;
    wait::until(PATIENCE, "the log to say that there are no definitions", || async {
        ensure!(early.log().contains("no address is given or taken away"), "{}", early.log());
        Ok(())
    })
    .await?;
    assert_eq!(client::get(early.admin, "admin", "/readyz").await?.status, 503);
    definitions(cluster)?;
    cluster.apply(METALLB)?;
    let _controller = early.ready().await?;
    cluster.apply(&service("new", ""))?;
    has(cluster, "new", Some("192.168.10.1")).await?;
    let now = addresses(cluster)?;
    assert!(kept.iter().all(|(name, ip)| now.get(name) == Some(ip)), "{kept:?} became {now:?}");
    condition(cluster, "old", "AddressAllocated", "True").await?;
    event(cluster, "old", "deprecatedAnnotation").await?;
    let foreign = cluster.get(&["service", "foreign"])?;
    assert!(foreign["status"]["conditions"].is_null(), "another class is not ours: {}", foreign["status"]);

    // The pool shrinks: who stood outside moves, and the others stay. The Service of another class has .2.
    cluster.apply(&pool("192.168.10.0/25"))?;
    has(cluster, "nginx", Some("192.168.10.3")).await?;
    let note = event(cluster, "nginx", "ClearAssignment").await?;
    assert!(note.contains("not allowed by config"), "{note}");
    has(cluster, "old", Some("192.168.10.77")).await?;

    // It goes: its Services wait and say why. It comes back, larger: they have addresses again.
    cluster.kubectl(&["delete", "ipaddresspool", "-n", "metallb-system", "first-pool"])?;
    has(cluster, "old", None).await?;
    let (_, message) = condition(cluster, "new", "AddressAllocated", "False").await?;
    assert!(message.contains("there is no pool"), "{message}");
    let object = cluster.get(&["service", "new"])?;
    assert!(object["metadata"]["annotations"]["metallb.io/ip-allocated-from-pool"].is_null(), "{object}");
    cluster.apply(&pool("192.168.10.0/24"))?;
    all_have_one(cluster, 4).await?;

    // A Service that is made anew under its old name is another Service.
    for round in 0..5 {
        cluster.kubectl(&["delete", "service", "new", "--wait=false"])?;
        cluster.apply(&service("new", ""))?;
        wait::until(PATIENCE, &format!("an address for the Service made anew, round {round}"), || async {
            addresses(cluster)?.get("new").map(drop).context("none")
        })
        .await?;
    }

    // What is written names the Service that it is meant for; the API server refuses it for another.
    let patch = json!({"metadata": {"uid": "00000000-0000-0000-0000-000000000000"}, "status": {"conditions": []}});
    let wrong = ["patch", "service", "new", "--subresource=status", "--type=merge", "-p", &patch.to_string()];
    let refused = cluster.kubectl(&wrong).err().context("a patch for another Service was taken")?.to_string();
    assert!(refused.contains("metadata.uid"), "{refused}");

    // It becomes another type, and everything of ours goes from it.
    cluster.kubectl(&["patch", "service", "new", "--type=merge", "-p", r#"{"spec":{"type":"ClusterIP"}}"#])?;
    has(cluster, "new", None).await?;
    wait::until(PATIENCE, "the annotation and the conditions to go", || async {
        let object = cluster.get(&["service", "new"])?;
        let annotation = &object["metadata"]["annotations"]["metallb.io/ip-allocated-from-pool"];
        let conditions = object["status"]["conditions"].as_array().map_or(0, Vec::len);
        ensure!(annotation.is_null() && conditions == 0, "{object}");
        Ok(())
    })
    .await?;
    Ok(())
}

#[tokio::test]
async fn a_controller_of_a_class_serves_that_class_only() -> Result<()> {
    let _alone = ONE_AT_A_TIME.lock().await;
    let cluster = &setup().await?;
    let _controller = controller(cluster, "a", &["--lb-class", "example.com/lan"]).await?;
    cluster.apply(
        "apiVersion: v1\nkind: Service\nmetadata: {name: lan}\n\
         spec: {type: LoadBalancer, loadBalancerClass: example.com/lan, ports: [{port: 80}]}\n",
    )?;
    has(cluster, "lan", Some("192.168.10.1")).await?;
    has(cluster, "nginx", None).await?;
    Ok(())
}
