//! The way from a reflector to the consumer's change type.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Instant;

use landfall_model::{Change, ObjectKey};
use tokio::sync::mpsc;

use super::Message;
use crate::source::Object;

/// The sink of one kind; several namespaces are merged, so that a `Replace` is always the whole set.
pub(super) struct Sink<K, C> {
    messages: mpsc::Sender<Message<C>>,
    number: usize,
    into: fn(Change<K>) -> C,
    /// The last list of each namespace; `None` until it has been listed. Empty where there is one part only.
    merged: Mutex<Vec<Option<Known<K>>>>,
}

/// What one namespace holds.
type Known<K> = BTreeMap<ObjectKey, Arc<K>>;

/// One namespace's access to its kind's sink.
pub(super) struct Part<K, C> {
    sink: Arc<Sink<K, C>>,
    part: usize,
}

impl<K: Object, C> Sink<K, C> {
    pub(super) fn new(
        parts: usize,
        messages: mpsc::Sender<Message<C>>,
        number: usize,
        into: fn(Change<K>) -> C,
    ) -> Arc<Self> {
        let merged = if parts > 1 { (0..parts).map(|_| None).collect() } else { Vec::new() };
        Arc::new(Self { messages, number, into, merged: Mutex::new(merged) })
    }

    pub(super) fn part(self: &Arc<Self>, part: usize) -> Part<K, C> {
        Part { sink: self.clone(), part }
    }

    async fn send(&self, change: Option<Change<K>>, listed: bool, received: Instant) {
        let change = change.map(self.into);
        // The receiver is gone only when the consumer is, and then this feed ends too.
        let _ = self.messages.send(Message { number: self.number, change, listed, received }).await;
    }
}

impl<K: Object, C> Part<K, C> {
    /// A complete list of this part.
    pub(super) async fn replace(&self, objects: Vec<Arc<K>>) {
        let received = Instant::now();
        let change = self.merge_list(objects);
        let listed = change.is_some();
        self.sink.send(change, listed, received).await;
    }

    /// This part's kind is not served; what was known of it stays.
    pub(super) async fn absent(&self) {
        let received = Instant::now();
        let change = if self.sink.is_merged() && !self.knows() { self.merge_list(Vec::new()) } else { None };
        let listed = change.is_some() || !self.sink.is_merged();
        self.sink.send(change, listed, received).await;
    }

    pub(super) async fn apply(&self, object: Arc<K>) {
        let received = Instant::now();
        if self.merge(|known| drop(known.insert(ObjectKey::of(object.meta()), object.clone()))) {
            self.sink.send(Some(Change::Apply(object)), false, received).await;
        }
    }

    pub(super) async fn delete(&self, key: ObjectKey) {
        let received = Instant::now();
        if self.merge(|known| drop(known.remove(&key))) {
            self.sink.send(Some(Change::Delete(key)), false, received).await;
        }
    }

    /// The whole set, once every part is known.
    fn merge_list(&self, objects: Vec<Arc<K>>) -> Option<Change<K>> {
        let mut merged = self.sink.merged.lock().unwrap_or_else(PoisonError::into_inner);
        let Some(own) = merged.get_mut(self.part) else { return Some(Change::Replace(objects)) };
        *own = Some(objects.into_iter().map(|object| (ObjectKey::of(object.meta()), object)).collect());
        let parts: Option<Vec<_>> = merged.iter().map(Option::as_ref).collect();
        Some(Change::Replace(parts?.into_iter().flat_map(BTreeMap::values).cloned().collect()))
    }

    /// Notes a change of one object; says whether the consumer has the whole set and so takes changes.
    fn merge(&self, change: impl FnOnce(&mut Known<K>)) -> bool {
        let mut merged = self.sink.merged.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(Some(own)) = merged.get_mut(self.part) {
            change(own);
        }
        merged.iter().all(Option::is_some)
    }

    fn knows(&self) -> bool {
        let merged = self.sink.merged.lock().unwrap_or_else(PoisonError::into_inner);
        matches!(merged.get(self.part), Some(Some(_)))
    }
}

impl<K, C> Sink<K, C> {
    fn is_merged(&self) -> bool {
        !self.merged.lock().unwrap_or_else(PoisonError::into_inner).is_empty()
    }
}
