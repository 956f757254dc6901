//! What is known of one endpoint, in atomics.

use std::sync::OnceLock;
use std::sync::atomic::{AtomicU32, AtomicU64, Ordering::Relaxed};
use std::time::Instant;

use super::ewma::Ewma;

/// The first failure ejects for this long, in milliseconds.
const FIRST: u64 = 1_000;

/// No ejection is longer, in milliseconds.
const LONGEST: u64 = 30_000;

/// Load and health of one endpoint.
#[derive(Debug, Default)]
pub struct EndpointStats {
    in_flight: AtomicU32,
    failures: AtomicU32,
    /// Milliseconds of the [`Epoch`]; 0 means not ejected.
    ejected_until: AtomicU64,
    /// How long it takes to answer, where that counts.
    pub(super) ewma: Ewma,
}

impl EndpointStats {
    /// Requests in flight.
    pub fn in_flight(&self) -> u32 {
        self.in_flight.load(Relaxed)
    }

    /// Failures to connect since the last success.
    pub fn failures(&self) -> u32 {
        self.failures.load(Relaxed)
    }

    pub(super) fn ejected_until(&self) -> u64 {
        self.ejected_until.load(Relaxed)
    }

    pub(super) fn begin(&self) {
        self.in_flight.fetch_add(1, Relaxed);
    }

    pub(super) fn end(&self) {
        self.in_flight.fetch_sub(1, Relaxed);
    }

    pub(super) fn is_ejected(&self, now: u64) -> bool {
        now < self.ejected_until.load(Relaxed)
    }

    pub(super) fn fail(&self, now: u64) {
        if self.is_ejected(now) {
            // Requests that were under way together fail together; they are one failure.
            return;
        }
        let failures = self.failures.fetch_add(1, Relaxed).min(16);
        self.ejected_until.store(now + (FIRST << failures).min(LONGEST), Relaxed);
    }

    pub(super) fn succeed(&self) {
        // Almost every request ends here, so that the cache line is written only when there is news.
        if self.failures.load(Relaxed) != 0 {
            self.failures.store(0, Relaxed);
            self.ejected_until.store(0, Relaxed);
        }
    }
}

/// Turns an [`Instant`] into a number that fits an atomic; begins with the first failure.
#[derive(Debug, Default)]
pub(super) struct Epoch(OnceLock<Instant>);

impl Epoch {
    /// Milliseconds since the first failure; 0 while there was none.
    pub(super) fn millis(&self, now: Instant) -> u64 {
        self.0.get().map_or(0, |start| millis_since(*start, now))
    }

    /// As [`Epoch::millis`], and from now on time counts.
    pub(super) fn begin(&self, now: Instant) -> u64 {
        millis_since(*self.0.get_or_init(|| now), now)
    }
}

fn millis_since(start: Instant, now: Instant) -> u64 {
    u64::try_from(now.saturating_duration_since(start).as_millis()).unwrap_or(u64::MAX / 2)
}
