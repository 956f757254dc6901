//! One exchange as pingora reads and writes it.
//!
//! Pingora gets a stream that holds exactly one request: the head is replayed, then come the bytes of the body and
//! not one more. When it lets go of the stream, however it does, the connection goes back to its loop.

use std::io;
use std::pin::Pin;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, OnceLock, PoisonError};
use std::task::{Context, Poll, ready};
use std::time::Duration;

use bytes::{Buf, Bytes};
use http::Version;
use pingora_core::protocols::raw_connect::ProxyDigest;
use pingora_core::protocols::{
    ALPN, GetProxyDigest, GetSocketDigest, GetTimingDigest, Peek, Shutdown, SocketDigest, Ssl, TimingDigest, UniqueID,
};
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::time::{Instant, Sleep, sleep};

use super::ClientFacts;
use crate::engine::framing::{Body, Violation};
use crate::engine::websocket::Away;
use crate::engine::wire::Wire;
use crate::listener::ClientStream;

/// How long an answer may still come after the client has closed its sending side.
///
/// Most clients that close are gone, but some only say that they have nothing more to ask (RFC 9112 section 9.6).
const HALF_CLOSED_GRACE: Duration = Duration::from_secs(1);
/// Requests that were sent ahead are read up to here while an answer is awaited.
const MAX_AHEAD: usize = 16 * 1024;

/// What a connection's loop gets back from an exchange.
#[derive(Debug)]
pub(super) struct Returned {
    pub(super) wire: Wire<ClientStream>,
    /// Whether the connection stands exactly behind the request.
    pub(super) at_boundary: bool,
    /// Whether anything was written to the client.
    pub(super) answered: bool,
    /// Whether the client was told that the connection goes on, although pingora would close it.
    pub(super) kept: bool,
}

/// Where an exchange leaves the connection when it ends.
pub(super) type Slot = Arc<Mutex<Option<Returned>>>;

/// The request line, as far as the engine's own parsing would lose something.
#[derive(Debug)]
pub(super) struct Request {
    pub(super) version: Version,
    pub(super) target: String,
    pub(super) authority: Option<String>,
}

/// The stream of one HTTP/1 exchange.
#[derive(Debug)]
pub(super) struct ExchangeStream {
    wire: Option<Wire<ClientStream>>,
    slot: Slot,
    replay: Bytes,
    body: Body,
    pub(super) request: Request,
    pub(super) facts: Arc<ClientFacts>,
    /// Set once the client was told 101: from then on the bytes are no longer ours to understand.
    upgraded: AtomicBool,
    away: OnceLock<Away>,
    /// Set once a whole answer of our own was written, after which the client may ask again.
    kept: AtomicBool,
    /// Longest pause of an exchange that may be upgraded.
    idle_limits: OnceLock<(Duration, Duration)>,
    idle: Option<Pin<Box<Sleep>>>,
    half_closed: Option<Pin<Box<Sleep>>>,
    violation: OnceLock<Violation>,
    idled_out: bool,
    written: bool,
}

impl ExchangeStream {
    pub(super) fn new(
        wire: Wire<ClientStream>,
        slot: Slot,
        replay: Bytes,
        body: Body,
        request: Request,
        facts: Arc<ClientFacts>,
    ) -> Self {
        Self {
            wire: Some(wire),
            slot,
            replay,
            body,
            request,
            facts,
            upgraded: AtomicBool::new(false),
            away: OnceLock::new(),
            kept: AtomicBool::new(false),
            idle_limits: OnceLock::new(),
            idle: None,
            half_closed: None,
            violation: OnceLock::new(),
            idled_out: false,
            written: false,
        }
    }

    /// From here on the connection carries another protocol.
    pub(super) fn upgrade(&self) {
        self.upgraded.store(true, Ordering::Release);
    }

    /// The other protocol is WebSocket, whose client is sent away when the program leaves.
    pub(super) fn send_away(&self, away: Away) {
        let _ = self.away.set(away);
    }

    /// The answer is whole and says that the connection goes on, whatever became of the endpoint's.
    pub(super) fn keep(&self) {
        self.kept.store(true, Ordering::Release);
    }

    /// Ends the exchange when no byte moves in either direction for so long: before and after the upgrade.
    pub(super) fn limit_idle(&self, before: Duration, upgraded: Duration) {
        let _ = self.idle_limits.set((before, upgraded));
    }

    fn idle_limit(&self) -> Option<Duration> {
        let (before, upgraded) = *self.idle_limits.get()?;
        Some(if self.is_upgraded() { upgraded } else { before })
    }

    /// The breach of framing that ended the body, if there was one.
    pub(super) fn violation(&self) -> Option<&Violation> {
        self.violation.get()
    }

    /// Whether the exchange was ended by [`Self::limit_idle`].
    pub(super) fn idled_out(&self) -> bool {
        self.idled_out
    }

