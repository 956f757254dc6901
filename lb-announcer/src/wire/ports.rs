//! The interfaces that are announced on, each with its sockets.

use std::collections::{BTreeMap, BTreeSet};
use std::future::pending;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use std::pin::Pin;

use futures::future::select_all;
use landfall_lb_model::announcer;
use landfall_lb_model::subnet::Subnet;
use landfall_lb_model::wire::MacAddr;

use crate::Name;
use crate::edge::arp::ArpSocket;
use crate::edge::groups::Groups;
use crate::edge::links::{Link, Links, Selection};
use crate::edge::ndp::NdpSocket;
use crate::edge::packet::Frames;
use crate::subnets;

/// One interface.
struct Port {
    name: Name,
    mac: MacAddr,
    networks: Vec<Subnet>,
    lower: Option<u32>,
    arp: ArpSocket,
    arp_frames: Frames,
    ndp: Option<NdpSocket>,
    ndp_frames: Frames,
}

/// All of them, and the addresses that are of interest there.
#[derive(Default)]
pub(super) struct Ports {
    open: BTreeMap<u32, Port>,
    v4: Vec<Ipv4Addr>,
    v6: BTreeSet<Ipv6Addr>,
    /// The nodes' own addresses: what claims them is of interest, not who asks for them.
    nodes_v4: Vec<Ipv4Addr>,
    nodes_v6: BTreeSet<Ipv6Addr>,
    groups: Groups,
}

impl Ports {
    /// Opens and closes sockets so that there is one for each interface that is fit.
    pub(super) fn set_links(&mut self, links: &Links, selection: &Selection) {
        let fit: BTreeMap<u32, (&Link, MacAddr)> =
            selection.fit(links).filter_map(|link| Some((link.ifindex, (link, link.mac?)))).collect();
        self.open.retain(|index, port| {
            fit.get(index).is_some_and(|(link, mac)| *link.name == *port.name && *mac == port.mac)
        });
        for (index, (link, mac)) in fit {
            let (networks, lower) = (subnets::of(link).collect(), link.lower);
            if let Some(port) = self.open.get_mut(&index) {
                (port.networks, port.lower) = (networks, lower);
                continue;
            }
            let name = Name::from(link.name.as_str());
            match ArpSocket::open(index, mac) {
                Ok(arp) => {
                    let (arp_frames, ndp_frames) = (Frames::new(), Frames::new());
                    let port = Port { name, mac, networks, lower, arp, arp_frames, ndp: None, ndp_frames };
                    drop(self.open.insert(index, port));
                }
                Err(error) => {
                    tracing::error!(%error, iface = &*name, "cannot open an ARP socket; the capability NET_RAW is needed");
                }
            }
        }
        self.apply_filters();
    }

    /// Which addresses frames are wanted for, and which are the nodes' own.
    pub(super) fn set_addresses(&mut self, addresses: &BTreeSet<IpAddr>, nodes: &BTreeSet<IpAddr>) {
        let mut v6 = BTreeSet::new();
        self.v4.clear();
        self.nodes_v4.clear();
        self.nodes_v6.clear();
        for ip in nodes {
            match ip {
                IpAddr::V4(ip) => self.nodes_v4.push(*ip),
                IpAddr::V6(ip) => drop(self.nodes_v6.insert(*ip)),
            }
        }
        for ip in addresses {
            match ip {
                IpAddr::V4(ip) => self.v4.push(*ip),
                IpAddr::V6(ip) => drop(v6.insert(*ip)),
            }
        }
        for gone in self.v6.difference(&v6) {
            self.groups.leave(*gone);
        }
        for new in v6.difference(&self.v6) {
            for error in self.groups.join(*new) {
                tracing::warn!(%error, "cannot join a multicast group");
            }
        }
        self.v6 = v6;
        self.apply_filters();
    }

