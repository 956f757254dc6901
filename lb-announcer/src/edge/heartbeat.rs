//! The UDP socket over which speakers hear each other.

use std::io::{self, IoSliceMut};
use std::net::{IpAddr, Ipv4Addr, SocketAddr, SocketAddrV6};
use std::os::fd::AsRawFd;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use nix::libc;
use nix::sys::socket::{
    ControlMessageOwned, MsgFlags, SockaddrIn, SockaddrIn6, SockaddrStorage, recvmsg, setsockopt, sockopt,
};
use nix::sys::time::TimeSpec;
use socket2::{Domain, Socket, Type};
use tokio::io::unix::AsyncFd;

use super::{clock, sys};

/// The longest datagram that is taken: what fits an Ethernet frame. Longer ones are dropped as foreign.
pub const LONGEST: usize = 1472;
/// Datagrams taken from the socket in one go before the reader looks at them.
const BATCH: usize = 32;
/// Asked for as receive buffer; the kernel grants at most `net.core.rmem_max`. With some 2 KiB charged for each, a
/// reader that is a second late loses nothing from 25 peers that send every 50 ms.
const RECEIVE_BUFFER: usize = 1 << 20;
/// Class selector 6, network control (RFC 4594 section 3.1): queues on the way prefer it, as they do routing protocols.
const TRAFFIC_CLASS: u32 = 0xc0;

/// One datagram as it came in.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Datagram<'a> {
    /// The sender; an IPv4 one as such, also when the socket is an IPv6 one.
    pub from: SocketAddr,
    /// How long the datagram waited in the kernel: a reader that runs late takes that off the silence it measures.
    pub waited: Duration,
    /// What it carries.
    pub bytes: &'a [u8],
}

/// Datagrams as they came in one read. Reused from read to read, so that reading allocates little.
pub struct Datagrams {
    buffer: Box<[[u8; LONGEST + 1]]>,
    heads: Vec<(SocketAddr, Duration, usize)>,
    control: Vec<u8>,
}

impl Datagrams {
    /// Room for one batch of 32 datagrams.
    pub fn new() -> Self {
        Self {
            buffer: vec![[0; LONGEST + 1]; BATCH].into_boxed_slice(),
            heads: Vec::with_capacity(BATCH),
            control: nix::cmsg_space!(TimeSpec),
        }
    }

    /// The datagrams of the last read, in the order of their arrival.
    pub fn iter(&self) -> impl Iterator<Item = Datagram<'_>> {
        self.buffer
            .iter()
            .zip(&self.heads)
            .filter_map(|(slot, &(from, waited, length))| Some(Datagram { from, waited, bytes: slot.get(..length)? }))
    }
}

impl Default for Datagrams {
    fn default() -> Self {
        Self::new()
    }
}

/// A UDP socket for heartbeats.
///
/// It shares its port with nobody (no `SO_REUSEADDR`): of two announcers on one node the second is to fail at once,
/// and not to take the first one's heartbeats.
pub struct HeartbeatSocket {
    socket: AsyncFd<Socket>,
    v6: bool,
    /// When the queue was last found empty, in nanoseconds since boot: nothing in it can be older.
    emptied: AtomicU64,
}

impl HeartbeatSocket {
    /// Binds to `address`; needs a running tokio reactor.
    ///
    /// `[::]` receives IPv4 as well; on a host without IPv6 it becomes `0.0.0.0`.
    pub fn bind(address: SocketAddr) -> io::Result<Self> {
        let socket = match open(address) {
            Err(error) if address.ip().is_unspecified() && lacks_ipv6(&error) => {
                open(SocketAddr::new(Ipv4Addr::UNSPECIFIED.into(), address.port()))
            }
            other => other,
        }?;
        let v6 = socket.local_addr()?.is_ipv6();
        Ok(Self { socket: sys::watched(socket)?, v6, emptied: AtomicU64::new(nanoseconds(clock::boottime()?)) })
    }

    /// The address it is bound to.
    pub fn local_addr(&self) -> io::Result<SocketAddr> {
        self.socket.get_ref().local_addr()?.as_socket().ok_or_else(|| io::ErrorKind::Unsupported.into())
    }

    /// Waits for datagrams and takes what is there, up to one batch. Safe to cancel.
    pub async fn recv(&self, datagrams: &mut Datagrams) -> io::Result<()> {
        loop {
            let mut ready = self.socket.readable().await?;
            if let Ok(result) = ready.try_io(|socket| self.fill(socket.get_ref(), datagrams)) {
                return result;
            }
        }
    }

