//! A client's TLS connection, which holds no buffer while it is idle.
//!
//! What comes is read into space that all connections of a worker share, decrypted there and handed on, and what goes
//! is encrypted into such space. A connection keeps only the part of a record whose rest is to come, what its reader
//! had no room for, and what the network did not take.

use std::cell::RefCell;
use std::fmt;
use std::future::poll_fn;
use std::io::{self, IoSlice};
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll, ready};

use bytes::{Buf, Bytes};
use rustls::server::UnbufferedServerConnection;
use rustls::unbuffered::{ConnectionState, EncodeError, EncodeTlsData, UnbufferedStatus, WriteTraffic};
use rustls::{CommonState, ServerConfig};
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};

/// Bytes that are read at once: at least so many, and at most; a large body comes as two records of 16 KiB.
const LEAST_READ: usize = 4 * 1024;
const MOST_READ: usize = 33 * 1024;
/// Bytes of an application that are encrypted at once: two records (RFC 8446 section 5.1).
const MOST_WRITTEN: usize = 32 * 1024;
/// What may be held of a message that has not come as a whole: one of a handshake, of which rustls takes no more.
const MOST_HELD: usize = 64 * 1024;
/// Records and what their frames and tags take, and messages of TLS itself that go along.
const SEALED: usize = MOST_WRITTEN + 4 * 1024;

/// Space that the connections of a worker share, each for the time of one call.
struct Space {
    /// What is read and decrypted, behind what had come before.
    incoming: Box<[u8]>,
    /// What is gathered for one record.
    gathered: Box<[u8]>,
    /// What is encrypted.
    sealed: Box<[u8]>,
}

impl Space {
    fn new() -> Self {
        let space = |bytes| vec![0; bytes].into_boxed_slice();
        Self { incoming: space(MOST_HELD + MOST_READ), gathered: space(MOST_WRITTEN), sealed: space(SEALED) }
    }
}

thread_local! {
    static SPACE: RefCell<Space> = RefCell::new(Space::new());
}

/// The server's side of a TLS connection over `S`.
pub struct TlsStream<S> {
    socket: S,
    session: UnbufferedServerConnection,
    /// The part that has come of a message.
    partial: Vec<u8>,
    /// Decrypted, but not yet taken.
    plain: Bytes,
    /// Encrypted, but not yet sent.
    sealed: Bytes,
    /// The client has said that nothing more comes.
    is_ended: bool,
    /// We have said so.
    is_closed: bool,
}

impl<S> fmt::Debug for TlsStream<S> {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.debug_struct("TlsStream").field("version", &self.session.protocol_version()).finish_non_exhaustive()
    }
}

impl<S: AsyncRead + AsyncWrite + Unpin> TlsStream<S> {
    /// Shakes hands with a client that has sent `hello` so far.
    ///
    /// # Errors
    /// The client's bytes are no TLS, it wants what `config` has not, or the connection broke.
    pub async fn accept(socket: S, config: Arc<ServerConfig>, hello: &[u8]) -> io::Result<Self> {
        let session = UnbufferedServerConnection::new(config).map_err(io::Error::other)?;
        let (plain, sealed) = (Bytes::new(), Bytes::new());
        let partial = Vec::new();
        let mut stream = Self { socket, session, partial, plain, sealed, is_ended: false, is_closed: false };
        let mut hello = hello.to_vec();
        let understood = stream.process(&mut hello, None).map(|used| stream.partial = hello.split_off(used));
        stream.shake_hands(understood).await?;
        Ok(stream)
    }

    async fn shake_hands(&mut self, mut understood: io::Result<()>) -> io::Result<()> {
        loop {
            // An alert says what is wrong, so it goes out first.
            let sent = poll_fn(|cx| self.poll_flush_sealed(cx)).await;
            understood?;
            sent?;
            if !self.session.is_handshaking() {
                return Ok(());
            }
            let received = poll_fn(|cx| self.poll_receive(LEAST_READ, None, cx)).await;
            understood = match received {
                Ok(0) => return Err(io::ErrorKind::UnexpectedEof.into()),
                Ok(_) => Ok(()),
                Err(error) => Err(error),
            };
        }
    }

    /// What is below, and what is known of the session.
    pub fn get_ref(&self) -> (&S, &CommonState) {
        (&self.socket, &self.session)
    }

