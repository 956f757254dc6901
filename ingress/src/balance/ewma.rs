//! How long an endpoint takes to answer, as an average in which what is old counts less and less.

use std::sync::atomic::{AtomicU64, Ordering::Relaxed};

/// After this time, in milliseconds, what was observed counts 1/e of what it did; ingress-nginx has the same.
const DECAY: f64 = 10_000.0;

/// The average of one endpoint, in atomics: two that write at once lose one observation, which no average minds.
#[derive(Debug, Default)]
pub(super) struct Ewma {
    /// Milliseconds, as the bits of an `f64`.
    average: AtomicU64,
    /// When it was written, in milliseconds of the epoch.
    at: AtomicU64,
}

impl Ewma {
    /// The average, decayed to `now`: an endpoint that nobody has asked for a while is tried again.
    pub(super) fn score(&self, now: u64) -> f64 {
        f64::from_bits(self.average.load(Relaxed)) * self.weight(now)
    }

    /// Notes that an answer took so many milliseconds.
    pub(super) fn observe(&self, took: f64, now: u64) {
        let weight = self.weight(now);
        let average = f64::from_bits(self.average.load(Relaxed)) * weight + took * (1.0 - weight);
        self.set(average, now);
    }

    /// Begins with the average of others, so that a new endpoint does not get everything at first.
    pub(super) fn set(&self, average: f64, now: u64) {
        self.average.store(average.to_bits(), Relaxed);
        self.at.store(now, Relaxed);
    }

    /// When it was written; 0 where nothing was observed.
    pub(super) fn at(&self) -> u64 {
        self.at.load(Relaxed)
    }

    /// How much of what was observed still counts.
    fn weight(&self, now: u64) -> f64 {
        // Within one millisecond something has to count of what is new.
        let passed = u32::try_from(now.saturating_sub(self.at.load(Relaxed)).max(1)).unwrap_or(u32::MAX);
        (-f64::from(passed) / DECAY).exp()
    }
}
