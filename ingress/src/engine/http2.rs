//! The loop of an HTTP/2 connection: each stream is an exchange of its own.

mod flood;
mod io;

use std::future::poll_fn;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering::Relaxed};
use std::task::{Context, Poll};
use std::time::Duration;

use bytes::Bytes;
use h2::server::{Builder, Connection, SendResponse};
use h2::{Reason, RecvStream};
use http::header::{CONTENT_LENGTH, COOKIE};
use http::{HeaderMap, HeaderValue, Method, StatusCode, Version};
use landfall_ingress_model::fields::Fields;
use landfall_ingress_model::pipeline::field_count;
use tokio::time::{Instant, timeout};

use super::body::Length;
use super::client::{Client, Http2Client};
use super::draining::Draining;
use super::exchange::{Peer, Request, run};
use super::framing::{Violation, parse_length};
use super::load::{FIRST_WINDOW, HeadShare, Load, Piece};
use super::timer::{Timer, Timers};
use super::wire::Wire;
use super::{EngineLimits, Shared};
use crate::listener::ClientStream;
use crate::memory::Refusal;
use flood::Patience;
use io::ClientIo;

/// HTTP/2 windows towards clients: large enough for a fast upload over a long way, small enough that 100 streams
/// nobody reads from stay bounded by the connection's.
const STREAM_WINDOW: u32 = 256 * 1024;
/// How long a request may wait for the heads of others to leave, before it is refused.
const HEADS_WAIT: Duration = Duration::from_secs(5);
/// Streams that a client may reset before we have looked at them (CVE-2023-44487).
const PENDING_RESETS: usize = 20;
/// Resets that we send for a client's errors before the connection is given up.
const LOCAL_RESETS: usize = 1024;
/// What waits to be sent on one stream.
const SEND_BUFFER: usize = 64 * 1024;
/// How long a connection that is told to end may take to do so while nothing is under way on it.
const GOODBYE: Duration = Duration::from_secs(5);
/// How long the rest of a request is read that was answered before its end, and how long its client may be silent
/// meanwhile: a reset right behind the answer makes some clients throw the answer away.
const DRAIN: Duration = Duration::from_secs(30);
const DRAIN_SILENCE: Duration = Duration::from_secs(5);

fn builder(limits: &EngineLimits) -> Builder {
    let mut builder = Builder::new();
    builder
        .max_concurrent_streams(limits.h2_streams)
        // Counted as RFC 9113 section 6.5.2 does, with 32 bytes for each field.
        .max_header_list_size(u32::try_from(limits.head.head).unwrap_or(u32::MAX))
        .initial_window_size(STREAM_WINDOW)
        .initial_connection_window_size(FIRST_WINDOW)
        .max_pending_accept_reset_streams(PENDING_RESETS)
        .max_local_error_reset_streams(Some(LOCAL_RESETS))
        .max_send_buffer_size(SEND_BUFFER);
    builder
}

/// Counts streams under way.
struct UnderWay(Arc<AtomicUsize>);

impl UnderWay {
    fn new(count: &Arc<AtomicUsize>) -> Self {
        count.fetch_add(1, Relaxed);
        Self(count.clone())
    }
}

impl Drop for UnderWay {
    fn drop(&mut self) {
        self.0.fetch_sub(1, Relaxed);
    }
}

