//! The network interfaces of this host as netlink describes them.

mod message;
mod selection;
mod watch;

use std::collections::BTreeMap;

use ipnet::IpNet;
use pnet_base::MacAddr;

pub use selection::{DEFAULT_EXCLUSIONS, Refusal, Selection};
pub use watch::LinkWatch;

/// One network interface.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Link {
    /// The kernel's number for it; never used again for another interface of this namespace.
    pub ifindex: u32,
    /// Its name, which may change.
    pub name: String,
    /// Its Ethernet address; `None` for links that are not Ethernet.
    pub mac: Option<MacAddr>,
    /// Whether an administrator has turned it on (`IFF_UP`).
    pub up: bool,
    /// Whether it can carry frames: it has a carrier and its operational state is up or unknown (RFC 2863).
    pub carrier: bool,
    /// What kind of interface it is, where that matters here.
    pub traits: LinkTraits,
    /// The ifindex of the bond, bridge, team or VRF it belongs to.
    pub master: Option<u32>,
    /// The ifindex of the interface on whose segment it is: that of a macvlan, ipvlan or the like.
    pub lower: Option<u32>,
    /// Addresses with their prefixes, in ascending order, tentative ones included.
    pub addresses: Vec<IpNet>,
}

/// Properties of an interface that decide whether an address can be announced there.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
#[allow(clippy::struct_excessive_bools, reason = "these are the kernel's flags, each independent of the others")]
pub struct LinkTraits {
    /// `IFF_LOOPBACK`.
    pub loopback: bool,
    /// `IFF_NOARP`: neighbours are not resolved here.
    pub no_arp: bool,
    /// `IFF_BROADCAST`, which ARP needs.
    pub broadcast: bool,
    /// `IFF_MULTICAST`, which Neighbour Discovery needs.
    pub multicast: bool,
    /// A VRF device: its members are ordinary interfaces, unlike those of a bond or a bridge.
    pub vrf: bool,
}

/// All network interfaces of the namespace, by ifindex.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub struct Links(BTreeMap<u32, Link>);

impl Links {
    /// The interface with this ifindex.
    pub fn get(&self, ifindex: u32) -> Option<&Link> {
        self.0.get(&ifindex)
    }

    /// The interface with this name.
    pub fn named(&self, name: &str) -> Option<&Link> {
        self.iter().find(|link| link.name == name)
    }

    /// All of them, by ascending ifindex.
    pub fn iter(&self) -> impl Iterator<Item = &Link> {
        self.0.values()
    }
}

impl FromIterator<Link> for Links {
    fn from_iter<I: IntoIterator<Item = Link>>(links: I) -> Self {
        Self(links.into_iter().map(|link| (link.ifindex, link)).collect())
    }
}

/// What has happened to one interface.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum LinkEvent {
    /// It is new.
    Appeared(Link),
    /// Something about it is different: state, name, MAC, master or addresses.
    Changed {
        /// As it was reported last.
        before: Link,
        /// As it is.
        after: Link,
    },
    /// It is gone.
    Gone(Link),
}

impl LinkEvent {
    /// The event that leads from one description to another; `None` when they are equal.
    fn between(before: Option<&Link>, after: Option<&Link>) -> Option<Self> {
        match (before, after) {
            (None, Some(after)) => Some(Self::Appeared(after.clone())),
            (Some(before), None) => Some(Self::Gone(before.clone())),
            (Some(before), Some(after)) if before != after => {
                Some(Self::Changed { before: before.clone(), after: after.clone() })
            }
            _ => None,
        }
    }

    /// The interface it is about.
    pub fn ifindex(&self) -> u32 {
        match self {
            Self::Appeared(link) | Self::Gone(link) | Self::Changed { after: link, .. } => link.ifindex,
        }
    }
}
