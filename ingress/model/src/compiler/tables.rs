//! From linked Ingresses to the table: who wins where several want the same.

use std::collections::BTreeMap;
use std::sync::Arc;

use landfall_model::{ObjectKey, ObjectRef, Problem};

use super::backends::PoolKey;
use super::entries::text_of;
use super::ingress::{Age, Place};
use super::link::{Linked, LinkedCanary, LinkedRoute, is_same};
use super::notes::Contest;
use super::{Compiler, Effects};
use crate::backend::{BackendKey, PortRef, Transport};
use crate::host::{HostName, HostPattern};
use crate::policy::Template;
use crate::reason;
use crate::settings::HostOwnership;
use crate::table::{
    Action, Alias, Attached, ConnectionRules, Dialect, HostRoutes, OtherNames, PathRule, Route, RouteId, Table,
    Written, WwwRedirect,
};
use crate::tls::CertificateTable;

/// Uses the backend of `--default-backend-service`; no Ingress has this key.
const FLAG: &str = "";

impl Compiler {
    /// Makes a new table if anything in it changed.
    pub(super) fn rebuild_table(&mut self, first: bool, effects: &mut Effects) {
        let old = self.table.clone();
        let mut table: Option<Table> = first.then(Table::default);
        let copy = || Table::clone(&old);
        let mut hosts = std::mem::take(&mut effects.hosts);
        // What a default backend's Ingress asks of clients is asked of those that no host takes.
        if effects.default {
            hosts.insert(HostPattern::Any);
        }
        if self.settings.host_ownership == HostOwnership::Namespace {
            self.with_hosts_below(&mut hosts);
            // Ingresses without a rule and rules without a host are for the same requests.
            effects.default |= hosts.contains(&HostPattern::Any);
        }
        let touched = hosts.clone();
        let mut connections =
            ConnectionRules { passthrough: old.connections.passthrough.clone(), ..self.options.connections() };
        for host in hosts {
            let new = self.rebuild_host(&host, effects);
            if new.passes_through {
                connections.passthrough.insert(host.clone());
            } else {
                connections.passthrough.remove(&host);
            }
            let before = match &host {
                HostPattern::Exact(name) => old.exact.get(name),
                HostPattern::Wildcard(domain) => old.wildcard.get(domain),
                HostPattern::Any => Some(&old.any),
            };
            // A host without routes is not in the table, so that no entry and an empty one are the same.
            if before.map_or_else(|| new.is_empty(), |before| before.is_same(&new)) {
                continue;
            }
            let table = table.get_or_insert_with(copy);
            let map = match host {
                HostPattern::Exact(name) => (&mut table.exact, name),
                HostPattern::Wildcard(domain) => (&mut table.wildcard, domain),
                HostPattern::Any => {
                    table.any = Arc::new(new);
                    continue;
                }
            };
            if new.is_empty() {
                map.0.remove(&map.1)
            } else {
                map.0.insert(map.1, Arc::new(new))
            };
        }
        if effects.default {
            let default = self.rebuild_default(effects);
            if !same(old.default.as_ref(), default.as_ref()) {
                table.get_or_insert_with(copy).default = default;
            }
            let fallback = self.flag_default(effects);
            if !same_route(old.fallback.as_ref(), fallback.as_ref()) {
                table.get_or_insert_with(copy).fallback = fallback;
            }
        }
        if let Some(certificates) = self.rebuild_certificates(effects) {
            table.get_or_insert_with(copy).certificates = Arc::new(certificates);
        }
        let certificates = table.as_ref().map_or(&old.certificates, |table| &table.certificates);
        let names = self.other_names(certificates);
        if names != *old.names {
            table.get_or_insert_with(copy).names = Arc::new(names);
        }
        if connections != *old.connections {
            table.get_or_insert_with(copy).connections = Arc::new(connections);
        }
        if let Some(streams) = self.rebuild_streams(first, effects) {
            table.get_or_insert_with(copy).streams = Arc::new(streams);
        }
        let unmatched = (self.nginx > 0 && !self.options.respond.is_empty()).then(|| self.options.respond.clone());
        if unmatched != old.unmatched {
            table.get_or_insert_with(copy).unmatched = unmatched;
        }
        if self.options.traces.collector != old.collector {
            table.get_or_insert_with(copy).collector.clone_from(&self.options.traces.collector);
        }
        if self.options.blocked != old.blocked {
            table.get_or_insert_with(copy).blocked.clone_from(&self.options.blocked);
        }
        if self.options.logging != old.logging {
            table.get_or_insert_with(copy).logging.clone_from(&self.options.logging);
        }
        if let Some(mut table) = table {
            table.generation += 1;
            self.table = Arc::new(table);
        }
        self.tell_leftovers(touched, effects);
    }

