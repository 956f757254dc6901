//! From linked Ingresses to the table: who wins where several want the same.

use std::sync::Arc;

use landfall_model::{ObjectKey, ObjectRef, Problem};

use super::backends::PoolKey;
use super::ingress::{Age, Place};
use super::link::{LinkedRoute, is_same};
use super::notes::Contest;
use super::{Compiler, Effects, Rank};
use crate::backend::{BackendKey, PortRef};
use crate::host::HostPattern;
use crate::reason;
use crate::table::{Action, Dialect, HostRoutes, PathRule, Route, RouteId, Table};
use crate::tls::{Certificate, CertificateTable};

/// Uses the backend of `--default-backend-service`; no Ingress has this key.
const FLAG: &str = "";

impl Compiler {
    /// Makes a new table if anything in it changed.
    pub(super) fn rebuild_table(&mut self, first: bool, effects: &mut Effects) {
        let old = self.table.clone();
        let mut table: Option<Table> = first.then(Table::default);
        let copy = || Table {
            generation: old.generation,
            exact: old.exact.clone(),
            wildcard: old.wildcard.clone(),
            any: old.any.clone(),
            default: old.default.clone(),
            certificates: old.certificates.clone(),
        };
        for host in std::mem::take(&mut effects.hosts) {
            let new = self.rebuild_host(&host, effects);
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
            if !same_route(old.default.as_ref(), default.as_ref()) {
                table.get_or_insert_with(copy).default = default;
            }
        }
        if let Some(certificates) = self.rebuild_certificates(effects) {
            table.get_or_insert_with(copy).certificates = Arc::new(certificates);
        }
        if let Some(mut table) = table {
            table.generation += 1;
            self.table = Arc::new(table);
        }
    }

    /// The routes of a host.
    ///
    /// The oldest Ingress wins a path that several have, then namespace and name decide; the others are told.
    fn rebuild_host(&mut self, host: &HostPattern, effects: &mut Effects) -> HostRoutes {
        let mut routes = HostRoutes::default();
        let mut problems = Vec::new();
        for age in self.hosts.get(host).into_iter().flatten() {
            let Some(linked) = self.linked.get(&age.key) else { continue };
            for candidate in linked.routes_of(host) {
                let place = match &candidate.route.id.path {
                    Some(PathRule::Exact(path)) => routes.exact.entry(path.clone()),
                    Some(PathRule::Prefix(path)) => routes.prefix.entry(path.clone()),
                    None => {
                        let winner = routes.default.get_or_insert_with(|| candidate.route.clone());
                        if !Arc::ptr_eq(winner, &candidate.route) {
                            problems.push(lost(candidate, winner));
                        }
                        continue;
                    }
                };
                let winner = place.or_insert_with(|| candidate.route.clone());
                if !Arc::ptr_eq(winner, &candidate.route) {
                    problems.push(lost(candidate, winner));
                }
            }
        }
        self.note(&Contest::Host(host.clone()), problems, effects);
        routes
    }