    /// Reads once and understands what came; the number of bytes. What is decrypted goes to `reader` and what it has no
    /// room for to `plain`.
    fn poll_receive(
        &mut self,
        most: usize,
        reader: Option<&mut ReadBuf<'_>>,
        cx: &mut Context<'_>,
    ) -> Poll<io::Result<usize>> {
        SPACE.with_borrow_mut(|space| {
            let held = self.partial.len();
            if held > MOST_HELD {
                return Poll::Ready(Err(io::Error::other("a message of TLS is too long")));
            }
            let Some(free) = space.incoming.get_mut(held..held + most) else {
                return Poll::Ready(Err(io::ErrorKind::OutOfMemory.into()));
            };
            let mut buffer = ReadBuf::new(free);
            ready!(Pin::new(&mut self.socket).poll_read(cx, &mut buffer))?;
            let read = buffer.filled().len();
            if read == 0 {
                return Poll::Ready(Ok(0));
            }
            let (before, _) = space.incoming.split_at_mut(held);
            before.copy_from_slice(&self.partial);
            let bytes = space.incoming.get_mut(..held + read).unwrap_or_default();
            let understood = self.process(bytes, reader);
            let rest = understood.as_ref().map_or(&[][..], |used| bytes.get(*used..).unwrap_or_default());
            // As large as it needs to be, and nothing where nothing is left.
            self.partial = rest.to_vec();
            Poll::Ready(understood.map(|_| read))
        })
    }

    /// Has the session understand `bytes` as far as they go, and says how many that were.
    fn process(&mut self, bytes: &mut [u8], mut reader: Option<&mut ReadBuf<'_>>) -> io::Result<usize> {
        let mut used = 0;
        loop {
            let bytes = bytes.get_mut(used..).unwrap_or_default();
            let UnbufferedStatus { discard, state } = self.session.process_tls_records(bytes);
            let mut is_done = false;
            match state {
                Ok(ConnectionState::ReadTraffic(mut records)) => {
                    while let Some(record) = records.next_record() {
                        let payload = record.map_err(invalid)?.payload;
                        hand_over(payload, reader.as_deref_mut(), &mut self.plain);
                    }
                }
                Ok(ConnectionState::EncodeTlsData(data)) => encode(data, &mut self.sealed)?,
                // It is sent before anything else is.
                Ok(ConnectionState::TransmitTlsData(data)) => data.done(),
                Ok(ConnectionState::PeerClosed) => self.is_ended = true,
                Ok(_) => is_done = true,
                Err(error) => {
                    self.take_alert();
                    return Err(invalid(error));
                }
            }
            used += discard;
            if is_done {
                return Ok(used);
            }
        }
    }

    /// Takes the alert that says what is wrong with what came.
    fn take_alert(&mut self) {
        if let Ok(ConnectionState::EncodeTlsData(data)) = self.session.process_tls_records(&mut []).state {
            // Without it the client is told nothing but the end.
            let _ = encode(data, &mut self.sealed);
        }
    }

    /// Has the session encrypt something into `space`, and sends it; what the network does not take now is kept.
    fn seal(
        &mut self,
        space: &mut [u8],
        cx: &mut Context<'_>,
        write: impl FnOnce(WriteTraffic<'_, rustls::server::ServerConnectionData>, &mut [u8]) -> io::Result<usize>,
    ) -> io::Result<()> {
        let length = loop {
            let UnbufferedStatus { discard, state } = self.session.process_tls_records(&mut self.partial);
            match state.map_err(invalid)? {
                ConnectionState::WriteTraffic(traffic) => break write(traffic, space)?,
                // Whatever TLS has to say by itself comes first.
                ConnectionState::EncodeTlsData(data) => encode(data, &mut self.sealed)?,
                ConnectionState::TransmitTlsData(data) => data.done(),
                _ => return Err(io::ErrorKind::BrokenPipe.into()),
            }
            self.partial.drain(..discard);
        };
        let mut rest = space.get(..length).unwrap_or_default();
        while self.sealed.is_empty() && !rest.is_empty() {
            match Pin::new(&mut self.socket).poll_write(cx, rest) {
                Poll::Ready(Ok(0)) => return Err(io::ErrorKind::WriteZero.into()),
                Poll::Ready(Ok(written)) => rest = rest.get(written..).unwrap_or_default(),
                Poll::Ready(Err(error)) => return Err(error),
                Poll::Pending => break,
            }
        }
        if !rest.is_empty() {
            append(&mut self.sealed, rest);
        }
        Ok(())
    }

    /// Sends what was encrypted.
    fn poll_flush_sealed(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        while self.sealed.has_remaining() {
            let written = ready!(Pin::new(&mut self.socket).poll_write(cx, &self.sealed))?;
            if written == 0 {
                return Poll::Ready(Err(io::ErrorKind::WriteZero.into()));
            }
            self.sealed.advance(written);
        }
        self.sealed = Bytes::new();
        Poll::Ready(Ok(()))
    }

    fn encrypt(&mut self, data: &[u8], space: &mut [u8], cx: &mut Context<'_>) -> io::Result<usize> {
        let data = data.get(..MOST_WRITTEN).unwrap_or(data);
        self.seal(space, cx, |mut traffic, space| traffic.encrypt(data, space).map_err(io::Error::other))?;
        Ok(data.len())
    }
}

impl<S: AsyncRead + AsyncWrite + Unpin> AsyncRead for TlsStream<S> {
    fn poll_read(self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        let this = self.get_mut();
        let before = buf.filled().len();
        if this.plain.has_remaining() {
            let length = this.plain.len().min(buf.remaining());
            buf.put_slice(&this.plain.split_to(length));
            if this.plain.is_empty() {
                // The record that this was a part of is not kept for the life of the connection.
                this.plain = Bytes::new();
            }
            return Poll::Ready(Ok(()));
        }
        while !this.is_ended && buf.filled().len() == before && buf.remaining() > 0 {
            let most = (buf.remaining() + LEAST_READ / 4).clamp(LEAST_READ, MOST_READ);
            let read = match this.poll_receive(most, Some(buf), cx) {
                Poll::Ready(Ok(read)) => read,
                Poll::Ready(Err(error)) => {
                    let _ = this.poll_flush_sealed(cx);
                    return Poll::Ready(Err(error));
                }
                Poll::Pending => {
                    // What TLS had to say by itself goes out even if nobody writes.
                    let _ = this.poll_flush_sealed(cx)?;
                    return Poll::Pending;
                }
            };
            if read == 0 {
                // Without a word about it, it may have been anybody who ended it (RFC 8446 section 6.1).
                return Poll::Ready(Err(io::ErrorKind::UnexpectedEof.into()));
            }
        }
        Poll::Ready(Ok(()))
    }
}

impl<S: AsyncRead + AsyncWrite + Unpin> AsyncWrite for TlsStream<S> {
    fn poll_write(self: Pin<&mut Self>, cx: &mut Context<'_>, data: &[u8]) -> Poll<io::Result<usize>> {
        let this = self.get_mut();
        ready!(this.poll_flush_sealed(cx))?;
        Poll::Ready(SPACE.with_borrow_mut(|space| this.encrypt(data, &mut space.sealed, cx)))
    }

