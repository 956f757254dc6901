//! Leaving without anybody noticing: first not ready, then no new work, then gone.

use std::sync::Arc;
use std::time::Duration;

use futures::FutureExt;
use futures::future::OptionFuture;
use tokio::signal::unix::{SignalKind, signal};
use tokio::sync::{Notify, watch};
use tokio::time::{Instant, sleep_until};

/// How far the program is on its way out. Phases only advance.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug)]
pub enum Phase {
    /// Working.
    Running,
    /// Not ready any more, but everything is still accepted, until the rest of the world has noticed.
    LameDuck,
    /// Nothing new is accepted; what is under way may finish until the deadline.
    Draining {
        /// Until then newcomers are left without an answer, not refused: whoever tries again finds the next node.
        handover: Instant,
        /// When the rest is cut off.
        deadline: Instant,
    },
    /// Whatever is left ends now.
    Done,
}

/// The phase as every part of the program sees it. Clones share it.
#[derive(Clone, Debug)]
pub struct Drain {
    phase: watch::Receiver<Phase>,
    /// Told when draining begins. Each connection waits for that, so it takes little memory.
    begun: Arc<Notify>,
}

/// How long the phases last.
#[derive(Clone, Copy, Debug, Default)]
pub struct DrainTimes {
    /// Not ready, but still accepting.
    pub lame_duck: Duration,
    /// Afterwards: newcomers get no answer rather than a refusal.
    pub handover: Duration,
    /// Afterwards, the handover included: what is under way may finish.
    pub timeout: Duration,
}

/// Moves the phase on.
#[derive(Debug)]
pub struct Drainer {
    phase: watch::Sender<Phase>,
    begun: Arc<Notify>,
    times: DrainTimes,
}

impl Drain {
    /// A drain and the handle that starts it.
    pub fn new(times: DrainTimes) -> (Drainer, Self) {
        let (sender, receiver) = watch::channel(Phase::Running);
        let begun = Arc::new(Notify::new());
        (Drainer { phase: sender, begun: begun.clone(), times }, Self { phase: receiver, begun })
    }

    /// The phase now.
    pub fn phase(&self) -> Phase {
        *self.phase.borrow()
    }

    /// Whether nobody has asked the program to leave. Costs next to nothing.
    pub fn is_running(&self) -> bool {
        // Of what these receivers are clones, none has looked at a later phase.
        matches!(self.phase.has_changed(), Ok(false))
    }

    /// Returns once `wanted` or a later phase is reached. Two `Draining` phases count as the same.
    pub fn reached(&self, wanted: Phase) -> impl Future<Output = ()> + Send + use<> {
        let (mut phase, wanted) = (self.phase.clone(), rank(wanted));
        async move {
            // An ended sender has nothing more to say; the program is over then.
            let _ = phase.wait_for(|now| rank(*now) >= wanted).await;
        }
    }

    /// Returns once nothing new is to be accepted.
    pub fn draining(&self) -> impl Future<Output = ()> + Send + use<> {
        // Whoever is told before the phase is looked at is told of everything after it.
        let told = self.begun.clone().notified_owned();
        let is_over = matches!(self.phase(), Phase::Draining { .. } | Phase::Done);
        OptionFuture::from((!is_over).then_some(told)).map(drop)
    }

    /// Until when newcomers are left without an answer, while that is in the future.
    pub fn handover(&self) -> Option<Instant> {
        match self.phase() {
            Phase::Draining { handover, .. } if handover > Instant::now() => Some(handover),
            _ => None,
        }
    }

    /// The channel itself, for those who wait for several things at once.
    pub fn watch(&self) -> watch::Receiver<Phase> {
        self.phase.clone()
    }
}

fn rank(phase: Phase) -> u8 {
    match phase {
        Phase::Running => 0,
        Phase::LameDuck => 1,
        Phase::Draining { .. } => 2,
        Phase::Done => 3,
    }
}

impl Drop for Drainer {
    /// Nobody moves the phases on any more, so the program is over.
    fn drop(&mut self) {
        self.phase.send_replace(Phase::Done);
        self.begun.notify_waiters();
    }
}

impl Drainer {
    /// Waits for SIGTERM or SIGINT, then goes through the phases. A second signal ends at once.
    ///
    /// `idle` is awaited while draining: as soon as it returns, nothing is left to wait for.
    pub async fn on_signals(self, idle: impl Future<Output = ()>) -> std::io::Result<()> {
        let mut terminate = signal(SignalKind::terminate())?;
        let mut interrupt = signal(SignalKind::interrupt())?;
        tokio::select! {
            _ = terminate.recv() => {}
            _ = interrupt.recv() => {}
        }
        tokio::select! {
            () = self.run(idle) => {}
            _ = terminate.recv() => {}
            _ = interrupt.recv() => {}
        }
        // Which is over with that.
        drop(self);
        Ok(())
    }

    /// Goes through the phases now.
    pub async fn run(&self, idle: impl Future<Output = ()>) {
        let DrainTimes { lame_duck, handover, timeout } = self.times;
        tracing::info!(seconds = lame_duck.as_secs_f64(), "not ready any more, still accepting");
        self.phase.send_replace(Phase::LameDuck);
        sleep_until(Instant::now() + lame_duck).await;
        let now = Instant::now();
        let deadline = now + timeout;
        tracing::info!(seconds = timeout.as_secs_f64(), "draining");
        self.phase.send_replace(Phase::Draining { handover: now + handover, deadline });
        self.begun.notify_waiters();
        tokio::select! {
            () = idle => tracing::info!("drained"),
            () = sleep_until(deadline) => tracing::warn!("drain deadline reached, the rest is cut off"),
        }
        self.phase.send_replace(Phase::Done);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn times(lame_duck: u64, timeout: u64) -> DrainTimes {
        let handover = Duration::from_secs(1);
        DrainTimes { lame_duck: Duration::from_secs(lame_duck), handover, timeout: Duration::from_secs(timeout) }
    }

    #[tokio::test(start_paused = true)]
    async fn phases_come_in_order_and_end_when_idle() {
        let (drainer, drain) = Drain::new(times(5, 30));
        assert_eq!(drain.phase(), Phase::Running);
        let start = Instant::now();
        let watcher = drain.clone();
        let seen = tokio::spawn(async move {
            watcher.reached(Phase::LameDuck).await;
            let lame_duck = start.elapsed();
            watcher.draining().await;
            assert_eq!(watcher.handover(), Some(Instant::now() + Duration::from_secs(1)));
            tokio::time::sleep(Duration::from_secs(1)).await;
            assert_eq!(watcher.handover(), None);
            (lame_duck, start.elapsed())
        });
        drainer.run(tokio::time::sleep(Duration::from_secs(7))).await;
        assert_eq!(drain.phase(), Phase::Done);
        assert_eq!(seen.await.unwrap(), (Duration::ZERO, Duration::from_secs(6)));
        assert_eq!(start.elapsed(), Duration::from_secs(7));
    }

    #[tokio::test(start_paused = true)]
    async fn the_deadline_ends_what_never_gets_idle() {
        let (drainer, _drain) = Drain::new(times(1, 2));
        let start = Instant::now();
        drainer.run(std::future::pending()).await;
        assert_eq!(start.elapsed(), Duration::from_secs(3));
    }
}
