//! Which object a document is about that can't be parsed.

use landfall_model::{ObjectKey, ObjectRef};

use crate::source::Plan;

/// Reads kind, name and namespace from lines that look like them; only to name the object in a message.
pub(super) fn object<C: Send + 'static>(text: &str, plan: &Plan<C>) -> Option<ObjectRef> {
    let (mut kind, mut name, mut namespace) = (None, None, None);
    let mut metadata_indent = None;
    let mut in_metadata = false;
    for line in text.lines() {
        let content = line.trim_start();
        let indent = line.len() - content.len();
        let Some((key, value)) = content.split_once(':') else { continue };
        let value = value.split(" #").next().unwrap_or_default().trim().trim_matches(['"', '\'']);
        if indent == 0 {
            in_metadata = key == "metadata";
            if key == "kind" {
                kind = Some(value);
            }
        } else if in_metadata && *metadata_indent.get_or_insert(indent) == indent {
            match key {
                "name" => name = Some(value),
                "namespace" => namespace = Some(value),
                _ => {}
            }
        }
    }
    let name = name.filter(|name| !name.is_empty())?;
    let kind = plan.kinds().iter().find(|known| Some(known.names().kind.as_str()) == kind)?;
    let key = if kind.names().namespaced {
        ObjectKey::new(namespace.unwrap_or("default"), name)
    } else {
        ObjectKey::cluster(name)
    };
    Some(ObjectRef::new(kind.names().kind.as_str(), key))
}
