//! A connection with its small buffers: bytes that came early, bytes that wait to be sent together.

use std::future::poll_fn;
use std::io::{self, IoSlice};
use std::mem::MaybeUninit;
use std::pin::Pin;
use std::task::{Context, Poll, Waker, ready};

use bytes::{Buf, BufMut, Bytes, BytesMut};
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};

use crate::listener::ClientStream;

/// Bytes read at once while a head is awaited. On the stack, so that an idle connection holds no buffer.
pub(super) const READ_SIZE: usize = 4096;
/// Bytes of a body read at once, and so what is on its way between two connections at most.
const BODY_READ_SIZE: usize = 32 * 1024;
/// Up to here writes are gathered, so that the head and a small body are one segment and one TLS record.
const GATHER: usize = 8 * 1024;

/// A connection below an HTTP session.
#[derive(Debug)]
pub(crate) struct Wire<S> {
    stream: S,
    /// Read, but not yet taken.
    pub(crate) input: BytesMut,
    output: BytesMut,
    /// Goes behind `output`, without being copied.
    piece: Bytes,
    /// Goes behind `piece`.
    tail: &'static [u8],
    /// Bytes of a body to be read at once.
    appetite: usize,
    /// Bytes that the connection has taken so far.
    taken: u64,
    /// What waits was copied into as much space as it needs.
    is_compact: bool,
    /// The other end has closed its sending side.
    pub(crate) ended: bool,
}

impl Wire<ClientStream> {
    /// Whether the client chose HTTP/2 in the TLS handshake.
    pub(crate) fn speaks_h2(&self) -> bool {
        match &self.stream {
            ClientStream::Plain(_) => false,
            ClientStream::Tls(tls) => tls.get_ref().1.alpn_protocol() == Some(b"h2"),
        }
    }
}

impl<S: AsyncRead + AsyncWrite + Unpin> Wire<S> {
    pub(crate) fn new(stream: S) -> Self {
        let (input, output) = (BytesMut::new(), BytesMut::new());
        let (appetite, taken, is_compact) = (BODY_READ_SIZE, 0, false);
        Self { stream, input, output, piece: Bytes::new(), tail: &[], appetite, taken, is_compact, ended: false }
    }

    /// The connection itself.
    pub(crate) fn stream(&self) -> &S {
        &self.stream
    }

    /// The connection itself, past everything that waits here.
    pub(crate) fn stream_mut(&mut self) -> &mut S {
        &mut self.stream
    }

