//! Neighbour solicitations and advertisements (RFC 4861), as whole Ethernet frames.

use std::net::Ipv6Addr;

use pnet_base::MacAddr;
use pnet_packet::Packet;
use pnet_packet::ethernet::{EtherTypes, EthernetPacket, MutableEthernetPacket};
use pnet_packet::icmpv6::ndp::NeighborAdvertFlags;
use pnet_packet::icmpv6::{Icmpv6Packet, Icmpv6Type, Icmpv6Types, MutableIcmpv6Packet, checksum};
use pnet_packet::ip::IpNextHeaderProtocols;
use pnet_packet::ipv6::{Ipv6Packet, MutableIpv6Packet};

const ETHERNET_HEADER: usize = EthernetPacket::minimum_packet_size();
const IPV6_HEADER: usize = 40;
/// Type, code, checksum, flags and target: what both messages have before their options.
const FIXED: usize = 24;
/// A link-layer address option.
const OPTION: usize = 8;
const SOURCE_OPTION: u8 = 1;
const TARGET_OPTION: u8 = 2;
/// RFC 4861 refuses anything that could have come through a router.
const HOP_LIMIT: u8 = 255;

/// A neighbour discovery message.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Ndp {
    /// Ethernet source.
    pub source_mac: MacAddr,
    /// Ethernet destination.
    pub destination_mac: MacAddr,
    /// IPv6 source; unspecified when an address is probed.
    pub source: Ipv6Addr,
    /// IPv6 destination.
    pub destination: Ipv6Addr,
    /// The address in question.
    pub target: Ipv6Addr,
    /// The link-layer address option.
    pub link_layer: Option<MacAddr>,
    /// Which message.
    pub message: Message,
}

/// Which of the two messages.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Message {
    /// Who has the target?
    Solicitation,
    /// The target has this link-layer address.
    Advertisement {
        /// It answers a solicitation, which confirms reachability.
        solicited: bool,
        /// It replaces what the receiver had cached.
        overrides: bool,
    },
}

/// The multicast group that `ip`'s owner listens on (RFC 4291 section 2.7.1).
pub fn solicited_node(ip: Ipv6Addr) -> Ipv6Addr {
    let [.., a, b, c] = ip.octets();
    Ipv6Addr::new(0xff02, 0, 0, 0, 0, 1, 0xff00 | u16::from(a), u16::from_be_bytes([b, c]))
}

/// Whether the address is such a group, of whatever address.
fn is_solicited_node(ip: Ipv6Addr) -> bool {
    matches!(ip.segments(), [0xff02, 0, 0, 0, 0, 1, high, _] if high >> 8 == 0xff)
}

/// The MAC address of a multicast group (RFC 2464 section 7).
pub fn multicast_mac(group: Ipv6Addr) -> MacAddr {
    let [.., a, b, c, d] = group.octets();
    MacAddr::new(0x33, 0x33, a, b, c, d)
}

/// Every node on the link.
pub const ALL_NODES: Ipv6Addr = Ipv6Addr::new(0xff02, 0, 0, 0, 0, 0, 0, 1);

impl Ndp {
    /// Reads a frame; `None` if it is neither message, or breaks a rule of RFC 4861 section 7.1.
    pub fn decode(frame: &[u8]) -> Option<Self> {
        let ethernet = EthernetPacket::new(frame)?;
        if ethernet.get_ethertype() != EtherTypes::Ipv6 {
            return None;
        }
        let ip = Ipv6Packet::new(ethernet.payload())?;
        let length = usize::from(ip.get_payload_length());
        let whole = ip.packet().get(IPV6_HEADER..IPV6_HEADER.checked_add(length)?)?;
        if ip.get_next_header() != IpNextHeaderProtocols::Icmpv6 || ip.get_hop_limit() != HOP_LIMIT || length < FIXED {
            return None;
        }
        let (source, destination) = (ip.get_source(), ip.get_destination());
        let icmp = Icmpv6Packet::new(whole)?;
        if icmp.get_icmpv6_code().0 != 0 || checksum(&icmp, &source, &destination) != icmp.get_checksum() {
            return None;
        }
        let flags = whole[4];
        let (message, option) = match icmp.get_icmpv6_type() {
            Icmpv6Types::NeighborSolicit => (Message::Solicitation, SOURCE_OPTION),
            Icmpv6Types::NeighborAdvert => {
                let solicited = flags & NeighborAdvertFlags::Solicited != 0;
                let overrides = flags & NeighborAdvertFlags::Override != 0;
                (Message::Advertisement { solicited, overrides }, TARGET_OPTION)
            }
            Icmpv6Type(_) => return None,
        };
        let target = Ipv6Addr::from(<[u8; 16]>::try_from(whole.get(8..FIXED)?).ok()?);
        if target.is_multicast() {
            return None;
        }
        let read = Self {
            source_mac: ethernet.get_source(),
            destination_mac: ethernet.get_destination(),
            source,
            destination,
            target,
            link_layer: link_layer(&whole[FIXED..], option)?,
            message,
        };
        read.is_valid().then_some(read)
    }

