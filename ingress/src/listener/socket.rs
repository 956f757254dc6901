//! Listening sockets.

use std::io;
use std::net::{Ipv4Addr, SocketAddr, TcpListener, UdpSocket};
use std::os::fd::AsFd;
use std::time::Duration;

use nix::sys::socket::{setsockopt, sockopt};
use nix::{libc, setsockopt_impl, sockopt_impl};
use socket2::{Domain, Protocol, SockRef, Socket as RawSocket, TcpKeepalive, Type};
use thiserror::Error;

/// Connections that the kernel completes before we accept them. It caps the number at `net.core.somaxconn`.
const BACKLOG: i32 = 4096;
/// Finds clients that vanished without a word within two minutes.
const KEEPALIVE_IDLE: Duration = Duration::from_mins(1);
const KEEPALIVE_INTERVAL: Duration = Duration::from_secs(20);
const KEEPALIVE_PROBES: u32 = 3;

/// An address that can't be listened on.
#[derive(Debug, Error)]
#[error("cannot listen on {address}: {cause}")]
pub struct BindError {
    /// The address.
    pub address: SocketAddr,
    /// Why.
    #[source]
    pub cause: io::Error,
}

/// The sockets of one address, one for each worker; the kernel spreads connections over them.
#[derive(Debug)]
pub struct Listener {
    sockets: Vec<TcpListener>,
    address: SocketAddr,
}

impl Listener {
    /// Listens on `address` with `count` sockets, at least one.
    ///
    /// `[::]` takes IPv4 as well. On a host without IPv6 it becomes `0.0.0.0`.
    pub fn bind(address: SocketAddr, count: usize) -> Result<Self, BindError> {
        let (sockets, address) = bind_all(address, count, listen)?;
        Ok(Self { sockets: sockets.into_iter().map(Into::into).collect(), address })
    }

    /// The address, with the port that the kernel chose where none was given.
    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// The sockets.
    pub fn into_sockets(self) -> Vec<TcpListener> {
        self.sockets
    }
}

/// UDP sockets of one address, one for each worker, at least one; the kernel spreads clients over them.
pub(super) fn bind_datagrams(address: SocketAddr, count: usize) -> Result<Vec<UdpSocket>, BindError> {
    let (sockets, _) = bind_all(address, count, take_datagrams)?;
    Ok(sockets.into_iter().map(Into::into).collect())
}

/// Opens sockets of one address, which is returned as it came out.
fn bind_all(
    address: SocketAddr,
    count: usize,
    open: impl Fn(SocketAddr) -> io::Result<RawSocket>,
) -> Result<(Vec<RawSocket>, SocketAddr), BindError> {
    let failed = |cause| BindError { address, cause };
    let first = match open(address) {
        Err(error) if address.is_ipv6() && address.ip().is_unspecified() && lacks_ipv6(&error) => {
            tracing::warn!(%address, "this host has no IPv6, so only IPv4 is listened on");
            open(SocketAddr::from((Ipv4Addr::UNSPECIFIED, address.port()))).map_err(failed)?
        }
        other => other.map_err(failed)?,
    };
    // With port 0 the others have to follow the first.
    let bound = first.local_addr().map_err(failed)?;
    let bound = bound.as_socket().unwrap_or(address);
    let mut sockets = vec![first];
    for _ in 1..count {
        sockets.push(open(bound).map_err(failed)?);
    }
    Ok((sockets, bound))
}

fn take_datagrams(address: SocketAddr) -> io::Result<RawSocket> {
    let socket = RawSocket::new(Domain::for_address(address), Type::DGRAM, Some(Protocol::UDP))?;
    if address.is_ipv6() {
        socket.set_only_v6(!address.ip().is_unspecified())?;
        setsockopt(&socket, sockopt::Ipv6RecvPacketInfo, &true)?;
    } else {
        setsockopt(&socket, sockopt::Ipv4PacketInfo, &true)?;
    }
    socket.set_reuse_port(true)?;
    socket.set_nonblocking(true)?;
    socket.bind(&address.into())?;
    Ok(socket)
}

