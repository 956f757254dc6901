//! The routing table: what the data path reads. Immutable; swapped whole.

use std::any::Any;
use std::collections::{BTreeMap, HashMap, HashSet};
use std::fmt;
use std::sync::{Arc, OnceLock, Weak};

use http::header::{REFERER, USER_AGENT};
use http::{HeaderMap, HeaderName, HeaderValue, StatusCode};
use landfall_model::ObjectKey;
use regex::bytes::Regex;

use crate::backend::Backend;
use crate::host::{HostName, HostPattern};
use crate::path::CanonicalPath;
use crate::policy::{Canary, ClientCertificates, Forwarding, UpstreamTls, decoded};
pub use crate::policy::{HttpsRedirect, RoutePolicy};
use crate::tls::CertificateTable;

/// Whose rules an Ingress follows; decided by its class.
#[derive(Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Debug, Default)]
pub enum Dialect {
    /// The Kubernetes specification to the letter.
    #[default]
    Kubernetes,
    /// The specification and ingress-nginx's documented quirks.
    IngressNginx,
}

/// The path part of a rule in the form it is matched.
#[derive(Clone, PartialEq, Eq, Hash, PartialOrd, Ord, Debug)]
pub enum PathRule {
    /// `Exact`: this canonical path only.
    Exact(Box<str>),
    /// `Prefix` and `ImplementationSpecific`: by path element. Held without a trailing slash; empty means all.
    Prefix(Box<str>),
}

impl PathRule {
    /// Whether `path` is meant (Kubernetes: Ingress, "Path types").
    pub fn matches(&self, path: &CanonicalPath) -> bool {
        let path = path.as_str();
        match self {
            Self::Exact(exact) => path == &**exact,
            Self::Prefix(prefix) => {
                path.strip_prefix(&**prefix).is_some_and(|rest| rest.is_empty() || rest.starts_with('/'))
            }
        }
    }
}

impl fmt::Display for PathRule {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Exact(path) => write!(f, "Exact {path}"),
            Self::Prefix(path) if path.is_empty() => f.write_str("Prefix /"),
            Self::Prefix(path) => write!(f, "Prefix {path}"),
        }
    }
}

/// Which rule of which Ingress a route was made from.
#[derive(Clone, PartialEq, Eq, Hash, PartialOrd, Ord, Debug)]
pub struct RouteId {
    /// The Ingress.
    pub ingress: ObjectKey,
    /// The rule's host.
    pub host: HostPattern,
    /// The rule's path; `None` for a default backend.
    pub path: Option<PathRule>,
}

/// What a route does with a request.
#[derive(Clone, Debug)]
pub enum Action {
    /// Sends it to a backend.
    Forward(Arc<Backend>),
    /// Answers 503, because what the Ingress asks for can't be done safely; the text says why.
    Unavailable(Arc<str>),
    /// Answers 404, or hands over to [`Table::fallback`]: a path that no rule of the host has.
    NotFound,
}

/// A typed route: everything about it is decided when the table is built.
#[derive(Debug)]
pub struct Route {
    /// Where it comes from.
    pub id: RouteId,
    /// Whose rules it follows.
    pub dialect: Dialect,
    /// What it does.
    pub action: Action,
    /// What it asks for; shared by the routes of one Ingress.
    pub policy: Arc<RoutePolicy>,
    /// The path as it was written.
    pub written: Written,
    /// What the program keeps of it.
    pub attached: Attached,
}

/// The path of a rule as it was written, as far as that says more than its [`PathRule`].
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub struct Written {
    /// The text, where it is another one than that of the [`PathRule`].
    pub text: Option<Box<str>>,
    /// Whether it is to be read as a regular expression.
    pub is_regex: bool,
}

impl Written {
    /// The text, which for no path is that of all paths.
    pub fn text<'a>(&'a self, rule: Option<&'a PathRule>) -> &'a str {
        match (&self.text, rule) {
            (Some(text), _) => text,
            (None, Some(PathRule::Exact(path) | PathRule::Prefix(path))) if !path.is_empty() => path,
            (None, _) => "/",
        }
    }
}

