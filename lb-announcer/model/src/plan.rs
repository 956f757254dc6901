//! The allocation: which Service has which address.
//!
//! [`plan`] is a function of what is there, without memory of its own: the same input gives the same plan, and
//! what a Service holds it keeps as long as the pools allow. Each Service costs O(log n) in the number of
//! addresses in use and nothing in the size of a pool.
//!
//! **Invariant:** no address is given to two Services unless both asked to share it with the same key, have no
//! port in common and send traffic to the same places. **Invariant:** an address that still stands in the status
//! of a Service that lost it is not given to another.

mod choose;
mod impostor;
mod ledger;
mod remarks;

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;
use std::net::IpAddr;
use std::sync::Arc;

use landfall_model::{ObjectKey, ObjectRef, Problem, Reason};
use pnet_base::MacAddr;

pub use choose::PoolDenial;
pub use ledger::{Denial, Shortage};

use crate::address::Family;
use crate::crd::TakenAddress;
use crate::pool::{Namespaces, Pool};
use crate::reason;
use crate::service::{Families, ServiceFacts};
use choose::{Chooser, Refusal};
use ledger::Ledger;

/// What keeps an address from being given.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Debug)]
pub enum TakenBy {
    /// A host that isn't ours answered for it.
    ForeignHost(MacAddr),
    /// It is a node's own.
    Node(Arc<str>),
    /// It is the network address of a subnet that a node is on.
    Network,
    /// It is the broadcast address of a subnet that a node is on.
    Broadcast,
    /// It stands in the status of a Service of another class, which isn't ours to give addresses to.
    Service(ObjectKey),
}

impl TakenBy {
    /// The word for it in a pool's status.
    pub fn word(&self) -> &'static str {
        match self {
            Self::ForeignHost(_) => "ForeignHost",
            Self::Node(_) => "NodeAddress",
            Self::Network => "NetworkAddress",
            Self::Broadcast => "BroadcastAddress",
            Self::Service(_) => "OtherService",
        }
    }

    /// Reads an entry of a pool's status.
    pub fn read(entry: &TakenAddress) -> Option<Self> {
        match entry.reason.as_str() {
            "ForeignHost" => Some(Self::ForeignHost(entry.mac.parse().ok()?)),
            "NodeAddress" => Some(Self::Node(entry.node.as_str().into())),
            "NetworkAddress" => Some(Self::Network),
            "BroadcastAddress" => Some(Self::Broadcast),
            _ => None,
        }
    }

    /// The entry of a pool's status that says so.
    pub fn entry(&self, ip: IpAddr, node: &str) -> TakenAddress {
        let mac = match self {
            Self::ForeignHost(mac) => mac.to_string(),
            _ => String::new(),
        };
        TakenAddress { ip: ip.to_string(), node: node.to_owned(), reason: self.word().to_owned(), mac }
    }
}

impl fmt::Display for TakenBy {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::ForeignHost(mac) => write!(f, "a host with MAC address {mac} answers for it"),
            Self::Node(node) => write!(f, "it is an address of node {node}"),
            Self::Network => f.write_str("it is the network address of a node's subnet"),
            Self::Broadcast => f.write_str("it is the broadcast address of a node's subnet"),
            Self::Service(key) => write!(f, "service {key}, which is of another class, has it"),
        }
    }
}

/// What a plan is made from.
#[derive(Clone, Copy, Debug)]
pub struct Inputs<'a> {
    /// The pools, as [`crate::pool::read_pools`] gives them.
    pub pools: &'a [Pool],
    /// Labels of the namespaces.
    pub namespaces: &'a Namespaces,
    /// The Services that are ours.
    pub services: &'a BTreeMap<ObjectKey, Arc<ServiceFacts>>,
    /// What each Service holds so far: its status, or what was decided since.
    pub held: &'a BTreeMap<ObjectKey, Vec<IpAddr>>,
    /// What Services that share an address asked for when that was agreed. Who has changed since comes after who
    /// hasn't, so that an edit of one Service never costs another its address.
    pub agreed: &'a BTreeMap<ObjectKey, Arc<ServiceFacts>>,
    /// Addresses that can't be given.
    pub taken: &'a BTreeMap<IpAddr, TakenBy>,
    /// What Services were given that no node has announced since: exchanged if something on the network uses it.
    pub unannounced: &'a BTreeSet<(ObjectKey, IpAddr)>,
    /// Addresses that may turn out to be a network's own: given without being asked for only when a pool has nothing
    /// else.
    pub doubtful: &'a BTreeSet<IpAddr>,
    /// How many free addresses of each pool to name for looking ahead.
    pub look_ahead: usize,
}

