//! What to do with a request: the pure decision between its head and the bytes that move.
//!
//! Nothing here knows the engine that carries the bytes. A request head, the facts of its connection and the
//! table give a [`Decision`]; an engine carries it out.

mod ask;
mod certified;
mod choice;
mod client_certificate;
mod cookies;
mod distinguished_name;
mod fields;
mod forward;
mod forwarding;
mod hops;
mod instead;
mod origin;
mod page;
mod redirects;
mod request;
mod response;
mod snippets;
mod steps;
mod text;
mod tls_variable;
mod tokens;
mod trace;

use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;

use http::header::HOST;
use http::{HeaderValue, Method, StatusCode, Version};
use ipnet::IpNet;

use crate::acme::challenges::Challenges;
use crate::backend::Ejections;
use crate::fields::{FieldValue, Fields};
use crate::host::HostName;
use crate::path::CanonicalPath;
use crate::policy::Limiter;
use crate::table::{Route, Table};

pub use ask::{Ask, Opinion, Question, credentials, parts};
pub use client_certificate::ClientCertificate;
pub use cookies::field_count;
pub use forward::{Forward, Key};
pub use hops::may_trail;
pub use page::{Answer, error_page};
pub use response::{BadFraming, ResponseBody, Trailers, Upgraded, declared_length, response_body, response_edits};
pub use tls_variable::TlsVariable;
pub use tokens::{has_token, tokens};
pub use trace::{Stage, Trace};

/// What is known of the connection a request came on.
#[derive(Clone, Debug)]
pub struct Connection {
    /// Who is served: the source in the PROXY header where there is one, else the peer.
    pub client: SocketAddr,
    /// The other end of the TCP connection.
    pub peer: SocketAddr,
    /// Where the client connected to: the destination in the PROXY header, else our own end.
    pub local: SocketAddr,
    /// The destination in the PROXY header, all zeros where it names none; `None` without a header.
    pub destination: Option<SocketAddr>,
    /// TLS facts; `None` in the clear.
    pub tls: Option<Tls>,
}

/// What the TLS handshake said.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Tls {
    /// The server name indication, if it was a host name.
    pub server_name: Option<HostName>,
    /// The certificate that the client has shown, if it was asked for one.
    pub client: Option<Arc<ClientCertificate>>,
    /// What was agreed on.
    pub session: TlsSession,
}

/// What client and listener have agreed on.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct TlsSession {
    /// `TLSv1.3`; empty where it is not known.
    pub protocol: &'static str,
    /// The cipher suite, as OpenSSL names it.
    pub cipher: &'static str,
    /// Whether a former session goes on.
    pub is_resumed: bool,
}

/// Settings of the pipeline.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub struct PipelineSettings {
    /// Peers whose `X-Forwarded-*` and `X-Real-IP` are believed.
    pub trusted_proxies: Vec<IpNet>,
}

impl PipelineSettings {
    /// Whether forwarding headers from this address are believed.
    pub fn trusts(&self, address: IpAddr) -> bool {
        let address = address.to_canonical();
        self.trusted_proxies.iter().any(|net| net.contains(&address))
    }
}

/// The head of a request as the client sent it.
#[derive(Clone, Copy, Debug)]
pub struct RequestHead<'a> {
    /// The method.
    pub method: &'a Method,
    /// The protocol version.
    pub version: Version,
    /// Path and query in origin form, or `*`.
    pub target: &'a str,
    /// The host of an absolute-form target or the `:authority` of HTTP/2.
    pub authority: Option<&'a str>,
    /// The fields.
    pub headers: &'a Fields,
}

/// What a decision goes by that is no part of the request.
#[derive(Clone, Copy)]
pub struct Live<'a> {
    /// A random number, another one for each request.
    pub dice: u64,
    /// Seconds since the epoch.
    pub now: u64,
    /// The same moment by the clock that only goes forward.
    pub instant: std::time::Instant,
    /// Counts requests against limits.
    pub limiter: &'a dyn Limiter,
    /// The challenges of our own that are answered.
    pub challenges: &'a Challenges,
    /// Knows which endpoints are left out.
    pub ejections: &'a dyn Ejections,
    /// Who wants to know which steps it passes; nobody, on the data path.
    pub trace: Option<&'a Trace>,
}

/// What happens to a request.
#[derive(Debug)]
pub enum Decision {
    /// It goes to a backend.
    Forward(Box<Forward>),
    /// It goes to a backend if something turns out well.
    Ask(Box<Ask>),
    /// It is answered here. The route is named where one was found.
    Answer(Answer, Option<Arc<Route>>),
}

