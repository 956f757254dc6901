//! Which nodes have a speaker, and what the speakers say of their nodes' networks.

use std::collections::{BTreeMap, BTreeSet};
use std::net::IpAddr;
use std::sync::Arc;

use k8s_openapi::api::core::v1::{Pod, PodStatus};
use landfall_model::ObjectKey;

use crate::announcer::{Presence, Unheard};
use crate::crd::ConfigurationState;
use crate::plan::TakenBy;
use crate::silence::{self, SILENT, Said};
use crate::subnet::{self, SUBNETS, Subnet};
use crate::wire::MacAddr;

/// What the name of a speaker's `ConfigurationState` begins with; the node's name follows.
pub const STATE_PREFIX: &str = "speaker-";

/// The annotation of a speaker's `ConfigurationState` that holds its node's interfaces with their MAC addresses.
pub const INTERFACES: &str = "landfall.dev/interfaces";
/// The annotation that holds the nodes whose heartbeats don't arrive, each with the reason.
pub const UNHEARD: &str = "landfall.dev/unheard";

/// Writes `eth0=02:00:00:00:00:01,eth1=02:00:00:00:00:02`.
pub fn write_interfaces<'a>(interfaces: impl Iterator<Item = (&'a str, MacAddr)>) -> String {
    let all: BTreeSet<String> = interfaces.map(|(name, mac)| format!("{name}={mac}")).collect();
    all.into_iter().collect::<Vec<_>>().join(",")
}

/// Reads what [`write_interfaces`] wrote; what can't be read is left out.
fn parse_interfaces(text: &str) -> BTreeSet<MacAddr> {
    text.split(',').filter_map(|entry| entry.rsplit_once('=')?.1.parse().ok()).collect()
}

/// Writes `node-2=Blocked,node-3=OtherKey`.
pub fn write_unheard(unheard: &BTreeMap<Arc<str>, Unheard>) -> String {
    unheard.iter().map(|(node, why)| format!("{node}={}", why.as_str())).collect::<Vec<_>>().join(",")
}

fn parse_unheard(text: &str) -> BTreeMap<Arc<str>, Unheard> {
    let entry = |entry: &str| {
        let (node, why) = entry.rsplit_once('=')?;
        Some((node.into(), Unheard::parse(why)?))
    };
    text.split(',').filter_map(entry).collect()
}

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
    /// What each speaker said last of its interfaces; kept when it leaves, since its process may live on.
    macs: BTreeMap<Arc<str>, BTreeSet<MacAddr>>,
    /// Whom each speaker doesn't hear, and why.
    unheard: BTreeMap<Arc<str>, BTreeMap<Arc<str>, Unheard>>,
    /// What each says of addresses that nobody announces.
    silent: BTreeMap<Arc<str>, Said>,
    /// The speakers' pods that are Ready.
    ready: BTreeSet<ObjectKey>,
    own: BTreeMap<Arc<str>, Vec<Subnet>>,
    /// The nodes of pods and states.
    seen: BTreeSet<Arc<str>>,
}

