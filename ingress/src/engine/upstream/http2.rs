//! An endpoint that speaks HTTP/2: one stream of a connection that many requests share.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering::Relaxed};
use std::task::{Context, Poll, ready};
use std::time::Duration;

use h2::RecvStream;
use h2::client::{ResponseFuture, SendRequest};
use http::header::{CONTENT_LENGTH, HOST};
use http::uri::{PathAndQuery, Scheme};
use http::{Method, Request, StatusCode, Uri};
use landfall_ingress_model::fields::Fields;
use tokio::time::Instant;

use super::pool::Origin;
use super::stream::UpstreamStream;
use super::{Answer, AnswerHead, MAX_INTERIM, Outbound, UpstreamError};
use crate::engine::body::{Length, Part};
use crate::engine::framing::Malformed;
use crate::engine::h2_stream::{Outgoing, poll_incoming};
use crate::engine::load::Piece;

/// Streams on one connection: what most servers allow.
const STREAMS: usize = 100;
/// Windows: they bound what a slow client makes us hold of a response.
const STREAM_WINDOW: u32 = 64 * 1024;
const CONNECTION_WINDOW: u32 = 4 * 1024 * 1024;
/// What waits to be sent on one stream.
const SEND_BUFFER: usize = 64 * 1024;
/// Bytes of the head of a response, counted as RFC 9113 section 6.5.2 does.
const MAX_HEAD: u32 = 256 * 1024;

/// A connection that requests share.
#[derive(Clone)]
pub(super) struct Multiplexed {
    send: SendRequest<Piece>,
    state: Arc<State>,
}

#[derive(Debug)]
struct State {
    open: AtomicBool,
    streams: AtomicUsize,
    begun: Instant,
    /// Milliseconds after `begun` at which the last stream ended.
    used: AtomicUsize,
}

impl State {
    fn millis(&self) -> usize {
        usize::try_from(self.begun.elapsed().as_millis()).unwrap_or(usize::MAX)
    }
}

impl Multiplexed {
    /// Begins HTTP/2 on a new connection.
    pub(super) async fn begin(stream: UpstreamStream) -> Result<Self, h2::Error> {
        let mut builder = h2::client::Builder::new();
        builder
            .initial_window_size(STREAM_WINDOW)
            .initial_connection_window_size(CONNECTION_WINDOW)
            .max_send_buffer_size(SEND_BUFFER)
            .max_header_list_size(MAX_HEAD)
            .enable_push(false);
        let (send, connection) = builder.handshake::<_, Piece>(stream).await?;
        let (open, streams, used) = (AtomicBool::new(true), AtomicUsize::new(0), AtomicUsize::new(0));
        let state = Arc::new(State { open, streams, begun: Instant::now(), used });
        let watched = state.clone();
        tokio::spawn(async move {
            // Each stream hears of the end of its connection by itself.
            let _ = connection.await;
            watched.open.store(false, Relaxed);
        });
        Ok(Self { send, state })
    }

    pub(super) fn is_open(&self) -> bool {
        self.state.open.load(Relaxed)
    }

    pub(super) fn has_room(&self) -> bool {
        let allowed = self.send.current_max_send_streams().min(STREAMS);
        self.is_open() && self.state.streams.load(Relaxed) < allowed
    }

    /// Whether nothing was asked for this long.
    pub(super) fn is_idle_for(&self, limit: Duration) -> bool {
        let since = self.state.millis().saturating_sub(self.state.used.load(Relaxed));
        self.state.streams.load(Relaxed) == 0 && since as u128 >= limit.as_millis()
    }
}

/// A stream with one request on it.
pub(in crate::engine) struct Http2Upstream {
    shared: Multiplexed,
    pub(super) origin: Origin,
    pub(super) reused: bool,
    request: Option<(Request<()>, bool)>,
    outgoing: Option<Outgoing>,
    response: Option<ResponseFuture>,
    body: Option<RecvStream>,
    taken: usize,
    interim: u32,
    method: Method,
}

impl Drop for Http2Upstream {
    fn drop(&mut self) {
        self.shared.state.streams.fetch_sub(1, Relaxed);
        self.shared.state.used.store(self.shared.state.millis(), Relaxed);
    }
}

impl Http2Upstream {
    pub(super) fn new(shared: Multiplexed, origin: Origin, reused: bool) -> Self {
        shared.state.streams.fetch_add(1, Relaxed);
        Self {
            shared,
            origin,
            reused,
            request: None,
            outgoing: None,
            response: None,
            body: None,
            taken: 0,
            interim: 0,
            method: Method::GET,
        }
    }

