//! Follows the interfaces by netlink notifications: a dump at first, then each change as it happens.

use std::collections::BTreeSet;
use std::io;

use futures::channel::mpsc::UnboundedReceiver;
use futures::{FutureExt, StreamExt, TryStreamExt};
use rtnetlink::packet_core::{NetlinkMessage, NetlinkPayload};
use rtnetlink::packet_route::RouteNetlinkMessage;
use rtnetlink::sys::{AsyncSocket, SocketAddr};
use rtnetlink::{Handle, MulticastGroup};
use tokio::task::AbortHandle;

use super::{LinkEvent, Links};

const GROUPS: [MulticastGroup; 3] = [MulticastGroup::Link, MulticastGroup::Ipv4Ifaddr, MulticastGroup::Ipv6Ifaddr];
/// Asked for as receive buffer: room for some hundred interfaces that change at once. The kernel grants at most
/// `net.core.rmem_max`, and what is lost nevertheless is made good by a new dump.
const RECEIVE_BUFFER: u32 = 1 << 20;

/// Follows the interfaces of the network namespace. Needs no privilege.
pub struct LinkWatch {
    netlink: Netlink,
    /// As they are.
    current: Links,
    /// As the caller knows them.
    links: Links,
    /// Interfaces that may differ between the two.
    touched: BTreeSet<u32>,
    /// Notifications were lost, so that only a new dump tells the truth.
    stale: bool,
}

impl LinkWatch {
    /// Subscribes and reads all interfaces with their addresses; needs a running tokio runtime.
    pub async fn open() -> io::Result<Self> {
        let netlink = Netlink::open()?;
        let links = netlink.dump().await?;
        Ok(Self { netlink, current: links.clone(), links, touched: BTreeSet::new(), stale: false })
    }

    /// All interfaces as of the last [`LinkWatch::changed`].
    pub fn links(&self) -> &Links {
        &self.links
    }

    /// Waits for changes and returns them, never an empty list.
    ///
    /// Several changes of one interface that are known by then become one event. Safe to cancel: nothing is lost.
    /// When the kernel has dropped notifications everything is read anew and compared. After an error the next call
    /// subscribes again.
    pub async fn changed(&mut self) -> io::Result<Vec<LinkEvent>> {
        loop {
            if self.stale {
                self.read_anew().await?;
            } else {
                let first = self.netlink.messages.next().await;
                self.take(first);
                while !self.stale
                    && let Some(more) = self.netlink.messages.next().now_or_never()
                {
                    self.take(more);
                }
            }
            let events = if self.stale { Vec::new() } else { self.report() };
            if !events.is_empty() {
                return Ok(events);
            }
        }
    }

    /// Takes in what the connection handed over; `None` says that the connection has ended.
    fn take(&mut self, message: Option<(NetlinkMessage<RouteNetlinkMessage>, SocketAddr)>) {
        match message.map(|(message, _)| message.payload) {
            Some(NetlinkPayload::InnerMessage(message)) => self.touched.extend(self.current.apply(message)),
            Some(NetlinkPayload::Overrun(_)) | None => self.stale = true,
            Some(_) => {}
        }
    }

    /// Subscribes again, which also leaves behind notifications older than the dump, and reads everything.
    async fn read_anew(&mut self) -> io::Result<()> {
        let netlink = Netlink::open()?;
        self.current = netlink.dump().await?;
        self.netlink = netlink;
        self.touched = self.current.iter().chain(self.links.iter()).map(|link| link.ifindex).collect();
        self.stale = false;
        Ok(())
    }

    fn report(&mut self) -> Vec<LinkEvent> {
        let mut events = Vec::new();
        for ifindex in std::mem::take(&mut self.touched) {
            let Some(event) = LinkEvent::between(self.links.get(ifindex), self.current.get(ifindex)) else { continue };
            match self.current.get(ifindex) {
                Some(link) => self.links.0.insert(ifindex, link.clone()),
                None => self.links.0.remove(&ifindex),
            };
            events.push(event);
        }
        events
    }
}

/// One netlink connection that is subscribed to links and addresses.
struct Netlink {
    handle: Handle,
    messages: UnboundedReceiver<(NetlinkMessage<RouteNetlinkMessage>, SocketAddr)>,
    driver: AbortHandle,
}

impl Netlink {
    fn open() -> io::Result<Self> {
        let (mut connection, handle, messages) = rtnetlink::new_multicast_connection(&GROUPS)?;
        connection.socket_mut().socket_mut().set_rx_buf_sz(RECEIVE_BUFFER)?;
        let driver = tokio::spawn(connection).abort_handle();
        Ok(Self { handle, messages, driver })
    }

    /// Reads all links, then all addresses.
    ///
    /// What changes meanwhile is also notified, and the notifications are applied after the dump in their order, so
    /// that the result is right even where the dump was already newer.
    async fn dump(&self) -> io::Result<Links> {
        let mut links = Links::default();
        let mut dumped = self.handle.link().get().execute();
        while let Some(message) = dumped.try_next().await.map_err(io::Error::other)? {
            links.apply(RouteNetlinkMessage::NewLink(message));
        }
        let mut dumped = self.handle.address().get().execute();
        while let Some(message) = dumped.try_next().await.map_err(io::Error::other)? {
            links.apply(RouteNetlinkMessage::NewAddress(message));
        }
        Ok(links)
    }
}

impl Drop for Netlink {
    fn drop(&mut self) {
        self.driver.abort();
    }
}