    /// Reads once into `input`; 0 bytes at the end.
    pub(crate) fn poll_fill(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<usize>> {
        let mut space = [MaybeUninit::uninit(); READ_SIZE];
        let mut buffer = ReadBuf::uninit(&mut space);
        ready!(Pin::new(&mut self.stream).poll_read(cx, &mut buffer))?;
        let length = buffer.filled().len();
        self.input.extend_from_slice(buffer.filled());
        self.ended |= length == 0;
        Poll::Ready(Ok(length))
    }

    /// Reads once into `input`, as much as a body may have on its way; 0 bytes at the end.
    pub(crate) fn poll_fill_body(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<usize>> {
        self.input.reserve(self.appetite);
        let mut limited = (&mut self.input).limit(self.appetite);
        let Poll::Ready(read) = tokio_util::io::poll_read_buf(Pin::new(&mut self.stream), cx, &mut limited) else {
            // Whoever has to wait holds no space for what may come.
            self.relax();
            return Poll::Pending;
        };
        let length = read?;
        self.ended |= length == 0;
        Poll::Ready(Ok(length))
    }

    /// Says how much of a body is to be read at once, at most.
    pub(crate) fn set_appetite(&mut self, bytes: usize) {
        self.appetite = bytes.min(BODY_READ_SIZE);
    }

    /// Gives up space that nothing is in.
    pub(crate) fn relax(&mut self) {
        for space in [&mut self.input, &mut self.output] {
            if space.is_empty() && space.capacity() > 0 {
                *space = BytesMut::new();
            }
        }
    }

    /// Moves what waits to be sent into as much space as it needs: the rest of a piece whose reader is slow.
    pub(crate) fn compact(&mut self) {
        if !self.is_compact && !self.piece.is_empty() && self.piece.len() < BODY_READ_SIZE / 4 * 3 {
            self.piece = Bytes::copy_from_slice(&self.piece);
            self.is_compact = true;
        }
    }

    /// Bytes that are held here.
    pub(crate) fn held(&self) -> usize {
        self.input.len() + self.output.len() + self.piece.len()
    }

    /// Bytes that the connection has taken so far.
    pub(crate) fn progress(&self) -> u64 {
        self.taken
    }

    /// Reads once into `input`; 0 bytes at the end.
    pub(crate) async fn fill(&mut self) -> io::Result<usize> {
        poll_fn(|cx| self.poll_fill(cx)).await
    }

    /// Reads past `input`, which must be empty.
    pub(crate) fn poll_read_through(&mut self, cx: &mut Context<'_>, buf: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        let before = buf.filled().len();
        ready!(Pin::new(&mut self.stream).poll_read(cx, buf))?;
        self.ended |= buf.filled().len() == before && buf.remaining() > 0;
        Poll::Ready(Ok(()))
    }

    /// Whether the connection is open and the other end has said nothing, as far as is known without waiting.
    pub(crate) fn is_quiet(&mut self) -> bool {
        let mut space = [0; 1];
        let mut buffer = ReadBuf::new(&mut space);
        let mut context = Context::from_waker(Waker::noop());
        self.input.is_empty()
            && !self.ended
            && Pin::new(&mut self.stream).poll_read(&mut context, &mut buffer).is_pending()
    }

    /// Takes `length` bytes off the front of `input` and gives an emptied buffer back.
    pub(crate) fn consume(&mut self, length: usize) {
        self.input.advance(length);
        if self.input.is_empty() {
            self.input = BytesMut::new();
        }
    }

    pub(crate) fn poll_write(&mut self, cx: &mut Context<'_>, data: &[u8]) -> Poll<io::Result<usize>> {
        if self.gather(data) {
            return Poll::Ready(Ok(data.len()));
        }
        // What waits and what is new go out together.
        while !self.output.is_empty() {
            let parts = [IoSlice::new(&self.output), IoSlice::new(data)];
            let written = ready!(Pin::new(&mut self.stream).poll_write_vectored(cx, &parts))?;
            if written == 0 {
                return Poll::Ready(Err(io::ErrorKind::WriteZero.into()));
            }
            let of_output = written.min(self.output.len());
            self.output.advance(of_output);
            if written > of_output {
                return Poll::Ready(Ok(written - of_output));
            }
        }
        Pin::new(&mut self.stream).poll_write(cx, data)
    }

    /// Puts a few bytes to those that wait to be sent; false where there is no room for them.
    pub(crate) fn gather(&mut self, data: &[u8]) -> bool {
        let room = self.output.len() + data.len() <= GATHER;
        if room {
            self.output.extend_from_slice(data);
        }
        room
    }

    /// What waits to be sent, to write a head to. Nothing larger may wait, see [`Self::poll_room`].
    pub(crate) fn output(&mut self) -> &mut BytesMut {
        &mut self.output
    }

    /// Hands data to the connection if nothing waits before it; what it does not take at once waits. There must be room,
    /// see [`Self::poll_room`].
    pub(crate) fn offer(&mut self, cx: &mut Context<'_>, data: &[u8]) -> io::Result<()> {
        let mut rest = data;
        if !self.has_output()
            && let Poll::Ready(written) = Pin::new(&mut self.stream).poll_write(cx, data)?
        {
            self.taken += written as u64;
            rest = data.get(written..).unwrap_or_default();
        }
        self.output.extend_from_slice(rest);
        Ok(())
    }

    /// Puts data to what waits to be sent, and `tail` behind it. There must be room, see [`Self::poll_room`].
    pub(crate) fn push(&mut self, data: Bytes, tail: &'static [u8]) {
        if self.output.len() + data.len() + tail.len() <= GATHER {
            self.output.extend_from_slice(&data);
            self.output.extend_from_slice(tail);
        } else {
            self.piece = data;
            self.tail = tail;
            self.is_compact = false;
        }
    }

    /// Ready when there is room for a piece of a body.
    pub(crate) fn poll_room(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        if self.piece.is_empty() && self.tail.is_empty() && self.output.len() < GATHER / 2 {
            return Poll::Ready(Ok(()));
        }
        self.poll_drain(cx)
    }

    /// Whether something waits to be sent.
    pub(crate) fn has_output(&self) -> bool {
        !(self.output.is_empty() && self.piece.is_empty() && self.tail.is_empty())
    }

    /// Hands everything that waits to the connection.
    fn poll_drain(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        while self.has_output() {
            let stream = Pin::new(&mut self.stream);
            let written = if self.piece.is_empty() && self.tail.is_empty() {
                ready!(stream.poll_write(cx, &self.output))?
            } else {
                let parts = [IoSlice::new(&self.output), IoSlice::new(&self.piece), IoSlice::new(self.tail)];
                ready!(stream.poll_write_vectored(cx, &parts))?
            };
            if written == 0 {
                return Poll::Ready(Err(io::ErrorKind::WriteZero.into()));
            }
            self.sent(written);
        }
        self.piece = Bytes::new();
        Poll::Ready(Ok(()))
    }

    /// Forgets what has been written.
    fn sent(&mut self, written: usize) {
        self.taken += written as u64;
        let of_output = written.min(self.output.len());
        self.output.advance(of_output);
        let of_piece = (written - of_output).min(self.piece.len());
        self.piece.advance(of_piece);
        let of_tail = (written - of_output - of_piece).min(self.tail.len());
        self.tail = self.tail.get(of_tail..).unwrap_or_default();
    }

    pub(crate) fn poll_flush(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        ready!(self.poll_drain(cx))?;
        Pin::new(&mut self.stream).poll_flush(cx)
    }

    pub(crate) async fn flush(&mut self) -> io::Result<()> {
        poll_fn(|cx| self.poll_flush(cx)).await
    }

    /// Sends all of `data`.
    pub(crate) async fn send(&mut self, data: &[u8]) -> io::Result<()> {
        let mut rest = data;
        while !rest.is_empty() {
            let written = poll_fn(|cx| self.poll_write(cx, rest)).await?;
            rest = rest.get(written..).unwrap_or_default();
        }
        self.flush().await
    }

    /// Says that nothing more will be sent.
    pub(crate) fn poll_shutdown(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        ready!(self.poll_flush(cx))?;
        Pin::new(&mut self.stream).poll_shutdown(cx)
    }

    /// Says that nothing more will be sent.
    pub(crate) async fn finish(&mut self) -> io::Result<()> {
        poll_fn(|cx| self.poll_shutdown(cx)).await
    }

    /// Gives up the buffers of a finished exchange.
    pub(crate) fn shrink(&mut self) {
        self.output = BytesMut::new();
        if self.input.is_empty() {
            self.input = BytesMut::new();
        }
    }
}