    /// The routes of a host.
    ///
    /// The oldest Ingress wins a path that several have, then namespace and name decide; the others are told.
    fn rebuild_host(&mut self, host: &HostPattern, effects: &mut Effects) -> HostRoutes {
        let owner = self.owner(host);
        let owner_name = owner.map(|owner| owner.key.namespace().into());
        let mut routes = HostRoutes { owner: owner_name, ..HostRoutes::default() };
        let mut app_root: Option<(usize, &Arc<Template>)> = None;
        let mut first = None;
        let mut others: BTreeMap<&str, HostRoutes> = BTreeMap::new();
        let mut problems = Vec::new();
        for age in self.hosts.get(host).into_iter().flatten() {
            let Some(linked) = self.linked.get(&age.key) else { continue };
            let refusing = owner.filter(|owner| owner.key.namespace() != age.key.namespace());
            let group = match (refusing, host) {
                (None, _) => &mut routes,
                (Some(_), HostPattern::Exact(_)) => &mut HostRoutes::default(),
                (Some(_), _) => others.entry(age.key.namespace()).or_default(),
            };
            if let (Some(root), None) = (linked.parsed.annotations.app_root(), refusing) {
                let texts = linked.routes_of(host).iter().map(|linked| text_of(&linked.route).len());
                let longest = texts.max().unwrap_or(0);
                // Of several, that of the longest path holds.
                if app_root.is_none_or(|(length, _)| longest > length) {
                    app_root = Some((longest, root));
                }
            }
            group.take_tls_of(linked);
            let without = group.take_snippet_of(linked);
            // The oldest Ingress decides whose rules hold.
            if group.is_empty() && !linked.routes_of(host).is_empty() {
                group.dialect = linked.dialect;
                if refusing.is_none() {
                    first = first.or(Some(age.key.namespace()));
                }
            }
            // Nobody else's namespace takes the TLS of a host over.
            if self.settings.ssl_passthrough && refusing.is_none() && linked.parsed.annotations.names.passthrough {
                group.passes_through |= first == Some(age.key.namespace());
            }
            let lost: Vec<Problem> = linked.routes_of(host).iter().filter_map(|route| group.enter(route)).collect();
            if let Some(owner) = refusing {
                problems.extend(linked.routes_of(host).first().map(|route| refused(route, &owner.key)));
            } else {
                problems.extend(lost.into_iter().chain(without));
            }
        }
        for age in self.defaults.iter().filter(|_| *host == HostPattern::Any) {
            let Some(linked) = self.linked.get(&age.key) else { continue };
            if owner.is_none_or(|owner| owner.key.namespace() == age.key.namespace()) {
                routes.take_tls_of(linked);
                problems.extend(routes.take_snippet_of(linked));
            } else {
                let own = others.entry(age.key.namespace()).or_default();
                own.take_tls_of(linked);
                own.take_snippet_of(linked);
            }
        }
        if let (Some(owner), HostPattern::Any) = (owner, host) {
            for age in self.defaults.iter().filter(|age| age.key.namespace() != owner.key.namespace()) {
                let route = self.linked.get(&age.key).and_then(|linked| linked.default.clone());
                let own = others.entry(age.key.namespace()).or_default();
                own.default = own.default.take().or(route);
            }
        }
        problems.extend(self.enter_canaries(host, owner, &mut routes));
        routes.app_root = app_root.map(|(_, root)| root.clone());
        if let Some(snippet) = &self.options.server_snippet {
            let all = std::iter::once(&mut routes).chain(others.values_mut());
            all.filter(|routes| routes.dialect == Dialect::IngressNginx).for_each(|routes| routes.add_snippet(snippet));
        }
        problems.extend(routes.compile());
        for routes in others.values_mut() {
            problems.extend(routes.compile());
        }
        routes.others = others.into_iter().map(|(namespace, routes)| (namespace.into(), routes)).collect();
        problems.extend(self.shared_paths(host, &routes));
        self.note(&Contest::Host(host.clone()), problems, effects);
        routes
    }

