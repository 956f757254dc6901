//! Header edits on the way to a backend: forwarding headers, and what ends here.

use std::net::IpAddr;
use std::sync::LazyLock;

use http::header::{
    CONNECTION, CONTENT_LENGTH, COOKIE, EXPECT, HOST, PROXY_AUTHORIZATION, TE, TRAILER, TRANSFER_ENCODING, UPGRADE,
};
use http::{HeaderName, HeaderValue, Version};

use super::fields::{
    X_FORWARDED_FOR, X_FORWARDED_HOST, X_FORWARDED_PORT, X_FORWARDED_PROTO, X_FORWARDED_SCHEME,
    X_ORIGINAL_FORWARDED_FOR, X_ORIGINAL_FORWARDED_HOST, X_ORIGINAL_URI, X_REAL_IP, X_REQUEST_ID, X_SCHEME,
};
use super::hops::{KEEP_ALIVE, PROXY_CONNECTION, remove_aliases, remove_nominated};
use super::origin::{self, Origin};
use super::text;
use super::tokens::{has_token, tokens};
use super::{Connection, PipelineSettings, RequestHead, cookies};
use crate::fields::{FieldValue, HeaderEdits, Names};
use crate::policy::{Forwarding, scheme_of};
use crate::table::Route;

/// Requests with this field are read by CGI-like backends as if a proxy were configured (httpoxy).
const PROXY: HeaderName = HeaderName::from_static("proxy");

/// What no backend gets as it came: fields of one hop, and those that are set here or not at all.
static NEVER_SENT: LazyLock<Names> = LazyLock::new(|| {
    Names::new([
        CONNECTION,
        KEEP_ALIVE,
        PROXY_CONNECTION,
        TE,
        UPGRADE,
        PROXY_AUTHORIZATION,
        X_FORWARDED_SCHEME,
        X_SCHEME,
        PROXY,
    ])
});
/// Fields that are set for one request at most.
const MOST_SET: usize = 13;

/// The fields that are set here, or removed where a dialect sets none.
pub(super) const SET: [HeaderName; 8] = [
    X_FORWARDED_FOR,
    X_FORWARDED_HOST,
    X_FORWARDED_PORT,
    X_FORWARDED_PROTO,
    X_FORWARDED_SCHEME,
    X_SCHEME,
    X_REAL_IP,
    X_REQUEST_ID,
];

/// What the edits are made from.
#[derive(Clone, Copy)]
pub(super) struct Facts<'a> {
    pub(super) head: &'a RequestHead<'a>,
    pub(super) connection: &'a Connection,
    pub(super) settings: &'a PipelineSettings,
    /// The host as the client wrote it, with its port.
    pub(super) authority: Option<&'a str>,
    pub(super) request_id: &'a HeaderValue,
    /// The options of ingress-nginx, on routes of its dialect.
    pub(super) nginx: Option<&'a Forwarding>,
}

impl<'a> Facts<'a> {
    /// The same for a route.
    pub(super) fn of(self, route: &'a Route) -> Self {
        Self { nginx: route.policy.forwarding.as_deref(), ..self }
    }
}

