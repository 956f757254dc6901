//! A client that speaks HTTP/1.

use std::io;
use std::os::fd::AsFd;
use std::task::{Context, Poll, ready};
use std::time::Duration;

use bytes::{BufMut, BytesMut};
use http::header::DATE;
use http::{Method, StatusCode, Version};
use landfall_ingress_model::fields::{Fields, HeaderEdits};
use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use socket2::SockRef;
use tokio::net::TcpStream;

use super::{ClientError, Presence, Reply};
use crate::engine::body::{BodyWriter, Length, Part, WrongLength, decimal};
use crate::engine::clock::Clock;
use crate::engine::framing::{Body, keeps_alive};
use crate::engine::wire::Wire;
use crate::listener::ClientStream;

/// Requests that were sent ahead are read up to here while an answer is awaited.
const MAX_AHEAD: usize = 16 * 1024;

/// Bytes that the head of nearly every answer has room in.
const USUAL_HEAD: usize = 1024;

/// The other end has closed its sending side: `poll(2)` of Linux, which nix has no name for.
const POLLRDHUP: i16 = 0x2000;

/// The client of one HTTP/1 exchange, and its connection.
pub(in crate::engine) struct Http1Client {
    pub(in crate::engine) wire: Wire<ClientStream>,
    body: Body,
    writer: BodyWriter,
    version: Version,
    /// A request to HEAD is answered without a body.
    head_only: bool,
    state: State,
    keeps_alive: bool,
    /// The client waits for a 100 before it sends its body.
    waits: bool,
    sent: u64,
    clock: Clock,
}

#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum State {
    /// Nothing of the answer was written.
    Waiting,
    /// The head of the answer was.
    Begun,
    /// All of it was.
    Whole,
    /// It ends somewhere it should not.
    Broken,
}

impl Http1Client {
    /// The client of a request with this head; `wire` stands behind the head.
    pub(in crate::engine) fn new(
        wire: Wire<ClientStream>,
        body: Body,
        version: Version,
        method: &Method,
        headers: &Fields,
        clock: Clock,
    ) -> Self {
        let expects = headers.get(http::header::EXPECT).is_some_and(|value| is_word(value.as_bytes(), b"100-continue"));
        Self {
            wire,
            waits: expects && version == Version::HTTP_11 && !body.is_done(),
            body,
            writer: BodyWriter::Length(0),
            version,
            head_only: method == Method::HEAD,
            state: State::Waiting,
            keeps_alive: keeps_alive(version, headers),
            sent: 0,
            clock,
        }
    }

    /// Lets no other request follow on the connection.
    pub(in crate::engine) fn end(&mut self) {
        self.keeps_alive = false;
    }

    /// Whether another request may follow on the connection.
    pub(in crate::engine) fn goes_on(&self) -> bool {
        self.state == State::Whole && self.keeps_alive && self.body.is_done() && !self.wire.ended
    }

    /// Whether an answer was written whole.
    pub(in crate::engine) fn is_answered(&self) -> bool {
        self.state == State::Whole
    }

    /// Whether the client waits to be told that it may send its body.
    pub(super) fn waits(&self) -> bool {
        self.waits
    }

    pub(super) fn poll_part(&mut self, cx: &mut Context<'_>) -> Poll<Result<Part, ClientError>> {
        loop {
            if self.body.is_done() {
                return Poll::Ready(Ok(self.body.take_trailers().map_or(Part::End, Part::Trailers)));
            }
            let data = self.body.decode(&mut self.wire.input).map_err(ClientError::Violation)?;
            if let Some(data) = data {
                self.waits = false;
                let last = self.body.is_done() && !self.body.has_trailers();
                return Poll::Ready(Ok(if last { Part::Last(data) } else { Part::Data(data) }));
            }
            if self.body.is_done() {
                // Nothing of it was waited for.
                self.waits = false;
                continue;
            }
            if self.wire.ended || ready!(self.wire.poll_fill_body(cx))? == 0 {
                return Poll::Ready(Err(ClientError::Gone(io::ErrorKind::UnexpectedEof.into())));
            }
        }
    }

