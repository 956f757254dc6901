//! A backend: what a route sends to, and the one cell that changes under a running table.

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::{Duration, Instant};

use arc_swap::ArcSwap;
use landfall_model::ObjectKey;

use crate::policy::{CookieAffinity, HashBy};

/// The port of a Service as an Ingress names it.
#[derive(Clone, PartialEq, Eq, Hash, PartialOrd, Ord, Debug)]
pub enum PortRef {
    /// `port.number`.
    Number(u16),
    /// `port.name`.
    Name(Arc<str>),
}

impl std::fmt::Display for PortRef {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Number(number) => write!(f, "{number}"),
            Self::Name(name) => f.write_str(name),
        }
    }
}

/// What carries the bytes.
#[derive(Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Debug, Default)]
pub enum Transport {
    /// TCP.
    #[default]
    Tcp,
    /// UDP.
    Udp,
}

impl Transport {
    /// `TCP` or `UDP`, as Kubernetes writes it.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Tcp => "TCP",
            Self::Udp => "UDP",
        }
    }

    /// Reads what Kubernetes calls the protocol of a port; nothing is TCP.
    pub fn parse(protocol: &str) -> Option<Self> {
        match protocol {
            "" | "TCP" => Some(Self::Tcp),
            "UDP" => Some(Self::Udp),
            _ => None,
        }
    }
}

impl std::fmt::Display for Transport {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(self.as_str())
    }
}

/// A Service and one of its ports. All routes to the same one share one [`Backend`].
#[derive(Clone, PartialEq, Eq, Hash, PartialOrd, Ord, Debug)]
pub struct BackendKey {
    /// The Service.
    pub service: ObjectKey,
    /// The port.
    pub port: PortRef,
}

impl std::fmt::Display for BackendKey {
    /// `shop/api:http`
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{}:{}", self.service, self.port)
    }
}

/// The protocol spoken to the endpoints; from `appProtocol` of the Service port (KEP-3726).
#[derive(Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Debug, Default)]
pub enum Protocol {
    /// HTTP/1.1 in the clear, WebSocket upgrades included.
    #[default]
    Http,
    /// HTTP/2 in the clear with prior knowledge (`kubernetes.io/h2c`).
    H2c,
    /// TLS, HTTP/2 or HTTP/1.1 by ALPN; the certificate is not verified, as nothing in an Ingress names a CA.
    Https,
}

/// How the next endpoint is chosen.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug, Default)]
pub enum Balance {
    /// Each in turn, evenly from the first request.
    #[default]
    RoundRobin,
    /// The one with the fewest requests in flight; ties in turn.
    LeastConnections,
    /// Of two that chance names, the one that has answered faster lately.
    Ewma,
    /// The one that a consistent hash of the request's key points to.
    ConsistentHash,
}

/// Where the endpoints come from.
#[derive(Clone, Debug)]
pub enum Target {
    /// Addresses from EndpointSlices or Endpoints, sorted, without duplicates.
    Endpoints(Arc<[SocketAddr]>),
    /// `ExternalName`: a DNS name that the proxy resolves, and the port.
    Dns {
        /// The name, without a trailing dot.
        name: Arc<str>,
        /// The port of the Service.
        port: u16,
    },
}

/// `sessionAffinity` of the Service.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub enum Affinity {
    /// No affinity.
    #[default]
    None,
    /// Requests of one client address go to one endpoint until this long after the last of them.
    ClientIp(Duration),
}

/// What is known of a backend at one moment; replaced whole when its Service or endpoints change.
#[derive(Clone, Debug)]
pub struct BackendState {
    /// The protocol to the endpoints.
    pub protocol: Protocol,
    /// Client affinity.
    pub affinity: Affinity,
    /// How the next endpoint is chosen.
    pub balance: Balance,
    /// What decides about the endpoint in the dialect of ingress-nginx, where no cookie does.
    pub hash_by: Option<Arc<HashBy>>,
    /// The cookie that keeps clients at their endpoints in the dialect of ingress-nginx, where an Ingress asks for one.
    pub cookie: Option<Arc<CookieAffinity>>,
    /// The endpoints.
    pub target: Target,
    /// Why there is nothing to send to, if so: the text of the 503 page's log line.
    pub unavailable: Option<Arc<str>>,
}

impl BackendState {
    /// The endpoint addresses, empty for a DNS target.
    pub fn addresses(&self) -> Vec<SocketAddr> {
        match &self.target {
            Target::Endpoints(addresses) => addresses.to_vec(),
            Target::Dns { .. } => Vec::new(),
        }
    }
}

/// A backend that routes point to. Its state is the only thing that changes under a published table.
#[derive(Debug)]
pub struct Backend {
    /// Service and port.
    pub key: BackendKey,
    /// The port as a text.
    port: Box<str>,
    /// Tells it from others, in every process.
    tag: u64,
    state: ArcSwap<BackendState>,
}

impl Backend {
    /// A backend with its first state.
    pub fn new(key: BackendKey, state: Arc<BackendState>) -> Self {
        let port = key.port.to_string().into();
        let tag = crate::policy::key_of(key.to_string().as_bytes());
        Self { key, port, tag, state: ArcSwap::new(state) }
    }

    /// Number or name of the port, as the Ingress has it.
    pub fn port(&self) -> &str {
        &self.port
    }

    /// Writes a name that tells it from others, the same in every process.
    pub fn push_name(&self, text: &mut String) {
        crate::policy::push_hexadecimal(self.tag, text);
    }

    /// Whether that is its name.
    pub fn is_named(&self, name: &str) -> bool {
        name.len() == 16 && u64::from_str_radix(name, 16) == Ok(self.tag)
    }

    /// The state now; a request loads it once.
    pub fn state(&self) -> Arc<BackendState> {
        self.state.load_full()
    }

    /// Publishes a new state. Done by the publisher of a build, never by the compiler.
    pub fn publish(&self, state: Arc<BackendState>) {
        self.state.store(state);
    }
}

/// Who knows which endpoints are left out for a while, since they could not be reached.
pub trait Ejections {
    /// Whether an endpoint of `backend` is left out at `now`.
    fn is_ejected(&self, backend: &Backend, address: SocketAddr, now: Instant) -> bool;
}

/// No endpoint is left out.
#[derive(Clone, Copy, Debug, Default)]
pub struct AllInUse;

impl Ejections for AllInUse {
    fn is_ejected(&self, _backend: &Backend, _address: SocketAddr, _now: Instant) -> bool {
        false
    }
}
