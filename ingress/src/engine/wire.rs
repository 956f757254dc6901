//! A client's connection with its two small buffers: bytes that came early, bytes that wait to be sent together.

use std::future::poll_fn;
use std::io::{self, IoSlice};
use std::mem::MaybeUninit;
use std::pin::Pin;
use std::task::{Context, Poll, ready};

use bytes::{Buf, BytesMut};
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};

use crate::listener::ClientStream;

/// Bytes read at once while a head is awaited. On the stack, so that an idle connection holds no buffer.
const READ_SIZE: usize = 4096;
/// Up to here writes are gathered, so that the head and a small body are one segment and one TLS record.
const GATHER: usize = 8 * 1024;

/// The connection below an HTTP session.
#[derive(Debug)]
pub(crate) struct Wire {
    stream: ClientStream,
    /// Read, but not yet taken.
    pub(crate) input: BytesMut,
    output: BytesMut,
    /// The client has closed its sending side.
    pub(crate) ended: bool,
}

impl Wire {
    pub(crate) fn new(stream: ClientStream) -> Self {
        Self { stream, input: BytesMut::new(), output: BytesMut::new(), ended: false }
    }

    /// Whether the client chose HTTP/2 in the TLS handshake.
    pub(crate) fn speaks_h2(&self) -> bool {
        match &self.stream {
            ClientStream::Plain(_) => false,
            ClientStream::Tls(tls) => tls.get_ref().1.alpn_protocol() == Some(b"h2"),
        }
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

    /// Whether something waits to be sent.
    pub(crate) fn has_output(&self) -> bool {
        !self.output.is_empty()
    }

    pub(crate) fn poll_flush(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        while !self.output.is_empty() {
            let written = ready!(Pin::new(&mut self.stream).poll_write(cx, &self.output))?;
            if written == 0 {
                return Poll::Ready(Err(io::ErrorKind::WriteZero.into()));
            }
            self.output.advance(written);
        }
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
    }
}
