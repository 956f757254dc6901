//! What holds for connections, before any request.

use std::collections::BTreeSet;
use std::net::IpAddr;

use ipnet::IpNet;

use crate::host::HostPattern;

/// What is asked of connections.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub struct ConnectionRules {
    /// `use-proxy-protocol`: every connection begins with a PROXY header.
    pub proxy_protocol: bool,
    /// `proxy-real-ip-cidr`: whose PROXY headers are believed; everybody's without any.
    pub proxies: Box<[IpNet]>,
    /// `ssl-reject-handshake`: no handshake for a name that no rule has.
    pub rejects_unknown: bool,
    /// Hosts whose TLS is not ended here.
    pub passthrough: BTreeSet<HostPattern>,
}

impl ConnectionRules {
    /// Whether what a PROXY header of this peer says of the client counts.
    pub fn believes(&self, peer: IpAddr) -> bool {
        let peer = peer.to_canonical();
        self.proxy_protocol && (self.proxies.is_empty() || self.proxies.iter().any(|net| net.contains(&peer)))
    }
}
