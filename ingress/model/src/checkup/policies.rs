//! Network policies between the ingress and the pods that it sends to.
//!
//! What a policy means is the network plugin's to carry out; this is what the API says it should. A plugin that knows
//! no policies lets everything through.

use std::collections::BTreeMap;
use std::net::IpAddr;
use std::sync::Arc;

use ipnet::IpNet;
use k8s_openapi::api::core::v1::{Namespace, Pod};
use k8s_openapi::api::networking::v1::{NetworkPolicy, NetworkPolicyPeer, NetworkPolicyPort, NetworkPolicySpec};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::ObjectMeta;
use k8s_openapi::apimachinery::pkg::util::intstr::IntOrString;
use landfall_model::{Findings, ObjectKey, ObjectRef, Problem};

use super::backends::{port, selected};
use super::labels::selects;
use super::{BLOCKED_BY_POLICY, Facts, PortChoice};

/// Judges whether policies let the ingress reach the pods of each Service that Ingresses use.
pub(super) fn judge(facts: &Facts, users: &BTreeMap<ObjectKey, Vec<PortChoice>>) -> Findings {
    let mut findings = Findings::new();
    let Some(pods) = &facts.pods else { return findings };
    let Some(ingress) = facts.workloads().pods().next() else { return findings };
    let mut problems = Vec::new();
    for (key, ports) in users {
        let Some(service) = facts.service(key) else { continue };
        let selector = service.spec.as_ref().and_then(|spec| spec.selector.clone()).unwrap_or_default();
        let Some(pod) = (!selector.is_empty())
            .then(|| selected(pods, key.namespace(), &selector))
            .and_then(|pods| pods.first().copied())
        else {
            continue;
        };
        for port in ports.iter().filter_map(|choice| port(service, choice)) {
            let target = port.target_port.clone().unwrap_or(IntOrString::Int(port.port));
            let Some(number) = number(pod, &target) else { continue };
            problems.extend(incoming(facts, key, ingress, pod, number));
            problems.extend(outgoing(facts, key, ingress, pod, number));
        }
    }
    let count = facts.policies.len();
    findings.all(
        "policies",
        problems,
        format!("none of {count} NetworkPolicies keeps the ingress from the pods it sends to"),
    );
    findings
}

fn number(pod: &Pod, target: &IntOrString) -> Option<i32> {
    match target {
        IntOrString::Int(number) => Some(*number),
        IntOrString::String(name) => {
            let containers = pod.spec.as_ref()?.containers.iter();
            let mut ports = containers.flat_map(|container| container.ports.iter().flatten());
            ports.find(|port| port.name.as_ref() == Some(name)).map(|port| port.container_port)
        }
    }
}

/// The policies of a direction that select the pod.
fn of<'a>(facts: &'a Facts, pod: &Pod, direction: &str) -> Vec<(&'a NetworkPolicy, &'a NetworkPolicySpec)> {
    let here = facts.policies.iter().filter(|policy| policy.metadata.namespace == pod.metadata.namespace);
    let with_spec = here.filter_map(|policy| Some((&**policy, policy.spec.as_ref()?)));
    let applies = |(_, spec): &(&NetworkPolicy, &NetworkPolicySpec)| {
        let types = spec.policy_types.as_ref();
        // Without types, a policy is about what comes in, and about what goes out if it has such rules.
        let directed = match types {
            Some(types) => types.iter().any(|name| name == direction),
            None => direction == "Ingress" || spec.egress.is_some(),
        };
        directed && spec.pod_selector.as_ref().is_none_or(|selector| selects(selector, &pod.metadata))
    };
    with_spec.filter(applies).collect()
}