    fn poll_write_vectored(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        data: &[IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        let this = self.get_mut();
        ready!(this.poll_flush_sealed(cx))?;
        let mut parts = data.iter().filter(|part| !part.is_empty());
        let first = parts.next().map_or(&[][..], |part| part);
        let Some(second) = parts.next() else { return Pin::new(this).poll_write(cx, first) };
        Poll::Ready(SPACE.with_borrow_mut(|space| {
            // A head and the body behind it are one record.
            let mut length = 0;
            for part in [first, second].into_iter().chain(parts.map(|part| &**part)) {
                let room = space.gathered.get_mut(length..).unwrap_or_default();
                let taken = part.len().min(room.len());
                let (to, from) = (room.get_mut(..taken), part.get(..taken));
                to.unwrap_or_default().copy_from_slice(from.unwrap_or_default());
                length += taken;
            }
            let gathered = space.gathered.get(..length).unwrap_or_default();
            this.encrypt(gathered, &mut space.sealed, cx)
        }))
    }

    fn is_write_vectored(&self) -> bool {
        true
    }

    fn poll_flush(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        let this = self.get_mut();
        ready!(this.poll_flush_sealed(cx))?;
        Pin::new(&mut this.socket).poll_flush(cx)
    }

    fn poll_shutdown(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        let this = self.get_mut();
        if !this.is_closed {
            this.is_closed = true;
            SPACE.with_borrow_mut(|space| {
                this.seal(&mut space.sealed, cx, |mut traffic, space| {
                    traffic.queue_close_notify(space).map_err(io::Error::other)
                })
            })?;
        }
        ready!(this.poll_flush_sealed(cx))?;
        Pin::new(&mut this.socket).poll_shutdown(cx)
    }
}

fn invalid(error: rustls::Error) -> io::Error {
    io::Error::new(io::ErrorKind::InvalidData, error)
}

/// Gives what was decrypted to the reader, and keeps what it has no room for.
fn hand_over(payload: &[u8], reader: Option<&mut ReadBuf<'_>>, plain: &mut Bytes) {
    let room = match &reader {
        Some(reader) if plain.is_empty() => reader.remaining().min(payload.len()),
        _ => 0,
    };
    let (now, later) = payload.split_at(room);
    if let Some(reader) = reader {
        reader.put_slice(now);
    }
    if !later.is_empty() {
        append(plain, later);
    }
}

fn append(to: &mut Bytes, bytes: &[u8]) {
    *to = if to.is_empty() { Bytes::copy_from_slice(bytes) } else { [to, bytes].concat().into() };
}

/// Puts a message of TLS itself to what is to be sent.
fn encode(mut data: EncodeTlsData<'_, rustls::server::ServerConnectionData>, sealed: &mut Bytes) -> io::Result<()> {
    let mut space = Vec::new();
    if let Err(EncodeError::InsufficientSize(needs)) = data.encode(&mut space) {
        space.resize(needs.required_size, 0);
        data.encode(&mut space).map_err(io::Error::other)?;
    }
    append(sealed, &space);
    Ok(())
}

#[cfg(test)]
mod tests;