impl Facts<'_> {
    fn trusted(&self) -> bool {
        self.settings.trusts(self.connection.client.ip())
    }

    /// A forwarding field that a trusted proxy sent.
    fn given(&self, name: &HeaderName) -> Option<FieldValue<'_>> {
        let believed = self.nginx.is_some_and(|nginx| nginx.believes_fields) || self.trusted();
        if believed { self.head.headers.get(name).filter(|value| !value.is_empty()) } else { None }
    }

    /// The host that a trusted proxy names.
    pub(super) fn given_host(&self) -> Option<&str> {
        self.given(&X_FORWARDED_HOST).and_then(origin::first)
    }

    /// The port that a trusted proxy names.
    pub(super) fn given_port(&self) -> Option<u16> {
        self.given(&X_FORWARDED_PORT).and_then(origin::first)?.parse().ok()
    }

    /// Whether the client came by HTTPS, here or at a trusted proxy.
    pub(super) fn secure(&self) -> bool {
        match self.given(&X_FORWARDED_PROTO) {
            // ingress-nginx sends to HTTPS what came by a scheme that is exactly "http".
            Some(value) if self.nginx.is_some() => scheme_of(value).is_none_or(|scheme| scheme != "http"),
            Some(value) => origin::first(value).is_some_and(|scheme| scheme.eq_ignore_ascii_case("https")),
            // ingress-nginx takes what came to port 443 of a proxy in front for HTTPS, wherever TLS ended.
            None if self.nginx.is_some() && self.destination_port() == Some(443) => true,
            None => self.connection.tls.is_some(),
        }
    }

    /// The client: behind trusted proxies the right-most address in `X-Forwarded-For` that is not one of them.
    pub(super) fn client(&self) -> IpAddr {
        let direct = self.connection.client.ip().to_canonical();
        if let Some(nginx) = self.nginx.filter(|nginx| nginx.trusts(direct)) {
            let values = self.head.headers.get_all(&nginx.address_field);
            let list: Vec<&str> = values.filter_map(|value| value.to_str().ok()).collect();
            let mut client = direct;
            for hop in list.iter().rev().flat_map(|value| value.rsplit(',')) {
                let Some(address) = parse_hop(hop.trim()) else { break };
                client = address;
                if !nginx.trusts(address) {
                    break;
                }
            }
            return client;
        }
        if !self.trusted() {
            return direct;
        }
        let values = self.head.headers.get_all(X_FORWARDED_FOR).rev();
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
    pub(super) fn upgrade(&self) -> Option<FieldValue<'_>> {
        let headers = self.head.headers;
        // Few requests have the field, so it is looked for first.
        let token = headers.get(UPGRADE)?;
        if self.head.version != Version::HTTP_11 || !has_token(headers, CONNECTION, "upgrade") {
            return None;
        }
        let is_h2c = |name: &[u8]| name.get(..3).is_some_and(|start| start.eq_ignore_ascii_case(b"h2c"));
        let h2c = tokens(headers, UPGRADE).any(is_h2c);
        (!h2c).then_some(token)
    }

    /// The port in the PROXY header; 0 where that names none.
    fn destination_port(&self) -> Option<u16> {
        self.connection.destination.map(|destination| destination.port())
    }

    /// What the client asked for, as it wrote it.
    fn origin(&self, written: Option<HeaderValue>) -> Origin {
        let destination = self.destination_port();
        origin::Facts {
            secure: self.secure(),
            authority: self.authority,
            given_host: self.given(&X_FORWARDED_HOST),
            given_port: self.given(&X_FORWARDED_PORT),
            destination: destination.filter(|port| *port != 0),
        }
        .origin(written)
    }

    /// Edits to the request: forwarding headers set, hop-by-hop fields removed, `Forwarded` left alone.
    pub(super) fn request_edits(&self) -> HeaderEdits {
        let mut edits =
            HeaderEdits { always: &NEVER_SENT, set: Vec::with_capacity(MOST_SET), ..HeaderEdits::default() };
        let headers = self.head.headers;
        remove_nominated(headers, &mut edits);
        remove_aliases(headers, &mut edits);
        if let Some(token) = self.upgrade() {
            edits.set.push((CONNECTION, HeaderValue::from_static("upgrade")));
            edits.set.push((UPGRADE, token.to_value()));
        }
        // RFC 9110 section 10.1.4: only the willingness to take trailers is passed on, which gRPC insists on.
        if headers.get(TE).is_some_and(|value| value.as_bytes().eq_ignore_ascii_case(b"trailers")) {
            edits.set.push((TE, HeaderValue::from_static("trailers")));
        }
        if !self.may_have_trailers() {
            edits.remove.push(TRAILER);
        }
        // Crumbs are of HTTP/2 alone (RFC 9113 section 8.2.3), and ingress-nginx leaves those of others as they are.
        if (self.head.version == Version::HTTP_2 || self.nginx.is_none())
            && let Some(cookies) = cookies::joined(headers)
        {
            edits.set.push((COOKIE, cookies));
        }
        self.forwarding_fields(&mut edits);
        edits
    }

    /// In HTTP/1.1 trailers follow the last chunk, so there are none without chunks.
    fn may_have_trailers(&self) -> bool {
        let headers = self.head.headers;
        match self.head.version {
            Version::HTTP_2 => !headers.contains(CONTENT_LENGTH),
            _ => headers.contains(TRANSFER_ENCODING),
        }
    }

    /// The host as the client wrote it.
    fn authority_value(&self) -> Option<HeaderValue> {
        let authority = self.authority?;
        let field = self.head.headers.get(HOST).filter(|field| field.as_bytes() == authority.as_bytes());
        // The bytes of a field are shared, not copied.
        field.map(|field| field.to_value()).or_else(|| HeaderValue::from_str(authority).ok())
    }

    fn forwarding_fields(&self, edits: &mut HeaderEdits) {
        let authority = self.authority_value();
        let origin = self.origin(authority.clone());
        edits.set.extend(authority.map(|host| (HOST, host)));
        match origin.host {
            Some(host) => edits.set.push((X_FORWARDED_HOST, host)),
            None => edits.remove.push(X_FORWARDED_HOST),
        }
        let scheme = HeaderValue::from_static(if self.secure() { "https" } else { "http" });
        if self.nginx.is_some() {
            let scheme = self.given(&X_FORWARDED_PROTO).map_or(scheme, |given| given.to_value());
            edits.set.push((X_FORWARDED_SCHEME, scheme.clone()));
            edits.set.push((X_SCHEME, scheme.clone()));
            edits.set.push((X_FORWARDED_PROTO, scheme));
        } else {
            edits.set.push((X_FORWARDED_PROTO, scheme));
        }
        let port = self.given_port().filter(|_| self.nginx.is_some_and(|nginx| nginx.believes_fields));
        // ingress-nginx names the port of its own listener, whatever the client has written.
        let own = || self.nginx.map(|_| if self.connection.tls.is_some() { 443 } else { 80 });
        let port = port.or_else(|| self.destination_port().filter(|_| self.nginx.is_some())).or_else(own);
        if self.nginx.is_some() && self.destination_port() == Some(0) {
            edits.remove.push(X_FORWARDED_PORT);
        } else {
            edits.set.push((X_FORWARDED_PORT, text::port(port.unwrap_or(origin.port))));
        }
        let direct = self.connection.client.ip().to_canonical();
        let (peer, client) = (text::address(direct), self.client());
        let client = if client == direct { peer.clone() } else { text::address(client) };
        edits.set.push((X_FORWARDED_FOR, self.forwarded_for(peer, &client)));
        edits.set.push((X_REAL_IP, client));
        edits.set.push((X_REQUEST_ID, self.request_id.clone()));
        if let Some(nginx) = self.nginx {
            self.nginx_fields(nginx, edits);
        }
    }

    /// What ingress-nginx adds, and what it drops.
    fn nginx_fields(&self, nginx: &Forwarding, edits: &mut HeaderEdits) {
        let headers = self.head.headers;
        if headers.contains(EXPECT) {
            edits.remove.push(EXPECT);
        }
        let dropped = headers.names().filter(|name| nginx.drops(name));
        edits.remove.extend(dropped.filter_map(|name| HeaderName::from_bytes(name).ok()));
        let originals =
            [(X_ORIGINAL_FORWARDED_FOR, &nginx.address_field), (X_ORIGINAL_FORWARDED_HOST, &X_FORWARDED_HOST)];
        for (original, field) in originals {
            match headers.get(field) {
                Some(value) => edits.set.push((original, value.to_value())),
                None => edits.remove.push(original),
            }
        }
        if let Some(host) = self.given(&X_FORWARDED_HOST).filter(|_| nginx.believes_fields) {
            edits.set.retain(|(name, _)| name != HOST);
            edits.set.push((HOST, host.to_value()));
        }
        if nginx.original_uri
            && let Ok(target) = HeaderValue::from_str(self.head.target)
        {
            edits.set.push((X_ORIGINAL_URI, target));
        }
        if !nginx.request_id && !headers.contains(X_REQUEST_ID) {
            edits.set.retain(|(name, _)| name != X_REQUEST_ID);
        }
    }

    /// `X-Forwarded-For`: the list of a trusted proxy with that proxy added, else the client alone.
    fn forwarded_for(&self, direct: HeaderValue, client: &HeaderValue) -> HeaderValue {
        if let Some(nginx) = self.nginx.filter(|nginx| !nginx.full_list || !nginx.believes_address) {
            // The client alone, as long as nobody asks for the list.
            return if nginx.believes_address || !self.trusted() { client.clone() } else { direct };
        }
        if !self.trusted() && self.nginx.is_none() {
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

/// An entry of `X-Forwarded-For`: an address, with or without a port.
fn parse_hop(hop: &str) -> Option<IpAddr> {
    let bare = hop.trim_start_matches('[').trim_end_matches(']');
    let address = bare.parse().ok().or_else(|| hop.parse::<std::net::SocketAddr>().ok().map(|socket| socket.ip()));
    address.map(|address: IpAddr| address.to_canonical())
}
