//! Pods: which are ready, and why others aren't.

use std::sync::Arc;

use k8s_openapi::api::apps::v1::{DaemonSet, Deployment};
use k8s_openapi::api::core::v1::{ContainerStatus, Pod, PodStatus};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::ObjectMeta;

use super::NOT_RUNNING;
use crate::{Findings, ObjectKey, ObjectRef, Problem};

/// Whether the pod is Ready.
pub fn is_ready(pod: &Pod) -> bool {
    let status = pod.status.as_ref();
    status.is_some_and(|s| s.conditions.iter().flatten().any(|c| c.type_ == "Ready" && c.status == "True"))
}

/// Why a pod is not Ready, in words, with what its container said last.
pub fn why_not_ready(pod: &Pod) -> String {
    if pod.metadata.deletion_timestamp.is_some() {
        return "is being deleted".to_owned();
    }
    let Some(status) = &pod.status else { return "has no status yet".to_owned() };
    let containers = status.init_container_statuses.iter().chain(&status.container_statuses).flatten();
    if let Some(why) = containers.clone().find_map(stuck) {
        return why;
    }
    let scheduled = status.conditions.iter().flatten().find(|c| c.type_ == "PodScheduled" && c.status == "False");
    if let Some(message) = scheduled.and_then(|condition| condition.message.clone()) {
        return format!("is on no node: {message}");
    }
    if let Some(unready) = containers.clone().find(|container| !container.ready) {
        return format!("its container {} is not ready: look at its readiness probe and its log", unready.name);
    }
    phase(status)
}

fn stuck(container: &ContainerStatus) -> Option<String> {
    let waiting = container.state.as_ref()?.waiting.as_ref()?;
    let reason = waiting.reason.as_deref()?;
    if reason == "ContainerCreating" || reason == "PodInitializing" {
        return None;
    }
    let last = container.last_state.as_ref().and_then(|state| state.terminated.as_ref());
    let exit = last.map(|ended| format!(", last exit code {}", ended.exit_code)).unwrap_or_default();
    let message = waiting.message.as_deref().filter(|text| !text.is_empty());
    let message = message.map(|text| format!(": {text}")).unwrap_or_default();
    Some(format!("its container {} is in {reason}{exit}{message}", container.name))
}

fn phase(status: &PodStatus) -> String {
    let phase = status.phase.as_deref().unwrap_or("Unknown");
    let message = status.message.as_deref().filter(|text| !text.is_empty());
    format!("is {phase}{}", message.map(|text| format!(": {text}")).unwrap_or_default())
}

/// The pods that ought to be Ready and aren't, each with the reason; finished ones are left out.
pub fn ailing<'a>(pods: impl IntoIterator<Item = &'a Pod>) -> Vec<(ObjectKey, String)> {
    let lives = |pod: &&Pod| {
        let phase = pod.status.as_ref().and_then(|status| status.phase.as_deref());
        !matches!(phase, Some("Succeeded"))
    };
    let unwell = pods.into_iter().filter(lives).filter(|pod| !is_ready(pod));
    unwell.map(|pod| (ObjectKey::of(&pod.metadata), why_not_ready(pod))).collect()
}

/// The workloads and pods of one part of Landfall.
#[derive(Clone, Copy, Debug)]
pub struct Workloads<'a> {
    /// What the part is called, for example `ingress`.
    pub part: &'static str,
    /// The value of the label `app.kubernetes.io/component`.
    pub component: &'static str,
    /// All Deployments that are known.
    pub deployments: &'a [Arc<Deployment>],
    /// All `DaemonSet`s that are known.
    pub daemon_sets: &'a [Arc<DaemonSet>],
    /// All pods that are known.
    pub pods: &'a [Arc<Pod>],
}

impl<'a> Workloads<'a> {
    /// Whether an object of this part has these labels.
    pub fn owns(&self, meta: &ObjectMeta) -> bool {
        let label = |name: &str| meta.labels.as_ref().and_then(|labels| labels.get(name)).map(String::as_str);
        label("app.kubernetes.io/name") == Some("landfall")
            && label("app.kubernetes.io/component") == Some(self.component)
    }

