//! Pingora's phases, filled with the pipeline's decisions.

use std::io;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::{Duration, Instant};

use async_trait::async_trait;
use bytes::Bytes;
use http::{HeaderValue, StatusCode, Version, header};
use landfall_ingress_model::backend::Protocol;
use landfall_ingress_model::fields::Fields;
use landfall_ingress_model::pipeline::{
    Decision, Forward, Trailers, Upgraded, error_page, has_token, response_body, response_edits,
};
use pingora_core::protocols::Digest;
use pingora_core::upstreams::peer::HttpPeer;
use pingora_core::{Error, ErrorSource, ErrorType, Result};
use pingora_http::{RequestHeader, ResponseHeader};
use pingora_proxy::{FailToProxy, ProxyHttp, ProxyWarnLogContext, Session};

use super::Hooks;
use super::context::{Attempt, Context};
use super::request::exchange_stream;
use crate::balance::{Balancer, Choice, Pick};
use crate::engine::pingora::outcome::{CLIENT_CLOSED_REQUEST, EXHAUSTED, Failure, classify};
use crate::engine::pingora::peer;
use crate::engine::pingora::session::ExchangeStream;
use crate::engine::websocket;
use crate::lack::is_lack;

impl Hooks {
    /// The next endpoint for a request.
    async fn endpoint(&self, forward: &Forward, tried: &[SocketAddr]) -> Result<(Arc<Balancer>, Pick)> {
        let found = self.balancers.of(&forward.backend, &forward.state.target).await;
        let balancer = found.map_err(|error| {
            let text = error.to_string();
            let status = ErrorType::HTTPStatus(error.status());
            Error::create(status, ErrorSource::Internal, Some(text.into()), None)
        })?;
        let (balance, key, subset, pinned) = forward.choice();
        let (affinity, client) = (forward.state.affinity, forward.client);
        let choice = Choice { balance, affinity, client, key, subset, pinned, excluded: tried };
        match balancer.pick(&choice, Instant::now()) {
            Some(pick) => Ok((balancer, pick)),
            None => Error::e_explain(ErrorType::HTTPStatus(503), "no endpoint is left to try"),
        }
    }

    /// Answers a request that can't be served in pingora's way.
    async fn refuse(&self, session: &mut Session, context: &Context, reason: &str) -> Result<()> {
        let headers = Fields::from(&session.req_header().headers);
        let page = error_page(StatusCode::SERVICE_UNAVAILABLE, reason, &headers, &context.request_id());
        self.answer(session, page).await
    }

    /// Tells the balancer that an endpoint could not be reached.
    fn failed(&self, context: &mut Context) {
        let (Some(attempt), Some(forward)) = (&context.attempt, &context.forward) else { return };
        context.tried.push(attempt.address);
        let now = Instant::now();
        // Requests that were under way together fail together, and are told of once.
        let known = attempt.balancer.is_ejected(attempt.address, now);
        attempt.balancer.failed(attempt.address, now);
        if !known {
            self.observer.ejected(&forward.backend.key, attempt.address);
        }
    }
}

/// Mends what pingora makes of the client's connection in two cases.
fn keep_alive(session: &mut Session, response: &mut ResponseHeader, context: &mut Context) {
    if response.status.is_informational() {
        context.informed = true;
    } else if session.req_header().version == Version::HTTP_10 {
        // RFC 9112 section 6.1: HTTP/1.0 knows no chunks, so the end of the connection ends the body.
        if response.remove_header(&header::TRANSFER_ENCODING).is_some() {
            session.set_keepalive(None);
        }
    } else if context.informed
        && session.get_keepalive().is_none()
        && !has_token(&Fields::from(&session.req_header().headers), header::CONNECTION, "close")
    {
        // An interim response before the end of the body is taken for the final one, which would have to close.
        session.set_keepalive(Some(0));
    }
}

/// Applies the pipeline's edits to a request, keeping the spelling of untouched names.
fn edit_request(request: &mut RequestHeader, forward: &Forward) -> Result<()> {
    for name in forward.edits.removed() {
        request.remove_header(name);
    }
    for (name, value) in &forward.edits.set {
        request.insert_header(name.clone(), value.clone())?;
    }
    for (name, value) in &forward.edits.add {
        request.append_header(name.clone(), value.clone())?;
    }
    Ok(())
}

#[async_trait]
impl ProxyHttp for Hooks {
    type CTX = Context;

    fn new_ctx(&self) -> Context {
        Context::new()
    }

    /// Pingora would add a compression module that is never used.
    fn init_downstream_modules(&self, _modules: &mut pingora_core::modules::http::HttpModules) {}

