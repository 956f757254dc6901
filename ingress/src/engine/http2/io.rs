//! The connection below HTTP/2.

use std::io;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll, ready};
use std::time::Duration;

use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::time::Instant;

use super::flood::Patience;
use crate::engine::timer::Timer;
use crate::engine::wire::Wire;
use crate::listener::ClientStream;

/// The preface comes before the first frame (RFC 9113 section 3.4).
const PREFACE: usize = 24;
/// How long what a client still sends is read at the end, so that it gets what was sent to it last.
const LINGER: Duration = Duration::from_secs(2);

/// A connection that watches for floods, and for a client that takes nothing.
pub(super) struct ClientIo {
    wire: Wire<ClientStream>,
    patience: Arc<Patience>,
    /// Bytes of the preface that are still to come.
    preface: usize,
    /// Longest time for which the client may take nothing.
    stall: Duration,
    stalled: Option<Instant>,
    ends: Option<Instant>,
    timer: Timer,
}

impl ClientIo {
    pub(super) fn new(wire: Wire<ClientStream>, patience: Arc<Patience>, stall: Duration) -> Self {
        let (stalled, ends, timer) = (None, None, Timer::default());
        Self { wire, patience, preface: PREFACE, stall, stalled, ends, timer }
    }

    fn watch(&mut self, bytes: &[u8]) {
        let skipped = self.preface.min(bytes.len());
        self.preface -= skipped;
        self.patience.came(bytes.get(skipped..).unwrap_or_default());
    }

    /// Notes whether the client has taken something.
    fn taken<T>(&mut self, written: Poll<io::Result<T>>, cx: &mut Context<'_>) -> Poll<io::Result<T>> {
        if written.is_ready() {
            self.stalled = None;
            return written;
        }
        let since = *self.stalled.get_or_insert_with(Instant::now);
        ready!(self.timer.poll_until(since + self.stall, cx));
        Poll::Ready(Err(io::ErrorKind::TimedOut.into()))
    }
}

impl AsyncRead for ClientIo {
    fn poll_read(self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        let this = self.get_mut();
        let start = buf.filled().len();
        if this.wire.input.is_empty() {
            ready!(this.wire.poll_read_through(cx, buf))?;
        } else {
            let length = this.wire.input.len().min(buf.remaining());
            buf.put_slice(this.wire.input.get(..length).unwrap_or_default());
            this.wire.consume(length);
        }
        this.watch(buf.filled().get(start..).unwrap_or_default());
        Poll::Ready(Ok(()))
    }
}

impl AsyncWrite for ClientIo {
    fn poll_write(self: Pin<&mut Self>, cx: &mut Context<'_>, data: &[u8]) -> Poll<io::Result<usize>> {
        let this = self.get_mut();
        let written = Pin::new(this.wire.stream_mut()).poll_write(cx, data);
        this.patience.sent();
        this.taken(written, cx)
    }

    fn poll_write_vectored(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        data: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        let this = self.get_mut();
        let written = Pin::new(this.wire.stream_mut()).poll_write_vectored(cx, data);
        this.patience.sent();
        this.taken(written, cx)
    }

    fn is_write_vectored(&self) -> bool {
        true
    }

    fn poll_flush(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        let this = self.get_mut();
        let flushed = Pin::new(this.wire.stream_mut()).poll_flush(cx);
        this.taken(flushed, cx)
    }

    /// Closing a socket that has unread bytes would reset the connection and throw away what was sent last.
    fn poll_shutdown(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        let this = self.get_mut();
        let end = *this.ends.get_or_insert_with(|| Instant::now() + LINGER);
        if this.timer.poll_until(end, cx).is_ready() {
            return Poll::Ready(Ok(()));
        }
        ready!(Pin::new(this.wire.stream_mut()).poll_shutdown(cx))?;
        while !this.wire.ended {
            this.wire.input.clear();
            ready!(this.wire.poll_fill(cx))?;
        }
        Poll::Ready(Ok(()))
    }
}
