//! What is kept of one exchange for metrics and the access log.

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::SystemTime;

use http::{HeaderName, HeaderValue, header};
use landfall_ingress_model::backend::BackendKey;
use landfall_ingress_model::pipeline::Forward;
use landfall_ingress_model::table::{Action, Route};
use tokio::time::Instant;

use super::{Failure, Peer, Request, Shared};
use crate::engine::event::{Exchange, Scheme, Upstream};

/// The record of one exchange.
pub(in crate::engine) struct Record<'a> {
    request: &'a Request,
    peer: &'a Peer,
    pub(super) id: &'a HeaderValue,
    start: SystemTime,
    begun: Instant,
    pub(super) route: Option<Arc<Route>>,
    client: Option<std::net::IpAddr>,
    upstream: Option<Upstream>,
    attempt: Instant,
    pub(super) tries: u32,
    pub(super) received: u64,
    /// The status of the answer.
    pub(super) status: u16,
    pub(super) error: Option<String>,
}

impl<'a> Record<'a> {
    pub(super) fn new(request: &'a Request, peer: &'a Peer, id: &'a HeaderValue) -> Self {
        let begun = Instant::now();
        Self {
            request,
            peer,
            id,
            start: SystemTime::now(),
            begun,
            route: None,
            client: None,
            upstream: None,
            attempt: begun,
            tries: 0,
            received: 0,
            status: 0,
            error: None,
        }
    }

    /// The request goes to a backend.
    pub(super) fn take(&mut self, forward: &Forward) {
        self.route = Some(forward.route.clone());
        self.client = Some(forward.client);
    }

    /// An attempt at an endpoint begins.
    pub(super) fn begin(&mut self, address: SocketAddr) {
        self.tries += 1;
        self.attempt = Instant::now();
        self.upstream = Some(Upstream { address, connect: None, first_byte: None, reused: false });
    }

    /// There is a connection.
    pub(super) fn connected(&mut self, reused: bool) {
        if let Some(upstream) = &mut self.upstream {
            upstream.reused = reused;
            upstream.connect = Some(if reused { std::time::Duration::ZERO } else { self.attempt.elapsed() });
        }
    }

    /// The head of the response has come.
    pub(super) fn answered(&mut self) {
        if let Some(upstream) = &mut self.upstream {
            upstream.first_byte = Some(self.attempt.elapsed());
        }
    }

    /// The exchange came to no good end.
    pub(super) fn fail(&mut self, failure: &Failure) {
        self.error.get_or_insert_with(|| failure.to_string());
    }

    /// Tells the observer.
    pub(super) fn tell(self, engine: &Shared, sent: u64) {
        let Self { request, peer, route, .. } = &self;
        let headers = &request.fields.map;
        let text =
            |name: HeaderName| headers.get(name).map(|value| String::from_utf8_lossy(value.as_bytes()).into_owned());
        let host = request.authority.clone().or_else(|| text(header::HOST)).unwrap_or_default();
        engine.observer.exchange(&Exchange {
            start: self.start,
            duration: self.begun.elapsed(),
            request_id: self.id.to_str().unwrap_or_default().to_owned(),
            client: self.client.unwrap_or_else(|| peer.connection.client.ip().to_canonical()),
            peer: peer.connection.peer,
            method: request.method.as_str().to_owned(),
            scheme: Scheme::of(&peer.connection),
            host,
            target: request.target.clone(),
            version: request.version,
            status: self.status,
            received: self.received,
            sent,
            route: route.as_ref().map(|route| route.id.clone()),
            backend: route.as_deref().and_then(backend_of),
            upstream: self.upstream,
            tries: self.tries,
            user_agent: text(header::USER_AGENT),
            referer: text(header::REFERER),
            error: self.error,
        });
    }
}

fn backend_of(route: &Route) -> Option<BackendKey> {
    match &route.action {
        Action::Forward(backend) => Some(backend.key.clone()),
        Action::Unavailable(_) => None,
    }
}
