//! What a netlink message says about one interface.

use std::collections::btree_map::Entry;

use ipnet::IpNet;
use pnet_base::MacAddr;
use rtnetlink::packet_route::address::{AddressAttribute, AddressMessage};
use rtnetlink::packet_route::link::{InfoKind, LinkAttribute, LinkFlags, LinkInfo, LinkLayerType, LinkMessage};
use rtnetlink::packet_route::{AddressFamily, RouteNetlinkMessage};

use super::{Link, LinkTraits, Links};

impl Links {
    /// Takes in one notification; returns the ifindex of the interface it may have changed.
    pub(super) fn apply(&mut self, message: RouteNetlinkMessage) -> Option<u32> {
        match message {
            RouteNetlinkMessage::NewLink(message) => self.set_link(message),
            RouteNetlinkMessage::DelLink(message) => {
                // A port that leaves a bridge is reported as deleted too, in the bridge's own address family.
                let whole = message.header.interface_family == AddressFamily::Unspec;
                whole.then(|| self.0.remove(&message.header.index)).flatten().map(|link| link.ifindex)
            }
            RouteNetlinkMessage::NewAddress(message) => self.edit_address(message, |addresses, address| {
                if let Err(place) = addresses.binary_search(&address) {
                    addresses.insert(place, address);
                }
            }),
            RouteNetlinkMessage::DelAddress(message) => self.edit_address(message, |addresses, address| {
                addresses.retain(|present| *present != address);
            }),
            _ => None,
        }
    }

    fn set_link(&mut self, message: LinkMessage) -> Option<u32> {
        let mut link = link(message)?;
        let ifindex = link.ifindex;
        match self.0.entry(ifindex) {
            Entry::Vacant(entry) => {
                entry.insert(link);
            }
            Entry::Occupied(mut entry) => {
                link.addresses = std::mem::take(&mut entry.get_mut().addresses);
                entry.insert(link);
            }
        }
        Some(ifindex)
    }

    fn edit_address(&mut self, message: AddressMessage, edit: impl FnOnce(&mut Vec<IpNet>, IpNet)) -> Option<u32> {
        let (ifindex, address) = address(message)?;
        edit(&mut self.0.get_mut(&ifindex)?.addresses, address);
        Some(ifindex)
    }
}

/// Reads a description of a link; `None` for messages that describe only a part of one.
///
/// Bridges report their ports in their own address family, and wireless drivers report events without a name.
fn link(message: LinkMessage) -> Option<Link> {
    if message.header.interface_family != AddressFamily::Unspec {
        return None;
    }
    let ethernet = message.header.link_layer_type == LinkLayerType::Ether;
    let (mut name, mut mac, mut master, mut vrf) = (None, None, None, false);
    let (mut lower, mut shares) = (None, false);
    for attribute in message.attributes {
        match attribute {
            LinkAttribute::IfName(text) => name = Some(text),
            LinkAttribute::Address(bytes) => mac = <[u8; 6]>::try_from(bytes).ok().map(MacAddr::from),
            LinkAttribute::Controller(ifindex) => master = (ifindex != 0).then_some(ifindex),
            LinkAttribute::Link(ifindex) => lower = (ifindex != 0).then_some(ifindex),
            LinkAttribute::LinkInfo(infos) => {
                vrf = infos.contains(&LinkInfo::Kind(InfoKind::Vrf));
                // A VLAN has a lower interface too, and is another segment.
                let same_segment = [InfoKind::MacVlan, InfoKind::MacVtap, InfoKind::IpVlan, InfoKind::IpVtap];
                shares = same_segment.into_iter().any(|kind| infos.contains(&LinkInfo::Kind(kind)));
            }
            _ => {}
        }
    }
    let flags = message.header.flags;
    Some(Link {
        ifindex: message.header.index,
        name: name?,
        mac: mac.filter(|_| ethernet),
        up: flags.contains(LinkFlags::Up),
        // Running stands for the operational state, which also knows of 802.1X and of the lower device.
        carrier: flags.contains(LinkFlags::LowerUp | LinkFlags::Running),
        traits: LinkTraits {
            loopback: flags.contains(LinkFlags::Loopback),
            no_arp: flags.contains(LinkFlags::Noarp),
            broadcast: flags.contains(LinkFlags::Broadcast),
            multicast: flags.contains(LinkFlags::Multicast),
            vrf,
        },
        master,
        lower: lower.filter(|_| shares),
        addresses: Vec::new(),
    })
}

/// Reads the interface's own address; on a point-to-point link the other attribute is the peer's.
fn address(message: AddressMessage) -> Option<(u32, IpNet)> {
    let (mut local, mut other) = (None, None);
    for attribute in message.attributes {
        match attribute {
            AddressAttribute::Local(address) => local = Some(address),
            AddressAttribute::Address(address) => other = Some(address),
            _ => {}
        }
    }
    let address = IpNet::new(local.or(other)?, message.header.prefix_len).ok()?;
    Some((message.header.index, address))
}
