//! From a parsed Ingress to its routes and TLS claims.

use std::collections::BTreeSet;
use std::sync::Arc;

use http::{HeaderName, HeaderValue};
use landfall_model::{ObjectKey, ObjectRef, Problem};

use super::auth::{config_maps_of, secret_of};
use super::backends::PoolKey;
use super::certificates::covers;
use super::ingress::{ParsedIngress, Place, TlsSpec};
use super::ownership::{Covered, hosts_of};
use super::set::SmallSet;
use super::snippets::Snippets;
use super::tls_policies::tls_secrets;
use super::{Compiler, Effects};
use crate::host::HostPattern;
use crate::policy::{Auth, Canary, ClientCertificates, Errors, UpstreamTls};
use crate::reason;
use crate::table::{Action, Dialect, NamePattern, PathRule, Route};
use crate::tls::Certificate;

/// What an Ingress of ours contributes.
#[derive(Debug)]
pub(crate) struct Linked {
    pub(crate) parsed: Arc<ParsedIngress>,
    pub(crate) dialect: Dialect,
    /// Routes of its rules and, by host, of its default backend; sorted by host and path, else in the order of the rules.
    pub(crate) routes: Vec<LinkedRoute>,
    /// The route of its default backend for requests that no host takes.
    pub(crate) default: Option<Arc<Route>>,
    /// Sorted by name, else in the order of `spec.tls`.
    pub(crate) claims: Vec<Claim>,
    pub(crate) pools: SmallSet<PoolKey>,
    /// Of a canary: its backends, which belong to routes of other Ingresses.
    pub(crate) canaries: Vec<LinkedCanary>,
    /// Who may use its routes.
    pub(super) auth: Option<Arc<Auth>>,
    /// Fields that its answers get.
    pub(super) headers: Vec<(HeaderName, HeaderValue)>,
    /// Whose answers take the place of others.
    pub(super) errors: Option<Arc<Errors>>,
    /// What it asks of the clients of its hosts.
    pub(crate) client_certificates: Option<Arc<ClientCertificates>>,
    /// How TLS is spoken with its backends.
    pub(crate) upstream_tls: Option<Arc<UpstreamTls>>,
    /// Its snippets of nginx configuration.
    pub(crate) snippets: Snippets,
    /// Why its routes must answer 503.
    pub(super) refused: Option<Arc<str>>,
    /// What is wrong with its TLS entries and its authentication.
    pub(crate) problems: Vec<Problem>,
}

/// A route and where its backend stands in the Ingress.
#[derive(Clone, Debug)]
pub(crate) struct LinkedRoute {
    pub(crate) route: Arc<Route>,
    pub(crate) place: Place,
}

/// A backend of a canary.
#[derive(Clone, Debug)]
pub(crate) struct LinkedCanary {
    pub(crate) host: HostPattern,
    /// The path that a route of another Ingress must have, and as it was written.
    pub(crate) path: (PathRule, Box<str>),
    pub(crate) canary: Canary,
    pub(crate) place: Place,
}

/// A TLS entry's claim to a name.
#[derive(Clone, Debug)]
pub(crate) struct Claim {
    pub(crate) name: HostPattern,
    /// The place in `spec.tls`.
    pub(crate) index: usize,
    /// `None` where there is no certificate that can be used for the name.
    pub(crate) certificate: Option<Arc<Certificate>>,
}

/// The routes an Ingress had before.
#[derive(Default)]
struct Former {
    routes: Vec<LinkedRoute>,
    default: Option<Arc<Route>>,
}

impl Linked {
    /// The routes for one host.
    pub(crate) fn routes_of(&self, host: &HostPattern) -> &[LinkedRoute] {
        let start = self.routes.partition_point(|linked| linked.route.id.host < *host);
        let count = self.routes[start..].partition_point(|linked| linked.route.id.host == *host);
        &self.routes[start..start + count]
    }

    /// The claims to one name.
    pub(crate) fn claims_to(&self, name: &HostPattern) -> &[Claim] {
        let start = self.claims.partition_point(|claim| claim.name < *name);
        let count = self.claims[start..].partition_point(|claim| claim.name == *name);
        &self.claims[start..start + count]
    }
}

