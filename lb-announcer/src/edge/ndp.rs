//! Neighbour Discovery on one interface (RFC 4861): solicitations and advertisements as raw Ethernet frames.
//!
//! A packet socket and not a raw `ICMPv6` one, because the announced addresses are on no interface: the kernel drops a
//! unicast solicitation for them (which Neighbour Unreachability Detection sends) before any `ICMPv6` socket sees it.

use std::io;
use std::net::Ipv6Addr;

use pnet_base::MacAddr;

use super::filter::Program;
use super::packet::{Frames, PacketSocket};

const ETHERTYPE_IPV6: u16 = 0x86dd;
const NEXT_HEADER_ICMPV6: u32 = 58;
/// A neighbour message that a router forwarded has less (RFC 4861 section 7.1).
const HOP_LIMIT: u32 = 255;
const SOLICITATION: u32 = 135;
const ADVERTISEMENT: u32 = 136;

/// Offsets into an Ethernet frame that carries IPv6 without extension headers.
mod offset {
    pub(super) const ETHERTYPE: u32 = 12;
    pub(super) const NEXT_HEADER: u32 = 20;
    pub(super) const HOP_LIMIT: u32 = 21;
    pub(super) const ICMP_TYPE: u32 = 54;
    /// The last four bytes of the target address.
    pub(super) const TARGET_TAIL: u32 = 74;
}

/// A socket that sees the neighbour solicitations and advertisements of one interface, and sends frames there.
///
/// Multicast solicitations arrive only for groups that were joined: see [`Groups`](super::groups::Groups).
pub struct NdpSocket {
    socket: PacketSocket,
}

impl NdpSocket {
    /// Opens the socket on the interface `ifindex` whose address is `mac`; needs `CAP_NET_RAW`.
    ///
    /// It sees every neighbour message until [`NdpSocket::watch`] narrows it down.
    pub fn open(ifindex: u32, mac: MacAddr) -> io::Result<Self> {
        PacketSocket::open(ifindex, ETHERTYPE_IPV6, &conditions(mac).accept()).map(|socket| Self { socket })
    }

    /// Sees from now on only messages whose target may be one of `addresses`.
    ///
    /// The kernel compares the last 32 bits, of up to 500 addresses: the reader still has to look at the whole target.
    /// To be called again when the interface's address changes, since the filter also drops frames from `mac`.
    pub fn watch(&self, mac: MacAddr, addresses: &[Ipv6Addr]) -> io::Result<()> {
        let mut values: Vec<u32> = addresses.iter().map(tail).collect();
        values.sort_unstable();
        values.dedup();
        self.socket.set_filter(&conditions(mac).accept_any(&[(offset::TARGET_TAIL, values.as_slice())]))
    }

    /// Sees from now on every neighbour message.
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
    pub fn discard(&self) -> io::Result<usize> {
        self.socket.discard()
    }

    /// Sends one whole Ethernet frame now; fails with `WouldBlock` when the interface's queue is full.
    ///
    /// The source address needs not be on the interface: an advertisement may come from its own target.
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
        .half(offset::ETHERTYPE, &[u32::from(ETHERTYPE_IPV6)])
        .byte(offset::NEXT_HEADER, &[NEXT_HEADER_ICMPV6])
        .byte(offset::HOP_LIMIT, &[HOP_LIMIT])
        .byte(offset::ICMP_TYPE, &[SOLICITATION, ADVERTISEMENT])
}

/// The last 32 bits of an address.
fn tail(address: &Ipv6Addr) -> u32 {
    let [.., a, b, c, d] = address.octets();
    u32::from_be_bytes([a, b, c, d])
}