    pub(super) fn request(&mut self, request: &Outbound<'_>) -> Result<(), UpstreamError> {
        let mut fields = request.fields.edited(request.edits);
        let host = fields.remove(HOST);
        if let Length::Known(length) = request.body {
            fields.insert(CONTENT_LENGTH, length.into());
        }
        let unfit = |_| UpstreamError::Malformed(Malformed("the request target can't be sent over HTTP/2"));
        let target = PathAndQuery::try_from(request.target)
            .or_else(|_| PathAndQuery::try_from(super::escape(request.target)))
            .map_err(unfit)?;
        let mut parts = http::uri::Parts::default();
        parts.scheme = Some(if self.origin.server_name.is_some() { Scheme::HTTPS } else { Scheme::HTTP });
        let authority = host.as_ref().and_then(|host| host.to_str().ok()).and_then(|host| host.parse().ok());
        parts.authority = authority.or_else(|| self.origin.address.to_string().parse().ok());
        parts.path_and_query = Some(target);
        let mut head = Request::new(());
        *head.method_mut() = request.method.clone();
        *head.uri_mut() = Uri::from_parts(parts)
            .map_err(|_| UpstreamError::Malformed(Malformed("the request can't be sent over HTTP/2")))?;
        *head.version_mut() = http::Version::HTTP_2;
        *head.headers_mut() = fields;
        self.method = request.method.clone();
        self.request = Some((head, matches!(request.body, Length::None | Length::Known(0))));
        Ok(())
    }

    /// Bytes of bodies that are held for it here.
    pub(super) fn held(&mut self) -> usize {
        let downward = self.body.as_mut().map_or(0, |body| body.flow_control().used_capacity());
        downward + self.outgoing.as_ref().map_or(0, Outgoing::held)
    }

    /// Opens the stream as soon as the connection has room for it.
    fn poll_open(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), UpstreamError>> {
        if self.request.is_none() {
            return Poll::Ready(Ok(()));
        }
        // What a closing connection has not begun was not looked at.
        ready!(self.shared.send.poll_ready(cx)).map_err(|_| UpstreamError::Refused)?;
        let Some((head, ends)) = self.request.take() else { return Poll::Ready(Ok(())) };
        let (response, stream) = self.shared.send.send_request(head, ends).map_err(|_| UpstreamError::Refused)?;
        self.response = Some(response);
        self.outgoing = (!ends).then(|| Outgoing::request(stream));
        Poll::Ready(Ok(()))
    }

    pub(super) fn poll_flush(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), UpstreamError>> {
        ready!(self.poll_open(cx))?;
        match &mut self.outgoing {
            Some(outgoing) => outgoing.poll_flush(cx).map_err(UpstreamError::from),
            None => Poll::Ready(Ok(())),
        }
    }

    pub(super) fn write(&mut self, part: Part) -> Result<(), UpstreamError> {
        match &mut self.outgoing {
            Some(outgoing) => Ok(outgoing.write(part)?),
            None => Ok(()),
        }
    }

    pub(super) fn poll_answer(&mut self, cx: &mut Context<'_>) -> Poll<Result<Answer, UpstreamError>> {
        ready!(self.poll_open(cx))?;
        let Some(response) = &mut self.response else { return Poll::Ready(Err(UpstreamError::NoResponse)) };
        if let Poll::Ready(Some(interim)) = response.poll_informational(cx) {
            let (parts, ()) = interim?.into_parts();
            self.interim += 1;
            if self.interim > MAX_INTERIM {
                return Poll::Ready(Err(Malformed("the endpoint sends too many interim responses").into()));
            }
            return Poll::Ready(Ok(Answer::Interim(parts.status, Fields::from(&parts.headers))));
        }
        let (parts, body) = ready!(std::pin::Pin::new(response).poll(cx))?.into_parts();
        if parts.status == StatusCode::SWITCHING_PROTOCOLS {
            // RFC 9113 section 8.6: HTTP/2 has no such response.
            return Poll::Ready(Err(Malformed("the endpoint switches protocols over HTTP/2").into()));
        }
        self.response = None;
        let declared = parts.headers.get(CONTENT_LENGTH).and_then(|length| length.to_str().ok()?.parse().ok());
        let bodiless = self.method == Method::HEAD || matches!(parts.status.as_u16(), 204 | 304);
        let length = match declared {
            _ if bodiless => Length::None,
            _ if body.is_end_stream() => Length::Known(0),
            // Trailers may follow all the same.
            Some(0) | None => Length::Unknown,
            Some(length) => Length::Known(length),
        };
        let declared = declared.filter(|_| length != Length::Unknown);
        self.body = Some(body);
        let (status, fields) = (parts.status, Fields::from(&parts.headers));
        Poll::Ready(Ok(Answer::Head(AnswerHead { status, fields, declared, body: length })))
    }

    pub(super) fn poll_part(&mut self, cx: &mut Context<'_>) -> Poll<Result<Part, UpstreamError>> {
        match &mut self.body {
            Some(body) => poll_incoming(body, &mut self.taken, cx).map_err(UpstreamError::from),
            None => Poll::Ready(Ok(Part::End)),
        }
    }
}
