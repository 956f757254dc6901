//! Frames: answers to requests, claims of others, probes and announcements.

use std::net::IpAddr;
use std::sync::Arc;

use pnet_base::MacAddr;

use crate::announcer::address::{Address, Standing};
use crate::announcer::{Announcer, Effect, Link, Moment};
use crate::wire::arp::{Arp, Operation};
use crate::wire::ndp::{Message, Ndp};

impl Announcer {
    /// Takes an Ethernet frame that was received.
    pub fn on_frame(&mut self, now: Moment, link: u32, frame: &[u8]) -> Vec<Effect> {
        if let Some(arp) = Arp::decode(frame) {
            self.on_arp(now, link, &arp);
        } else if let Some(ndp) = Ndp::decode(frame) {
            self.on_ndp(now, link, &ndp);
        }
        self.flush()
    }

    fn on_arp(&mut self, now: Moment, link: u32, arp: &Arp) {
        if self.macs.contains(&arp.sender_mac) {
            return self.on_own_frame(now, link, arp.sender_mac);
        }
        if !arp.sender_ip.is_unspecified() {
            self.on_claim(now, arp.sender_ip.into(), arp.sender_mac);
        } else if arp.operation == Operation::Request {
            self.on_probe(now, arp.target_ip.into(), arp.sender_mac);
        }
        if arp.operation == Operation::Request && arp.sender_ip != arp.target_ip {
            if !arp.sender_ip.is_unspecified() {
                self.on_question(now, arp.target_ip.into());
            }
            let mac = self.answer_from(now, link, arp.target_ip.into(), Some(arp.destination));
            if let Some(mac) = mac {
                self.effects.push(Effect::Frame { link, bytes: arp.answer(mac).encode() });
            }
        }
    }

    fn on_ndp(&mut self, now: Moment, link: u32, ndp: &Ndp) {
        let from = ndp.link_layer.unwrap_or(ndp.source_mac);
        if self.macs.contains(&ndp.source_mac) || self.macs.contains(&from) {
            return self.on_own_frame(now, link, ndp.source_mac);
        }
        match ndp.message {
            Message::Advertisement { .. } => self.on_claim(now, ndp.target.into(), from),
            Message::Solicitation => {
                if ndp.source.is_unspecified() {
                    self.on_probe(now, ndp.target.into(), from);
                } else {
                    self.on_question(now, ndp.target.into());
                }
                if let Some(mac) = self.answer_from(now, link, ndp.target.into(), None) {
                    self.effects.push(Effect::Frame { link, bytes: ndp.answer(mac).encode() });
                }
            }
        }
    }

    /// A client asks for the address: it is wanted now.
    fn on_question(&mut self, now: Moment, ip: IpAddr) {
        if let Some(address) = self.addresses.get_mut(&ip)
            && !matches!(address.standing, Standing::Owner(_))
        {
            address.asked = Some(now);
        }
    }

    /// The MAC address to answer with, if this node is to answer here and now.
    fn answer_from(&mut self, now: Moment, link: u32, ip: IpAddr, destination: Option<MacAddr>) -> Option<MacAddr> {
        // A process that was stopped may have been replaced meanwhile: it asks before it answers again.
        if !self.is_fresh(now) {
            return None;
        }
        let mac = self.links.get(&link)?.mac;
        let address = self.addresses.get(&ip)?;
        let meant = destination.is_none_or(|d| d.is_broadcast() || d == mac);
        let rule = address.candidate(&self.me).map(|c| &c.interfaces);
        let owned = matches!(address.standing, Standing::Owner(_));
        if !owned || !meant || !self.interfaces_for(ip, rule).iter().any(|l| l.index == link) {
            return None;
        }
        let address = self.addresses.get_mut(&ip)?;
        address.counters.requests += 1;
        address.counters.responses += 1;
        Some(mac)
    }

    /// Sends the gratuitous frames of one step.
    pub(super) fn announce(&mut self, ip: IpAddr, address: &mut Address) {
        let rule = address.candidate(&self.me).map(|c| c.interfaces.clone());
        let mut sent = Vec::new();
        for link in self.interfaces_for(ip, rule.as_ref()) {
            let frames = match ip {
                IpAddr::V4(ip) => {
                    vec![Arp::gratuitous_request(link.mac, ip).encode(), Arp::gratuitous_reply(link.mac, ip).encode()]
                }
                IpAddr::V6(ip) => vec![Ndp::announcement(link.mac, ip).encode()],
            };
            address.counters.gratuitous += frames.len() as u64;
            sent.extend(frames.into_iter().map(|bytes| Effect::Frame { link: link.index, bytes }));
        }
        self.effects.extend(sent);
    }

    /// Leads the neighbours of an address that was handed over to its new owner.
    ///
    /// The frames come from this node and tell the other's MAC address. Only this node sees when the clients are
    /// between two exchanges: one that a connection spans would have its second half reach a stranger. A switch that
    /// lets no host speak for another drops them, and then the new owner's own burst does it.
    pub(super) fn guide(&mut self, ip: IpAddr, address: &Address, to: &str) {
        let Some(peer) = self.peers.get(to) else { return };
        let rule = address.candidate(to).map(|c| c.interfaces.clone());
        let mut frames = Vec::new();
        for link in self.links.values() {
            let theirs = peer.state.interfaces.iter().filter(|(name, _)| rule.as_ref().is_none_or(|r| r.allow(name)));
            let Some(mac) = opposite(link, theirs) else { continue };
            match ip {
                IpAddr::V4(ip) => {
                    let (request, reply) = (Arp::gratuitous_request(mac, ip), Arp::gratuitous_reply(mac, ip));
                    let frame = |arp: Arp| (link.index, Arp { source: link.mac, ..arp }.encode());
                    frames.extend([frame(request), frame(reply)]);
                }
                IpAddr::V6(ip) => {
                    let guide = Ndp { source_mac: link.mac, ..Ndp::announcement(mac, ip) };
                    frames.push((link.index, guide.encode()));
                }
            }
        }
        if !frames.is_empty() {
            self.effects.push(Effect::Guide { ip, frames });
        }
    }

    /// Asks who has the address, on every interface that this node would announce it on.
    pub(super) fn send_probe(&mut self, ip: IpAddr, address: &Address) {
        let rule = address.candidate(&self.me).map(|c| c.interfaces.clone());
        let links: Vec<u32> =
            self.links.values().filter(|l| rule.as_ref().is_none_or(|r| r.allow(&l.name))).map(|l| l.index).collect();
        for link in links {
            self.probe_on(link, ip);
        }
    }

    pub(super) fn probe_on(&mut self, index: u32, ip: IpAddr) {
        let Some(link) = self.links.get(&index) else { return };
        let bytes = match ip {
            IpAddr::V4(ip) => Arp::probe(link.mac, ip).encode(),
            IpAddr::V6(ip) => Ndp::probe(link.mac, ip).encode(),
        };
        self.effects.push(Effect::Frame { link: index, bytes });
    }
}

/// The MAC address that another node has on the segment of `link`: that of its interface of the same name, or of its
/// only one.
fn opposite<'a>(link: &Link, theirs: impl Iterator<Item = &'a (Arc<str>, MacAddr)>) -> Option<MacAddr> {
    let theirs: Vec<_> = theirs.collect();
    let same = theirs.iter().find(|(name, _)| *name == link.name);
    same.or(theirs.first().filter(|_| theirs.len() == 1)).map(|(_, mac)| *mac)
}
