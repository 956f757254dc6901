//! The routes of one host.

use std::collections::{BTreeMap, HashMap, HashSet};
use std::sync::Arc;

use landfall_model::ObjectKey;
use regex::bytes::Regex;

use super::{Dialect, HostTls, Map, PathRule, Route};
use crate::path::CanonicalPath;
use crate::policy::snippet::Snippet;
use crate::policy::{Canary, ClientCertificates, Template, UpstreamTls, decoded};

/// What runs before a route is looked for; `Err` says why nothing of a host is served.
pub type ServerSnippet = Result<Arc<Snippet>, Arc<str>>;

/// The routes of one host pattern.
#[derive(Debug, Default)]
pub struct HostRoutes {
    /// Whose rules the host follows: those of the oldest Ingress that names it.
    pub dialect: Dialect,
    /// By canonical path; in the dialect of ingress-nginx by the path as it was written.
    pub exact: Map<Box<str>, Arc<Route>>,
    /// By path without its trailing slash; the empty key matches all.
    pub prefix: Map<Box<str>, Arc<Route>>,
    /// Those of `prefix` that were written with a slash at the end and don't match without it. Kubernetes knows no
    /// such difference.
    pub slashed: HashSet<Box<str>>,
    /// Regular expressions, in the order in which they are tried.
    pub regex: Vec<RegexRoute>,
    /// `spec.defaultBackend` of an Ingress that names this host.
    pub default: Option<Arc<Route>>,
    /// Where a client is sent that asks for `/`.
    pub app_root: Option<Arc<Template>>,
    /// Backends that get some of the requests for a path, by the path as it was written; the first one comes first.
    pub canaries: HashMap<(PathRule, Box<str>), Vec<Canary>>,
    /// What is asked of clients' certificates: by the oldest Ingress of the host that asks for something.
    pub client_certificates: Option<Arc<ClientCertificates>>,
    /// What is said of TLS with clients: by the oldest Ingress of the host that says something.
    pub tls: Option<HostTls>,
    /// How TLS is spoken with endpoints of routes in the dialect of ingress-nginx that say nothing of it: as the oldest
    /// Ingress of the host says that names a Secret.
    pub upstream_tls: Option<Arc<UpstreamTls>>,
    /// What runs before a route is looked for, and the Ingress that it comes from: the oldest one of the host that has
    /// such a snippet.
    pub server_snippet: Option<(ServerSnippet, ObjectKey)>,
    /// Whether TLS of this host is not ended here.
    pub passes_through: bool,
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
    /// The regular expression by which it was found.
    pub pattern: Option<&'a Regex>,
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

    pub(super) fn locate(&self, path: &CanonicalPath) -> Option<Match<'_>> {
        let found = |route| self.found(route);
        if self.dialect == Dialect::IngressNginx {
            return self.locate_as_nginx(&decoded(path.as_str()));
        }
        let path = path.as_str();
        if let Some(route) = self.exact.get(path) {
            return Some(found(route));
        }
        let regex = if self.regex.is_empty() { None } else { self.regex_of(&decoded(path)) };
        regex.or_else(|| self.prefix_of(path).map(found))
    }

    /// nginx matches the decoded path, and sends a client to the slash where only that is missing.
    fn locate_as_nginx(&self, path: &[u8]) -> Option<Match<'_>> {
        let found = |route| self.found(route);
        if !self.regex.is_empty() {
            return self.regex_of(path);
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
            let exact = || if self.exact.is_empty() { None } else { self.exact.get(&*format!("{text}/")) };
            if let Some(route) = slashed.or_else(exact) {
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
        Match { route, lacks_slash: false, canaries, pattern: None }
    }

    fn regex_of(&self, decoded: &[u8]) -> Option<Match<'_>> {
        let regex = self.regex.iter().find(|regex| regex.pattern.is_match(decoded))?;
        Some(Match { pattern: Some(&regex.pattern), ..self.found(&regex.route) })
    }

    /// The route of the path `/`, whatever its kind: where TLS goes that is not ended here.
    pub fn root(&self) -> Option<&Arc<Route>> {
        let regex = || self.regex.iter().map(|regex| &regex.route).find(|route| is_root(route));
        self.prefix.get("").or_else(|| self.exact.get("/")).or_else(regex)
    }

    /// What counts for a host that belongs to `owner`.
    pub(super) fn of(&self, owner: Option<&str>) -> Option<&Self> {
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

fn is_root(route: &Route) -> bool {
    route.written.text(route.id.path.as_ref()) == "/"
}
