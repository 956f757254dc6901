//! One stream of an HTTP/2 connection, on whichever side: bodies as parts, within the windows.

use std::task::{Context, Poll, ready};

use bytes::Bytes;
use h2::{Error, Reason, RecvStream, SendStream};
use http::HeaderMap;
use landfall_ingress_model::pipeline::may_trail;

use super::body::Part;
use super::load::{Piece, Turn};

/// The next part of a body.
///
/// `taken` is what was given out last: by asking for more, it has been passed on, and the other end may send as much
/// again.
pub(super) fn poll_incoming(
    body: &mut RecvStream,
    taken: &mut usize,
    cx: &mut Context<'_>,
) -> Poll<Result<Part, Error>> {
    if *taken > 0 {
        body.flow_control().release_capacity(std::mem::take(taken))?;
    }
    let Some(data) = ready!(body.poll_data(cx)).transpose()? else {
        let trailers = ready!(body.poll_trailers(cx))?;
        return Poll::Ready(Ok(trailers.map_or(Part::End, Part::Trailers)));
    };
    *taken = data.len();
    if !body.is_end_stream() {
        return Poll::Ready(Ok(Part::Data(data)));
    }
    // Nothing may be held back at the end, or the connection's window would shrink with each stream.
    body.flow_control().release_capacity(std::mem::take(taken))?;
    Poll::Ready(Ok(Part::Last(data)))
}

/// What is sent right behind the head of a request: the data of most calls of gRPC. Such a stream has no window yet, and
/// to wait for one would make two writes of what can be one, and a turn of the connection's task between them.
const EARLY: usize = 4 * 1024;

/// The sending half. But for a few early bytes, never is more handed to the connection than the other end takes.
pub(super) struct Outgoing {
    stream: SendStream<Piece>,
    /// The place among the streams of a client's connection.
    turn: Option<Turn>,
    /// Bytes handed to the connection so far.
    handed: u64,
    /// Nothing was sent yet on a stream that was opened here.
    early: bool,
    /// Beyond the window.
    rest: Bytes,
    /// How it ends behind `rest`.
    end: End,
}

/// How a body ends.
enum End {
    /// Not yet.
    No,
    /// With its last byte.
    Plain,
    /// In trailers.
    Trailers(HeaderMap),
}

impl Outgoing {
    /// Behind the head of a response.
    pub(super) fn response(stream: SendStream<Piece>, turn: Turn) -> Self {
        Self { stream, turn: Some(turn), handed: 0, early: false, rest: Bytes::new(), end: End::No }
    }

    /// Behind the head of a request.
    pub(super) fn request(stream: SendStream<Piece>) -> Self {
        Self { stream, turn: None, handed: 0, early: true, rest: Bytes::new(), end: End::No }
    }

    /// Bytes that wait for a window.
    pub(super) fn held(&self) -> usize {
        self.rest.len()
    }

    /// Bytes that were within a window so far.
    pub(super) fn handed(&self) -> u64 {
        self.handed
    }

    /// Ready when there is room for another part: what was written is within the window, and the connection has little to
    /// send.
    pub(super) fn poll_room(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), Error>> {
        ready!(self.poll_flush(cx))?;
        match &mut self.turn {
            Some(turn) => turn.poll_room(cx).map(Ok),
            None => Poll::Ready(Ok(())),
        }
    }

    /// Nothing is written now: others may.
    pub(super) fn pass(&mut self) {
        if let Some(turn) = &mut self.turn {
            turn.pass();
        }
    }

    /// Writes a part; everything written before must have been flushed.
    pub(super) fn write(&mut self, part: Part) -> Result<(), Error> {
        let (data, end) = match part {
            Part::Data(data) => (data, End::No),
            Part::Last(data) => (data, End::Plain),
            Part::Trailers(fields) => (Bytes::new(), End::Trailers(trailers(fields))),
            Part::End => (Bytes::new(), End::Plain),
        };
        (self.rest, self.end) = (data, end);
        if self.rest.is_empty() {
            return self.send(0);
        }
        if std::mem::take(&mut self.early) && self.rest.len() <= EARLY {
            return self.send(self.rest.len());
        }
        // A window is asked for only when there is something for it: what one stream holds, no other can use.
        self.stream.reserve_capacity(self.rest.len());
        let open = self.stream.capacity();
        if open > 0 { self.send(open) } else { Ok(()) }
    }

    /// Ready when all that was written is within the window.
    pub(super) fn poll_flush(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), Error>> {
        while !self.rest.is_empty() {
            self.stream.reserve_capacity(self.rest.len());
            while self.stream.capacity() == 0 {
                match ready!(self.stream.poll_capacity(cx)) {
                    Some(capacity) => drop(capacity?),
                    None => return Poll::Ready(Err(Reason::CANCEL.into())),
                }
            }
            self.send(self.stream.capacity())?;
        }
        Poll::Ready(Ok(()))
    }

    /// Ready with the other end's reason when it has given the stream up.
    pub(super) fn poll_reset(&mut self, cx: &mut Context<'_>) -> Poll<Result<Reason, Error>> {
        self.stream.poll_reset(cx)
    }

    pub(super) fn reset(&mut self, reason: Reason) {
        self.stream.send_reset(reason);
    }

    /// Hands up to `length` bytes of the rest to the connection, and the end behind the last of them.
    fn send(&mut self, length: usize) -> Result<(), Error> {
        let data = self.rest.split_to(length.min(self.rest.len()));
        let is_empty = data.is_empty();
        self.handed += data.len() as u64;
        let data = match &mut self.turn {
            Some(turn) => turn.piece(data),
            None => Piece::uncounted(data),
        };
        let end = if self.rest.is_empty() { std::mem::replace(&mut self.end, End::No) } else { End::No };
        match end {
            End::Trailers(trailers) => {
                if !is_empty {
                    self.stream.send_data(data, false)?;
                }
                self.stream.send_trailers(trailers)
            }
            End::Plain => self.stream.send_data(data, true),
            End::No if is_empty => Ok(()),
            End::No => self.stream.send_data(data, false),
        }
    }
}

/// Those that may be trailers.
fn trailers(fields: HeaderMap) -> HeaderMap {
    let mut kept = fields;
    let never: Vec<_> = kept.keys().filter(|name| !may_trail(name)).cloned().collect();
    for name in never {
        kept.remove(name);
    }
    kept
}
