//! The uids of objects, which the model has no use for and Events can't do without.

use std::collections::HashMap;
use std::sync::{Mutex, PoisonError};

use k8s_openapi::apimachinery::pkg::apis::meta::v1::ObjectMeta;
use kube::Resource;
use landfall_ingress_model::input::Input;
use landfall_model::{Change, ObjectKey, ObjectRef};

/// Uids of the objects that Problems are about.
#[derive(Debug, Default)]
pub(crate) struct Uids {
    by_object: Mutex<HashMap<ObjectRef, Box<str>>>,
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
        self.by_object.lock().unwrap_or_else(PoisonError::into_inner).get(object).cloned().map(String::from)
    }

    fn note<K: Resource<DynamicType = ()>>(&self, change: &Change<K>) {
        let kind = K::kind(&());
        let object = |key: ObjectKey| ObjectRef::new(&*kind, key);
        let entry = |meta: &ObjectMeta| {
            let key = ObjectKey::new(meta.namespace.clone().unwrap_or_default(), meta.name.clone().unwrap_or_default());
            meta.uid.clone().map(|uid| (object(key), uid.into_boxed_str()))
        };
        let mut uids = self.by_object.lock().unwrap_or_else(PoisonError::into_inner);
        match change {
            Change::Replace(objects) => {
                uids.retain(|object, _| *object.kind != *kind);
                uids.extend(objects.iter().filter_map(|object| entry(object.meta())));
            }
            Change::Apply(object) => uids.extend(entry(object.meta())),
            Change::Delete(key) => {
                uids.remove(&object(key.clone()));
            }
        }
    }
}
