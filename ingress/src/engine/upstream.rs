//! The endpoint's side of one exchange, whichever version of HTTP it speaks.

mod connect;
mod http1;
mod http2;
mod pool;
mod stream;

use std::io;
use std::net::SocketAddr;
use std::task::{Context, Poll};

use http::{Method, StatusCode};
use landfall_ingress_model::fields::{Fields, HeaderEdits};
use thiserror::Error;

use super::body::{Length, Part};
use super::framing::{Body, Malformed, Violation};

pub(super) use connect::{ConnectError, server_name};
pub(super) use http1::Http1Upstream;
pub(super) use http2::Http2Upstream;
pub(super) use pool::{Care, Idle, Origin, Pool, PoolLimits, Protocols};

/// Interim responses before the final one.
const MAX_INTERIM: u32 = 32;

/// Why an endpoint gave no whole answer.
#[derive(Debug, Error)]
pub(super) enum UpstreamError {
    /// The connection broke.
    #[error("the connection to the endpoint broke: {0}")]
    Broken(#[from] io::Error),
    /// The connection was closed before a response.
    #[error("the endpoint closed the connection before its response")]
    NoResponse,
    /// The connection was closed within the response.
    #[error("the endpoint closed the connection within its response")]
    CutShort,
    /// The response is not HTTP.
    #[error("{0}")]
    Malformed(#[from] Malformed),
    /// The framing of the body is malformed.
    #[error("the body of the response is malformed: {0}")]
    Violation(#[from] Violation),
    /// The endpoint says that it has not looked at the request (RFC 9113 section 8.7).
    #[error("the endpoint refused the stream before it looked at it")]
    Refused,
    /// The stream or its connection broke.
    #[error("the HTTP/2 stream of the endpoint broke: {0}")]
    Http2(h2::Error),
}

impl UpstreamError {
    /// Whether the endpoint is known not to have looked at the request, so that any request may be sent again.
    pub(super) fn is_unprocessed(&self) -> bool {
        matches!(self, Self::Refused)
    }
}

impl From<h2::Error> for UpstreamError {
    fn from(error: h2::Error) -> Self {
        // A GOAWAY is an error only of streams that the endpoint says it has not begun (RFC 9113 section 6.8).
        let unseen = error.reason() == Some(h2::Reason::REFUSED_STREAM) || error.is_go_away();
        if unseen && error.is_remote() { Self::Refused } else { Self::Http2(error) }
    }
}

/// A request as an endpoint is to get it.
pub(super) struct Outbound<'a> {
    pub(super) method: &'a Method,
    /// Path and query.
    pub(super) target: &'a str,
    /// Whether the target goes out as it is, however few URIs look like that.
    pub(super) verbatim: bool,
    pub(super) fields: &'a Fields,
    pub(super) edits: &'a HeaderEdits,
    pub(super) body: Length,
}

/// What an endpoint says before the body.
pub(super) enum Answer {
    /// An interim response.
    Interim(StatusCode, Fields),
    /// The final one, or the switch of protocols.
    Head(AnswerHead),
}

/// The head of an endpoint's response.
pub(super) struct AnswerHead {
    pub(super) status: StatusCode,
    pub(super) fields: Fields,
    /// The declared length, also of a response that has no body.
    pub(super) declared: Option<u64>,
    pub(super) body: Length,
}

/// A connection, or a stream of one, with one request on it.
pub(super) enum Upstream {
    /// HTTP/1.1.
    Http1(Box<Http1Upstream>),
    /// HTTP/2.
    Http2(Box<Http2Upstream>),
}

impl Upstream {
    /// Where it leads to.
    pub(super) fn address(&self) -> SocketAddr {
        match self {
            Self::Http1(upstream) => upstream.origin.address,
            Self::Http2(upstream) => upstream.origin.address,
        }
    }

    /// Whether the connection was there before the request.
    pub(super) fn is_reused(&self) -> bool {
        match self {
            Self::Http1(upstream) => upstream.reused,
            Self::Http2(upstream) => upstream.reused,
        }
    }

    /// Writes the head of the request, to be sent with what follows or by [`Self::poll_flush`].
    pub(super) fn request(&mut self, request: &Outbound<'_>) -> Result<(), UpstreamError> {
        match self {
            Self::Http1(upstream) => {
                upstream.request(request);
                Ok(())
            }
            Self::Http2(upstream) => upstream.request(request),
        }
    }

    /// Ready when the endpoint takes more of the request.
    pub(super) fn poll_room(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), UpstreamError>> {
        match self {
            Self::Http1(upstream) => upstream.wire.poll_room(cx).map_err(UpstreamError::Broken),
            Self::Http2(upstream) => upstream.poll_flush(cx),
        }
    }

    /// Writes a part of the request's body, for which there must be room.
    pub(super) fn write(&mut self, part: Part) -> Result<(), UpstreamError> {
        match self {
            Self::Http1(upstream) => upstream.write(part),
            Self::Http2(upstream) => upstream.write(part),
        }
    }

    /// Ready when everything written is sent.
    pub(super) fn poll_flush(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), UpstreamError>> {
        match self {
            Self::Http1(upstream) => upstream.wire.poll_flush(cx).map_err(UpstreamError::Broken),
            Self::Http2(upstream) => upstream.poll_flush(cx),
        }
    }

    /// Bytes of bodies that are held here for it.
    pub(super) fn held(&mut self) -> usize {
        match self {
            Self::Http1(upstream) => upstream.wire.held(),
            Self::Http2(upstream) => upstream.held(),
        }
    }

    /// Says how much of the response's body is to be read at once.
    pub(super) fn set_appetite(&mut self, bytes: usize) {
        if let Self::Http1(upstream) = self {
            upstream.wire.set_appetite(bytes);
        }
    }

    /// Holds no more space than is needed while somebody has to wait.
    pub(super) fn compact(&mut self) {
        if let Self::Http1(upstream) = self {
            upstream.wire.compact();
            upstream.wire.relax();
        }
    }

    /// The next response, interim ones included.
    pub(super) fn poll_answer(&mut self, cx: &mut Context<'_>) -> Poll<Result<Answer, UpstreamError>> {
        match self {
            Self::Http1(upstream) => upstream.poll_answer(cx),
            Self::Http2(upstream) => upstream.poll_answer(cx),
        }
    }

    /// The next part of the response's body.
    pub(super) fn poll_part(&mut self, cx: &mut Context<'_>) -> Poll<Result<Part, UpstreamError>> {
        match self {
            Self::Http1(upstream) => upstream.poll_part(cx),
            Self::Http2(upstream) => upstream.poll_part(cx),
        }
    }
}

/// The length of a body as its framing says.
fn length_of(body: &Body) -> Length {
    match body {
        Body::Length(length) => Length::Known(*length),
        Body::Chunked(_) | Body::UntilEnd => Length::Unknown,
    }
}

/// What an endpoint may get as it is: visible ASCII, but for what has no place in a URI and is escaped by every client.
const fn is_plain(byte: u8) -> bool {
    matches!(byte, b'!'..=b'~') && !matches!(byte, b'"' | b'<' | b'>' | b'#')
}

/// Escapes what is not plain.
fn escape(target: &str) -> String {
    use std::fmt::Write;
    let mut escaped = String::with_capacity(target.len() + 16);
    for byte in target.bytes() {
        if is_plain(byte) {
            escaped.push(char::from(byte));
        } else {
            let _ = write!(escaped, "%{byte:02X}");
        }
    }
    escaped
}
