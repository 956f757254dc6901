//! What holds for connections, before any request.

use std::collections::BTreeSet;
use std::net::IpAddr;
use std::time::Duration;

use ipnet::IpNet;

use crate::host::HostPattern;
use crate::policy::{Ciphers, TlsVersions};

/// What is asked of connections.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub struct ConnectionRules {
    /// `use-proxy-protocol`: every connection begins with a PROXY header.
    pub proxy_protocol: bool,
    /// `proxy-protocol-header-timeout`: how long that header may take; `None` is the default of the program, as it is
    /// for everything below.
    pub proxy_header: Option<Duration>,
    /// `proxy-real-ip-cidr`: whose PROXY headers are believed; everybody's without any.
    pub proxies: Box<[IpNet]>,
    /// `ssl-reject-handshake`: no handshake for a name that no rule has.
    pub rejects_unknown: bool,
    /// Hosts whose TLS is not ended here.
    pub passthrough: BTreeSet<HostPattern>,
    /// Limits of connections with clients and endpoints.
    pub limits: ConnectionLimits,
    /// How TLS is spoken with clients.
    pub tls: TlsRules,
}

/// Limits of connections, as options of ingress-nginx.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct ConnectionLimits {
    /// `keep-alive`: how long a client's connection may be without a request; zero: it ends with its first one.
    pub idle: Option<Duration>,
    /// `keep-alive-requests`: requests on one connection of a client.
    pub requests: Option<u32>,
    /// `client-header-timeout`: total time for the head of a request.
    pub head: Option<Duration>,
    /// `client-body-timeout`: the longest pause within the body of a request.
    pub body: Option<Duration>,
    /// `large-client-header-buffers`: bytes of the request line, and of the whole head.
    pub head_size: Option<(usize, usize)>,
    /// `http2-max-concurrent-streams`.
    pub streams: Option<u32>,
    /// `upstream-keepalive-connections`: connections to endpoints that wait, for each worker.
    pub upstream_idle: Option<usize>,
    /// `upstream-keepalive-timeout`: for how long.
    pub upstream_idle_time: Option<Duration>,
    /// `upstream-keepalive-requests`: requests on one of them.
    pub upstream_requests: Option<u32>,
    /// `upstream-keepalive-time`: how long one of them is used.
    pub upstream_age: Option<Duration>,
    /// `use-http2: "false"`: clients speak HTTP/1.1 alone.
    pub without_http2: bool,
}

/// How TLS is spoken with clients.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub struct TlsRules {
    /// `ssl-protocols`.
    pub versions: TlsVersions,
    /// `ssl-ciphers`, for TLS 1.2; `None`: all that are spoken.
    pub ciphers: Option<Ciphers>,
    /// `use-http2: "false"`: HTTP/1.1 alone is offered.
    pub without_http2: bool,
}

/// What a host says of TLS with its clients: the annotations `ssl-ciphers` and `ssl-prefer-server-ciphers`.
#[derive(Clone, PartialEq, Eq, Hash, Debug, Default)]
pub struct HostTls {
    /// Cipher suites of TLS 1.2, in place of those of all hosts.
    pub ciphers: Option<Ciphers>,
    /// Whether our order of cipher suites counts, and not the client's.
    pub prefers_ours: Option<bool>,
}

impl ConnectionRules {
    /// Whether what a PROXY header of this peer says of the client counts.
    pub fn believes(&self, peer: IpAddr) -> bool {
        let peer = peer.to_canonical();
        self.proxy_protocol && (self.proxies.is_empty() || self.proxies.iter().any(|net| net.contains(&peer)))
    }
}
