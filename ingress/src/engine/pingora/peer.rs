//! The endpoint as pingora is to connect to it.

use std::fmt::Write;
use std::hash::{DefaultHasher, Hash, Hasher};
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use http::Uri;
use http::uri::PathAndQuery;
use landfall_ingress_model::backend::Protocol;
use landfall_ingress_model::pipeline::Forward;
use pingora_core::protocols::ALPN;
use pingora_core::upstreams::peer::{H1UpgradePolicy, HttpPeer, HttpUpstreamRequestPolicy};
use pingora_core::utils::tls::{WrappedX509, parse_x509};
use pingora_core::{ErrorType, OrErr, Result};
use pingora_http::RequestHeader;
use rustls_pki_types::ServerName;

use crate::engine::EngineLimits;

/// Streams on one HTTP/2 connection to an endpoint: what most servers allow.
const UPSTREAM_STREAMS: usize = 100;
/// HTTP/2 windows towards endpoints: they bound what a slow client makes us hold of an answer.
const STREAM_WINDOW: u32 = 256 * 1024;
const CONNECTION_WINDOW: u32 = 4 * 1024 * 1024;

/// How long a TCP connection may take where another endpoint is left: long for a LAN, and shorter than the second
/// after which a lost SYN is sent again.
const HURRIED_CONNECT: Duration = Duration::from_millis(750);

/// Trust anchors that nothing is verified against.
///
/// Pingora makes a verifier even where it is told not to verify, and can't make one from nothing; and it must not
/// depend on which certificates the host happens to have.
pub(super) type Anchors = Arc<[WrappedX509]>;

/// Makes one anchor up.
pub(super) fn anchors() -> Anchors {
    let made = rcgen::generate_simple_self_signed(Vec::new());
    let anchor = made.map(|made| WrappedX509::new(made.cert.der().to_vec(), parse_x509));
    // Without an anchor backends that speak TLS answer 502, and everything else works.
    anchor.inspect_err(|error| tracing::error!(%error, "cannot make a trust anchor")).into_iter().collect()
}

/// How to reach `address` for this request.
pub(super) fn peer(
    address: SocketAddr,
    forward: &Forward,
    host: &str,
    limits: &EngineLimits,
    anchors: &Anchors,
) -> HttpPeer {
    let tls = forward.state.protocol == Protocol::Https;
    let sni = if tls { server_name(host, address) } else { String::new() };
    let mut peer = HttpPeer::new(address, tls, sni);
    let policy = &forward.route.policy;
    let options = &mut peer.options;
    options.connection_timeout = Some(policy.connect_timeout);
    options.total_connection_timeout = Some(policy.connect_timeout);
    options.write_timeout = Some(policy.write_timeout);
    // A connection that may be upgraded is idle only when both directions are; see `ExchangeStream::limit_idle`.
    options.read_timeout = (!forward.upgrade).then_some(policy.read_timeout);
    options.idle_timeout = Some(limits.upstream_idle_timeout);
    options.tcp_keepalive = Some(pingora_core::protocols::TcpKeepalive {
        idle: Duration::from_mins(1),
        interval: Duration::from_secs(20),
        count: 3,
        user_timeout: Duration::ZERO,
    });
    // Nothing in an Ingress names the CA of a backend, so there is nothing to verify against.
    options.verify_cert = false;
    options.verify_hostname = false;
    options.ca = tls.then(|| anchors.clone());
    options.alpn = match forward.state.protocol {
        Protocol::Http => ALPN::H1,
        Protocol::H2c => ALPN::H2,
        // An upgrade needs HTTP/1.1.
        Protocol::Https if forward.upgrade => ALPN::H1,
        Protocol::Https => ALPN::H2H1,
    };
    options.max_h2_streams = UPSTREAM_STREAMS;
    options.h2_stream_window_size = Some(STREAM_WINDOW);
    options.h2_connection_window_size = Some(CONNECTION_WINDOW);
    options.http_upstream_request_policy = request_policy();
    peer.group_key = group_key(forward);
    peer
}

/// For an attempt after which another endpoint can be tried: a dead node must not cost each request the whole limit.
pub(super) fn hurry(peer: &mut HttpPeer) {
    let options = &mut peer.options;
    options.connection_timeout = options.connection_timeout.map(|limit| limit.min(HURRIED_CONNECT));
}

/// The pipeline's edits are the policy, so pingora's own are off but for the removal of what belongs to one hop.
fn request_policy() -> HttpUpstreamRequestPolicy {
    HttpUpstreamRequestPolicy {
        strip_hop_by_hop: true,
        strip_connection_nominated: false,
        reject_malformed_connection_nominations: false,
        h1_upgrade: H1UpgradePolicy::Deny,
    }
}

/// Connections are shared only by requests that would have made the same one. Pingora's own key leaves out ALPN.
fn group_key(forward: &Forward) -> u64 {
    let mut hasher = DefaultHasher::new();
    forward.state.protocol.hash(&mut hasher);
    (forward.state.protocol == Protocol::Https && forward.upgrade).hash(&mut hasher);
    hasher.finish()
}

/// Puts the canonical path and the query into the request.
pub(super) fn set_target(request: &mut RequestHeader, forward: &Forward) -> Result<()> {
    let target = match PathAndQuery::try_from(forward.target.as_str()) {
        Ok(target) => target,
        // A query may have characters that no URI has; a backend gets them escaped, as RFC 3986 wants them.
        Err(_) => PathAndQuery::try_from(escape(&forward.target))
            .or_err(ErrorType::InvalidHTTPHeader, "the request target can't be forwarded")?,
    };
    request.set_uri(Uri::from(target));
    Ok(())
}

/// Escapes everything that is no visible ASCII character, and those that have no place in a URI.
fn escape(target: &str) -> String {
    let mut escaped = String::with_capacity(target.len() + 16);
    for byte in target.bytes() {
        if matches!(byte, b'!'..=b'~') && !b"\"<>\\^`{|}".contains(&byte) {
            escaped.push(char::from(byte));
        } else {
            let _ = write!(escaped, "%{byte:02X}");
        }
    }
    escaped
}

/// The name to send in the handshake: the host, unless it is an address or no DNS name. The endpoint's address in
/// its place means that none is sent.
fn server_name(host: &str, address: SocketAddr) -> String {
    let name = host.rsplit_once(':').map_or(host, |(name, _)| name).trim_end_matches('.');
    let dns = matches!(ServerName::try_from(name), Ok(ServerName::DnsName(_)));
    if dns { name.to_owned() } else { address.ip().to_string() }
}