/// RFC 8555 section 8.3.
pub(crate) const ACME_CHALLENGE: &str = "/.well-known/acme-challenge";

impl Route {
    /// Whether an ACME server looks here for its challenge, which it does by plain HTTP and without a certificate.
    pub(crate) fn is_acme_challenge(&self) -> bool {
        self.id.path.is_some() && self.written.text(self.id.path.as_ref()).starts_with(ACME_CHALLENGE)
    }
}

/// Something that belongs to a route and is found by it without a look-up, as its counters are.
///
/// Whoever attaches it also owns it: once that has dropped it, it is no longer found.
#[derive(Default)]
pub struct Attached(OnceLock<Weak<dyn Any + Send + Sync>>);

impl Attached {
    /// What is attached, as far as it is still there and of this type; else what `find` gives, which is attached if
    /// nothing was.
    pub fn or_attach<T: Any + Send + Sync>(&self, find: impl FnOnce() -> Arc<T>) -> Arc<T> {
        let attached = self.0.get().and_then(Weak::upgrade).and_then(|attached| attached.downcast().ok());
        attached.unwrap_or_else(|| {
            let found = find();
            let shared: Arc<dyn Any + Send + Sync> = found.clone();
            // What was attached first stays, dropped or not.
            let _ = self.0.set(Arc::downgrade(&shared));
            found
        })
    }
}

impl fmt::Debug for Attached {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(if self.0.get().is_some() { "Attached" } else { "Nothing" })
    }
}

/// The routes of one host pattern.
#[derive(Debug, Default)]
pub struct HostRoutes {
    /// Whose rules the host follows: those of the oldest Ingress that names it.
    pub dialect: Dialect,
    /// By canonical path; in the dialect of ingress-nginx by the path as it was written.
    pub exact: HashMap<Box<str>, Arc<Route>>,
    /// By path without its trailing slash; the empty key matches all.
    pub prefix: HashMap<Box<str>, Arc<Route>>,
    /// Those of `prefix` that were written with a slash at the end and don't match without it. Kubernetes knows no
    /// such difference.
    pub slashed: HashSet<Box<str>>,
    /// Regular expressions, in the order in which they are tried.
    pub regex: Vec<RegexRoute>,
    /// `spec.defaultBackend` of an Ingress that names this host.
    pub default: Option<Arc<Route>>,
    /// Where a client is sent that asks for `/`.
    pub app_root: Option<Arc<str>>,
    /// Backends that get some of the requests for a path, by the path as it was written; the first one comes first.
    pub canaries: HashMap<(PathRule, Box<str>), Vec<Canary>>,
    /// What is asked of clients' certificates: by the oldest Ingress of the host that asks for something.
    pub client_certificates: Option<Arc<ClientCertificates>>,
    /// How TLS is spoken with endpoints of routes in the dialect of ingress-nginx that say nothing of it: as the oldest
    /// Ingress of the host says that names a Secret.
    pub upstream_tls: Option<Arc<UpstreamTls>>,
    /// The namespace that the host belongs to, if it belongs to one: nobody else's routes take what these leave.
    pub owner: Option<Box<str>>,
    /// Of a wildcard and of no host: what each other namespace has here for what hosts of its own leave.
    pub others: BTreeMap<Box<str>, HostRoutes>,
}

/// A route whose path is a regular expression.
#[derive(Clone, Debug)]
pub struct RegexRoute {
    /// Matched from the beginning of the decoded path.
    pub pattern: Regex,
    /// The route.
    pub route: Arc<Route>,
}

/// What takes a request.
#[derive(Clone, Copy, Debug)]
pub struct Match<'a> {
    /// The route.
    pub route: &'a Arc<Route>,
    /// Whether the path lacks the slash at the end with which it was written, so that the client is sent there.
    pub lacks_slash: bool,
    /// Backends that get some of its requests.
    pub canaries: &'a [Canary],
}

