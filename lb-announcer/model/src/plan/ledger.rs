//! Who holds which address while a plan is made.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;
use std::net::IpAddr;
use std::sync::Arc;

use landfall_model::ObjectKey;
use pnet_base::MacAddr;

use crate::address::{Family, Span, number};
use crate::blocked::Blocked;
use crate::plan::TakenBy;
use crate::pool::{Pool, is_buggy};
use crate::service::{BackendKey, Port, ServiceFacts, TrafficPolicy};

/// An address in use.
#[derive(Debug)]
struct Slot {
    sharing: Option<Arc<str>>,
    backend: BackendKey,
    policy: TrafficPolicy,
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
    /// Only one of the two is under policy Local.
    OtherPolicy {
        /// The Service that has the address.
        by: ObjectKey,
        /// Its policy.
        theirs: TrafficPolicy,
        /// That of the Service that asks.
        ours: TrafficPolicy,
    },
    /// They are both under policy Local and don't select the same pods.
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
            Self::OtherKey(by) => write!(
                f,
                "can't change sharing key: address also in use by service {by}, whose metallb.io/allow-shared-ip is another"
            ),
            Self::OtherPolicy { by, theirs, ours } => write!(
                f,
                "in use by service {by}, which has externalTrafficPolicy {theirs} while this Service has {ours}; to share \
                 an address both need the same"
            ),
            Self::OtherBackend(by) => write!(
                f,
                "in use by service {by} with another selector; under externalTrafficPolicy Local both need the same"
            ),
            Self::SamePort(port, by) => write!(f, "port {port} is already in use by service {by}"),
            Self::Taken(by) => write!(f, "{by}"),
            Self::Leaving(by) => write!(f, "still being withdrawn from service {by}"),
        }
    }
}

/// How many addresses a reason names.
const SHOWN: usize = 3;

/// Why a pool has nothing of a family for a Service.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Shortage {
    /// The family that is looked for.
    pub family: Family,
    /// Addresses of that family in the pool.
    pub total: u128,
    /// The first of those that something else than a Service keeps from being given.
    pub others: Vec<(IpAddr, Denial)>,
    /// How many these are in all.
    pub count: usize,
    /// An address under the Service's own sharing key, and why it can't join.
    pub unshared: Option<(IpAddr, Denial)>,
}

impl Default for Shortage {
    fn default() -> Self {
        Self { family: Family::V4, total: 0, others: Vec::new(), count: 0, unshared: None }
    }
}

impl Shortage {
    /// How many addresses Services have.
    pub fn in_use(&self) -> u128 {
        self.total.saturating_sub(self.count as u128)
    }
}

impl fmt::Display for Shortage {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { family, total, others, count, unshared } = self;
        if others.is_empty() {
            write!(f, "all {total} {family} addresses are in use")?;
        } else {
            write!(f, "none of the {total} {family} addresses is free")?;
            let used = self.in_use();
            if used > 0 {
                write!(f, ": Services use {used} of them")?;
            }
            for (index, (ip, denial)) in others.iter().enumerate() {
                let before = if index == 0 && used == 0 { ":" } else { "," };
                write!(f, "{before} {ip}: {denial}")?;
            }
            if *count > others.len() {
                write!(f, ", and {} more like that", count - others.len())?;
            }
        }
        if let Some((ip, denial)) = unshared {
            write!(f, "; {ip} can't be shared: {denial}")?;
        }
        Ok(())
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
    impostors: BTreeMap<(ObjectKey, Family), MacAddr>,
}

impl Ledger {
    /// An empty one that knows these hosts which answer for everything.
    pub(crate) fn new(impostors: BTreeMap<(ObjectKey, Family), MacAddr>) -> Self {
        Self { impostors, ..Self::default() }
    }

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
        if slot.backend != service.backend && slot.policy != service.policy {
            let (by, theirs, ours) = (other.clone(), slot.policy, service.policy);
            return Err(Denial::OtherPolicy { by, theirs, ours });
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
            policy: service.policy,
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
        let found = found.or_else(|| spans().find_map(|span| self.last_resort(service, pool, *span)));
        found.or_else(|| self.impostor(pool, family).and_then(|mac| self.despite(service, pool, family, mac)))
    }

    /// The host that answers for everything that is left of the pool, which so says nothing about what is free.
    pub(crate) fn impostor(&self, pool: &Pool, family: Family) -> Option<MacAddr> {
        self.impostors.get(&(pool.key.clone(), family)).copied()
    }

    fn despite(&self, service: &ServiceFacts, pool: &Pool, family: Family, mac: MacAddr) -> Option<IpAddr> {
        let spans = pool.spans.iter().filter(|s| s.family() == family);
        let claimed = spans.flat_map(|span| {
            let range = family.address(span.first())..=family.address(span.last());
            self.taken.range(range).filter(|(_, by)| **by == TakenBy::ForeignHost(mac)).map(|(ip, _)| *ip)
        });
        let usable = |ip: &IpAddr| !self.slots.contains_key(ip) && self.check_users(service, *ip).is_ok();
        claimed.filter(|ip| !(pool.avoid_buggy && is_buggy(*ip))).find(usable)
    }

    /// What keeps `ip` from being given, whoever asks.
    pub(crate) fn taken_by(&self, ip: IpAddr) -> Option<&TakenBy> {
        self.taken.get(&ip)
    }

    /// Why the pool has nothing of the family for the Service.
    pub(crate) fn shortage(&self, service: &ServiceFacts, pool: &Pool, family: Family) -> Shortage {
        let mut shortage = Shortage { family, total: pool.size(family), ..Shortage::default() };
        let spans = || pool.spans.iter().filter(|s| s.family() == family);
        for span in spans() {
            let range = family.address(span.first())..=family.address(span.last());
            let usable = |ip: &IpAddr| !(self.slots.contains_key(ip) || pool.avoid_buggy && is_buggy(*ip));
            let taken = self.taken.range(range.clone()).map(|(ip, by)| (*ip, Denial::Taken(by.clone())));
            let leaving = self.leaving.range(range).map(|(ip, by)| (*ip, Denial::Leaving(by.clone())));
            for (ip, denial) in taken.chain(leaving).filter(|(ip, _)| usable(ip)) {
                shortage.count += 1;
                if shortage.others.len() < SHOWN {
                    shortage.others.push((ip, denial));
                }
            }
        }
        if let Some(addresses) = service.sharing.as_ref().and_then(|key| self.by_key.get(key)) {
            shortage.unshared = spans()
                .flat_map(|span| addresses.range((family, span.first())..=(family, span.last())))
                .map(|(family, number)| family.address(*number))
                .find_map(|ip| Some((ip, self.check(service, ip).err()?)));
        }
        shortage
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
