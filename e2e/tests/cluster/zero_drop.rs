//! What a client loses while the cluster is worked on: every class of request at a fixed rate through each event.

use std::fmt;
use std::net::SocketAddr;
use std::path::PathBuf;
use std::process::Command;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, ensure};
use landfall_e2e::load::{self, Class, Plan, Report};
use landfall_e2e::testbed::{Host, LANDFALL, Namespace};
use landfall_e2e::tls::Trust;
use landfall_e2e::{figures, tools, wait};
use serde_json::{Value, json};
use tokio::sync::oneshot;

use crate::stage::{Stage, play, rounds};

const APP: &str = include_str!("zero_drop.yaml");
const NAMESPACE: &str = "zero-drop";
/// The host of the certificates that `hack/quickstart-pki` makes.
const HOST: &str = "shop.localhost";
/// Planned in each second of each class. Handshakes are what costs the machine most.
const RATE: u32 = 50;
const HANDSHAKES: u32 = 20;
/// Of load before an event and after its last trace has gone.
const AROUND: Duration = Duration::from_secs(2);
/// How long it may take until the pods of an event have gone: longer than any grace period.
const GONE_WITHIN: Duration = Duration::from_mins(2);
/// How long the API server stays dead.
const OUTAGE: Duration = Duration::from_secs(20);
/// What the death of a node may cost: what was under way on it, and what was asked of it until another took over.
const CRASH_WINDOW: Duration = Duration::from_millis(1_500);

/// One row of the matrix.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum Event {
    AppRollouts(usize),
    IngressRollouts(usize),
    Drain,
    ApiServer,
    Certificates(usize),
    Routes(usize),
    Crash,
}

impl fmt::Display for Event {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::AppRollouts(times) => write!(f, "{times} rollouts of the app"),
            Self::IngressRollouts(times) => write!(f, "{times} rollouts of the ingress"),
            Self::Drain => f.write_str("drain of the announcing node"),
            Self::ApiServer => write!(f, "{} s without API server", OUTAGE.as_secs()),
            Self::Certificates(times) => write!(f, "{times} rotations of the certificate"),
            Self::Routes(times) => write!(f, "{times} edits of routes"),
            Self::Crash => f.write_str("crash of the announcing node"),
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn nothing_is_dropped() -> Result<()> {
    play(NAMESPACE, matrix).await
}

async fn matrix(stage: &Stage, namespace: &Namespace<'_>) -> Result<()> {
    let events = [
        Event::AppRollouts(rounds(20)?),
        Event::IngressRollouts(rounds(10)?),
        Event::Drain,
        Event::ApiServer,
        Event::Certificates(rounds(20)?),
        Event::Routes(50 * rounds(20)?),
        Event::Crash,
    ];
    // For work on one cell.
    let only = std::env::var("LANDFALL_E2E_EVENT").unwrap_or_default();
    let scene = Scene::set(stage, namespace, rounds(20)? + 1).await?;
    let mut wrong = Vec::new();
    for event in events.into_iter().filter(|event| event.to_string().contains(&only)) {
        println!("{event}");
        let (begun, report) = scene.under_load(event).await.with_context(|| event.to_string())?;
        print(event, &report, begun);
        for (class, counted) in &report.classes {
            ensure!(
                counted.started > 0 && counted.started == counted.ok + counted.failed,
                "{event}, {class}: {counted:?}"
            );
            if event != Event::Crash && counted.failed > 0 {
                wrong.push(format!("{event}, {class}: {} of {} failed", counted.failed, counted.started));
            }
        }
        if event == Event::Crash && figures::held_to_budgets() {
            wrong.extend(lost_too_long(&report, begun));
        }
        scene.settled().await?;
    }
    ensure!(wrong.is_empty(), "{}", wrong.join("\n"));
    Ok(())
}

/// Failures of requests that were planned long after a node had died.
fn lost_too_long(report: &Report, begun: Duration) -> Vec<String> {
    let end = (begun + CRASH_WINDOW).as_secs_f64() * 1000.0;
    let late = |class: &load::ClassReport| class.failures.iter().filter(|failed| failed.planned_ms > end).count();
    let late = report.classes.iter().map(|(class, counted)| (class, late(counted)));
    late.filter(|(_, late)| *late > 0).map(|(class, late)| format!("crash, {class}: {late} failed late")).collect()
}

fn print(event: Event, report: &Report, begun: Duration) {
    let cells = report.classes.iter().map(|(class, counted)| format!("{class} {}/{}", counted.failed, counted.started));
    figures::print(&format!("failed during {event}: {}", cells.collect::<Vec<_>>().join(", ")));
    for (class, counted) in &report.classes {
        println!(
            "  {class:9} p50 {:.1} ms, p99 {:.1}, p99.9 {:.1}, slowest {:.0} (planned at {:.1} s), late by {:.0}; \
             {} opened, {} closed by server, {} sent again, {} reconnected; {:?}",
            counted.p50_ms,
            counted.p99_ms,
            counted.p999_ms,
            counted.slowest_ms,
            counted.slowest_planned_ms / 1000.0,
            counted.latest_start_ms,
            counted.opened,
            counted.closed_by_server,
            counted.reopened,
            counted.reconnected,
            counted.failed_by_kind,
        );
        for failed in counted.failures.iter().take(10) {
            println!(
                "    planned {:+.3} s from the event, failed {:+.3} s: {}: {}",
                failed.planned_ms / 1000.0 - begun.as_secs_f64(),
                failed.at_ms / 1000.0 - begun.as_secs_f64(),
                failed.kind,
                failed.text
            );
        }
    }
}

/// The app behind its Ingress, with certificates to rotate through.
struct Scene<'a> {
    stage: &'a Stage,
    namespace: &'a Namespace<'a>,
    keys: tempfile::TempDir,
    plan: Plan,
}

