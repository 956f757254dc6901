//! What the consumer of a folder has, and where it stands.

use std::collections::BTreeMap;
use std::sync::Arc;

use jiff::Timestamp;
use landfall_model::{Location, ObjectKey, ObjectRef};

/// Which object of a folder.
#[derive(Clone, PartialEq, Eq, Hash, PartialOrd, Ord, Debug)]
pub(super) struct Id {
    /// Place of the kind in the plan.
    pub(super) kind: usize,
    pub(super) key: ObjectKey,
}

/// What is remembered of an object that the consumer has.
#[derive(Clone, Debug)]
pub(super) struct Held {
    pub(super) hash: u64,
    /// The creation time, where the manifest gives none.
    pub(super) age: Option<Timestamp>,
    pub(super) location: Location,
}

/// Where each object of a folder stands.
#[derive(Clone, Debug, Default)]
pub struct Locations {
    /// The kinds of the plan.
    kinds: Arc<[Arc<str>]>,
    /// Sorted.
    objects: Box<[(Id, Held)]>,
}

impl Locations {
    pub(super) fn new(kinds: Arc<[Arc<str>]>) -> Self {
        Self { kinds, objects: Box::default() }
    }

    /// With the same kinds and other objects.
    pub(super) fn with(&self, objects: BTreeMap<Id, Held>) -> Self {
        Self { kinds: self.kinds.clone(), objects: objects.into_iter().collect() }
    }

    /// The place of an object; `None` if the folder has none of that name.
    pub fn get(&self, object: &ObjectRef) -> Option<Location> {
        let of_kind = |(kind, name): (usize, &Arc<str>)| {
            let id = (*name == object.kind).then(|| Id { kind, key: object.key.clone() })?;
            self.held(&id)
        };
        self.kinds.iter().enumerate().find_map(of_kind).map(|held| held.location.clone())
    }

    pub(super) fn held(&self, id: &Id) -> Option<&Held> {
        let place = self.objects.binary_search_by(|(other, _)| other.cmp(id)).ok()?;
        Some(&self.objects[place].1)
    }

    pub(super) fn ids(&self) -> impl Iterator<Item = &Id> {
        self.objects.iter().map(|(id, _)| id)
    }

    /// Names an object of the folder.
    pub(super) fn reference(&self, id: &Id) -> ObjectRef {
        ObjectRef::new(self.kinds[id.kind].clone(), id.key.clone())
    }
}
