//! Why no node announces an address that a Service has.

use std::collections::BTreeMap;
use std::net::IpAddr;
use std::sync::Arc;

use landfall_model::{ObjectKey, ObjectRef, Problem, Reason};
use pnet_base::MacAddr;
use serde::{Deserialize, Serialize};

use crate::reason;

/// The annotation of a speaker's `ConfigurationState` that holds what its node says of addresses that nobody announces:
/// a JSON object with an entry for each reason.
pub const SILENT: &str = "landfall.dev/silent";
/// An annotation may not be longer than 256 KiB in all.
const MOST: usize = 4_000;
const IPVS: &str = "kube-ipvs";

/// What one node says of an address that nobody announces.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Debug, Serialize, Deserialize)]
#[serde(tag = "why", rename_all = "camelCase")]
pub enum Silence {
    /// The node could announce it, but on none of these interfaces.
    NoInterface {
        /// What the node could use.
        usable: Vec<Arc<str>>,
    },
    /// The node has the address on an interface of its own, so its kernel answers for it.
    Own {
        /// The interface.
        interface: Arc<str>,
    },
    /// Another node answers for it and says that it doesn't announce it.
    Node {
        /// The other node.
        node: Arc<str>,
        /// With this MAC address.
        mac: String,
    },
    /// A host that is no node answers for it.
    Foreign {
        /// Its MAC address.
        mac: String,
    },
    /// The node leaves it to another one, which doesn't take it.
    Waits {
        /// The other node.
        node: Arc<str>,
    },
    /// The node is to announce it, and doesn't.
    Unknown,
}

impl Silence {
    /// Another node with this MAC address answers.
    pub fn node(node: Arc<str>, mac: MacAddr) -> Self {
        Self::Node { node, mac: mac.to_string() }
    }

    /// A foreign host with this MAC address answers.
    pub fn foreign(mac: MacAddr) -> Self {
        Self::Foreign { mac: mac.to_string() }
    }

    fn reason(&self) -> Reason {
        match self {
            Self::NoInterface { .. } => reason::NO_INTERFACE,
            Self::Own { .. } | Self::Node { .. } => reason::ADDRESS_ON_NODE,
            Self::Foreign { .. } => reason::ADDRESS_CONFLICT,
            Self::Waits { .. } | Self::Unknown => reason::NOT_ANNOUNCED,
        }
    }

    /// In words, as `speaker` says it.
    fn cause(&self, speaker: &str) -> String {
        match self {
            Self::NoInterface { usable } if usable.is_empty() => {
                format!("node {speaker} has no interface that can be used")
            }
            Self::NoInterface { usable } => {
                let usable = usable.join(", ");
                format!("node {speaker} has no interface that it may be announced on; it could use {usable}")
            }
            Self::Own { interface } => {
                format!(
                    "node {speaker} has the address on its interface {interface}, so the node itself answers for it"
                )
            }
            Self::Node { node, mac } => {
                format!("node {node} answers for it with MAC address {mac} though its speaker doesn't announce it")
            }
            Self::Foreign { mac } => format!("a host with MAC address {mac} answers for it, as node {speaker} sees"),
            Self::Waits { node } => format!("node {speaker} leaves it to node {node}"),
            Self::Unknown => format!("node {speaker} ought to announce it"),
        }
    }

    fn remedy(&self) -> &'static str {
        match self {
            Self::NoInterface { .. } => {
                "correct the speaker's --interface and --exclude-interface, or the interfaces of the L2Advertisement"
            }
            Self::Own { interface } if interface.starts_with(IPVS) => {
                "set strictARP to true in kube-proxy's configuration, as its mode IPVS needs, and restart kube-proxy"
            }
            Self::Own { .. } | Self::Node { .. } => {
                "remove the address from that node's interfaces (keepalived, kube-vip or a former load balancer may have \
                 left it there); where kube-proxy runs in mode IPVS, set its strictARP to true"
            }
            Self::Foreign { .. } => "give that host another address, or the Service",
            Self::Waits { .. } | Self::Unknown => "look at the log of that node's speaker",
        }
    }
}

