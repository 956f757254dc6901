//! Who holds which address while a plan is made.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;
use std::net::IpAddr;
use std::sync::Arc;

use landfall_model::ObjectKey;

use crate::address::{Family, Span, number};
use crate::blocked::Blocked;
use crate::plan::TakenBy;
use crate::pool::{Pool, is_buggy};
use crate::service::{BackendKey, Port, ServiceFacts};

/// An address in use.
#[derive(Debug)]
struct Slot {
    sharing: Option<Arc<str>>,
    backend: BackendKey,
    ports: BTreeMap<Port, ObjectKey>,
    users: BTreeSet<ObjectKey>,
}

/// Why one address can't be had.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Denial {
    /// Another Service has it and nobody shares.
    InUse(ObjectKey),
    /// They don't have the same sharing key.
    OtherKey(ObjectKey),
    /// They don't send traffic to the same places.
    OtherBackend(ObjectKey),
    /// They need the same port.
    SamePort(Port, ObjectKey),
    /// Something on the network uses it.
    Taken(TakenBy),
    /// It is being withdrawn from another Service.
    Leaving(ObjectKey),
}

impl fmt::Display for Denial {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::InUse(by) => {
                write!(f, "in use by service {by}; both need the same metallb.io/allow-shared-ip to share")
            }
            Self::OtherKey(by) => write!(f, "can't change sharing key: address also in use by service {by}"),
            Self::OtherBackend(by) => write!(
                f,
                "in use by service {by} with other backends; under externalTrafficPolicy Local both need the same selector"
            ),
            Self::SamePort(port, by) => write!(f, "port {port} is already in use by service {by}"),
            Self::Taken(by) => write!(f, "{by}"),
            Self::Leaving(by) => write!(f, "still being withdrawn from service {by}"),
        }
    }
}

/// All addresses in use, taken or on their way out.
#[derive(Debug, Default)]
pub(crate) struct Ledger {
    slots: BTreeMap<IpAddr, Slot>,
    /// Addresses in use under each sharing key, by family and number so that a span is a range.
    by_key: BTreeMap<Arc<str>, BTreeSet<(Family, u128)>>,
    taken: BTreeMap<IpAddr, TakenBy>,
    leaving: BTreeMap<IpAddr, ObjectKey>,
    /// Addresses that are given only when nothing else is left; blocked as well.
    doubtful: BTreeSet<(Family, u128)>,
    blocked: Blocked,
}

impl Ledger {
    /// Keeps `ip` from being given.
    pub(crate) fn take(&mut self, ip: IpAddr, by: TakenBy) {
        self.blocked.insert(ip);
        self.taken.insert(ip, by);
    }

    /// Keeps `ip` back while there are others.
    pub(crate) fn doubt(&mut self, ip: IpAddr) {
        self.blocked.insert(ip);
        self.doubtful.insert((Family::of(ip), number(ip)));
    }

    /// Keeps `ip` from all but `key`, in whose status it still stands.
    pub(crate) fn leave(&mut self, ip: IpAddr, key: &ObjectKey) {
        if !self.slots.contains_key(&ip) {
            self.blocked.insert(ip);
            self.leaving.insert(ip, key.clone());
        }
    }

    /// Whether the Service can have exactly this address.
    ///
    /// Other Services are looked at first: a caller may overlook [`Denial::Taken`], but never those.
    pub(crate) fn check(&self, service: &ServiceFacts, ip: IpAddr) -> Result<(), Denial> {
        self.check_users(service, ip)?;
        self.taken.get(&ip).map_or(Ok(()), |by| Err(Denial::Taken(by.clone())))
    }

    fn check_users(&self, service: &ServiceFacts, ip: IpAddr) -> Result<(), Denial> {
        if let Some(by) = self.leaving.get(&ip).filter(|by| **by != service.key) {
            return Err(Denial::Leaving(by.clone()));
        }
        let Some(slot) = self.slots.get(&ip) else { return Ok(()) };
        let Some(other) = slot.users.iter().find(|u| **u != service.key) else { return Ok(()) };
        match (&slot.sharing, &service.sharing) {
            (Some(theirs), Some(ours)) if theirs == ours => {}
            (Some(_), Some(_)) => return Err(Denial::OtherKey(other.clone())),
            _ => return Err(Denial::InUse(other.clone())),
        }
        if slot.backend != service.backend {
            return Err(Denial::OtherBackend(other.clone()));
        }
        let clash =
            service.ports.iter().find_map(|p| slot.ports.get_key_value(p).filter(|(_, by)| **by != service.key));
        clash.map_or(Ok(()), |(port, by)| Err(Denial::SamePort(port.clone(), by.clone())))
    }

