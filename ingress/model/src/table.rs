//! The routing table: what the data path reads. Immutable; swapped whole.

mod connections;
mod host;
mod levels;
mod names;
mod streams;

use std::any::Any;
use std::fmt;
use std::sync::{Arc, OnceLock, Weak};

use landfall_model::ObjectKey;

use crate::backend::Backend;
use crate::host::{HostName, HostPattern};
use crate::path::CanonicalPath;
pub use crate::policy::{Collector, HttpsRedirect, RoutePolicy};
use crate::policy::{Logging, Manner, ResponseRules};
use crate::shared_map::SharedMap;
use crate::tls::{Certificate, CertificateTable};

pub use connections::{ConnectionLimits, ConnectionRules, HostTls, TlsRules};
pub use host::{HostRoutes, Match, RegexRoute, ServerSnippet};
pub use levels::HostLevels;
pub use names::{Alias, Blocked, NamePattern, OtherNames, TextPattern, WwwRedirect};
pub use streams::{ProxyHeaders, StreamPolicy, StreamPort, StreamService, Streams};

/// A map on the way of a request, with a hash for short keys.
pub type Map<K, V> = std::collections::HashMap<K, V, foldhash::fast::RandomState>;

/// What there is for each host.
pub type HostMap<T> = SharedMap<HostName, T>;

/// Whose rules an Ingress follows; decided by its class.
#[derive(Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Debug, Default)]
pub enum Dialect {
    /// The Kubernetes specification to the letter.
    #[default]
    Kubernetes,
    /// The specification and ingress-nginx's documented quirks.
    IngressNginx,
}

impl Dialect {
    /// How its routes work where an Ingress says nothing.
    pub fn manner(self) -> Manner {
        match self {
            Self::Kubernetes => Manner::LANDFALL,
            Self::IngressNginx => Manner::INGRESS_NGINX,
        }
    }
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
    /// Whose rules it was made by; what it does of that stands in its policy.
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
/// Whoever attaches it also owns it: once that has dropped it, it is no longer found. There is room for one thing of
/// each of two types.
#[derive(Default)]
pub struct Attached([OnceLock<Weak<dyn Any + Send + Sync>>; 2]);

impl Attached {
    /// What is attached, as far as it is still there and of this type; else what `find` gives, which is attached if
    /// there is room.
    pub fn or_attach<T: Any + Send + Sync>(&self, find: impl FnOnce() -> Arc<T>) -> Arc<T> {
        let attached = |place: &OnceLock<Weak<dyn Any + Send + Sync>>| place.get()?.upgrade()?.downcast().ok();
        self.0.iter().find_map(attached).unwrap_or_else(|| {
            let found = find();
            let shared: Arc<dyn Any + Send + Sync> = found.clone();
            // What was attached first stays, dropped or not.
            for place in &self.0 {
                if place.set(Arc::downgrade(&shared)).is_ok() {
                    break;
                }
            }
            found
        })
    }
}

impl fmt::Debug for Attached {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(if self.0[0].get().is_some() { "Attached" } else { "Nothing" })
    }
}

/// Everything the data path needs to answer a request or a handshake.
#[derive(Clone, Debug, Default)]
pub struct Table {
    /// Counts the tables of this process, from 1.
    pub generation: u64,
    /// Routes of exact hosts.
    pub exact: HostMap<Arc<HostRoutes>>,
    /// Routes of wildcard hosts, by the domain behind the `*.`.
    pub wildcard: HostMap<Arc<HostRoutes>>,
    /// Routes of rules without a host.
    pub any: Arc<HostRoutes>,
    /// Takes what no rule and no host's default takes: that of an Ingress without rules.
    pub default: Option<Arc<Route>>,
    /// Takes what is left then: `--default-backend-service`.
    pub fallback: Option<Arc<Route>>,
    /// Names beside those that rules have.
    pub names: Arc<OtherNames>,
    /// What holds for connections, before any request.
    pub connections: Arc<ConnectionRules>,
    /// What the answer gets where nothing takes a request; ingress-nginx gives it to every answer.
    pub unmatched: Option<Arc<ResponseRules>>,
    /// Clients that are refused.
    pub blocked: Option<Arc<Blocked>>,
    /// What is asked of the access log.
    pub logging: Option<Arc<Logging>>,
    /// Ports that carry TCP or UDP as it comes.
    pub streams: Arc<Streams>,
    /// Where traces are sent.
    pub collector: Option<Arc<Collector>>,
    /// Certificates by server name.
    pub certificates: Arc<CertificateTable>,
}

impl Table {
    /// The route for a request, or `None`: then the answer is 404.
    pub fn find(&self, host: Option<&HostName>, path: &CanonicalPath) -> Option<&Arc<Route>> {
        self.host(host).find(path).map(|found| found.route)
    }

    /// The certificate for a server name: of a name that rules don't have that of the host whose rules hold or to which
    /// clients are sent, if it is for that name as well.
    pub fn certificate(&self, name: Option<&HostName>) -> Option<&Arc<Certificate>> {
        let other = name.and_then(|name| {
            let host = self.names.target(name).filter(|_| self.exact.get(name).is_none())?;
            let certificate = match host {
                HostPattern::Exact(host) => self.certificates.find(Some(&host)),
                HostPattern::Wildcard(domain) => self.certificates.wildcard.get(&domain),
                HostPattern::Any => None,
            };
            certificate.filter(|certificate| certificate.is_for(name))
        });
        other.or_else(|| self.certificates.find(name))
    }

    /// Whether a backend takes what is left.
    pub(crate) fn has_fallback(&self) -> bool {
        self.fallback.as_ref().is_some_and(|fallback| matches!(fallback.action, Action::Forward(_)))
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

    /// The rules of the host whose TLS goes on to its endpoints, if those of this name do.
    pub fn passthrough(&self, name: &HostName) -> Option<&HostRoutes> {
        if self.connections.passthrough.is_empty() {
            return None;
        }
        let routes = self.host(Some(name)).levels[..2].iter().flatten().next().copied();
        routes.filter(|routes| routes.passes_through)
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_attached_is_found_for_as_long_as_its_owner_keeps_it() {
        let (attached, owned) = (Attached::default(), Arc::new(1_u32));
        assert_eq!(*attached.or_attach(|| owned.clone()), 1);
        assert_eq!(*attached.or_attach(|| Arc::new(2_u32)), 1);
        let other = Arc::new("of another type");
        assert_eq!(*attached.or_attach(|| other.clone()), "of another type");
        assert_eq!(*attached.or_attach(|| Arc::new("the second")), "of another type");
        drop(owned);
        assert_eq!(*attached.or_attach(|| Arc::new(3_u32)), 3);
        assert_eq!(*attached.or_attach(|| Arc::new(4_u32)), 4, "both places are taken");
    }
}
