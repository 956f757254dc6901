//! How fast the body of an answer is sent, where a route limits that.

use std::pin::Pin;
use std::task::{Context, Poll};
use std::time::Duration;

use landfall_ingress_model::policy::Pace;
use tokio::time::{Instant, Sleep, sleep_until};

/// The pace of one body.
pub(super) struct Pacer {
    pace: Pace,
    begun: Instant,
    sent: u64,
    sleep: Option<Pin<Box<Sleep>>>,
}

impl Pacer {
    pub(super) fn new(pace: Pace, now: Instant) -> Self {
        Self { pace, begun: now, sent: 0, sleep: None }
    }

    /// Counts what was sent.
    pub(super) fn sent(&mut self, bytes: usize) {
        self.sent += bytes as u64;
    }

    /// When more may be sent.
    pub(super) fn due(&self) -> Instant {
        self.begun + wait(self.pace, self.sent)
    }

    /// Ready when more may be sent.
    pub(super) fn poll_ready(&mut self, cx: &mut Context<'_>) -> Poll<()> {
        let due = self.due();
        if due <= self.begun {
            return Poll::Ready(());
        }
        let sleep = self.sleep.get_or_insert_with(|| Box::pin(sleep_until(due)));
        if sleep.deadline() != due {
            sleep.as_mut().reset(due);
        }
        sleep.as_mut().poll(cx)
    }
}

/// How long after the beginning of a body more may be sent than `sent` bytes.
fn wait(pace: Pace, sent: u64) -> Duration {
    let counted = u128::from(sent.saturating_sub(pace.after));
    let millis = counted * 1000 / u128::from(pace.bytes_per_second.get());
    Duration::from_millis(u64::try_from(millis).unwrap_or(u64::MAX))
}

#[cfg(test)]
mod tests {
    use std::num::NonZeroU64;

    use super::*;

    #[test]
    fn what_comes_first_is_free_and_the_rest_takes_its_time() {
        let pace = Pace { bytes_per_second: NonZeroU64::new(1000).unwrap(), after: 500 };
        let waits = [0, 500, 501, 1500, 10_500].map(|sent| wait(pace, sent).as_millis());
        assert_eq!(waits, [0, 0, 1, 1000, 10_000]);
    }
}
