//! A client that speaks HTTP/2: one stream of its connection.

use std::io;
use std::sync::Arc;
use std::task::{Context, Poll, ready};

use h2::server::SendResponse;
use h2::{Reason, RecvStream};
use http::header::{CONTENT_LENGTH, DATE};
use http::{HeaderMap, Response, StatusCode};
use landfall_ingress_model::fields::{Fields, HeaderEdits};

use super::{ClientError, Presence, Reply};
use crate::engine::body::{Length, Part};
use crate::engine::clock::Clock;
use crate::engine::h2_stream::{Outgoing, poll_incoming};
use crate::engine::load::{Load, Piece, Turn};

/// The client of one HTTP/2 exchange.
pub(in crate::engine) struct Http2Client {
    body: RecvStream,
    /// What was read of the body and is not yet allowed to be sent again.
    taken: usize,
    respond: SendResponse<Piece>,
    /// What all streams of the connection hold.
    load: Arc<Load>,
    answer: Option<Outgoing>,
    /// The request has been read to its end.
    read: bool,
    whole: bool,
    sent: u64,
    clock: Clock,
}

impl Http2Client {
    pub(in crate::engine) fn new(
        body: RecvStream,
        respond: SendResponse<Piece>,
        load: Arc<Load>,
        clock: Clock,
    ) -> Self {
        let read = body.is_end_stream();
        Self { body, taken: 0, respond, load, answer: None, read, whole: false, sent: 0, clock }
    }

    /// Whether the request has been read to its end.
    pub(in crate::engine) fn is_read(&self) -> bool {
        self.read
    }

    pub(in crate::engine) fn poll_part(&mut self, cx: &mut Context<'_>) -> Poll<Result<Part, ClientError>> {
        let part = ready!(poll_incoming(&mut self.body, &mut self.taken, cx)).map_err(gone)?;
        self.load.take(part.len());
        self.read |= part.is_final();
        Poll::Ready(Ok(part))
    }

    pub(super) fn presence(&mut self, cx: &mut Context<'_>) -> Presence {
        let reset = match &mut self.answer {
            Some(answer) => answer.poll_reset(cx),
            None => self.respond.poll_reset(cx),
        };
        if reset.is_ready() { Presence::Gone } else { Presence::Here }
    }

    pub(super) fn inform(&mut self, status: StatusCode, fields: &Fields, edits: &HeaderEdits) {
        let mut response = Response::new(());
        *response.status_mut() = status;
        *response.headers_mut() = fields.edited(edits);
        // Whoever can't get it is told of it by the final response.
        let _ = self.respond.send_informational(response);
    }

    pub(super) fn reply(&mut self, reply: &Reply<'_>) -> Result<(), ClientError> {
        let mut response = Response::new(());
        *response.status_mut() = reply.status;
        let mut fields = reply.fields.edited(reply.edits);
        if let Some(length) = reply.declared {
            fields.insert(CONTENT_LENGTH, length.into());
        }
        if !fields.contains_key(DATE)
            && let Some(date) = self.clock.value()
        {
            fields.insert(DATE, date);
        }
        *response.headers_mut() = fields;
        let ends = matches!(reply.body, Length::None | Length::Known(0));
        let stream = self.respond.send_response(response, ends).map_err(gone)?;
        self.answer = Some(Outgoing::response(stream, Turn::new(&self.load)));
        self.whole = ends;
        Ok(())
    }

    pub(super) fn poll_room(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), ClientError>> {
        match &mut self.answer {
            Some(answer) if !self.whole => answer.poll_room(cx).map_err(gone),
            _ => Poll::Ready(Ok(())),
        }
    }

    pub(super) fn write(&mut self, part: Part) -> Result<(), ClientError> {
        let Some(answer) = self.answer.as_mut().filter(|_| !self.whole) else { return Ok(()) };
        self.sent += part.len() as u64;
        self.whole = part.is_final();
        answer.write(part).map_err(gone)
    }

    pub(super) fn poll_flush(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), ClientError>> {
        match &mut self.answer {
            Some(answer) => {
                answer.pass();
                answer.poll_flush(cx).map_err(gone)
            }
            None => Poll::Ready(Ok(())),
        }
    }

    /// Bytes of bodies that are held for it here. What the connection holds is counted there.
    pub(super) fn held(&mut self) -> usize {
        let upward = if self.read { 0 } else { self.body.flow_control().used_capacity() };
        upward + self.answer.as_ref().map_or(0, Outgoing::held)
    }

    /// Bytes of the answer that it had a window for so far.
    pub(super) fn progress(&self) -> u64 {
        self.answer.as_ref().map_or(0, Outgoing::handed)
    }

    pub(super) fn has_answer(&self) -> bool {
        self.answer.is_some()
    }

    /// Ends the answer with these trailers instead of what was to come.
    pub(in crate::engine) fn end_with(&mut self, trailers: HeaderMap) -> bool {
        self.answer.as_mut().filter(|_| !self.whole).is_some_and(|answer| {
            self.whole = true;
            answer.write(Part::Trailers(trailers)).is_ok()
        })
    }

    pub(super) fn cut_off(&mut self) {
        self.whole = true;
        match &mut self.answer {
            Some(answer) => answer.reset(Reason::INTERNAL_ERROR),
            None => self.respond.send_reset(Reason::INTERNAL_ERROR),
        }
    }

    pub(super) fn sent(&self) -> u64 {
        self.sent
    }
}

fn gone(error: h2::Error) -> ClientError {
    ClientError::Gone(error.into_io().unwrap_or_else(|| io::ErrorKind::ConnectionReset.into()))
}
