//! Who uses which objects.

use std::collections::BTreeMap;

use landfall_model::ObjectKey;

use super::set::SmallSet;

/// The users of each object that has any.
#[derive(Debug, Default)]
pub(crate) struct Users(BTreeMap<ObjectKey, SmallSet<ObjectKey>>);

impl Users {
    pub(crate) fn add(&mut self, object: &ObjectKey, user: &ObjectKey) {
        self.0.entry(object.clone()).or_default().insert(user.clone());
    }

    /// Says whether it was the last one.
    pub(crate) fn remove(&mut self, object: &ObjectKey, user: &ObjectKey) -> bool {
        let Some(users) = self.0.get_mut(object) else { return false };
        users.remove(user);
        let last = users.is_empty();
        if last {
            self.0.remove(object);
        }
        last
    }

    /// Whether somebody uses it.
    pub(crate) fn has(&self, object: &ObjectKey) -> bool {
        self.0.contains_key(object)
    }

    /// The users of an object.
    pub(crate) fn of(&self, object: &ObjectKey) -> impl Iterator<Item = &ObjectKey> {
        self.0.get(object).into_iter().flatten()
    }

    /// The objects that somebody uses.
    pub(crate) fn objects(&self) -> impl Iterator<Item = &ObjectKey> {
        self.0.keys()
    }
}