fn lacks_ipv6(error: &io::Error) -> bool {
    // EAFNOSUPPORT where the kernel has none, EADDRNOTAVAIL where it is switched off.
    matches!(error.raw_os_error(), Some(97 | 99))
}

fn listen(address: SocketAddr) -> io::Result<RawSocket> {
    let socket = RawSocket::new(Domain::for_address(address), Type::STREAM, Some(Protocol::TCP))?;
    if address.is_ipv6() {
        socket.set_only_v6(!address.ip().is_unspecified())?;
    }
    socket.set_reuse_address(true)?;
    socket.set_reuse_port(true)?;
    // Accepted connections inherit these on Linux, which saves a system call for each.
    socket.set_tcp_nodelay(true)?;
    let keepalive =
        TcpKeepalive::new().with_time(KEEPALIVE_IDLE).with_interval(KEEPALIVE_INTERVAL).with_retries(KEEPALIVE_PROBES);
    socket.set_tcp_keepalive(&keepalive)?;
    socket.set_nonblocking(true)?;
    socket.bind(&address.into())?;
    socket.listen(BACKLOG)?;
    Ok(socket)
}

sockopt_impl!(
    /// The least time to live of what is taken (RFC 5082, for TCP the hop count of a received segment).
    MinTtl, SetOnly, libc::IPPROTO_IP, libc::IP_MINTTL, i32
);
sockopt_impl!(
    /// The same for IPv6.
    MinHopCount, SetOnly, libc::IPPROTO_IPV6, libc::IPV6_MINHOPCOUNT, i32
);

/// Has the kernel drop whatever begins a connection, so that its client tries again later; handshakes that have begun end.
///
/// Each hop takes one off the time to live, so no packet that was routed has the highest; a neighbour on the same link that
/// begins with it is let in as ever. A filter would be plainer but needs a capability for TCP.
pub(super) fn ignore_newcomers(listener: &impl AsFd) -> io::Result<()> {
    set_least_ttl(listener, 255)
}

/// What an accepted socket is to be given, since it inherits the limit.
pub(super) fn heed_all(socket: &impl AsFd) -> io::Result<()> {
    set_least_ttl(socket, 0)
}

fn set_least_ttl(socket: &impl AsFd, ttl: i32) -> io::Result<()> {
    let is_ipv6 = SockRef::from(socket).domain()? == Domain::IPV6;
    // A socket for both takes IPv4 by the rules of IPv4.
    setsockopt(socket, MinTtl, &ttl)?;
    if is_ipv6 {
        setsockopt(socket, MinHopCount, &ttl)?;
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use std::net::{Ipv6Addr, TcpStream};

    use super::*;

    #[test]
    fn the_unspecified_ipv6_address_takes_ipv4_too() {
        let listener = Listener::bind(SocketAddr::from((Ipv6Addr::UNSPECIFIED, 0)), 2).unwrap();
        let port = listener.address().port();
        TcpStream::connect((Ipv4Addr::LOCALHOST, port)).unwrap();
        assert_eq!(listener.into_sockets().len(), 2);
    }

    #[test]
    fn newcomers_are_neither_accepted_nor_refused() {
        for address in ["127.0.0.1:0", "[::1]:0"] {
            let listener = Listener::bind(address.parse().unwrap(), 1).unwrap();
            let address = listener.address();
            let [socket] = &listener.into_sockets()[..] else { panic!("one socket was asked for") };
            TcpStream::connect(address).unwrap();
            ignore_newcomers(socket).unwrap();
            let error = TcpStream::connect_timeout(&address, Duration::from_millis(300)).unwrap_err();
            assert_eq!(error.kind(), io::ErrorKind::TimedOut, "{error}");
            socket.accept().unwrap();
        }
    }

    #[test]
    fn an_address_of_another_host_is_named_in_the_error() {
        let error = Listener::bind("192.0.2.1:80".parse().unwrap(), 1).unwrap_err();
        assert!(error.to_string().starts_with("cannot listen on 192.0.2.1:80: "), "{error}");
    }
}