    async fn request_filter(&self, session: &mut Session, context: &mut Context) -> Result<bool> {
        session.set_write_timeout(Some(self.limits.client_timeout));
        session.set_read_timeout(Some(self.limits.client_timeout));
        if session.req_header().version == Version::HTTP_10 {
            // RFC 9110 section 15.2: HTTP/1.0 has no interim responses.
            session.set_ignore_info_resp(true);
        }
        match self.look(session, context) {
            Some(Decision::Forward(forward))
                if forward.upstream_tls.is_some() && forward.state.protocol == Protocol::Https =>
            {
                self.refuse(session, context, "TLS to this service needs --engine landfall").await?;
                Ok(true)
            }
            Some(Decision::Forward(forward)) => {
                if forward.upgrade
                    && let Some(stream) = exchange_stream(session)
                {
                    let policy = &forward.route.policy;
                    stream.limit_idle(policy.read_timeout, policy.upgrade_idle);
                }
                context.forward = Some(forward);
                Ok(false)
            }
            // Pingora's way is for comparison: it asks nobody and verifies nothing.
            Some(Decision::Ask(_)) => {
                let reason = "authentication needs --engine landfall";
                self.refuse(session, context, reason).await?;
                Ok(true)
            }
            Some(Decision::Answer(answer, _)) => {
                self.answer(session, answer).await?;
                Ok(true)
            }
            None => Error::e_explain(ErrorType::InternalError, "the connection of a request is not known"),
        }
    }

    async fn upstream_peer(&self, _session: &mut Session, context: &mut Context) -> Result<Box<HttpPeer>> {
        let Some(forward) = &context.forward else {
            return Error::e_explain(ErrorType::InternalError, "a request without a decision is to be forwarded");
        };
        let (balancer, pick) = match self.endpoint(forward, &context.tried).await {
            Ok(found) => found,
            Err(error) => return Err(context.last_failure(error)),
        };
        context.tries += 1;
        // A further attempt sends the body again from its first byte.
        context.received = 0;
        let (address, endpoints) = (pick.addr, balancer.len());
        context.attempt = Some(Attempt::new(balancer, pick));
        let host = context.request.as_ref().map_or("", |request| &request.host);
        let mut peer = peer::peer(address, forward, host, &self.limits, &self.anchors);
        if context.tries < forward.route.policy.tries && context.tried.len() + 1 < endpoints {
            peer::hurry(&mut peer);
        }
        Ok(Box::new(peer))
    }

    async fn connected_to_upstream(
        &self,
        _session: &mut Session,
        reused: bool,
        _peer: &HttpPeer,
        _fd: std::os::unix::io::RawFd,
        _digest: Option<&Digest>,
        context: &mut Context,
    ) -> Result<()> {
        if let Some(attempt) = &mut context.attempt {
            attempt.reused = reused;
            attempt.connect = Some(if reused { Duration::ZERO } else { attempt.begun.elapsed() });
            if !reused {
                attempt.balancer.succeeded(attempt.address);
            }
        }
        Ok(())
    }

    async fn upstream_request_filter(
        &self,
        _session: &mut Session,
        request: &mut RequestHeader,
        context: &mut Context,
    ) -> Result<()> {
        let Some(forward) = &context.forward else { return Ok(()) };
        peer::set_target(request, forward)?;
        edit_request(request, forward)
    }

    async fn request_body_filter(
        &self,
        session: &mut Session,
        body: &mut Option<Bytes>,
        _end_of_stream: bool,
        context: &mut Context,
    ) -> Result<()> {
        // From HTTP/2 an empty piece would be sent as a chunk of size 0: the end of the body, in front of its end. From
        // HTTP/1.1 it only says that there is more to come.
        if exchange_stream(session).is_none() && body.as_ref().is_some_and(Bytes::is_empty) {
            *body = None;
        }
        context.received += body.as_ref().map_or(0, |bytes| bytes.len() as u64);
        let limit = context.forward.as_ref().and_then(|forward| forward.route.policy.max_body);
        if limit.is_some_and(|limit| context.received > limit) {
            return Error::e_explain(ErrorType::HTTPStatus(413), "the request body is larger than allowed");
        }
        Ok(())
    }

