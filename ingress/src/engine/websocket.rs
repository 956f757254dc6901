//! Sends WebSockets away while the program leaves.
//!
//! A WebSocket can't be handed over, and cutting it at the end of the drain looks to its client like a fault. So
//! between two frames of the endpoint a close frame of ours says 1001, "going away" (RFC 6455 section 7.4.1), upon
//! which clients connect again. What the client answers goes to the endpoint and ends it there too.

use std::fmt;
use std::task::Context;
use std::time::Duration;

use landfall_shared::drain::{Drain, Phase};
use tokio::time::{Instant, sleep};

use super::draining::Draining;

/// An unmasked close frame with status 1001.
const GOING_AWAY: &[u8] = &[0x88, 2, 0x03, 0xe9];
/// The end of the drain is left for the closing handshake.
const HANDSHAKE: Duration = Duration::from_secs(1);
/// Soon enough for the closing handshakes to be over when an address can move at the earliest.
const HANDOVER_SPREAD: Duration = Duration::from_millis(100);

/// The bytes that go to the client of a WebSocket, as far as it matters for a frame of our own between them.
pub(super) struct Away {
    sent_head: HeadEnd,
    frames: Frames,
    drain: Drain,
    wait: Draining<Box<dyn Future<Output = ()> + Send + Sync>>,
    state: State,
}

#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum State {
    Open,
    /// The client is to be sent away as soon as a frame ends.
    Due,
    /// It has been; nothing may follow.
    Closed,
}

impl Away {
    /// For a connection whose client is about to get the head of its answer 101.
    pub(super) fn new(drain: Drain) -> Self {
        let wait = moment(drain.clone());
        Self::at(drain, wait)
    }

    /// Sends the client away once `wait` is over, which it never is before the drain begins.
    fn at(drain: Drain, wait: impl Future<Output = ()> + Send + Sync + 'static) -> Self {
        let (sent_head, frames) = (HeadEnd::default(), Frames::default());
        Self { sent_head, frames, drain, wait: Draining::new(Box::pin(wait)), state: State::Open }
    }

    /// For a connection whose client has got that head.
    pub(super) fn behind_head(drain: Drain) -> Self {
        Self { sent_head: HeadEnd { matched: HeadEnd::END.len() }, ..Self::new(drain) }
    }

    /// Notes the time. The close frame, when it is time for it and the client expects a frame.
    pub(super) fn poll(&mut self, cx: &mut Context<'_>) -> Option<&'static [u8]> {
        if self.state == State::Open && self.wait.has_come(&self.drain, cx) {
            self.state = State::Due;
        }
        let now = self.state == State::Due && self.sent_head.is_over() && self.frames.at_boundary();
        now.then_some(GOING_AWAY)
    }

    /// The close frame was sent.
    pub(super) fn closed(&mut self) {
        self.state = State::Closed;
    }

    /// How much of `data` may go to the client before [`Self::poll`] is asked again; `None`: nothing ever.
    pub(super) fn share(&self, data: &[u8]) -> Option<usize> {
        match self.state {
            State::Open => Some(data.len()),
            State::Due => {
                let head = self.sent_head.clone().advance(data);
                let frame = self.frames.clone().advance(data.get(head..).unwrap_or_default());
                Some(head + frame)
            }
            State::Closed => None,
        }
    }

    /// `data` went to the client.
    pub(super) fn passed(&mut self, data: &[u8]) {
        let mut rest = data.get(self.sent_head.advance(data)..).unwrap_or_default();
        while !rest.is_empty() {
            rest = rest.get(self.frames.advance(rest)..).unwrap_or_default();
        }
    }
}

impl fmt::Debug for Away {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Away").field("frames", &self.frames).field("state", &self.state).finish_non_exhaustive()
    }
}

/// Returns at a moment of the drain's second half, another one for each connection: clients that all came back at once
/// would be a burst that nobody asked for. Before a handover there is no such choice: whatever is open when the address
/// moves is cut.
async fn moment(drain: Drain) {
    drain.draining().await;
    if drain.handover().is_some() {
        sleep(HANDOVER_SPREAD.mul_f64(rand::random())).await;
        return;
    }
    let Phase::Draining { deadline, .. } = drain.phase() else { return };
    let left = deadline.saturating_duration_since(Instant::now());
    let spread = (left / 2).saturating_sub(HANDSHAKE.min(left / 4));
    sleep(left / 2 + spread.mul_f64(rand::random())).await;
}

/// Finds the empty line that ends the head of an answer.
#[derive(Clone, Default, Debug)]
struct HeadEnd {
    matched: usize,
}

impl HeadEnd {
    const END: &[u8] = b"\r\n\r\n";

    fn is_over(&self) -> bool {
        self.matched == Self::END.len()
    }

    /// How many bytes of `data` belong to the head.
    fn advance(&mut self, data: &[u8]) -> usize {
        let mut taken = 0;
        for byte in data {
            if self.is_over() {
                break;
            }
            taken += 1;
            self.matched = match Self::END.get(self.matched) {
                Some(expected) if expected == byte => self.matched + 1,
                _ => usize::from(*byte == b'\r'),
            };
        }
        taken
    }
}

/// Finds the ends of frames (RFC 6455 section 5.2).
#[derive(Clone, Default, Debug)]
struct Frames {
    head: [u8; 14],
    had: usize,
    payload: u64,
}

impl Frames {
    fn at_boundary(&self) -> bool {
        self.had == 0 && self.payload == 0
    }

    /// The length of the head, as far as its first two bytes are known: flags, length, longer length, mask.
    fn head_length(&self) -> usize {
        if self.had < 2 {
            return 2;
        }
        let longer = match self.head[1] & 0x7f {
            126 => 2,
            127 => 8,
            _ => 0,
        };
        2 + longer + if self.head[1] & 0x80 == 0 { 0 } else { 4 }
    }

    fn payload_length(&self) -> u64 {
        let [_, short, long @ ..] = self.head;
        match short & 0x7f {
            126 => u64::from(u16::from_be_bytes([long[0], long[1]])),
            127 => long.iter().take(8).fold(0, |length, byte| length << 8 | u64::from(*byte)),
            short => u64::from(short),
        }
    }

    /// How many bytes of `data` belong to the frame that is under way or begins with them.
    fn advance(&mut self, data: &[u8]) -> usize {
        let mut taken = 0;
        if self.payload == 0 {
            for byte in data {
                self.head[self.had] = *byte;
                self.had += 1;
                taken += 1;
                if self.had == self.head_length() {
                    self.payload = self.payload_length();
                    self.had = 0;
                    break;
                }
            }
        }
        let rest = (data.len() - taken) as u64;
        let of_payload = self.payload.min(rest);
        self.payload -= of_payload;
        // Not more than the length of `data`.
        taken + usize::try_from(of_payload).unwrap_or(usize::MAX)
    }
}

/// Whether an upgrade to `protocol` makes a WebSocket.
pub(super) fn is_websocket(protocol: Option<&[u8]>) -> bool {
    protocol.is_some_and(|protocol| protocol.eq_ignore_ascii_case(b"websocket"))
}

#[cfg(test)]
mod tests;
