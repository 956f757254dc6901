//! How many frames a client may send that do nothing.
//!
//! PING, SETTINGS, PRIORITY, `WINDOW_UPDATE` and resets cost their sender next to nothing and us a little each. A client
//! that also asks for something, or is sent something, needs some of them; one that sends nothing else is asked to
//! calm down (RFC 9113 section 10.5).

use std::sync::Mutex;
use std::sync::PoisonError;
use std::sync::atomic::{AtomicBool, Ordering::Relaxed};
use std::time::Instant;

/// Idle frames that may come at once.
const MOST: u32 = 4000;
/// What a frame that does something is worth.
const USEFUL: u32 = 20;
/// What something sent to the client is worth: it may answer that with a window update and a PING.
const SENT: u32 = 8;
/// What a second is worth.
const SECOND: u32 = 20;

/// Length, type, flags and stream of a frame (RFC 9113 section 4.1).
const HEAD: usize = 9;
const DATA: u8 = 0;
const HEADERS: u8 = 1;

/// The patience with one connection.
#[derive(Debug)]
pub(super) struct Patience {
    over: AtomicBool,
    state: Mutex<State>,
}

#[derive(Debug)]
struct State {
    left: u32,
    refilled: Instant,
    head: [u8; HEAD],
    had: usize,
    payload: usize,
}

impl Default for Patience {
    fn default() -> Self {
        let state = State { left: MOST, refilled: Instant::now(), head: [0; HEAD], had: 0, payload: 0 };
        Self { over: AtomicBool::new(false), state: Mutex::new(state) }
    }
}

impl Patience {
    /// Whether it has come to its end.
    pub(super) fn is_over(&self) -> bool {
        self.over.load(Relaxed)
    }

    /// Something was sent to the client.
    pub(super) fn sent(&self) {
        let mut state = self.state.lock().unwrap_or_else(PoisonError::into_inner);
        state.left = (state.left + SENT).min(MOST);
    }

    /// Looks at bytes that came from the client, behind the preface.
    pub(super) fn came(&self, bytes: &[u8]) {
        let mut state = self.state.lock().unwrap_or_else(PoisonError::into_inner);
        if !state.advance(bytes) {
            self.over.store(true, Relaxed);
        }
    }
}

impl State {
    fn advance(&mut self, bytes: &[u8]) -> bool {
        let mut rest = bytes;
        while !rest.is_empty() {
            if self.payload > 0 {
                let skipped = self.payload.min(rest.len());
                self.payload -= skipped;
                rest = rest.get(skipped..).unwrap_or_default();
                continue;
            }
            let wanted = (HEAD - self.had).min(rest.len());
            let (taken, left) = rest.split_at(wanted);
            if let Some(place) = self.head.get_mut(self.had..self.had + wanted) {
                place.copy_from_slice(taken);
            }
            self.had += wanted;
            rest = left;
            if self.had == HEAD {
                self.had = 0;
                if !self.frame() {
                    return false;
                }
            }
        }
        true
    }

    /// Counts a frame whose head is whole; false when there is no patience left.
    fn frame(&mut self) -> bool {
        let [high, middle, low, kind, ..] = self.head;
        self.payload = usize::from(high) << 16 | usize::from(middle) << 8 | usize::from(low);
        if kind == HEADERS || (kind == DATA && self.payload > 0) {
            self.left = (self.left + USEFUL).min(MOST);
            return true;
        }
        if self.left == 0 {
            self.refill();
        }
        self.left = self.left.saturating_sub(1);
        self.left > 0
    }

    /// A connection that is kept for hours and asked once a second whether it stands is no flood.
    fn refill(&mut self) {
        let seconds = u32::try_from(self.refilled.elapsed().as_secs()).unwrap_or(u32::MAX);
        self.left = seconds.saturating_mul(SECOND).min(MOST);
        self.refilled = Instant::now();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const PING: [u8; 17] = [0, 0, 8, 6, 0, 0, 0, 0, 0, 1, 2, 3, 4, 5, 6, 7, 8];

    #[test]
    fn pings_alone_are_a_flood_however_they_are_cut() {
        for size in [1, 5, 17, 4096] {
            let patience = Patience::default();
            let flood = PING.repeat(5000);
            for piece in flood.chunks(size) {
                patience.came(piece);
            }
            assert!(patience.is_over(), "{size}");
        }
    }

    #[test]
    fn pings_beside_requests_are_none() {
        let patience = Patience::default();
        let request = [0, 0, 1, HEADERS, 5, 0, 0, 0, 1, 0x82];
        for _ in 0..5000 {
            patience.came(&request);
            for _ in 0..5 {
                patience.came(&PING);
            }
        }
        assert!(!patience.is_over());
    }
}
