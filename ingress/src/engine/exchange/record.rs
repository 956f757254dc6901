//! What is kept of one exchange for metrics and the access log.

use std::borrow::Cow;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::{SystemTime, UNIX_EPOCH};

use http::{HeaderName, HeaderValue, header};
use landfall_ingress_model::backend::Backend;
use landfall_ingress_model::pipeline::{Forward, Live};
use landfall_ingress_model::policy::{SpanContext, TRACESTATE};
use landfall_ingress_model::table::Route;
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
    canary: Option<Arc<Backend>>,
    client: Option<std::net::IpAddr>,
    upstream: Option<Upstream>,
    attempt: Instant,
    /// When the head of the response came.
    heard: Instant,
    ended: Option<Instant>,
    pub(super) tries: u32,
    pub(super) received: u64,
    /// The status of the answer.
    pub(super) status: u16,
    pub(super) error: Option<String>,
    /// Its span, where it is traced.
    span: Option<Box<SpanContext>>,
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
            canary: None,
            client: None,
            upstream: None,
            attempt: begun,
            heard: begun,
            ended: None,
            tries: 0,
            received: 0,
            status: 0,
            error: None,
            span: None,
        }
    }

    /// What the decision goes by besides the request.
    pub(super) fn live<'l>(&self, engine: &'l Shared) -> Live<'l> {
        let now = self.start.duration_since(UNIX_EPOCH).unwrap_or_default().as_secs();
        Live {
            dice: rand::random(),
            now,
            instant: self.begun.into_std(),
            limiter: &engine.clients,
            challenges: &engine.challenges,
            ejections: &*engine.balancers,
            trace: None,
        }
    }

    /// The request goes to a backend.
    pub(super) fn take(&mut self, forward: &Forward) {
        self.route = Some(forward.route.clone());
        self.canary = forward.canary().cloned();
        self.client = Some(forward.client);
    }

    /// Begins the span of the request, if its route asks for one.
    pub(super) fn trace(&mut self) {
        let tracing = self.route.as_ref().and_then(|route| route.policy.tracing.as_ref());
        self.span = tracing.map(|tracing| Box::new(tracing.begin(&self.request.fields, rand::random())));
    }

    /// Begins it, and has the backends hear of it.
    pub(super) fn trace_to(&mut self, forward: &mut Forward) {
        self.trace();
        let Some(span) = &self.span else { return };
        let fields = span.fields();
        for forward in
            std::iter::once(&mut forward.edits).chain(forward.on_error.as_mut().map(|other| &mut other.edits))
        {
            forward.set.extend(fields.iter().cloned());
            if span.state.is_none() {
                forward.remove.push(TRACESTATE);
            }
        }
    }

    /// The moment at which the next attempt begins: the first one does with the request.
    pub(super) fn next(&self) -> Instant {
        if self.tries == 0 { self.begun } else { Instant::now() }
    }

    /// An attempt at an endpoint begins.
    pub(super) fn begin(&mut self, address: SocketAddr, now: Instant) {
        self.tries += 1;
        self.attempt = now;
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
        let now = Instant::now();
        self.heard = now;
        if let Some(upstream) = &mut self.upstream {
            upstream.first_byte = Some(now.saturating_duration_since(self.attempt));
        }
    }

    /// When the head of the response came.
    pub(super) fn heard(&self) -> Instant {
        self.heard
    }

    /// The exchange has come to its end, now.
    pub(super) fn end(&mut self) -> Instant {
        *self.ended.get_or_insert_with(Instant::now)
    }

    /// How long the exchange has taken so far.
    pub(super) fn elapsed(&self) -> std::time::Duration {
        self.begun.elapsed()
    }

    /// When the last attempt began.
    pub(super) fn attempt(&self) -> Instant {
        self.attempt
    }

    /// The exchange came to no good end.
    pub(super) fn fail(&mut self, failure: &Failure) {
        self.error.get_or_insert_with(|| failure.to_string());
    }

    /// Tells the observer.
    pub(super) fn tell(self, engine: &Shared, sent: u64) {
        let Self { request, peer, id, .. } = self;
        let is_sent = self.span.as_ref().is_some_and(|span| span.is_sampled);
        let headers = if engine.observer.reads() || is_sent { Some(&request.fields) } else { None };
        let text = |name: HeaderName| Some(String::from_utf8_lossy(headers?.get(name)?.as_bytes()));
        let host = request.authority.as_deref().map(Cow::Borrowed).or_else(|| text(header::HOST));
        engine.observer.exchange(&Exchange {
            start: self.start,
            duration: self.ended.unwrap_or_else(Instant::now).saturating_duration_since(self.begun),
            request_id: id.to_str().unwrap_or_default().into(),
            client: self.client.unwrap_or_else(|| peer.connection.client.ip().to_canonical()),
            peer: peer.connection.peer,
            method: request.method.as_str().into(),
            scheme: Scheme::of(&peer.connection),
            host: host.unwrap_or_default(),
            target: request.target.as_str().into(),
            version: request.version,
            status: self.status,
            received: self.received,
            sent,
            route: self.route,
            canary: self.canary,
            upstream: self.upstream,
            span: self.span,
            tries: self.tries,
            user_agent: text(header::USER_AGENT),
            referer: text(header::REFERER),
            fields: headers.map(Cow::Borrowed),
            tls: headers.and(peer.connection.tls.as_ref()).map(Cow::Borrowed),
            error: self.error.map(Cow::Owned),
        });
    }
}