/// Serves the connection until it ends.
pub(super) fn serve(engine: Arc<Shared>, wire: Wire<ClientStream>, peer: Peer) -> impl Future<Output = ()> + Send {
    let peer = Arc::new(peer);
    let patience = Arc::new(Patience::default());
    let stream = ClientIo::new(wire, patience.clone(), engine.limits.client_timeout);
    // Boxed, so that an idle connection does not hold the space that its beginning took.
    let handshake =
        Box::pin(timeout(engine.limits.head_timeout, builder(&engine.limits).handshake::<_, Piece>(stream)));
    async move {
        let Ok(Ok(mut connection)) = handshake.await else { return };
        let load = Load::new(engine.memory.clone());
        let mut intake = Intake::new(load.clone());
        let under_way = Arc::new(AtomicUsize::new(0));
        let draining = std::pin::pin!(engine.drain.draining());
        let mut draining = Draining::new(draining);
        let mut leaving = false;
        let mut left = engine.limits.requests;
        let mut quiet_since = None;
        let mut timer = Timer::default();
        let timers = Timers::default();
        loop {
            let next = poll_fn(|cx: &mut Context<'_>| {
                if !leaving && draining.has_come(&engine.drain, cx) {
                    leaving = true;
                    connection.graceful_shutdown();
                }
                let accepted = intake.poll_accept(&mut connection, cx);
                if patience.is_over() {
                    connection.abrupt_shutdown(Reason::ENHANCE_YOUR_CALM);
                    let _ = connection.poll_closed(cx);
                    return Poll::Ready(None);
                }
                if let Poll::Ready(next) = accepted {
                    return Poll::Ready(next);
                }
                if under_way.load(Relaxed) > 0 {
                    quiet_since = None;
                    return Poll::Pending;
                }
                let since = *quiet_since.get_or_insert_with(Instant::now);
                let limit = if leaving { GOODBYE } else { engine.limits.idle_timeout };
                if timer.poll_until(since + limit, cx).is_pending() {
                    return Poll::Pending;
                }
                if leaving {
                    return Poll::Ready(None);
                }
                leaving = true;
                quiet_since = None;
                connection.graceful_shutdown();
                cx.waker().wake_by_ref();
                Poll::Pending
            });
            let Some(Ok((request, mut respond))) = next.await else { return };
            left = left.saturating_sub(1);
            if left == 0 && !leaving {
                leaving = true;
                connection.graceful_shutdown();
            }
            if intake.refuses || engine.memory.refuses(Refusal::Stream) {
                // The client may ask again, wherever and however often (RFC 9113 section 8.7).
                respond.send_reset(Reason::REFUSED_STREAM);
                continue;
            }
            // What is not needed of the head is gone before the next one is looked at.
            let (parts, body) = request.into_parts();
            let request = understand(parts, body.is_end_stream(), &engine.limits);
            let client = Http2Client::new(body, respond, load.clone(), engine.clock.clone());
            let stream =
                Stream { head: load.head(request.size()), request, client, counted: UnderWay::new(&under_way) };
            tokio::spawn(stream.serve(engine.clone(), peer.clone(), timers.clone()));
        }
    }
}

/// How much of what a client sends is taken.
struct Intake {
    load: Arc<Load>,
    /// What the client may send ahead.
    window: u32,
    /// Since when requests wait for the heads of others.
    full_since: Option<Instant>,
    /// They have waited for too long.
    refuses: bool,
    timer: Timer,
}

type Next = Option<Result<(http::Request<RecvStream>, SendResponse<Piece>), h2::Error>>;

impl Intake {
    fn new(load: Arc<Load>) -> Self {
        Self { load, window: FIRST_WINDOW, full_since: None, refuses: false, timer: Timer::default() }
    }

    /// The next request, once there is room for its head.
    fn poll_accept(&mut self, connection: &mut Connection<ClientIo, Piece>, cx: &mut Context<'_>) -> Poll<Next> {
        let window = self.load.window(self.window);
        if window != self.window {
            self.window = window;
            connection.set_target_window_size(window);
        }
        self.refuses = false;
        if self.load.poll_heads(cx).is_ready() {
            self.full_since = None;
            return connection.poll_accept(cx);
        }
        let since = *self.full_since.get_or_insert_with(Instant::now);
        if self.timer.poll_until(since + HEADS_WAIT, cx).is_ready() {
            self.refuses = true;
            return connection.poll_accept(cx);
        }
        match connection.poll_closed(cx) {
            Poll::Ready(_) => Poll::Ready(None),
            Poll::Pending => Poll::Pending,
        }
    }
}