    /// The route for what no rule and no host's default takes.
    fn rebuild_default(&mut self, effects: &mut Effects) -> Option<Arc<Route>> {
        let mut winner: Option<&Arc<Route>> = None;
        let mut problems = Vec::new();
        for (rank, age) in &self.defaults {
            let Some(route) = self.linked.get(&age.key).and_then(|linked| linked.default.as_ref()) else { continue };
            match winner {
                None => winner = Some(route),
                // An Ingress with rules has its default backend for its own hosts, and loses nothing here.
                Some(winner) if *rank == Rank::DefaultOnly => {
                    problems.push(lost_default(&age.key, &winner.id.ingress));
                }
                Some(_) => {}
            }
        }
        let winner = winner.cloned();
        self.note(&Contest::Default, problems, effects);
        winner.or_else(|| self.flag_default(effects))
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
            protocol: None,
            dialect: Dialect::Kubernetes,
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
        let policy = self.policies[0].clone();
        let route = Route { id, dialect: Dialect::Kubernetes, action: Action::Forward(backend), policy };
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
                let cause = "--default-backend-service names it, but it does not exist or has no TCP port";
                let problem = Problem::new(ObjectRef::new("Service", service.clone()), fault.reason, cause);
                problem.at("metadata.name", service.name()).remedy("make the Service or correct the flag")
            }));
        }
        problems
    }

    /// The certificates, if any of them changed.
    fn rebuild_certificates(&mut self, effects: &mut Effects) -> Option<CertificateTable> {
        let old = self.table.certificates.clone();
        let mut table: Option<CertificateTable> = None;
        let copy = || CertificateTable {
            exact: old.exact.clone(),
            wildcard: old.wildcard.clone(),
            default: old.default.clone(),
        };
        for name in std::mem::take(&mut effects.names).into_keys() {
            let new = self.rebuild_name(&name, effects);
            let before = match &name {
                HostPattern::Exact(name) => old.exact.get(name),
                HostPattern::Wildcard(domain) => old.wildcard.get(domain),
                HostPattern::Any => None,
            };
            if same(before, new.as_ref()) {
                continue;
            }
            let table = table.get_or_insert_with(copy);
            let (map, name) = match name {
                HostPattern::Exact(name) => (&mut table.exact, name),
                HostPattern::Wildcard(domain) => (&mut table.wildcard, domain),
                HostPattern::Any => continue,
            };
            match new {
                Some(new) => map.insert(name, new),
                None => map.remove(&name),
            };
        }
        if effects.default_certificate
            && let Some(secret) = self.settings.default_certificate.clone()
        {
            let default = self.secrets.certificate(&secret);
            self.default_certificate_problem = default.as_ref().err().map(|fault| {
                let cause = format!("--default-ssl-certificate names it, but it can't be used: {}", fault.cause);
                let problem = Problem::new(ObjectRef::new("Secret", secret.clone()), fault.reason, cause);
                problem.at("metadata.name", secret.name()).remedy(fault.remedy.clone())
            });
            effects.problems = true;
            if !same(old.default.as_ref(), default.as_ref().ok()) {
                table.get_or_insert_with(copy).default = default.ok();
            }
        }
        table
    }

    /// The certificate of a name: that of the oldest Ingress which has one that can be used.
    fn rebuild_name(&mut self, name: &HostPattern, effects: &mut Effects) -> Option<Arc<Certificate>> {
        let mut winner: Option<(&Age, &Arc<Certificate>)> = None;
        let mut problems = Vec::new();
        for age in self.names.get(name).into_iter().flatten() {
            let claims = self.linked.get(&age.key).map(|linked| linked.claims_to(name)).unwrap_or_default();
            for claim in claims {
                let Some(certificate) = &claim.certificate else { continue };
                let Some((first, used)) = winner else {
                    winner = Some((age, certificate));
                    continue;
                };
                if used.secret != certificate.secret {
                    let object = ObjectRef::new("Ingress", age.key.clone());
                    let cause = if first.key == age.key {
                        format!("host {name} has Secret {:?} by an earlier entry", used.secret.name())
                    } else {
                        format!("host {name} has Secret {} by ingress {}, which is older", used.secret, first.key)
                    };
                    let field = format!("spec.tls[{}].secretName", claim.index);
                    let problem =
                        Problem::new(object, reason::TLS_CONFLICT, cause).at(field, certificate.secret.name());
                    problems.push(problem.remedy("use one Secret for one host").warning());
                }
            }
        }
        let winner = winner.map(|(_, certificate)| certificate.clone());
        self.note(&Contest::Name(name.clone()), problems, effects);
        winner
    }

    fn note(&mut self, contest: &Contest, problems: Vec<Problem>, effects: &mut Effects) {
        self.notes.set(contest, problems, |key| {
            effects.problems = true;
            effects.views.insert(key.clone());
        });
    }
}

impl HostRoutes {
    fn is_empty(&self) -> bool {
        self.exact.is_empty() && self.prefix.is_empty() && self.default.is_none()
    }

    /// Whether both are made of the very same routes.
    fn is_same(&self, other: &Self) -> bool {
        let same_map = |a: &std::collections::HashMap<Box<str>, Arc<Route>>, b: &std::collections::HashMap<_, _>| {
            a.len() == b.len() && a.iter().all(|(path, route)| same(Some(route), b.get(path)))
        };
        same_map(&self.exact, &other.exact)
            && same_map(&self.prefix, &other.prefix)
            && same(self.default.as_ref(), other.default.as_ref())
    }
}

fn same<T>(a: Option<&Arc<T>>, b: Option<&Arc<T>>) -> bool {
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

fn lost(loser: &LinkedRoute, winner: &Arc<Route>) -> Problem {
    let id = &loser.route.id;
    let object = ObjectRef::new("Ingress", id.ingress.clone());
    let Some(path) = &id.path else {
        let cause =
            format!("host {} has the default backend of ingress {}, which is older", id.host, winner.id.ingress);
        let problem = Problem::new(object, reason::DEFAULT_BACKEND_CONFLICT, cause);
        return problem.at("spec.defaultBackend", "").remedy("keep one of the two").warning();
    };
    let (PathRule::Exact(written) | PathRule::Prefix(written)) = path;
    let written = if written.is_empty() { "/" } else { written };
    let field = format!("{}.path", loser.place.path());
    if winner.id.ingress == id.ingress {
        let cause = format!("host {} has path {path} in this Ingress already; the first one holds", id.host);
        let problem = Problem::new(object, reason::DUPLICATE_PATH, cause).at(field, written);
        return problem.remedy("remove one of the two");
    }
    let cause = format!("host {} has path {path} in ingress {}, which is older", id.host, winner.id.ingress);
    let problem = Problem::new(object, reason::PATH_CONFLICT, cause).at(field, written);
    problem.remedy("use another host or path, or remove one of the two")
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
