//! What an Ingress contributes to the table: routes, backends of canaries, and what each asks for.

use std::collections::BTreeSet;
use std::sync::Arc;

use landfall_model::ObjectKey;

use super::Compiler;
use super::annotations::RedirectRule;
use super::backends::PoolKey;
use super::ingress::{BackendSpec, PathSpec, Place};
use super::link::{Linked, LinkedCanary, LinkedRoute};
use crate::backend::{BackendKey, PortRef, Transport};
use crate::host::HostPattern;
use crate::policy::{Canary, Errors, key_of};
use crate::table::{Action, Attached, Dialect, HttpsRedirect, Route, RouteId, RoutePolicy, Written};

impl Compiler {
    /// The backends of a canary. Nothing else that it asks for holds: that is the main Ingress' matter.
    /// How an Ingress asks for a backend.
    pub(super) fn pool_of(&self, linked: &Linked, key: BackendKey) -> PoolKey {
        let (annotations, dialect) = (&linked.parsed.annotations, linked.dialect);
        let via_service = annotations.via_service().unwrap_or(self.options.of(dialect).via_service);
        PoolKey { key, transport: Transport::Tcp, protocol: annotations.protocol(), dialect, via_service }
    }

    pub(super) fn make_canaries(&mut self, linked: &mut Linked) {
        let parsed = linked.parsed.clone();
        linked.canaries.clear();
        let rule = parsed.annotations.canary_rule();
        let paths = parsed.rules.iter().flat_map(|rule| rule.paths.iter().map(move |path| (&rule.host, path)));
        for (host, path) in paths {
            let Ok((service, port)) = &path.backend.target else { continue };
            let key = BackendKey { service: service.clone(), port: port.clone() };
            let pool = self.pool_of(linked, key);
            let backend = self.backends.acquire(&pool, &parsed.age.key);
            linked.pools.insert(pool);
            linked.canaries.push(LinkedCanary {
                host: host.clone(),
                path: (path.rule.clone(), path.text().into()),
                canary: Canary { backend, rule: rule.clone() },
                place: path.backend.place,
            });
        }
    }

    /// The service that answers in the place of others, by its first port.
    fn make_errors(&mut self, linked: &mut Linked) {
        let parsed = linked.parsed.clone();
        let asked = &parsed.annotations.errors;
        let global = if linked.dialect == Dialect::IngressNginx { self.options.errors.as_slice() } else { &[] };
        let statuses = asked.statuses.as_deref().unwrap_or(global);
        if statuses.is_empty() && asked.default_backend.is_none() {
            linked.errors = None;
            return;
        }
        let backend = asked.default_backend.as_ref().map(|name| {
            let service = ObjectKey::new(parsed.age.key.namespace(), &**name);
            let ports = self.backends.services.get(&service).map(|service| &service.ports);
            let first = ports.and_then(|ports| ports.iter().find(|port| port.is_tcp())).map(|port| port.number);
            let key = BackendKey { service, port: PortRef::Number(first.unwrap_or(0)) };
            let (transport, dialect) = (Transport::Tcp, linked.dialect);
            let pool = PoolKey { key, transport, protocol: None, dialect, via_service: false };
            let backend = self.backends.acquire(&pool, &parsed.age.key);
            linked.pools.insert(pool);
            backend
        });
        linked.errors = Some(Arc::new(Errors {
            statuses: statuses.into(),
            takes_over: backend.is_some(),
            backend,
            intercepts: match &asked.statuses {
                Some(_) => !asked.only_ours.unwrap_or(false),
                // The annotation concerns the statuses of its own Ingress alone.
                None => !self.options.of(linked.dialect).only_our_errors,
            },
        }));
    }

    pub(super) fn make_routes(&mut self, linked: &mut Linked) {
        let parsed = linked.parsed.clone();
        self.make_errors(linked);
        let mut hosts_with_default = BTreeSet::new();
        for rule in &parsed.rules {
            let is_regex = parsed.annotations.makes_regex(&rule.paths);
            for path in &rule.paths {
                let policy = self.policy(linked, &rule.host, Some(path));
                let route = self.make_route(linked, &path.backend, &rule.host, Some((path, is_regex)), &policy);
                linked.routes.push(LinkedRoute { route, place: path.backend.place });
            }
            let policy = self.policy(linked, &rule.host, None);
            if let Some(backend) = &parsed.default
                && hosts_with_default.insert(&rule.host)
            {
                let route = self.make_route(linked, backend, &rule.host, None, &policy);
                linked.routes.push(LinkedRoute { route, place: Place::Default });
            } else if linked.dialect == Dialect::IngressNginx
                && parsed.default.is_none()
                && rule.host != HostPattern::Any
                && hosts_with_default.insert(&rule.host)
            {
                // The implicit path / of ingress-nginx: what an Ingress asks for holds there too.
                let id = RouteId { ingress: parsed.age.key.clone(), host: rule.host.clone(), path: None };
                let written = Written { text: None, is_regex };
                let action = match &linked.refused {
                    Some(why) => Action::Unavailable(why.clone()),
                    None => Action::NotFound,
                };
                let route = Route {
                    id,
                    dialect: linked.dialect,
                    action,
                    policy: policy.clone(),
                    written,
                    attached: Attached::default(),
                };
                linked.routes.push(LinkedRoute { route: Arc::new(route), place: Place::Default });
            }
        }
        if let Some(backend) = parsed.default.as_ref().filter(|_| parsed.is_default_only) {
            let mut policy = self.policy(linked, &HostPattern::Any, None);
            if linked.dialect == Dialect::IngressNginx {
                // Of what such an Ingress asks for, this does not hold in ingress-nginx.
                let policy = Arc::make_mut(&mut policy);
                (policy.redirect, policy.rewrite, policy.errors) = (None, None, None);
                policy.https_redirect = HttpsRedirect::Never;
            }
            linked.default = Some(self.make_route(linked, backend, &HostPattern::Any, None, &policy));
        }
    }