/// What each node says of addresses that nobody announces.
pub type Said = BTreeMap<IpAddr, Silence>;

/// Writes what [`parse`] reads. Of very many addresses some are left out.
pub fn write(said: &Said) -> String {
    if said.is_empty() {
        return String::new();
    }
    let mut grouped: BTreeMap<&Silence, Vec<IpAddr>> = BTreeMap::new();
    for (ip, silence) in said.iter().take(MOST) {
        grouped.entry(silence).or_default().push(*ip);
    }
    let entries: Vec<Entry> =
        grouped.into_iter().map(|(silence, ips)| Entry { silence: silence.clone(), ips }).collect();
    serde_json::to_string(&entries).unwrap_or_default()
}

/// Reads what [`write()`] wrote; what can't be read says nothing.
pub fn parse(text: &str) -> Said {
    let entries: Vec<Entry> = serde_json::from_str(text).unwrap_or_default();
    entries.into_iter().flat_map(|entry| entry.ips.into_iter().map(move |ip| (ip, entry.silence.clone()))).collect()
}

#[derive(Serialize, Deserialize)]
struct Entry {
    #[serde(flatten)]
    silence: Silence,
    ips: Vec<IpAddr>,
}

/// The problem of a Service with an address that nobody announces, by what the nodes say.
pub fn problem<'a>(service: &ObjectKey, ip: IpAddr, said: impl Iterator<Item = (&'a str, &'a Silence)>) -> Problem {
    let about = ObjectRef::new("Service", service.clone());
    let mut said: Vec<(&str, &Silence)> = said.collect();
    // What tells most comes first.
    said.sort_by_key(|(node, silence)| (*silence, *node));
    let Some((_, first)) = said.first() else {
        let cause = format!("no node announces {ip}, and no speaker says why");
        return Problem::new(about, reason::NOT_ANNOUNCED, cause)
            .remedy("look at the speakers' pods, their logs and Events");
    };
    let causes: Vec<String> = said.iter().map(|(node, silence)| silence.cause(node)).collect();
    let problem = Problem::new(about, first.reason(), format!("no node announces {ip}: {}", causes.join("; ")));
    problem.at("status.loadBalancer.ingress", ip.to_string()).remedy(first.remedy())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_said_is_read_as_it_was_written() {
        let said = Said::from([
            ([10, 0, 0, 1].into(), Silence::NoInterface { usable: vec!["eth0".into()] }),
            ([10, 0, 0, 2].into(), Silence::Own { interface: "kube-ipvs0".into() }),
            ([10, 0, 0, 3].into(), Silence::node("n2".into(), MacAddr::new(2, 0, 0, 0, 0, 1))),
            ([10, 0, 0, 4].into(), Silence::foreign(MacAddr::new(2, 0, 0, 0, 0, 2))),
            ("fd00::1".parse().unwrap(), Silence::Waits { node: "n3".into() }),
            ("fd00::2".parse().unwrap(), Silence::Unknown),
        ]);
        assert_eq!(parse(&write(&said)), said);
        assert_eq!((write(&Said::new()), parse("")), (String::new(), Said::new()));
        assert!(parse("[{\"why\": \"what\", \"ips\": []}]").is_empty());
        let many = (0..65_536_u32).map(|i| (IpAddr::from(i.to_be_bytes()), Silence::Unknown)).collect();
        assert!(write(&many).len() < 128 * 1024);
    }

    #[test]
    fn a_problem_names_address_nodes_and_what_to_do() {
        let (own, waits) = (Silence::Own { interface: "kube-ipvs0".into() }, Silence::Waits { node: "n1".into() });
        let said = [("n2", &waits), ("n1", &own)];
        let problem = problem(&ObjectKey::new("shop", "web"), [10, 0, 0, 1].into(), said.into_iter());
        assert_eq!(problem.reason, reason::ADDRESS_ON_NODE);
        assert_eq!(
            problem.cause,
            "no node announces 10.0.0.1: node n1 has the address on its interface kube-ipvs0, so the node itself answers \
             for it; node n2 leaves it to node n1"
        );
        assert!(problem.remedy.contains("strictARP"), "{}", problem.remedy);
    }
}
