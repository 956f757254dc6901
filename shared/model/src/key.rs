//! Names of Kubernetes objects.

use std::fmt;
use std::sync::Arc;

use serde::{Serialize, Serializer};

/// Namespace and name of a namespaced object; the namespace of a cluster-scoped one is empty.
///
/// Cloning is cheap. The order is by namespace, then by name, which is also the order in which ties
/// between objects of the same age are broken.
#[derive(Clone, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct ObjectKey {
    namespace: Arc<str>,
    name: Arc<str>,
}

impl ObjectKey {
    /// The key of `name` in `namespace`.
    pub fn new(namespace: impl Into<Arc<str>>, name: impl Into<Arc<str>>) -> Self {
        Self { namespace: namespace.into(), name: name.into() }
    }

    /// The key of a cluster-scoped object.
    pub fn cluster(name: impl Into<Arc<str>>) -> Self {
        Self::new("", name)
    }

    /// Reads the form `namespace/name` that command-line flags use.
    ///
    /// Returns `None` unless there is exactly one slash with text on both sides.
    pub fn parse(text: &str) -> Option<Self> {
        let (namespace, name) = text.split_once('/')?;
        let whole = !namespace.is_empty() && !name.is_empty() && !name.contains('/');
        whole.then(|| Self::new(namespace, name))
    }

    /// The namespace; empty for a cluster-scoped object.
    pub fn namespace(&self) -> &str {
        &self.namespace
    }

    /// The name.
    pub fn name(&self) -> &str {
        &self.name
    }
}

impl fmt::Display for ObjectKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.namespace.is_empty() { f.write_str(&self.name) } else { write!(f, "{}/{}", self.namespace, self.name) }
    }
}

impl fmt::Debug for ObjectKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

impl Serialize for ObjectKey {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

/// Kind and key of an object: what a Problem, an Event or a log line is about.
#[derive(Clone, PartialEq, Eq, Hash, PartialOrd, Ord, Debug)]
pub struct ObjectRef {
    /// The kind as Kubernetes spells it, for example `Ingress`.
    pub kind: Arc<str>,
    /// Namespace and name.
    pub key: ObjectKey,
}

impl ObjectRef {
    /// A reference to the object of `kind` called `key`.
    pub fn new(kind: impl Into<Arc<str>>, key: ObjectKey) -> Self {
        Self { kind: kind.into(), key }
    }
}

impl fmt::Display for ObjectRef {
    /// `ingress shop/web`: the kind in lower case, then the key.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} {}", self.kind.to_lowercase(), self.key)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_key_is_read_from_a_flag_only_in_its_whole_form() {
        assert_eq!(ObjectKey::parse("shop/web"), Some(ObjectKey::new("shop", "web")));
        for wrong in ["web", "/web", "shop/", "a/b/c", ""] {
            assert_eq!(ObjectKey::parse(wrong), None, "{wrong:?}");
        }
    }

    #[test]
    fn a_reference_reads_as_messages_need_it() {
        assert_eq!(ObjectRef::new("Ingress", ObjectKey::new("shop", "web")).to_string(), "ingress shop/web");
        assert_eq!(ObjectRef::new("IngressClass", ObjectKey::cluster("nginx")).to_string(), "ingressclass nginx");
    }
}
