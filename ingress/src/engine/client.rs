//! The client's side of one exchange, whichever version of HTTP it speaks.

mod http1;
mod http2;

use std::io;
use std::task::{Context, Poll};

use http::StatusCode;
use landfall_ingress_model::fields::{Fields, HeaderEdits};

use super::body::{Length, Part};
use super::framing::Violation;

pub(super) use http1::{Http1Client, content_length, linger};
pub(super) use http2::Http2Client;

/// Why an exchange can't go on with its client.
#[derive(Debug)]
pub(super) enum ClientError {
    /// It is gone.
    Gone(io::Error),
    /// What it sends is no sound body.
    Violation(Violation),
}

impl From<io::Error> for ClientError {
    fn from(error: io::Error) -> Self {
        Self::Gone(error)
    }
}

/// Whether a client is still there.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum Presence {
    /// It is, as far as is known.
    Here,
    /// It has closed its sending side: it is gone, or waits for its answer only.
    HalfClosed,
    /// It is gone.
    Gone,
}

/// The head of an answer.
pub(super) struct Reply<'a> {
    pub(super) status: StatusCode,
    pub(super) fields: &'a Fields,
    pub(super) edits: &'a HeaderEdits,
    /// The length that the head is to declare.
    pub(super) declared: Option<u64>,
    /// The length of the body that follows.
    pub(super) body: Length,
}

/// The client of one exchange.
pub(super) enum Client<'a> {
    /// HTTP/1.0 or 1.1.
    Http1(&'a mut Http1Client),
    /// HTTP/2.
    Http2(&'a mut Http2Client),
}

impl Client<'_> {
    /// The next part of the request's body.
    pub(super) fn poll_part(&mut self, cx: &mut Context<'_>) -> Poll<Result<Part, ClientError>> {
        match self {
            Self::Http1(client) => client.poll_part(cx),
            Self::Http2(client) => client.poll_part(cx),
        }
    }

    /// Whether the client is there; to be asked when nothing more of the request is to come.
    pub(super) fn presence(&mut self, cx: &mut Context<'_>) -> Presence {
        match self {
            Self::Http1(client) => client.presence(cx),
            Self::Http2(client) => client.presence(cx),
        }
    }

    /// Whether the connection was closed behind a request that is not taken.
    pub(super) fn has_hung_up(&self) -> bool {
        match self {
            Self::Http1(client) => client.has_hung_up(),
            // Its reset is always heard.
            Self::Http2(_) => false,
        }
    }

    /// Sends an interim response, which some clients can't get.
    pub(super) fn inform(&mut self, status: StatusCode, fields: &Fields, edits: &HeaderEdits) {
        match self {
            Self::Http1(client) => client.inform(status, fields, edits),
            Self::Http2(client) => client.inform(status, fields, edits),
        }
    }

    /// Writes the head of the answer, to be sent with what follows or by [`Self::poll_flush`].
    pub(super) fn reply(&mut self, reply: &Reply<'_>) -> Result<(), ClientError> {
        match self {
            Self::Http1(client) => {
                client.reply(reply);
                Ok(())
            }
            Self::Http2(client) => client.reply(reply),
        }
    }

    /// Ready when the client takes more of the answer.
    pub(super) fn poll_room(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), ClientError>> {
        match self {
            Self::Http1(client) => client.poll_room(cx),
            Self::Http2(client) => client.poll_room(cx),
        }
    }

    /// Writes a part of the answer's body, for which there must be room.
    pub(super) fn write(&mut self, part: Part) -> Result<(), ClientError> {
        match self {
            Self::Http1(client) => client.write(part),
            Self::Http2(client) => client.write(part),
        }
    }

    /// Ready when everything written is sent.
    pub(super) fn poll_flush(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), ClientError>> {
        match self {
            Self::Http1(client) => client.poll_flush(cx),
            Self::Http2(client) => client.poll_flush(cx),
        }
    }

    /// Bytes of bodies that are held here for it.
    pub(super) fn held(&mut self) -> usize {
        match self {
            Self::Http1(client) => client.wire.held(),
            Self::Http2(client) => client.held(),
        }
    }

    /// Bytes of the answer that it has taken so far.
    pub(super) fn progress(&self) -> u64 {
        match self {
            Self::Http1(client) => client.wire.progress(),
            Self::Http2(client) => client.progress(),
        }
    }

    /// Says how much of the request's body is to be read at once.
    pub(super) fn set_appetite(&mut self, bytes: usize) {
        if let Self::Http1(client) = self {
            client.wire.set_appetite(bytes);
        }
    }

    /// Holds no more space than is needed while somebody has to wait.
    pub(super) fn compact(&mut self) {
        if let Self::Http1(client) = self {
            client.wire.compact();
            client.wire.relax();
        }
    }

    /// Whether the head of an answer was written.
    pub(super) fn has_answer(&self) -> bool {
        match self {
            Self::Http1(client) => client.has_answer(),
            Self::Http2(client) => client.has_answer(),
        }
    }

    /// Cuts the answer off, so that nobody takes it for whole.
    pub(super) fn cut_off(&mut self) {
        match self {
            Self::Http1(client) => client.cut_off(),
            Self::Http2(client) => client.cut_off(),
        }
    }

    /// Gives up a client that takes nothing, with whatever it has not taken.
    pub(super) fn reset(&mut self) {
        match self {
            Self::Http1(client) => client.reset(),
            Self::Http2(client) => client.cut_off(),
        }
    }

    /// Whether the client waits to be told that it may send its body.
    pub(super) fn waits(&self) -> bool {
        matches!(self, Self::Http1(client) if client.waits())
    }

    /// Marks what follows as the last exchange: the connection is closed behind it, where it is this exchange's own.
    pub(super) fn close(&mut self) {
        if let Self::Http1(client) = self {
            client.close();
        }
    }

    /// Bytes of the answer's body that were sent.
    pub(super) fn sent(&self) -> u64 {
        match self {
            Self::Http1(client) => client.sent(),
            Self::Http2(client) => client.sent(),
        }
    }

    /// Whether the client speaks HTTP/2.
    pub(super) fn is_http2(&self) -> bool {
        matches!(self, Self::Http2(_))
    }
}
