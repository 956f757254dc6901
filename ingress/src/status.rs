//! What is live and what is wrong, for `/status`, the log and whoever writes to the API server.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::{Arc, Mutex, PoisonError};

use landfall_ingress_model::acme::view::View;
use landfall_ingress_model::status::{IngressStatus, IngressView, Views};
use landfall_model::{ObjectKey, Problem, Severity};
use landfall_shared::source::SourceView;
use serde_json::{Value, json};
use tokio::sync::watch;

use crate::control::unix_now;
use crate::memory::Ledger;

/// What the last build said. Readers take it as it is; the writer of status waits for it to change.
#[derive(Debug)]
pub struct StatusBoard {
    latest: Mutex<Latest>,
    changed: watch::Sender<u64>,
}

#[derive(Default, Debug)]
struct Latest {
    generation: u64,
    /// When that table became live, in seconds since the epoch.
    since: Option<u64>,
    ingresses: Views,
    statuses: BTreeMap<ObjectKey, IngressStatus>,
    problems: Vec<Problem>,
    certificates: Vec<View>,
}

impl Default for StatusBoard {
    fn default() -> Self {
        Self { latest: Mutex::default(), changed: watch::Sender::new(0) }
    }
}

impl StatusBoard {
    /// Takes the outcome of a build; `None`: the problems are those of before.
    pub fn publish(
        &self,
        generation: u64,
        statuses: Vec<IngressStatus>,
        ingresses: Views,
        problems: Option<Vec<Problem>>,
    ) {
        let mut latest = self.latest();
        if latest.generation != generation || latest.since.is_none() {
            latest.since = Some(unix_now().as_secs());
        }
        latest.generation = generation;
        latest.ingresses = ingresses;
        let is_news = problems.is_some() || !statuses.is_empty();
        let before = problems.map(|problems| std::mem::replace(&mut latest.problems, problems));
        let now = before.as_ref().map(|_| latest.problems.clone());
        for status in statuses {
            latest.statuses.insert(status.ingress.clone(), status);
        }
        drop(latest);
        // A log that is slow to take lines must not hold up whoever asks for the status.
        if let (Some(before), Some(now)) = (before, now) {
            log_differences(&before, &now);
        }
        if is_news {
            self.changed.send_modify(|version| *version += 1);
        }
    }

    /// Takes how automatic certificates stand.
    pub(crate) fn certificates(&self, views: &[View]) {
        let mut latest = self.latest();
        if latest.certificates != views {
            latest.certificates = views.to_vec();
        }
    }

    /// Takes what the source says of itself while there is no complete table yet.
    pub fn source_problems(&self, problems: Vec<Problem>) {
        let mut latest = self.latest();
        log_differences(&latest.problems, &problems);
        latest.problems = problems;
    }

    /// Changes whenever problems or statuses were published.
    pub fn changed(&self) -> watch::Receiver<u64> {
        self.changed.subscribe()
    }

    /// The statuses to write that came since the last call.
    pub fn take_statuses(&self) -> Vec<IngressStatus> {
        std::mem::take(&mut self.latest().statuses).into_values().collect()
    }

    /// The problems now.
    pub fn problems(&self) -> Vec<Problem> {
        self.latest().problems.clone()
    }

    /// How automatic certificates stand.
    pub(crate) fn automatic_certificates(&self) -> Vec<View> {
        self.latest().certificates.clone()
    }

    /// The table that is live and since when, in seconds since the epoch; how many Ingresses are ours; the addresses
    /// that are published.
    pub(crate) fn live(&self) -> (u64, Option<u64>, usize, Vec<String>) {
        let latest = self.latest();
        let addresses: BTreeSet<String> =
            latest.ingresses.values().flat_map(|ingress| ingress.addresses.iter().map(ToString::to_string)).collect();
        (latest.generation, latest.since, latest.ingresses.len(), addresses.into_iter().collect())
    }

    /// `GET /status`.
    pub fn to_json(&self, ready: bool, source: &SourceView, memory: &Ledger) -> Value {
        let latest = self.latest();
        let ingresses: BTreeMap<&ObjectKey, &Arc<IngressView>> = latest.ingresses.iter().collect();
        json!({
            "ready": ready,
            "generation": latest.generation,
            "liveSince": latest.since,
            "source": source.describe(),
            "memory": describe(memory),
            "ingresses": ingresses.into_values().collect::<Vec<_>>(),
            "certificates": latest.certificates,
            "problems": latest.problems,
        })
    }

    fn latest(&self) -> std::sync::MutexGuard<'_, Latest> {
        self.latest.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// How memory stands. `used` is known only where there is a limit to compare it with.
fn describe(memory: &Ledger) -> Value {
    let amounts = memory.amounts();
    json!({
        "limit": memory.limit(),
        "used": memory.limit().map(|_| memory.used()),
        "pressure": memory.pressure().as_str(),
        "exchanges": amounts.exchanges,
        "heads": amounts.heads,
        "bodies": amounts.bodies,
    })
}

/// Logs each problem once when it comes, and once when it is gone.
fn log_differences(before: &[Problem], now: &[Problem]) {
    let known: BTreeSet<&Problem> = before.iter().collect();
    let current: BTreeSet<&Problem> = now.iter().collect();
    for problem in current.difference(&known) {
        let object = &problem.object;
        tracing::warn!(
            kind = &*object.kind,
            namespace = object.key.namespace(),
            name = object.key.name(),
            reason = problem.reason.as_str(),
            severity = if problem.severity == Severity::Error { "error" } else { "warning" },
            file = problem.location.as_ref().map(tracing::field::display),
            detail = problem.message(),
            "problem found"
        );
    }
    for problem in known.difference(&current) {
        let object = &problem.object;
        tracing::info!(
            kind = &*object.kind,
            namespace = object.key.namespace(),
            name = object.key.name(),
            reason = problem.reason.as_str(),
            "problem is gone"
        );
    }
}
