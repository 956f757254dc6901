//! What a disturbance costs: requests one after the other while it happens.

use std::sync::Arc;
use std::time::{Duration, Instant};

use anyhow::Context;
use k8s_openapi::api::core::v1::Pod;
use kube::api::{Api, ApiResource, DeleteParams, DynamicObject, GroupVersionKind, ListParams};
use landfall_model::checkup::is_ready;
use landfall_shared::look::Look;

use super::objects::INGRESS;
use super::protocols::Target;

/// How long one request may take: a client's patience.
const PATIENCE: Duration = Duration::from_secs(1);
/// Between two requests.
const PAUSE: Duration = Duration::from_millis(10);
/// How long requests are sent before, and after everything is ready again.
const CALM: Duration = Duration::from_secs(2);
/// How long it may take until everything is ready again.
const LONGEST: Duration = Duration::from_mins(1);

/// What came of the requests.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Lost {
    /// Requests that were sent.
    pub(super) requests: u64,
    /// Requests without an answer, or with another than 200.
    pub(super) failed: u64,
    /// The longest time from one answer to the next.
    longest: Duration,
}

impl Lost {
    /// The longest time from one answer to the next, in milliseconds.
    pub(super) fn longest_ms(&self) -> u64 {
        u64::try_from(self.longest.as_millis()).unwrap_or(u64::MAX)
    }
}

/// A pod of the ingress is deleted as a rollout or a drain does it, and requests are sent until another is ready.
pub(super) async fn while_pod_is_replaced(look: &Look, target: &Target) -> anyhow::Result<Lost> {
    let pods = pods(look, INGRESS).await?;
    let pod = pods.iter().find(|pod| is_ready(pod)).context("no pod of the ingress is ready")?.clone();
    let count = pods.len();
    disturbed(look, target, &pod, None, INGRESS, count).await
}

/// The speaker that announces the address is killed, as a node that loses its power does it to it.
pub(super) async fn while_speaker_is_killed(look: &Look, target: &Target) -> anyhow::Result<Lost> {
    const SPEAKER: &str = "app.kubernetes.io/name=landfall,app.kubernetes.io/component=speaker";
    let node = announcing(look).await?;
    let pods = pods(look, SPEAKER).await?;
    let on_node = |pod: &&Arc<Pod>| pod.spec.as_ref().and_then(|spec| spec.node_name.as_ref()) == Some(&node);
    let pod = pods.iter().find(on_node).with_context(|| format!("no speaker runs on node {node}"))?.clone();
    disturbed(look, target, &pod, Some(0), SPEAKER, pods.len()).await
}

/// The node that announces the Service of the ingress.
async fn announcing(look: &Look) -> anyhow::Result<String> {
    let kind = GroupVersionKind::gvk("metallb.io", "v1beta1", "ServiceL2Status");
    let resource = ApiResource::from_gvk_with_plural(&kind, "servicel2statuses");
    let api: Api<DynamicObject> = Api::all_with(look.client().clone(), &resource);
    let all = api.list(&ListParams::default()).await.context("cannot see which node announces")?;
    let of_ingress =
        |one: &&DynamicObject| one.data["status"]["serviceName"].as_str().is_some_and(|name| name.contains("ingress"));
    let found =
        all.items.iter().find(of_ingress).and_then(|one| one.data["status"]["node"].as_str().map(str::to_owned));
    found.context("no node announces the Service of the ingress")
}

async fn pods(look: &Look, labels: &str) -> anyhow::Result<Vec<Arc<Pod>>> {
    look.list(ListParams::default().labels(labels)).await?.context("you may not list pods")
}

async fn disturbed(
    look: &Look,
    target: &Target,
    pod: &Pod,
    grace: Option<u32>,
    labels: &str,
    count: usize,
) -> anyhow::Result<Lost> {
    let meta = &pod.metadata;
    let api: Api<Pod> = Api::namespaced(look.client().clone(), meta.namespace.as_deref().unwrap_or_default());
    let name = meta.name.clone().unwrap_or_default();
    let disturb = async {
        tokio::time::sleep(CALM).await;
        let parameters = DeleteParams { grace_period_seconds: grace, ..DeleteParams::default() };
        api.delete(&name, &parameters).await.with_context(|| format!("cannot delete pod {name}"))?;
        let begun = Instant::now();
        while begun.elapsed() < LONGEST {
            tokio::time::sleep(CALM / 4).await;
            let now = pods(look, labels).await?;
            let others = now.iter().filter(|pod| is_ready(pod) && pod.metadata.uid != meta.uid);
            if others.count() >= count && now.iter().all(|pod| pod.metadata.uid != meta.uid) {
                break;
            }
        }
        tokio::time::sleep(CALM).await;
        anyhow::Ok(())
    };
    let mut lost = Lost::default();
    tokio::pin!(disturb);
    let mut answered = Instant::now();
    loop {
        let request = async {
            let outcome = tokio::time::timeout(PATIENCE, target.plain()).await;
            tokio::time::sleep(PAUSE).await;
            matches!(outcome, Ok(Ok(())))
        };
        tokio::select! {
            ended = &mut disturb => {
                ended?;
                return Ok(lost);
            }
            is_answered = request => {
                lost.requests += 1;
                if is_answered {
                    lost.longest = lost.longest.max(answered.elapsed());
                    answered = Instant::now();
                } else {
                    lost.failed += 1;
                }
            }
        }
    }
}
