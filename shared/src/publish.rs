//! Writing to the API server what a model decided: status, annotations, small objects.
//!
//! Level-triggered: a program says, as often as it likes, what it sees of an object and what it wants there. What
//! differs is written once, by the lease holder; what already is as wanted costs nothing.
//!
//! **Invariant:** nothing is written by a program that does not lead, and nothing that the last observation already
//! shows.

use std::collections::HashMap;
use std::fmt;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use futures::StreamExt;
use kube::api::{DeleteParams, Patch, PatchParams, Request};
use kube::{Client, Resource};
use landfall_model::ObjectKey;
use serde_json::Value;
use tokio::sync::{Notify, watch};
use tokio::time::{Instant, sleep_until, timeout};

use crate::api_error;
use crate::backoff::Backoff;

mod merge;
#[cfg(test)]
mod tests;

/// Writes under way at one time.
const PARALLEL: usize = 8;
const WRITE_TIMEOUT: Duration = Duration::from_secs(10);
/// Longest pause before a failed write is tried again.
const RETRY_LIMIT: Duration = Duration::from_secs(30);

/// What is wanted of one object.
#[derive(Clone, Debug, PartialEq)]
pub enum Write {
    /// A JSON merge patch (RFC 7396) of the status subresource: `{"status": {…}}`.
    Status(Value),
    /// A JSON merge patch of the object itself: `{"metadata": {"annotations": {…}}}`.
    Object(Value),
    /// The whole object, made if it isn't there (server-side apply).
    Apply(Value),
    /// The object is to be gone.
    Delete,
}

impl Write {
    /// Status and object are written apart, so an object may have one wish for each.
    fn slot(&self) -> Slot {
        match self {
            Self::Status(_) => Slot::Status,
            Self::Object(_) | Self::Apply(_) | Self::Delete => Slot::Object,
        }
    }

    /// Whether `observed` is already as wanted.
    fn holds(&self, observed: Option<&Value>) -> bool {
        match (self, observed) {
            (Self::Status(patch) | Self::Object(patch) | Self::Apply(patch), Some(observed)) => {
                merge::changes_nothing(patch, observed)
            }
            // There is nothing to patch; when the object appears, it is observed.
            (Self::Status(_) | Self::Object(_) | Self::Delete, None) => true,
            (Self::Apply(_), None) | (Self::Delete, Some(_)) => false,
        }
    }
}

#[derive(Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Debug)]
enum Slot {
    Object,
    Status,
}

/// Writes what is wanted of objects of one kind. Clones share one queue; dropping the last ends the writing.
#[derive(Clone)]
pub struct Publisher {
    shared: Arc<Shared>,
    /// Closed with the last clone.
    _alive: watch::Sender<()>,
}

struct Shared {
    wishes: Mutex<HashMap<(ObjectKey, Slot), Wish>>,
    news: Notify,
}

struct Wish {
    write: Write,
    observed: Option<Value>,
    /// Whether it is still to be written.
    pending: bool,
    due: Instant,
    backoff: Backoff,
}

/// What the writing task needs of the API.
struct Writer {
    client: Client,
    manager: &'static str,
    url: fn(&str) -> String,
    kind: String,
}

impl Publisher {
    /// Starts writing objects of kind `K` as field manager `manager` while `leader` says so.
    ///
    /// Must be called within a tokio runtime.
    pub fn start<K: Resource<DynamicType = ()>>(
        client: Client,
        manager: &'static str,
        leader: watch::Receiver<bool>,
    ) -> Self {
        let shared = Arc::new(Shared { wishes: Mutex::default(), news: Notify::new() });
        let (alive, closed) = watch::channel(());
        let writer = Writer { client, manager, url: url::<K>, kind: K::kind(&()).into_owned() };
        tokio::spawn(run(shared.clone(), writer, leader, closed));
        Self { shared, _alive: alive }
    }

    /// Wants `write` of the object `key`, which was last `observed` as this; `None` if it isn't there.
    ///
    /// The same wish on the same observation writes once, however often it is made. When the observation shows that
    /// somebody undid it, it is written again.
    pub fn set(&self, key: ObjectKey, observed: Option<&Value>, write: Write) {
        let place = (key, write.slot());
        let mut wishes = self.shared.lock();
        if write.holds(observed) {
            wishes.remove(&place);
            return;
        }
        let known = wishes.get(&place).is_some_and(|wish| wish.write == write && wish.observed.as_ref() == observed);
        if known {
            return;
        }
        let observed = observed.cloned();
        let backoff = Backoff::new(RETRY_LIMIT);
        wishes.insert(place, Wish { write, observed, pending: true, due: Instant::now(), backoff });
        drop(wishes);
        self.shared.news.notify_one();
    }

    /// Wants nothing of the object any more.
    pub fn forget(&self, key: &ObjectKey) {
        self.shared.lock().retain(|(of, _), _| of != key);
    }

    /// How many writes are still to be done, by whoever leads.
    pub fn pending(&self) -> usize {
        self.shared.lock().values().filter(|wish| wish.pending).count()
    }
}