    /// What comes behind the request is the next one, and is kept for it.
    pub(super) fn presence(&mut self, cx: &mut Context<'_>) -> Presence {
        if !self.body.is_done() {
            return Presence::Here;
        }
        while !self.wire.ended && self.wire.input.len() < MAX_AHEAD {
            match self.wire.poll_fill(cx) {
                Poll::Ready(Ok(_)) => {}
                Poll::Ready(Err(_)) => return Presence::Gone,
                Poll::Pending => return Presence::Here,
            }
        }
        if self.wire.ended && self.wire.input.is_empty() { Presence::HalfClosed } else { Presence::Here }
    }

    pub(super) fn has_hung_up(&self) -> bool {
        // Errors and the end of the connection are told unasked.
        let mut asked = [PollFd::new(self.tcp().as_fd(), PollFlags::from_bits_retain(POLLRDHUP))];
        poll(&mut asked, PollTimeout::ZERO).is_ok_and(|count| count > 0)
    }

    pub(super) fn inform(&mut self, status: StatusCode, fields: &Fields, edits: &HeaderEdits) {
        // RFC 9110 section 15.2: HTTP/1.0 has no interim responses.
        if self.version == Version::HTTP_10 || self.state != State::Waiting {
            return;
        }
        self.waits &= status != StatusCode::CONTINUE;
        let out = self.wire.output();
        status_line(status, out);
        fields.write(edits, out);
        out.extend_from_slice(b"\r\n");
    }

    pub(super) fn reply(&mut self, reply: &Reply<'_>) {
        self.state = State::Begun;
        // A client that waited for a 100 sends no body now, and one that has not sent all of it is asked to stop:
        // either way the connection is of no further use.
        self.keeps_alive &= !self.waits && self.body.is_done();
        let chunked = reply.body == Length::Unknown && self.version != Version::HTTP_10;
        self.writer = match reply.body {
            Length::None => BodyWriter::Length(0),
            Length::Known(length) => BodyWriter::Length(length),
            Length::Unknown if chunked => BodyWriter::Chunked,
            // RFC 9112 section 6.1: HTTP/1.0 knows no chunks, so the end of the connection ends the body.
            Length::Unknown => BodyWriter::UntilEnd,
        };
        let switching = reply.status == StatusCode::SWITCHING_PROTOCOLS;
        self.keeps_alive &= self.writer != BodyWriter::UntilEnd && !switching;
        let out = self.wire.output();
        out.reserve(USUAL_HEAD);
        status_line(reply.status, out);
        reply.fields.write(reply.edits, out);
        if !reply.fields.contains(DATE) {
            out.extend_from_slice(b"Date: ");
            self.clock.date(out);
            out.extend_from_slice(b"\r\n");
        }
        if let (Some(length), _) | (None, Length::Known(length)) = (reply.declared, reply.body) {
            content_length(length, out);
        } else if chunked {
            out.extend_from_slice(b"Transfer-Encoding: chunked\r\n");
        }
        if switching {
            // The pipeline's edits have set Connection and Upgrade.
        } else if !self.keeps_alive {
            out.extend_from_slice(b"Connection: close\r\n");
        } else if self.version == Version::HTTP_10 {
            out.extend_from_slice(b"Connection: keep-alive\r\n");
        }
        out.extend_from_slice(b"\r\n");
        if reply.body == Length::None || reply.body == Length::Known(0) {
            self.state = State::Whole;
        }
    }

    /// Writes the 101 that an upgrade was asked for; what follows is another protocol.
    pub(in crate::engine) fn switch(&mut self, fields: &Fields, edits: &HeaderEdits) {
        let (status, body) = (StatusCode::SWITCHING_PROTOCOLS, Length::None);
        self.reply(&Reply { status, fields, edits, declared: None, body });
        self.keeps_alive = false;
    }

