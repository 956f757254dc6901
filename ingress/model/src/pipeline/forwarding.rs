//! Header edits on the way to a backend and back: forwarding headers and hop-by-hop fields.

use std::net::IpAddr;

use http::header::{CONNECTION, HOST, TE, TRAILER, TRANSFER_ENCODING, UPGRADE};
use http::{HeaderMap, HeaderName, HeaderValue, Version};

use super::{Connection, HeaderEdits, PipelineSettings, RequestHead};
use crate::table::Dialect;

const X_FORWARDED_FOR: HeaderName = HeaderName::from_static("x-forwarded-for");
const X_FORWARDED_HOST: HeaderName = HeaderName::from_static("x-forwarded-host");
const X_FORWARDED_PORT: HeaderName = HeaderName::from_static("x-forwarded-port");
const X_FORWARDED_PROTO: HeaderName = HeaderName::from_static("x-forwarded-proto");
const X_FORWARDED_SCHEME: HeaderName = HeaderName::from_static("x-forwarded-scheme");
const X_SCHEME: HeaderName = HeaderName::from_static("x-scheme");
const X_REAL_IP: HeaderName = HeaderName::from_static("x-real-ip");
const X_REQUEST_ID: HeaderName = HeaderName::from_static("x-request-id");
const KEEP_ALIVE: HeaderName = HeaderName::from_static("keep-alive");
const PROXY_CONNECTION: HeaderName = HeaderName::from_static("proxy-connection");
const PROXY_AUTHENTICATE: HeaderName = HeaderName::from_static("proxy-authenticate");
const PROXY_AUTHORIZATION: HeaderName = HeaderName::from_static("proxy-authorization");
/// Requests with this field are read by CGI-like backends as if a proxy were configured (httpoxy).
const PROXY: HeaderName = HeaderName::from_static("proxy");

/// Fields of one hop (RFC 9110 section 7.6.1). `Transfer-Encoding` and `Trailer` belong to the framing.
const HOP_BY_HOP: [HeaderName; 5] = [CONNECTION, KEEP_ALIVE, PROXY_CONNECTION, TE, UPGRADE];

/// Fields that a `Connection` field may name but that are never dropped for it, since the request would mean
/// something else without them.
const NEVER_NOMINATED: [HeaderName; 6] =
    [HOST, http::header::CONTENT_LENGTH, TRANSFER_ENCODING, TRAILER, http::header::AUTHORIZATION, http::header::COOKIE];

/// Whether a field is for one hop only, whatever `Connection` says.
pub fn is_hop_by_hop(name: &HeaderName) -> bool {
    HOP_BY_HOP.contains(name)
}

/// What the edits are made from.
pub(super) struct Facts<'a> {
    pub(super) head: &'a RequestHead<'a>,
    pub(super) connection: &'a Connection,
    pub(super) settings: &'a PipelineSettings,
    /// The host as the client wrote it, with its port.
    pub(super) authority: Option<&'a str>,
    pub(super) request_id: &'a HeaderValue,
}

