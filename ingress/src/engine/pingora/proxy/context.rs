//! What is kept of one request between pingora's phases.

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::{Duration, SystemTime};

use http::{HeaderMap, HeaderName, HeaderValue, Version, header};
use landfall_ingress_model::pipeline::{Connection, Forward};
use landfall_ingress_model::table::Route;
use pingora_core::{Error, ErrorSource, ErrorType};
use tokio::time::Instant;

use crate::balance::{Balancer, Pick};
use crate::engine::event::{Exchange, Scheme, Upstream};

/// One request on its way.
pub(crate) struct Context {
    start: SystemTime,
    begun: Instant,
    /// Known once the request was looked at.
    pub(super) request: Option<RequestFacts>,
    pub(super) forward: Option<Box<Forward>>,
    pub(super) attempt: Option<Attempt>,
    /// Endpoints that were tried and failed.
    pub(super) tried: Vec<SocketAddr>,
    pub(super) tries: u32,
    /// Bytes of the request's body that were passed on.
    pub(super) received: u64,
    /// Whether an interim response was passed on.
    pub(super) informed: bool,
    pub(super) error: Option<String>,
    /// Why the last endpoint could not be reached.
    pub(super) failure: Option<(ErrorType, String)>,
    /// The status that the log shows where none was sent.
    pub(super) unsent_status: Option<u16>,
}

/// What the log says of a request.
pub(super) struct RequestFacts {
    pub(super) id: HeaderValue,
    pub(super) connection: Connection,
    pub(super) method: String,
    pub(super) version: Version,
    pub(super) host: String,
    pub(super) target: String,
    pub(super) route: Option<Arc<Route>>,
    pub(super) user_agent: Option<String>,
    pub(super) referer: Option<String>,
}

/// An attempt at one endpoint.
pub(super) struct Attempt {
    pub(super) address: SocketAddr,
    pub(super) begun: Instant,
    pub(super) connect: Option<Duration>,
    pub(super) first_byte: Option<Duration>,
    pub(super) reused: bool,
    /// Counts the request as in flight at the endpoint.
    _pick: Pick,
    /// The choice that it came from.
    pub(super) balancer: Arc<Balancer>,
}

impl Attempt {
    pub(super) fn new(balancer: Arc<Balancer>, pick: Pick) -> Self {
        let begun = Instant::now();
        Self { address: pick.addr, begun, connect: None, first_byte: None, reused: false, _pick: pick, balancer }
    }
}

/// A field's value as text, for the log.
pub(super) fn text(headers: &HeaderMap, name: &HeaderName) -> Option<String> {
    headers.get(name).map(|value| String::from_utf8_lossy(value.as_bytes()).into_owned())
}

impl RequestFacts {
    /// The host as it was written.
    pub(super) fn host_of(authority: Option<&str>, headers: &HeaderMap) -> String {
        authority.map(str::to_owned).or_else(|| text(headers, &header::HOST)).unwrap_or_default()
    }
}

impl Context {
    pub(super) fn new() -> Self {
        Self {
            start: SystemTime::now(),
            begun: Instant::now(),
            request: None,
            forward: None,
            attempt: None,
            tried: Vec::new(),
            tries: 0,
            received: 0,
            informed: false,
            error: None,
            failure: None,
            unsent_status: None,
        }
    }

    /// The id of the request.
    pub(super) fn request_id(&self) -> HeaderValue {
        self.request.as_ref().map_or(HeaderValue::from_static("-"), |request| request.id.clone())
    }

    /// When no endpoint is left to try, the reason is why the last one failed, if there was one.
    #[expect(clippy::unnecessary_box_returns, reason = "pingora's errors are boxed")]
    pub(super) fn last_failure(&mut self, error: Box<Error>) -> Box<Error> {
        match self.failure.take() {
            Some((etype, text)) => Error::create(etype, ErrorSource::Upstream, Some(text.into()), None),
            None => error,
        }
    }

    /// The record of the exchange. `None` where not even the head was looked at.
    pub(super) fn record(&self, status: Option<u16>, sent: u64) -> Option<Exchange<'_>> {
        let request = self.request.as_ref()?;
        let client = self.forward.as_ref().map(|forward| forward.client);
        Some(Exchange {
            start: self.start,
            duration: self.begun.elapsed(),
            request_id: request.id.to_str().unwrap_or_default().into(),
            client: client.unwrap_or_else(|| request.connection.client.ip().to_canonical()),
            peer: request.connection.peer,
            method: request.method.as_str().into(),
            scheme: Scheme::of(&request.connection),
            host: request.host.as_str().into(),
            target: request.target.as_str().into(),
            version: request.version,
            status: status.or(self.unsent_status).unwrap_or_default(),
            received: self.received,
            sent,
            route: request.route.clone(),
            canary: self.forward.as_ref().and_then(|forward| forward.canary().cloned()),
            upstream: self.attempt.as_ref().map(|attempt| Upstream {
                address: attempt.address,
                connect: attempt.connect,
                first_byte: attempt.first_byte,
                reused: attempt.reused,
            }),
            span: None,
            tries: self.tries,
            user_agent: request.user_agent.as_deref().map(Into::into),
            referer: request.referer.as_deref().map(Into::into),
            fields: None,
            tls: None,
            error: self.error.as_deref().map(Into::into),
        })
    }
}