impl HostRoutes {
    /// The route of the longest matching path, Exact before Prefix.
    ///
    /// > If multiple paths within an Ingress match a request, precedence is given first to the longest matching
    /// > path. If two paths are still equally matched, precedence is given to paths with an exact path type.
    ///
    /// Regular expressions come between the two, in their order.
    pub fn find(&self, path: &CanonicalPath) -> Option<&Arc<Route>> {
        self.locate(path).map(|found| found.route)
    }

    fn locate(&self, path: &CanonicalPath) -> Option<Match<'_>> {
        let found = |route| self.found(route);
        if self.dialect == Dialect::IngressNginx {
            return self.locate_as_nginx(&decoded(path.as_str()));
        }
        let path = path.as_str();
        if let Some(route) = self.exact.get(path) {
            return Some(found(route));
        }
        let regex = if self.regex.is_empty() { None } else { self.regex_of(&decoded(path)) };
        regex.or_else(|| self.prefix_of(path)).map(found)
    }

    /// nginx matches the decoded path, and sends a client to the slash where only that is missing.
    fn locate_as_nginx(&self, path: &[u8]) -> Option<Match<'_>> {
        let found = |route| self.found(route);
        if !self.regex.is_empty() {
            return self.regex_of(path).map(found);
        }
        let text = String::from_utf8_lossy(path);
        if let Some(route) = self.exact.get(&*text) {
            return Some(found(route));
        }
        if !text.ends_with('/') {
            let slashed = self.slashed.get(&*text).and_then(|prefix| self.prefix.get(prefix));
            if let (None, Some(route)) = (slashed, self.prefix.get(&*text)) {
                return Some(found(route));
            }
            if let Some(route) = slashed.or_else(|| self.exact.get(&*format!("{text}/"))) {
                return Some(Match { lacks_slash: true, ..self.found(route) });
            }
        }
        self.prefix_of(&text).map(found)
    }

    fn found<'a>(&'a self, route: &'a Arc<Route>) -> Match<'a> {
        let canaries = match &route.id.path {
            Some(path) if !self.canaries.is_empty() => {
                let key = (path.clone(), route.written.text(Some(path)).into());
                self.canaries.get(&key).map(Vec::as_slice).unwrap_or_default()
            }
            _ => &[],
        };
        Match { route, lacks_slash: false, canaries }
    }

    fn regex_of(&self, decoded: &[u8]) -> Option<&Arc<Route>> {
        self.regex.iter().find(|regex| regex.pattern.is_match(decoded)).map(|regex| &regex.route)
    }

    /// What counts for a host that belongs to `owner`.
    fn of(&self, owner: Option<&str>) -> Option<&Self> {
        match owner {
            Some(owner) if self.owner.as_deref() != Some(owner) => self.others.get(owner),
            _ => Some(self),
        }
    }

    /// The route of the longest prefix of a path.
    pub(crate) fn prefix_of(&self, path: &str) -> Option<&Arc<Route>> {
        if self.prefix.is_empty() {
            return None;
        }
        let mut end = path.len();
        loop {
            if let Some(route) = self.prefix.get(&path[..end]) {
                return Some(route);
            }
            end = path[..end].rfind('/')?;
        }
    }
}

/// Names of a host besides its own.
#[derive(Clone, Debug)]
pub enum NamePattern {
    /// This name.
    Exact(HostName),
    /// All names below this one.
    Below(HostName),
    /// Names that hold this expression.
    Regex(regex::Regex),
}

impl NamePattern {
    /// Whether a name is meant.
    pub fn matches(&self, name: &str) -> bool {
        match self {
            Self::Exact(exact) => exact.as_str() == name,
            Self::Below(domain) => {
                name.strip_suffix(domain.as_str()).is_some_and(|rest| rest.len() > 1 && rest.ends_with('.'))
            }
            Self::Regex(pattern) => pattern.is_match(name),
        }
    }
}

