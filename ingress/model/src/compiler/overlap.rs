//! Hosts that Ingresses of several namespaces share. Kubernetes allows that, so it is a warning to both sides.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use landfall_model::{ObjectKey, ObjectRef, Problem};

use super::ingress::{Age, Place};
use super::link::LinkedRoute;
use super::notes::Contest;
use super::{Compiler, Effects};
use crate::host::HostPattern;
use crate::reason;
use crate::settings::HostOwnership;
use crate::table::{Action, Dialect, HostRoutes, PathRule, Route, Table};

/// What to do about a host that is shared.
const REMEDY: &str = "if that is not meant, use another host; --host-ownership namespace refuses it";

/// Who takes what the rules of other namespaces' hosts leave.
#[derive(Debug, Default)]
pub(super) struct Overlaps {
    by_host: BTreeMap<HostPattern, BTreeSet<ObjectKey>>,
    by_taker: BTreeMap<ObjectKey, BTreeMap<HostPattern, Taken>>,
}

/// That a rule for a wildcard or without a host takes what a host leaves.
#[derive(Debug)]
struct Taken {
    /// The Ingress of the host.
    from: ObjectKey,
    by: HostPattern,
    place: Place,
}

impl Compiler {
    /// Of paths of one host, where one lies within the other: the two owners' Problems if their namespaces differ.
    pub(super) fn shared_paths(&self, host: &HostPattern, routes: &HostRoutes) -> Vec<Problem> {
        let Some(ages) = self.hosts.get(host) else { return Vec::new() };
        let first = ages.first().map(|age| age.key.namespace());
        let is_shared = ages.iter().any(|age| Some(age.key.namespace()) != first);
        if !is_shared || self.settings.host_ownership == HostOwnership::Namespace {
            return Vec::new();
        }
        let mut pairs: BTreeMap<(&ObjectKey, &ObjectKey), (&LinkedRoute, &Arc<Route>)> = BTreeMap::new();
        for (age, candidate) in self.candidates(host) {
            let Some(outer) = around(candidate, routes) else { continue };
            if outer.id.ingress.namespace() != age.key.namespace() {
                pairs.entry((&outer.id.ingress, &age.key)).or_insert((candidate, outer));
            }
        }
        let told = pairs.into_values().flat_map(|(inner, outer)| [inside(inner, outer), self.outside(inner, outer)]);
        told.collect()
    }

    /// Routes for a host, those of older Ingresses first.
    fn candidates(&self, host: &HostPattern) -> impl Iterator<Item = (&Age, &LinkedRoute)> {
        self.hosts.get(host).into_iter().flatten().flat_map(move |age| {
            let routes = self.linked.get(&age.key).map(|linked| linked.routes_of(host)).unwrap_or_default();
            routes.iter().map(move |route| (age, route))
        })
    }

    fn place_of(&self, route: &Arc<Route>) -> Place {
        let linked = self.linked.get(&route.id.ingress);
        let mut routes = linked.map(|linked| linked.routes_of(&route.id.host)).unwrap_or_default().iter();
        routes.find(|linked| Arc::ptr_eq(&linked.route, route)).map_or(Place::Default, |linked| linked.place)
    }

    fn outside(&self, inner: &LinkedRoute, outer: &Arc<Route>) -> Problem {
        let id = &inner.route.id;
        let cause = format!(
            "on host {}, {} of ingress {} in another namespace takes requests from {}",
            id.host,
            path_text(id.path.as_ref()),
            id.ingress,
            path_text(outer.id.path.as_ref()),
        );
        shared(&outer.id.ingress, cause, self.place_of(outer), outer)
    }

