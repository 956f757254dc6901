//! What is counted while a class of requests runs.

use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use tokio::time::Instant;

use super::failure::Failure;
use super::report::{ClassReport, Failed, millis};

/// How many failures are kept with their text.
const KEPT: usize = 500;

pub(super) struct Tally {
    begun: Instant,
    counts: Mutex<Counts>,
}

#[derive(Default)]
struct Counts {
    report: ClassReport,
    latencies: Vec<Duration>,
    slowest: Option<(Duration, Instant)>,
    latest: Duration,
}

impl Tally {
    pub(super) fn new(begun: Instant) -> Self {
        Self { begun, counts: Mutex::default() }
    }

    /// A request that was planned for `planned` begins now.
    pub(super) fn started(&self, planned: Instant) {
        let mut counts = self.counts();
        counts.report.started += 1;
        counts.latest = counts.latest.max(planned.elapsed());
    }

    pub(super) fn ok(&self, planned: Instant, backend: Option<String>) {
        let mut counts = self.counts();
        counts.report.ok += 1;
        counts.done(planned);
        if let Some(backend) = backend {
            *counts.report.backends.entry(backend).or_default() += 1;
        }
    }

    pub(super) fn failed(&self, planned: Instant, failure: Failure) {
        let mut counts = self.counts();
        let report = &mut counts.report;
        report.failed += 1;
        *report.failed_by_kind.entry(failure.kind).or_default() += 1;
        if report.failures.len() < KEPT {
            let (planned_ms, at_ms) = (self.since_begun(planned), self.since_begun(Instant::now()));
            report.failures.push(Failed { planned_ms, at_ms, kind: failure.kind, text: failure.text });
        }
        counts.done(planned);
    }

    pub(super) fn opened(&self) {
        self.counts().report.opened += 1;
    }

    pub(super) fn closed_by_server(&self) {
        self.counts().report.closed_by_server += 1;
    }

    pub(super) fn reopened(&self) {
        self.counts().report.reopened += 1;
    }

    pub(super) fn reconnected(&self) {
        self.counts().report.reconnected += 1;
    }

    /// Everything so far.
    pub(super) fn report(&self) -> ClassReport {
        let counts = self.counts();
        let mut sorted = counts.latencies.clone();
        sorted.sort_unstable();
        // The smallest latency that so many of 1,000 do not exceed (nearest rank).
        let rank = |per_mille: usize| {
            let rank = (sorted.len() * per_mille).div_ceil(1000).max(1);
            millis(sorted.get(rank - 1).copied().unwrap_or_default())
        };
        let (slowest, slowest_at) = counts.slowest.unwrap_or((Duration::ZERO, self.begun));
        let mut report = counts.report.clone();
        report.p50_ms = rank(500);
        report.p99_ms = rank(990);
        report.p999_ms = rank(999);
        report.slowest_ms = millis(slowest);
        report.slowest_planned_ms = self.since_begun(slowest_at);
        report.latest_start_ms = millis(counts.latest);
        report
    }

    fn since_begun(&self, at: Instant) -> f64 {
        millis(at.saturating_duration_since(self.begun))
    }

    fn counts(&self) -> MutexGuard<'_, Counts> {
        // Counts are whole after each line; whoever panicked left nothing half done.
        self.counts.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Counts {
    fn done(&mut self, planned: Instant) {
        let took = planned.elapsed();
        self.latencies.push(took);
        if self.slowest.is_none_or(|(slowest, _)| took > slowest) {
            self.slowest = Some((took, planned));
        }
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use super::*;
    use crate::load::Kind;

    #[test]
    fn latencies_count_from_the_planned_moment() {
        let now = Instant::now();
        let ago = |seconds| now.checked_sub(Duration::from_secs(seconds)).expect("the machine has run for a minute");
        let tally = Tally::new(ago(40));
        for (count, seconds) in [(990, 5), (9, 20)] {
            for _ in 0..count {
                tally.started(ago(seconds));
                tally.ok(ago(seconds), (seconds == 5).then(|| "web".to_owned()));
            }
        }
        tally.started(ago(30));
        tally.failed(ago(30), Failure::new(Kind::Lost, "gone"));

        let report = tally.report();
        assert_eq!((report.started, report.ok, report.failed), (1000, 999, 1));
        let latencies = [report.p50_ms, report.p99_ms, report.p999_ms, report.slowest_ms, report.slowest_planned_ms];
        assert_eq!(latencies.map(|ms| format!("{:.0}", (ms / 1000.0).floor())), ["5", "5", "20", "30", "10"]);
        assert_eq!(report.backends, BTreeMap::from([("web".to_owned(), 990)]));
        let failures: Vec<_> = report.failures.iter().map(|failed| (failed.kind, failed.text.as_str())).collect();
        assert_eq!(failures, [(Kind::Lost, "gone")]);
    }
}
