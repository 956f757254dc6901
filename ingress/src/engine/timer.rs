//! One timer for everything that a connection waits for, one after the other.

use std::pin::Pin;
use std::sync::{Arc, Mutex, PoisonError};
use std::task::{Context, Poll, Waker, ready};

use tokio::task::coop::has_budget_remaining;
use tokio::time::{Instant, Sleep, sleep_until};

/// Made with the first wait, and left where it is when the deadline moves away, as it does with every step of nearly
/// every exchange: setting the runtime's timer wakes the runtime, which costs as much as a read.
#[derive(Debug, Default)]
pub(super) struct Timer {
    sleep: Option<Pin<Box<Sleep>>>,
    /// Whom the runtime's timer wakes, as the place in memory of its task; 0 for nobody.
    wakes: usize,
}

impl Timer {
    /// Ready from `deadline` on.
    pub(super) fn poll_until(&mut self, deadline: Instant, cx: &mut Context<'_>) -> Poll<()> {
        let sleep = self.sleep.get_or_insert_with(|| Box::pin(sleep_until(deadline)));
        let whom = cx.waker().data() as usize;
        if deadline < sleep.deadline() {
            sleep.as_mut().reset(deadline);
        } else if self.wakes == whom && !sleep.is_elapsed() {
            // It is set, and will wake the same task.
            return Poll::Pending;
        }
        loop {
            // A task that has used up its turn is woken at once, and nothing is set for later.
            self.wakes = if has_budget_remaining() { whom } else { 0 };
            ready!(sleep.as_mut().poll(cx));
            if deadline <= sleep.deadline() {
                return Poll::Ready(());
            }
            // It was set for something that is over.
            sleep.as_mut().reset(deadline);
        }
    }
}

/// Timers of one HTTP/2 connection that no stream has in use: the next stream takes one as it is set.
#[derive(Clone, Debug, Default)]
pub(super) struct Timers {
    spare: Arc<Mutex<Vec<Timer>>>,
}

/// Spare timers that a connection keeps.
const MOST_SPARE: usize = 16;

impl Timers {
    pub(super) fn take(&self) -> Timer {
        self.spare.lock().unwrap_or_else(PoisonError::into_inner).pop().unwrap_or_default()
    }

    pub(super) fn put(&self, mut timer: Timer) {
        if let Some(sleep) = &mut timer.sleep {
            // It would keep the stream's task in memory in order to wake it.
            let _ = sleep.as_mut().poll(&mut Context::from_waker(Waker::noop()));
        }
        timer.wakes = 0;
        let mut spare = self.spare.lock().unwrap_or_else(PoisonError::into_inner);
        if spare.len() < MOST_SPARE {
            spare.push(timer);
        }
    }
}

#[cfg(test)]
mod tests {
    use std::future::poll_fn;
    use std::time::Duration;

    use super::*;

    #[tokio::test(start_paused = true)]
    async fn it_is_ready_at_the_deadline_asked_for_last() {
        let (mut timer, start) = (Timer::default(), Instant::now());
        let after = |seconds: u64| start + Duration::from_secs(seconds);
        // It moves away twice, and then nearer than it ever was.
        for deadline in [60, 75] {
            let polled = poll_fn(|cx| Poll::Ready(timer.poll_until(after(deadline), cx))).await;
            assert!(polled.is_pending());
        }
        poll_fn(|cx| timer.poll_until(after(90), cx)).await;
        assert_eq!(start.elapsed().as_secs(), 90);
        let polled = poll_fn(|cx| Poll::Ready(timer.poll_until(after(200), cx))).await;
        assert!(polled.is_pending());
        poll_fn(|cx| timer.poll_until(after(100), cx)).await;
        assert_eq!(start.elapsed().as_secs(), 100);
        let past = poll_fn(|cx| Poll::Ready(timer.poll_until(after(50), cx))).await;
        assert!(past.is_ready());
    }

    #[tokio::test(start_paused = true)]
    async fn a_task_that_has_used_up_its_turn_is_woken_all_the_same() {
        let (mut timer, start) = (Timer::default(), Instant::now());
        let mut is_used_up = false;
        let waited = poll_fn(|cx| {
            while !is_used_up && has_budget_remaining() {
                let _ = std::pin::pin!(tokio::task::coop::consume_budget()).poll(cx);
            }
            is_used_up = true;
            timer.poll_until(start + Duration::from_secs(10), cx)
        });
        let in_time = tokio::time::timeout(Duration::from_mins(1), waited).await;
        assert!(in_time.is_ok() && start.elapsed().as_secs() == 10, "{:?}", start.elapsed());
    }

    #[tokio::test(start_paused = true)]
    async fn a_spare_timer_serves_another_wait() {
        let (timers, start) = (Timers::default(), Instant::now());
        for round in 1..4 {
            let mut timer = timers.take();
            let deadline = start + Duration::from_secs(10 * round);
            poll_fn(|cx| timer.poll_until(deadline, cx)).await;
            assert_eq!(start.elapsed().as_secs(), 10 * round);
            timers.put(timer);
        }
    }
}
