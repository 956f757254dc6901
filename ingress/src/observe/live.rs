//! Requests as they happen, for whoever watches: what the access log says of each, without what could be secret.
//!
//! Without a watcher a request costs one look at a number. With one, a data worker compares the request with the filter
//! and, if there is room, leaves a copy in a channel that holds few. It wakes nobody: the side of the watcher comes by
//! ten times a second. What finds no room is counted and said.

mod event;
mod filter;

use std::fmt::Write as _;
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use arc_swap::ArcSwap;
use bytes::Bytes;
use futures::stream::{BoxStream, StreamExt, unfold};
use tokio::sync::mpsc;
use tokio::time::{Interval, MissedTickBehavior, interval};

use crate::engine::Exchange;
use event::Event;

pub use event::Queries;
pub use filter::Filter;

/// How often the side of a watcher comes by.
const TICK: Duration = Duration::from_millis(100);
/// Requests that one watcher gets between two ticks: 500 a second, far more than anybody reads.
const ROOM: usize = 50;
/// Watchers at one time. Each takes one of the admin port's connections, which probes need, too.
const WATCHERS: usize = 8;
/// Ticks without a word after which a comment shows that the connection lives.
const SILENCE: u32 = 150;
/// Ticks between two words on what was left out.
const PAUSE: u32 = 10;

/// Whoever watches the requests.
#[derive(Debug)]
pub struct Live {
    /// How many there are, for a quick look.
    count: AtomicUsize,
    watchers: ArcSwap<Vec<Arc<Watcher>>>,
    /// Taken while the list is changed.
    changing: Mutex<()>,
    queries: Queries,
}

/// One that watches.
#[derive(Debug)]
struct Watcher {
    filter: Filter,
    events: mpsc::Sender<Event>,
    dropped: AtomicU64,
}

/// There are as many watchers as may be.
#[derive(Clone, Copy, PartialEq, Eq, Debug, thiserror::Error)]
#[error("{WATCHERS} others are watching already; close one of them")]
pub struct TooManyWatchers;

impl Live {
    /// Nobody watches yet.
    pub fn new(queries: Queries) -> Arc<Self> {
        Arc::new(Self { count: AtomicUsize::new(0), watchers: ArcSwap::default(), changing: Mutex::default(), queries })
    }

    /// Whether somebody watches.
    pub(super) fn is_watched(&self) -> bool {
        self.count.load(Ordering::Relaxed) > 0
    }

    /// Tells whoever watches of a request.
    pub(super) fn exchange(&self, exchange: &Exchange<'_>) {
        if !self.is_watched() {
            return;
        }
        for watcher in &**self.watchers.load() {
            if !watcher.filter.takes(exchange) {
                continue;
            }
            match watcher.events.try_reserve() {
                Ok(place) => place.send(Event::of(exchange, self.queries)),
                Err(_) => drop(watcher.dropped.fetch_add(1, Ordering::Relaxed)),
            }
        }
    }

    /// Begins to watch: server-sent events, beginning with one that names the replica.
    pub fn watch(
        self: &Arc<Self>,
        filter: Filter,
        replica: &str,
    ) -> Result<BoxStream<'static, Bytes>, TooManyWatchers> {
        let (events, received) = mpsc::channel(ROOM);
        let watcher = Arc::new(Watcher { filter, events, dropped: AtomicU64::new(0) });
        self.change(|watchers| {
            if watchers.len() >= WATCHERS {
                return Err(TooManyWatchers);
            }
            watchers.push(watcher.clone());
            Ok(())
        })?;
        let mut ticks = interval(TICK);
        ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
        let session = Session { live: self.clone(), watcher, received, ticks, silence: 0, pause: 0 };
        let first = Bytes::from(format!("event: replica\ndata: {}\n\n", serde_json::json!({ "replica": replica })));
        let rest = unfold(session, |mut session| async move { Some((session.next().await, session)) });
        Ok(futures::stream::iter([first]).chain(rest).boxed())
    }

    fn change<T>(&self, change: impl FnOnce(&mut Vec<Arc<Watcher>>) -> T) -> T {
        let guard = self.changing.lock().unwrap_or_else(PoisonError::into_inner);
        let mut watchers = Vec::clone(&self.watchers.load());
        let outcome = change(&mut watchers);
        self.count.store(watchers.len(), Ordering::Relaxed);
        self.watchers.store(Arc::new(watchers));
        drop(guard);
        outcome
    }
}

/// The side of a watcher. It ends with its connection.
struct Session {
    live: Arc<Live>,
    watcher: Arc<Watcher>,
    received: mpsc::Receiver<Event>,
    ticks: Interval,
    silence: u32,
    pause: u32,
}

impl Session {
    /// What there is to say next: the requests of one tick, mostly.
    async fn next(&mut self) -> Bytes {
        let mut text = String::new();
        while text.is_empty() {
            self.ticks.tick().await;
            while let Ok(event) = self.received.try_recv() {
                event.write(&mut text);
            }
            self.pause = self.pause.saturating_sub(1);
            if self.pause == 0 {
                let dropped = self.watcher.dropped.swap(0, Ordering::Relaxed);
                if dropped > 0 {
                    let _ = write!(text, "event: dropped\ndata: {{\"dropped\":{dropped}}}\n\n");
                    self.pause = PAUSE;
                }
            }
            self.silence += 1;
            if text.is_empty() && self.silence >= SILENCE {
                text.push_str(":\n\n");
            }
        }
        self.silence = 0;
        text.into()
    }
}

impl Drop for Session {
    fn drop(&mut self) {
        self.live.change(|watchers| watchers.retain(|watcher| !Arc::ptr_eq(watcher, &self.watcher)));
    }
}

#[cfg(test)]
mod tests;
