//! ARP over Ethernet (RFC 826, RFC 5227).

use std::net::Ipv4Addr;

use pnet_base::MacAddr;
use pnet_packet::Packet;
use pnet_packet::arp::{ArpHardwareTypes, ArpOperation, ArpOperations, ArpPacket, MutableArpPacket};
use pnet_packet::ethernet::{EtherTypes, EthernetPacket, MutableEthernetPacket};

/// Length of a frame: the least that Ethernet allows, without the checksum.
const FRAME: usize = 60;
const ETHERNET_HEADER: usize = EthernetPacket::minimum_packet_size();

/// What an ARP packet is.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Operation {
    /// Who has the target address?
    Request,
    /// The sender has the sender's address.
    Reply,
}

/// An ARP packet with the Ethernet addresses around it.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Arp {
    /// Ethernet source.
    pub source: MacAddr,
    /// Ethernet destination.
    pub destination: MacAddr,
    /// Request or reply.
    pub operation: Operation,
    /// The sender's MAC address.
    pub sender_mac: MacAddr,
    /// The sender's address; 0.0.0.0 in a probe.
    pub sender_ip: Ipv4Addr,
    /// The target's MAC address; ignored in a request.
    pub target_mac: MacAddr,
    /// The target's address.
    pub target_ip: Ipv4Addr,
}

impl Arp {
    /// Reads a frame; `None` if it isn't ARP for IPv4 over Ethernet.
    pub fn decode(frame: &[u8]) -> Option<Self> {
        let ethernet = EthernetPacket::new(frame)?;
        if ethernet.get_ethertype() != EtherTypes::Arp {
            return None;
        }
        let arp = ArpPacket::new(ethernet.payload())?;
        let form = (arp.get_hardware_type(), arp.get_protocol_type(), arp.get_hw_addr_len(), arp.get_proto_addr_len());
        if form != (ArpHardwareTypes::Ethernet, EtherTypes::Ipv4, 6, 4) {
            return None;
        }
        let operation = match arp.get_operation() {
            ArpOperations::Request => Operation::Request,
            ArpOperations::Reply => Operation::Reply,
            ArpOperation(_) => return None,
        };
        Some(Self {
            source: ethernet.get_source(),
            destination: ethernet.get_destination(),
            operation,
            sender_mac: arp.get_sender_hw_addr(),
            sender_ip: arp.get_sender_proto_addr(),
            target_mac: arp.get_target_hw_addr(),
            target_ip: arp.get_target_proto_addr(),
        })
    }

    /// Writes the frame.
    pub fn encode(&self) -> Vec<u8> {
        let mut frame = vec![0; FRAME];
        if let Some(mut ethernet) = MutableEthernetPacket::new(&mut frame) {
            ethernet.set_destination(self.destination);
            ethernet.set_source(self.source);
            ethernet.set_ethertype(EtherTypes::Arp);
        }
        if let Some(mut arp) = MutableArpPacket::new(&mut frame[ETHERNET_HEADER..]) {
            arp.set_hardware_type(ArpHardwareTypes::Ethernet);
            arp.set_protocol_type(EtherTypes::Ipv4);
            arp.set_hw_addr_len(6);
            arp.set_proto_addr_len(4);
            arp.set_operation(match self.operation {
                Operation::Request => ArpOperations::Request,
                Operation::Reply => ArpOperations::Reply,
            });
            arp.set_sender_hw_addr(self.sender_mac);
            arp.set_sender_proto_addr(self.sender_ip);
            arp.set_target_hw_addr(self.target_mac);
            arp.set_target_proto_addr(self.target_ip);
        }
        frame
    }

    /// A probe: asks who has `ip` without claiming it (RFC 5227 section 2.1.1).
    pub fn probe(mac: MacAddr, ip: Ipv4Addr) -> Self {
        Self { sender_ip: Ipv4Addr::UNSPECIFIED, ..Self::gratuitous_request(mac, ip) }
    }

    /// An ordinary request of the host `mac` with address `own` for `ip` (RFC 826). A router with proxy ARP may answer it
    /// where it leaves a probe alone, as Linux does.
    pub fn request(mac: MacAddr, own: Ipv4Addr, ip: Ipv4Addr) -> Self {
        Self { sender_ip: own, ..Self::gratuitous_request(mac, ip) }
    }

    /// An announcement as a request (RFC 5227 section 2.3), which every system takes.
    pub fn gratuitous_request(mac: MacAddr, ip: Ipv4Addr) -> Self {
        Self {
            source: mac,
            destination: MacAddr::broadcast(),
            operation: Operation::Request,
            sender_mac: mac,
            sender_ip: ip,
            target_mac: MacAddr::zero(),
            target_ip: ip,
        }
    }

    /// An announcement as a reply whose target is the sender.
    ///
    /// Linux ignores the form with a broadcast target MAC address in most cases.
    pub fn gratuitous_reply(mac: MacAddr, ip: Ipv4Addr) -> Self {
        Self { operation: Operation::Reply, target_mac: mac, ..Self::gratuitous_request(mac, ip) }
    }

    /// The answer to this request, saying that `mac` has the address.
    #[must_use]
    pub fn answer(&self, mac: MacAddr) -> Self {
        Self {
            source: mac,
            destination: self.sender_mac,
            operation: Operation::Reply,
            sender_mac: mac,
            sender_ip: self.target_ip,
            target_mac: self.sender_mac,
            target_ip: self.sender_ip,
        }
    }
}