impl<'a> Scene<'a> {
    async fn set(stage: &'a Stage, namespace: &'a Namespace<'a>, certificates: usize) -> Result<Self> {
        let keys = tempfile::TempDir::new()?;
        let mut authorities = String::new();
        for number in 0..certificates {
            let folder = keys.path().join(number.to_string());
            std::fs::create_dir(&folder)?;
            tools::run(Command::new(tools::checkout().join("hack/quickstart-pki")).args([&folder, &folder]))?;
            authorities += &std::fs::read_to_string(folder.join("ca.crt"))?;
        }
        let all = keys.path().join("ca.crt");
        std::fs::write(&all, authorities)?;
        let at = |port| SocketAddr::new(stage.ingress, port);
        let plan = Plan::new(HOST, [at(80)]).tls([at(443)], Trust::from_file(&all)?);
        let plan = Class::ALL.into_iter().fold(plan, |plan, class| plan.rate(class, RATE)).rate(Class::Tls, HANDSHAKES);
        let scene = Self { stage, namespace, keys, plan };
        namespace.apply(&scene.certificate(0)?)?;
        namespace.apply(APP)?;
        scene.settled().await?;
        Ok(scene)
    }

    /// Waits until everything is as it was before an event.
    async fn settled(&self) -> Result<()> {
        let testbed = &self.stage.testbed;
        testbed.rolled_out(NAMESPACE, "deployment/app")?;
        testbed.rolled_out(LANDFALL, "deployment/landfall-ingress")?;
        testbed.rolled_out(LANDFALL, "daemonset/landfall-lb-speaker")?;
        self.stage.get_until(self.stage.ingress, 80, (HOST, "/"), |answer| answer.status == 200).await?;
        Ok(())
    }

    fn certificate(&self, number: usize) -> Result<String> {
        let file: PathBuf = self.keys.path().join(number.to_string()).join("shop-tls.secret.yaml");
        std::fs::read_to_string(&file).with_context(|| file.display().to_string())
    }

    /// Lets `event` happen under load; when it began, after the load did, and what became of the load.
    async fn under_load(&self, event: Event) -> Result<(Duration, Report)> {
        let (stop, stopped) = oneshot::channel::<()>();
        let plan = self.plan.clone();
        let load = self
            .stage
            .testbed
            .run_on(Host::Client, move || async move { load::run(plan, async { drop(stopped.await) }).await });
        let event = async {
            let started = Instant::now();
            tokio::time::sleep(AROUND).await;
            let begun = started.elapsed();
            let outcome = self.let_happen(event).await;
            tokio::time::sleep(AROUND).await;
            drop(stop);
            outcome.map(|()| begun)
        };
        let (report, begun) = tokio::join!(load, event);
        Ok((begun?, report?))
    }

