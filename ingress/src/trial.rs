//! `test`: probe pods and an Ingress in a namespace of their own, tried in every way, and removed again.

mod load;
mod objects;
mod protocols;

use std::fmt::Write as _;
use std::net::IpAddr;
use std::process::ExitCode;
use std::time::{Duration, Instant};

use anyhow::{Context, bail};
use k8s_openapi::api::core::v1::{Namespace, Pod};
use k8s_openapi::api::networking::v1::Ingress;
use kube::api::{Api, DeleteParams, ListParams};
use landfall_model::checkup::ailing;
use landfall_shared::look::Look;
use serde_json::{Value, json};

use crate::cli::{Output, TestArgs};
use load::Lost;
use protocols::{Target, Tried};

/// How often it is looked whether something is there.
const AGAIN: Duration = Duration::from_millis(200);

/// Tries everything; exits with 1 if something does not work.
pub fn run(args: &TestArgs) -> anyhow::Result<ExitCode> {
    let report = crate::once(async {
        let look = Look::new().await.context("the test runs in a cluster")?;
        // Whatever happens, and also when somebody has seen enough, everything is removed.
        let outcome = tokio::select! {
            outcome = tried(args, &look) => outcome,
            _ = tokio::signal::ctrl_c() => Err(anyhow::anyhow!("interrupted")),
        };
        let removed = remove(&look, &args.test_namespace).await;
        let report = outcome?;
        removed.map(|()| report)
    })?;
    match args.output {
        Output::Text => print!("{}", report.text()),
        Output::Json => println!("{}", serde_json::to_string_pretty(&report.to_json())?),
    }
    Ok(if report.is_well() { ExitCode::SUCCESS } else { ExitCode::from(1) })
}

/// What came of it all.
struct Report {
    address: IpAddr,
    started: Duration,
    tried: Vec<Tried>,
    lost: Vec<(&'static str, Lost)>,
}

async fn tried(args: &TestArgs, look: &Look) -> anyhow::Result<Report> {
    let begun = Instant::now();
    let image = match &args.image {
        Some(image) => image.clone(),
        None => image(look).await?,
    };
    let keys = objects::Keys::generate()?;
    objects::create(look, args, &image, &keys).await?;
    let address = ready(args, look).await?;
    let target = Target {
        ip: address,
        ports: (args.http_port, args.https_port),
        host: objects::HOST.to_owned(),
        grpc_host: objects::GRPC_HOST.to_owned(),
        certificate: keys.certificate(),
        big: args.big_body,
    };
    answers(args, look, &target).await?;
    let started = begun.elapsed();
    let tried = protocols::all(&target).await;
    let mut lost = Vec::new();
    if args.drain {
        lost.push(("a pod of the ingress is replaced", load::while_pod_is_replaced(look, &target).await?));
    }
    if args.fail_over {
        lost.push(("the speaker that announces is killed", load::while_speaker_is_killed(look, &target).await?));
    }
    Ok(Report { address, started, tried, lost })
}

/// The image of the ingress that is installed: it has `echo`.
async fn image(look: &Look) -> anyhow::Result<String> {
    let pods: Vec<std::sync::Arc<Pod>> =
        look.list(ListParams::default().labels(objects::INGRESS)).await?.unwrap_or_default();
    let images = pods.iter().filter_map(|pod| pod.spec.as_ref()?.containers.first()?.image.clone());
    images.into_iter().next().context("no ingress is installed here; install the chart, or name an image by --image")
}

/// Waits until the Ingress has an address.
async fn ready(args: &TestArgs, look: &Look) -> anyhow::Result<IpAddr> {
    if let Some(address) = args.address {
        return Ok(address);
    }
    let api: Api<Ingress> = Api::namespaced(look.client().clone(), &args.test_namespace);
    let begun = Instant::now();
    loop {
        let ingress = api.get("echo").await.context("cannot read the Ingress")?;
        let status = ingress.status.and_then(|status| status.load_balancer?.ingress);
        let address = status.iter().flatten().find_map(|entry| entry.ip.as_deref()?.parse().ok());
        if let Some(address) = address {
            return Ok(address);
        }
        if begun.elapsed() > args.patience {
            bail!("the Ingress of the test has no address; landfall-ingress check says why, --address names one");
        }
        tokio::time::sleep(AGAIN).await;
    }
}

/// Waits until the ingress leads to a pod of the test.
async fn answers(args: &TestArgs, look: &Look, target: &Target) -> anyhow::Result<()> {
    let begun = Instant::now();
    loop {
        let error = match tokio::time::timeout(Duration::from_secs(2), target.plain()).await {
            Ok(Ok(())) => return Ok(()),
            Ok(Err(error)) => format!("{error:#}"),
            Err(_) => "no answer within 2 s".to_owned(),
        };
        if begun.elapsed() > args.patience {
            let pods: Vec<std::sync::Arc<Pod>> =
                look.list_in(&args.test_namespace, ListParams::default()).await?.unwrap_or_default();
            let unwell = ailing(pods.iter().map(|pod| &**pod));
            let pods: Vec<String> = unwell.iter().map(|(pod, why)| format!("; pod {pod} {why}")).collect();
            bail!("{} does not lead to the pods of the test: {error}{}", target.ip, pods.concat());
        }
        tokio::time::sleep(AGAIN).await;
    }
}

/// Removes the namespace with all that is in it, and waits until it is gone.
async fn remove(look: &Look, name: &str) -> anyhow::Result<()> {
    let api: Api<Namespace> = Api::all(look.client().clone());
    let Some(found) = api.get_opt(name).await? else { return Ok(()) };
    if found.metadata.labels.as_ref().and_then(|labels| labels.get(objects::MARK)).is_none() {
        bail!("namespace {name} was not made by this test, so it is left alone; name another by --test-namespace");
    }
    api.delete(name, &DeleteParams::default()).await.with_context(|| format!("cannot remove namespace {name}"))?;
    Ok(())
}

/// The key of a WebSocket that the test sends, and what the server makes of it: the example of RFC 6455, section 1.3.
pub(crate) const SOCKET: (&str, &str) = ("dGhlIHNhbXBsZSBub25jZQ==", "s3pPLMBiTxaQ9kYGzzhZRbK+xOo=");

impl Report {
    fn is_well(&self) -> bool {
        self.tried.iter().all(|tried| tried.error.is_none())
    }

    fn to_json(&self) -> Value {
        let lost = self.lost.iter().map(|(what, lost)| {
            json!({
                "what": what, "requests": lost.requests, "lost": lost.failed, "longestGapMs": lost.longest_ms(),
            })
        });
        json!({
            "address": self.address, "startedMs": u64::try_from(self.started.as_millis()).unwrap_or(u64::MAX),
            "tried": self.tried, "disturbed": lost.collect::<Vec<_>>(),
        })
    }

    fn text(&self) -> String {
        let mut text = format!(
            "the ingress at {} leads to the pods of the test after {:.1} s\n",
            self.address,
            self.started.as_secs_f64()
        );
        for Tried { what, took_ms, error } in &self.tried {
            let _ = match error {
                None => writeln!(text, "✓ {what}: {took_ms:.1} ms"),
                Some(error) => writeln!(text, "✗ {what}: {error}"),
            };
        }
        for (what, lost) in &self.lost {
            let sign = if lost.failed == 0 { '✓' } else { '!' };
            let _ = writeln!(
                text,
                "{sign} {what}: {} of {} requests lost, longest gap {} ms",
                lost.failed,
                lost.requests,
                lost.longest_ms()
            );
        }
        text
    }
}
