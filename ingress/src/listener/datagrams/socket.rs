//! The socket of a UDP port: datagrams with the address that they were sent to.
//!
//! A socket for all addresses of a host would answer from whichever the kernel likes best, and clients drop what comes
//! from another address than they asked.

use std::cell::RefCell;
use std::io::{self, IoSlice, IoSliceMut};
use std::net::{IpAddr, Ipv6Addr, SocketAddr, SocketAddrV6};
use std::os::fd::AsRawFd;

use nix::cmsg_space;
use nix::libc::{in_addr, in_pktinfo, in6_addr, in6_pktinfo};
use nix::sys::socket::{ControlMessage, ControlMessageOwned, MsgFlags, SockaddrStorage, recvmsg, sendmsg};
use tokio::io::Interest;
use tokio::net::UdpSocket;

/// The largest datagram (RFC 768).
const LARGEST: usize = 65_535;

thread_local! {
    /// One for all sockets of a worker, which reads one at a time.
    static BUFFER: RefCell<Vec<u8>> = RefCell::new(vec![0; LARGEST]);
}

/// Lends the buffer of this worker.
pub(super) fn with_buffer<T>(work: impl FnOnce(&mut [u8]) -> T) -> T {
    BUFFER.with(|buffer| match buffer.try_borrow_mut() {
        Ok(mut buffer) => work(&mut buffer),
        // Nobody lends it while it is lent; if somebody did, another one does as well.
        Err(_) => work(&mut vec![0; LARGEST]),
    })
}

/// Who sent a datagram, and to which address.
#[derive(Clone, PartialEq, Eq, Hash, Debug)]
pub(super) struct Origin {
    pub(super) client: SocketAddr,
    local: Option<Local>,
}

/// An address of this host, with the index of its interface where that belongs to it.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
struct Local {
    address: IpAddr,
    interface: u32,
}

/// A socket that many clients send to.
#[derive(Debug)]
pub(super) struct PortSocket(UdpSocket);

impl PortSocket {
    pub(super) fn new(socket: UdpSocket) -> Self {
        Self(socket)
    }

    pub(super) async fn readable(&self) -> io::Result<()> {
        self.0.readable().await
    }

    /// The next datagram, if there is one.
    pub(super) fn receive(&self, buffer: &mut [u8]) -> io::Result<(usize, Origin)> {
        self.0.try_io(Interest::READABLE, || {
            let mut space = cmsg_space!(in_pktinfo, in6_pktinfo);
            let mut slices = [IoSliceMut::new(buffer)];
            let flags = MsgFlags::MSG_DONTWAIT;
            let message = recvmsg::<SockaddrStorage>(self.0.as_raw_fd(), &mut slices, Some(&mut space), flags)?;
            let client = message.address.as_ref().and_then(address_of);
            let client = client.ok_or_else(|| io::Error::other("a datagram from nowhere"))?;
            let local = message.cmsgs().ok().into_iter().flatten().find_map(|control| match control {
                ControlMessageOwned::Ipv4PacketInfo(info) => {
                    Some(Local { address: IpAddr::from(info.ipi_spec_dst.s_addr.to_ne_bytes()), interface: 0 })
                }
                ControlMessageOwned::Ipv6PacketInfo(info) => {
                    let address = Ipv6Addr::from(info.ipi6_addr.s6_addr);
                    let interface = if address.is_unicast_link_local() { info.ipi6_ifindex } else { 0 };
                    Some(Local { address: address.into(), interface })
                }
                _ => None,
            });
            Ok((message.bytes, Origin { client, local }))
        })
    }

    /// Sends a datagram to a client, from the address that it had sent to.
    pub(super) fn reply(&self, data: &[u8], origin: &Origin) -> io::Result<()> {
        let (v4, v6);
        let control = match origin.local {
            Some(Local { address: IpAddr::V4(address), .. }) => {
                let from = in_addr { s_addr: u32::from_ne_bytes(address.octets()) };
                v4 = in_pktinfo { ipi_ifindex: 0, ipi_spec_dst: from, ipi_addr: in_addr { s_addr: 0 } };
                Some(ControlMessage::Ipv4PacketInfo(&v4))
            }
            // Multicast is answered from an address of the host.
            Some(Local { address: IpAddr::V6(address), interface }) if !address.is_multicast() => {
                let from = in6_addr { s6_addr: address.octets() };
                v6 = in6_pktinfo { ipi6_addr: from, ipi6_ifindex: interface };
                Some(ControlMessage::Ipv6PacketInfo(&v6))
            }
            _ => None,
        };
        let client = SockaddrStorage::from(origin.client);
        let flags = MsgFlags::MSG_DONTWAIT;
        sendmsg(self.0.as_raw_fd(), &[IoSlice::new(data)], control.as_slice(), flags, Some(&client))?;
        Ok(())
    }
}

fn address_of(address: &SockaddrStorage) -> Option<SocketAddr> {
    if let Some(v4) = address.as_sockaddr_in() {
        return Some(SocketAddr::from((v4.ip(), v4.port())));
    }
    let v6 = address.as_sockaddr_in6()?;
    Some(SocketAddrV6::new(v6.ip(), v6.port(), v6.flowinfo(), v6.scope_id()).into())
}