    async fn response_filter(
        &self,
        session: &mut Session,
        response: &mut ResponseHeader,
        context: &mut Context,
    ) -> Result<()> {
        if let Some(attempt) = &mut context.attempt {
            attempt.first_byte = attempt.first_byte.or_else(|| Some(attempt.begun.elapsed()));
        }
        let upgrade = context.forward.as_ref().is_some_and(|forward| forward.upgrade);
        let switching = response.status == StatusCode::SWITCHING_PROTOCOLS;
        let upgraded = if switching && upgrade { Upgraded::Yes } else { Upgraded::No };
        let fields = Fields::from(&response.headers);
        if let Err(error) = response_body(&session.req_header().method, response.status, &fields) {
            return Err(Error::explain(ErrorType::InvalidHTTPHeader, error.to_string()).into_up());
        }
        let mut edits = response_edits(response.status, &fields, upgraded, Trailers::Pass);
        if let Some(forward) = &context.forward {
            forward.respond(response.status, &fields, &mut edits);
        }
        for name in edits.removed() {
            response.remove_header(name);
        }
        for (name, value) in edits.set {
            response.insert_header(name, value)?;
        }
        for (name, value) in edits.add {
            response.append_header(name, value)?;
        }
        if upgraded == Upgraded::Yes {
            session.set_read_timeout(None);
            if let Some(stream) = exchange_stream(session) {
                stream.upgrade();
                if websocket::is_websocket(response.headers.get(header::UPGRADE).map(HeaderValue::as_bytes)) {
                    stream.send_away(websocket::Away::new(self.drain.clone()));
                }
            }
        }
        keep_alive(session, response, context);
        self.close_if_leaving(session);
        Ok(())
    }

    fn fail_to_connect(
        &self,
        _session: &mut Session,
        _peer: &HttpPeer,
        context: &mut Context,
        mut error: Box<Error>,
    ) -> Box<Error> {
        if let Some(lack) = error.root_cause().downcast_ref::<io::Error>().filter(|cause| is_lack(cause)) {
            self.observer.lacks("connect", lack);
            return Error::create(EXHAUSTED, ErrorSource::Internal, None, Some(error));
        }
        self.failed(context);
        context.failure = Some((error.etype().clone(), error.to_string()));
        // Nothing was sent, so any request may go to another endpoint.
        let tries = context.forward.as_ref().map_or(1, |forward| forward.route.policy.tries);
        let another = context.tries < tries;
        error.set_retry(another);
        error
    }

    fn error_while_proxy(
        &self,
        _peer: &HttpPeer,
        session: &mut Session,
        mut error: Box<Error>,
        context: &mut Context,
        client_reused: bool,
    ) -> Box<Error> {
        let tries = context.forward.as_ref().map_or(1, |forward| forward.route.policy.tries);
        let repeatable = session.req_header().method.is_idempotent() && !session.as_ref().retry_buffer_truncated();
        let begun = session.response_written().is_some_and(|response| !response.status.is_informational());
        if repeatable && !begun && context.tries < tries {
            // A kept connection that the endpoint closed in the meantime says nothing about the endpoint.
            error.retry.decide_reuse(client_reused);
        } else {
            error.set_retry(false);
        }
        error
    }

    async fn fail_to_proxy(&self, session: &mut Session, error: &Error, context: &mut Context) -> FailToProxy {
        let stream = exchange_stream(session);
        let violation = stream.and_then(ExchangeStream::violation).copied();
        let idled_out = stream.is_some_and(ExchangeStream::idled_out);
        let failure = match violation {
            Some(violation) => Failure::Page(violation.status, violation.reason),
            None if idled_out => Failure::Page(StatusCode::GATEWAY_TIMEOUT, "the service did not answer in time"),
            None => classify(error),
        };
        context.error = Some(violation.map_or_else(|| error.to_string(), |violation| violation.reason.to_owned()));
        let begun = session.response_written().is_some_and(|response| !response.status.is_informational());
        let code = match failure {
            // What has begun can only be cut off.
            _ if begun => 0,
            Failure::ClientGone => {
                context.unsent_status = Some(CLIENT_CLOSED_REQUEST);
                0
            }
            Failure::Page(status, reason) => {
                context.unsent_status = Some(status.as_u16());
                let fields = Fields::from(&session.req_header().headers);
                let page = error_page(status, reason, &fields, &context.request_id());
                // A page that can't be sent has nobody to read it.
                let sent = self.answer(session, page).await.is_ok();
                if sent
                    && session.get_keepalive().is_some()
                    && let Some(stream) = exchange_stream(session)
                {
                    stream.keep();
                }
                status.as_u16()
            }
        };
        FailToProxy { error_code: code, can_reuse_downstream: false }
    }

    fn suppress_error_log(&self, _session: &Session, _context: &Context, _error: &Error) -> bool {
        true
    }

    fn suppress_proxy_warn_log(
        &self,
        _session: &Session,
        _context: &Context,
        _error: &Error,
        _why: ProxyWarnLogContext,
    ) -> bool {
        true
    }

    async fn logging(&self, session: &mut Session, error: Option<&Error>, context: &mut Context) {
        if let (None, Some(error)) = (&context.error, error) {
            context.error = Some(error.to_string());
        }
        let response = session.response_written().filter(|response| {
            !response.status.is_informational() || response.status == StatusCode::SWITCHING_PROTOCOLS
        });
        let status = response.map(|response| response.status.as_u16());
        if let Some(exchange) = context.record(status, session.body_bytes_sent() as u64) {
            self.observer.exchange(&exchange);
        }
    }
}
