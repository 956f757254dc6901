//! Values that are dropped with what they are of.

use std::collections::HashMap;
use std::hash::Hash;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, PoisonError, RwLock};

/// Series beyond twice the number that was left last time lead to a look at what is gone, and so many more.
pub(super) const SLACK: usize = 64;

/// Values by what they are of, which are forgotten once that is gone.
#[derive(Debug)]
pub(super) struct Kept<K, V> {
    values: RwLock<HashMap<K, Arc<V>>>,
    /// How many were left when what is gone was last looked for.
    left: AtomicUsize,
}

impl<K, V> Default for Kept<K, V> {
    fn default() -> Self {
        Self { values: RwLock::default(), left: AtomicUsize::default() }
    }
}

impl<K: Eq + Hash + Clone, V: Default> Kept<K, V> {
    /// The value of `key`; where it is new and there are many, those that are gone are dropped first.
    pub(super) fn get(&self, key: &K, is_there: impl Fn(&K) -> bool) -> Arc<V> {
        if let Some(value) = self.values.read().unwrap_or_else(PoisonError::into_inner).get(key) {
            return value.clone();
        }
        let mut values = self.values.write().unwrap_or_else(PoisonError::into_inner);
        if values.len() > 2 * self.left.load(Ordering::Relaxed) + SLACK {
            values.retain(|key, _| is_there(key));
            self.left.store(values.len(), Ordering::Relaxed);
        }
        values.entry(key.clone()).or_default().clone()
    }

    /// Those that are there, without those that are gone.
    pub(super) fn sweep(&self, is_there: impl Fn(&K) -> bool) -> Vec<(K, Arc<V>)> {
        let mut values = self.values.write().unwrap_or_else(PoisonError::into_inner);
        values.retain(|key, _| is_there(key));
        self.left.store(values.len(), Ordering::Relaxed);
        values.iter().map(|(key, value)| (key.clone(), value.clone())).collect()
    }

    /// Shows each one, those that are gone but not yet dropped included.
    pub(super) fn each(&self, mut show: impl FnMut(&K, &V)) {
        let values = self.values.read().unwrap_or_else(PoisonError::into_inner);
        values.iter().for_each(|(key, value)| show(key, value));
    }

    pub(super) fn is_empty(&self) -> bool {
        self.values.read().unwrap_or_else(PoisonError::into_inner).is_empty()
    }
}

#[cfg(test)]
impl<K, V> Kept<K, V> {
    /// How many there are.
    pub(super) fn len(&self) -> usize {
        self.values.read().unwrap_or_else(PoisonError::into_inner).len()
    }
}
