//! A fault: what is done to the cluster, and how it is undone.

use anyhow::{Context, Result};
use landfall_e2e::kube::Cluster;
use serde_json::{Value, json};

/// Which part of an object.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Part {
    Body,
    Status,
}

/// What is done.
#[derive(Clone, Debug)]
pub(crate) enum Deed {
    /// A place in an object, as a JSON pointer, gets this value; null removes it.
    Set(Part, &'static str, &'static str, &'static str, &'static str, Value),
    /// The object is deleted.
    Delete(&'static str, &'static str, &'static str),
    /// Objects are created.
    Create(String),
}

/// How a deed is undone.
enum Undo {
    Patch(Part, &'static str, &'static str, &'static str, Value),
    Create(Value),
    Delete(String),
}

/// Does it all, lets `look` see, and undoes it all.
pub(crate) fn during<T>(cluster: &Cluster, deeds: &[Deed], look: impl FnOnce() -> Result<T>) -> Result<T> {
    let mut undo = Vec::new();
    for deed in deeds {
        undo.push(done(cluster, deed).with_context(|| format!("{deed:?}"))?);
    }
    let seen = look();
    for undo in undo.into_iter().rev() {
        undone(cluster, undo)?;
    }
    seen
}

fn done(cluster: &Cluster, deed: &Deed) -> Result<Undo> {
    match deed {
        Deed::Set(part, resource, namespace, name, place, value) => {
            let object = cluster.get(&["-n", namespace, resource, name])?;
            let before = object.pointer(place);
            let undo = match before {
                Some(before) => json!([{"op": "add", "path": place, "value": before}]),
                None => json!([{"op": "remove", "path": place}]),
            };
            let patch = match value {
                Value::Null => json!([{"op": "remove", "path": place}]),
                value => json!([{"op": "add", "path": place, "value": value}]),
            };
            patched(cluster, *part, resource, namespace, name, &patch)?;
            Ok(Undo::Patch(*part, resource, namespace, name, undo))
        }
        Deed::Delete(resource, namespace, name) => {
            let mut object = cluster.get(&["-n", namespace, resource, name])?;
            for field in ["resourceVersion", "uid", "creationTimestamp", "managedFields", "generation"] {
                object["metadata"].as_object_mut().context("metadata")?.remove(field);
            }
            cluster.kubectl(&[
                "-n",
                namespace,
                "delete",
                resource,
                name,
                "--wait=true",
                "--grace-period=0",
                "--force",
            ])?;
            Ok(Undo::Create(object))
        }
        Deed::Create(yaml) => {
            cluster.create(yaml)?;
            Ok(Undo::Delete(yaml.clone()))
        }
    }
}

fn undone(cluster: &Cluster, undo: Undo) -> Result<()> {
    match undo {
        Undo::Patch(part, resource, namespace, name, patch) => {
            patched(cluster, part, resource, namespace, name, &patch)
        }
        Undo::Create(object) => {
            cluster.create(&object.to_string())?;
            // A status is not created along with its object.
            let (kind, meta) = (&object["kind"], &object["metadata"]);
            if let (Some(kind), Some(status)) =
                (kind.as_str(), object.get("status").filter(|status| **status != json!({})))
            {
                let (namespace, name) =
                    (meta["namespace"].as_str().unwrap_or_default(), meta["name"].as_str().unwrap_or_default());
                let patch = json!({ "status": status }).to_string();
                cluster.kubectl(&[
                    "-n",
                    namespace,
                    "patch",
                    kind,
                    name,
                    "--subresource=status",
                    "--type=merge",
                    "-p",
                    &patch,
                ])?;
            }
            Ok(())
        }
        Undo::Delete(yaml) => cluster.delete(&yaml),
    }
}

fn patched(cluster: &Cluster, part: Part, resource: &str, namespace: &str, name: &str, patch: &Value) -> Result<()> {
    let patch = patch.to_string();
    let mut arguments = vec!["-n", namespace, "patch", resource, name, "--type=json", "-p", &patch];
    if part == Part::Status {
        arguments.push("--subresource=status");
    }
    cluster.kubectl(&arguments).map(drop)
}
