//! Answers of our own: pages, refusals, and what becomes of an exchange that fails.

use std::fmt;
use std::future::poll_fn;
use std::task::Poll;
use std::time::Duration;

use bytes::Bytes;
use http::header::{CONTENT_TYPE, SERVER};
use http::{HeaderMap, HeaderName, HeaderValue, Method, StatusCode};
use landfall_ingress_model::fields::{FieldValue, Fields, HeaderEdits};
use landfall_ingress_model::pipeline::{Answer, Forward, error_page};
use landfall_shared::drain::Phase;
use tokio::time::Instant;

use super::{Failure, Record, Request, Shared};
use crate::engine::body::{Length, Part};
use crate::engine::client::{Client, Reply};
use crate::engine::timer::Timer;

/// What a call's answer says of its server.
const OURS: HeaderValue = HeaderValue::from_static("landfall");
const GRPC: HeaderValue = HeaderValue::from_static("application/grpc");
const GRPC_STATUS: HeaderName = HeaderName::from_static("grpc-status");
const GRPC_MESSAGE: HeaderName = HeaderName::from_static("grpc-message");
/// nginx's word for no answer at all: a snippet wants the connection closed.
const CLOSE_CONNECTION: u16 = 444;
/// nginx's word for a client that left before there was an answer.
const CLIENT_CLOSED_REQUEST: u16 = 499;

/// Writes the head of an answer.
pub(super) fn begin(engine: &Shared, client: &mut Client<'_>, reply: &Reply<'_>) -> Result<(), Failure> {
    if engine.drain.phase() != Phase::Running {
        // HTTP/1 clients are asked to come back on another connection; HTTP/2 connections say so themselves.
        client.close();
    }
    Ok(client.reply(reply)?)
}

/// How long a client may take for the rest of a response that breaks off.
const LAST_WORDS: Duration = Duration::from_secs(1);

/// Sends an answer of our own.
pub(in crate::engine) async fn answer(
    engine: &Shared,
    request: &Request,
    client: &mut Client<'_>,
    page: &Answer,
    timer: &mut Timer,
    record: &mut Record<'_>,
) -> Result<(), Failure> {
    record.status = page.status.as_u16();
    if record.status == CLOSE_CONNECTION {
        client.cut_off();
        return Ok(());
    }
    if client.is_http2() && is_grpc(&request.fields) {
        return answer_grpc(client, page.status, page_reason(page), record.id);
    }
    let bodiless = page.status == StatusCode::NO_CONTENT;
    let body = if bodiless || request.method == Method::HEAD || page.body.is_empty() {
        Length::None
    } else {
        Length::Known(page.body.len() as u64)
    };
    let fields: Fields = page.headers.iter().map(|(name, value)| (name, value)).collect();
    let edits = HeaderEdits::default();
    let declared = (!bodiless).then_some(page.body.len() as u64);
    begin(engine, client, &Reply { status: page.status, fields: &fields, edits: &edits, declared, body })?;
    if body != Length::None {
        client.write(Part::Last(Bytes::copy_from_slice(page.body.as_bytes())))?;
    }
    flush(client, Instant::now() + engine.limits.client_timeout, timer).await
}

/// Sends everything that was written.
async fn flush(client: &mut Client<'_>, deadline: Instant, timer: &mut Timer) -> Result<(), Failure> {
    poll_fn(|cx| match client.poll_flush(cx) {
        Poll::Ready(flushed) => Poll::Ready(flushed.map_err(Failure::from)),
        Poll::Pending => timer
            .poll_until(deadline, cx)
            .map(|()| Err(Failure::ClientStalled("the client took nothing of the response in time"))),
    })
    .await
}

/// The first line of a page says what is wrong.
fn page_reason(page: &Answer) -> &str {
    let line = page.body.lines().next().unwrap_or_default();
    line.split_once(": ").map_or(line, |(_, reason)| reason)
}

/// Answers a call as gRPC's clients understand it: the status stands in the head, which is all there is.
fn answer_grpc(client: &mut Client<'_>, status: StatusCode, reason: &str, id: &HeaderValue) -> Result<(), Failure> {
    let mut map = grpc_status(status, reason);
    map.insert(CONTENT_TYPE, GRPC);
    map.insert(SERVER, OURS);
    map.insert(HeaderName::from_static("x-request-id"), id.clone());
    let (fields, edits) = (Fields::from(&map), HeaderEdits::default());
    let reply = Reply { status: StatusCode::OK, fields: &fields, edits: &edits, declared: None, body: Length::None };
    Ok(client.reply(&reply)?)
}