/// Decides what happens to a request.
///
/// `request_id` is used when the client sent none that can be passed on; see [`request_id`].
pub fn decide(
    head: &RequestHead<'_>,
    connection: &Connection,
    table: &Table,
    settings: &PipelineSettings,
    request_id: &HeaderValue,
    live: &Live<'_>,
) -> Decision {
    let refuse =
        |status: StatusCode, reason: &str| Decision::Answer(error_page(status, reason, head.headers, request_id), None);
    let (host, authority) = match request_host(head) {
        Ok(found) => found,
        Err(reason) => return refuse(StatusCode::BAD_REQUEST, &reason),
    };
    if head.target == "*" {
        // RFC 9110 section 9.3.7: "OPTIONS *" is about the server, not about a resource of a backend.
        let as_nginx = table.host(host.as_ref()).is_of_nginx();
        return if head.method == Method::OPTIONS && !as_nginx {
            Decision::Answer(Answer::empty(StatusCode::NO_CONTENT, request_id), None)
        } else {
            refuse(StatusCode::BAD_REQUEST, "the request target \"*\" is not served here")
        };
    }
    let (raw_path, query) = match head.target.split_once('?') {
        Some((path, query)) => (path, Some(query)),
        None => (head.target, None),
    };
    if head.target.contains('#') {
        return refuse(StatusCode::BAD_REQUEST, "the request target has a fragment");
    }
    // Before any rule: whoever asks has to get the answer, and has nothing else to ask for at such a path.
    if let Some(body) = live.challenges.http_01(raw_path) {
        return Decision::Answer(Answer::challenge(body, request_id), None);
    }
    let path = match CanonicalPath::parse(raw_path) {
        Ok(path) => path,
        Err(error) => return refuse(StatusCode::BAD_REQUEST, &error.to_string()),
    };
    // Few paths have another form than the canonical one.
    if path.as_str() != raw_path && CanonicalPath::leaves_root(raw_path) && table.host(host.as_ref()).is_of_nginx() {
        return refuse(StatusCode::BAD_REQUEST, "the path leads above the root");
    }
    let facts = forwarding::Facts { head, connection, settings, authority, request_id, nginx: None };
    let request = request::Request {
        facts,
        live,
        host: host.as_ref(),
        path: &path,
        query,
        is_uncovered: false,
        is_rewritten: false,
        is_stopped: false,
        sent: None,
    };
    request.pass(table)
}

/// The request id to use: the client's own where it can be passed on, else a fresh one of 32 hexadecimal digits
/// made from `random`.
pub fn request_id(headers: &Fields, random: u128) -> HeaderValue {
    let usable = |value: &FieldValue<'_>| {
        let plain = |byte: &u8| byte.is_ascii_alphanumeric() || b"-_.:=+/@".contains(byte);
        (1..=128).contains(&value.len()) && value.as_bytes().iter().all(plain)
    };
    match headers.get(fields::X_REQUEST_ID).filter(usable) {
        Some(value) => value.to_value(),
        None => text::hexadecimal(random),
    }
}

/// The host that is asked for, parsed and as it was written.
fn request_host<'a>(head: &RequestHead<'a>) -> Result<(Option<HostName>, Option<&'a str>), String> {
    let mut fields = head.headers.get_all(HOST);
    let field = fields.next();
    if fields.next().is_some() {
        return Err("the request has more than one Host field".into());
    }
    let Ok(field) = field.map(|field| field.to_str()).transpose() else {
        return Err("the Host field is not ASCII".into());
    };
    // RFC 9113 section 8.3.1: an :authority and a Host that differ are malformed. In HTTP/1.1 the host of an
    // absolute-form target wins (RFC 9112 section 3.2.2).
    if let (Version::HTTP_2, Some(authority), Some(field)) = (head.version, head.authority, field)
        && HostName::from_authority(authority) != HostName::from_authority(field)
    {
        return Err("the :authority and the Host field differ".into());
    }
    match head.authority.or(field) {
        None if head.version >= Version::HTTP_11 => Err("the request names no host".into()),
        // HTTP/1.0 needs no host, and HTTP/1.1 allows an empty one where the target has none.
        None | Some("") => Ok((None, None)),
        Some(authority) => match HostName::from_authority(authority) {
            Ok(host) => Ok((Some(host), Some(authority))),
            Err(error) => Err(error.to_string()),
        },
    }
}

#[cfg(test)]
mod tests;
