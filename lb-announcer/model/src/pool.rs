//! Pools as allocation needs them: parsed, without overlaps, with compiled selectors.

mod memory;
mod read;

use std::collections::{BTreeMap, BTreeSet};
use std::net::IpAddr;
use std::sync::Arc;

use landfall_model::{ObjectKey, ObjectRef, Problem};

pub use memory::Memory;
pub use read::{Claims, read_pools};

use crate::address::{Family, Span};
use crate::crd::LabelSelector;
use crate::reason;
use crate::selector::{Labels, Selector};

/// Labels of every namespace.
pub type Namespaces = BTreeMap<Arc<str>, Labels>;

/// A pool that can be allocated from.
#[derive(Clone, Debug)]
pub struct Pool {
    /// Namespace and name of the object.
    pub key: ObjectKey,
    /// The addresses in the order written, disjoint.
    pub spans: Vec<Span>,
    /// Addresses that an entry names and the pool doesn't give, with the reason.
    pub left_out: Vec<(Span, String)>,
    /// The object's labels, which advertisements select by.
    pub labels: Labels,
    /// Whether Services that don't name the pool can get addresses.
    pub auto_assign: bool,
    /// Whether IPv4 addresses that end in .0 and .255 are left out.
    pub avoid_buggy: bool,
    /// Who can get addresses; `None`: everybody.
    pub audience: Option<Audience>,
}

/// Which Services can get a pool's addresses.
#[derive(Clone, Debug, Default)]
pub struct Audience {
    /// Lower comes first; 0 last.
    pub priority: i64,
    namespaces: BTreeSet<Arc<str>>,
    namespace_selectors: Vec<Selector>,
    restricts_namespaces: bool,
    service_selectors: Vec<Selector>,
    restricts_services: bool,
    /// Whether one of the selectors can't be read. What Services have they keep meanwhile.
    pub unreadable: bool,
}

/// Why a Service is not in a pool's audience.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug)]
pub enum Outside {
    /// Its namespace isn't.
    Namespace,
    /// Its labels aren't.
    Labels,
}

impl Audience {
    /// Whether the Service with these labels in this namespace belongs to it.
    ///
    /// A list of namespace selectors that select nothing allows nothing. (`MetalLB` then allows every namespace.)
    pub fn admits(&self, namespace: &str, labels: &Labels, namespaces: &Namespaces) -> Result<(), Outside> {
        let none = Labels::new();
        let namespace_labels = namespaces.get(namespace).unwrap_or(&none);
        let by_namespace = !self.restricts_namespaces
            || self.namespaces.contains(namespace)
            || self.namespace_selectors.iter().any(|s| s.matches(namespace_labels));
        let by_labels = !self.restricts_services || self.service_selectors.iter().any(|s| s.matches(labels));
        match (by_namespace, by_labels) {
            (true, true) => Ok(()),
            (false, _) => Err(Outside::Namespace),
            (true, false) => Err(Outside::Labels),
        }
    }
}

impl Pool {
    /// The pool's name, which is what annotations and advertisements use.
    pub fn name(&self) -> &str {
        self.key.name()
    }

    /// Whether `ip` is one of its addresses.
    pub fn contains(&self, ip: IpAddr) -> bool {
        self.spans.iter().any(|s| s.contains(ip)) && !(self.avoid_buggy && is_buggy(ip))
    }

    /// Why it doesn't give `ip`, which one of its entries names; `None` if none does or if it gives it.
    pub fn withholds(&self, ip: IpAddr) -> Option<String> {
        if self.avoid_buggy && is_buggy(ip) && self.spans.iter().any(|s| s.contains(ip)) {
            return Some("it ends in .0 or .255, and avoidBuggyIPs is true".to_owned());
        }
        self.left_out.iter().find(|(span, _)| span.contains(ip)).map(|(_, why)| why.clone())
    }

    /// Addresses of one family, with those left out as buggy already taken off.
    pub fn size(&self, family: Family) -> u128 {
        self.spans.iter().filter(|s| s.family() == family).map(|s| self.usable(*s)).fold(0, u128::saturating_add)
    }

    fn usable(&self, span: Span) -> u128 {
        if !self.avoid_buggy || span.family() == Family::V6 {
            return span.size();
        }
        // Numbers that are 0 or 255 modulo 256, up to and without `end`.
        let buggy_below = |end: u128| end / 256 + end.div_ceil(256);
        span.size() - (buggy_below(span.last() + 1) - buggy_below(span.first()))
    }
}

/// Whether the last octet of an IPv4 address is 0 or 255.
pub fn is_buggy(ip: IpAddr) -> bool {
    matches!(ip, IpAddr::V4(v4) if matches!(v4.octets()[3], 0 | 255))
}

/// Compiles each query of a list and reports those that can't be and those that stand there twice.
pub(crate) fn selectors(
    about: &ObjectRef,
    field: &str,
    queries: &[LabelSelector],
    problems: &mut Vec<Problem>,
) -> Vec<Selector> {
    let mut compiled = Vec::new();
    for (index, query) in queries.iter().enumerate() {
        let field = format!("{field}[{index}]");
        match Selector::compile(query) {
            Ok(selector) if compiled.contains(&selector) => problems.push(
                Problem::new(about.clone(), reason::DUPLICATE_ENTRY, "the same query stands in the list twice")
                    .at(field, "")
                    .remedy("remove one of them")
                    .warning(),
            ),
            Ok(selector) => compiled.push(selector),
            Err(error) => problems.push(
                Problem::new(about.clone(), reason::INVALID_SELECTOR, format!("{error}; the query selects nothing"))
                    .at(field, serde_json::to_string(query).unwrap_or_default())
                    .remedy("correct the query"),
            ),
        }
    }
    compiled
}

/// Reports values that stand in a list twice.
pub(crate) fn duplicates(about: &ObjectRef, field: &str, list: &[String]) -> Vec<Problem> {
    let mut seen = BTreeSet::new();
    let twice = list.iter().filter(|value| !seen.insert(value.as_str()));
    twice
        .map(|value| {
            let problem = Problem::new(about.clone(), reason::DUPLICATE_ENTRY, "the value stands in the list twice");
            problem.at(field, value).remedy("remove one of them").warning()
        })
        .collect()
}