/// One stream.
struct Stream {
    request: Request,
    client: Http2Client,
    head: HeadShare,
    counted: UnderWay,
}

impl Stream {
    #[expect(clippy::manual_async_fn, reason = "it would hold each argument twice, and there are thousands of these")]
    fn serve(mut self, engine: Arc<Shared>, peer: Arc<Peer>, timers: Timers) -> impl Future<Output = ()> + Send {
        async move {
            let mut timer = timers.take();
            run(&engine, &self.request, &mut Client::Http2(&mut self.client), &peer, &mut timer).await;
            // What is not needed any more is not held while the rest of the request is read.
            drop((self.request, self.head, peer, engine));
            if !self.client.is_read() {
                drain(&mut self.client, &mut timer).await;
            }
            timers.put(timer);
            drop(self.counted);
        }
    }
}

/// The request in our own form, with what is wrong about it that the connection does not look at.
fn understand(parts: http::request::Parts, ended: bool, limits: &EngineLimits) -> Request {
    let http::request::Parts { method, uri, mut headers, .. } = parts;
    let target = uri.path_and_query().map_or("/", http::uri::PathAndQuery::as_str).to_owned();
    let authority = uri.authority().map(|authority| authority.as_str().to_owned());
    let mut lengths = headers.get_all(CONTENT_LENGTH).iter();
    let length = lengths.next().map(|length| parse_length(length.as_bytes()));
    let violation = if method == Method::CONNECT {
        Some(Violation::new(StatusCode::NOT_IMPLEMENTED, "CONNECT is not supported"))
    } else if target.len() > limits.head.target {
        Some(Violation::new(StatusCode::URI_TOO_LONG, "the request target is too long"))
    } else if field_count(&headers) > limits.head.fields {
        let status = StatusCode::REQUEST_HEADER_FIELDS_TOO_LARGE;
        Some(Violation::new(status, "the request has too many header fields"))
    } else if lengths.next().is_some() {
        Some(Violation::bad_request("the request has more than one Content-Length"))
    } else {
        length.as_ref().and_then(|length| length.as_ref().err().copied())
    };
    let body = match length {
        _ if ended => Length::None,
        Some(Ok(length)) => Length::Known(length),
        _ => Length::Unknown,
    };
    if violation.is_none() {
        gather_cookies(&mut headers);
    }
    // The fields of a refused request are not needed to answer it.
    let fields = if violation.is_some() { Fields::default() } else { Fields::from(&headers) };
    let version = Version::HTTP_2;
    Request { method, version, target, authority, fields, body, violation }
}

/// Makes one field of cookies that came in several, as whoever is no HTTP/2 has to get them (RFC 9113 section 8.2.3). A
/// field of one byte costs a hundred times as much to keep.
fn gather_cookies(headers: &mut HeaderMap) {
    let crumbs = headers.get_all(COOKIE);
    if crumbs.iter().nth(1).is_none() {
        return;
    }
    let whole = crumbs.iter().map(HeaderValue::as_bytes).collect::<Vec<_>>().join(&b"; "[..]);
    // What was made of values is one.
    if let Ok(whole) = HeaderValue::from_maybe_shared(Bytes::from(whole)) {
        headers.insert(COOKIE, whole);
    }
}

/// Reads the rest of a request that was answered before its end.
async fn drain(client: &mut Http2Client, timer: &mut Timer) {
    let end = Instant::now() + DRAIN;
    let mut heard = Instant::now();
    poll_fn(|cx| {
        loop {
            match client.poll_part(cx) {
                Poll::Ready(Ok(part)) if !part.is_final() => heard = Instant::now(),
                Poll::Ready(_) => return Poll::Ready(()),
                Poll::Pending => return timer.poll_until(end.min(heard + DRAIN_SILENCE), cx),
            }
        }
    })
    .await;
}
