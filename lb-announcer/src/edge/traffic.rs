//! TCP on its way in to some addresses of one interface: read while an address changes hands, and at no other time.

use std::io;
use std::net::IpAddr;

use pnet_base::MacAddr;

use super::filter::Program;
use super::packet::{Frames, PacketSocket};

const ETHERTYPE_IPV4: u32 = 0x0800;
const ETHERTYPE_IPV6: u32 = 0x86dd;
const TCP: u32 = 6;

/// Offsets into an Ethernet frame that carries IP.
mod offset {
    pub(super) const ETHERTYPE: u32 = 12;
    pub(super) const V4_PROTOCOL: u32 = 23;
    pub(super) const V4_DESTINATION: u32 = 30;
    pub(super) const V6_NEXT_HEADER: u32 = 20;
    /// The last four bytes of the destination.
    pub(super) const V6_DESTINATION_TAIL: u32 = 50;
}

/// The version of IP that a socket sees.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug)]
pub enum Family {
    /// IPv4.
    V4,
    /// IPv6 without extension headers.
    V6,
}

impl Family {
    /// The family of an address.
    pub fn of(ip: IpAddr) -> Self {
        if ip.is_ipv4() { Self::V4 } else { Self::V6 }
    }
}

/// A socket that sees the head of each TCP segment that comes in for the addresses it watches.
pub struct TrafficSocket {
    socket: PacketSocket,
    family: Family,
}

impl TrafficSocket {
    /// Opens the socket on the interface `ifindex` whose address is `mac`; needs `CAP_NET_RAW`.
    pub fn open(ifindex: u32, mac: MacAddr, family: Family, addresses: &[IpAddr]) -> io::Result<Self> {
        let ethertype = if family == Family::V4 { 0x0800 } else { 0x86dd };
        let socket = PacketSocket::open(ifindex, ethertype, &filter(mac, family, addresses))?;
        Ok(Self { socket, family })
    }

    /// Sees from now on what goes to these addresses; those of the other family don't count.
    ///
    /// Of IPv6 the kernel compares the last 32 bits, and of more than 500 addresses nothing: the reader has to look.
    pub fn watch(&self, mac: MacAddr, addresses: &[IpAddr]) -> io::Result<()> {
        self.socket.set_filter(&filter(mac, self.family, addresses))
    }

    /// The family it sees.
    pub fn family(&self) -> Family {
        self.family
    }

    /// Waits for frames and takes what is there, up to one batch. Safe to cancel.
    pub async fn recv(&self, frames: &mut Frames) -> io::Result<()> {
        self.socket.recv(frames).await
    }

    /// Takes what is there at this moment, up to one batch; fails with `WouldBlock` if it is nothing.
    pub fn try_recv(&self, frames: &mut Frames) -> io::Result<()> {
        self.socket.try_recv(frames)
    }
}

fn filter(mac: MacAddr, family: Family, addresses: &[IpAddr]) -> Vec<socket2::SockFilter> {
    let (ethertype, protocol, destination) = match family {
        Family::V4 => (ETHERTYPE_IPV4, offset::V4_PROTOCOL, offset::V4_DESTINATION),
        Family::V6 => (ETHERTYPE_IPV6, offset::V6_NEXT_HEADER, offset::V6_DESTINATION_TAIL),
    };
    let mut values: Vec<u32> = addresses.iter().filter(|ip| Family::of(**ip) == family).map(tail).collect();
    values.sort_unstable();
    values.dedup();
    Program::incoming(mac)
        .half(offset::ETHERTYPE, &[ethertype])
        .byte(protocol, &[TCP])
        .accept_any(&[(destination, values.as_slice())])
}

/// The last 32 bits of an address.
fn tail(ip: &IpAddr) -> u32 {
    match ip {
        IpAddr::V4(ip) => ip.to_bits(),
        IpAddr::V6(ip) => {
            let [.., a, b, c, d] = ip.octets();
            u32::from_be_bytes([a, b, c, d])
        }
    }
}
