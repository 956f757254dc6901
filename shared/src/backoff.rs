//! Pauses between tries.

use std::time::Duration;

/// Exponential pauses with jitter, from a tenth of a second up to a limit.
///
/// The jitter keeps the replicas of a fleet from coming back to an API server all at once.
#[derive(Clone, Debug)]
pub(crate) struct Backoff {
    next: Duration,
    limit: Duration,
}

const FIRST: Duration = Duration::from_millis(100);

impl Backoff {
    pub(crate) fn new(limit: Duration) -> Self {
        Self { next: FIRST.min(limit), limit }
    }

    /// The next pause: between half and all of a span that doubles each time.
    pub(crate) fn pause(&mut self) -> Duration {
        let span = self.next;
        self.next = (span * 2).min(self.limit);
        span.mul_f64(rand::random_range(0.5..=1.0))
    }

    pub(crate) fn reset(&mut self) {
        self.next = FIRST.min(self.limit);
    }
}