impl PartialEq for NamePattern {
    fn eq(&self, other: &Self) -> bool {
        match (self, other) {
            (Self::Exact(a), Self::Exact(b)) | (Self::Below(a), Self::Below(b)) => a == b,
            (Self::Regex(a), Self::Regex(b)) => a.as_str() == b.as_str(),
            _ => false,
        }
    }
}

/// Another name of a host.
#[derive(Clone, PartialEq, Debug)]
pub struct Alias {
    /// The name.
    pub name: NamePattern,
    /// The host whose rules hold.
    pub host: HostPattern,
    /// The names in the certificate of the host; a plain request is sent to HTTPS only by one of them.
    pub covered: Arc<[HostPattern]>,
}

/// A name that is sent to the same one with or without `www.`.
#[derive(Clone, PartialEq, Debug)]
pub struct WwwRedirect {
    /// Where to.
    pub host: HostName,
    /// `http-redirect-code`.
    pub status: StatusCode,
    /// Whose word about scheme and port is believed.
    pub forwarding: Arc<Forwarding>,
    /// Fields of the answer.
    pub fields: Vec<(HeaderName, HeaderValue)>,
}

/// Names beside those that rules have.
#[derive(Clone, PartialEq, Debug, Default)]
pub struct OtherNames {
    /// Aliases, in the order in which they count.
    pub aliases: Vec<Alias>,
    /// Names that are sent elsewhere.
    pub www: BTreeMap<HostName, WwwRedirect>,
}

/// Clients that are refused whatever they ask for: `block-user-agents` and `block-referers`.
#[derive(Clone, PartialEq, Debug, Default)]
pub struct Blocked {
    /// By `User-Agent`.
    pub agents: Vec<TextPattern>,
    /// By `Referer`.
    pub referers: Vec<TextPattern>,
}

/// A text, or a regular expression.
#[derive(Clone, Debug)]
pub enum TextPattern {
    /// This text, whatever the letter case.
    Exact(Box<str>),
    /// What holds this expression.
    Regex(regex::Regex),
}

impl PartialEq for TextPattern {
    fn eq(&self, other: &Self) -> bool {
        match (self, other) {
            (Self::Exact(a), Self::Exact(b)) => a == b,
            (Self::Regex(a), Self::Regex(b)) => a.as_str() == b.as_str(),
            _ => false,
        }
    }
}

impl Blocked {
    /// Whether a request is refused.
    pub fn blocks(&self, headers: &HeaderMap) -> bool {
        let text = |name| headers.get(name).and_then(|value: &HeaderValue| value.to_str().ok()).unwrap_or_default();
        let among = |patterns: &[TextPattern], text: &str| {
            patterns.iter().any(|pattern| match pattern {
                TextPattern::Exact(exact) => exact.eq_ignore_ascii_case(text),
                TextPattern::Regex(pattern) => pattern.is_match(text),
            })
        };
        among(&self.agents, text(USER_AGENT)) || among(&self.referers, text(REFERER))
    }
}

/// Everything the data path needs to answer a request or a handshake.
#[derive(Debug, Default)]
pub struct Table {
    /// Counts the tables of this process, from 1.
    pub generation: u64,
    /// Routes of exact hosts.
    pub exact: HashMap<HostName, Arc<HostRoutes>>,
    /// Routes of wildcard hosts, by the domain behind the `*.`.
    pub wildcard: HashMap<HostName, Arc<HostRoutes>>,
    /// Routes of rules without a host.
    pub any: Arc<HostRoutes>,
    /// Takes what no rule and no host's default takes: that of an Ingress without rules.
    pub default: Option<Arc<Route>>,
    /// Takes what is left then: `--default-backend-service`.
    pub fallback: Option<Arc<Route>>,
    /// Names beside those that rules have.
    pub names: Arc<OtherNames>,
    /// Clients that are refused.
    pub blocked: Option<Arc<Blocked>>,
    /// Certificates by server name.
    pub certificates: Arc<CertificateTable>,
}