    /// Gives the address, which [`Self::check`] has allowed.
    pub(crate) fn give(&mut self, service: &ServiceFacts, ip: IpAddr) {
        self.blocked.insert(ip);
        if let Some(key) = &service.sharing {
            self.by_key.entry(key.clone()).or_default().insert((Family::of(ip), number(ip)));
        }
        let slot = self.slots.entry(ip).or_insert_with(|| Slot {
            sharing: service.sharing.clone(),
            backend: service.backend.clone(),
            ports: BTreeMap::new(),
            users: BTreeSet::new(),
        });
        slot.users.insert(service.key.clone());
        slot.ports.extend(service.ports.iter().map(|p| (p.clone(), service.key.clone())));
    }

    /// The first address of the pool that the Service can have: ranges as written, lowest number first.
    pub(crate) fn find(&mut self, service: &ServiceFacts, pool: &Pool, family: Family) -> Option<IpAddr> {
        let spans = || pool.spans.iter().filter(|s| s.family() == family);
        let found = spans().find_map(|span| {
            let free = self.free(pool, *span);
            let shared = self.shared(service, pool, *span);
            [free, shared].into_iter().flatten().min().map(|n| family.address(n))
        });
        found.or_else(|| spans().find_map(|span| self.last_resort(service, pool, *span)))
    }

    fn last_resort(&self, service: &ServiceFacts, pool: &Pool, span: Span) -> Option<IpAddr> {
        let range = self.doubtful.range((span.family(), span.first())..=(span.family(), span.last()));
        let usable = |ip: &IpAddr| {
            let free = !self.slots.contains_key(ip) && self.check(service, *ip).is_ok();
            free && !(pool.avoid_buggy && is_buggy(*ip))
        };
        range.map(|(family, number)| family.address(*number)).find(usable)
    }

    /// The next free addresses of a pool, for looking ahead.
    pub(crate) fn upcoming(&mut self, pool: &Pool, count: usize) -> Vec<IpAddr> {
        let mut found = Vec::new();
        for span in &pool.spans {
            let mut at = span.first();
            while found.len() < count {
                let Some(next) = self.blocked.next_free(*span, at) else { break };
                let ip = span.family().address(next);
                if !(pool.avoid_buggy && is_buggy(ip)) {
                    found.push(ip);
                }
                match next.checked_add(1) {
                    Some(following) => at = following,
                    None => break,
                }
            }
        }
        found
    }

    fn free(&mut self, pool: &Pool, span: Span) -> Option<u128> {
        loop {
            let next = self.blocked.next_free(span, span.first())?;
            let ip = span.family().address(next);
            if !(pool.avoid_buggy && is_buggy(ip)) {
                return Some(next);
            }
            // Nobody else can have it either, since pools are disjoint. Blocking it joins the runs beside it,
            // so that it is met once and not again for every Service.
            self.blocked.insert(ip);
        }
    }

    fn shared(&self, service: &ServiceFacts, pool: &Pool, span: Span) -> Option<u128> {
        let addresses = self.by_key.get(service.sharing.as_ref()?)?;
        let range = addresses.range((span.family(), span.first())..=(span.family(), span.last()));
        range.map(|(family, number)| (family.address(*number), *number)).find_map(|(ip, number)| {
            let usable = !(pool.avoid_buggy && is_buggy(ip)) && self.check(service, ip).is_ok();
            usable.then_some(number)
        })
    }

    /// How many addresses of the pool Services hold, and how many are taken by others.
    pub(crate) fn usage(&self, pool: &Pool, family: Family) -> (u128, u128) {
        let (mut used, mut taken) = (0, 0);
        for span in pool.spans.iter().filter(|s| s.family() == family) {
            let range = family.address(span.first())..=family.address(span.last());
            let usable = |ip: &IpAddr| !(pool.avoid_buggy && is_buggy(*ip));
            used += self.slots.range(range.clone()).filter(|(ip, _)| usable(ip)).count();
            taken += self.taken.range(range).filter(|(ip, _)| usable(ip) && !self.slots.contains_key(ip)).count();
        }
        (used as u128, taken as u128)
    }
}
