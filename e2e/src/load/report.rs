//! What a load came to.

use std::collections::BTreeMap;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use serde::{Deserialize, Serialize};

use super::{Class, Kind};

/// Everything, by class of request.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Report {
    /// When the load began, in milliseconds of Unix time; all other times count from there.
    pub begun_unix_ms: u64,
    /// How long requests were planned for, in seconds.
    pub seconds: f64,
    /// Each class that was asked for.
    pub classes: BTreeMap<Class, ClassReport>,
}

/// What one class of requests came to. `started` is `ok` and `failed` together.
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
pub struct ClassReport {
    /// Requests or messages that were begun.
    pub started: u64,
    /// Those that got the right answer in time.
    pub ok: u64,
    /// Those that did not.
    pub failed: u64,
    /// The same by kind.
    pub failed_by_kind: BTreeMap<Kind, u64>,
    /// The first of them, with text and times.
    pub failures: Vec<Failed>,
    /// Latency of the middle request, from the moment for which it was planned. Failed requests count too.
    pub p50_ms: f64,
    /// What 99 of 100 stay below.
    pub p99_ms: f64,
    /// What 999 of 1,000 stay below.
    pub p999_ms: f64,
    /// The longest.
    pub slowest_ms: f64,
    /// For when the slowest was planned.
    pub slowest_planned_ms: f64,
    /// How late the generator itself began a request, at worst: with much of it, latencies are the generator's.
    pub latest_start_ms: f64,
    /// Connections that were opened.
    pub opened: u64,
    /// Connections that the server closed or announced to close.
    pub closed_by_server: u64,
    /// Requests that were sent again as the protocol lets any client do.
    pub reopened: u64,
    /// WebSockets that were opened again after a close that asks for it.
    pub reconnected: u64,
    /// Answers of each backend, by its name.
    pub backends: BTreeMap<String, u64>,
}

/// One failure.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Failed {
    /// For when the request was planned.
    pub planned_ms: f64,
    /// When it failed.
    pub at_ms: f64,
    /// What failed.
    pub kind: Kind,
    /// Why.
    pub text: String,
}

impl Report {
    /// An empty one that begins now.
    pub(super) fn begin() -> Self {
        let since = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
        let begun_unix_ms = u64::try_from(since.as_millis()).unwrap_or(u64::MAX);
        Self { begun_unix_ms, seconds: 0.0, classes: BTreeMap::new() }
    }

    /// Failures of all classes.
    pub fn failed(&self) -> u64 {
        self.classes.values().map(|class| class.failed).sum()
    }
}

/// Milliseconds, to the microsecond.
pub(super) fn millis(duration: Duration) -> f64 {
    duration.as_micros() as f64 / 1000.0
}