    fn is_upgraded(&self) -> bool {
        self.upgraded.load(Ordering::Acquire)
    }

    /// Notes that bytes move.
    fn touch(&mut self) {
        let limit = self.idle_limit();
        if let (Some(idle), Some(limit)) = (&mut self.idle, limit) {
            idle.as_mut().reset(Instant::now() + limit);
        }
    }

    /// Ready when nothing has moved for too long.
    fn poll_idle(&mut self, cx: &mut Context<'_>) -> Poll<()> {
        let Some(limit) = self.idle_limit() else { return Poll::Pending };
        let idle = self.idle.get_or_insert_with(|| Box::pin(sleep(limit)));
        ready!(idle.as_mut().poll(cx));
        self.idled_out = true;
        Poll::Ready(())
    }

    /// Sends what was gathered: pingora reads from the client whenever it has nothing to write for the moment.
    fn flush_gathered(&mut self, cx: &mut Context<'_>) {
        if let Some(wire) = &mut self.wire
            && wire.has_output()
        {
            // An error comes up again with the next write.
            let _ = wire.poll_flush(cx);
        }
    }

    /// Sends a WebSocket's client away, if it is time to.
    fn poll_away(&mut self, cx: &mut Context<'_>) {
        if let (Some(away), Some(wire)) = (self.away.get_mut(), &mut self.wire)
            && let Some(frame) = away.poll(cx)
            && wire.gather(frame)
        {
            away.closed();
            self.flush_gathered(cx);
        }
    }

    /// The body of the request, checked on its way.
    fn poll_body(&mut self, cx: &mut Context<'_>, buf: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        let wire = self.wire.as_mut().ok_or(io::ErrorKind::NotConnected)?;
        if wire.input.is_empty() {
            let start = buf.filled().len();
            ready!(wire.poll_read_through(cx, buf))?;
            let fresh = buf.filled().get(start..).unwrap_or_default();
            let taken = advance(&mut self.body, fresh, &self.violation)?;
            // What belongs to the next request is kept for it.
            wire.input.extend_from_slice(fresh.get(taken..).unwrap_or_default());
            buf.set_filled(start + taken);
            return Poll::Ready(Ok(()));
        }
        let length = wire.input.len().min(buf.remaining());
        let front = wire.input.get(..length).unwrap_or_default();
        let taken = advance(&mut self.body, front, &self.violation)?;
        buf.put_slice(front.get(..taken).unwrap_or_default());
        wire.consume(taken);
        Poll::Ready(Ok(()))
    }

    /// Another protocol: bytes pass as they are.
    fn poll_raw(&mut self, cx: &mut Context<'_>, buf: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        if self.poll_idle(cx).is_ready() {
            return Poll::Ready(Ok(()));
        }
        self.poll_away(cx);
        let wire = self.wire.as_mut().ok_or(io::ErrorKind::NotConnected)?;
        if wire.input.is_empty() {
            ready!(wire.poll_read_through(cx, buf))?;
        } else {
            let length = wire.input.len().min(buf.remaining());
            buf.put_slice(wire.input.get(..length).unwrap_or_default());
            wire.consume(length);
        }
        self.touch();
        Poll::Ready(Ok(()))
    }

    /// The request is over: only the client's leaving is of interest. What comes is the next request.
    fn poll_gone(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        if self.poll_idle(cx).is_ready() {
            return Poll::Ready(Err(io::ErrorKind::TimedOut.into()));
        }
        let wire = self.wire.as_mut().ok_or(io::ErrorKind::NotConnected)?;
        while !wire.ended && wire.input.len() < MAX_AHEAD {
            ready!(wire.poll_fill(cx))?;
        }
        if !wire.ended || !wire.input.is_empty() {
            return Poll::Pending;
        }
        let grace = self.half_closed.get_or_insert_with(|| Box::pin(sleep(HALF_CLOSED_GRACE)));
        ready!(grace.as_mut().poll(cx));
        Poll::Ready(Ok(()))
    }
}

/// Advances `body` over `bytes` and keeps the breach, if there is one.
fn advance(body: &mut Body, bytes: &[u8], kept: &OnceLock<Violation>) -> io::Result<usize> {
    body.advance(bytes).map_err(|violation| {
        let _ = kept.set(violation);
        io::Error::new(io::ErrorKind::InvalidData, violation.reason)
    })
}

impl AsyncRead for ExchangeStream {
    fn poll_read(self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        let this = self.get_mut();
        if !this.replay.is_empty() {
            let length = this.replay.len().min(buf.remaining());
            buf.put_slice(&this.replay[..length]);
            this.replay.advance(length);
            return Poll::Ready(Ok(()));
        }
        this.flush_gathered(cx);
        if this.is_upgraded() {
            this.poll_raw(cx, buf)
        } else if this.body.is_done() {
            this.poll_gone(cx)
        } else {
            this.poll_body(cx, buf)
        }
    }
}

