//! Nodes: whether they can announce.

use std::sync::Arc;

use k8s_openapi::api::core::v1::Node;
use landfall_model::{Findings, ObjectKey, ObjectRef, Problem};

use super::{EVERY_NODE_EXCLUDED, NODE_NOT_READY};
use crate::node::{EXCLUDE_LABEL, ExcludeLabel, Flaw, NodeFacts, read_node};

/// Judges the nodes.
pub(super) fn judge(nodes: &[Arc<Node>], exclude: ExcludeLabel) -> Findings {
    let facts: Vec<NodeFacts> = nodes.iter().map(|node| read_node(node, exclude)).collect();
    let mut findings = Findings::new();
    if facts.is_empty() {
        findings.unknown("nodes", "no node is known");
        return findings;
    }
    let mut problems: Vec<Problem> = Vec::new();
    for node in facts.iter().filter(|node| node.flaws.contains(&Flaw::NotReady)) {
        let about = ObjectRef::new("Node", ObjectKey::cluster(node.name.clone()));
        let problem = Problem::new(about, NODE_NOT_READY, "is not Ready, so addresses move away from it");
        problems.push(problem.remedy(format!("kubectl describe node {}", node.name)).warning());
    }
    if facts.iter().all(|node| node.flaws.contains(&Flaw::Excluded)) {
        let first = facts.first().map(|node| node.name.clone()).unwrap_or_default();
        let about = ObjectRef::new("Node", ObjectKey::cluster(first));
        let cause = if facts.len() == 1 {
            "the only node has the label that keeps load balancers off it, as kubeadm labels the control plane"
        } else {
            "every node has the label that keeps load balancers off it, as kubeadm labels the control plane"
        };
        let problem = Problem::new(about, EVERY_NODE_EXCLUDED, cause).at("metadata.labels", EXCLUDE_LABEL);
        let remedy = format!("kubectl label nodes --all {EXCLUDE_LABEL}-, or set lbAnnouncer.ignoreExcludeLabel=true");
        problems.push(problem.remedy(remedy).warning());
    }
    findings.all("nodes", problems, format!("{} nodes are Ready and may announce", facts.len()));
    findings
}