    fn apply_filters(&mut self) {
        let v6: Vec<Ipv6Addr> = self.v6.iter().copied().collect();
        // An answer to a question without a sender goes to every node, so no group has to be joined for these.
        let watched: Vec<Ipv6Addr> = self.v6.union(&self.nodes_v6).copied().collect();
        for (index, port) in &mut self.open {
            // Without IPv6 addresses no IPv6 packet of the node passes through a filter of ours at all.
            if v6.is_empty() {
                port.ndp = None;
            } else if port.ndp.is_none() {
                match NdpSocket::open(*index, port.mac) {
                    Ok(socket) => port.ndp = Some(socket),
                    Err(error) => {
                        tracing::error!(%error, iface = &*port.name, "cannot open a socket for neighbour discovery");
                    }
                }
            }
            let ndp = port.ndp.as_ref().map_or(Ok(()), |ndp| ndp.watch(port.mac, &watched));
            if let Err(error) = port.arp.watch_with(port.mac, &self.v4, &self.nodes_v4).and(ndp) {
                tracing::error!(%error, iface = &*port.name, "cannot set the filter of a packet socket");
            }
        }
        for error in self.groups.set_interfaces(self.open.keys().copied()) {
            tracing::warn!(%error, "cannot join a multicast group");
        }
    }

    /// The interfaces as the protocol core knows them.
    pub(super) fn links(&self) -> Vec<announcer::Link> {
        let link = |(index, port): (&u32, &Port)| announcer::Link {
            index: *index,
            name: port.name.clone(),
            mac: port.mac,
            networks: port.networks.clone(),
            lower: port.lower,
        };
        self.open.iter().map(link).collect()
    }

    /// The interfaces' own MAC addresses.
    pub(super) fn macs(&self) -> BTreeMap<u32, MacAddr> {
        self.open.iter().map(|(index, port)| (*index, port.mac)).collect()
    }

    /// Waits until there are frames, and hands over the first batch.
    pub(super) async fn wait(&mut self) -> Vec<(u32, Vec<u8>)> {
        type Ready<'a> = Pin<Box<dyn Future<Output = Option<(u32, &'a Frames)>> + 'a>>;
        let mut waiting: Vec<Ready<'_>> = Vec::new();
        for (index, port) in &mut self.open {
            let (index, frames) = (*index, &mut port.arp_frames);
            let arp = &port.arp;
            waiting.push(Box::pin(async move { arp.recv(frames).await.is_ok().then_some((index, &*frames)) }));
            if let Some(ndp) = &port.ndp {
                let frames = &mut port.ndp_frames;
                waiting.push(Box::pin(async move { ndp.recv(frames).await.is_ok().then_some((index, &*frames)) }));
            }
        }
        if waiting.is_empty() {
            return pending().await;
        }
        let (ready, ..) = select_all(waiting).await;
        ready.map(|(index, frames)| copied(index, frames)).unwrap_or_default()
    }

    /// Hands over what is there without waiting, also what the reactor doesn't know of yet.
    pub(super) fn take(&mut self) -> Vec<(u32, Vec<u8>)> {
        let mut all = Vec::new();
        for (index, port) in &mut self.open {
            while port.arp.try_recv(&mut port.arp_frames).is_ok() {
                all.extend(copied(*index, &port.arp_frames));
            }
            let Some(ndp) = &port.ndp else { continue };
            while ndp.try_recv(&mut port.ndp_frames).is_ok() {
                all.extend(copied(*index, &port.ndp_frames));
            }
        }
        all
    }

    /// Sends a frame. A full queue loses it, as a full queue anywhere on the way would.
    pub(super) fn send(&self, link: u32, frame: &[u8]) {
        let Some(port) = self.open.get(&link) else { return };
        let is_arp = frame.get(12..14) == Some(&[8, 6]);
        let sent = match &port.ndp {
            Some(ndp) if !is_arp => ndp.send(frame),
            // Any frame may be sent from any packet socket of the interface.
            _ => port.arp.send(frame),
        };
        if let Err(error) = sent {
            tracing::debug!(%error, iface = &*port.name, "cannot send a frame");
        }
    }
}

fn copied(index: u32, frames: &Frames) -> Vec<(u32, Vec<u8>)> {
    frames.iter().map(|frame| (index, frame.to_vec())).collect()
}
