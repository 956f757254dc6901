//! Objects in parsed form, by key.

use std::collections::{BTreeMap, BTreeSet};

use k8s_openapi::apimachinery::pkg::apis::meta::v1::ObjectMeta;
use landfall_model::{Change, ObjectKey};

/// When the object was created, in microseconds since the epoch; without a time it counts as the newest.
pub(crate) fn created(meta: &ObjectMeta) -> i64 {
    meta.creation_timestamp.as_ref().map_or(i64::MAX, |time| time.0.as_microsecond())
}

/// The objects of one kind.
#[derive(Debug)]
pub(crate) struct Store<T> {
    items: BTreeMap<ObjectKey, T>,
}

impl<T> Default for Store<T> {
    fn default() -> Self {
        Self { items: BTreeMap::new() }
    }
}

impl<T: PartialEq> Store<T> {
    /// Applies a change and returns what was there before under each key where something changed.
    ///
    /// An object that reads the same as before is no change: a relist or an edit of something that the model does
    /// not read costs nothing further on.
    pub(crate) fn apply<K>(
        &mut self,
        change: Change<K>,
        meta: fn(&K) -> &ObjectMeta,
        parse: impl Fn(&K, &ObjectKey) -> T,
    ) -> Vec<(ObjectKey, Option<T>)> {
        let mut changed = Vec::new();
        match change {
            Change::Replace(objects) => {
                let mut gone: BTreeSet<ObjectKey> = self.items.keys().cloned().collect();
                for object in objects {
                    let key = ObjectKey::of(meta(&object));
                    gone.remove(&key);
                    let item = parse(&object, &key);
                    self.insert(key, item, &mut changed);
                }
                for key in gone {
                    let old = self.items.remove(&key);
                    changed.push((key, old));
                }
            }
            Change::Apply(object) => {
                let key = ObjectKey::of(meta(&object));
                let item = parse(&object, &key);
                self.insert(key, item, &mut changed);
            }
            Change::Delete(key) => {
                if let Some(old) = self.items.remove(&key) {
                    changed.push((key, Some(old)));
                }
            }
        }
        changed
    }

    fn insert(&mut self, key: ObjectKey, item: T, changed: &mut Vec<(ObjectKey, Option<T>)>) {
        if self.items.get(&key) == Some(&item) {
            return;
        }
        // The new object brings its own copy of the key; holding one of them is enough.
        let old = self.items.remove(&key);
        self.items.insert(key.clone(), item);
        changed.push((key, old));
    }
}

impl<T> Store<T> {
    /// Enters an object without asking whether it changed.
    pub(crate) fn put(&mut self, key: ObjectKey, item: T) {
        self.items.insert(key, item);
    }

    pub(crate) fn get(&self, key: &ObjectKey) -> Option<&T> {
        self.items.get(key)
    }

    pub(crate) fn get_mut(&mut self, key: &ObjectKey) -> Option<&mut T> {
        self.items.get_mut(key)
    }

    pub(crate) fn iter(&self) -> impl Iterator<Item = (&ObjectKey, &T)> {
        self.items.iter()
    }

    /// The names in one namespace.
    pub(crate) fn names_in<'a>(&'a self, namespace: &'a str) -> impl Iterator<Item = &'a str> {
        self.items
            .range(ObjectKey::new(namespace, "")..)
            .map(|(key, _)| key)
            .take_while(move |key| key.namespace() == namespace)
            .map(ObjectKey::name)
    }
}
