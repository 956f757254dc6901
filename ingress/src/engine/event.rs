//! What is told of each request and connection: the input of access log and metrics.

use std::borrow::Cow;
use std::io;
use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;
use std::sync::atomic::{AtomicI64, AtomicU64};
use std::time::{Duration, SystemTime};

use http::Version;
use landfall_ingress_model::backend::{Backend, BackendKey};
use landfall_ingress_model::fields::Fields;
use landfall_ingress_model::pipeline::{Connection, Tls};
use landfall_ingress_model::policy::SpanContext;
use landfall_ingress_model::table::{Action, Route, StreamService};

/// How a client reached us.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub enum Scheme {
    /// In the clear.
    Http,
    /// By TLS.
    Https,
}

impl Scheme {
    /// `http` or `https`.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Http => "http",
            Self::Https => "https",
        }
    }

    /// How a connection came.
    pub(crate) fn of(connection: &Connection) -> Self {
        if connection.tls.is_some() { Self::Https } else { Self::Http }
    }
}

/// One finished request and its answer. Texts are those of the request itself, so that whoever needs none copies none.
#[derive(Clone, Debug)]
pub struct Exchange<'a> {
    /// When the head of the request had been read.
    pub start: SystemTime,
    /// From then to the last byte of the answer.
    pub duration: Duration,
    /// The request id.
    pub request_id: Cow<'a, str>,
    /// The client behind trusted proxies.
    pub client: IpAddr,
    /// The other end of the TCP connection.
    pub peer: SocketAddr,
    /// The method; `-` where the head was not understood.
    pub method: Cow<'a, str>,
    /// How the client reached us.
    pub scheme: Scheme,
    /// The host that was asked for, as it was written; empty where there was none.
    pub host: Cow<'a, str>,
    /// Path and query as they came; `-` where the head was not understood.
    pub target: Cow<'a, str>,
    /// The version of HTTP spoken with the client.
    pub version: Version,
    /// The status that was sent; 499 where the client left before there was one.
    pub status: u16,
    /// Bytes of the request's body.
    pub received: u64,
    /// Bytes of the answer's body.
    pub sent: u64,
    /// The route, where one was found.
    pub route: Option<Arc<Route>>,
    /// The backend that took the request instead of the route's own: that of a canary.
    pub canary: Option<Arc<Backend>>,
    /// The last attempt at an endpoint.
    pub upstream: Option<Upstream>,
    /// Endpoints that were tried.
    pub tries: u32,
    /// `User-Agent`.
    pub user_agent: Option<Cow<'a, str>>,
    /// `Referer`.
    pub referer: Option<Cow<'a, str>>,
    /// All fields of the request, where somebody reads them.
    pub fields: Option<Cow<'a, Fields>>,
    /// What is known of TLS with the client, where somebody reads it.
    pub tls: Option<Cow<'a, Tls>>,
    /// Its span, where it is traced.
    pub span: Option<Box<SpanContext>>,
    /// What went wrong, in words.
    pub error: Option<Cow<'a, str>>,
}

impl Exchange<'_> {
    /// The backend, where the route has one.
    pub fn backend(&self) -> Option<&BackendKey> {
        match &self.route.as_ref()?.action {
            Action::Forward(backend) => Some(&backend.key),
            Action::Unavailable(_) | Action::NotFound => None,
        }
    }

    /// The same, to be kept.
    pub fn into_owned(self) -> Exchange<'static> {
        let owned = |text: Cow<'_, str>| Cow::Owned(text.into_owned());
        Exchange {
            request_id: owned(self.request_id),
            method: owned(self.method),
            host: owned(self.host),
            target: owned(self.target),
            user_agent: self.user_agent.map(owned),
            referer: self.referer.map(owned),
            fields: self.fields.map(|fields| Cow::Owned(fields.into_owned())),
            tls: self.tls.map(|tls| Cow::Owned(tls.into_owned())),
            error: self.error.map(owned),
            ..self
        }
    }
}

/// The endpoint that took the request.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Upstream {
    /// Its address.
    pub address: SocketAddr,
    /// Time until there was a connection; `None` where there never was one.
    pub connect: Option<Duration>,
    /// Time from the choice of the endpoint to the head of the response; `None` where there was none.
    pub first_byte: Option<Duration>,
    /// Whether a kept connection was used again.
    pub reused: bool,
}

