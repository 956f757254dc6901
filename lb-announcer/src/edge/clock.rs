//! The clock that never stands still, and how late the own process runs.

use std::io;
use std::time::Duration;

use nix::time::{ClockId, clock_gettime};
use tokio::time::{Instant, sleep_until};

/// Time since boot, suspended time included (`CLOCK_BOOTTIME`), which no one can set.
pub fn boottime() -> io::Result<Duration> {
    read(ClockId::CLOCK_BOOTTIME)
}

/// Wall-clock time since 1970 (`CLOCK_REALTIME`), the clock of the kernel's receive timestamps.
pub(super) fn realtime() -> io::Result<Duration> {
    read(ClockId::CLOCK_REALTIME)
}

fn read(clock: ClockId) -> io::Result<Duration> {
    Ok(clock_gettime(clock)?.into())
}

/// One tick of a [`Pulse`].
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Tick {
    /// The time since boot at which the process got to run.
    pub now: Duration,
    /// How long after the due time that was: what the scheduler, a stopped process or a suspended host cost.
    pub late: Duration,
}

/// A timer that knows how late it fires, by the clock that also counts suspended time.
///
/// Ticks keep their rhythm; those that were missed altogether are not made up for, and the rhythm starts anew.
pub struct Pulse {
    interval: Duration,
    due: Duration,
}

impl Pulse {
    /// A timer whose first tick is due one `interval` from now.
    pub fn new(interval: Duration) -> io::Result<Self> {
        Ok(Self { interval, due: boottime()? + interval })
    }

    /// How long ago the next tick was due; zero while it is still to come.
    ///
    /// Whoever acts on frames asks this first: a process that was stopped finds out here before its timer fires.
    pub fn lateness(&self) -> io::Result<Duration> {
        Ok(boottime()?.saturating_sub(self.due))
    }

    /// Waits for the next tick. Safe to cancel: the due time stays.
    pub async fn tick(&mut self) -> io::Result<Tick> {
        loop {
            let now = boottime()?;
            if let Some(late) = now.checked_sub(self.due) {
                self.due = if late < self.interval { self.due + self.interval } else { now + self.interval };
                return Ok(Tick { now, late });
            }
            sleep_until(Instant::now() + self.due.saturating_sub(now)).await;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn a_tick_says_how_late_it_is_and_is_not_made_up_for() {
        let mut pulse = Pulse::new(Duration::from_millis(5)).unwrap();
        // Blocks the only thread of the runtime, as a stopped process would.
        std::thread::sleep(Duration::from_millis(40));
        assert!(pulse.lateness().unwrap() >= Duration::from_millis(35));
        let late = pulse.tick().await.unwrap();
        assert!(late.late >= Duration::from_millis(35), "{late:?}");
        assert_eq!(pulse.lateness().unwrap(), Duration::ZERO);
        let next = pulse.tick().await.unwrap();
        assert!(next.now >= late.now + Duration::from_millis(5), "{next:?} after {late:?}");
    }
}