impl Compiler {
    /// Links the given Ingresses anew, and those whose redirects to HTTPS depend on a TLS entry that came or went.
    pub(super) fn relink(&mut self, keys: &BTreeSet<ObjectKey>, effects: &mut Effects) {
        let mut to_route: Vec<(ObjectKey, Former)> = Vec::with_capacity(keys.len());
        for key in keys {
            let old = self.linked.remove(key);
            if let Some(old) = &old {
                self.nginx -= usize::from(old.dialect == Dialect::IngressNginx);
                self.unclaim(key, old, effects);
                self.release(old, effects);
            }
            if self.claim(key, effects) {
                let former = old.map(|old| Former { routes: old.routes, default: old.default });
                to_route.push((key.clone(), former.unwrap_or_default()));
            }
            effects.views.insert(key.clone());
            effects.problems = true;
        }
        effects.names.extend(effects.hosts.iter().cloned());
        self.with_hosts_below(&mut effects.names);
        for key in self.recover(&effects.names) {
            if keys.contains(&key) {
                continue;
            }
            if let Some(linked) = self.linked.get_mut(&key) {
                let former = Former { routes: std::mem::take(&mut linked.routes), default: linked.default.take() };
                effects.hosts.extend(former.routes.iter().map(|linked| linked.route.id.host.clone()));
                to_route.push((key, former));
            }
        }
        for (key, former) in to_route {
            self.route(&key, &former, effects);
        }
    }

    /// Decides the class, and enters the TLS claims; true if the Ingress is ours.
    fn claim(&mut self, key: &ObjectKey, effects: &mut Effects) -> bool {
        self.class_problems.remove(key);
        let Some(stored) = self.ingresses.get(key) else { return false };
        let parsed = stored.parsed.clone();
        let verdict = self.classes.verdict(key, &parsed.class, &self.settings);
        if let Some(problem) = verdict.problem {
            self.class_problems.insert(key.clone(), problem);
        }
        let Ok(dialect) = verdict.ours else { return false };
        if self.settings.disable_catch_all && dialect == Dialect::IngressNginx && parsed.default.is_some() {
            let cause = "it has a default backend, and --disable-catch-all leaves such Ingresses out";
            let problem = Problem::new(ObjectRef::new("Ingress", key.clone()), reason::CATCH_ALL_DISABLED, cause);
            let problem = problem.at("spec.defaultBackend", "").remedy("remove it, or give its paths rules");
            self.class_problems.insert(key.clone(), problem);
            return false;
        }
        let mut problems = Vec::new();
        let mut claims = Vec::new();
        for entry in &parsed.tls {
            self.claim_entry(&parsed, dialect, entry, &mut claims, &mut problems);
        }
        if dialect == Dialect::IngressNginx {
            decide_rule_hosts(&parsed, &mut claims);
        }
        claims.sort_by(|a, b| a.name.cmp(&b.name));
        self.enter(&parsed, &claims, effects);
        problems.extend(self.asked_problems(&parsed));
        self.enter_uses(&parsed);
        let client_certificates = self.client_certificates(&parsed, &mut problems);
        let (upstream_tls, refused_tls) = match self.upstream_tls(&parsed, &mut problems) {
            Ok(tls) => (tls, None),
            Err(why) => (None, Some(why)),
        };
        let snippets = self.snippets(&parsed, &mut problems);
        let (auth, mut refused) = match self.auth(&parsed, dialect, snippets.auth.as_ref(), &mut problems) {
            Ok(auth) => (auth, None),
            Err(why) => (None, Some(why)),
        };
        let headers = self.custom_headers(&parsed, &mut problems).unwrap_or_else(|why| {
            refused.get_or_insert(why);
            Vec::new()
        });
        let too_risky = parsed.annotations.riskiest.as_ref().filter(|(risk, _)| *risk > self.options.risk);
        // Whoever reads that snippets are not allowed reads there of the level, too.
        let is_told = snippets.refused.is_some() && !self.options.allows_snippets;
        if let Some((risk, name)) = too_risky.filter(|_| !is_told) {
            let cause = format!(
                "its risk is {risk:?} and annotations-risk-level allows {:?}, so the routes of this Ingress answer 503",
                self.options.risk
            );
            let field = format!("metadata.annotations[nginx.ingress.kubernetes.io/{name}]");
            let object = ObjectRef::new("Ingress", key.clone());
            let problem = Problem::new(object, reason::UNSUPPORTED_ANNOTATION, cause).at(field, "");
            problems.push(problem.remedy("remove the annotation, or raise annotations-risk-level"));
            refused.get_or_insert_with(|| format!("the risk of {name} is too high").into());
        }
        refused = parsed.annotations.refused.clone().or(refused).or(refused_tls).or(snippets.refused.clone());
        refused = refused.or_else(|| self.options.refused_of(dialect));
        if parsed.annotations.names.passthrough {
            problems.extend(self.passthrough_problem(key, auth.is_some()));
        }
        problems.extend(auth.as_deref().and_then(|auth| Self::useless_hashes(auth, &parsed)));
        let (routes, default, pools) = (Vec::new(), None, SmallSet::default());
        let canaries = Vec::new();
        let linked = Box::new(Linked {
            parsed,
            dialect,
            routes,
            default,
            claims,
            pools,
            canaries,
            auth,
            headers,
            client_certificates,
            upstream_tls,
            errors: None,
            snippets,
            refused,
            problems,
        });
        self.nginx += usize::from(dialect == Dialect::IngressNginx);
        self.linked.insert(key.clone(), linked);
        true
    }

