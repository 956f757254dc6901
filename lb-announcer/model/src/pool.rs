//! Pools as allocation needs them: parsed, without overlaps, with compiled selectors.

use std::collections::{BTreeMap, BTreeSet};
use std::net::IpAddr;
use std::sync::Arc;

use landfall_model::{ObjectKey, ObjectRef, Problem};

use crate::address::{Entry, EntryError, Family, Role, Span};
use crate::crd::{IPAddressPool, LabelSelector};
use crate::reason;
use crate::selector::{Labels, Selector, labels_of};

/// Labels of every namespace.
pub type Namespaces = BTreeMap<Arc<str>, Labels>;

/// A pool that can be allocated from.
#[derive(Clone, Debug)]
pub struct Pool {
    /// Namespace and name of the object.
    pub key: ObjectKey,
    /// The addresses in the order written, disjoint.
    pub spans: Vec<Span>,
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

/// Reads all pools, the oldest first; what is wrong with one never stops the others.
///
/// Where two entries overlap, the pool that was made first keeps the addresses.
pub fn read_pools(objects: &[Arc<IPAddressPool>], namespaces: &Namespaces) -> (Vec<Pool>, Vec<Problem>) {
    let mut order: Vec<&Arc<IPAddressPool>> = objects.iter().collect();
    order.sort_by_key(|o| (o.metadata.creation_timestamp.as_ref().map(|t| t.0), key_of(o)));
    let mut reader = Reader::default();
    let pools = order.into_iter().map(|object| reader.read(object, namespaces)).collect();
    (pools, reader.problems)
}

fn key_of(object: &IPAddressPool) -> ObjectKey {
    let meta = &object.metadata;
    ObjectKey::new(meta.namespace.as_deref().unwrap_or_default(), meta.name.as_deref().unwrap_or_default())
}

#[derive(Default)]
struct Reader {
    problems: Vec<Problem>,
    /// First number of each span that is given to a pool, with its last number and that pool.
    claimed: BTreeMap<(Family, u128), (u128, ObjectKey)>,
    names: BTreeMap<Arc<str>, ObjectKey>,
}

impl Reader {
    fn read(&mut self, object: &IPAddressPool, namespaces: &Namespaces) -> Pool {
        let key = key_of(object);
        let about = ObjectRef::new("IPAddressPool", key.clone());
        let spans = self.spans(&about, &object.spec.addresses);
        if let Some(first) = self.names.get(key.name()) {
            let cause =
                format!("ipaddresspool {first} has the same name, and Services name a pool without its namespace");
            let problem = Problem::new(about.clone(), reason::DUPLICATE_ENTRY, cause).at("metadata.name", key.name());
            self.problems.push(problem.remedy("rename one of them").warning());
        } else {
            self.names.insert(key.name().into(), key.clone());
        }
        let audience = object.spec.service_allocation.as_ref().map(|allocation| {
            let base = "spec.serviceAllocation";
            for name in &allocation.namespaces {
                if !namespaces.is_empty() && !namespaces.contains_key(name.as_str()) {
                    let problem = Problem::new(about.clone(), reason::UNKNOWN_NAMESPACE, "there is no such namespace");
                    let problem = problem.at(format!("{base}.namespaces"), name).warning();
                    self.problems.push(problem.remedy("create the namespace or take it out of the list"));
                }
            }
            self.duplicates(&about, &format!("{base}.namespaces"), &allocation.namespaces);
            let priority = allocation.priority.unwrap_or(0);
            if priority < 0 {
                let problem = Problem::new(about.clone(), reason::INVALID_PRIORITY, "a priority is not negative");
                let problem = problem.at(format!("{base}.priority"), priority.to_string());
                self.problems.push(problem.remedy("use 1 for the pool to try first and higher numbers for later ones"));
            }
            Audience {
                priority: priority.max(0),
                namespaces: allocation.namespaces.iter().map(|n| n.as_str().into()).collect(),
                namespace_selectors: selectors(
                    &about,
                    &format!("{base}.namespaceSelectors"),
                    &allocation.namespace_selectors,
                    &mut self.problems,
                ),
                restricts_namespaces: !allocation.namespaces.is_empty() || !allocation.namespace_selectors.is_empty(),
                service_selectors: selectors(
                    &about,
                    &format!("{base}.serviceSelectors"),
                    &allocation.service_selectors,
                    &mut self.problems,
                ),
                restricts_services: !allocation.service_selectors.is_empty(),
            }
        });
        Pool {
            key,
            spans,
            labels: labels_of(object.metadata.labels.as_ref()),
            auto_assign: object.spec.auto_assign,
            avoid_buggy: object.spec.avoid_buggy_ips,
            audience,
        }
    }

    fn duplicates(&mut self, about: &ObjectRef, field: &str, list: &[String]) {
        self.problems.extend(duplicates(about, field, list));
    }

