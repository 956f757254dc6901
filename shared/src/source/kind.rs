//! A kind with its type erased, so that one list holds all the kinds of a plan.

use std::marker::PhantomData;
use std::sync::Arc;

use futures::future::BoxFuture;
use jiff::Timestamp;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::Time;
use landfall_model::{Change, ObjectKey};
use serde_json::Value;

use super::kubernetes::{Feed, feed};
use super::strict::{self, Decoded, Mismatch};
use super::{Erased, Object, Scope, trim};

/// The names of a kind as the API knows them.
#[derive(Clone, Debug)]
pub(crate) struct KindNames {
    pub(crate) kind: String,
    pub(crate) group: String,
    pub(crate) api_version: String,
    pub(crate) plural: String,
    pub(crate) namespaced: bool,
}

impl KindNames {
    /// `ingresses.networking.k8s.io`, the form RBAC rules and messages use.
    pub(crate) fn resource(&self) -> String {
        if self.group.is_empty() { self.plural.clone() } else { format!("{}.{}", self.plural, self.group) }
    }
}

/// One kind of a plan.
pub(crate) trait Kind<C>: Send + Sync {
    fn names(&self) -> &KindNames;
    fn scope(&self) -> &Scope;
    /// Reads an object from a manifest.
    fn decode(&self, value: &Value) -> Result<Decoded<Erased>, Mismatch>;
    /// The object with another creation time; copies it only where others hold it too.
    fn created(&self, object: Erased, at: Timestamp) -> Erased;
    fn replace(&self, objects: Vec<Erased>) -> C;
    fn apply(&self, object: Erased) -> C;
    fn delete(&self, key: ObjectKey) -> C;
    /// Lists and watches the kind at an API server until the consumer is gone.
    fn feed(&self, feed: Feed<C>) -> BoxFuture<'static, ()>;
}

pub(crate) struct TypedKind<K, C> {
    names: KindNames,
    scope: Scope,
    into: fn(Change<K>) -> C,
    object: PhantomData<fn() -> K>,
}

impl<K: Object, C> TypedKind<K, C> {
    pub(crate) fn new(scope: Scope, cluster: bool, into: fn(Change<K>) -> C) -> Self {
        let names = KindNames {
            kind: K::kind(&()).into_owned(),
            group: K::group(&()).into_owned(),
            api_version: K::api_version(&()).into_owned(),
            plural: K::plural(&()).into_owned(),
            namespaced: !cluster,
        };
        Self { names, scope, into, object: PhantomData }
    }

    fn typed(object: Erased) -> Option<Arc<K>> {
        object.downcast().ok()
    }
}

impl<K: Object, C: Send + 'static> Kind<C> for TypedKind<K, C> {
    fn names(&self) -> &KindNames {
        &self.names
    }

    fn scope(&self) -> &Scope {
        &self.scope
    }

    fn decode(&self, value: &Value) -> Result<Decoded<Erased>, Mismatch> {
        let Decoded { mut object, unknown } = strict::decode::<K>(value)?;
        trim(&mut object);
        Ok(Decoded { object: Arc::new(object), unknown })
    }

    fn created(&self, object: Erased, at: Timestamp) -> Erased {
        let Some(mut object) = Self::typed(object.clone()) else { return object };
        Arc::make_mut(&mut object).meta_mut().creation_timestamp = Some(Time(at));
        object
    }

    fn replace(&self, objects: Vec<Erased>) -> C {
        (self.into)(Change::Replace(objects.into_iter().filter_map(Self::typed).collect()))
    }

    fn apply(&self, object: Erased) -> C {
        let object = Self::typed(object).expect("an object comes back to the kind that decoded it");
        (self.into)(Change::Apply(object))
    }

    fn delete(&self, key: ObjectKey) -> C {
        (self.into)(Change::Delete(key))
    }

    fn feed(&self, context: Feed<C>) -> BoxFuture<'static, ()> {
        Box::pin(feed::<K, C>(context, self.names.clone(), self.scope.clone(), self.into))
    }
}
