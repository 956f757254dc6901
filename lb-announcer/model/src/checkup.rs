//! What `check` says of a cluster: facts in, findings out. What the objects of the announcer mean is [`crate::world`]'s
//! to say; here is what surrounds them.

mod addresses;
pub mod answers;
mod nodes;
mod proxy;
mod reach;
#[cfg(test)]
mod tests;

use std::sync::Arc;

use k8s_openapi::api::apps::v1::{DaemonSet, Deployment};
use k8s_openapi::api::core::v1::{ConfigMap, Namespace, Node, Pod, Service};
use landfall_model::checkup::{Role, Workloads, pod_security, rivals};
use landfall_model::{Findings, Reason};

use crate::crd::{ConfigurationState, ServiceL2Status};
use crate::speakers::SpeakerRule;
use crate::world::{Rules, World};

/// kube-proxy answers ARP for every address from every node.
pub const STRICT_ARP: Reason = Reason::new("StrictArp");
/// Every node has the label that keeps load balancers off it.
pub const EVERY_NODE_EXCLUDED: Reason = Reason::new("EveryNodeExcluded");
/// A node is not Ready.
pub const NODE_NOT_READY: Reason = Reason::new("NodeNotReady");
/// There is no pool.
pub const NO_POOL: Reason = Reason::new("NoPool");
/// A pool whose addresses are on no network of a node.
pub const POOL_OUTSIDE_SUBNETS: Reason = Reason::new("PoolOutsideSubnets");
/// An advertisement names an interface that no node has.
pub const UNKNOWN_INTERFACE: Reason = Reason::new("UnknownInterface");
/// A Service of another class.
pub const OTHER_CLASS: Reason = Reason::new("OtherClass");
/// A Service without the address that it should have had by now.
pub const NOT_ALLOCATED: Reason = Reason::new("NotAllocated");
/// An address of a pool that a host on the LAN answers for.
pub const ADDRESS_ANSWERS: Reason = Reason::new("AddressAnswers");

/// The reason codes that only `check` has.
pub const ALL: &[Reason] = &[
    STRICT_ARP,
    EVERY_NODE_EXCLUDED,
    NODE_NOT_READY,
    NO_POOL,
    POOL_OUTSIDE_SUBNETS,
    UNKNOWN_INTERFACE,
    OTHER_CLASS,
    NOT_ALLOCATED,
    ADDRESS_ANSWERS,
];

/// What was read of the cluster beside the objects of the [`World`].
#[derive(Clone, Debug, Default)]
pub struct Facts {
    /// The announcer's own namespace.
    pub namespace: String,
    /// The object of that name.
    pub own: Option<Arc<Namespace>>,
    /// kube-proxy's configuration, where it is in the place that kubeadm gives it.
    pub proxy: Option<Arc<ConfigMap>>,
    /// The nodes.
    pub nodes: Vec<Arc<Node>>,
    /// All Deployments.
    pub deployments: Vec<Arc<Deployment>>,
    /// All `DaemonSet`s.
    pub daemon_sets: Vec<Arc<DaemonSet>>,
    /// The pods in the announcer's own namespace.
    pub pods: Vec<Arc<Pod>>,
    /// All Services.
    pub services: Vec<Arc<Service>>,
    /// What speakers say of themselves.
    pub states: Vec<Arc<ConfigurationState>>,
    /// Which nodes announce which Services.
    pub statuses: Vec<Arc<ServiceL2Status>>,
}

impl Facts {
    /// The controller.
    pub fn controller(&self) -> Workloads<'_> {
        self.part("controller", "controller")
    }

    /// The speakers.
    pub fn speakers(&self) -> Workloads<'_> {
        self.part("speaker", "speaker")
    }

    /// How it is known which nodes have a speaker: before any is installed, every node may come to have one.
    pub fn speaker_rule(&self) -> SpeakerRule {
        let some = self.speakers().exists() || self.speakers().pods().next().is_some() || !self.states.is_empty();
        if some { SpeakerRule::Seen } else { SpeakerRule::EveryNode }
    }

    fn part(&self, part: &'static str, component: &'static str) -> Workloads<'_> {
        Workloads { part, component, deployments: &self.deployments, daemon_sets: &self.daemon_sets, pods: &self.pods }
    }

    /// What the cluster is like, whether or not the announcer is installed.
    pub fn platform(&self, rules: &Rules) -> Findings {
        let mut findings = pod_security(&self.namespace, self.own.as_deref());
        findings.extend(rivals(Role::LoadBalancer, &self.deployments, &self.daemon_sets));
        findings.extend(proxy::judge(self.proxy.as_deref(), &self.daemon_sets));
        findings.extend(nodes::judge(&self.nodes, rules.exclude));
        findings
    }

    /// How the announcer itself is.
    pub fn parts(&self) -> Findings {
        let mut findings = self.controller().judge();
        findings.extend(self.speakers().judge());
        findings
    }

    /// Pools, Services and their addresses: what the `world` says, and what it can't know.
    pub fn addresses(&self, world: &mut World, namespaces: &[String]) -> Findings {
        addresses::judge(self, world, namespaces)
    }
}
