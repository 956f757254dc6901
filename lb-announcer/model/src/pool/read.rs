//! How pools are read from their objects.

use std::collections::{BTreeMap, BTreeSet};
use std::net::IpAddr;
use std::sync::Arc;

use landfall_model::{ObjectKey, ObjectRef, Problem};

use super::memory::{Memory, Recalled};
use super::{Audience, Namespaces, Pool, duplicates, selectors};
use crate::address::{Entry, EntryError, Family, Role, Span};
use crate::crd::{IPAddressPool, ServiceAllocation};
use crate::reason;
use crate::selector::{Selector, labels_of};

/// Addresses that Services hold, by the name of the pool that they came from.
pub type Claims = BTreeMap<Arc<str>, BTreeSet<IpAddr>>;

/// Reads all pools, the oldest first, without knowing what they said before; what is wrong with one never stops the
/// others.
///
/// Where two entries overlap, the pool that was made first keeps the addresses.
pub fn read_pools(objects: &[Arc<IPAddressPool>], namespaces: &Namespaces) -> (Vec<Pool>, Vec<Problem>) {
    Memory::default().read(objects, namespaces, &Claims::new())
}

impl Memory {
    /// Reads all pools as [`read_pools`] does.
    ///
    /// An entry that can't be read means what it meant before. Where that isn't known, the pool has the addresses that
    /// Services hold of it, as `claims` says.
    pub fn read(
        &mut self,
        objects: &[Arc<IPAddressPool>],
        namespaces: &Namespaces,
        claims: &Claims,
    ) -> (Vec<Pool>, Vec<Problem>) {
        let mut order: Vec<&Arc<IPAddressPool>> = objects.iter().collect();
        order.sort_by_key(|o| (o.metadata.creation_timestamp.as_ref().map(|t| t.0), key_of(o)));
        self.retain(&objects.iter().map(|o| key_of(o)).collect());
        let mut reader = Reader::default();
        let entries: Vec<(&Arc<IPAddressPool>, Vec<Recalled>)> =
            order.into_iter().map(|object| (object, self.recall(&key_of(object), &object.spec.addresses))).collect();
        let mut pools: Vec<Pool> =
            entries.iter().map(|(object, entries)| reader.read(object, entries, namespaces, claims)).collect();
        // What is only held comes after everything that is written.
        for (pool, (_, entries)) in pools.iter_mut().zip(&entries) {
            if entries.iter().any(|e| matches!(e, Recalled::Lost(_))) {
                pool.spans.extend(reader.held(pool, claims));
            }
        }
        for (pool, (object, _)) in pools.iter().zip(&entries) {
            reader.remark_emptiness(pool, &object.spec.addresses);
        }
        (pools, reader.problems)
    }
}

fn key_of(object: &IPAddressPool) -> ObjectKey {
    ObjectKey::of(&object.metadata)
}

#[derive(Default)]
struct Reader {
    problems: Vec<Problem>,
    /// First number of each span that is given to a pool, with its last number and that pool.
    claimed: BTreeMap<(Family, u128), (u128, ObjectKey)>,
    names: BTreeMap<Arc<str>, ObjectKey>,
}

/// An entry that adds addresses.
struct Included<'a> {
    field: String,
    text: &'a str,
    span: Span,
    /// Whether this is what the entry meant before it became unreadable.
    kept: bool,
}

impl Reader {
    fn read(&mut self, object: &IPAddressPool, entries: &[Recalled], namespaces: &Namespaces, claims: &Claims) -> Pool {
        let key = key_of(object);
        let about = ObjectRef::new("IPAddressPool", key.clone());
        if let Some(first) = self.names.get(key.name()) {
            let cause =
                format!("ipaddresspool {first} has the same name, and Services name a pool without its namespace");
            let problem = Problem::new(about.clone(), reason::DUPLICATE_ENTRY, cause).at("metadata.name", key.name());
            self.problems.push(problem.remedy("rename one of them").warning());
        } else {
            self.names.insert(key.name().into(), key.clone());
        }
        let mut pool = Pool {
            spans: Vec::new(),
            left_out: Vec::new(),
            labels: labels_of(object.metadata.labels.as_ref()),
            auto_assign: object.spec.auto_assign,
            avoid_buggy: object.spec.avoid_buggy_ips,
            audience: object.spec.service_allocation.as_ref().map(|a| self.audience(&about, a, namespaces)),
            key,
        };
        self.fill(&mut pool, &about, &object.spec.addresses, entries, claims);
        pool
    }

    fn audience(&mut self, about: &ObjectRef, allocation: &ServiceAllocation, namespaces: &Namespaces) -> Audience {
        let base = "spec.serviceAllocation";
        for name in &allocation.namespaces {
            if !namespaces.is_empty() && !namespaces.contains_key(name.as_str()) {
                let problem = Problem::new(about.clone(), reason::UNKNOWN_NAMESPACE, "there is no such namespace");
                let problem = problem.at(format!("{base}.namespaces"), name).warning();
                self.problems.push(problem.remedy("create the namespace or take it out of the list"));
            }
        }
        self.problems.extend(duplicates(about, &format!("{base}.namespaces"), &allocation.namespaces));
        let priority = allocation.priority.unwrap_or(0);
        if priority < 0 {
            let problem = Problem::new(about.clone(), reason::INVALID_PRIORITY, "a priority is not negative");
            let problem = problem.at(format!("{base}.priority"), priority.to_string());
            self.problems.push(problem.remedy("use 1 for the pool to try first and higher numbers for later ones"));
        }
        let unreadable = |list: &[crate::crd::LabelSelector]| list.iter().any(|s| Selector::compile(s).is_err());
        let mut list = |name: &str, queries| selectors(about, &format!("{base}.{name}"), queries, &mut self.problems);
        Audience {
            priority: priority.max(0),
            namespaces: allocation.namespaces.iter().map(|n| n.as_str().into()).collect(),
            namespace_selectors: list("namespaceSelectors", &allocation.namespace_selectors),
            restricts_namespaces: !allocation.namespaces.is_empty() || !allocation.namespace_selectors.is_empty(),
            service_selectors: list("serviceSelectors", &allocation.service_selectors),
            restricts_services: !allocation.service_selectors.is_empty(),
            unreadable: unreadable(&allocation.namespace_selectors) || unreadable(&allocation.service_selectors),
        }
    }