/// What a Service has.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Grant {
    /// Its addresses, IPv4 before IPv6.
    pub ips: Vec<IpAddr>,
    /// The pool they come from.
    pub pool: Arc<str>,
}

/// Something that happened to a Service, for an Event.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Debug)]
pub struct Note {
    /// The Service.
    pub service: ObjectKey,
    /// The reason code.
    pub reason: Reason,
    /// The text, in the form that `MetalLB` uses.
    pub message: String,
}

/// How much of a pool is given out, per family.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct Usage {
    /// Addresses in the pool.
    pub total: u128,
    /// Addresses that Services hold; a shared one counts once.
    pub assigned: u128,
    /// Addresses that something on the network uses.
    pub taken: u128,
}

impl Usage {
    /// Addresses still to give.
    pub fn available(&self) -> u128 {
        self.total.saturating_sub(self.assigned).saturating_sub(self.taken)
    }
}

/// Who gets what.
#[derive(Clone, Debug, Default)]
pub struct Plan {
    /// Services that get addresses they didn't hold.
    pub assign: BTreeMap<ObjectKey, Grant>,
    /// Services that keep what they hold.
    pub keep: BTreeMap<ObjectKey, Grant>,
    /// Services that lose addresses, with those.
    pub release: BTreeMap<ObjectKey, Vec<IpAddr>>,
    /// Services without an address, with the reason.
    pub waiting: BTreeMap<ObjectKey, Problem>,
    /// Services that keep an address which something on the network uses as well.
    pub contested: BTreeMap<ObjectKey, Problem>,
    /// What is worth knowing of a Service that has what it needs, without anything being wrong.
    pub remarks: BTreeMap<ObjectKey, String>,
    /// Addresses that Services didn't hold before.
    pub given: BTreeSet<(ObjectKey, IpAddr)>,
    /// Everything that is wrong with the Services.
    pub problems: Vec<Problem>,
    /// What happened.
    pub notes: Vec<Note>,
    /// IPv4 and IPv6 usage by pool.
    pub usage: BTreeMap<Arc<str>, (Usage, Usage)>,
    /// The next free addresses of each pool.
    pub upcoming: BTreeMap<Arc<str>, Vec<IpAddr>>,
}

impl Plan {
    /// What the Service has under this plan.
    pub fn grant(&self, key: &ObjectKey) -> Option<&Grant> {
        self.keep.get(key).or_else(|| self.assign.get(key))
    }

    /// Every Service that has addresses.
    pub fn grants(&self) -> impl Iterator<Item = (&ObjectKey, &Grant)> {
        self.keep.iter().chain(&self.assign)
    }

    /// What the next plan is to be given as held.
    pub fn held(&self) -> BTreeMap<ObjectKey, Vec<IpAddr>> {
        self.grants().map(|(key, grant)| (key.clone(), grant.ips.clone())).collect()
    }
}

