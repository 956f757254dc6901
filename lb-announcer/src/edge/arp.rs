//! ARP on one interface (RFC 826, RFC 5227): Ethernet and IPv4 only.

use std::io;
use std::net::Ipv4Addr;

use pnet_base::MacAddr;

use super::filter::Program;
use super::packet::{Frames, PacketSocket};

const ETHERTYPE_ARP: u16 = 0x0806;
/// Hardware type Ethernet and protocol type IPv4, side by side.
const ETHERNET_IPV4: u32 = 0x0001_0800;
/// Six bytes of hardware address and four of protocol address.
const LENGTHS: u32 = 0x0604;
const REQUEST: u32 = 1;
const REPLY: u32 = 2;

/// Offsets into an Ethernet frame that carries ARP.
mod offset {
    pub(super) const ETHERTYPE: u32 = 12;
    pub(super) const TYPES: u32 = 14;
    pub(super) const LENGTHS: u32 = 18;
    pub(super) const OPERATION: u32 = 20;
    pub(super) const SENDER_IP: u32 = 28;
    pub(super) const TARGET_IP: u32 = 38;
}

/// A socket that sees the ARP requests and replies of one interface, and sends frames there.
///
/// It sees neither what the interface sent itself nor what is meant for other hosts.
pub struct ArpSocket {
    socket: PacketSocket,
}

impl ArpSocket {
    /// Opens the socket on the interface `ifindex` whose address is `mac`; needs `CAP_NET_RAW`.
    ///
    /// It sees every request and reply until [`ArpSocket::watch`] narrows it down.
    pub fn open(ifindex: u32, mac: MacAddr) -> io::Result<Self> {
        PacketSocket::open(ifindex, ETHERTYPE_ARP, &conditions(mac).accept()).map(|socket| Self { socket })
    }

    /// Sees from now on only frames whose sender or target address is one of `addresses`.
    ///
    /// Up to 500 addresses are compared in the kernel; with more every request and reply is seen. To be called again
    /// when the interface's address changes, since the filter also drops frames from `mac`.
    pub fn watch(&self, mac: MacAddr, addresses: &[Ipv4Addr]) -> io::Result<()> {
        self.watch_with(mac, addresses, &[])
    }

    /// The same, and also frames whose sender address is one of `senders`.
    pub fn watch_with(&self, mac: MacAddr, addresses: &[Ipv4Addr], senders: &[Ipv4Addr]) -> io::Result<()> {
        let bits = |addresses: &[Ipv4Addr]| addresses.iter().map(|address| address.to_bits()).collect::<Vec<u32>>();
        let (targets, mut claimed) = (bits(addresses), bits(addresses));
        claimed.extend(bits(senders));
        let places = [(offset::TARGET_IP, targets.as_slice()), (offset::SENDER_IP, claimed.as_slice())];
        self.socket.set_filter(&conditions(mac).accept_any(&places))
    }

    /// Sees from now on every request and reply.
    pub fn watch_all(&self, mac: MacAddr) -> io::Result<()> {
        self.socket.set_filter(&conditions(mac).accept())
    }

    /// The interface the socket is bound to.
    pub fn ifindex(&self) -> u32 {
        self.socket.ifindex()
    }

    /// Waits for frames and takes what is there, up to one batch. Safe to cancel.
    pub async fn recv(&self, frames: &mut Frames) -> io::Result<()> {
        self.socket.recv(frames).await
    }

    /// Takes what is there at this moment, up to one batch; fails with `WouldBlock` if it is nothing.
    pub fn try_recv(&self, frames: &mut Frames) -> io::Result<()> {
        self.socket.try_recv(frames)
    }

    /// Throws away what is queued and says how many frames that were.
    ///
    /// For a process that was stopped: what waited meanwhile is neither to be answered nor evidence of anything.
    pub fn discard(&self) -> io::Result<usize> {
        self.socket.discard()
    }

    /// Sends one whole Ethernet frame now; fails with `WouldBlock` when the interface's queue is full.
    pub fn send(&self, frame: &[u8]) -> io::Result<()> {
        self.socket.send(frame)
    }

    /// Sends one whole Ethernet frame, waiting while the interface's queue is full. Safe to cancel.
    pub async fn send_when_ready(&self, frame: &[u8]) -> io::Result<()> {
        self.socket.send_when_ready(frame).await
    }
}

fn conditions(mac: MacAddr) -> Program {
    Program::incoming(mac)
        .half(offset::ETHERTYPE, &[u32::from(ETHERTYPE_ARP)])
        .word(offset::TYPES, ETHERNET_IPV4)
        .half(offset::LENGTHS, &[LENGTHS])
        .half(offset::OPERATION, &[REQUEST, REPLY])
}
