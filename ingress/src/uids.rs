//! The uids of objects, which the model has no use for and Events can't do without.

use std::collections::HashMap;
use std::sync::{Mutex, PoisonError};

use k8s_openapi::Metadata;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::ObjectMeta;
use landfall_ingress_model::input::Input;
use landfall_model::{Change, ObjectKey, ObjectRef};

/// Uids of the objects that Problems are about.
#[derive(Debug, Default)]
pub(crate) struct Uids {
    by_kind: Mutex<HashMap<&'static str, HashMap<ObjectKey, Box<str>>>>,
}

impl Uids {
    /// Takes note of a change that is on its way to the model.
    pub(crate) fn apply(&self, input: &Input) {
        match input {
            Input::Ingress(change) => self.note(change),
            Input::IngressClass(change) => self.note(change),
            Input::Service(change) => self.note(change),
            Input::Secret(change) => self.note(change),
            _ => {}
        }
    }

    /// The uid of an object.
    pub(crate) fn get(&self, object: &ObjectRef) -> Option<String> {
        let uids = self.by_kind.lock().unwrap_or_else(PoisonError::into_inner);
        uids.get(&*object.kind)?.get(&object.key).map(ToString::to_string)
    }

    fn note<K: Metadata<Ty = ObjectMeta>>(&self, change: &Change<K>) {
        let entry = |meta: &ObjectMeta| meta.uid.as_deref().map(|uid| (ObjectKey::of(meta), Box::from(uid)));
        let mut uids = self.by_kind.lock().unwrap_or_else(PoisonError::into_inner);
        let uids = uids.entry(K::KIND).or_default();
        match change {
            Change::Replace(objects) => {
                *uids = objects.iter().filter_map(|object| entry(object.metadata())).collect();
            }
            Change::Apply(object) => uids.extend(entry(object.metadata())),
            Change::Delete(key) => drop(uids.remove(key)),
        }
    }
}
