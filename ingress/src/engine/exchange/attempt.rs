//! The attempts of one request: which endpoint, which connection, and whether another may be made.

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use landfall_ingress_model::backend::{Balance, Protocol};
use landfall_ingress_model::pipeline::Forward;
use landfall_ingress_model::policy::{Retry, UpstreamTls};
use tokio::time::Instant;

use super::upload::Upload;
use super::{Failure, Peer, Record, Request, Shared};
use crate::balance::{Balancer, Choice, Pick};
use crate::engine::HURRIED_CONNECT;
use crate::engine::body::Length;
use crate::engine::upstream::{Care, ConnectError, Origin, Outbound, Protocols, Upstream, UpstreamError, server_name};
use crate::resolve::ResolveError;

/// The attempts of one request.
pub(super) struct Attempts<'a> {
    engine: &'a Shared,
    request: &'a Request,
    forward: &'a Forward,
    peer: &'a Peer,
    /// Endpoints that failed.
    tried: Vec<SocketAddr>,
    /// Counts the request as in flight at its endpoint.
    pick: Option<Pick>,
    /// The endpoints, where it counts how long they take.
    timed: Option<Arc<Balancer>>,
    /// Why the last attempt failed.
    failure: Option<Failure>,
}

/// An endpoint, and who wants to know how long it takes.
pub(super) struct Timed(Option<(Arc<Balancer>, SocketAddr)>);

impl Timed {
    /// Notes that an attempt is over.
    pub(super) fn end(self, record: &Record<'_>) {
        if let Some((balancer, address)) = self.0 {
            let now = Instant::now();
            balancer.took(address, now.saturating_duration_since(record.attempt()), now.into_std());
        }
    }
}

impl<'a> Attempts<'a> {
    pub(super) fn new(engine: &'a Shared, request: &'a Request, forward: &'a Forward, peer: &'a Peer) -> Self {
        let (tried, pick, timed, failure) = (Vec::new(), None, None, None);
        Self { engine, request, forward, peer, tried, pick, timed, failure }
    }

    /// The endpoint of the last attempt, where it counts how long it takes.
    pub(super) fn timed(&self) -> Timed {
        Timed(self.timed.clone().zip(self.pick.as_ref().map(|pick| pick.addr)))
    }