impl Facts<'_> {
    fn trusted(&self) -> bool {
        self.settings.trusts(self.connection.client.ip())
    }

    /// A forwarding field that a trusted proxy sent.
    fn given(&self, name: &HeaderName) -> Option<&HeaderValue> {
        if self.trusted() { self.head.headers.get(name).filter(|value| !value.is_empty()) } else { None }
    }

    /// Whether the client came by HTTPS, here or at a trusted proxy.
    pub(super) fn secure(&self) -> bool {
        match self.given(&X_FORWARDED_PROTO) {
            Some(value) => value.as_bytes().eq_ignore_ascii_case(b"https"),
            None => self.connection.tls.is_some(),
        }
    }

    /// The client: behind trusted proxies the right-most address in `X-Forwarded-For` that is not one of them.
    pub(super) fn client(&self) -> IpAddr {
        let direct = self.connection.client.ip().to_canonical();
        if !self.trusted() {
            return direct;
        }
        let values = self.head.headers.get_all(X_FORWARDED_FOR).iter().rev();
        let hops = values.filter_map(|value| value.to_str().ok()).flat_map(|value| value.rsplit(','));
        let mut client = direct;
        for hop in hops {
            let Some(address) = parse_hop(hop.trim()) else { break };
            client = address;
            if !self.settings.trusts(address) {
                break;
            }
        }
        client
    }

    /// The protocol the client may switch to. `h2c` is refused: it would carry requests past the table.
    pub(super) fn upgrade(&self) -> Option<&HeaderValue> {
        let headers = self.head.headers;
        let asked = self.head.version == Version::HTTP_11
            && connection_tokens(headers).any(|token| token.eq_ignore_ascii_case("upgrade"));
        let token = headers.get(UPGRADE).filter(|_| asked)?;
        let h2c = token.as_bytes().split(|byte| *byte == b',').any(|part| {
            let part = part.trim_ascii();
            part.len() >= 3 && part[..3].eq_ignore_ascii_case(b"h2c")
        });
        (!h2c).then_some(token)
    }

    /// Edits to the request: forwarding headers set, hop-by-hop fields removed, `Forwarded` left alone.
    pub(super) fn request_edits(&self, dialect: Dialect) -> HeaderEdits {
        let mut edits = HeaderEdits::default();
        let headers = self.head.headers;
        remove_hop_by_hop(headers, &mut edits);
        edits.remove.extend([X_FORWARDED_SCHEME, X_SCHEME, PROXY]);
        if let Some(token) = self.upgrade() {
            edits.set.push((CONNECTION, HeaderValue::from_static("upgrade")));
            edits.set.push((UPGRADE, token.clone()));
        }
        // RFC 9110 section 10.1.4: only the willingness to take trailers is passed on, which gRPC insists on.
        if headers.get(TE).is_some_and(|value| value.as_bytes().eq_ignore_ascii_case(b"trailers")) {
            edits.set.push((TE, HeaderValue::from_static("trailers")));
        }
        if let Some(host) = self.authority.and_then(|authority| HeaderValue::from_str(authority).ok()) {
            edits.set.push((HOST, host.clone()));
            edits.set.push((X_FORWARDED_HOST, self.given(&X_FORWARDED_HOST).cloned().unwrap_or(host)));
        } else {
            edits.remove.push(X_FORWARDED_HOST);
        }
        let scheme = HeaderValue::from_static(if self.secure() { "https" } else { "http" });
        if dialect == Dialect::IngressNginx {
            edits.set.push((X_FORWARDED_SCHEME, scheme.clone()));
            edits.set.push((X_SCHEME, scheme.clone()));
        }
        let port = HeaderValue::from(self.connection.local.port());
        edits.set.push((X_FORWARDED_PROTO, scheme));
        edits.set.push((X_FORWARDED_PORT, self.given(&X_FORWARDED_PORT).cloned().unwrap_or(port)));
        edits.set.push((X_FORWARDED_FOR, self.forwarded_for()));
        edits.set.push((X_REAL_IP, address_value(self.client())));
        edits.set.push((X_REQUEST_ID, self.request_id.clone()));
        edits
    }

    /// `X-Forwarded-For`: the list of a trusted proxy with that proxy added, else the client alone.
    fn forwarded_for(&self) -> HeaderValue {
        let direct = address_value(self.connection.client.ip().to_canonical());
        if !self.trusted() {
            return direct;
        }
        let mut list = Vec::new();
        for value in self.head.headers.get_all(X_FORWARDED_FOR) {
            list.extend_from_slice(value.as_bytes());
            list.extend_from_slice(b", ");
        }
        list.extend_from_slice(direct.as_bytes());
        HeaderValue::from_bytes(&list).unwrap_or(direct)
    }
}

/// Edits to a response: its hop-by-hop fields are removed; `upgraded` keeps those of a 101.
pub fn response_edits(headers: &HeaderMap, upgraded: Upgraded) -> HeaderEdits {
    let mut edits = HeaderEdits::default();
    remove_hop_by_hop(headers, &mut edits);
    edits.remove.extend([PROXY_AUTHENTICATE]);
    if upgraded == Upgraded::Yes
        && let Some(token) = headers.get(UPGRADE)
    {
        edits.set.push((CONNECTION, HeaderValue::from_static("upgrade")));
        edits.set.push((UPGRADE, token.clone()));
    }
    edits
}

/// Whether a response is the 101 that an upgrade was asked for.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Upgraded {
    /// It is.
    Yes,
    /// It is an ordinary response.
    No,
}

/// The names in the `Connection` fields.
fn connection_tokens(headers: &HeaderMap) -> impl Iterator<Item = &str> {
    let values = headers.get_all(CONNECTION).iter().filter_map(|value| value.to_str().ok());
    values.flat_map(|value| value.split(',')).map(str::trim).filter(|token| !token.is_empty())
}

fn remove_hop_by_hop(headers: &HeaderMap, edits: &mut HeaderEdits) {
    for token in connection_tokens(headers) {
        if let Ok(name) = HeaderName::from_bytes(token.as_bytes())
            && headers.contains_key(&name)
            && !NEVER_NOMINATED.contains(&name)
        {
            edits.remove.push(name);
        }
    }
    edits.remove.extend(HOP_BY_HOP);
    edits.remove.push(PROXY_AUTHORIZATION);
}

/// An entry of `X-Forwarded-For`: an address, with or without a port.
fn parse_hop(hop: &str) -> Option<IpAddr> {
    let bare = hop.trim_start_matches('[').trim_end_matches(']');
    let address = bare.parse().ok().or_else(|| hop.parse::<std::net::SocketAddr>().ok().map(|socket| socket.ip()));
    address.map(|address: IpAddr| address.to_canonical())
}

fn address_value(address: IpAddr) -> HeaderValue {
    HeaderValue::from_str(&address.to_string()).expect("an address is visible ASCII")
}
