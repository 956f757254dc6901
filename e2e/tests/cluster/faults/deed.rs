//! A fault: what is done to the cluster, and how it is undone.

use anyhow::{Context, Result};
use landfall_e2e::testbed::{Host, LANDFALL, Testbed};
use landfall_e2e::tools;
use serde_json::{Value, json};

/// Resource, namespace (empty for what has none) and name.
pub(crate) type Object = [&'static str; 3];

/// What is done.
#[derive(Clone, Debug)]
pub(crate) enum Deed {
    /// A place in an object, as a JSON pointer, gets this value; null removes it.
    Set(Object, &'static str, Value),
    /// Objects are created, in YAML or JSON.
    Create(String),
    /// The object is deleted.
    Delete(Object),
    /// A line of shell is run on a host; the second one undoes it.
    Shell(Host, String, String),
    /// The pod of this component on this node is replaced now, and once more when all else is undone.
    Renew(&'static str, Host),
    /// The power of a node is cut.
    PowerOff(Host),
}

/// How a deed is undone.
pub(crate) enum Undo {
    Patch(Object, Value),
    Create(Value),
    Delete(String),
    Shell(Host, String),
    Renew(&'static str, Host),
    PowerOn(Host),
}

impl Deed {
    /// Does it.
    pub(crate) fn done(&self, testbed: &Testbed) -> Result<Undo> {
        Ok(match self {
            Self::Set(object, place, value) => {
                let [resource, namespace, name] = *object;
                let now = testbed.get(&["-n", namespace, resource, name])?;
                let undo = match now.pointer(place) {
                    Some(before) => json!([{"op": "add", "path": place, "value": before}]),
                    None => json!([{"op": "remove", "path": place}]),
                };
                let patch = match value {
                    Value::Null => json!([{"op": "remove", "path": place}]),
                    value => json!([{"op": "add", "path": place, "value": value}]),
                };
                patched(testbed, *object, &patch)?;
                Undo::Patch(*object, undo)
            }
            Self::Create(yaml) => {
                testbed.create(yaml)?;
                Undo::Delete(yaml.clone())
            }
            Self::Delete(object) => {
                let [resource, namespace, name] = *object;
                let mut found = testbed.get(&["-n", namespace, resource, name])?;
                for field in ["resourceVersion", "uid", "creationTimestamp", "managedFields", "generation"] {
                    found["metadata"].as_object_mut().context("metadata")?.remove(field);
                }
                testbed.kubectl(&["-n", namespace, "delete", resource, name, "--wait=true"])?;
                Undo::Create(found)
            }
            Self::Shell(host, line, undo) => {
                shell(testbed, *host, line)?;
                Undo::Shell(*host, undo.clone())
            }
            Self::Renew(component, node) => {
                renew(testbed, component, *node)?;
                Undo::Renew(component, *node)
            }
            Self::PowerOff(node) => {
                testbed.power_off(*node)?;
                Undo::PowerOn(*node)
            }
        })
    }
}

/// Undoes them all, the last one first; pods are replaced once everything else is as it was.
pub(crate) async fn undo(testbed: &Testbed, undos: Vec<Undo>) -> Result<()> {
    let (late, soon): (Vec<_>, Vec<_>) = undos.into_iter().partition(|undo| matches!(undo, Undo::Renew(..)));
    for undo in soon.into_iter().rev().chain(late) {
        match undo {
            Undo::Patch(object, patch) => patched(testbed, object, &patch)?,
            Undo::Create(object) => testbed.create(&object.to_string())?,
            Undo::Delete(yaml) => testbed.delete(&yaml)?,
            Undo::Shell(host, line) => shell(testbed, host, &line)?,
            Undo::Renew(component, node) => renew(testbed, component, node)?,
            Undo::PowerOn(node) => testbed.power_on(node).await?,
        }
    }
    Ok(())
}

fn patched(testbed: &Testbed, [resource, namespace, name]: Object, patch: &Value) -> Result<()> {
    let patch = patch.to_string();
    testbed.kubectl(&["-n", namespace, "patch", resource, name, "--type=json", "-p", &patch]).map(drop)
}

fn shell(testbed: &Testbed, host: Host, line: &str) -> Result<()> {
    tools::run(testbed.on(host, "sh").args(["-c", line])).map(drop)
}

fn renew(testbed: &Testbed, component: &str, node: Host) -> Result<()> {
    let labels = format!("app.kubernetes.io/component={component}");
    let field = format!("spec.nodeName={node}");
    testbed
        .kubectl(&["-n", LANDFALL, "delete", "pod", "--selector", &labels, "--field-selector", &field, "--wait=true"])
        .map(drop)
}
