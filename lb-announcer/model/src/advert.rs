//! L2 advertisements: which addresses are announced by which nodes, on which interfaces.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use landfall_model::{ObjectKey, ObjectRef, Problem};

use crate::crd::L2Advertisement;
use crate::node::NodeFacts;
use crate::pool::{Pool, duplicates, selectors};
use crate::reason;
use crate::selector::Selector;
use crate::service::ServiceFacts;

/// Where an address may be announced on a node.
#[derive(Clone, PartialEq, Eq, Hash, Debug)]
pub enum Interfaces {
    /// On every interface that the program uses.
    All,
    /// On those with these names.
    Named(BTreeSet<Arc<str>>),
}

impl Interfaces {
    /// Whether the interface called `name` is among them.
    pub fn allow(&self, name: &str) -> bool {
        match self {
            Self::All => true,
            Self::Named(names) => names.contains(name),
        }
    }

    /// Both together.
    #[must_use]
    pub fn union(self, other: Self) -> Self {
        match (self, other) {
            (Self::Named(mut a), Self::Named(b)) => {
                a.extend(b);
                Self::Named(a)
            }
            _ => Self::All,
        }
    }
}

/// An advertisement, parsed.
#[derive(Clone, Debug)]
pub struct Advert {
    /// Namespace and name.
    pub key: ObjectKey,
    pools: BTreeSet<Arc<str>>,
    pool_selectors: Vec<Selector>,
    every_pool: bool,
    node_selectors: Vec<Selector>,
    every_node: bool,
    service_selectors: Vec<Selector>,
    every_service: bool,
    preferences: Vec<(i64, Selector)>,
    /// Where its nodes announce.
    pub interfaces: Interfaces,
}

impl Advert {
    /// Whether it covers the pool.
    pub fn covers_pool(&self, pool: &Pool) -> bool {
        self.every_pool
            || self.pools.contains(pool.name())
            || self.pool_selectors.iter().any(|s| s.matches(&pool.labels))
    }

    /// Whether it covers the Service.
    pub fn covers_service(&self, service: &ServiceFacts) -> bool {
        self.every_service || self.service_selectors.iter().any(|s| s.matches(&service.labels))
    }

    /// Whether it picks Services by their labels.
    pub fn selects_services(&self) -> bool {
        !self.every_service
    }

    /// The node's preference score if the advertisement covers it.
    pub fn score(&self, node: &NodeFacts) -> Option<i64> {
        let covers = self.every_node || self.node_selectors.iter().any(|s| s.matches(&node.labels));
        covers.then(|| self.preferences.iter().filter(|(_, s)| s.matches(&node.labels)).map(|(weight, _)| weight).sum())
    }
}

/// Reads all advertisements, in the order of their keys.
///
/// One with a query that can't be read means what it meant before, where `good` has that.
pub fn read_adverts(
    objects: &[Arc<L2Advertisement>],
    pools: &[Pool],
    good: &mut BTreeMap<ObjectKey, Arc<L2Advertisement>>,
) -> (Vec<Advert>, Vec<Problem>) {
    let mut problems = Vec::new();
    let mut adverts = Vec::new();
    for object in objects {
        let mut found = Vec::new();
        let mut advert = read(object, pools, &mut found);
        let unreadable = found.iter().any(|p| p.reason == reason::INVALID_SELECTOR);
        if !unreadable {
            good.insert(advert.key.clone(), object.clone());
        } else if let Some(before) = good.get(&advert.key) {
            advert = read(before, pools, &mut Vec::new());
            for problem in found.iter_mut().filter(|p| p.reason == reason::INVALID_SELECTOR) {
                let error = problem.cause.trim_end_matches("; the query selects nothing");
                problem.cause = format!("{error}; until it is corrected, the advertisement means what it did before");
            }
        }
        adverts.push(advert);
        problems.extend(found);
    }
    adverts.sort_by(|a, b| a.key.cmp(&b.key));
    for pool in pools {
        if !adverts.iter().any(|a| a.covers_pool(pool)) {
            let about = ObjectRef::new("IPAddressPool", pool.key.clone());
            let problem = Problem::new(
                about,
                reason::NOT_ADVERTISED,
                "no L2Advertisement covers the pool, so its addresses are given and not announced",
            );
            problems.push(
                problem.remedy("create an L2Advertisement that names the pool, or one with an empty spec").warning(),
            );
        }
    }
    (adverts, problems)
}

fn read(object: &L2Advertisement, pools: &[Pool], problems: &mut Vec<Problem>) -> Advert {
    let meta = &object.metadata;
    let key = ObjectKey::of(meta);
    let about = ObjectRef::new("L2Advertisement", key.clone());
    let spec = &object.spec;
    problems.extend(duplicates(&about, "spec.ipAddressPools", &spec.ip_address_pools));
    problems.extend(duplicates(&about, "spec.interfaces", &spec.interfaces));
    for (index, name) in spec.ip_address_pools.iter().enumerate() {
        if !pools.iter().any(|p| p.name() == name) {
            let problem = Problem::new(about.clone(), reason::UNKNOWN_POOL, "there is no such IPAddressPool");
            let problem = problem.at(format!("spec.ipAddressPools[{index}]"), name).warning();
            problems.push(problem.remedy("correct the name, or create the pool"));
        }
    }
    for (index, name) in spec.interfaces.iter().enumerate() {
        // The kernel's own rule (dev_valid_name).
        if name.is_empty() || name.len() > 15 || name.contains(['/', ':']) || name.contains(char::is_whitespace) {
            let problem = Problem::new(about.clone(), reason::INVALID_INTERFACE, "no interface can have this name");
            let problem = problem.at(format!("spec.interfaces[{index}]"), name);
            problems.push(problem.remedy("use a name as \"ip link\" prints it; patterns are not understood here"));
        }
    }
    let mut preferences = Vec::new();
    for (index, preference) in spec.preferred_node_selectors.iter().enumerate() {
        let field = format!("spec.preferredNodeSelectors[{index}]");
        if !(1..=100).contains(&preference.weight) {
            let problem = Problem::new(
                about.clone(),
                reason::INVALID_PRIORITY,
                "a weight goes from 1 to 100; the preference is ignored",
            );
            problems.push(
                problem
                    .at(format!("{field}.weight"), preference.weight.to_string())
                    .remedy("use a weight from 1 to 100"),
            );
            continue;
        }
        let query = std::slice::from_ref(&preference.preference);
        let compiled = selectors(&about, &format!("{field}.preference"), query, problems);
        preferences.extend(compiled.into_iter().map(|s| (i64::from(preference.weight), s)));
    }
    Advert {
        pools: spec.ip_address_pools.iter().map(|n| n.as_str().into()).collect(),
        every_pool: spec.ip_address_pools.is_empty() && spec.ip_address_pool_selectors.is_empty(),
        pool_selectors: selectors(&about, "spec.ipAddressPoolSelectors", &spec.ip_address_pool_selectors, problems),
        every_node: spec.node_selectors.is_empty(),
        node_selectors: selectors(&about, "spec.nodeSelectors", &spec.node_selectors, problems),
        every_service: spec.service_selectors.is_empty(),
        service_selectors: selectors(&about, "spec.serviceSelectors", &spec.service_selectors, problems),
        preferences,
        interfaces: match spec.interfaces.as_slice() {
            [] => Interfaces::All,
            names => Interfaces::Named(names.iter().map(|n| n.as_str().into()).collect()),
        },
        key,
    }
}
