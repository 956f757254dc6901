//! From a Service to its pods: why there is no endpoint, where that is so.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use k8s_openapi::api::apps::v1::Deployment;
use k8s_openapi::api::core::v1::{Container, Pod, Service, ServicePort};
use k8s_openapi::apimachinery::pkg::util::intstr::IntOrString;
use landfall_model::checkup::ailing;
use landfall_model::{Findings, ObjectKey, ObjectRef, Problem};

use super::labels::{has_all, text};
use super::{Facts, NO_MATCHING_PODS, PODS_NOT_READY, PortChoice, UNKNOWN_TARGET_PORT};

/// Pods that are named one by one; more are counted.
const NAMED: usize = 3;

/// Judges the pods behind the Services that Ingresses use.
pub(super) fn judge(facts: &Facts, users: &BTreeMap<ObjectKey, Vec<PortChoice>>) -> Findings {
    let mut findings = Findings::new();
    let Some(pods) = &facts.pods else {
        findings.unknown("endpoints", "the pods behind the Services were not looked at, since you may not list pods");
        return findings;
    };
    let mut problems = Vec::new();
    let mut looked_at = 0;
    for (key, ports) in users {
        let Some(service) = facts.service(key) else { continue };
        let selector = service.spec.as_ref().and_then(|spec| spec.selector.clone()).unwrap_or_default();
        if selector.is_empty() {
            continue;
        }
        looked_at += 1;
        let selected = selected(pods, key.namespace(), &selector);
        if selected.is_empty() {
            problems.push(no_pods(facts, key, &selector, pods));
            continue;
        }
        problems.extend(not_ready(key, &selected));
        for port in ports.iter().filter_map(|choice| port(service, choice)) {
            problems.extend(target(key, port, &selected));
        }
    }
    findings.all("endpoints", problems, format!("the pods behind {looked_at} Services that Ingresses use are Ready"));
    findings
}

/// The pods of a namespace that have these labels.
pub(super) fn selected<'a>(
    pods: &'a [Arc<Pod>],
    namespace: &str,
    selector: &BTreeMap<String, String>,
) -> Vec<&'a Arc<Pod>> {
    let here = |pod: &&Arc<Pod>| pod.metadata.namespace.as_deref() == Some(namespace);
    pods.iter().filter(here).filter(|pod| has_all(&pod.metadata, selector)).collect()
}

/// The port of the Service that an Ingress names.
pub(super) fn port<'a>(service: &'a Service, choice: &PortChoice) -> Option<&'a ServicePort> {
    let mut ports = service.spec.as_ref()?.ports.iter().flatten();
    ports.find(|port| match choice {
        PortChoice::Name(name) => port.name.as_ref() == Some(name),
        PortChoice::Number(number) => port.port == *number,
    })
}

fn no_pods(facts: &Facts, key: &ObjectKey, selector: &BTreeMap<String, String>, pods: &[Arc<Pod>]) -> Problem {
    let about = ObjectRef::new("Service", key.clone());
    if let Some(name) = idle(facts, key.namespace(), selector) {
        let cause = format!("selects no pod, since deployment {}/{name} is to have no replica", key.namespace());
        let remedy = format!("kubectl -n {} scale deployment {name} --replicas=1", key.namespace());
        let problem = Problem::new(about, NO_MATCHING_PODS, cause).at("spec.selector", text(selector));
        return problem.remedy(remedy);
    }
    let here = pods.iter().filter(|pod| pod.metadata.namespace.as_deref() == Some(key.namespace()));
    let labels = here.filter_map(|pod| pod.metadata.labels.as_ref());
    // What pods have under the names that are asked for is most likely what was meant.
    let near: BTreeSet<String> = labels
        .flat_map(|labels| selector.keys().filter_map(|name| Some(format!("{name}={}", labels.get(name)?))))
        .collect();
    let near: Vec<String> = near.into_iter().take(NAMED).collect();
    let hint = if near.is_empty() { String::new() } else { format!("; there are pods with {}", near.join(" and ")) };
    let cause = format!("selects no pod{hint}");
    let problem = Problem::new(about, NO_MATCHING_PODS, cause);
    let remedy = "make spec.selector equal to the labels in the template of the Deployment";
    problem.at("spec.selector", text(selector)).remedy(remedy)
}

fn not_ready(key: &ObjectKey, selected: &[&Arc<Pod>]) -> Vec<Problem> {
    let unwell = ailing(selected.iter().map(|pod| &***pod));
    let all = unwell.len() == selected.len();
    let more = unwell.len().saturating_sub(NAMED);
    let problem = |(pod, why): (ObjectKey, String)| {
        let more = if more > 0 { format!(", as {more} others") } else { String::new() };
        let cause = format!("gets no requests of service {key}{more}: {why}");
        let remedy = format!("kubectl -n {} describe pod {}", pod.namespace(), pod.name());
        let problem = Problem::new(ObjectRef::new("Pod", pod), PODS_NOT_READY, cause).remedy(remedy);
        if all { problem } else { problem.warning() }
    };
    unwell.into_iter().take(NAMED).map(problem).collect()
}

/// A Deployment of the namespace whose pods would have these labels, and which is to have none.
fn idle<'a>(facts: &'a Facts, namespace: &str, selector: &BTreeMap<String, String>) -> Option<&'a str> {
    let is_idle = |object: &&Arc<Deployment>| {
        let Some(spec) = object.spec.as_ref().filter(|spec| spec.replicas == Some(0)) else { return false };
        let template = spec.template.metadata.as_ref();
        object.metadata.namespace.as_deref() == Some(namespace) && template.is_some_and(|meta| has_all(meta, selector))
    };
    facts.deployments.iter().find(is_idle)?.metadata.name.as_deref()
}

fn target(key: &ObjectKey, port: &ServicePort, selected: &[&Arc<Pod>]) -> Option<Problem> {
    let containers = || selected.iter().filter_map(|pod| pod.spec.as_ref()).flat_map(|spec| &spec.containers);
    let ports = || containers().flat_map(|container: &Container| container.ports.iter().flatten());
    let about = || ObjectRef::new("Service", key.clone());
    let field = format!("spec.ports[{}].targetPort", port.name.clone().unwrap_or_else(|| port.port.to_string()));
    let declared: BTreeSet<String> = ports()
        .map(|port| match &port.name {
            Some(name) => format!("{name} ({})", port.container_port),
            None => port.container_port.to_string(),
        })
        .collect();
    let declared: Vec<String> = declared.into_iter().collect();
    match port.target_port.clone().unwrap_or(IntOrString::Int(port.port)) {
        IntOrString::String(name) => {
            if ports().any(|port| port.name.as_ref() == Some(&name)) {
                return None;
            }
            let cause = match declared.as_slice() {
                [] => "no container of the pods has a port of this name".to_owned(),
                some => format!("no container of the pods has a port of this name; they have {}", some.join(", ")),
            };
            let problem = Problem::new(about(), UNKNOWN_TARGET_PORT, cause).at(field, name);
            Some(problem.remedy("name a port of the containers, or write its number"))
        }
        IntOrString::Int(number) => {
            // Containers need not declare a port; whoever declares others most likely listens there.
            if declared.is_empty() || ports().any(|port| port.container_port == number) {
                return None;
            }
            let cause = format!("no container of the pods declares this port; they declare {}", declared.join(", "));
            let problem = Problem::new(about(), UNKNOWN_TARGET_PORT, cause).at(field, number.to_string());
            Some(problem.remedy("write the port that the container listens on").warning())
        }
    }
}
