//! Ports that carry TCP or UDP to a Service as it comes: the TCP and UDP services of ingress-nginx.

use std::collections::BTreeMap;
use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use crate::backend::{Backend, Transport};

/// All such ports, and what holds for each of them.
#[derive(Clone, Debug, Default)]
pub struct Streams {
    /// The ports.
    pub ports: BTreeMap<StreamPort, Arc<StreamService>>,
    /// What holds for each.
    pub policy: Arc<StreamPolicy>,
}

/// A port that is listened on.
#[derive(Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Debug)]
pub struct StreamPort {
    /// TCP or UDP.
    pub transport: Transport,
    /// The number.
    pub number: u16,
}

impl fmt::Display for StreamPort {
    /// `TCP port 5432`
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} port {}", self.transport, self.number)
    }
}

/// Where the bytes of a port go.
#[derive(Debug)]
pub struct StreamService {
    /// The port.
    pub port: StreamPort,
    /// The Service.
    pub backend: Arc<Backend>,
    /// PROXY headers, which only TCP has.
    pub proxy: ProxyHeaders,
    /// What holds for it.
    pub policy: Arc<StreamPolicy>,
}

impl StreamService {
    /// Whether there is somebody to send to. ingress-nginx does not listen where there is nobody.
    pub fn is_open(&self) -> bool {
        self.backend.state().unavailable.is_none()
    }

    pub(crate) fn is_same(&self, other: &Self) -> bool {
        self.port == other.port
            && Arc::ptr_eq(&self.backend, &other.backend)
            && self.proxy == other.proxy
            && self.policy == other.policy
    }
}

/// Where a PROXY header is.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct ProxyHeaders {
    /// Each client's connection begins with one, of either version.
    pub from_client: bool,
    /// Each endpoint's connection begins with one, of version 1.
    pub to_endpoint: bool,
}

/// `proxy-stream-*`: what holds for each port.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct StreamPolicy {
    /// How long nothing may move before a connection or a session ends.
    pub idle: Duration,
    /// Endpoints that are tried, the first included.
    pub tries: u32,
    /// How long others are tried after one that failed; `None` is without limit.
    pub within: Option<Duration>,
    /// Datagrams that come back for each one sent: then a session is over. `None` is any number.
    pub responses: Option<u32>,
    /// Whether connections and sessions are left out of the access log.
    pub is_unlogged: bool,
}

impl Default for StreamPolicy {
    /// ingress-nginx's defaults.
    fn default() -> Self {
        Self {
            idle: Duration::from_mins(10),
            tries: 3,
            within: Some(Duration::from_mins(10)),
            responses: Some(1),
            is_unlogged: false,
        }
    }
}

impl Streams {
    /// Whether both are the same, backends being the very same ones.
    pub(crate) fn is_same(&self, other: &Self) -> bool {
        self.policy == other.policy
            && self.ports.len() == other.ports.len()
            && self.ports.values().zip(other.ports.values()).all(|(one, other)| one.is_same(other))
    }
}