    /// Names that annotations give to hosts, as far as no rule has them.
    fn other_names(&self, certificates: &CertificateTable) -> OtherNames {
        let mut names = OtherNames::default();
        // Of several hosts with the same alias the first one in the order of their names has it, and of several
        // Ingresses of a host the oldest one that names any.
        let mut by_host: BTreeMap<&HostPattern, &Linked> = BTreeMap::new();
        for age in &self.namers {
            let Some(linked) = self.linked.get(&age.key) else { continue };
            for rule in &linked.parsed.rules {
                if self.is_refused(age, &rule.host) {
                    continue;
                }
                if !linked.parsed.annotations.names.aliases.is_empty() {
                    by_host.entry(&rule.host).or_insert(linked);
                }
                if let (true, HostPattern::Exact(host)) = (linked.parsed.annotations.names.www, &rule.host) {
                    let other = host.as_str().strip_prefix("www.").map_or(format!("www.{host}"), str::to_owned);
                    let Ok(other) = HostName::from_authority(&other) else { continue };
                    if !self.hosts.contains_key(&HostPattern::Exact(other.clone())) {
                        names.www.entry(other).or_insert_with(|| WwwRedirect {
                            host: host.clone(),
                            status: self.options.http_redirect_code,
                            forwarding: self.options.forwarding.clone(),
                            fields: self.options.respond.set.clone(),
                        });
                    }
                }
            }
        }
        for (host, linked) in by_host {
            let own = match host {
                HostPattern::Exact(name) => certificates.find(Some(name)),
                HostPattern::Wildcard(_) | HostPattern::Any => None,
            };
            let covered = own.iter().flat_map(|certificate| &certificate.names);
            let covered: Arc<[HostPattern]> = covered.filter_map(|name| HostPattern::parse(name).ok()).collect();
            for name in &linked.parsed.annotations.names.aliases {
                names.aliases.push(Alias { name: name.clone(), host: host.clone(), covered: covered.clone() });
            }
        }
        names
    }

    /// Adds the backends of canaries to the paths that they belong to. The Problems are those of canaries without one.
    fn enter_canaries(&self, host: &HostPattern, owner: Option<&Age>, routes: &mut HostRoutes) -> Vec<Problem> {
        let mut problems = Vec::new();
        let ages = self.canaries.get(host).into_iter().flatten();
        let allowed = |age: &Age| owner.is_none_or(|owner| owner.key.namespace() == age.key.namespace());
        for age in ages {
            let canaries = self.linked.get(&age.key).map(|linked| linked.canaries.as_slice()).unwrap_or_default();
            for LinkedCanary { path, canary, place, .. } in canaries.iter().filter(|canary| canary.host == *host) {
                if allowed(age) && routes.has_path(path) {
                    routes.canaries.entry(path.clone()).or_default().push(canary.clone());
                } else {
                    problems.push(lonely(&age.key, host, path, *place));
                }
            }
        }
        problems
    }

    /// The route for what no rule and no host's default takes.
    fn rebuild_default(&mut self, effects: &mut Effects) -> Option<Arc<Route>> {
        let owner = self.owner(&HostPattern::Any);
        let mut winner: Option<&Arc<Route>> = None;
        let mut problems = Vec::new();
        for age in &self.defaults {
            let Some(route) = self.linked.get(&age.key).and_then(|linked| linked.default.as_ref()) else { continue };
            match (winner, owner) {
                (Some(winner), _) => problems.push(lost_default(&age.key, &winner.id.ingress)),
                (None, Some(owner)) if owner.key.namespace() != age.key.namespace() => {
                    problems.push(refused_default(&age.key, &owner.key));
                }
                (None, _) => winner = Some(route),
            }
        }
        let winner = winner.cloned();
        self.note(&Contest::Default, problems, effects);
        winner
    }

    /// The route to `--default-backend-service`, by its first port.
    fn flag_default(&mut self, effects: &mut Effects) -> Option<Arc<Route>> {
        let service = self.settings.default_backend.clone()?;
        let ports = self.backends.services.get(&service).map(|service| &service.ports);
        let first = ports.and_then(|ports| ports.iter().find(|port| port.is_tcp())).map(|port| port.number);
        // Port 0 is that of a Service without ports, or of none at all: the backend then says what is wrong.
        let port = PortRef::Number(first.unwrap_or(0));
        let pool = PoolKey {
            key: BackendKey { service: service.clone(), port },
            transport: Transport::Tcp,
            protocol: None,
            dialect: Dialect::IngressNginx,
            via_service: false,
        };
        let user = ObjectKey::cluster(FLAG);
        for other in self.backends.of_service(&service) {
            if other != pool {
                self.backends.release(&other, &user);
                effects.released.insert(other);
            }
        }
        effects.problems = true;
        let backend = self.backends.acquire(&pool, &user);
        let id = RouteId { ingress: service, host: HostPattern::Any, path: None };
        // The flag is one of ingress-nginx, and its plain policy without a redirect is the third.
        let policy = self.policies[2].clone();
        let (action, attached) = (Action::Forward(backend), Attached::default());
        let written = Written::default();
        let route = Route { id, dialect: Dialect::IngressNginx, action, policy, written, attached };
        Some(Arc::new(route))
    }