/// Decides who has which address.
pub fn plan(inputs: &Inputs<'_>) -> Plan {
    let ledger = Ledger::new(impostor::impostors(inputs));
    let mut planner = Planner { inputs, ledger, plan: Plan::default(), lost: BTreeMap::new() };
    for (ip, by) in inputs.taken {
        planner.ledger.take(*ip, by.clone());
    }
    for ip in inputs.doubtful {
        planner.ledger.doubt(*ip);
    }
    let mut order: Vec<&Arc<ServiceFacts>> = inputs.services.values().collect();
    order.sort_by_key(|s| (s.created, s.key.clone()));
    let pending = planner.keep_what_is_held(&order);
    planner.fence_what_is_leaving();
    for service in order.iter().copied() {
        planner.add_second_family(service);
    }
    // Who names an address comes first, so that none who doesn't care gets it; then who names a pool.
    let mut pending: Vec<_> = pending.into_iter().map(|s| (s.wanted.is_empty(), s.pool.is_none(), s)).collect();
    pending.sort_by_key(|(any_address, any_pool, _)| (*any_address, *any_pool));
    for (_, _, service) in pending {
        planner.allocate(service);
    }
    planner.finish()
}

struct Planner<'a> {
    inputs: &'a Inputs<'a>,
    ledger: Ledger,
    plan: Plan,
    lost: BTreeMap<ObjectKey, String>,
}

