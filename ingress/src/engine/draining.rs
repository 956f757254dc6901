//! The news that the program is leaving, as a connection waits for it.

use std::ops::DerefMut;
use std::pin::Pin;
use std::task::Context;

use landfall_shared::drain::Drain;

/// May be asked as often as the connection is woken, and again when the news has come.
pub(super) struct Draining<P> {
    /// Made once, since each making, asking and dropping of it takes a lock that all workers share.
    future: Pin<P>,
    over: bool,
    /// Whom the news wakes, as the place in memory of its task; 0 for nobody.
    wakes: usize,
}

impl<P: DerefMut<Target: Future<Output = ()>>> Draining<P> {
    /// Waits for a future that is not over before the program is asked to leave.
    pub(super) fn new(future: Pin<P>) -> Self {
        Self { future, over: false, wakes: 0 }
    }

    /// Whether it has come; if not, the task is woken when it does.
    pub(super) fn has_come(&mut self, drain: &Drain, cx: &mut Context<'_>) -> bool {
        let whom = cx.waker().data() as usize;
        if self.over || (self.wakes == whom && drain.is_running()) {
            return self.over;
        }
        self.over = self.future.as_mut().poll(cx).is_ready();
        self.wakes = whom;
        self.over
    }
}
