//! How slow a client may be.
//!
//! A pause between two reads or writes has a limit of its own. A client that moves one byte just before that limit would
//! hold its exchange for ever, so it also has to move so much in each minute in which it is waited for. Nothing counts
//! while anybody else is waited for, so a stream of events may be as quiet as it likes.

use std::num::NonZeroU64;
use std::time::Duration;

/// What a client has moved while it was waited for.
#[derive(Debug, Default)]
pub(super) struct Floor {
    waited: Duration,
    moved: u64,
}

impl Floor {
    /// Notes `bytes` that came after the client was waited for so long. Once that has been for `span` in all, it says
    /// whether the client kept to `rate` in bytes a second.
    pub(super) fn holds(&mut self, waited: Duration, bytes: u64, rate: NonZeroU64, span: Duration) -> bool {
        self.waited += waited;
        self.moved += bytes;
        if self.waited < span {
            return true;
        }
        let least = u128::from(rate.get()) * self.waited.as_millis() / 1000;
        let holds = u128::from(self.moved) >= least;
        *self = Self::default();
        holds
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const RATE: NonZeroU64 = NonZeroU64::new(100).unwrap();
    const SPAN: Duration = Duration::from_mins(1);

    fn seconds(number: u64) -> Duration {
        Duration::from_secs(number)
    }

    #[test]
    fn a_trickle_holds_for_a_minute_of_waiting() {
        let mut floor = Floor::default();
        let held = (0..100).take_while(|_| floor.holds(seconds(1), 1, RATE, SPAN)).count();
        assert_eq!(held, 59);
    }

    #[test]
    fn who_is_not_waited_for_is_not_slow() {
        let mut floor = Floor::default();
        assert!((0..10_000).all(|_| floor.holds(Duration::from_millis(1), 1, RATE, SPAN)));
        assert!((0..10_000).all(|_| floor.holds(seconds(1), 100, RATE, SPAN)));
    }

    #[test]
    fn a_fast_beginning_counts_for_its_own_minute_only() {
        let mut floor = Floor::default();
        assert!(floor.holds(seconds(60), 1_000_000, RATE, SPAN));
        assert!(!floor.holds(seconds(60), 5_000, RATE, SPAN));
    }
}