impl AsyncWrite for ExchangeStream {
    fn poll_write(self: Pin<&mut Self>, cx: &mut Context<'_>, data: &[u8]) -> Poll<io::Result<usize>> {
        let this = self.get_mut();
        this.poll_away(cx);
        let wire = this.wire.as_mut().ok_or(io::ErrorKind::NotConnected)?;
        let share = this.away.get().map_or(Some(data.len()), |away| away.share(data));
        // After a close frame nothing may come; what the endpoint still says is dropped.
        let Some(data) = share.and_then(|share| data.get(..share)) else { return Poll::Ready(Ok(data.len())) };
        let written = ready!(wire.poll_write(cx, data))?;
        if let (Some(away), Some(passed)) = (this.away.get_mut(), data.get(..written)) {
            away.passed(passed);
        }
        this.written = true;
        this.touch();
        Poll::Ready(Ok(written))
    }

    fn poll_flush(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        let wire = self.get_mut().wire.as_mut().ok_or(io::ErrorKind::NotConnected)?;
        wire.poll_flush(cx)
    }

    /// Only flushes: the connection's loop decides how the connection ends.
    fn poll_shutdown(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        self.poll_flush(cx)
    }
}

impl Drop for ExchangeStream {
    fn drop(&mut self) {
        let at_boundary = self.body.is_done() && self.violation.get().is_none() && !self.is_upgraded();
        if let Some(wire) = self.wire.take() {
            let kept = self.kept.load(Ordering::Acquire);
            let returned = Returned { wire, at_boundary, answered: self.written, kept };
            *self.slot.lock().unwrap_or_else(PoisonError::into_inner) = Some(returned);
        }
    }
}

/// Gives a stream the traits that pingora asks of one, with nothing behind those that it asks for no reason.
macro_rules! pingora_stream {
    ($stream:ty, $alpn:expr) => {
        #[async_trait::async_trait]
        impl Shutdown for $stream {
            async fn shutdown(&mut self) {
                let _ = tokio::io::AsyncWriteExt::flush(self).await;
            }
        }

        impl UniqueID for $stream {
            fn id(&self) -> i32 {
                0
            }
        }

        impl Ssl for $stream {
            fn selected_alpn_proto(&self) -> Option<ALPN> {
                Some($alpn)
            }
        }

        impl GetTimingDigest for $stream {
            fn get_timing_digest(&self) -> Vec<Option<TimingDigest>> {
                Vec::new()
            }
        }

        impl GetProxyDigest for $stream {
            fn get_proxy_digest(&self) -> Option<Arc<ProxyDigest>> {
                self.facts.digest.clone()
            }
        }

        impl GetSocketDigest for $stream {
            fn get_socket_digest(&self) -> Option<Arc<SocketDigest>> {
                None
            }
        }

        impl Peek for $stream {}
    };
}

pingora_stream!(ExchangeStream, ALPN::H1);
pingora_stream!(H2Stream, ALPN::H2);

/// An HTTP/2 connection as pingora reads and writes it.
#[derive(Debug)]
pub(super) struct H2Stream {
    wire: Option<Wire<ClientStream>>,
    slot: Arc<Mutex<Option<Wire<ClientStream>>>>,
    facts: Arc<ClientFacts>,
}

impl H2Stream {
    /// A connection that is left in `slot` when pingora lets go of it.
    pub(super) fn new(
        wire: Wire<ClientStream>,
        slot: Arc<Mutex<Option<Wire<ClientStream>>>>,
        facts: Arc<ClientFacts>,
    ) -> Self {
        Self { wire: Some(wire), slot, facts }
    }

    fn wire(&mut self) -> io::Result<&mut Wire<ClientStream>> {
        self.wire.as_mut().ok_or(io::ErrorKind::NotConnected.into())
    }
}

impl Drop for H2Stream {
    fn drop(&mut self) {
        *self.slot.lock().unwrap_or_else(PoisonError::into_inner) = self.wire.take();
    }
}

impl AsyncRead for H2Stream {
    fn poll_read(self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        let wire = self.get_mut().wire()?;
        if wire.input.is_empty() {
            return wire.poll_read_through(cx, buf);
        }
        let length = wire.input.len().min(buf.remaining());
        buf.put_slice(wire.input.get(..length).unwrap_or_default());
        wire.consume(length);
        Poll::Ready(Ok(()))
    }
}

impl AsyncWrite for H2Stream {
    fn poll_write(self: Pin<&mut Self>, cx: &mut Context<'_>, data: &[u8]) -> Poll<io::Result<usize>> {
        self.get_mut().wire()?.poll_write(cx, data)
    }

    fn poll_flush(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        self.get_mut().wire()?.poll_flush(cx)
    }

    fn poll_shutdown(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        self.get_mut().wire()?.poll_shutdown(cx)
    }
}
