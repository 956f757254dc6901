//! Which pool and which address a Service gets, and why not another.

use std::collections::BTreeSet;
use std::fmt;
use std::net::IpAddr;
use std::sync::Arc;

use landfall_model::ObjectKey;

use crate::address::Family;
use crate::plan::ledger::{Denial, Ledger, Shortage};
use crate::plan::{Grant, TakenBy};
use crate::pool::{Namespaces, Outside, Pool};
use crate::service::{Families, ServiceFacts};

/// Why a pool has nothing for a Service.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum PoolDenial {
    /// It gives only to Services that name it.
    NotAutomatic,
    /// It is for other Services.
    Outside(Outside),
    /// It has no address of the family.
    NoFamily(Family),
    /// Every address of the family is in use or taken.
    Full(Box<Shortage>),
}

impl fmt::Display for PoolDenial {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::NotAutomatic => f.write_str("autoAssign is false and the Service doesn't name it"),
            Self::Outside(Outside::Namespace) => f.write_str("not for the Service's namespace"),
            Self::Outside(Outside::Labels) => f.write_str("not for the Service's labels"),
            Self::NoFamily(family) => write!(f, "no {family} addresses in it"),
            Self::Full(shortage) => write!(f, "{shortage}"),
        }
    }
}

impl PoolDenial {
    fn shortage(&self) -> Option<&Shortage> {
        match self {
            Self::Full(shortage) => Some(shortage),
            _ => None,
        }
    }
}

/// Why a Service gets nothing.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(crate) enum Refusal {
    NoPools,
    UnknownPool(Arc<str>),
    OutsidePools(IpAddr, Option<(Arc<str>, String)>),
    OtherPool { ip: IpAddr, asked: Arc<str>, found: Arc<str> },
    SeveralPools,
    WrongFamily(Families),
    Address(IpAddr, Denial),
    Pools(Vec<(Arc<str>, PoolDenial)>),
}

impl Refusal {
    pub(crate) fn remedy(&self) -> String {
        self.advice().to_owned()
    }

    fn advice(&self) -> &'static str {
        match self {
            Self::NoPools => "create an IPAddressPool",
            Self::UnknownPool(_) => "correct the name, or create the pool",
            Self::OutsidePools(_, None) => "ask for an address of a pool, or add this one to a pool",
            Self::OutsidePools(_, Some(_)) => "ask for another address, or change the pool",
            Self::OtherPool { .. } => "remove one of the two annotations",
            Self::SeveralPools => "ask for two addresses of one pool",
            Self::WrongFamily(_) => "ask for one address of each family that the Service has",
            Self::Address(_, Denial::Taken(_)) => "ask for another address, or take it from what uses it",
            Self::Address(_, Denial::Leaving(_)) => "wait a moment",
            Self::Address(..) => "ask for another address, or make the Services able to share it",
            Self::Pools(list) if list.iter().all(|(_, why)| matches!(why, PoolDenial::NotAutomatic)) => {
                "name a pool with metallb.io/address-pool, or set autoAssign"
            }
            Self::Pools(list) if list.iter().any(|(_, why)| why.shortage().is_some_and(|s| s.unshared.is_some())) => {
                "make the Services able to share the address, or add addresses to a pool that the Service can use"
            }
            Self::Pools(list) if list.iter().any(|(_, why)| why.shortage().is_some_and(|s| s.in_use() > 0)) => {
                "add addresses to a pool that the Service can use, or delete Services that need none"
            }
            Self::Pools(_) => "add addresses to a pool that the Service can use",
        }
    }
}

impl fmt::Display for Refusal {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::NoPools => f.write_str("no available IPs: there is no pool"),
            Self::UnknownPool(name) => write!(f, "unknown pool {name:?}"),
            Self::OutsidePools(ip, None) => write!(f, "[\"{ip}\"] is not allowed in config: no pool has it"),
            Self::OutsidePools(ip, Some((pool, why))) => {
                write!(f, "[\"{ip}\"] is not allowed in config: pool {pool} leaves it out, because {why}")
            }
            Self::OtherPool { ip, asked, found } => write!(
                f,
                "requested loadBalancer IP(s) [\"{ip}\"] is not compatible with requested address pool {asked}: it is in pool {found}"
            ),
            Self::SeveralPools => f.write_str("the requested addresses are in different pools"),
            Self::WrongFamily(families) => {
                let needs = match families {
                    Families::One(family) => format!("one {family} address"),
                    Families::Either => "one address".to_owned(),
                    Families::Prefer(_) | Families::Require => "an IPv4 and an IPv6 address".to_owned(),
                };
                write!(
                    f,
                    "requested loadBalancer IP(s) does not match the ipFamily of the service, which needs {needs}"
                )
            }
            Self::Address(ip, denial) => write!(f, "{ip}: {denial}"),
            Self::Pools(list) => {
                f.write_str("no available IPs")?;
                for (index, (pool, why)) in list.iter().enumerate() {
                    write!(f, "{} pool {pool}: {why}", if index == 0 { ":" } else { "," })?;
                }
                Ok(())
            }
        }
    }
}

