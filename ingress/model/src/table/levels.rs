//! Which rules count for a host, and in which order.

use std::sync::Arc;

use super::{Action, Dialect, HostRoutes, HostTls, Match, Route, ServerSnippet, Table, WwwRedirect};
use crate::host::{HostName, HostPattern};
use crate::path::CanonicalPath;
use crate::policy::{ClientCertificates, Template, UpstreamTls};

/// The rules that count for one host: those of the host itself, of its wildcard, and those without a host.
#[derive(Clone, Copy, Debug)]
pub struct HostLevels<'a> {
    pub(super) table: &'a Table,
    pub(super) levels: [Option<&'a HostRoutes>; 3],
    pub(super) other: Option<Other<'a>>,
}

/// What a host is that no rule names.
#[derive(Clone, Copy, Debug)]
pub(super) enum Other<'a> {
    Alias { is_covered: bool },
    Www(&'a WwwRedirect),
}

impl<'a> HostLevels<'a> {
    /// Looks for a host among the names beside those of rules.
    pub(super) fn look_further(&mut self, host: &HostName) {
        let table = self.table;
        let names = &*table.names;
        if let Some(redirect) = names.www.get(host) {
            self.other = Some(Other::Www(redirect));
        } else if self.levels[1].is_none()
            && let Some(alias) = names.aliases.iter().find(|alias| alias.name.matches(host.as_str()))
            && let Some(routes) = table.named(&alias.host)
        {
            let is_covered = alias.covered.iter().any(|name| name.matches(Some(host)));
            self.levels[0] = Some(routes);
            self.other = Some(Other::Alias { is_covered });
        }
    }

    /// Where the host is sent that differs by `www.` alone.
    pub fn www(&self) -> Option<&'a WwwRedirect> {
        match self.other {
            Some(Other::Www(redirect)) => Some(redirect),
            _ => None,
        }
    }

    /// Whether the host is another name of one whose certificate does not cover it.
    pub fn is_uncovered(&self) -> bool {
        matches!(self.other, Some(Other::Alias { is_covered: false }))
    }

    /// Whether the host follows the rules of ingress-nginx.
    pub fn is_of_nginx(&self) -> bool {
        self.levels[..2].iter().flatten().next().is_some_and(|routes| routes.dialect == Dialect::IngressNginx)
    }

    /// Whether ingress-nginx itself would answer, rather than a rule: for no host that it knows it answers `/healthz`,
    /// which load balancers ask for, unless a rule is for this very path or a regular expression takes it.
    pub fn answers_for_us(&self, path: &CanonicalPath) -> bool {
        let known = self.levels[..2].iter().flatten().next().is_some();
        let rule = |found: Match<'_>| {
            let route = found.route;
            let text = route.written.text(route.id.path.as_ref());
            let is_closer = found.pattern.is_some() || text.trim_end_matches('/') == path.as_str();
            !route.policy.manner.leaves_health_checks || (route.id.path.is_some() && is_closer)
        };
        !known && !self.find(path).is_some_and(rule)
    }

    /// Where a client is sent that asks for `/`.
    pub fn app_root(&self) -> Option<&'a Template> {
        self.levels.iter().flatten().next()?.app_root.as_deref()
    }

    /// What runs for the host before a route is looked for.
    pub fn server_snippet(&self) -> Option<&'a ServerSnippet> {
        Self::snippet_of(self.levels.iter().flatten().next()?)
    }

    /// What is to run where a route comes from, which may be the rules of a wider host.
    pub fn server_snippet_of(&self, route: &Route) -> Option<&'a ServerSnippet> {
        Self::snippet_of(self.level_of(route)?)
    }

    fn snippet_of(routes: &'a HostRoutes) -> Option<&'a ServerSnippet> {
        routes.server_snippet.as_ref().map(|(snippet, _)| snippet)
    }

    /// What the host asks of its clients' certificates.
    pub fn client_certificates(&self) -> Option<&'a Arc<ClientCertificates>> {
        self.levels.iter().flatten().next()?.client_certificates.as_ref()
    }

    /// What is asked of clients' certificates where a route comes from, which may be the rules of a wider host.
    pub fn client_certificates_of(&self, route: &Route) -> Option<&'a Arc<ClientCertificates>> {
        self.level_of(route)?.client_certificates.as_ref()
    }

    /// The first of all rules that count for this host that asks a client for a certificate.
    pub fn asks(&self) -> Option<&'a Arc<ClientCertificates>> {
        let named = self.levels[..2].iter().flatten().next();
        let count = if named.is_some_and(|routes| routes.dialect == Dialect::IngressNginx) { 1 } else { 3 };
        let owner = self.owner();
        let counting = self.levels.iter().flatten().take(count).filter_map(|routes| routes.of(owner));
        counting.filter_map(|routes| routes.client_certificates.as_ref()).find(|policy| policy.asks().is_some())
    }

    /// What the host says of TLS with its clients.
    pub fn tls(&self) -> Option<&'a HostTls> {
        self.levels[..2].iter().flatten().next()?.tls.as_ref()
    }

    /// How TLS is spoken with the endpoints of a route.
    pub fn upstream_tls(&self, route: &'a Route) -> Option<&'a Arc<UpstreamTls>> {
        let own = route.policy.upstream_tls.as_ref();
        let of_host = || self.level_of(route)?.upstream_tls.as_ref();
        if route.policy.manner.shares_endpoints { own.or_else(of_host) } else { own }
    }

    fn level_of(&self, route: &Route) -> Option<&'a HostRoutes> {
        let level = match (&route.id.host, self.other) {
            (HostPattern::Any, _) => self.levels[2],
            (HostPattern::Wildcard(_), None | Some(Other::Www(_))) => self.levels[1],
            (HostPattern::Exact(_), _) | (HostPattern::Wildcard(_), Some(Other::Alias { .. })) => self.levels[0],
        };
        level?.of(self.owner())
    }

    fn owner(&self) -> Option<&'a str> {
        self.levels.iter().flatten().next().and_then(|routes| routes.owner.as_deref())
    }

    /// What takes a request.
    ///
    /// Rules of the exact host come first, then those of the wildcard, then those without a host; a rule without
    /// a host "applies to all inbound HTTP traffic", so it also takes what a known host's rules leave. Only then
    /// come the default backends, in the same order. What a host that belongs to a namespace leaves is taken only by
    /// routes of that namespace, and by the fallback.
    ///
    /// A host in the dialect of ingress-nginx keeps its requests: what its rules leave is nobody else's.
    pub fn find(&self, path: &CanonicalPath) -> Option<Match<'a>> {
        let found = |route| Match { route, lacks_slash: false, canaries: &[], pattern: None };
        let owner = self.owner();
        let mut named = self.levels[..2].iter().flatten().filter_map(|routes| routes.of(owner));
        if let Some(routes) = named.next().filter(|routes| routes.dialect == Dialect::IngressNginx) {
            return routes.locate(path).or_else(|| routes.default.as_ref().map(found));
        }
        let levels = || self.levels.iter().flatten().filter_map(|routes| routes.of(owner));
        let allowed = |route: &&Arc<Route>| owner.is_none_or(|owner| route.id.ingress.namespace() == owner);
        let taken = |route: &&Arc<Route>| !matches!(route.action, Action::NotFound);
        levels()
            .find_map(|routes| routes.locate(path))
            .or_else(|| levels().find_map(|routes| routes.default.as_ref().filter(taken)).map(found))
            .or_else(|| self.table.default.as_ref().filter(allowed).map(found))
            .or(self.table.fallback.as_ref().map(found))
    }
}