impl fmt::Debug for Publisher {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Publisher").field("pending", &self.pending()).finish()
    }
}

impl Shared {
    fn lock(&self) -> MutexGuard<'_, HashMap<(ObjectKey, Slot), Wish>> {
        self.wishes.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The writes that are due, and when the next one is.
    fn due(&self) -> (Vec<(ObjectKey, Write)>, Option<Instant>) {
        let now = Instant::now();
        let wishes = self.lock();
        let pending = || wishes.iter().filter(|(_, wish)| wish.pending);
        let due =
            pending().filter(|(_, wish)| wish.due <= now).map(|((key, _), wish)| (key.clone(), wish.write.clone()));
        let next = pending().map(|(_, wish)| wish.due).filter(|due| *due > now).min();
        (due.collect(), next)
    }

    /// Notes how a write went; a wish that has changed meanwhile stays to be written.
    fn done(&self, key: &ObjectKey, write: &Write, outcome: Outcome) {
        let mut wishes = self.lock();
        let place = (key.clone(), write.slot());
        let Some(wish) = wishes.get_mut(&place).filter(|wish| wish.write == *write) else { return };
        match outcome {
            // Kept until the observation shows it, so that an old observation doesn't make it written again.
            Outcome::Written => wish.pending = false,
            Outcome::Gone => drop(wishes.remove(&place)),
            Outcome::Again => wish.due = Instant::now() + wish.backoff.pause(),
        }
    }
}

#[derive(Clone, Copy)]
enum Outcome {
    Written,
    /// The object isn't there; there is nothing to write to.
    Gone,
    Again,
}

async fn run(shared: Arc<Shared>, writer: Writer, mut leader: watch::Receiver<bool>, mut closed: watch::Receiver<()>) {
    let ended = async { while closed.changed().await.is_ok() {} };
    let mut ended = std::pin::pin!(ended);
    loop {
        let leads = *leader.borrow_and_update();
        let (due, next) = if leads { shared.due() } else { (Vec::new(), None) };
        if !due.is_empty() {
            let write = async |(key, write): (ObjectKey, Write)| {
                // Leadership may be lost between two of many writes.
                if *leader.borrow() {
                    let outcome = writer.write(&key, &write).await;
                    shared.done(&key, &write, outcome);
                }
            };
            let all = futures::stream::iter(due).map(write).buffer_unordered(PARALLEL).collect::<Vec<()>>();
            tokio::select! {
                _ = all => continue,
                () = &mut ended => return,
            }
        }
        let later = async {
            match next {
                Some(next) => sleep_until(next).await,
                None => std::future::pending().await,
            }
        };
        tokio::select! {
            () = shared.news.notified() => {}
            // A sender that is gone has said its last word, which stays true: `true` where there is no election.
            _ = leader.changed(), if leader.has_changed().is_ok() => {}
            () = later => {}
            () = &mut ended => return,
        }
    }
}

impl Writer {
    async fn write(&self, key: &ObjectKey, write: &Write) -> Outcome {
        let answer = timeout(WRITE_TIMEOUT, self.request(key, write)).await;
        let error = match answer {
            Ok(Ok(())) => {
                tracing::debug!(kind = self.kind, namespace = key.namespace(), name = key.name(), "written");
                return Outcome::Written;
            }
            Ok(Err(error)) if api_error::code(&error) == 404 => {
                return if *write == Write::Delete { Outcome::Written } else { Outcome::Gone };
            }
            Ok(Err(error)) => error,
            Err(_) => {
                tracing::debug!(
                    kind = self.kind,
                    namespace = key.namespace(),
                    name = key.name(),
                    "no answer to a write"
                );
                return Outcome::Again;
            }
        };
        let (namespace, name) = (key.namespace(), key.name());
        match api_error::code(&error) {
            // Refused for what it is, not for the moment: an operator has to know.
            401 | 403 | 422 => {
                tracing::error!(kind = self.kind, namespace, name, error = api_error::text(&error), "cannot write");
            }
            _ => {
                tracing::debug!(kind = self.kind, namespace, name, error = api_error::text(&error), "cannot write yet");
            }
        }
        Outcome::Again
    }

    async fn request(&self, key: &ObjectKey, write: &Write) -> kube::Result<()> {
        let request = Request::new((self.url)(key.namespace()));
        let parameters = PatchParams { field_manager: Some(self.manager.to_owned()), ..PatchParams::default() };
        let request = match write {
            Write::Status(patch) => request.patch_subresource("status", key.name(), &parameters, &Patch::Merge(patch)),
            Write::Object(patch) => request.patch(key.name(), &parameters, &Patch::Merge(patch)),
            Write::Apply(object) => request.patch(key.name(), &parameters.force(), &Patch::Apply(object)),
            Write::Delete => request.delete(key.name(), &DeleteParams::default()),
        };
        // The answer is the object, which comes through the watch as well.
        self.client.request_text(request.map_err(kube::Error::BuildRequest)?).await.map(drop)
    }
}

fn url<K: Resource<DynamicType = ()>>(namespace: &str) -> String {
    K::url_path(&(), Some(namespace).filter(|namespace| !namespace.is_empty()))
}
