//! Which nodes have a speaker, and what the speakers say of their nodes' networks.

use std::collections::{BTreeMap, BTreeSet};
use std::net::IpAddr;
use std::sync::Arc;

use k8s_openapi::api::core::v1::Pod;
use landfall_model::ObjectKey;

use crate::crd::ConfigurationState;
use crate::plan::TakenBy;
use crate::subnet::{self, SUBNETS, Subnet};

/// What the name of a speaker's `ConfigurationState` begins with; the node's name follows.
pub const STATE_PREFIX: &str = "speaker-";

/// How it is known which nodes have a speaker.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum SpeakerRule {
    /// Every node has one: a folder's nodes.
    EveryNode,
    /// Those that are seen to have one.
    Seen,
    /// Those that are seen to have one, as this node's own speaker sees them. While not even itself is among them, its
    /// view is not to be trusted, and every node counts.
    SeenFrom(Arc<str>),
}

/// The speakers.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Speakers {
    rule: SpeakerRule,
    pods: BTreeMap<ObjectKey, Arc<str>>,
    states: BTreeMap<Arc<str>, Vec<Subnet>>,
    own: BTreeMap<Arc<str>, Vec<Subnet>>,
    /// The nodes of pods and states.
    seen: BTreeSet<Arc<str>>,
}

impl Speakers {
    pub(crate) fn new(rule: SpeakerRule) -> Self {
        Self { rule, pods: BTreeMap::new(), states: BTreeMap::new(), own: BTreeMap::new(), seen: BTreeSet::new() }
    }

    /// The nodes that have one; `None`: all of them.
    pub fn nodes(&self) -> Option<&BTreeSet<Arc<str>>> {
        match &self.rule {
            SpeakerRule::EveryNode => None,
            SpeakerRule::Seen => Some(&self.seen),
            SpeakerRule::SeenFrom(me) => self.seen.contains(me).then_some(&self.seen),
        }
    }

    /// Whether the speaker of `node` has said what it is.
    pub fn has_state(&self, node: &str) -> bool {
        self.states.contains_key(node)
    }

    /// The subnets that the program itself sees on `node`.
    pub fn own_subnets(&self, node: &str) -> impl Iterator<Item = &Subnet> {
        self.own.get(node).into_iter().flatten()
    }

    /// A pod that has ended, or isn't on a node yet, is no speaker. One that isn't ready may well be: whether it is
    /// alive is decided by heartbeats.
    pub(crate) fn set_pod(&mut self, key: &ObjectKey, pod: Option<&Pod>) {
        let runs = |pod: &&Pod| {
            let phase = pod.status.as_ref().and_then(|s| s.phase.as_deref());
            !matches!(phase, Some("Succeeded" | "Failed"))
        };
        let node = pod.filter(runs).and_then(|pod| pod.spec.as_ref()?.node_name.as_deref());
        match node.filter(|node| !node.is_empty()) {
            Some(node) => drop(self.pods.insert(key.clone(), node.into())),
            None => drop(self.pods.remove(key)),
        }
        self.look();
    }

    pub(crate) fn clear_pods(&mut self) {
        self.pods.clear();
        self.look();
    }

    pub(crate) fn set_state(&mut self, key: &ObjectKey, state: Option<&ConfigurationState>) {
        let Some(node) = key.name().strip_prefix(STATE_PREFIX) else { return };
        match state {
            Some(state) => {
                let list = state.metadata.annotations.as_ref().and_then(|a| a.get(SUBNETS));
                let subnets = list.map(|list| Subnet::parse_list(list)).unwrap_or_default();
                self.states.insert(node.into(), subnets);
            }
            None => drop(self.states.remove(node)),
        }
        self.look();
    }

    pub(crate) fn clear_states(&mut self) {
        self.states.clear();
        self.look();
    }

    /// Says whether that is news.
    pub(crate) fn set_own_subnets(&mut self, node: &Arc<str>, subnets: Vec<Subnet>) -> bool {
        self.own.insert(node.clone(), subnets.clone()) != Some(subnets)
    }

    fn look(&mut self) {
        self.seen = self.pods.values().chain(self.states.keys()).cloned().collect();
    }

    /// What the subnets keep from being given.
    pub(crate) fn reserved(&self) -> BTreeMap<IpAddr, TakenBy> {
        let mut reserved = BTreeMap::new();
        for (node, subnet) in self.subnets() {
            reserved.extend(subnet.network().map(|ip| (ip, TakenBy::Network)));
            reserved.extend(subnet.broadcast().map(|ip| (ip, TakenBy::Broadcast)));
            reserved.insert(subnet.ip, TakenBy::Node(node.clone()));
        }
        reserved
    }

    /// What the subnets of these addresses of nodes may keep from being given, where no speaker has said how long
    /// their prefix is.
    pub(crate) fn doubtful(&self, nodes: impl Iterator<Item = IpAddr>) -> BTreeSet<IpAddr> {
        let unknown = nodes.filter(|ip| !self.subnets().any(|(_, subnet)| subnet.contains(*ip)));
        unknown.flat_map(subnet::doubtful).collect()
    }

    /// Single addresses are left out: where kube-proxy or somebody else binds Services' own addresses to an interface,
    /// they are among them.
    fn subnets(&self) -> impl Iterator<Item = (&Arc<str>, &Subnet)> {
        let theirs = self.states.iter().filter(|(node, _)| !self.own.contains_key(*node));
        let all = theirs.chain(&self.own);
        all.flat_map(|(node, subnets)| subnets.iter().map(move |s| (node, s))).filter(|(_, s)| !s.is_single())
    }
}