impl Speakers {
    pub(crate) fn new(rule: SpeakerRule) -> Self {
        Self {
            rule,
            pods: BTreeMap::new(),
            states: BTreeMap::new(),
            macs: BTreeMap::new(),
            unheard: BTreeMap::new(),
            silent: BTreeMap::new(),
            ready: BTreeSet::new(),
            own: BTreeMap::new(),
            seen: BTreeSet::new(),
        }
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

    /// The MAC addresses that the speaker of `node` has published.
    pub fn macs(&self, node: &str) -> BTreeSet<MacAddr> {
        self.macs.get(node).cloned().unwrap_or_default()
    }

    /// Whether a speaker has published the MAC address as its node's.
    pub fn is_nodes_own(&self, mac: MacAddr) -> bool {
        self.macs.values().any(|macs| macs.contains(&mac))
    }

    /// Whom each speaker doesn't hear though it ought to, as it says itself.
    pub fn unheard(&self) -> &BTreeMap<Arc<str>, BTreeMap<Arc<str>, Unheard>> {
        &self.unheard
    }

    /// What each speaker says of addresses that nobody announces.
    pub fn silent(&self) -> &BTreeMap<Arc<str>, Said> {
        &self.silent
    }

    /// Whether the speaker of `node` runs: its pod is Ready; one that is no pod has said so itself.
    pub fn presence(&self, node: &str) -> Presence {
        if self.rule == SpeakerRule::EveryNode {
            return Presence::Unknown;
        }
        let mut pods = self.pods.iter().filter(|(_, on)| &***on == node).peekable();
        let runs = if pods.peek().is_some() {
            pods.any(|(key, _)| self.ready.contains(key))
        } else {
            self.states.contains_key(node)
        };
        if runs { Presence::Ready } else { Presence::Absent }
    }

    /// The networks that `node` is on, as its speaker says; none where no speaker has said.
    pub fn networks(&self, node: &str) -> impl Iterator<Item = &Subnet> {
        self.states.get(node).into_iter().flatten().filter(|subnet| !subnet.is_single())
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
        let condition =
            |status: &PodStatus| status.conditions.iter().flatten().any(|c| c.type_ == "Ready" && c.status == "True");
        if pod.and_then(|pod| pod.status.as_ref()).is_some_and(condition) {
            self.ready.insert(key.clone());
        } else {
            self.ready.remove(key);
        }
        match node.filter(|node| !node.is_empty()) {
            Some(node) => drop(self.pods.insert(key.clone(), node.into())),
            None => drop(self.pods.remove(key)),
        }
        self.look();
    }

    pub(crate) fn clear_pods(&mut self) {
        self.pods.clear();
        self.ready.clear();
        self.look();
    }

    pub(crate) fn set_state(&mut self, key: &ObjectKey, state: Option<&ConfigurationState>) {
        let Some(node) = key.name().strip_prefix(STATE_PREFIX) else { return };
        if let Some(state) = state {
            let said = |name| state.metadata.annotations.as_ref().and_then(|a| a.get(name)).map(String::as_str);
            let subnets = said(SUBNETS).map(Subnet::parse_list).unwrap_or_default();
            self.states.insert(node.into(), subnets);
            if let Some(list) = said(INTERFACES) {
                self.macs.insert(node.into(), parse_interfaces(list));
            }
            self.unheard.insert(node.into(), said(UNHEARD).map(parse_unheard).unwrap_or_default());
            self.silent.insert(node.into(), said(SILENT).map(silence::parse).unwrap_or_default());
        } else {
            self.states.remove(node);
            self.unheard.remove(node);
            self.silent.remove(node);
        }
        self.look();
    }

    pub(crate) fn clear_states(&mut self) {
        self.states.clear();
        self.unheard.clear();
        self.silent.clear();
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_a_speaker_says_of_itself_is_read_as_it_was_written() {
        let (a, b) = (MacAddr::new(2, 0, 0, 0, 0, 1), MacAddr::new(2, 0, 0, 0, 0, 2));
        let text = write_interfaces([("eth1", b), ("eth0", a)].into_iter());
        assert_eq!(text, "eth0=02:00:00:00:00:01,eth1=02:00:00:00:00:02");
        assert_eq!(parse_interfaces(&text), BTreeSet::from([a, b]));
        assert!(parse_interfaces("eth0,eth1=,=x,02:00:00:00:00:01").is_empty());
        let unheard = BTreeMap::from([
            (Arc::from("n2"), Unheard::Blocked),
            (Arc::from("n3"), Unheard::OtherKey),
            (Arc::from("n4.example"), Unheard::NotReached),
        ]);
        assert_eq!(parse_unheard(&write_unheard(&unheard)), unheard);
        assert!(parse_unheard(",n2,n3=What").is_empty());
    }
}