/// Why a connection was turned away or ended before a request.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub enum Rejected {
    /// There are as many connections as may be.
    TooMany,
    /// The client's address has as many connections as it may have.
    TooManyOfClient,
    /// Memory is at its limit.
    Memory,
    /// The PROXY header is missing, malformed or late.
    ProxyProtocol,
    /// The TLS handshake failed.
    Handshake,
    /// The TLS handshake took too long.
    HandshakeTimeout,
    /// Plain HTTP was sent to the TLS port.
    PlainOnTls,
    /// There is no endpoint for TLS that is not ended here.
    Passthrough,
    /// There is no endpoint for the port of a Service.
    NoEndpoint,
    /// The port drains.
    Draining,
}

impl Rejected {
    /// The word for metric labels and logs.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::TooMany => "too_many_connections",
            Self::TooManyOfClient => "too_many_of_client",
            Self::Memory => "memory",
            Self::ProxyProtocol => "proxy_protocol",
            Self::Handshake => "handshake",
            Self::HandshakeTimeout => "handshake_timeout",
            Self::PlainOnTls => "plain_http_on_tls_port",
            Self::Passthrough => "passthrough",
            Self::NoEndpoint => "no_endpoint",
            Self::Draining => "draining",
        }
    }
}

/// What moves over one port to a Service, counted while it moves.
#[derive(Debug, Default)]
pub struct StreamCounts {
    /// Connections or sessions now.
    pub open: AtomicI64,
    /// Those there were.
    pub opened: AtomicU64,
    /// Bytes from clients.
    pub received: AtomicU64,
    /// Bytes to clients.
    pub sent: AtomicU64,
}

/// A TCP connection or a UDP session that is over.
#[derive(Clone, Debug)]
pub struct StreamRecord<'a> {
    /// Where it led to.
    pub service: &'a StreamService,
    /// The client, as a PROXY header says it.
    pub client: SocketAddr,
    /// How long it was.
    pub duration: Duration,
    /// Bytes from the client.
    pub received: u64,
    /// Bytes to the client.
    pub sent: u64,
    /// The last endpoint that was tried.
    pub upstream: Option<SocketAddr>,
    /// Endpoints that were tried.
    pub tries: u32,
    /// Why it came to nothing, if so.
    pub rejected: Option<Rejected>,
}

/// A finished TLS handshake.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Handshake {
    /// How long it took, from the accept on.
    pub duration: Duration,
    /// Whether a session was resumed.
    pub resumed: bool,
    /// The version, as in `TLSv1.3`.
    pub version: &'static str,
}

/// Hears of everything that happens on the data path. Called on the data workers, so it must be quick.
pub trait Observer: Send + Sync + 'static {
    /// A request was answered, or failed to be.
    fn exchange(&self, exchange: &Exchange<'_>);

    /// Whether it reads what only a log needs: the fields of the request. Otherwise they are left out.
    fn reads(&self) -> bool {
        true
    }

    /// A connection was accepted.
    fn opened(&self, _scheme: Scheme) {}

    /// An accepted connection has ended.
    fn closed(&self, _scheme: Scheme) {}

    /// A connection was turned away.
    fn rejected(&self, _scheme: Scheme, _why: Rejected, _peer: SocketAddr) {}

    /// A TLS handshake has finished.
    fn handshake(&self, _handshake: Handshake) {}

    /// This process has no file descriptor, port or memory left for what it was doing: `accept`, `connect`.
    fn lacks(&self, _doing: &'static str, _error: &io::Error) {}

    /// A connection or session on the port of a Service has begun; what is returned is counted on.
    fn stream_opened(&self, _service: &StreamService) -> Arc<StreamCounts> {
        Arc::default()
    }

    /// It is over.
    fn stream_closed(&self, _record: &StreamRecord<'_>) {}

    /// One was turned away before it began.
    fn stream_rejected(&self, _service: &StreamService, _why: Rejected, _peer: SocketAddr) {}

    /// An endpoint refused or failed and is left out for a while.
    fn ejected(&self, _backend: &BackendKey, _endpoint: SocketAddr) {}
}

/// An observer that looks away.
#[derive(Clone, Copy, Debug, Default)]
pub struct Unobserved;

impl Observer for Unobserved {
    fn exchange(&self, _exchange: &Exchange<'_>) {}
}

/// The observer as the data path shares it.
pub(crate) type SharedObserver = Arc<dyn Observer>;
