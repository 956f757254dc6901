//! An endpoint that speaks HTTP/1.1.

use std::task::{Context, Poll, ready};

use bytes::BytesMut;
use http::header::TRAILER;
use http::{Method, StatusCode, Version};
use tokio::time::Instant;

use super::pool::{Idle, Origin};
use super::stream::UpstreamStream;
use super::{Answer, AnswerHead, MAX_INTERIM, Outbound, UpstreamError, length_of};
use crate::engine::body::{BodyWriter, Length, Part, WrongLength};
use crate::engine::client::content_length;
use crate::engine::framing::{Body, Malformed, ResponseScanner};
use crate::engine::wire::Wire;

/// A connection with one request on it.
pub(in crate::engine) struct Http1Upstream {
    pub(super) wire: Wire<UpstreamStream>,
    pub(super) origin: Origin,
    pub(super) reused: bool,
    /// When it was made, and the requests it has had.
    pub(super) born: Instant,
    pub(super) requests: u32,
    method: Method,
    writer: BodyWriter,
    /// The request was written to its end.
    written: bool,
    scanner: ResponseScanner,
    interim: u32,
    /// How the response is framed, once its head has come.
    body: Option<Body>,
    keeps_alive: bool,
    owner: Owner,
}

/// Whose connection it is.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum Owner {
    /// Whoever comes next may use it.
    Anybody,
    /// It is authenticated as one client, and of no use to others.
    Client,
}

impl Http1Upstream {
    pub(super) fn new(wire: Wire<UpstreamStream>, origin: Origin) -> Self {
        Self {
            wire,
            origin,
            reused: false,
            born: Instant::now(),
            requests: 1,
            method: Method::GET,
            writer: BodyWriter::Length(0),
            written: false,
            scanner: ResponseScanner::default(),
            interim: 0,
            body: None,
            keeps_alive: false,
            owner: Owner::Anybody,
        }
    }

    /// Makes a connection that stands behind a response ready for its next request.
    pub(super) fn renew(&mut self) {
        self.reused = true;
        self.requests = self.requests.saturating_add(1);
        self.written = false;
        self.scanner = ResponseScanner::default();
        self.interim = 0;
        self.body = None;
        self.keeps_alive = false;
        self.owner = Owner::Anybody;
    }

    /// Makes it the connection of one client alone.
    pub(in crate::engine) fn own(&mut self) {
        self.owner = Owner::Client;
    }

    /// Whether it belongs to one client.
    pub(in crate::engine) fn is_own(&self) -> bool {
        self.owner == Owner::Client
    }

    pub(super) fn request(&mut self, request: &Outbound<'_>) {
        self.method = request.method.clone();
        let announces_trailers = request.fields.contains(TRAILER);
        self.writer = match request.body {
            Length::None => BodyWriter::Length(0),
            // Only chunks can have trailers behind them.
            Length::Known(_) if announces_trailers => BodyWriter::Chunked,
            Length::Known(length) => BodyWriter::Length(length),
            Length::Unknown => BodyWriter::Chunked,
        };
        self.written = request.body == Length::None;
        let out = self.wire.output();
        out.reserve(1024);
        out.extend_from_slice(request.method.as_str().as_bytes());
        out.extend_from_slice(b" ");
        write_target(request.target, request.verbatim, out);
        out.extend_from_slice(b" HTTP/1.1\r\n");
        request.fields.write(request.edits, out);
        match self.writer {
            BodyWriter::Length(length) if request.body != Length::None => content_length(length, out),
            BodyWriter::Chunked => out.extend_from_slice(b"Transfer-Encoding: chunked\r\n"),
            BodyWriter::Length(_) | BodyWriter::UntilEnd => {}
        }
        out.extend_from_slice(b"\r\n");
    }

    pub(super) fn write(&mut self, part: Part) -> Result<(), UpstreamError> {
        self.written = part.is_final();
        self.writer
            .write(part, &mut self.wire)
            .map_err(|WrongLength| std::io::Error::other("the request is not as long as it said").into())
    }

