//! Names of Kubernetes objects.

use std::cmp::Ordering;
use std::fmt;
use std::hash::{Hash, Hasher};
use std::sync::Arc;

use k8s_openapi::apimachinery::pkg::apis::meta::v1::ObjectMeta;
use serde::{Serialize, Serializer};

/// Namespace and name of a namespaced object; the namespace of a cluster-scoped one is empty.
///
/// Cloning is cheap. The order is by namespace, then by name, which is also the order in which ties
/// between objects of the same age are broken.
#[derive(Clone, PartialEq, Eq)]
pub struct ObjectKey {
    /// The namespace and right behind it the name: one allocation, since there are many keys.
    text: Arc<str>,
    /// Where the name begins.
    name: usize,
}

impl ObjectKey {
    /// The key of `name` in `namespace`.
    pub fn new(namespace: impl AsRef<str>, name: impl AsRef<str>) -> Self {
        let (namespace, name) = (namespace.as_ref(), name.as_ref());
        Self { text: [namespace, name].concat().into(), name: namespace.len() }
    }

    /// The key of the object with this metadata; a missing name reads as empty.
    pub fn of(meta: &ObjectMeta) -> Self {
        Self::new(meta.namespace.as_deref().unwrap_or_default(), meta.name.as_deref().unwrap_or_default())
    }

    /// The key of a cluster-scoped object.
    pub fn cluster(name: impl AsRef<str>) -> Self {
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
        &self.text[..self.name]
    }

    /// The name.
    pub fn name(&self) -> &str {
        &self.text[self.name..]
    }
}

impl Ord for ObjectKey {
    fn cmp(&self, other: &Self) -> Ordering {
        self.namespace().cmp(other.namespace()).then_with(|| self.name().cmp(other.name()))
    }
}

impl PartialOrd for ObjectKey {
    fn partial_cmp(&self, other: &Self) -> Option<Ordering> {
        Some(self.cmp(other))
    }
}

impl Hash for ObjectKey {
    fn hash<H: Hasher>(&self, state: &mut H) {
        self.text.hash(state);
    }
}

impl fmt::Display for ObjectKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.namespace().is_empty() {
            f.write_str(self.name())
        } else {
            write!(f, "{}/{}", self.namespace(), self.name())
        }
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
    fn keys_are_ordered_by_namespace_and_then_by_name() {
        let key = ObjectKey::new;
        let sorted = [key("", "zz"), key("a", "bc"), key("a", "z"), key("ab", "c"), key("b", "a")];
        assert!(sorted.is_sorted());
        assert_ne!(key("a", "bc"), key("ab", "c"));
        assert_eq!((sorted[3].namespace(), sorted[3].name()), ("ab", "c"));
    }

    #[test]
    fn a_reference_reads_as_messages_need_it() {
        assert_eq!(ObjectRef::new("Ingress", ObjectKey::new("shop", "web")).to_string(), "ingress shop/web");
        assert_eq!(ObjectRef::new("IngressClass", ObjectKey::cluster("nginx")).to_string(), "ingressclass nginx");
    }
}