    /// The request as the endpoint is to get it.
    pub(super) fn outbound(&self) -> Outbound<'a> {
        Outbound {
            method: &self.request.method,
            target: &self.forward.target,
            verbatim: self.forward.route.policy.manner.verbatim,
            fields: &self.request.fields,
            edits: &self.forward.edits,
            body: match self.request.body {
                // Whoever gets nothing of a body is told so.
                Length::Known(_) | Length::Unknown if self.forward.is_bodiless => Length::Known(0),
                body => body,
            },
        }
    }

    /// A connection to the next endpoint that takes one.
    pub(super) async fn connect(&mut self, record: &mut Record<'_>) -> Result<Upstream, Failure> {
        if let Some(own) = self.peer.take_own(&self.forward.backend.key, self.tls().as_ref(), self.care()) {
            record.begin(own.address(), Instant::now());
            record.connected(true);
            return Ok(own);
        }
        let balancer = self.balancer().await?;
        if self.forward.choice().0 == Balance::Ewma {
            self.timed = Some(balancer.clone());
        }
        let mut cleared = false;
        loop {
            let now = record.next();
            let Some(pick) = self.pick(&balancer, now) else {
                return Err(self.failure.take().unwrap_or(Failure::NoEndpoint));
            };
            let address = pick.addr;
            self.pick = Some(pick);
            record.begin(address, now);
            let limit = self.limit(&balancer, record);
            match self.engine.pool.get(self.origin(address), self.care(), limit, now).await {
                Ok(upstream) => {
                    record.connected(upstream.is_reused());
                    if !upstream.is_reused() {
                        balancer.succeeded(address);
                    }
                    return Ok(upstream);
                }
                // Connections that wait for nothing are worth less than this one; the endpoint is to blame for nothing.
                Err(ConnectError::Exhausted(error)) if !cleared => {
                    self.engine.observer.lacks("connect", &error);
                    self.engine.pool.clear();
                    cleared = true;
                    record.tries -= 1;
                }
                Err(ConnectError::Exhausted(error)) => {
                    self.engine.observer.lacks("connect", &error);
                    return Err(Failure::Connect(ConnectError::Exhausted(error)));
                }
                Err(error) => {
                    if matches!(error, ConnectError::Untrusted(_)) {
                        self.tried.push(address);
                    } else {
                        self.failed(&balancer, address);
                    }
                    self.failure = Some(Failure::Connect(error));
                    if record.tries >= self.forward.route.policy.tries {
                        return Err(self.failure.take().unwrap_or(Failure::NoEndpoint));
                    }
                }
            }
        }
    }

    /// Whether a request may be sent again that goes out on this connection, should it turn out to be dead.
    pub(super) fn may_repeat(upstream: &Upstream) -> bool {
        upstream.is_reused() || matches!(upstream, Upstream::Http2(_))
    }

    /// Whether another attempt is to follow one that failed before any response.
    ///
    /// A kept connection that the endpoint closed in the meantime says nothing about the endpoint. What was sent is
    /// sent again only where the method is idempotent (RFC 9110 section 9.2.2), or where nobody looked at it.
    pub(super) fn again(
        &mut self,
        upstream: &Upstream,
        error: &UpstreamError,
        upload: &Upload,
        record: &Record<'_>,
    ) -> bool {
        let stale = upstream.is_reused()
            && self.request.method.is_idempotent()
            && !matches!(error, UpstreamError::Malformed(_) | UpstreamError::Violation(_));
        let fails = |retry: &Retry| retry.on_error && !matches!(error, UpstreamError::Violation(_));
        (stale || error.is_unprocessed() || self.takes_another(fails, record))
            && upload.is_repeatable()
            && record.tries < self.forward.route.policy.tries
    }

    /// Whether another attempt is to follow one that took too long.
    pub(super) fn after_timeout(&self, upload: &Upload, record: &Record<'_>) -> bool {
        self.takes_another(|retry| retry.on_timeout, record)
            && upload.is_repeatable()
            && record.tries < self.forward.route.policy.tries
    }

    /// Whether the request may be sent again although an endpoint may have acted on it.
    fn takes_another(&self, wanted: impl Fn(&Retry) -> bool, record: &Record<'_>) -> bool {
        let route = &self.forward.route;
        let usual = Retry::default();
        let retry = route.policy.retry.as_deref().unwrap_or(&usual);
        route.policy.manner.repeats
            && wanted(retry)
            && retry.allows(&self.request.method)
            && retry.within.is_none_or(|within| record.elapsed() < within)
    }

    /// Whether another attempt is to follow an answer with this status.
    pub(super) fn repeats(&self, status: http::StatusCode, upload: &Upload, record: &Record<'_>) -> bool {
        let policy = &self.forward.route.policy;
        let Some(retry) = &policy.retry else { return false };
        retry.repeats(&self.request.method, status)
            && upload.is_repeatable()
            && record.tries < policy.tries
            && retry.within.is_none_or(|within| record.elapsed() < within)
    }

    fn care(&self) -> Care {
        let simple = self.request.method.is_idempotent() && self.request.body == Length::None;
        if simple { Care::Repeatable } else { Care::Once }
    }

    /// The endpoints of the backend.
    async fn balancer(&self) -> Result<Arc<Balancer>, Failure> {
        let forgives = self.forward.route.policy.manner.forgives_names;
        let status = |error: &ResolveError| if forgives { 503 } else { error.status() };
        let found = self.engine.balancers.of(&self.forward.backend, &self.forward.state.target).await;
        found.map_err(|error| Failure::Unresolved(status(&error), error.to_string()))
    }

    fn pick(&self, balancer: &Balancer, now: Instant) -> Option<Pick> {
        let (balance, key, subset, pinned) = self.forward.choice();
        let choice = Choice {
            balance,
            affinity: self.forward.state.affinity,
            client: self.forward.client,
            key,
            subset,
            pinned,
            excluded: &self.tried,
        };
        balancer.pick(&choice, now.into_std())
    }

    /// How TLS is to be spoken, where it is and something is said of it.
    fn tls(&self) -> Option<Arc<UpstreamTls>> {
        self.forward.upstream_tls.clone().filter(|_| self.forward.state.protocol == Protocol::Https)
    }

    fn origin(&self, address: SocketAddr) -> Origin {
        let protocol = self.forward.state.protocol;
        let tls = self.tls();
        let host = || {
            let field = || self.request.fields.get(http::header::HOST)?.to_str().ok();
            self.request.authority.as_deref().or_else(field).unwrap_or_default()
        };
        // Few backends are asked by TLS.
        let host = if protocol == Protocol::Https { host() } else { "" };
        let server_name = server_name(protocol, host, address, tls.as_deref());
        let protocol = match protocol {
            Protocol::Http => Protocols::Http1,
            Protocol::H2c => Protocols::Http2,
            // An upgrade needs HTTP/1.1.
            Protocol::Https if self.forward.upgrade => Protocols::Http1,
            Protocol::Https => Protocols::Either,
        };
        Origin { address, server_name, tls, protocol }
    }

    /// A dead endpoint must not cost each request the whole limit where there is another one.
    fn limit(&self, balancer: &Balancer, record: &Record<'_>) -> Duration {
        let policy = &self.forward.route.policy;
        let another = record.tries < policy.tries && self.tried.len() + 1 < balancer.len();
        if another { policy.connect_timeout.min(HURRIED_CONNECT) } else { policy.connect_timeout }
    }

    /// Tells the balancer that an endpoint could not be reached.
    fn failed(&mut self, balancer: &Balancer, address: SocketAddr) {
        self.tried.push(address);
        self.engine.failed(&self.forward.backend.key, balancer, address);
    }
}
