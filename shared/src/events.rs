//! Kubernetes Events for Problems, so that `kubectl describe` says what is wrong.
//!
//! An Event is written when a Problem appears, not while it lasts: the same Problem is written again only after it
//! had gone. What is over within [`SETTLES_WITHIN`] is never written: objects that belong together come one after the
//! other, and pods take a moment to start. Only the lease holder writes.

use std::collections::{HashMap, HashSet, VecDeque};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use jiff::Timestamp;
use k8s_openapi::api::core::v1::ObjectReference;
use k8s_openapi::api::events::v1::Event;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::{MicroTime, ObjectMeta};
use kube::api::PostParams;
use kube::{Api, Client};
use landfall_model::{ObjectRef, Problem, Reason};
use tokio::sync::{mpsc, watch};
use tokio::time::{Instant, sleep_until, timeout};

use crate::api_error;

#[cfg(test)]
mod tests;

/// How long a Problem has to last before it is written.
pub const SETTLES_WITHIN: Duration = Duration::from_secs(2);
/// Events of one object per [`WINDOW`]; a controller that flaps must not fill the API server's store.
const PER_OBJECT: usize = 10;
const WINDOW: Duration = Duration::from_mins(1);
/// Events that may wait to be written; more are tried again with the next report.
const WAITING: usize = 256;
/// The API's limit for a note, in bytes.
const NOTE: usize = 1024;
const WRITE_TIMEOUT: Duration = Duration::from_secs(10);

/// Writes Problems as Events.
#[derive(Debug)]
pub struct EventPublisher {
    queue: mpsc::Sender<(Draft, ObjectReference)>,
    leader: watch::Receiver<bool>,
    held: Arc<Mutex<Held>>,
    /// Tells the task that writes what has lasted that there is something new to wait for.
    news: mpsc::Sender<()>,
}

/// What makes a Problem the same as an earlier one.
type Identity = (ObjectRef, Reason, String);

/// The Problems that hold now.
#[derive(Debug, Default)]
struct Held {
    /// What has not lasted long enough, and since when it holds.
    new: HashMap<Identity, (Instant, ObjectReference)>,
    /// What has been written and still holds.
    published: HashSet<Identity>,
    recent: HashMap<ObjectRef, VecDeque<Instant>>,
}

impl Held {
    /// When the next Problem has lasted long enough.
    fn next(&self) -> Option<Instant> {
        self.new.values().map(|(since, _)| *since + SETTLES_WITHIN).min()
    }

    /// Takes out what has lasted long enough, the oldest first; no more than [`PER_OBJECT`] of each object.
    fn take_lasting(&mut self, now: Instant) -> Vec<(Draft, ObjectReference)> {
        self.recent.retain(|_, times| {
            while times.front().is_some_and(|time| now.duration_since(*time) >= WINDOW) {
                times.pop_front();
            }
            !times.is_empty()
        });
        let mut lasting: Vec<_> = self.new.extract_if(|_, (since, _)| now >= *since + SETTLES_WITHIN).collect();
        lasting.sort_by(|(a, (since_a, _)), (b, (since_b, _))| (since_a, &a.2).cmp(&(since_b, &b.2)));
        let mut drafts = Vec::new();
        for (identity, (_, reference)) in lasting {
            let times = self.recent.entry(identity.0.clone()).or_default();
            if times.len() < PER_OBJECT {
                times.push_back(now);
                drafts.push((
                    Draft { kind: "Warning", reason: identity.1.as_str(), note: identity.2.clone() },
                    reference,
                ));
                self.published.insert(identity);
            }
        }
        drafts
    }
}

impl EventPublisher {
    /// Writes Events in the name of `controller`, the program, and `instance`, its pod, while `leader` says so.
    ///
    /// Must be called within a tokio runtime; the writing ends when the publisher is dropped.
    pub fn new(client: Client, controller: &str, instance: &str, leader: watch::Receiver<bool>) -> Self {
        let reporter = Reporter { controller: controller.to_owned(), instance: instance.to_owned() };
        let (queue, waiting) = mpsc::channel(WAITING);
        let (news, heard) = mpsc::channel(1);
        let held = Arc::<Mutex<Held>>::default();
        tokio::spawn(write(client, reporter, waiting));
        tokio::spawn(publish_lasting(Arc::clone(&held), heard, queue.clone()));
        Self { queue, leader, held, news }
    }