    /// Takes what is there at this moment, up to one batch; fails with `WouldBlock` if it is nothing.
    pub fn try_recv(&self, datagrams: &mut Datagrams) -> io::Result<()> {
        self.fill(self.socket.get_ref(), datagrams)
    }

    /// Sends one datagram now; fails with `WouldBlock` when the queue is full.
    pub fn send(&self, bytes: &[u8], to: SocketAddr) -> io::Result<()> {
        let to = match to.ip() {
            IpAddr::V4(ip) if self.v6 => SocketAddrV6::new(ip.to_ipv6_mapped(), to.port(), 0, 0).into(),
            _ => to,
        };
        self.socket.get_ref().send_to(bytes, &to.into()).map(|_| ())
    }

    /// Reads until the batch is full or the queue empty; fails with `WouldBlock` only if nothing was there.
    fn fill(&self, socket: &Socket, datagrams: &mut Datagrams) -> io::Result<()> {
        datagrams.heads.clear();
        let limit = clock::boottime()?.saturating_sub(Duration::from_nanos(self.emptied.load(Ordering::Relaxed)));
        while let Some(slot) = datagrams.buffer.get_mut(datagrams.heads.len()) {
            match take(socket, slot, &mut datagrams.control) {
                Ok(Some((from, waited, length))) => datagrams.heads.push((from, waited.min(limit), length)),
                Ok(None) => {}
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => {
                    self.emptied.store(nanoseconds(clock::boottime()?), Ordering::Relaxed);
                    return if datagrams.heads.is_empty() { Err(error) } else { Ok(()) };
                }
                Err(error) => return Err(error),
            }
        }
        Ok(())
    }
}

fn open(address: SocketAddr) -> io::Result<Socket> {
    let socket = Socket::new(Domain::for_address(address), Type::DGRAM, None)?;
    socket.set_nonblocking(true)?;
    if address.is_ipv6() {
        socket.set_only_v6(!address.ip().is_unspecified())?;
        socket.set_tclass_v6(TRAFFIC_CLASS)?;
    }
    // An IPv6 socket keeps the IPv4 setting for what it sends to IPv4 addresses.
    socket.set_tos_v4(TRAFFIC_CLASS)?;
    socket.set_recv_buffer_size(RECEIVE_BUFFER)?;
    setsockopt(&socket, sockopt::ReceiveTimestampns, &true)?;
    socket.bind(&address.into())?;
    Ok(socket)
}

/// Takes one datagram: sender, time it waited, length. `None` for one that is too long or has no sender.
fn take(socket: &Socket, slot: &mut [u8], control: &mut [u8]) -> io::Result<Option<(SocketAddr, Duration, usize)>> {
    let mut parts = [IoSliceMut::new(slot)];
    let message = recvmsg::<SockaddrStorage>(socket.as_raw_fd(), &mut parts, Some(control), MsgFlags::MSG_DONTWAIT)?;
    let arrived = message.cmsgs()?.find_map(|control| match control {
        ControlMessageOwned::ScmTimestampns(time) => Some(Duration::from(time)),
        _ => None,
    });
    let waited = arrived.map_or(Ok(Duration::ZERO), |at| clock::realtime().map(|now| now.saturating_sub(at)))?;
    let from = message.address.as_ref().and_then(sender);
    Ok(from.filter(|_| message.bytes <= LONGEST).map(|from| (from, waited, message.bytes)))
}

fn sender(address: &SockaddrStorage) -> Option<SocketAddr> {
    if let Some(v4) = address.as_sockaddr_in() {
        return Some(SocketAddr::new(SockaddrIn::ip(v4).into(), v4.port()));
    }
    let v6: &SockaddrIn6 = address.as_sockaddr_in6()?;
    let ip = v6.ip();
    Some(match ip.to_ipv4_mapped() {
        Some(v4) => SocketAddr::new(v4.into(), v6.port()),
        None => SocketAddrV6::new(ip, v6.port(), v6.flowinfo(), v6.scope_id()).into(),
    })
}

fn lacks_ipv6(error: &io::Error) -> bool {
    matches!(error.raw_os_error(), Some(libc::EAFNOSUPPORT | libc::EADDRNOTAVAIL))
}

/// 64 bits of nanoseconds last for 584 years since boot.
fn nanoseconds(duration: Duration) -> u64 {
    u64::try_from(duration.as_nanos()).unwrap_or(u64::MAX)
}

#[cfg(test)]
mod tests;