impl Table {
    /// The route for a request, or `None`: then the answer is 404.
    pub fn find(&self, host: Option<&HostName>, path: &CanonicalPath) -> Option<&Arc<Route>> {
        self.host(host).find(path).map(|found| found.route)
    }

    /// Whether rules are for a host by one of its names, or for its wildcard.
    pub fn knows(&self, host: &HostName) -> bool {
        self.host(Some(host)).levels[..2].iter().any(Option::is_some)
    }

    /// The rules that count for a host.
    pub fn host(&self, host: Option<&HostName>) -> HostLevels<'_> {
        let exact = host.and_then(|host| self.exact.get(host)).map(|routes| &**routes);
        let wildcard = host.and_then(HostName::parent).and_then(|domain| self.wildcard.get(domain));
        let mut levels =
            HostLevels { table: self, levels: [exact, wildcard.map(|routes| &**routes), Some(&self.any)], other: None };
        if let (None, Some(host)) = (exact, host) {
            levels.look_further(host);
        }
        levels
    }

    fn named(&self, host: &HostPattern) -> Option<&HostRoutes> {
        let routes = match host {
            HostPattern::Exact(name) => self.exact.get(name)?,
            HostPattern::Wildcard(domain) => self.wildcard.get(domain)?,
            HostPattern::Any => &self.any,
        };
        Some(routes)
    }
}

/// The rules that count for one host: those of the host itself, of its wildcard, and those without a host.
#[derive(Clone, Copy, Debug)]
pub struct HostLevels<'a> {
    table: &'a Table,
    levels: [Option<&'a HostRoutes>; 3],
    other: Option<Other<'a>>,
}

/// What a host is that no rule names.
#[derive(Clone, Copy, Debug)]
enum Other<'a> {
    Alias { is_covered: bool },
    Www(&'a WwwRedirect),
}

impl<'a> HostLevels<'a> {
    /// Looks for a host among the names beside those of rules.
    fn look_further(&mut self, host: &HostName) {
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

    /// Whether ingress-nginx itself would answer, rather than a rule: for no host that it knows it answers `/healthz`,
    /// which load balancers ask for.
    pub fn answers_for_us(&self, path: &CanonicalPath) -> bool {
        let known = self.levels[..2].iter().flatten().next().is_some();
        let rule = |found: Match<'_>| found.route.id.path.is_some() || found.route.dialect == Dialect::Kubernetes;
        !known && !self.find(path).is_some_and(rule)
    }

    /// Where a client is sent that asks for `/`.
    pub fn app_root(&self) -> Option<&'a str> {
        self.levels.iter().flatten().next()?.app_root.as_deref()
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

    /// How TLS is spoken with the endpoints of a route.
    pub fn upstream_tls(&self, route: &'a Route) -> Option<&'a Arc<UpstreamTls>> {
        let own = route.policy.upstream_tls.as_ref();
        match route.dialect {
            Dialect::Kubernetes => own,
            Dialect::IngressNginx => own.or_else(|| self.level_of(route)?.upstream_tls.as_ref()),
        }
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
        let found = |route| Match { route, lacks_slash: false, canaries: &[] };
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_attached_is_found_for_as_long_as_its_owner_keeps_it() {
        let (attached, owned) = (Attached::default(), Arc::new(1_u32));
        assert_eq!(*attached.or_attach(|| owned.clone()), 1);
        assert_eq!(*attached.or_attach(|| Arc::new(2_u32)), 1);
        assert_eq!(*attached.or_attach(|| Arc::new("of another type")), "of another type");
        drop(owned);
        assert_eq!(*attached.or_attach(|| Arc::new(3_u32)), 3);
        assert_eq!(*attached.or_attach(|| Arc::new(4_u32)), 4, "the first place is taken");
    }
}