    pub(super) fn poll_answer(&mut self, cx: &mut Context<'_>) -> Poll<Result<Answer, UpstreamError>> {
        loop {
            if let Some(head) = self.scanner.scan(&mut self.wire.input, &self.method)? {
                if head.status.is_informational() && head.status != StatusCode::SWITCHING_PROTOCOLS {
                    self.interim += 1;
                    if self.interim > MAX_INTERIM {
                        return Poll::Ready(Err(Malformed("the endpoint sends too many interim responses").into()));
                    }
                    return Poll::Ready(Ok(Answer::Interim(head.status, head.fields)));
                }
                self.keeps_alive = head.keeps_alive() && head.version == Version::HTTP_11;
                let bodiless = head.body.is_done() && head.length != Some(0);
                let body = if bodiless { Length::None } else { length_of(&head.body) };
                self.body = Some(head.body);
                let (status, fields, declared) = (head.status, head.fields, head.length);
                return Poll::Ready(Ok(Answer::Head(AnswerHead { status, fields, declared, body })));
            }
            let Poll::Ready(read) = self.poll_fill(cx) else {
                // While the endpoint thinks, nothing is held for it.
                self.wire.relax();
                return Poll::Pending;
            };
            if read? == 0 {
                let nothing = self.wire.input.is_empty() && self.interim == 0;
                return Poll::Ready(Err(if nothing { UpstreamError::NoResponse } else { UpstreamError::CutShort }));
            }
        }
    }

    fn poll_fill(&mut self, cx: &mut Context<'_>) -> Poll<std::io::Result<usize>> {
        if self.wire.ended { Poll::Ready(Ok(0)) } else { self.wire.poll_fill(cx) }
    }

    pub(super) fn poll_part(&mut self, cx: &mut Context<'_>) -> Poll<Result<Part, UpstreamError>> {
        let Some(body) = &mut self.body else { return Poll::Ready(Ok(Part::End)) };
        loop {
            if body.is_done() {
                return Poll::Ready(Ok(body.take_trailers().map_or(Part::End, Part::Trailers)));
            }
            if let Some(data) = body.decode(&mut self.wire.input)? {
                let last = body.is_done() && !body.has_trailers();
                return Poll::Ready(Ok(if last { Part::Last(data) } else { Part::Data(data) }));
            }
            if body.is_done() {
                continue;
            }
            if self.wire.ended || ready!(self.wire.poll_fill_body(cx))? == 0 {
                let whole = *body == Body::UntilEnd;
                return Poll::Ready(if whole { Ok(Part::End) } else { Err(UpstreamError::CutShort) });
            }
        }
    }

    /// The connection for its next request, if it stands exactly behind this one's response.
    pub(in crate::engine) fn into_idle(mut self: Box<Self>, now: Instant) -> Option<Idle> {
        let boundary = self.keeps_alive
            && self.written
            && self.body.as_ref().is_some_and(Body::is_done)
            && self.wire.input.is_empty()
            && !self.wire.ended
            && !self.wire.has_output();
        if !boundary {
            return None;
        }
        self.wire.shrink();
        Some(Idle::new(self, now))
    }

    /// The bare connection, after a switch of protocols.
    pub(in crate::engine) fn into_wire(self: Box<Self>) -> Wire<UpstreamStream> {
        self.wire
    }
}

/// A target may have characters that no URI has; an endpoint gets them escaped, as RFC 3986 wants them, unless it is to
/// get what the client sent. Then only what would end the target is escaped.
fn write_target(target: &str, verbatim: bool, out: &mut BytesMut) {
    let fits = |byte: u8| super::is_plain(byte) || (verbatim && byte > b' ' && byte != 0x7F);
    if target.bytes().all(fits) {
        out.extend_from_slice(target.as_bytes());
        return;
    }
    out.extend_from_slice(super::escape(target).as_bytes());
}