    fn spans(&mut self, about: &ObjectRef, addresses: &[String]) -> Vec<Span> {
        let mut included = Vec::new();
        let mut excluded = Vec::new();
        for (index, text) in addresses.iter().enumerate() {
            let field = format!("spec.addresses[{index}]");
            match Entry::parse(text) {
                Ok(entry) => {
                    self.remark(about, &field, text, entry);
                    match entry.role {
                        Role::Include => included.push((field, text, entry.span)),
                        Role::Exclude => excluded.push(entry.span),
                    }
                }
                Err(error) => self.problems.push(
                    Problem::new(about.clone(), reason::INVALID_ADDRESS_RANGE, error.to_string())
                        .at(field, text)
                        .remedy(remedy_for(&error)),
                ),
            }
        }
        let mut spans = Vec::new();
        for (field, text, span) in included {
            let mut left = vec![span];
            for cut in excluded.iter().copied().chain(unusable()) {
                left = left.into_iter().flat_map(|s| s.without(cut)).collect();
            }
            for piece in left {
                spans.extend(self.claim(about, &field, text, piece));
            }
        }
        if spans.is_empty() {
            let problem = Problem::new(about.clone(), reason::EMPTY_POOL, "the pool has no address to give");
            let problem = problem.at("spec.addresses", addresses.join(", "));
            self.problems
                .push(problem.remedy("add a prefix such as 192.0.2.0/28 or a range such as 192.0.2.10-192.0.2.20"));
        }
        spans
    }

    fn remark(&mut self, about: &ObjectRef, field: &str, text: &str, entry: Entry) {
        if entry.masked {
            let cause = format!("the prefix has bits after its length, which are ignored: it means {}", entry.span);
            let problem = Problem::new(about.clone(), reason::HOST_BITS_IGNORED, cause).at(field, text).warning();
            self.problems.push(problem.remedy("write the prefix with its first address, or a range"));
        }
        let cut = unusable().into_iter().find_map(|u| u.intersect(entry.span));
        if let (Role::Include, Some(cut)) = (entry.role, cut) {
            let cause = format!("{cut} can't be a Service's address and is left out");
            let problem = Problem::new(about.clone(), reason::UNUSABLE_ADDRESSES, cause).at(field, text).warning();
            self.problems.push(problem.remedy("use unicast addresses of the network that the nodes are on"));
        }
    }

    /// Gives to the pool what nobody has yet of `span`.
    fn claim(&mut self, about: &ObjectRef, field: &str, text: &str, span: Span) -> Vec<Span> {
        let family = span.family();
        let mut left = vec![span];
        let before = self.claimed.range(..(family, span.first())).next_back();
        let inside = self.claimed.range((family, span.first())..=(family, span.last()));
        let mut overlaps = Vec::new();
        for (&(of, first), (last, owner)) in before.into_iter().chain(inside) {
            let theirs = Span::new(of, first, *last);
            if let Some(cut) = theirs.and_then(|t| t.intersect(span)) {
                left = left.into_iter().flat_map(|s| s.without(cut)).collect();
                overlaps.push((cut, owner.clone()));
            }
        }
        for (cut, owner) in overlaps {
            let cause = if owner == about.key {
                format!("{cut} stands in another entry of this pool already")
            } else {
                format!("{cut} overlaps with ipaddresspool {owner}, which was made first and keeps it")
            };
            let problem = Problem::new(about.clone(), reason::OVERLAPPING_ADDRESSES, cause).at(field, text);
            self.problems.push(problem.remedy("take the common addresses out of one of them"));
        }
        for piece in &left {
            self.claimed.insert((family, piece.first()), (piece.last(), about.key.clone()));
        }
        left
    }
}

fn remedy_for(error: &EntryError) -> &'static str {
    match error {
        EntryError::Reversed => "write the lower address first",
        EntryError::Mixed => "use one range for each family",
        EntryError::NotALength { .. } => "correct the number after the slash",
        EntryError::Empty | EntryError::NotAnAddress(_) => {
            "write a prefix such as 192.0.2.0/28, a range such as 192.0.2.10-192.0.2.20 or an address"
        }
    }
}

/// What can never be a Service's address: this network, loopback, link-local, multicast and reserved.
fn unusable() -> Vec<Span> {
    let prefixes: [(IpAddr, u32); 8] = [
        ([0, 0, 0, 0].into(), 8),
        ([127, 0, 0, 0].into(), 8),
        ([169, 254, 0, 0].into(), 16),
        ([224, 0, 0, 0].into(), 3),
        ([0u16, 0, 0, 0, 0, 0, 0, 0].into(), 127),
        ([0xfe80u16, 0, 0, 0, 0, 0, 0, 0].into(), 10),
        ([0xff00u16, 0, 0, 0, 0, 0, 0, 0].into(), 8),
        ([0u16, 0, 0, 0, 0, 0xffff, 0, 0].into(), 96),
    ];
    prefixes.into_iter().filter_map(|(ip, length)| Span::prefix(ip, length)).collect()
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