    async fn let_happen(&self, event: Event) -> Result<()> {
        let testbed = &self.stage.testbed;
        match event {
            Event::AppRollouts(times) => self.roll_out(times, NAMESPACE, "app", "app=app").await,
            Event::IngressRollouts(times) => {
                let labels = "app.kubernetes.io/component=ingress";
                self.roll_out(times, LANDFALL, "landfall-ingress", labels).await
            }
            Event::Drain => {
                let node = self.announcer().await?.to_string();
                testbed.kubectl(&[
                    "drain",
                    &node,
                    "--ignore-daemonsets",
                    "--delete-emptydir-data",
                    "--timeout=120s",
                ])?;
                self.settled().await?;
                testbed.kubectl(&["uncordon", &node]).map(drop)
            }
            Event::ApiServer => {
                testbed.kill("kube-apiserver")?;
                tokio::time::sleep(OUTAGE).await;
                testbed.revive_api_server().await?;
                // Every watch is resumed and every Lease is renewed under load as well.
                tokio::time::sleep(OUTAGE / 2).await;
                Ok(())
            }
            Event::Certificates(times) => {
                for number in 1..=times {
                    self.namespace.apply(&self.certificate(number)?)?;
                    tokio::time::sleep(Duration::from_millis(500)).await;
                }
                self.namespace.apply(&self.certificate(0)?)
            }
            Event::Routes(times) => self.edit_routes(times),
            Event::Crash => {
                let node = self.announcer().await?;
                testbed.power_off(node)?;
                // Until the control plane has noticed and moved everything away.
                tokio::time::sleep(Duration::from_secs(20)).await;
                testbed.power_on(node).await
            }
        }
    }

    async fn announcer(&self) -> Result<Host> {
        self.stage.announcer(LANDFALL, "landfall-ingress").await
    }

    /// Replaces all pods of a Deployment again and again, then waits for the last old one to go.
    async fn roll_out(&self, times: usize, namespace: &str, name: &str, labels: &str) -> Result<()> {
        let testbed = &self.stage.testbed;
        let deployment = format!("deployment/{name}");
        for _ in 0..times {
            testbed.kubectl(&["rollout", "restart", "--namespace", namespace, &deployment])?;
            testbed.rolled_out(namespace, &deployment)?;
        }
        wait::until(GONE_WITHIN, "the last old pod to go", || async {
            let pods = testbed.get(&["pods", "--namespace", namespace, "--selector", labels])?;
            let leaving = |pod: &&Value| !pod["metadata"]["deletionTimestamp"].is_null();
            let leaving = pods["items"].as_array().into_iter().flatten().filter(leaving).count();
            ensure!(leaving == 0, "{leaving} are there");
            // Often enough, and no load on the machine that is measured.
            tokio::time::sleep(Duration::from_millis(500)).await;
            Ok(())
        })
        .await?;
        Ok(())
    }

    /// Changes fifty Ingresses at a time, `times` in all.
    fn edit_routes(&self, times: usize) -> Result<()> {
        for batch in 0..times.div_ceil(50) {
            let objects: Vec<_> = (0..50).map(|number| route(number, batch)).collect();
            self.namespace.apply(&json!({"apiVersion": "v1", "kind": "List", "items": objects}).to_string())?;
        }
        self.stage.testbed.kubectl(&["delete", "ingress", "--namespace", NAMESPACE, "--selector", "edited=yes"])?;
        Ok(())
    }
}

/// Route `number` as edit `edit` makes it. Every other one is for the host under load.
fn route(number: usize, edit: usize) -> Value {
    let host = if number.is_multiple_of(2) { HOST.to_owned() } else { format!("shop{number}.localhost") };
    let path = format!("/edited/{number}/{edit}");
    let backend = json!({"service": {"name": "app", "port": {"name": "http"}}});
    json!({
        "apiVersion": "networking.k8s.io/v1", "kind": "Ingress",
        "metadata": {"name": format!("edited-{number}"), "labels": {"edited": "yes"}},
        "spec": {"ingressClassName": "landfall", "rules": [
            {"host": host, "http": {"paths": [{"path": path, "pathType": "Prefix", "backend": backend}]}},
        ]},
    })
}
