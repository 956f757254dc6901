//! Where objects come from: an API server ([`kubernetes`]) or a folder of YAML ([`manifests`]).
//!
//! A program says in a [`Plan`] which kinds it reads and how each becomes its own change type; both sources turn
//! that plan into the same stream of [`Batch`]es. Nothing downstream can tell which source it was.
//!
//! **Invariant:** a [`Change::Replace`] is a complete list, never a partial one. A source that can't read emits
//! nothing, so the last good set stays in force.
//!
//! **Invariant:** one unreadable object never hides another; it becomes a Problem in the [`SourceView`].

use std::any::{Any, TypeId};
use std::fmt;
use std::sync::Arc;
use std::time::Instant;

use k8s_openapi::ClusterResourceScope;
use kube::Resource;
use landfall_model::Change;
use serde::de::DeserializeOwned;
use tokio::sync::mpsc;

mod kind;
pub mod kubernetes;
pub mod manifests;
mod strict;
mod view;

use kind::{Kind, TypedKind};
pub use view::SourceView;

/// How many batches may wait for the consumer before a source stops reading and coalesces instead.
const BATCHES: usize = 4;

/// What a kind must be for a source to read it: a Kubernetes type known at compile time.
pub trait Object: Resource<DynamicType = ()> + DeserializeOwned + Clone + fmt::Debug + Send + Sync + 'static {}

impl<K> Object for K where K: Resource<DynamicType = ()> + DeserializeOwned + Clone + fmt::Debug + Send + Sync + 'static {}

/// Which kinds a program reads and how each becomes its change type `C`.
pub struct Plan<C> {
    kinds: Vec<Arc<dyn Kind<C>>>,
}

impl<C: Send + 'static> Plan<C> {
    /// A plan that reads nothing yet.
    pub fn new() -> Self {
        Self { kinds: Vec::new() }
    }

    /// Reads the objects of kind `K` within `scope`; `into` wraps their changes.
    #[must_use]
    pub fn watch<K>(mut self, scope: Scope, into: fn(Change<K>) -> C) -> Self
    where
        K: Object<Scope: 'static>,
    {
        let cluster = TypeId::of::<K::Scope>() == TypeId::of::<ClusterResourceScope>();
        self.kinds.push(Arc::new(TypedKind::new(scope, cluster, into)));
        self
    }

    pub(crate) fn kinds(&self) -> &[Arc<dyn Kind<C>>] {
        &self.kinds
    }
}

impl<C: Send + 'static> Default for Plan<C> {
    fn default() -> Self {
        Self::new()
    }
}

impl<C> Clone for Plan<C> {
    fn clone(&self) -> Self {
        Self { kinds: self.kinds.clone() }
    }
}

impl<C> fmt::Debug for Plan<C> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_list().entries(self.kinds.iter().map(|kind| &kind.names().kind)).finish()
    }
}

/// Which objects of a kind are read.
///
/// Label and field selectors hold for both sources. Namespaces hold for the API server only: a folder is already
/// what its owner chose, and its objects often say no namespace at all.
#[derive(Clone, Debug, Default)]
pub struct Scope {
    namespaces: Vec<String>,
    fields: Option<String>,
    labels: Option<String>,
    optional: bool,
}

impl Scope {
    /// Every object of the kind.
    pub fn all() -> Self {
        Self::default()
    }

    /// Only objects in these namespaces; each gets a watch of its own, so that a Role is permission enough.
    #[must_use]
    pub fn namespaces<S: Into<String>>(mut self, namespaces: impl IntoIterator<Item = S>) -> Self {
        self.namespaces = namespaces.into_iter().map(Into::into).collect();
        self.namespaces.sort();
        self.namespaces.dedup();
        self
    }

    /// Only objects whose fields match, for example `type=kubernetes.io/tls`.
    #[must_use]
    pub fn fields(mut self, selector: impl Into<String>) -> Self {
        self.fields = Some(selector.into());
        self
    }

    /// Only objects whose labels match, for example `app=web,tier!=test`.
    #[must_use]
    pub fn labels(mut self, selector: impl Into<String>) -> Self {
        self.labels = Some(selector.into());
        self
    }

    /// The kind's CRD may be absent: "not found" and "forbidden" are answers then, not faults, and the kind is
    /// asked for again now and then.
    #[must_use]
    pub fn optional(mut self) -> Self {
        self.optional = true;
        self
    }
}

/// Changes that belong together; a consumer applies all of them before it builds anew.
#[derive(Debug)]
pub struct Batch<C> {
    /// The changes, in order.
    pub changes: Vec<C>,
    /// Whether every awaited kind has been listed once; before that, the set has holes.
    pub complete: bool,
    /// When the first of the changes was noticed: the start of the way to traffic.
    pub received: Instant,
}

/// A running source. Dropping `batches` ends it.
#[derive(Debug)]
pub struct Source<C> {
    /// The changes, as they come.
    pub batches: mpsc::Receiver<Batch<C>>,
    /// What the source knows about itself.
    pub view: SourceView,
}

/// An object whose type only its [`Kind`] knows.
pub(crate) type Erased = Arc<dyn Any + Send + Sync>;

/// Removes what no consumer reads and what weighs most: managed fields and kubectl's copy of the whole object.
pub(crate) fn trim<K: Resource>(object: &mut K) {
    let meta = object.meta_mut();
    meta.managed_fields = None;
    if let Some(annotations) = &mut meta.annotations {
        annotations.remove("kubectl.kubernetes.io/last-applied-configuration");
        if annotations.is_empty() {
            meta.annotations = None;
        }
    }
}
