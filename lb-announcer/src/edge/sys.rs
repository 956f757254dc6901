//! The one module of this crate with `unsafe`: what neither `socket2` nor `nix` offers safely.
#![allow(unsafe_code)]

use std::io;

use nix::libc;
use socket2::{SockAddr, Socket};
use tokio::io::unix::AsyncFd;

/// The address that binds a packet socket to one interface and one `EtherType` (packet(7)).
pub(super) fn link_address(ifindex: u32, ethertype: u16) -> io::Result<SockAddr> {
    let ifindex = i32::try_from(ifindex).map_err(|_| io::Error::from(io::ErrorKind::InvalidInput))?;
    // SAFETY: `try_init` hands out a pointer to zeroed storage that is larger than `sockaddr_ll` and aligned for every
    // address family (it is a `sockaddr_storage`), and a valid pointer for the length. All-zero bytes are a valid
    // `sockaddr_ll`, so forming the reference is sound, and the length written is the one of the type initialised.
    let ((), address) = unsafe {
        SockAddr::try_init(|storage, length| {
            let link = &mut *storage.cast::<libc::sockaddr_ll>();
            link.sll_family = FAMILY;
            link.sll_protocol = ethertype.to_be();
            link.sll_ifindex = ifindex;
            *length = LENGTH;
            Ok(())
        })
    }?;
    Ok(address)
}

/// Hands the socket over to tokio's reactor; panics outside a runtime.
pub(super) fn watched(socket: Socket) -> io::Result<AsyncFd<Socket>> {
    // SAFETY: `Socket` owns its descriptor, which stays open and the same until the socket is dropped, and `AsyncFd`
    // owns the socket. Nothing in this crate takes the descriptor out of it or duplicates another one over it.
    unsafe { AsyncFd::register(socket) }.map_err(io::Error::from)
}

/// `AF_PACKET` in the width that `sockaddr_ll` has for it; the constant is 17.
#[allow(clippy::cast_possible_truncation, clippy::cast_sign_loss)]
const FAMILY: libc::sa_family_t = libc::AF_PACKET as libc::sa_family_t;

/// The length of `sockaddr_ll`, 20 bytes.
#[allow(clippy::cast_possible_truncation)]
const LENGTH: libc::socklen_t = size_of::<libc::sockaddr_ll>() as libc::socklen_t;