    /// Tells who takes what these hosts leave to rules that are less specific.
    pub(super) fn tell_leftovers(&mut self, mut hosts: BTreeSet<HostPattern>, effects: &mut Effects) {
        let table = self.table.clone();
        let none = table.any.is_empty() && table.wildcard.is_empty() && self.overlaps.by_host.is_empty();
        if none || self.settings.host_ownership == HostOwnership::Namespace {
            return;
        }
        if hosts.remove(&HostPattern::Any) {
            hosts.extend(self.hosts.keys().filter(|host| **host != HostPattern::Any).cloned());
        } else {
            self.with_hosts_below(&mut hosts);
        }
        let mut told = BTreeSet::new();
        for host in hosts {
            let takers = self.takers(&host, &table);
            let problem = takers.values().next().and_then(|(linked, from)| self.leaves(&host, linked, from));
            let takers: BTreeMap<ObjectKey, Taken> = takers
                .into_iter()
                .map(|(taker, (linked, from))| {
                    let (by, place) = (linked.route.id.host.clone(), linked.place);
                    (taker.clone(), Taken { from: from.clone(), by, place })
                })
                .collect();
            self.note(&Contest::Leftovers(host.clone()), problem.into_iter().collect(), effects);
            self.overlaps.set(&host, takers, &mut told);
        }
        for taker in told {
            let problem = self.overlaps.problem(&taker);
            self.note(&Contest::Taken(taker), problem.into_iter().collect(), effects);
        }
    }

    /// Ingresses of other namespaces that take what a host leaves: their route, and the host's Ingress.
    fn takers(&self, host: &HostPattern, table: &Table) -> BTreeMap<&ObjectKey, (&LinkedRoute, &ObjectKey)> {
        let mut takers = BTreeMap::new();
        let (wildcard, routes) = match host {
            HostPattern::Exact(name) => (name.wildcard(), table.exact.get(name)),
            HostPattern::Wildcard(domain) => (None, table.wildcard.get(domain)),
            HostPattern::Any => (None, None),
        };
        let (Some(routes), Some(first)) = (routes, self.hosts.get(host).and_then(|ages| ages.first())) else {
            return takers;
        };
        for (wider, taking) in
            [wildcard.map(|wildcard| (table.of(&wildcard), wildcard)), Some((Some(&table.any), HostPattern::Any))]
                .into_iter()
                .flatten()
                .filter_map(|(taking, wider)| Some((wider, taking?)))
        {
            let Some(ages) = self.hosts.get(&wider) else { continue };
            for age in ages.iter().filter(|age| age.key.namespace() != first.key.namespace()) {
                let linked = self.linked.get(&age.key).map(|linked| linked.routes_of(&wider)).unwrap_or_default();
                let found = linked.iter().find(|linked| taking.has(&linked.route) && !routes.takes_all(&linked.route));
                if let Some(found) = found {
                    takers.entry(&age.key).or_insert((found, &first.key));
                }
            }
        }
        takers
    }

    /// The Problem of the host's Ingress.
    fn leaves(&self, host: &HostPattern, taker: &LinkedRoute, from: &ObjectKey) -> Option<Problem> {
        let place = self.linked.get(from)?.routes_of(host).first()?.place;
        let cause = format!(
            "what the rules of host {host} leave goes to ingress {} in another namespace, whose rule is for host {}",
            taker.route.id.ingress, taker.route.id.host
        );
        let problem = Problem::new(ObjectRef::new("Ingress", from.clone()), reason::SHARED_HOST, cause);
        let remedy = "if that is not meant, give the host a path / of its own, or set --host-ownership namespace";
        Some(problem.at(place.host(), host.to_string()).remedy(remedy).warning())
    }
}

impl Overlaps {
    fn set(&mut self, host: &HostPattern, takers: BTreeMap<ObjectKey, Taken>, told: &mut BTreeSet<ObjectKey>) {
        for taker in self.by_host.remove(host).unwrap_or_default() {
            if let Some(hosts) = self.by_taker.get_mut(&taker) {
                hosts.remove(host);
                if hosts.is_empty() {
                    self.by_taker.remove(&taker);
                }
            }
            told.insert(taker);
        }
        if !takers.is_empty() {
            self.by_host.insert(host.clone(), takers.keys().cloned().collect());
        }
        for (taker, taken) in takers {
            told.insert(taker.clone());
            self.by_taker.entry(taker).or_default().insert(host.clone(), taken);
        }
    }

