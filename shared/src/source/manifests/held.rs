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
    objects: BTreeMap<Id, Held>,
}

impl Locations {
    pub(super) fn new(kinds: Arc<[Arc<str>]>) -> Self {
        Self { kinds, objects: BTreeMap::new() }
    }

    /// The place of an object; `None` if the folder has none of that name.
    pub fn get(&self, object: &ObjectRef) -> Option<Location> {
        let of_kind = |(kind, name): (usize, &Arc<str>)| {
            let id = (*name == object.kind).then(|| Id { kind, key: object.key.clone() })?;
            self.objects.get(&id)
        };
        self.kinds.iter().enumerate().find_map(of_kind).map(|held| held.location.clone())
    }

    /// Names an object of the folder.
    pub(super) fn reference(&self, id: &Id) -> ObjectRef {
        ObjectRef::new(self.kinds[id.kind].clone(), id.key.clone())
    }

    pub(super) fn objects(&self) -> &BTreeMap<Id, Held> {
        &self.objects
    }

    pub(super) fn objects_mut(&mut self) -> &mut BTreeMap<Id, Held> {
        &mut self.objects
    }

    /// Without objects.
    pub(super) fn emptied(&self) -> Self {
        Self::new(self.kinds.clone())
    }
}
