//! All `ConfigMap`s, and who uses which.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use k8s_openapi::api::core::v1::ConfigMap;
use landfall_model::{Change, ObjectKey};

use super::store::Store;
use super::users::Users;

/// What is in one.
pub(crate) type Data = BTreeMap<String, String>;

/// The `ConfigMap`s.
#[derive(Debug, Default)]
pub(crate) struct ConfigMaps {
    store: Store<Data>,
    /// Those that were asked for by name.
    named: Store<Data>,
    /// The Ingresses that name each.
    users: Users,
    /// Those that were looked for by name, there or not.
    answered: BTreeSet<ObjectKey>,
    /// Those that the options name.
    of_options: BTreeSet<ObjectKey>,
    /// Those that the command line names.
    of_settings: BTreeSet<ObjectKey>,
    missing: Arc<BTreeSet<ObjectKey>>,
    /// Whether `missing` is to be found out anew.
    stale: bool,
}

impl ConfigMaps {
    /// No `ConfigMap`s yet; the given ones are asked for by name.
    pub(crate) fn new(named: impl IntoIterator<Item = ObjectKey>) -> Self {
        Self { of_settings: named.into_iter().collect(), stale: true, ..Self::default() }
    }

    /// Applies a change and returns those that changed.
    pub(crate) fn apply(&mut self, change: Change<ConfigMap>) -> Vec<ObjectKey> {
        self.stale = true;
        Self::apply_to(&mut self.store, change)
    }

    /// As [`ConfigMaps::apply`], for those that were asked for by name.
    pub(crate) fn apply_named(&mut self, change: Change<ConfigMap>) -> Vec<ObjectKey> {
        // That it is not there is news, too, as long as nobody knew.
        let absent = match &change {
            Change::Delete(key) if self.answered.insert(key.clone()) => Some(key.clone()),
            _ => None,
        };
        let mut changed = Self::apply_to(&mut self.named, change);
        self.answered.extend(changed.iter().cloned());
        changed.extend(absent.filter(|key| self.get(key).is_none()));
        changed
    }

    /// Whether it was looked for by name and is not there.
    pub(crate) fn is_absent(&self, key: &ObjectKey) -> bool {
        self.answered.contains(key) && self.get(key).is_none()
    }

    fn apply_to(store: &mut Store<Data>, change: Change<ConfigMap>) -> Vec<ObjectKey> {
        let read = |map: &ConfigMap, _: &ObjectKey| map.data.clone().unwrap_or_default();
        store.apply(change, |map| &map.metadata, read).into_iter().map(|(key, _)| key).collect()
    }

    pub(crate) fn get(&self, key: &ObjectKey) -> Option<&Data> {
        self.store.get(key).or_else(|| self.named.get(key))
    }

    pub(crate) fn add_user(&mut self, map: &ObjectKey, user: &ObjectKey) {
        self.stale = true;
        self.users.add(map, user);
    }

    pub(crate) fn remove_user(&mut self, map: &ObjectKey, user: &ObjectKey) {
        self.stale |= self.users.remove(map, user);
    }

    /// The Ingresses that name it.
    pub(crate) fn users(&self, map: &ObjectKey) -> impl Iterator<Item = &ObjectKey> {
        self.users.of(map)
    }

    /// Notes what the options name.
    pub(crate) fn set_of_options(&mut self, maps: BTreeSet<ObjectKey>) {
        self.stale = true;
        self.of_options = maps;
    }

    /// Those to ask for by name.
    pub(crate) fn missing(&mut self) -> Arc<BTreeSet<ObjectKey>> {
        if std::mem::take(&mut self.stale) {
            let wanted = self.users.objects().chain(&self.of_options).chain(&self.of_settings);
            self.missing = Arc::new(wanted.filter(|key| self.store.get(key).is_none()).cloned().collect());
        }
        self.missing.clone()
    }
}