    fn make_route(
        &mut self,
        linked: &mut Linked,
        backend: &BackendSpec,
        host: &HostPattern,
        path: Option<(&PathSpec, bool)>,
        policy: &Arc<RoutePolicy>,
    ) -> Arc<Route> {
        let parsed = linked.parsed.clone();
        let action = match (&backend.target, &linked.refused) {
            (Ok((service, port)), refused) => {
                let key = BackendKey { service: service.clone(), port: port.clone() };
                let pool = self.pool_of(linked, key);
                let backend = self.backends.acquire(&pool, &parsed.age.key);
                linked.pools.insert(pool);
                refused.clone().map_or(Action::Forward(backend), Action::Unavailable)
            }
            (Err(why), refused) => Action::Unavailable(refused.as_ref().unwrap_or(why).clone()),
        };
        let path_rule = path.map(|(path, _)| path.rule.clone());
        let id = RouteId { ingress: parsed.age.key.clone(), host: host.clone(), path: path_rule };
        let (dialect, policy, attached) = (linked.dialect, policy.clone(), Attached::default());
        let is_regex = path.is_some_and(|(path, makes_regex)| match dialect {
            Dialect::IngressNginx => makes_regex,
            Dialect::Kubernetes => parsed.annotations.use_regex() && path.is_free,
        });
        let written = Written { text: path.and_then(|(path, _)| path.written.clone()), is_regex };
        Arc::new(Route { id, dialect, action, policy, written, attached })
    }

    /// The policy of a route to a path, or to no path of a rule.
    ///
    /// An ACME server looks for its challenge by plain HTTP, and the certificate is not there yet, so such a path is
    /// served without a redirect. That is the default of `no-tls-redirect-locations` of ingress-nginx, and harmless
    /// elsewhere.
    fn policy(&self, linked: &Linked, host: &HostPattern, path: Option<&PathSpec>) -> Arc<RoutePolicy> {
        let (annotations, dialect, options) = (&linked.parsed.annotations, linked.dialect, &self.options);
        // In ingress-nginx a TLS entry of whatever host is enough, but hosts that no rule names have no certificate.
        let is_named = *host != HostPattern::Any;
        let has_tls = dialect == Dialect::IngressNginx && is_named && !linked.parsed.tls.is_empty();
        let redirect = match annotations.redirect(dialect, options) {
            _ if is_below(dialect, path, &options.plain_paths) => HttpsRedirect::Never,
            RedirectRule::Always => annotations.https_redirect(dialect, options),
            RedirectRule::WhenCovered if has_tls || self.is_covered(&linked.parsed.age, host) => {
                annotations.https_redirect(dialect, options)
            }
            RedirectRule::WhenCovered | RedirectRule::Never => HttpsRedirect::Never,
        };
        let open = is_below(dialect, path, &options.open_paths);
        let zone = key_of(linked.parsed.age.key.to_string().as_bytes());
        let policy = annotations.policy(dialect, options, redirect, path, zone);
        let mut policy = policy;
        if !linked.headers.is_empty() {
            let mut rules = policy.respond.as_deref().cloned().unwrap_or_default();
            rules.set.extend(linked.headers.iter().cloned());
            policy.respond = Some(Arc::new(rules));
        }
        if let Some(own) = &linked.snippets.configuration {
            // As in nginx, what a location says of addresses takes the place of what holds for all.
            if own.has_access_rules() && !annotations.has_ranges() {
                policy.access = None;
            }
            policy.snippet = Some(own.clone().followed_by(policy.snippet.as_ref()));
        }
        let (auth, errors) = (linked.auth.clone().filter(|_| !open), linked.errors.clone());
        self.shared(RoutePolicy { auth, errors, upstream_tls: linked.upstream_tls.clone(), ..policy })
    }

    fn shared(&self, policy: RoutePolicy) -> Arc<RoutePolicy> {
        // Most routes have one of four policies, which they share.
        let shared = self.policies.iter().find(|shared| ***shared == policy);
        shared.cloned().unwrap_or_else(|| Arc::new(policy))
    }
}

/// Whether the path of a rule is one of these or lies below one; in ingress-nginx it only has to begin like it.
fn is_below(dialect: Dialect, path: Option<&PathSpec>, places: &[Box<str>]) -> bool {
    let is_end = |rest: &str| dialect == Dialect::IngressNginx || rest.is_empty() || rest.starts_with('/');
    let below = |text: &str, place: &str| text.strip_prefix(place).is_some_and(is_end);
    path.is_some_and(|path| places.iter().any(|place| below(path.text(), place)))
}