    /// Notes which hosts and names an Ingress is about, and what it asks for.
    fn enter(&mut self, parsed: &ParsedIngress, claims: &[Claim], effects: &mut Effects) {
        for claim in claims {
            self.names.entry(claim.name.clone()).or_default().insert(parsed.age.clone());
            effects.names.insert(claim.name.clone());
        }
        for host in hosts_of(parsed) {
            self.hosts.entry(host.clone()).or_default().insert(parsed.age.clone());
            effects.hosts.insert(host.clone());
        }
        for rule in parsed.rules.iter().filter(|_| parsed.annotations.is_canary()) {
            self.canaries.entry(rule.host.clone()).or_default().insert(parsed.age.clone());
            effects.hosts.insert(rule.host.clone());
        }
        if !parsed.tls.is_empty() && self.asks(parsed) {
            self.askers.insert(parsed.age.clone());
        }
        let further = &parsed.annotations.names;
        if further.www || !further.aliases.is_empty() {
            self.namers.insert(parsed.age.clone());
        }
        if is_default_backend(parsed) {
            self.defaults.insert(parsed.age.clone());
            effects.default = true;
        }
    }

    /// Notes which objects an Ingress names besides its certificates.
    fn enter_uses(&mut self, parsed: &ParsedIngress) {
        let key = &parsed.age.key;
        if let Some(service) = error_service(parsed) {
            self.default_users.add(&service, key);
        }
        for secret in secret_of(parsed).into_iter().chain(tls_secrets(parsed)) {
            // Passwords and keys stand in Secrets of any type, whatever the class.
            self.secrets.add_user(&secret, key, Dialect::IngressNginx);
        }
        for map in config_maps_of(parsed) {
            self.config_maps.add_user(map, key);
        }
    }

