//! The body of a request on its way to an endpoint, and what of it is kept for another one.

use std::task::{Context, Poll, ready};

use bytes::{Bytes, BytesMut};

use crate::engine::body::{Length, Part};
use crate::engine::client::{Client, ClientError};
use crate::engine::upstream::{Upstream, UpstreamError};

/// Bytes of a request's body that are kept, to be sent again to another endpoint.
const REPEATABLE: usize = 64 * 1024;
/// Data up to here is copied to be kept.
const SMALL: usize = 8 * 1024;

/// The body of a request on its way.
pub(super) struct Upload {
    limit: Option<u64>,
    received: u64,
    state: State,
    /// What was sent, as long as it may be sent again.
    kept: Vec<Kept>,
    kept_bytes: usize,
    keeps: bool,
    whole: bool,
    /// How many of `kept` this attempt has sent.
    sent: usize,
    bodiless: bool,
}

/// A part that may be sent again.
enum Kept {
    /// One as it came.
    Whole(Part),
    /// Data of several small ones: each of them would keep the whole space alive that it was read into.
    Gathered(BytesMut),
}

impl Kept {
    fn part(&self) -> Part {
        match self {
            Self::Whole(part) => part.clone(),
            Self::Gathered(data) => Part::Data(Bytes::copy_from_slice(data)),
        }
    }
}

#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum State {
    /// More is to come.
    Active,
    /// All of it was written, and is to be sent.
    Flushing,
    Done,
    /// The endpoint takes no more, which it may have answered already.
    Broken,
}

/// Whom a direction waits for.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum Waits {
    Client,
    Endpoint,
    Nobody,
}

pub(super) enum UploadError {
    Client(ClientError),
    Endpoint(UpstreamError),
    TooLarge,
}

impl Upload {
    pub(super) fn new(length: Length, limit: Option<u64>) -> Self {
        Self {
            limit,
            received: 0,
            state: State::Active,
            kept: Vec::new(),
            kept_bytes: 0,
            keeps: true,
            whole: true,
            sent: 0,
            bodiless: length == Length::None,
        }
    }

    /// Begins an attempt with what earlier ones have sent.
    pub(super) fn begin(&mut self, keeps: bool) {
        self.state = if self.bodiless { State::Flushing } else { State::Active };
        self.keeps = keeps && self.whole;
        self.sent = 0;
    }

    /// Bytes of the body that have come from the client.
    pub(super) fn received(&self) -> u64 {
        self.received
    }

    /// The body, if it has come to its end and was kept whole.
    pub(super) fn whole_body(&self) -> Option<Bytes> {
        if !self.whole || !matches!(self.kept.last(), Some(Kept::Whole(part)) if part.is_final()) {
            return None;
        }
        let mut body = BytesMut::with_capacity(self.kept_bytes);
        for kept in &self.kept {
            match kept {
                Kept::Gathered(data) => body.extend_from_slice(data),
                Kept::Whole(Part::Data(data) | Part::Last(data)) => body.extend_from_slice(data),
                Kept::Whole(Part::Trailers(_) | Part::End) => {}
            }
        }
        Some(body.freeze())
    }

    /// Whether all that was sent can be sent again.
    pub(super) fn is_repeatable(&self) -> bool {
        self.whole
    }

    /// The endpoint takes no more.
    pub(super) fn give_up(&mut self) {
        self.state = State::Broken;
    }

    pub(super) fn is_broken(&self) -> bool {
        self.state == State::Broken
    }

    pub(super) fn is_over(&self) -> bool {
        matches!(self.state, State::Done | State::Broken)
    }

    /// Passes on what there is. Whether anything did goes to `moved`.
    pub(super) fn poll(
        &mut self,
        client: &mut Client<'_>,
        upstream: &mut Upstream,
        moved: &mut bool,
        waits: &mut Waits,
        cx: &mut Context<'_>,
    ) -> Poll<Result<(), UploadError>> {
        loop {
            match self.state {
                State::Active => {
                    *waits = Waits::Endpoint;
                    ready!(upstream.poll_room(cx)).map_err(UploadError::Endpoint)?;
                    let part = if let Some(kept) = self.kept.get(self.sent) {
                        self.sent += 1;
                        kept.part()
                    } else if let Poll::Ready(part) = client.poll_part(cx) {
                        let part = part.map_err(UploadError::Client)?;
                        self.take(&part)?;
                        part
                    } else {
                        ready!(upstream.poll_flush(cx)).map_err(UploadError::Endpoint)?;
                        *waits = Waits::Client;
                        return Poll::Pending;
                    };
                    *moved = true;
                    if part.is_final() {
                        self.state = State::Flushing;
                    }
                    upstream.write(part).map_err(UploadError::Endpoint)?;
                }
                State::Flushing => {
                    *waits = Waits::Endpoint;
                    ready!(upstream.poll_flush(cx)).map_err(UploadError::Endpoint)?;
                    *moved = true;
                    self.state = State::Done;
                }
                State::Done | State::Broken => {
                    *waits = Waits::Nobody;
                    return Poll::Ready(Ok(()));
                }
            }
        }
    }

    /// Notes a part that came from the client.
    fn take(&mut self, part: &Part) -> Result<(), UploadError> {
        self.received += part.len() as u64;
        if self.limit.is_some_and(|limit| self.received > limit) {
            return Err(UploadError::TooLarge);
        }
        self.kept_bytes += part.len();
        if self.keeps && self.kept_bytes <= REPEATABLE {
            self.keep(part);
            // It goes out in this attempt at once.
            self.sent = self.kept.len();
        } else {
            self.keeps = false;
            self.whole = false;
            self.kept = Vec::new();
        }
        Ok(())
    }

    fn keep(&mut self, part: &Part) {
        match (part, self.kept.last_mut()) {
            (Part::Data(data), Some(Kept::Gathered(gathered))) if data.len() < SMALL => {
                gathered.extend_from_slice(data);
            }
            (Part::Data(data), _) if data.len() < SMALL => self.kept.push(Kept::Gathered(BytesMut::from(&data[..]))),
            _ => self.kept.push(Kept::Whole(part.clone())),
        }
    }

    /// Bytes that are kept to be sent again.
    pub(super) fn held(&self) -> usize {
        if self.kept.is_empty() { 0 } else { self.kept_bytes }
    }
}