fn incoming(facts: &Facts, service: &ObjectKey, ingress: &Arc<Pod>, pod: &Arc<Pod>, port: i32) -> Option<Problem> {
    let policies = of(facts, pod, "Ingress");
    let allows = policies.iter().any(|(_, spec)| {
        spec.ingress
            .iter()
            .flatten()
            .any(|rule| reaches(facts, rule.from.as_deref(), ingress, pod) && admits(rule.ports.as_deref(), pod, port))
    });
    let (first, _) = policies.first().filter(|_| !allows)?;
    let namespace = &facts.namespace;
    let remedy = format!(
        "add a rule: ingress: [{{from: [{{namespaceSelector: {{matchLabels: {{kubernetes.io/metadata.name: {namespace}}}}}}}], \
         ports: [{{port: {port}}}]}}]"
    );
    let cause = format!("keeps the ingress in namespace {namespace} from port {port} of the pods of service {service}");
    Some(
        Problem::new(ObjectRef::new("NetworkPolicy", ObjectKey::of(&first.metadata)), BLOCKED_BY_POLICY, cause)
            .remedy(remedy),
    )
}

fn outgoing(facts: &Facts, service: &ObjectKey, ingress: &Arc<Pod>, pod: &Arc<Pod>, port: i32) -> Option<Problem> {
    let policies = of(facts, ingress, "Egress");
    let allows = policies.iter().any(|(_, spec)| {
        spec.egress
            .iter()
            .flatten()
            .any(|rule| reaches(facts, rule.to.as_deref(), pod, ingress) && admits(rule.ports.as_deref(), pod, port))
    });
    let (first, _) = policies.first().filter(|_| !allows)?;
    let cause = format!("lets the ingress send nothing to port {port} of the pods of service {service}");
    let problem =
        Problem::new(ObjectRef::new("NetworkPolicy", ObjectKey::of(&first.metadata)), BLOCKED_BY_POLICY, cause);
    Some(problem.remedy("allow egress to the namespaces of your apps, or leave Egress out of its policyTypes"))
}

/// Whether `peers` of a policy in the namespace of `owner` include the pod; none at all include everybody.
fn reaches(facts: &Facts, peers: Option<&[NetworkPolicyPeer]>, pod: &Pod, owner: &Pod) -> bool {
    let Some(peers) = peers.filter(|peers| !peers.is_empty()) else { return true };
    let namespace = pod.metadata.namespace.as_deref().unwrap_or_default();
    // The addresses of nodes are in no selector's reach.
    let in_node_network = pod.spec.as_ref().is_some_and(|spec| spec.host_network == Some(true));
    peers.iter().any(|peer| {
        if let Some(block) = &peer.ip_block {
            return address(pod).is_some_and(|ip| {
                let has = |text: &String| text.parse::<IpNet>().is_ok_and(|net| net.contains(&ip));
                has(&block.cidr) && !block.except.iter().flatten().any(has)
            });
        }
        let by_namespace = match &peer.namespace_selector {
            Some(selector) => selects(selector, &labels_of(facts, namespace)),
            None => owner.metadata.namespace == pod.metadata.namespace,
        };
        let by_pod = peer.pod_selector.as_ref().is_none_or(|selector| selects(selector, &pod.metadata));
        by_namespace && by_pod && !in_node_network
    })
}

/// The labels of a namespace, with the one that every namespace has.
fn labels_of(facts: &Facts, name: &str) -> ObjectMeta {
    let found =
        facts.namespaces.iter().find(|namespace: &&Arc<Namespace>| namespace.metadata.name.as_deref() == Some(name));
    let mut labels = found.and_then(|namespace| namespace.metadata.labels.clone()).unwrap_or_default();
    labels.entry("kubernetes.io/metadata.name".to_owned()).or_insert_with(|| name.to_owned());
    ObjectMeta { labels: Some(labels), ..ObjectMeta::default() }
}

fn address(pod: &Pod) -> Option<IpAddr> {
    pod.status.as_ref()?.pod_ip.as_deref()?.parse().ok()
}

/// Whether the ports of a rule include this one of the pod; none at all include every port.
fn admits(ports: Option<&[NetworkPolicyPort]>, pod: &Pod, wanted: i32) -> bool {
    let Some(ports) = ports.filter(|ports| !ports.is_empty()) else { return true };
    ports.iter().any(|rule| {
        if rule.protocol.as_deref().is_some_and(|protocol| protocol != "TCP") {
            return false;
        }
        let Some(target) = &rule.port else { return true };
        match (number(pod, target), rule.end_port) {
            (Some(first), Some(last)) => (first..=last).contains(&wanted),
            (Some(only), None) => only == wanted,
            (None, _) => false,
        }
    })
}