    /// > If the TLS configuration section in an Ingress specifies different hosts, they are multiplexed on the same
    /// > port according to the hostname specified through the SNI TLS extension.
    ///
    /// Without hosts, an entry is for the hosts of the rules, and without those for the certificate's own names.
    fn claim_entry(
        &mut self,
        parsed: &ParsedIngress,
        dialect: Dialect,
        entry: &TlsSpec,
        claims: &mut Vec<Claim>,
        problems: &mut Vec<Problem>,
    ) {
        let object = || ObjectRef::new("Ingress", parsed.age.key.clone());
        let certificate = entry.secret.as_ref().and_then(|secret| {
            self.secrets.add_user(secret, &parsed.age.key, dialect);
            self.secrets.add_shown(secret, &parsed.age.key);
            let fault = match self.secrets.certificate(secret, dialect) {
                Ok(certificate) => return Some(certificate),
                Err(fault) => fault,
            };
            if self.asks(parsed) && self.secrets.is_read(secret) {
                // Until there is one, what is ordered says why there is none.
                if fault.reason == reason::UNKNOWN_SECRET {
                    return None;
                }
                // Better than one that has no name in common with the host.
                if let Some(expired) = self.secrets.expired(secret) {
                    let field = format!("spec.tls[{}].secretName", entry.index);
                    let cause = "the certificate has expired, and is served until a new one is there";
                    let problem = Problem::new(object(), fault.reason, cause).at(field, secret.name());
                    problems.push(problem.remedy("see what keeps it from being renewed: landfall-ingress certs"));
                    return Some(expired);
                }
            }
            let field = format!("spec.tls[{}].secretName", entry.index);
            let problem = Problem::new(object(), fault.reason, fault.cause);
            problems.push(problem.at(field, secret.name()).remedy(fault.remedy));
            None
        });
        let rule_hosts = parsed.rules.iter().map(|rule| &rule.host).filter(|host| **host != HostPattern::Any);
        let mut names: BTreeSet<HostPattern> = if dialect == Dialect::IngressNginx && !parsed.rules.is_empty() {
            // ingress-nginx has certificates for the hosts of rules alone: those that the entry names, and those that
            // its certificate happens to be for.
            let by_name =
                |host: &HostPattern| certificate.as_ref().is_some_and(|certificate| covers(certificate, host));
            rule_hosts.filter(|host| entry.hosts.contains(host) || by_name(host)).cloned().collect()
        } else if entry.without_hosts {
            let hosts = parsed.rules.iter().map(|rule| rule.host.clone()).filter(|host| *host != HostPattern::Any);
            let hosts: BTreeSet<HostPattern> = hosts.collect();
            let own = certificate.iter().flat_map(|certificate| &certificate.names);
            let own = own.filter_map(|name| HostPattern::parse(name).ok()).filter(|name| *name != HostPattern::Any);
            if hosts.is_empty() { own.collect() } else { hosts }
        } else {
            entry.hosts.iter().cloned().collect()
        };
        // A certificate is also for the further names of the hosts that it happens to be for.
        let aliases = parsed.annotations.names.aliases.iter().filter_map(|alias| match alias {
            NamePattern::Exact(name) => Some(HostPattern::Exact(name.clone())),
            _ => None,
        });
        if let Some(certificate) = &certificate {
            names.extend(aliases.filter(|alias| covers(certificate, alias)));
        }
        for name in names {
            let covering = certificate.clone().filter(|certificate| covers(certificate, &name));
            if let (None, Some(certificate), false) = (&covering, &certificate, self.asks(parsed)) {
                let list: Vec<&str> = certificate.names.iter().map(AsRef::as_ref).collect();
                let cause = format!(
                    "the certificate in Secret {} is for {}, so clients get the default certificate instead",
                    certificate.secret,
                    if list.is_empty() { "no name".into() } else { list.join(", ") }
                );
                let problem = Problem::new(object(), reason::CERTIFICATE_NAME_MISMATCH, cause);
                let remedy = "have a certificate issued for this host";
                problems.push(problem.at(format!("spec.tls[{}].hosts", entry.index), name.to_string()).remedy(remedy));
            }
            claims.push(Claim { name, index: entry.index, certificate: covering });
        }
    }

    fn unclaim(&mut self, key: &ObjectKey, old: &Linked, effects: &mut Effects) {
        for claim in &old.claims {
            effects.names.insert(claim.name.clone());
            if let Some(ages) = self.names.get_mut(&claim.name) {
                ages.remove(&old.parsed.age);
                if ages.is_empty() {
                    self.names.remove(&claim.name);
                }
            }
        }
        let certificates = old.parsed.tls.iter().filter_map(|entry| entry.secret.clone());
        for secret in certificates.chain(secret_of(&old.parsed)).chain(tls_secrets(&old.parsed)) {
            self.secrets.remove_user(&secret, key);
        }
        for map in config_maps_of(&old.parsed) {
            self.config_maps.remove_user(map, key);
        }
        for host in hosts_of(&old.parsed) {
            effects.hosts.insert(host.clone());
            if let Some(ages) = self.hosts.get_mut(host) {
                ages.remove(&old.parsed.age);
                if ages.is_empty() {
                    self.hosts.remove(host);
                }
            }
        }
        for rule in old.parsed.rules.iter().filter(|_| old.parsed.annotations.is_canary()) {
            effects.hosts.insert(rule.host.clone());
            if let Some(ages) = self.canaries.get_mut(&rule.host) {
                ages.remove(&old.parsed.age);
                if ages.is_empty() {
                    self.canaries.remove(&rule.host);
                }
            }
        }
        self.askers.remove(&old.parsed.age);
        self.namers.remove(&old.parsed.age);
        if let Some(service) = error_service(&old.parsed) {
            self.default_users.remove(&service, key);
        }
        effects.default |= self.defaults.remove(&old.parsed.age);
    }