    /// The Problem of an Ingress that takes what others leave; it names one of the hosts.
    fn problem(&self, taker: &ObjectKey) -> Option<Problem> {
        let hosts = self.by_taker.get(taker)?;
        let (host, Taken { from, by, place }) = hosts.first_key_value()?;
        let others = if hosts.len() > 1 { " and of others" } else { "" };
        let cause = format!(
            "a rule for host {by} takes what ingress {from} in another namespace leaves of host {host}{others}"
        );
        let problem = Problem::new(ObjectRef::new("Ingress", taker.clone()), reason::SHARED_HOST, cause);
        Some(problem.at(place.host(), by.to_string()).remedy(REMEDY).warning())
    }
}

impl Table {
    fn of(&self, host: &HostPattern) -> Option<&Arc<HostRoutes>> {
        match host {
            HostPattern::Exact(name) => self.exact.get(name),
            HostPattern::Wildcard(domain) => self.wildcard.get(domain),
            HostPattern::Any => Some(&self.any),
        }
    }
}

impl HostRoutes {
    /// Whether the very route is here and not lost to another.
    fn has(&self, route: &Arc<Route>) -> bool {
        if !self.regex.is_empty() && self.regex.iter().any(|regex| Arc::ptr_eq(&regex.route, route)) {
            return true;
        }
        let text = (self.dialect == Dialect::IngressNginx).then(|| route.written.text(route.id.path.as_ref()));
        let here = match (&route.id.path, text) {
            (Some(PathRule::Exact(path)), text) => self.exact.get(text.unwrap_or(path)),
            (Some(PathRule::Prefix(_)), Some(text)) => self.prefix.get(text.strip_suffix('/').unwrap_or(text)),
            (Some(PathRule::Prefix(path)), None) => self.prefix.get(path),
            (None, _) => self.default.as_ref(),
        };
        here.is_some_and(|here| Arc::ptr_eq(here, route))
    }

    /// Whether nothing is left of what `wider`, a route of a wider host, would take.
    fn takes_all(&self, wider: &Route) -> bool {
        if self.dialect == Dialect::IngressNginx {
            return true;
        }
        match &wider.id.path {
            Some(PathRule::Exact(path)) => self.exact.contains_key(path) || self.prefix_of(path).is_some(),
            Some(PathRule::Prefix(path)) => self.prefix_of(path).is_some(),
            None => self.prefix.contains_key("") || self.default.is_some(),
        }
    }
}

/// The route that would take a route's requests if it were not there; `None` where it has lost itself.
fn around<'a>(inner: &LinkedRoute, routes: &'a HostRoutes) -> Option<&'a Arc<Route>> {
    if !routes.has(&inner.route) {
        return None;
    }
    let prefix = match inner.route.id.path.as_ref()? {
        PathRule::Exact(path) => routes.prefix_of(path),
        PathRule::Prefix(path) => path.rfind('/').and_then(|end| routes.prefix_of(&path[..end])),
    };
    prefix.or(routes.default.as_ref()).filter(|outer| !matches!(outer.action, Action::NotFound))
}

fn inside(inner: &LinkedRoute, outer: &Arc<Route>) -> Problem {
    let id = &inner.route.id;
    let cause = format!(
        "on host {}, {} takes requests that {} of ingress {} in another namespace would get",
        id.host,
        path_text(id.path.as_ref()),
        path_text(outer.id.path.as_ref()),
        outer.id.ingress,
    );
    shared(&id.ingress, cause, inner.place, &inner.route)
}

fn shared(ingress: &ObjectKey, cause: String, place: Place, route: &Route) -> Problem {
    let problem = Problem::new(ObjectRef::new("Ingress", ingress.clone()), reason::SHARED_HOST, cause);
    let problem = match &route.id.path {
        Some(PathRule::Exact(path) | PathRule::Prefix(path)) => {
            let written = if path.is_empty() { "/" } else { path };
            problem.at(format!("{}.path", place.path()), written)
        }
        None => problem.at("spec.defaultBackend", ""),
    };
    problem.remedy(REMEDY).warning()
}

fn path_text(path: Option<&PathRule>) -> String {
    path.map_or_else(|| "the default backend".to_owned(), PathRule::to_string)
}