    /// Counts what another protocol carried to the client.
    pub(in crate::engine) fn passed(&mut self, bytes: u64) {
        self.sent += bytes;
    }

    pub(super) fn poll_room(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), ClientError>> {
        self.wire.poll_room(cx).map_err(ClientError::Gone)
    }

    pub(super) fn write(&mut self, part: Part) -> Result<(), ClientError> {
        if self.state == State::Whole || self.head_only {
            return Ok(());
        }
        self.sent += part.len() as u64;
        let last = part.is_final();
        self.writer.write(part, &mut self.wire).map_err(|WrongLength| {
            self.state = State::Broken;
            ClientError::Gone(io::Error::other("the response is not as long as it said"))
        })?;
        if last {
            self.state = State::Whole;
        }
        Ok(())
    }

    pub(super) fn poll_flush(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), ClientError>> {
        self.wire.poll_flush(cx).map_err(ClientError::Gone)
    }

    pub(super) fn has_answer(&self) -> bool {
        self.state != State::Waiting
    }

    /// The end of the connection tells an HTTP/1 client that the body is not whole, unless that is how bodies end.
    pub(super) fn cut_off(&mut self) {
        if self.state == State::Begun && self.writer == BodyWriter::UntilEnd {
            self.reset();
        }
        self.state = State::Broken;
        self.keeps_alive = false;
    }

    /// Has the connection end in a reset, with whatever the client has not taken.
    pub(super) fn reset(&mut self) {
        // Without it the connection ends later.
        let _ = SockRef::from(self.tcp()).set_linger(Some(Duration::ZERO));
        self.state = State::Broken;
        self.keeps_alive = false;
    }

    fn tcp(&self) -> &TcpStream {
        match self.wire.stream() {
            ClientStream::Plain(socket) => socket.tcp(),
            ClientStream::Tls(tls) => tls.get_ref().0,
        }
    }

    pub(super) fn close(&mut self) {
        self.keeps_alive = false;
    }

    pub(super) fn sent(&self) -> u64 {
        self.sent
    }
}

fn is_word(text: &[u8], word: &[u8]) -> bool {
    text.trim_ascii().eq_ignore_ascii_case(word)
}

/// `HTTP/1.1 200 OK`
fn status_line(status: StatusCode, out: &mut BytesMut) {
    out.reserve(512);
    out.extend_from_slice(b"HTTP/1.1 ");
    out.extend_from_slice(status.as_str().as_bytes());
    out.put_u8(b' ');
    out.extend_from_slice(status.canonical_reason().unwrap_or("Unknown").as_bytes());
    out.extend_from_slice(b"\r\n");
}

/// `Content-Length: 5`
pub(in crate::engine) fn content_length(length: u64, out: &mut BytesMut) {
    out.extend_from_slice(b"Content-Length: ");
    decimal(length, out);
    out.extend_from_slice(b"\r\n");
}

/// How long the end of a connection may take, and how long a client may be silent meanwhile: what nginx allows.
const LINGER: Duration = Duration::from_secs(30);
const LINGER_SILENCE: Duration = Duration::from_secs(5);

/// Ends a connection so that its client reads the last answer (RFC 9112 section 9.6): closing a socket that has unread
/// bytes resets the connection and throws away what was not yet sent.
///
/// What the client still sends is read and dropped for as long as it goes on sending, since most clients look for an
/// answer only when they have sent everything.
pub(in crate::engine) async fn linger(wire: &mut Wire<ClientStream>) {
    let end = async {
        tokio::time::timeout(LINGER_SILENCE, wire.finish()).await.map_err(|_| io::ErrorKind::TimedOut)??;
        while !wire.ended {
            wire.input.clear();
            let read = std::future::poll_fn(|cx| wire.poll_fill_body(cx));
            tokio::time::timeout(LINGER_SILENCE, read).await.map_err(|_| io::ErrorKind::TimedOut)??;
        }
        io::Result::Ok(())
    };
    // Whether the client is still there does not matter any more.
    let _ = tokio::time::timeout(LINGER, end).await;
}