    /// What RFC 4861 sections 7.1.1 and 7.1.2 say of the addresses, and RFC 4291 section 2.7: a multicast address is
    /// never a source.
    fn is_valid(&self) -> bool {
        let source = !self.source.is_multicast() && self.source_mac.octets()[0] & 1 == 0;
        source
            && match self.message {
                // Without a source it is a probe: it asks the target's group, and has no link-layer address to tell.
                Message::Solicitation => {
                    !self.source.is_unspecified() || is_solicited_node(self.destination) && self.link_layer.is_none()
                }
                // "If the IP Destination Address is a multicast address the Solicited flag is zero."
                Message::Advertisement { solicited, .. } => !(solicited && self.destination.is_multicast()),
            }
    }

    /// Writes the frame.
    pub fn encode(&self) -> Vec<u8> {
        let length = FIXED + if self.link_layer.is_some() { OPTION } else { 0 };
        let mut frame = vec![0; ETHERNET_HEADER + IPV6_HEADER + length];
        let (kind, flags, option) = match self.message {
            Message::Solicitation => (Icmpv6Types::NeighborSolicit, 0, SOURCE_OPTION),
            Message::Advertisement { solicited, overrides } => {
                let solicited = if solicited { NeighborAdvertFlags::Solicited } else { 0 };
                let overrides = if overrides { NeighborAdvertFlags::Override } else { 0 };
                (Icmpv6Types::NeighborAdvert, solicited | overrides, TARGET_OPTION)
            }
        };
        let body = &mut frame[ETHERNET_HEADER + IPV6_HEADER..];
        body[4] = flags;
        body[8..FIXED].copy_from_slice(&self.target.octets());
        if let Some(mac) = self.link_layer {
            body[FIXED] = option;
            body[FIXED + 1] = 1;
            body[FIXED + 2..].copy_from_slice(&mac.octets());
        }
        if let Some(mut icmp) = MutableIcmpv6Packet::new(body) {
            icmp.set_icmpv6_type(kind);
            let sum = checksum(&icmp.to_immutable(), &self.source, &self.destination);
            icmp.set_checksum(sum);
        }
        if let Some(mut ip) = MutableIpv6Packet::new(&mut frame[ETHERNET_HEADER..]) {
            ip.set_version(6);
            ip.set_payload_length(u16::try_from(length).unwrap_or(0));
            ip.set_next_header(IpNextHeaderProtocols::Icmpv6);
            ip.set_hop_limit(HOP_LIMIT);
            ip.set_source(self.source);
            ip.set_destination(self.destination);
        }
        if let Some(mut ethernet) = MutableEthernetPacket::new(&mut frame) {
            ethernet.set_destination(self.destination_mac);
            ethernet.set_source(self.source_mac);
            ethernet.set_ethertype(EtherTypes::Ipv6);
        }
        frame
    }

    /// A probe: asks who has `ip` without claiming it (RFC 4862 section 5.4.2).
    pub fn probe(mac: MacAddr, ip: Ipv6Addr) -> Self {
        let group = solicited_node(ip);
        Self {
            source_mac: mac,
            destination_mac: multicast_mac(group),
            source: Ipv6Addr::UNSPECIFIED,
            destination: group,
            target: ip,
            link_layer: None,
            message: Message::Solicitation,
        }
    }

    /// An unsolicited advertisement, which moves caches that have another link-layer address.
    pub fn announcement(mac: MacAddr, ip: Ipv6Addr) -> Self {
        Self {
            source_mac: mac,
            destination_mac: multicast_mac(ALL_NODES),
            source: ip,
            destination: ALL_NODES,
            target: ip,
            link_layer: Some(mac),
            message: Message::Advertisement { solicited: false, overrides: true },
        }
    }

    /// The answer to this solicitation, saying that `mac` has the target.
    ///
    /// One without a source address is a probe, whose answer goes to everybody (RFC 4861 section 7.2.4). The
    /// answer to a unicast solicitation is what neighbour unreachability detection waits for.
    #[must_use]
    pub fn answer(&self, mac: MacAddr) -> Self {
        let probed = self.source.is_unspecified();
        let (destination, destination_mac) = if probed {
            (ALL_NODES, multicast_mac(ALL_NODES))
        } else {
            (self.source, self.link_layer.unwrap_or(self.source_mac))
        };
        Self {
            source_mac: mac,
            destination_mac,
            source: self.target,
            destination,
            target: self.target,
            link_layer: Some(mac),
            message: Message::Advertisement { solicited: !probed, overrides: true },
        }
    }
}

/// Finds the option; the outer `None` means that the options are malformed.
#[allow(clippy::option_option, reason = "malformed and absent are different things")]
fn link_layer(mut options: &[u8], wanted: u8) -> Option<Option<MacAddr>> {
    let mut found = None;
    while !options.is_empty() {
        let [kind, units, ..] = *options else { return None };
        let (option, rest) = options.split_at_checked(usize::from(units) * 8)?;
        if units == 0 {
            return None;
        }
        if kind == wanted
            && let [_, _, a, b, c, d, e, f] = *option
            // A group's address is no host's: to answer there would be to answer everybody.
            && a & 1 == 0
        {
            found = Some(MacAddr::new(a, b, c, d, e, f));
        }
        options = rest;
    }
    Some(found)
}
