//! What a source knows about itself, for readiness, `/status` and messages.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use jiff::Timestamp;
use landfall_model::{Location, ObjectRef, Problem};
use serde_json::{Value, json};
use tokio::sync::watch;

use super::manifests::Locations;

/// A cheap handle on a source's own state; it stays valid after the source has ended.
#[derive(Clone, Debug)]
pub struct SourceView {
    state: Arc<Mutex<State>>,
    changed: watch::Sender<u64>,
}

#[derive(Debug)]
struct State {
    origin: String,
    problems: Vec<Problem>,
    locations: Arc<Locations>,
    awaited: Vec<String>,
    /// Which parts of the source fail, since when and why.
    failing: BTreeMap<String, (Timestamp, String)>,
    objects: BTreeMap<String, usize>,
}

impl SourceView {
    pub(crate) fn new(origin: impl Into<String>, awaited: Vec<String>) -> Self {
        let state = State {
            origin: origin.into(),
            problems: Vec::new(),
            locations: Arc::default(),
            awaited,
            failing: BTreeMap::new(),
            objects: BTreeMap::new(),
        };
        Self { state: Arc::new(Mutex::new(state)), changed: watch::Sender::new(0) }
    }

    /// Problems of the source itself: objects it could not read, kinds it may not list.
    pub fn problems(&self) -> Vec<Problem> {
        self.state().problems.clone()
    }

    /// Where in the folder of manifests an object stands; `None` for an API server's object.
    pub fn locate(&self, object: &ObjectRef) -> Option<Location> {
        self.state().locations.get(object)
    }

    /// The kinds that have not been listed yet; empty once the set is complete.
    pub fn awaited(&self) -> Vec<String> {
        self.state().awaited.clone()
    }

    /// Since when the source can't be read at least in part; `None` while all is well.
    pub fn disconnected_since(&self) -> Option<Timestamp> {
        self.state().failing.values().map(|(since, _)| *since).min()
    }

    /// A receiver that is notified whenever problems or the connection change; the value is a running number.
    pub fn changed(&self) -> watch::Receiver<u64> {
        self.changed.subscribe()
    }

    /// The source's part of `/status`.
    pub fn describe(&self) -> Value {
        let state = self.state();
        let failing: BTreeMap<_, _> = state
            .failing
            .iter()
            .map(|(part, (since, error))| (part, json!({ "since": since.to_string(), "error": error })))
            .collect();
        json!({
            "origin": state.origin,
            "awaited": state.awaited,
            "disconnectedSince": state.failing.values().map(|(since, _)| *since).min().map(|since| since.to_string()),
            "failing": failing,
            "objects": state.objects,
        })
    }

    pub(crate) fn set_problems(&self, problems: Vec<Problem>) {
        let mut state = self.state();
        if state.problems != problems {
            state.problems = problems;
            drop(state);
            self.notify();
        }
    }

    pub(crate) fn set_locations(&self, locations: Arc<Locations>) {
        self.state().locations = locations;
    }

    pub(crate) fn set_objects(&self, kind: &str, count: usize) {
        self.state().objects.insert(kind.to_owned(), count);
    }

    pub(crate) fn set_awaited(&self, awaited: Vec<String>) {
        let mut state = self.state();
        if state.awaited != awaited {
            state.awaited = awaited;
            drop(state);
            self.notify();
        }
    }

    /// Notes that `part` of the source fails; says whether that is news.
    pub(crate) fn failing(&self, part: &str, error: &str) -> bool {
        let mut state = self.state();
        let news = !state.failing.contains_key(part);
        let (_, last) = state.failing.entry(part.to_owned()).or_insert_with(|| (Timestamp::now(), String::new()));
        error.clone_into(last);
        drop(state);
        if news {
            self.notify();
        }
        news
    }

    /// Notes that `part` of the source works; says since when it had failed.
    pub(crate) fn working(&self, part: &str) -> Option<Timestamp> {
        let (since, _) = self.state().failing.remove(part)?;
        self.notify();
        Some(since)
    }

    #[cfg(test)]
    pub(crate) fn shared(&self) -> &Arc<impl Sized + use<>> {
        &self.state
    }

    fn notify(&self) {
        self.changed.send_modify(|number| *number += 1);
    }

    fn state(&self) -> MutexGuard<'_, State> {
        // Every write leaves the state whole, so that a panic elsewhere doesn't make it unreadable.
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