impl<'a> Planner<'a> {
    fn chooser(&mut self) -> Chooser<'_> {
        let Inputs { pools, namespaces, unannounced, .. } = *self.inputs;
        Chooser { pools, namespaces, ledger: &mut self.ledger, unannounced }
    }

    /// Confirms what Services hold and returns those that need something: oldest first, and those that want to share
    /// on other terms than before last.
    fn keep_what_is_held(&mut self, order: &[&'a Arc<ServiceFacts>]) -> Vec<&'a Arc<ServiceFacts>> {
        let mut pending = Vec::new();
        let agreed = self.inputs.agreed;
        let changed = |s: &&Arc<ServiceFacts>| agreed.get(&s.key).is_some_and(|before| !s.shares_as(before));
        let (last, first): (Vec<_>, Vec<_>) = order.iter().copied().partition(changed);
        for service in first.into_iter().chain(last) {
            let held = self.inputs.held.get(&service.key).map(Vec::as_slice).unwrap_or_default();
            if let Some(problem) = &service.refused {
                let unreadable = problem.reason == reason::LOAD_BALANCER_FAILED;
                // A request that can't be read doesn't cost the Service the address that it has.
                if unreadable && !held.is_empty() && self.confirm(service, held).is_ok() {
                    self.plan.problems.push(problem.clone());
                } else {
                    self.wait(service, problem.clone());
                }
            } else if held.is_empty() {
                pending.push(service);
            } else if let Err(why) = self.confirm(service, held) {
                self.lost.insert(service.key.clone(), why);
                pending.push(service);
            }
        }
        pending
    }

    /// Keeps the addresses for the Service if it may have them still, or says why not.
    fn confirm(&mut self, service: &'a ServiceFacts, held: &[IpAddr]) -> Result<(), String> {
        let mut ips = held.to_vec();
        ips.sort();
        let pool = self.chooser().may_keep(service, &ips)?;
        for ip in &ips {
            self.ledger.give(service, *ip);
        }
        self.plan.keep.insert(service.key.clone(), Grant { ips, pool });
        Ok(())
    }

    /// Gives a Service that prefers both families the one that it lacks, from the pool that it has already.
    fn add_second_family(&mut self, service: &'a ServiceFacts) {
        let Families::Prefer(_) = service.families else { return };
        let Some(grant) = self.plan.keep.get(&service.key).cloned() else { return };
        let ([first], []) = (grant.ips.as_slice(), service.wanted.as_slice()) else { return };
        let family = Family::of(*first).other();
        let Some(pool) = self.inputs.pools.iter().find(|p| p.name() == &*grant.pool) else { return };
        if let Some(ip) = self.ledger.find(service, pool, family) {
            self.ledger.give(service, ip);
            self.plan.keep.remove(&service.key);
            let mut ips = vec![*first, ip];
            ips.sort();
            self.note(service, reason::IP_ALLOCATED, format!("Assigned additional IP {:?}", ip.to_string()));
            self.plan.assign.insert(service.key.clone(), Grant { ips, pool: grant.pool });
        }
    }

    /// Addresses that stand in a status and that their Service doesn't hold any more wait until it is cleared.
    fn fence_what_is_leaving(&mut self) {
        for service in self.inputs.services.values() {
            for ip in &service.status {
                let kept = self.plan.grant(&service.key).is_some_and(|g| g.ips.contains(ip));
                if !kept {
                    self.ledger.leave(*ip, &service.key);
                }
            }
        }
    }

    fn allocate(&mut self, service: &'a Arc<ServiceFacts>) {
        match self.chooser().choose(service) {
            Ok(grant) => {
                let list: Vec<String> = grant.ips.iter().map(|ip| format!("{:?}", ip.to_string())).collect();
                self.note(service, reason::IP_ALLOCATED, format!("Assigned IP [{}]", list.join(" ")));
                for ip in &grant.ips {
                    self.ledger.give(service, *ip);
                }
                self.plan.assign.insert(service.key.clone(), grant);
            }
            Err(refusal) => {
                let problem = refusal_problem(service, &refusal);
                self.wait(service, problem);
            }
        }
    }

    fn wait(&mut self, service: &ServiceFacts, problem: Problem) {
        self.plan.problems.push(problem.clone());
        self.plan.waiting.insert(service.key.clone(), problem);
    }

    fn note(&mut self, service: &ServiceFacts, reason: Reason, message: String) {
        self.plan.notes.push(Note { service: service.key.clone(), reason, message });
    }

    fn finish(mut self) -> Plan {
        let grants: Vec<(ObjectKey, Grant)> = self.plan.grants().map(|(k, g)| (k.clone(), g.clone())).collect();
        for (key, grant) in grants {
            let held = self.inputs.held.get(&key).map(Vec::as_slice).unwrap_or_default();
            let new = grant.ips.iter().filter(|ip| !held.contains(ip));
            self.plan.given.extend(new.map(|ip| (key.clone(), *ip)));
            if let Some(service) = self.inputs.services.get(&key) {
                self.remark(service, &grant);
                self.report_contest(service, &grant);
            }
        }
        for (key, held) in self.inputs.held {
            let left: Vec<IpAddr> = match self.plan.grant(key) {
                Some(grant) => held.iter().copied().filter(|ip| !grant.ips.contains(ip)).collect(),
                None => held.clone(),
            };
            if !left.is_empty() {
                self.plan.release.insert(key.clone(), left);
            }
        }
        for (key, why) in std::mem::take(&mut self.lost) {
            let message =
                format!("current IP for \"{key}\" not allowed by config, will attempt for new IP assignment: {why}");
            self.plan.notes.push(Note { service: key, reason: reason::CLEAR_ASSIGNMENT, message });
        }
        for pool in self.inputs.pools {
            self.report_impostor(pool);
            let usage = |family| {
                let (assigned, taken) = self.ledger.usage(pool, family);
                Usage { total: pool.size(family), assigned, taken }
            };
            let name: Arc<str> = pool.name().into();
            self.plan.usage.insert(name.clone(), (usage(Family::V4), usage(Family::V6)));
            if self.inputs.look_ahead > 0 {
                self.plan.upcoming.insert(name, self.ledger.upcoming(pool, self.inputs.look_ahead));
            }
        }
        self.plan
    }
}

fn about(service: &ServiceFacts) -> ObjectRef {
    ObjectRef::new("Service", service.key.clone())
}

fn refusal_problem(service: &ServiceFacts, refusal: &Refusal) -> Problem {
    let (field, value) = if let [first, ..] = service.wanted.as_slice() {
        let field = format!("metadata.annotations[{}]", crate::service::LOAD_BALANCER_IPS);
        (field, if service.wanted.len() == 1 { first.to_string() } else { format!("{:?}", service.wanted) })
    } else if let Some(pool) = &service.pool {
        (format!("metadata.annotations[{}]", crate::service::ADDRESS_POOL), pool.to_string())
    } else {
        (String::new(), String::new())
    };
    let cause = format!("failed to allocate IP for \"{}\": {refusal}", service.key);
    Problem::new(about(service), reason::ALLOCATION_FAILED, cause).at(field, value).remedy(refusal.remedy())
}
