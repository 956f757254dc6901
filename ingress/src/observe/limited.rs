//! Log lines that would come by the thousand.

use std::sync::{Mutex, PoisonError};
use std::time::{Duration, Instant};

/// Pause between two lines.
const PAUSE: Duration = Duration::from_secs(10);

/// Lets one line pass in a while, and counts the others.
#[derive(Debug, Default)]
pub(super) struct Limited {
    state: Mutex<State>,
}

#[derive(Debug, Default)]
struct State {
    last: Option<Instant>,
    dropped: u64,
}

impl Limited {
    /// Whether a line may be written now: with the number of those that were left out since the last one.
    pub(super) fn pass(&self, now: Instant) -> Option<u64> {
        let mut state = self.state.lock().unwrap_or_else(PoisonError::into_inner);
        if state.last.is_some_and(|last| now.saturating_duration_since(last) < PAUSE) {
            state.dropped += 1;
            return None;
        }
        state.last = Some(now);
        Some(std::mem::take(&mut state.dropped))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn one_line_passes_and_says_how_many_did_not() {
        let (limited, start) = (Limited::default(), Instant::now());
        assert_eq!(limited.pass(start), Some(0));
        for millis in 0..500 {
            assert_eq!(limited.pass(start + Duration::from_millis(millis)), None);
        }
        assert_eq!(limited.pass(start + PAUSE), Some(500));
        assert_eq!(limited.pass(start + PAUSE + PAUSE), Some(0));
    }
}