    /// What is wrong with `--default-backend-service`, as far as it is used.
    pub(super) fn flag_problems(&self) -> Vec<Problem> {
        let user = ObjectKey::cluster(FLAG);
        let Some(service) = &self.settings.default_backend else { return Vec::new() };
        let keys = self.backends.of_service(service);
        let pools = keys.iter().filter_map(|key| self.backends.get(key)).filter(|pool| pool.users.contains(&user));
        let mut problems = Vec::new();
        for pool in pools {
            problems.extend(pool.problems.iter().cloned());
            problems.extend(pool.fault.iter().map(|fault| {
                let cause =
                    "--default-backend-service points to this Service, but it does not exist or has no TCP port";
                let problem = Problem::new(ObjectRef::new("Service", service.clone()), fault.reason, cause);
                problem.at("metadata.name", service.name()).remedy("create the Service or fix the flag")
            }));
        }
        problems
    }

    pub(super) fn note(&mut self, contest: &Contest, problems: Vec<Problem>, effects: &mut Effects) {
        self.notes.set(contest, problems, |key| {
            effects.problems = true;
            effects.views.insert(key.clone());
        });
    }
}

pub(super) fn same<T>(a: Option<&Arc<T>>, b: Option<&Arc<T>>) -> bool {
    match (a, b) {
        (Some(a), Some(b)) => Arc::ptr_eq(a, b),
        (None, None) => true,
        _ => false,
    }
}

/// As [`same`]; the route of the flag is made anew each time, so that what it says is compared.
fn same_route(a: Option<&Arc<Route>>, b: Option<&Arc<Route>>) -> bool {
    same(a, b) || matches!((a, b), (Some(a), Some(b)) if is_same(a, b))
}

/// A canary for a path that no Ingress has.
fn lonely(canary: &ObjectKey, host: &HostPattern, (rule, text): &(PathRule, Box<str>), place: Place) -> Problem {
    let cause = format!("no Ingress has host {host} with {rule}, so this canary takes no traffic");
    let problem = Problem::new(ObjectRef::new("Ingress", canary.clone()), reason::CANARY_WITHOUT_MAIN, cause);
    let remedy = "give it the host, path and pathType of the Ingress that it is a canary of";
    problem.at(format!("{}.path", place.path()), &**text).remedy(remedy).warning()
}

/// A rule for a host that belongs to another namespace.
fn refused(route: &LinkedRoute, owner: &ObjectKey) -> Problem {
    let id = &route.route.id;
    let namespace = owner.namespace();
    let cause = format!(
        "host {} belongs to namespace {namespace}, whose ingress {owner} was the first to name it, so rules of this \
         Ingress for it take {} (--host-ownership namespace)",
        id.host,
        match id.host {
            HostPattern::Exact(_) => "no request",
            HostPattern::Wildcard(_) | HostPattern::Any => "only what hosts of its own namespace leave",
        }
    );
    let problem = Problem::new(ObjectRef::new("Ingress", id.ingress.clone()), reason::HOST_NOT_OWNED, cause);
    problem
        .at(route.place.host(), id.host.to_string())
        .remedy(format!("use a host that namespace {namespace} has not named"))
}

fn refused_default(loser: &ObjectKey, owner: &ObjectKey) -> Problem {
    let cause = format!(
        "hosts that no rule names belong to namespace {}, whose ingress {owner} was the first to take them, so this \
         default backend takes only what hosts of its own namespace leave (--host-ownership namespace)",
        owner.namespace()
    );
    let problem = Problem::new(ObjectRef::new("Ingress", loser.clone()), reason::HOST_NOT_OWNED, cause);
    problem.at("spec.defaultBackend", "").remedy("give the Ingress rules with hosts of its own")
}

fn lost_default(loser: &ObjectKey, winner: &ObjectKey) -> Problem {
    let cause = format!("the default backend of ingress {winner} is in force for requests that no rule takes");
    let object = ObjectRef::new("Ingress", loser.clone());
    let problem = Problem::new(object, reason::DEFAULT_BACKEND_CONFLICT, cause);
    problem.at("spec.defaultBackend", "").remedy("keep one Ingress that is nothing but a default backend")
}

impl Place {
    /// Whether it is about a default backend.
    pub(crate) fn is_default(self) -> bool {
        self == Self::Default
    }
}