    /// The pods of this part.
    pub fn pods(self) -> impl Iterator<Item = &'a Arc<Pod>> {
        self.pods.iter().filter(move |pod| self.owns(&pod.metadata))
    }

    /// Whether the part is installed.
    pub fn exists(&self) -> bool {
        let deployment = self.deployments.iter().any(|object| self.owns(&object.metadata));
        deployment || self.daemon_sets.iter().any(|object| self.owns(&object.metadata))
    }

    /// Judges whether it runs, and where it doesn't, why.
    pub fn judge(&self) -> Findings {
        let mut findings = Findings::new();
        if !self.exists() {
            findings.unknown(
                "pods",
                format!("no {} is seen here: none is installed yet, or you may not list it", self.part),
            );
            return findings;
        }
        let mut problems = Vec::new();
        for object in self.deployments.iter().filter(|object| self.owns(&object.metadata)) {
            let wanted = object.spec.as_ref().and_then(|spec| spec.replicas).unwrap_or(1);
            let ready = object.status.as_ref().and_then(|status| status.ready_replicas).unwrap_or(0);
            let failure = object.status.iter().flat_map(|status| status.conditions.iter().flatten());
            let mut failure = failure.filter(|c| c.type_ == "ReplicaFailure" && c.status == "True");
            let failure = failure.find_map(|c| c.message.clone());
            problems.extend(lacking("Deployment", &object.metadata, (wanted, ready), failure));
        }
        for object in self.daemon_sets.iter().filter(|object| self.owns(&object.metadata)) {
            let status = object.status.clone().unwrap_or_default();
            problems.extend(lacking(
                "DaemonSet",
                &object.metadata,
                (status.desired_number_scheduled, status.number_ready),
                None,
            ));
        }
        for (key, why) in ailing(self.pods().map(|pod| &**pod)) {
            let remedy = format!("kubectl -n {} describe pod {}", key.namespace(), key.name());
            problems.push(Problem::new(ObjectRef::new("Pod", key), NOT_RUNNING, why).remedy(remedy));
        }
        let ready = self.pods().filter(|pod| is_ready(pod)).count();
        findings.all("pods", problems, format!("{}: {ready} pods run and are ready", self.part));
        findings
    }
}

fn lacking(kind: &'static str, meta: &ObjectMeta, (wanted, ready): (i32, i32), why: Option<String>) -> Option<Problem> {
    let failed = why.is_some();
    if ready >= wanted && !failed && wanted > 0 {
        return None;
    }
    let cause = match (why, wanted) {
        (Some(why), _) => format!("{ready} of {wanted} pods are ready: {why}"),
        (None, 0) => "it is to run on no node or in no replica".to_owned(),
        (None, _) => format!("{ready} of {wanted} pods are ready"),
    };
    let key = ObjectKey::of(meta);
    let remedy = format!("kubectl -n {} describe {} {}", key.namespace(), kind.to_lowercase(), key.name());
    let problem = Problem::new(ObjectRef::new(kind, key), NOT_RUNNING, cause).remedy(remedy);
    Some(if ready > 0 && !failed { problem.warning() } else { problem })
}

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};

    use super::*;

    fn pod(status: &Value) -> Pod {
        let labels = json!({"app.kubernetes.io/name": "landfall", "app.kubernetes.io/component": "speaker"});
        let object =
            json!({"metadata": {"name": "p", "namespace": "landfall-system", "labels": labels}, "status": status});
        serde_json::from_value(object).expect("a Pod")
    }

    #[test]
    fn a_pod_says_why_it_is_not_ready() {
        let waiting = |reason: &str, message: &str| {
            json!({"containerStatuses": [{"name": "main", "ready": false,
            "restartCount": 1, "image": "", "imageID": "", "state": {"waiting": {"reason": reason, "message": message}},
            "lastState": {"terminated": {"exitCode": 2}}}]})
        };
        let rows = [
            (waiting("CrashLoopBackOff", ""), "CrashLoopBackOff, last exit code 2"),
            (waiting("ImagePullBackOff", "no such tag"), "no such tag"),
            (waiting("ContainerCreating", ""), "container main is not ready"),
            (json!({"conditions": [{"type": "PodScheduled", "status": "False", "message": "0/3 nodes"}]}), "0/3 nodes"),
            (json!({"phase": "Failed", "message": "evicted"}), "is Failed: evicted"),
        ];
        for (status, part) in rows {
            let pod = pod(&status);
            assert!(!is_ready(&pod));
            assert!(why_not_ready(&pod).contains(part), "{part}: {}", why_not_ready(&pod));
        }
        assert!(is_ready(&pod(&json!({"conditions": [{"type": "Ready", "status": "True"}]}))));
    }

    #[test]
    fn a_part_that_runs_nowhere_is_wrong_and_one_that_is_not_there_is_not() {
        let labels = json!({"app.kubernetes.io/name": "landfall", "app.kubernetes.io/component": "speaker"});
        let set = |wanted: i32, ready: i32| -> Arc<DaemonSet> {
            let object = json!({"metadata": {"name": "landfall-speaker", "namespace": "landfall-system", "labels": labels},
                "status": {"desiredNumberScheduled": wanted, "numberReady": ready, "currentNumberScheduled": ready,
                           "numberMisscheduled": 0}});
            Arc::new(serde_json::from_value(object).expect("a DaemonSet"))
        };
        let judge = |sets: &[Arc<DaemonSet>]| {
            Workloads { part: "speaker", component: "speaker", deployments: &[], daemon_sets: sets, pods: &[] }.judge()
        };
        assert_eq!(judge(&[]).problems().count(), 0);
        assert_eq!(judge(&[set(3, 3)]).problems().count(), 0);
        assert!(judge(&[set(3, 0)]).fails());
        assert!(judge(&[set(0, 0)]).fails());
        let some = judge(&[set(3, 2)]);
        assert!(!some.fails() && some.problems().count() == 1, "two of three announce well enough");
    }
}