/// Looks through the pools for one Service.
pub(crate) struct Chooser<'a> {
    pub(crate) pools: &'a [Pool],
    pub(crate) namespaces: &'a Namespaces,
    pub(crate) ledger: &'a mut Ledger,
    /// What Services were given that no node has announced since.
    pub(crate) unannounced: &'a BTreeSet<(ObjectKey, IpAddr)>,
}

impl<'a> Chooser<'a> {
    /// The pool of the addresses that the Service holds, if it may keep them all.
    pub(crate) fn may_keep(&self, service: &ServiceFacts, ips: &[IpAddr]) -> Result<Arc<str>, String> {
        let pool = self.pool_of(ips).map_err(|r| r.to_string())?;
        let name: Arc<str> = pool.name().into();
        if !service.families.accepts(ips) {
            return Err(Refusal::WrongFamily(service.families).to_string());
        }
        if service.pool.as_ref().is_some_and(|wanted| **wanted != *name) {
            return Err(format!("the Service asks for another pool than {name}"));
        }
        if !service.wanted.is_empty() && service.wanted != ips {
            return Err(format!("the Service asks for other addresses: {:?}", service.wanted));
        }
        // Who is in the audience isn't known while a selector can't be read.
        if !pool.audience.as_ref().is_some_and(|a| a.unreadable) {
            self.audience(service, pool)
                .map_err(|why| format!("pool {name} not compatible for ip assignment: {why}"))?;
        }
        for ip in ips {
            match self.ledger.check(service, *ip) {
                // Such an address works as long as nobody minds; only new Services don't get it.
                Ok(()) | Err(Denial::Taken(TakenBy::Network | TakenBy::Broadcast | TakenBy::Service(_))) => {}
                // What was announced, or asked for by name, is in use: it is reported, and never taken back.
                Err(Denial::Taken(_)) if self.stays(service, pool, *ip) => {}
                Err(denial) => return Err(format!("{ip}: {denial}")),
            }
        }
        Ok(name)
    }

    /// Whether the Service keeps an address that something on the network uses as well.
    fn stays(&self, service: &ServiceFacts, pool: &Pool, ip: IpAddr) -> bool {
        let announced = !self.unannounced.contains(&(service.key.clone(), ip));
        let foreign = |mac| self.ledger.taken_by(ip) == Some(&TakenBy::ForeignHost(mac));
        announced || service.wanted.contains(&ip) || self.ledger.impostor(pool, Family::of(ip)).is_some_and(foreign)
    }

    /// Finds addresses, which the caller then gives.
    pub(crate) fn choose(&mut self, service: &ServiceFacts) -> Result<Grant, Refusal> {
        if self.pools.is_empty() {
            return Err(Refusal::NoPools);
        }
        if !service.wanted.is_empty() {
            return self.wanted(service);
        }
        if let Some(name) = &service.pool {
            let pool = self.named(name)?;
            return self.from(service, &[pool], Automatic::No);
        }
        let (mut pinned, mut open): (Vec<&Pool>, Vec<&Pool>) = self.pools.iter().partition(|p| p.audience.is_some());
        pinned.sort_by_key(|p| (rank(p), p.key.clone()));
        open.sort_by_key(|p| p.key.clone());
        pinned.extend(open);
        self.from(service, &pinned, Automatic::Yes)
    }

