//! The routing table: what the data path reads. Immutable; swapped whole.

use std::any::Any;
use std::collections::{BTreeMap, HashMap};
use std::fmt;
use std::sync::{Arc, OnceLock, Weak};
use std::time::Duration;

use landfall_model::ObjectKey;

use crate::access::Access;
use crate::backend::Backend;
use crate::host::{HostName, HostPattern};
use crate::path::CanonicalPath;
use crate::tls::CertificateTable;

/// Whose rules an Ingress follows; decided by its class.
#[derive(Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Debug)]
pub enum Dialect {
    /// The Kubernetes specification to the letter.
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
}

/// Whether a plain request is sent to HTTPS; resolved when the table is built.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug, Default)]
pub enum HttpsRedirect {
    /// It is served as it is.
    #[default]
    Never,
    /// It is answered with 308.
    Always,
}

/// Limits and time-outs of a route.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct RoutePolicy {
    /// Time to connect to an endpoint, TLS included.
    pub connect_timeout: Duration,
    /// Longest pause between two reads from the endpoint.
    pub read_timeout: Duration,
    /// How long an upgraded connection, as a WebSocket is, may pass no byte in either direction.
    pub upgrade_idle: Duration,
    /// Longest pause between two writes to the endpoint.
    pub write_timeout: Duration,
    /// Attempts in all, the first included.
    pub tries: u32,
    /// Largest request body in bytes; `None` is unlimited.
    pub max_body: Option<u64>,
    /// What a request without TLS gets.
    pub https_redirect: HttpsRedirect,
    /// Which clients it is for; `None`: all.
    pub access: Option<Arc<Access>>,
}

/// The idle limit of upgraded connections in class landfall. Many applications send nothing over a WebSocket until
/// something happens; TCP keep-alive finds dead clients meanwhile.
pub(crate) const UPGRADE_IDLE: Duration = Duration::from_hours(1);

impl Default for RoutePolicy {
    /// ingress-nginx's defaults for the times and tries, since its users' applications are tuned to them.
    fn default() -> Self {
        Self {
            connect_timeout: Duration::from_secs(5),
            read_timeout: Duration::from_mins(1),
            upgrade_idle: UPGRADE_IDLE,
            write_timeout: Duration::from_mins(1),
            tries: 3,
            max_body: None,
            https_redirect: HttpsRedirect::Never,
            access: None,
        }
    }
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
    /// Its limits; shared by the routes of one Ingress.
    pub policy: Arc<RoutePolicy>,
    /// What the program keeps of it.
    pub attached: Attached,
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
    /// By canonical path.
    pub exact: HashMap<Box<str>, Arc<Route>>,
    /// By path without its trailing slash; the empty key matches all.
    pub prefix: HashMap<Box<str>, Arc<Route>>,
    /// `spec.defaultBackend` of an Ingress that names this host.
    pub default: Option<Arc<Route>>,
    /// The namespace that the host belongs to, if it belongs to one: nobody else's routes take what these leave.
    pub owner: Option<Box<str>>,
    /// Of a wildcard and of no host: what each other namespace has here for what hosts of its own leave.
    pub others: BTreeMap<Box<str>, HostRoutes>,
}

impl HostRoutes {
    /// The route of the longest matching path, Exact before Prefix.
    ///
    /// > If multiple paths within an Ingress match a request, precedence is given first to the longest matching
    /// > path. If two paths are still equally matched, precedence is given to paths with an exact path type.
    pub fn find(&self, path: &CanonicalPath) -> Option<&Arc<Route>> {
        let path = path.as_str();
        self.exact.get(path).or_else(|| self.prefix_of(path))
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
    /// Certificates by server name.
    pub certificates: Arc<CertificateTable>,
}

impl Table {
    /// The route for a request, or `None`: then the answer is 404.
    ///
    /// Rules of the exact host come first, then those of the wildcard, then those without a host; a rule without
    /// a host "applies to all inbound HTTP traffic", so it also takes what a known host's rules leave. Only then
    /// come the default backends, in the same order. What a host that belongs to a namespace leaves is taken only by
    /// routes of that namespace, and by the fallback.
    pub fn find(&self, host: Option<&HostName>, path: &CanonicalPath) -> Option<&Arc<Route>> {
        let exact = host.and_then(|host| self.exact.get(host));
        let wildcard = host.and_then(HostName::parent).and_then(|domain| self.wildcard.get(domain));
        let levels = [exact, wildcard, Some(&self.any)];
        let owner = levels.iter().flatten().next().and_then(|routes| routes.owner.as_deref());
        let levels = || levels.iter().flatten().filter_map(|routes| routes.of(owner));
        let allowed = |route: &&Arc<Route>| owner.is_none_or(|owner| route.id.ingress.namespace() == owner);
        levels()
            .find_map(|routes| routes.find(path))
            .or_else(|| levels().find_map(|routes| routes.default.as_ref()))
            .or_else(|| self.default.as_ref().filter(allowed))
            .or(self.fallback.as_ref())
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
