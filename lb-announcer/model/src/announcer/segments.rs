//! Interfaces of this node that are on one network segment, and which of them speaks for an address there.
//!
//! Two interfaces share a segment if one receives what the other sends, or if one is a child of the other. If both
//! answered for an address, neighbours would learn now the one MAC address and now the other, and what reaches an
//! interface without an address is dropped by the kernel's reverse path filter.

use std::cmp::Reverse;
use std::collections::BTreeMap;
use std::net::IpAddr;
use std::sync::Arc;
use std::time::Duration;

use pnet_base::MacAddr;

use crate::address::Family;
use crate::advert::Interfaces;
use crate::announcer::address::Standing;
use crate::announcer::{Announcer, Link, Moment};

/// A cable may be moved: what was seen so long ago says nothing any more. Interfaces are compared once a minute.
const HOLDS: Duration = Duration::from_mins(10);

/// Pairs of interfaces on one segment, and when that was last seen.
#[derive(Debug, Default)]
pub(super) struct Segments(BTreeMap<(u32, u32), Moment>);

impl Segments {
    /// Keeps only pairs of interfaces that are still there.
    pub(super) fn retain(&mut self, links: &BTreeMap<u32, Link>) {
        self.0.retain(|(a, b), _| links.contains_key(a) && links.contains_key(b));
    }

    fn share(&self, a: &Link, b: &Link) -> bool {
        let below = |child: &Link, parent: &Link| {
            child.lower == Some(parent.index) || child.lower.is_some() && child.lower == parent.lower
        };
        self.0.contains_key(&pair(a.index, b.index)) || below(a, b) || below(b, a)
    }
}

fn pair(a: u32, b: u32) -> (u32, u32) {
    (a.min(b), a.max(b))
}

/// How well an interface suits an address: it is in its network, or in any of its family.
fn suits(link: &Link, ip: IpAddr) -> u8 {
    if link.networks.iter().any(|network| network.contains(ip)) {
        2
    } else {
        link.networks.iter().any(|network| Family::of(network.ip) == Family::of(ip)).into()
    }
}

impl Announcer {
    /// An interface receives what another one of this node has sent.
    pub(super) fn on_own_frame(&mut self, now: Moment, link: u32, mac: MacAddr) {
        let Some(other) = self.links.values().find(|l| l.mac == mac && l.index != link).map(|l| l.index) else {
            return;
        };
        let pair = pair(link, other);
        if !self.links.contains_key(&link) {
            return;
        }
        if let Some(seen) = self.segments.0.get_mut(&pair) {
            *seen = now;
            return;
        }
        let before = self.interfaces_of_owned();
        self.segments.0.insert(pair, now);
        self.reconsider_interfaces(now, &before);
        self.revision += 1;
    }

    /// Forgets what was seen long ago.
    pub(super) fn forget_segments(&mut self, now: Moment) {
        let holds = |seen: &Moment| now < *seen + HOLDS;
        if self.segments.0.values().all(holds) {
            return;
        }
        let before = self.interfaces_of_owned();
        self.segments.0.retain(|_, seen| holds(seen));
        self.reconsider_interfaces(now, &before);
        self.revision += 1;
    }

    /// Where this node announces `ip`, if it does: of several interfaces on one segment on the one that suits it best.
    pub(super) fn interfaces_for(&self, ip: IpAddr, rule: Option<&Interfaces>) -> Vec<&Link> {
        let allowed: Vec<&Link> = self.links.values().filter(|l| rule.is_none_or(|r| r.allow(&l.name))).collect();
        let place = |link: &Link| (suits(link, ip), Reverse(link.index));
        let yields = |link: &Link| {
            let better = |other: &&&Link| self.segments.share(link, other) && place(other) > place(link);
            allowed.iter().any(|other| other.index != link.index && better(&other))
        };
        allowed.iter().filter(|link| !yields(link)).copied().collect()
    }

    /// Interfaces of this node that are on one segment and both have addresses of one family there: the one that
    /// announces and the one that doesn't, where they suit an address equally well.
    pub fn doubled_interfaces(&self) -> Vec<(Arc<str>, Arc<str>)> {
        let families = |link: &Link| link.networks.iter().map(|network| Family::of(network.ip)).collect::<Vec<_>>();
        let links: Vec<&Link> = self.links.values().collect();
        let mut doubled = Vec::new();
        for (index, a) in links.iter().enumerate() {
            for b in links.iter().skip(index + 1) {
                if self.segments.share(a, b) && families(a).iter().any(|family| families(b).contains(family)) {
                    doubled.push((a.name.clone(), b.name.clone()));
                }
            }
        }
        doubled
    }

    /// Announces again, at once, what this node owns and announces elsewhere from now on.
    pub(super) fn reconsider_interfaces(&mut self, now: Moment, before: &BTreeMap<IpAddr, Vec<u32>>) {
        let after = self.interfaces_of_owned();
        for (ip, address) in &mut self.addresses {
            if before.get(ip) != after.get(ip) {
                address.announce_from(now);
            }
        }
    }

    /// The interfaces on which this node announces what it owns.
    pub(super) fn interfaces_of_owned(&self) -> BTreeMap<IpAddr, Vec<u32>> {
        let owned = self.addresses.iter().filter(|(_, a)| matches!(a.standing, Standing::Owner(_)));
        owned
            .map(|(ip, address)| {
                let rule = address.candidate(&self.me).map(|c| &c.interfaces);
                (*ip, self.interfaces_for(*ip, rule).into_iter().map(|l| l.index).collect())
            })
            .collect()
    }
}