    fn wanted(&mut self, service: &ServiceFacts) -> Result<Grant, Refusal> {
        let pool = self.pool_of(&service.wanted)?;
        let name: Arc<str> = pool.name().into();
        let exact = match service.families {
            Families::Prefer(_) | Families::Require => service.wanted.len() == 2,
            families => families.accepts(&service.wanted),
        };
        if !exact {
            return Err(Refusal::WrongFamily(service.families));
        }
        if let Some(asked) = service.pool.as_ref().filter(|asked| ***asked != *name) {
            self.named(asked)?;
            return Err(Refusal::OtherPool { ip: service.wanted[0], asked: asked.clone(), found: name });
        }
        self.audience(service, pool).map_err(|why| Refusal::Pools(vec![(name.clone(), why)]))?;
        for ip in &service.wanted {
            match self.ledger.check(service, *ip) {
                // Who names such an address knows what it is.
                Ok(()) | Err(Denial::Taken(TakenBy::Network | TakenBy::Broadcast)) => {}
                Err(Denial::Taken(TakenBy::ForeignHost(mac)))
                    if self.ledger.impostor(pool, Family::of(*ip)) == Some(mac) => {}
                Err(denial) => return Err(Refusal::Address(*ip, denial)),
            }
        }
        Ok(Grant { ips: service.wanted.clone(), pool: name })
    }

    /// Both families from the first pool that gives both, else the better one from the first that gives it.
    fn from(&mut self, service: &ServiceFacts, pools: &[&Pool], automatic: Automatic) -> Result<Grant, Refusal> {
        let mut denials = Vec::new();
        let mut usable = Vec::new();
        for pool in pools {
            match self.admits(service, pool, automatic) {
                Ok(()) => usable.push(*pool),
                Err(why) => denials.push((Arc::from(pool.name()), why)),
            }
        }
        let attempts: &[&[Family]] = match service.families {
            Families::One(Family::V4) => &[&[Family::V4]],
            Families::One(Family::V6) => &[&[Family::V6]],
            Families::Either => &[&[Family::V4], &[Family::V6]],
            Families::Require => &[&[Family::V4, Family::V6]],
            Families::Prefer(Family::V4) => &[&[Family::V4, Family::V6], &[Family::V4], &[Family::V6]],
            Families::Prefer(Family::V6) => &[&[Family::V4, Family::V6], &[Family::V6], &[Family::V4]],
        };
        for (index, families) in attempts.iter().enumerate() {
            for pool in &usable {
                match self.all_of(service, pool, families) {
                    Ok(ips) => return Ok(Grant { ips, pool: pool.name().into() }),
                    Err(why) if index == 0 => denials.push((pool.name().into(), why)),
                    Err(_) => {}
                }
            }
        }
        Err(Refusal::Pools(denials))
    }

    fn all_of(&mut self, service: &ServiceFacts, pool: &Pool, families: &[Family]) -> Result<Vec<IpAddr>, PoolDenial> {
        let mut ips = Vec::new();
        for family in families {
            let total = pool.size(*family);
            match self.ledger.find(service, pool, *family) {
                Some(ip) => ips.push(ip),
                None if total == 0 => return Err(PoolDenial::NoFamily(*family)),
                None => return Err(PoolDenial::Full(Box::new(self.ledger.shortage(service, pool, *family)))),
            }
        }
        Ok(ips)
    }

    fn admits(&self, service: &ServiceFacts, pool: &Pool, automatic: Automatic) -> Result<(), PoolDenial> {
        if automatic == Automatic::Yes && !pool.auto_assign {
            return Err(PoolDenial::NotAutomatic);
        }
        self.audience(service, pool)
    }

    fn audience(&self, service: &ServiceFacts, pool: &Pool) -> Result<(), PoolDenial> {
        let Some(audience) = &pool.audience else { return Ok(()) };
        audience.admits(service.key.namespace(), &service.labels, self.namespaces).map_err(PoolDenial::Outside)
    }

    fn named(&self, name: &str) -> Result<&'a Pool, Refusal> {
        self.pools.iter().find(|p| p.name() == name).ok_or_else(|| Refusal::UnknownPool(name.into()))
    }

    fn pool_of(&self, ips: &[IpAddr]) -> Result<&'a Pool, Refusal> {
        let mut found: Option<&'a Pool> = None;
        for ip in ips {
            let withheld = || self.pools.iter().find_map(|p| Some((Arc::from(p.name()), p.withholds(*ip)?)));
            let pool = self.pools.iter().find(|p| p.contains(*ip));
            let pool = pool.ok_or_else(|| Refusal::OutsidePools(*ip, withheld()))?;
            if found.is_some_and(|f| f.key != pool.key) {
                return Err(Refusal::SeveralPools);
            }
            found = Some(pool);
        }
        found.ok_or(Refusal::NoPools)
    }
}

/// Whether the Service left the choice of the pool to us.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Automatic {
    Yes,
    No,
}

/// Priority with 0 last.
fn rank(pool: &Pool) -> i64 {
    pool.audience.as_ref().map(|a| a.priority).filter(|p| *p > 0).unwrap_or(i64::MAX)
}
