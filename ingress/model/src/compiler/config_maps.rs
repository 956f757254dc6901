//! All `ConfigMap`s, and who uses which.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use k8s_openapi::api::core::v1::ConfigMap;
use landfall_model::{Change, ObjectKey};

use super::set::SmallSet;
use super::store::Store;

/// What is in one.
pub(crate) type Data = BTreeMap<String, String>;

/// The `ConfigMap`s.
#[derive(Debug, Default)]
pub(crate) struct ConfigMaps {
    store: Store<Data>,
    /// Those that were asked for by name.
    named: Store<Data>,
    /// The Ingresses that name each.
    users: BTreeMap<ObjectKey, SmallSet<ObjectKey>>,
    /// Those that the options name.
    of_options: BTreeSet<ObjectKey>,
    last_missing: Arc<BTreeSet<ObjectKey>>,
}

impl ConfigMaps {
    /// Applies a change and returns those that changed.
    pub(crate) fn apply(&mut self, change: Change<ConfigMap>) -> Vec<ObjectKey> {
        Self::apply_to(&mut self.store, change)
    }

    /// As [`ConfigMaps::apply`], for those that were asked for by name.
    pub(crate) fn apply_named(&mut self, change: Change<ConfigMap>) -> Vec<ObjectKey> {
        Self::apply_to(&mut self.named, change)
    }

    fn apply_to(store: &mut Store<Data>, change: Change<ConfigMap>) -> Vec<ObjectKey> {
        let read = |map: &ConfigMap, _: &ObjectKey| map.data.clone().unwrap_or_default();
        store.apply(change, |map| &map.metadata, read).into_iter().map(|(key, _)| key).collect()
    }

    pub(crate) fn get(&self, key: &ObjectKey) -> Option<&Data> {
        self.store.get(key).or_else(|| self.named.get(key))
    }

    pub(crate) fn add_user(&mut self, map: &ObjectKey, user: &ObjectKey) {
        self.users.entry(map.clone()).or_default().insert(user.clone());
    }

    pub(crate) fn remove_user(&mut self, map: &ObjectKey, user: &ObjectKey) {
        if let Some(users) = self.users.get_mut(map) {
            users.remove(user);
            if users.is_empty() {
                self.users.remove(map);
            }
        }
    }

    /// The Ingresses that name it.
    pub(crate) fn users(&self, map: &ObjectKey) -> impl Iterator<Item = &ObjectKey> {
        self.users.get(map).into_iter().flatten()
    }

    /// Notes what the options name.
    pub(crate) fn set_of_options(&mut self, maps: BTreeSet<ObjectKey>) {
        self.of_options = maps;
    }

    /// Those to ask for by name.
    pub(crate) fn missing(&mut self) -> Arc<BTreeSet<ObjectKey>> {
        let wanted = self.users.keys().chain(&self.of_options);
        let missing: BTreeSet<ObjectKey> = wanted.filter(|key| self.store.get(key).is_none()).cloned().collect();
        if *self.last_missing != missing {
            self.last_missing = Arc::new(missing);
        }
        self.last_missing.clone()
    }
}