    /// Finds out anew for which of these hosts a TLS entry may speak; returns the Ingresses that have routes for those
    /// where that changed.
    fn recover(&mut self, hosts: &BTreeSet<HostPattern>) -> BTreeSet<ObjectKey> {
        let mut found = BTreeSet::new();
        for host in hosts {
            let covered = Some(self.covered_now(host)).filter(|covered| *covered != Covered::default());
            if self.covered.get(host) == covered.as_ref() {
                continue;
            }
            match covered {
                Some(covered) => self.covered.insert(host.clone(), covered),
                None => self.covered.remove(host),
            };
            found.extend(self.hosts.get(host).into_iter().flatten().map(|age| age.key.clone()));
        }
        found
    }

    /// Makes the routes of an Ingress ; a former route that says the same is kept.
    fn route(&mut self, key: &ObjectKey, former: &Former, effects: &mut Effects) {
        let Some(mut linked) = self.linked.remove(key) else { return };
        if linked.parsed.annotations.is_canary() {
            self.make_canaries(&mut linked);
            effects.hosts.extend(linked.canaries.iter().map(|canary| canary.host.clone()));
        } else {
            self.make_routes(&mut linked);
        }
        // The sort is stable, so that of equal paths the first one written stays the first.
        linked.routes.shrink_to_fit();
        linked.routes.sort_by(|a, b| order(&a.route).cmp(&order(&b.route)));
        for new in &mut linked.routes {
            let start = former.routes.partition_point(|old| order(&old.route) < order(&new.route));
            let same = former.routes[start..].iter().take_while(|old| order(&old.route) == order(&new.route));
            // Of a path written twice, each keeps its own.
            let mut same = same.filter(|old| old.place == new.place);
            if let Some(same) = same.find(|old| is_same(&old.route, &new.route)) {
                new.route = same.route.clone();
            }
            effects.hosts.insert(new.route.id.host.clone());
        }
        if let Some(new) = &mut linked.default {
            if let Some(old) = former.default.as_ref().filter(|old| is_same(old, new)) {
                *new = old.clone();
            }
            effects.default = true;
        }
        effects.used.extend(linked.pools.iter().cloned());
        self.linked.insert(key.clone(), linked);
    }

    /// Gives the backends of a former state back.
    fn release(&mut self, old: &Linked, effects: &mut Effects) {
        for pool in &old.pools {
            self.backends.release(pool, &old.parsed.age.key);
            effects.released.insert(pool.clone());
            effects.used.insert(pool.clone());
        }
    }
}

/// Puts claims in the order in which ingress-nginx looks at the TLS entries of an Ingress: those that name the host, then
/// those whose certificate happens to be for it. A host of a rule that none of them is for gets the default certificate,
/// which is a claim like any other.
fn decide_rule_hosts(parsed: &ParsedIngress, claims: &mut Vec<Claim>) {
    let Some(first) = parsed.tls.first() else { return };
    let is_named =
        |claim: &Claim| parsed.tls.iter().any(|entry| entry.index == claim.index && entry.hosts.contains(&claim.name));
    claims.sort_by_cached_key(|claim| !is_named(claim));
    for host in hosts_of(parsed).into_iter().filter(|host| **host != HostPattern::Any) {
        if !claims.iter().any(|claim| claim.name == *host) {
            claims.push(Claim { name: host.clone(), index: first.index, certificate: None });
        }
    }
}

/// The Service of the annotation `default-backend`.
fn error_service(parsed: &ParsedIngress) -> Option<ObjectKey> {
    let name = parsed.annotations.errors.default_backend.as_deref()?;
    Some(ObjectKey::new(parsed.age.key.namespace(), name))
}

/// Whether it is nothing but a default backend.
fn is_default_backend(parsed: &ParsedIngress) -> bool {
    parsed.is_default_only && parsed.default.is_some() && !parsed.annotations.is_canary()
}

/// What routes are sorted by.
fn order(route: &Route) -> (&HostPattern, Option<&PathRule>) {
    (&route.id.host, route.id.path.as_ref())
}

/// Whether both routes do the same with a request.
pub(super) fn is_same(old: &Route, new: &Route) -> bool {
    let action = match (&old.action, &new.action) {
        (Action::Forward(old), Action::Forward(new)) => Arc::ptr_eq(old, new),
        (Action::Unavailable(old), Action::Unavailable(new)) => old == new,
        (Action::NotFound, Action::NotFound) => true,
        _ => false,
    };
    let same = action && old.id == new.id && old.dialect == new.dialect && old.policy == new.policy;
    same && old.written == new.written
}
