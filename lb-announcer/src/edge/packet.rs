//! A packet socket on one interface: raw Ethernet frames in batches, filtered by the kernel.

use std::io::{self, Read};

use nix::libc;
use socket2::{Domain, SockFilter, Socket, Type};
use tokio::io::unix::AsyncFd;

use super::sys;

/// How much of a frame is kept: Ethernet and IPv6 headers, a neighbour message and a dozen options.
pub(super) const SNAPSHOT: u32 = 256;
/// Frames taken from the socket in one go before the reader looks at them.
const BATCH: usize = 64;
/// Asked for as receive buffer; the kernel grants at most `net.core.rmem_max`. A queued frame of this size is charged
/// 768 bytes, so this holds a burst of more than a thousand.
const RECEIVE_BUFFER: usize = 1 << 20;

/// Frames as they came in one read: raw Ethernet, cut at 256 bytes.
///
/// Reused from read to read, so that reading allocates nothing.
pub struct Frames {
    buffer: Box<[[u8; SNAPSHOT as usize]]>,
    lengths: Vec<usize>,
}

impl Frames {
    /// Room for one batch of 64 frames.
    pub fn new() -> Self {
        Self { buffer: vec![[0; SNAPSHOT as usize]; BATCH].into_boxed_slice(), lengths: Vec::with_capacity(BATCH) }
    }

    /// The frames of the last read, in the order of their arrival.
    pub fn iter(&self) -> impl Iterator<Item = &[u8]> {
        self.buffer.iter().zip(&self.lengths).filter_map(|(slot, length)| slot.get(..*length))
    }

    /// How many frames the last read brought.
    pub fn len(&self) -> usize {
        self.lengths.len()
    }

    /// Whether the last read brought none.
    pub fn is_empty(&self) -> bool {
        self.lengths.is_empty()
    }

    /// Reads until the batch is full or the queue empty; fails with `WouldBlock` only if nothing was there.
    fn fill(&mut self, mut socket: &Socket) -> io::Result<()> {
        self.lengths.clear();
        while let Some(slot) = self.buffer.get_mut(self.lengths.len()) {
            match socket.read(slot) {
                Ok(length) => self.lengths.push(length),
                Err(error) if is_passing(&error) => {}
                Err(error) if error.kind() == io::ErrorKind::WouldBlock && !self.lengths.is_empty() => break,
                Err(error) => return Err(error),
            }
        }
        Ok(())
    }
}

impl Default for Frames {
    fn default() -> Self {
        Self::new()
    }
}

/// A raw packet socket bound to one interface and one `EtherType`.
pub(super) struct PacketSocket {
    socket: AsyncFd<Socket>,
    ifindex: u32,
}

impl PacketSocket {
    /// Opens the socket; needs `CAP_NET_RAW` and a running tokio reactor.
    ///
    /// The socket is made for no protocol, so that it receives nothing until the filter stands and it is bound.
    pub(super) fn open(ifindex: u32, ethertype: u16, filter: &[SockFilter]) -> io::Result<Self> {
        let socket = Socket::new(Domain::PACKET, Type::RAW, None)?;
        socket.set_nonblocking(true)?;
        socket.set_recv_buffer_size(RECEIVE_BUFFER)?;
        socket.attach_filter(filter)?;
        socket.bind(&sys::link_address(ifindex, ethertype)?)?;
        Ok(Self { socket: sys::watched(socket)?, ifindex })
    }

    /// The interface the socket is bound to.
    pub(super) fn ifindex(&self) -> u32 {
        self.ifindex
    }

    /// Replaces the filter in one step; frames that are queued already have passed the old one.
    pub(super) fn set_filter(&self, filter: &[SockFilter]) -> io::Result<()> {
        self.socket.get_ref().attach_filter(filter)
    }

    /// Waits for frames and takes what is there, up to one batch. Safe to cancel.
    pub(super) async fn recv(&self, frames: &mut Frames) -> io::Result<()> {
        loop {
            let mut ready = self.socket.readable().await?;
            if let Ok(result) = ready.try_io(|socket| frames.fill(socket.get_ref())) {
                return result;
            }
        }
    }

    /// Takes what is there without asking the reactor, which may not know of it yet; `WouldBlock` if it is nothing.
    pub(super) fn try_recv(&self, frames: &mut Frames) -> io::Result<()> {
        frames.fill(self.socket.get_ref())
    }

    /// Throws away what is queued and says how many frames that were.
    pub(super) fn discard(&self) -> io::Result<usize> {
        let mut socket = self.socket.get_ref();
        let mut count = 0;
        loop {
            match socket.read(&mut [0; 1]) {
                Ok(_) => count += 1,
                Err(error) if is_passing(&error) => {}
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => return Ok(count),
                Err(error) => return Err(error),
            }
        }
    }

    /// Sends one whole Ethernet frame now; fails with `WouldBlock` when the queue is full.
    pub(super) fn send(&self, frame: &[u8]) -> io::Result<()> {
        self.socket.get_ref().send(frame).map(|_| ())
    }

    /// Sends one whole Ethernet frame, waiting while the queue is full. Safe to cancel.
    pub(super) async fn send_when_ready(&self, frame: &[u8]) -> io::Result<()> {
        loop {
            let mut ready = self.socket.writable().await?;
            if let Ok(result) = ready.try_io(|socket| socket.get_ref().send(frame)) {
                return result.map(|_| ());
            }
        }
    }
}

/// Whether the socket goes on working after this error.
///
/// A packet socket reports once that its interface went down and receives again when it is back; that it is down is
/// netlink's to tell.
fn is_passing(error: &io::Error) -> bool {
    error.kind() == io::ErrorKind::Interrupted || error.raw_os_error() == Some(libc::ENETDOWN)
}
