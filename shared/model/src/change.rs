//! Changes to a set of objects: what a source hands to a model.

use std::sync::Arc;

use crate::ObjectKey;

/// One change to the set of objects of kind `K`.
///
/// Sources (the API server's watches, a folder of manifests) produce these in order; applying all of them
/// gives the set as the source knows it.
#[derive(Clone, Debug)]
pub enum Change<K> {
    /// The set is exactly this: a complete list. Never a partial one.
    Replace(Vec<Arc<K>>),
    /// The object is new or has changed.
    Apply(Arc<K>),
    /// The object is gone.
    Delete(ObjectKey),
}