    /// Takes in all Problems that hold now; those that are new are written once they have lasted.
    ///
    /// `lookup` gives the reference, with uid, of an object that exists in the API; without one there is no Event.
    pub fn report(&mut self, current: &[Problem], lookup: impl Fn(&ObjectRef) -> Option<ObjectReference>) {
        let identity = |problem: &Problem| (problem.object.clone(), problem.reason, problem.message());
        let holding: HashSet<_> = current.iter().map(identity).collect();
        let mut held = lock(&self.held);
        held.published.retain(|identity| holding.contains(identity));
        held.new.retain(|identity, _| holding.contains(identity));
        if !*self.leader.borrow() {
            // Whoever leads next has to write what holds then.
            held.published.clear();
            held.new.clear();
            return;
        }
        let now = Instant::now();
        for identity in holding {
            if held.published.contains(&identity) || held.new.contains_key(&identity) {
                continue;
            }
            if let Some(reference) = lookup(&identity.0).filter(|reference| reference.uid.is_some()) {
                held.new.insert(identity, (now, reference));
            }
        }
        // If it can't be sent, the task has news already and will look at everything.
        let _ = self.news.try_send(());
    }

    /// Writes one thing that has happened, as an Event of type `Normal`, if this program leads.
    pub fn happened(&self, reference: ObjectReference, reason: Reason, note: &str) {
        if *self.leader.borrow() {
            let event = Draft { kind: "Normal", reason: reason.as_str(), note: note.to_owned() };
            // With so many waiting already, one more good news can be left out.
            let _ = self.queue.try_send((event, reference));
        }
    }
}

/// An Event in the making.
#[derive(Debug)]
struct Draft {
    kind: &'static str,
    reason: &'static str,
    note: String,
}

fn lock(held: &Mutex<Held>) -> MutexGuard<'_, Held> {
    // Nothing that holds the lock leaves it half done.
    held.lock().unwrap_or_else(PoisonError::into_inner)
}

/// Passes on what has lasted, until the publisher is dropped.
async fn publish_lasting(
    held: Arc<Mutex<Held>>,
    mut news: mpsc::Receiver<()>,
    queue: mpsc::Sender<(Draft, ObjectReference)>,
) {
    loop {
        let next = lock(&held).next();
        let lasting = async {
            match next {
                Some(next) => sleep_until(next).await,
                None => std::future::pending().await,
            }
        };
        tokio::select! {
            heard = news.recv() => if heard.is_none() { return },
            () = lasting => {
                let drafts = lock(&held).take_lasting(Instant::now());
                for draft in drafts {
                    if queue.send(draft).await.is_err() {
                        return;
                    }
                }
            }
        }
    }
}

async fn write(client: Client, reporter: Reporter, mut waiting: mpsc::Receiver<(Draft, ObjectReference)>) {
    while let Some((draft, reference)) = waiting.recv().await {
        // Events about cluster-scoped objects have to stand in `default`.
        let namespace = reference.namespace.clone().unwrap_or_else(|| "default".to_owned());
        let api: Api<Event> = Api::namespaced(client.clone(), &namespace);
        let event = reporter.event(draft, reference, namespace);
        // An Event is worth one try: `/status` and the log say the same.
        match timeout(WRITE_TIMEOUT, api.create(&PostParams::default(), &event)).await {
            Ok(Ok(_)) => {}
            Ok(Err(error)) => tracing::debug!(error = api_error::text(&error), "cannot write an event"),
            Err(_) => tracing::debug!("no answer to an event"),
        }
    }
}

/// In whose name Events are written.
struct Reporter {
    controller: String,
    instance: String,
}

impl Reporter {
    /// The Event as `events.k8s.io/v1` has it.
    ///
    /// kube's own recorder counts Events of one reason as a series and keeps the first text, which would hide the
    /// second fault of an object behind its first.
    fn event(&self, draft: Draft, reference: ObjectReference, namespace: String) -> Event {
        let now = Timestamp::now();
        // A name has at most 253 bytes, of which the time takes 17 until the year 2554; object names are ASCII.
        let object = reference.name.as_deref().unwrap_or_default();
        let name = format!("{}.{:x}", object.get(..236).unwrap_or(object), now.as_nanosecond());
        Event {
            metadata: ObjectMeta { name: Some(name), namespace: Some(namespace), ..ObjectMeta::default() },
            action: Some("Reconcile".to_owned()),
            event_time: Some(MicroTime(now)),
            note: Some(shortened(draft.note)),
            reason: Some(draft.reason.to_owned()),
            regarding: Some(reference),
            reporting_controller: Some(self.controller.clone()),
            reporting_instance: Some(self.instance.clone()),
            type_: Some(draft.kind.to_owned()),
            ..Event::default()
        }
    }
}

fn shortened(mut note: String) -> String {
    if note.len() > NOTE {
        let mut end = NOTE - '…'.len_utf8();
        while !note.is_char_boundary(end) {
            end -= 1;
        }
        note.truncate(end);
        note.push('…');
    }
    note
}
