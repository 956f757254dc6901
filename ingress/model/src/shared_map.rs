//! A map of which a copy with one entry changed costs little.

use std::borrow::Borrow;
use std::fmt;
use std::hash::{BuildHasher, Hash};
use std::sync::Arc;

use foldhash::fast::{FixedState, RandomState};

/// A map of 50,000 entries has 400 in each part then, which is what a change copies.
const PARTS: usize = 128;

/// Which part a key is in. Keys are read out of objects, not out of requests, so a seed that everybody knows does no
/// harm.
const SPREAD: FixedState = FixedState::with_seed(0);

type Part<K, V> = std::collections::HashMap<K, V, RandomState>;

/// A hash map that shares with its copies what neither has changed.
///
/// A change copies the part that it touches, so that a table of any size is changed in about the same time.
#[derive(Clone)]
pub struct SharedMap<K, V> {
    parts: Box<[Arc<Part<K, V>>]>,
    len: usize,
}

impl<K: Hash + Eq, V> SharedMap<K, V> {
    /// How many entries there are.
    pub fn len(&self) -> usize {
        self.len
    }

    /// Whether there is none.
    pub fn is_empty(&self) -> bool {
        self.len == 0
    }

    /// The value of a key.
    pub fn get<Q: Hash + Eq + ?Sized>(&self, key: &Q) -> Option<&V>
    where
        K: Borrow<Q>,
    {
        self.parts.get(part_of(key))?.get(key)
    }

    /// All entries, in no order.
    pub fn iter(&self) -> impl Iterator<Item = (&K, &V)> {
        self.parts.iter().flat_map(|part| part.iter())
    }

    /// All values, in no order.
    pub fn values(&self) -> impl Iterator<Item = &V> {
        self.iter().map(|(_, value)| value)
    }
}

impl<K: Clone + Hash + Eq, V: Clone> SharedMap<K, V> {
    /// Enters a value; returns what there was.
    pub fn insert(&mut self, key: K, value: V) -> Option<V> {
        if self.parts.is_empty() {
            let none = Arc::default();
            self.parts = std::iter::repeat_n(none, PARTS).collect();
        }
        let part = Arc::make_mut(&mut self.parts[part_of(&key)]);
        let old = part.insert(key, value);
        self.len += usize::from(old.is_none());
        old
    }

    /// Takes out what there is for a key.
    pub fn remove(&mut self, key: &K) -> Option<V> {
        let part = self.parts.get_mut(part_of(key)).filter(|part| part.contains_key(key))?;
        self.len -= 1;
        let part = Arc::make_mut(part);
        let old = part.remove(key);
        // A cluster that has shrunk does not keep the room.
        if part.capacity() > 4 * part.len() {
            part.shrink_to_fit();
        }
        old
    }

    /// All values, to be changed.
    pub fn values_mut(&mut self) -> impl Iterator<Item = &mut V> {
        self.parts.iter_mut().flat_map(|part| Arc::make_mut(part).values_mut())
    }
}

fn part_of(key: &(impl Hash + ?Sized)) -> usize {
    // The remainder is less than `PARTS`.
    usize::try_from(SPREAD.hash_one(key) % PARTS as u64).unwrap_or_default()
}

impl<K, V> Default for SharedMap<K, V> {
    fn default() -> Self {
        Self { parts: Box::default(), len: 0 }
    }
}

impl<K: Clone + Hash + Eq, V: Clone> FromIterator<(K, V)> for SharedMap<K, V> {
    fn from_iter<I: IntoIterator<Item = (K, V)>>(entries: I) -> Self {
        let mut map = Self::default();
        for (key, value) in entries {
            map.insert(key, value);
        }
        map
    }
}

impl<K: fmt::Debug, V: fmt::Debug> fmt::Debug for SharedMap<K, V> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_map().entries(self.parts.iter().flat_map(|part| part.iter())).finish()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn host(number: usize) -> String {
        format!("host-{number}.example")
    }

    #[test]
    fn a_copy_is_changed_alone() {
        let mut before = SharedMap::default();
        assert_eq!(before.remove(&host(1)), None);
        assert!(before.is_empty() && before.get(&host(1)).is_none());
        for number in 0..1000 {
            before.insert(host(number), number);
        }
        let mut after = before.clone();
        after.insert(host(7), 70);
        assert_eq!(after.remove(&host(8)), Some(8));
        assert_eq!(after.remove(&host(8)), None);
        assert_eq!((before.len(), before.get(&host(7)), before.get(&host(8))), (1000, Some(&7), Some(&8)));
        assert_eq!((after.len(), after.get(&host(7)), after.get(&host(8))), (999, Some(&70), None));
        assert_eq!(after.values().sum::<usize>(), 499_500 - 7 + 70 - 8);
        let shared = before.parts.iter().zip(&after.parts).filter(|(one, other)| Arc::ptr_eq(one, other)).count();
        assert!(shared >= PARTS - 2, "{shared}");
        assert!(before.parts.iter().all(|part| part.len() < 40), "spread");
    }
}