    fn fill(&mut self, pool: &mut Pool, about: &ObjectRef, texts: &[String], entries: &[Recalled], claims: &Claims) {
        let mut included = Vec::new();
        for (index, (text, recalled)) in texts.iter().zip(entries).enumerate() {
            let field = format!("spec.addresses[{index}]");
            let (entry, kept) = match recalled {
                Recalled::Read(entry) => {
                    self.remark(about, &field, text, *entry);
                    (*entry, false)
                }
                Recalled::Kept(entry, error) => {
                    let meanwhile = format!("until it is corrected, it means what it did before: {}", entry.span);
                    self.refuse(about, &field, text, error, &meanwhile);
                    (*entry, true)
                }
                Recalled::Lost(error) => {
                    let held = claims.get(pool.name()).filter(|held| !held.is_empty());
                    let meanwhile = held.map_or_else(String::new, |held| {
                        let list: Vec<String> = held.iter().take(5).map(IpAddr::to_string).collect();
                        let more = if held.len() > list.len() { " and others" } else { "" };
                        format!(
                            "until it is corrected, Services keep what they have of this pool: {}{more}",
                            list.join(", ")
                        )
                    });
                    self.refuse(about, &field, text, error, &meanwhile);
                    continue;
                }
            };
            match entry.role {
                Role::Include => included.push(Included { field, text, span: entry.span, kept }),
                Role::Exclude => pool.left_out.push((entry.span, format!("the entry {text:?} excludes it"))),
            }
        }
        let cuts: Vec<Span> = pool.left_out.iter().map(|(span, _)| *span).chain(unusable()).collect();
        pool.left_out.extend(unusable().into_iter().map(|span| (span, format!("{span} can't be a Service's address"))));
        // An exclusion of unknown meaning may be about any address, so no new one is given.
        let lost_exclusion =
            |(text, one): (&String, &Recalled)| matches!(one, Recalled::Lost(_)) && text.trim_start().starts_with('!');
        if texts.iter().zip(entries).any(lost_exclusion) {
            return;
        }
        // What is written now comes before what was written once.
        let mut pieces: Vec<(usize, Vec<Span>)> = Vec::new();
        let in_turn = included.iter().enumerate().filter(|(_, i)| !i.kept);
        for (index, one) in in_turn.chain(included.iter().enumerate().filter(|(_, i)| i.kept)) {
            let mut left = vec![one.span];
            for cut in &cuts {
                left = left.into_iter().flat_map(|s| s.without(*cut)).collect();
            }
            pieces.push((index, left.into_iter().flat_map(|piece| self.claim(about, one, piece)).collect()));
        }
        pieces.sort_by_key(|(index, _)| *index);
        pool.spans = pieces.into_iter().flat_map(|(_, spans)| spans).collect();
    }

    fn refuse(&mut self, about: &ObjectRef, field: &str, text: &str, error: &EntryError, meanwhile: &str) {
        let cause = if meanwhile.is_empty() { error.to_string() } else { format!("{error}; {meanwhile}") };
        let problem = Problem::new(about.clone(), reason::INVALID_ADDRESS_RANGE, cause).at(field, text);
        self.problems.push(problem.remedy(remedy_for(error)));
    }

    /// The addresses that Services hold of a pool, without those that stand in a pool anyway.
    fn held(&mut self, pool: &Pool, claims: &Claims) -> Vec<Span> {
        let held = claims.get(pool.name()).into_iter().flatten().map(|ip| Span::one(*ip));
        let about = ObjectRef::new("IPAddressPool", pool.key.clone());
        held.flat_map(|span| {
            let one = Included { field: String::new(), text: "", span, kept: true };
            self.claim(&about, &one, span)
        })
        .collect()
    }

    fn remark_emptiness(&mut self, pool: &Pool, addresses: &[String]) {
        if pool.spans.is_empty() {
            let about = ObjectRef::new("IPAddressPool", pool.key.clone());
            let problem = Problem::new(about, reason::EMPTY_POOL, "the pool has no address to give");
            let problem = problem.at("spec.addresses", addresses.join(", "));
            self.problems
                .push(problem.remedy("add a prefix such as 192.0.2.0/28 or a range such as 192.0.2.10-192.0.2.20"));
        }
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
    fn claim(&mut self, about: &ObjectRef, entry: &Included<'_>, span: Span) -> Vec<Span> {
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
        // An entry that was once right is not to be mended because of others.
        overlaps.retain(|_| !entry.kept);
        for (cut, owner) in overlaps {
            let cause = if owner == about.key {
                format!("{cut} stands in another entry of this pool already")
            } else {
                format!("{cut} overlaps with ipaddresspool {owner}, which was made first and keeps it")
            };
            let problem =
                Problem::new(about.clone(), reason::OVERLAPPING_ADDRESSES, cause).at(&entry.field, entry.text);
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