/// The status of a call whose answer would have been `status` (gRPC's "HTTP to gRPC Status Code Mapping", and for
/// what a proxy alone can say its "Status codes and their use").
fn grpc_status(status: StatusCode, reason: &str) -> HeaderMap {
    let code: u16 = match status.as_u16() {
        400 => 13,
        401 => 16,
        403 => 7,
        404 => 12,
        413 => 8,
        408 | 504 => 4,
        429 | 502 | 503 => 14,
        _ => 2,
    };
    let message: String =
        reason.chars().filter(|character| matches!(character, ' '..='~') && *character != '%').collect();
    let mut map = HeaderMap::with_capacity(5);
    map.insert(GRPC_STATUS, code.into());
    if let Ok(message) = HeaderValue::from_str(&message) {
        map.insert(GRPC_MESSAGE, message);
    }
    map
}

/// Whether a request is a call of gRPC.
pub(super) fn is_grpc(headers: &Fields) -> bool {
    let kind = headers.get(CONTENT_TYPE).as_ref().map(FieldValue::as_bytes).unwrap_or_default();
    kind.starts_with(b"application/grpc") && matches!(kind.get(16), None | Some(b'+' | b';'))
}

/// Answers a request that could not be passed on, or cuts its response off.
pub(super) async fn fail(
    engine: &Shared,
    request: &Request,
    forward: &Forward,
    client: &mut Client<'_>,
    failure: Failure,
    timer: &mut Timer,
    record: &mut Record<'_>,
) -> Result<(), Failure> {
    record.fail(&failure);
    let Some((status, reason)) = failure.page() else {
        if !client.has_answer() {
            record.status = CLIENT_CLOSED_REQUEST;
        }
        client.cut_off();
        return Ok(());
    };
    if !client.has_answer() {
        let mut page = error_page(status, reason, &request.fields, record.id);
        forward.dress(&mut page);
        return answer(engine, request, client, &page, timer, record).await;
    }
    if let (Client::Http2(stream), true) = (&mut *client, is_grpc(&request.fields))
        && stream.end_with(grpc_status(status, reason))
    {
        return Ok(());
    }
    if let Failure::ClientStalled(_) = failure {
        client.reset();
        return Ok(());
    }
    // The client gets what there was; whether it does makes no difference to what is told of it.
    let _ = flush(client, Instant::now() + LAST_WORDS, timer).await;
    client.cut_off();
    Ok(())
}

impl Failure {
    /// The answer; `None` where nobody is left to read one.
    pub(super) fn page(&self) -> Option<(StatusCode, &'static str)> {
        const BAD: &str = "the service could not be reached or gave no valid answer";
        const NO_RULE: &str = "there is nothing here";
        const SLOW: &str = "the service did not answer in time";
        match self {
            Self::ClientGone(_) => None,
            Self::ClientStalled(reason) => Some((StatusCode::REQUEST_TIMEOUT, reason)),
            Self::Violation(violation) => Some((violation.status, violation.reason)),
            Self::TooLarge => Some((StatusCode::PAYLOAD_TOO_LARGE, "the request body is larger than allowed")),
            Self::NoEndpoint => Some((StatusCode::SERVICE_UNAVAILABLE, "no endpoint of the service is ready")),
            Self::Unresolved(status, _) => {
                let status = StatusCode::from_u16(*status).unwrap_or(StatusCode::BAD_GATEWAY);
                Some((status, "the address of the service could not be found"))
            }
            Self::Connect(super::ConnectError::TimedOut) | Self::UpstreamTimedOut => {
                Some((StatusCode::GATEWAY_TIMEOUT, SLOW))
            }
            Self::NoPage => Some((StatusCode::NOT_FOUND, NO_RULE)),
            Self::Connect(super::ConnectError::Exhausted(_)) => {
                Some((StatusCode::SERVICE_UNAVAILABLE, "the proxy has no connection left for this request"))
            }
            Self::Connect(_) | Self::Upstream(_) => Some((StatusCode::BAD_GATEWAY, BAD)),
        }
    }
}

impl fmt::Display for Failure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::ClientGone(reason) | Self::Unresolved(_, reason) => f.write_str(reason),
            Self::ClientStalled(reason) => f.write_str(reason),
            Self::Violation(violation) => violation.fmt(f),
            Self::TooLarge => f.write_str("the request body is larger than allowed"),
            Self::NoEndpoint => f.write_str("no endpoint is left to try"),
            Self::Connect(error) => error.fmt(f),
            Self::Upstream(error) => error.fmt(f),
            Self::UpstreamTimedOut => f.write_str("the endpoint did not answer in time"),
            Self::NoPage => f.write_str("custom-http-errors lists the status, and no service answers in its place"),
        }
    }
}
