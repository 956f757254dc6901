//! What both subcommands that work with an API server need: references for Events, and writing small objects.

use std::collections::BTreeMap;
use std::time::Duration;

use anyhow::Context;
use k8s_openapi::api::core::v1::{ObjectReference, Secret};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::ObjectMeta;
use kube::api::{Patch, PatchParams, PostParams};
use kube::{Api, Client, Resource};
use landfall_lb_model::wire::heartbeat::Key;
use landfall_lb_model::world::Input;
use landfall_model::{Change, ObjectKey, ObjectRef, Problem, Severity};
use landfall_shared::source::kubernetes::Patience;
use rand::RngCore;
use serde::de::DeserializeOwned;
use serde_json::{Value, json};
use tokio::time::Instant;

use crate::cli::ClusterArgs;

/// The entry of the Secret that holds the key.
const KEY_ENTRY: &str = "key";

/// References, with uid, to the objects that Events are written about.
#[derive(Debug, Default)]
pub(crate) struct References {
    known: BTreeMap<ObjectRef, ObjectReference>,
}

impl References {
    /// Takes in a change before the world does, which keeps no uids.
    pub(crate) fn note(&mut self, input: &Input) {
        match input {
            Input::Service(change) => self.note_change(change),
            Input::Pool(change) => self.note_change(change),
            Input::L2Advertisement(change) => self.note_change(change),
            Input::Node(change) => self.note_change(change),
            Input::BgpAdvertisement(change) => self.note_change(change),
            Input::BgpPeer(change) => self.note_change(change),
            Input::BfdProfile(change) => self.note_change(change),
            Input::Community(change) => self.note_change(change),
            Input::EndpointSlice(_)
            | Input::Namespace(_)
            | Input::SpeakerPod(_)
            | Input::ConfigurationState(_)
            | Input::L2Status(_)
            | Input::OldPool(_)
            | Input::ConfigMap(_) => {}
        }
    }

    fn note_change<K: Resource<DynamicType = ()>>(&mut self, change: &Change<K>) {
        let kind = K::kind(&()).into_owned();
        match change {
            Change::Replace(objects) => {
                self.known.retain(|of, _| *of.kind != *kind);
                for object in objects {
                    self.insert(&kind, &**object);
                }
            }
            Change::Apply(object) => self.insert(&kind, &**object),
            Change::Delete(key) => drop(self.known.remove(&ObjectRef::new(kind, key.clone()))),
        }
    }

    fn insert<K: Resource<DynamicType = ()>>(&mut self, kind: &str, object: &K) {
        let meta = object.meta();
        let namespace = meta.namespace.as_deref().unwrap_or_default();
        let key = ObjectKey::new(namespace, meta.name.as_deref().unwrap_or_default());
        self.known.insert(ObjectRef::new(kind, key), object.object_ref(&()));
    }

    /// The reference to an object, if it is known.
    pub(crate) fn get(&self, object: &ObjectRef) -> Option<ObjectReference> {
        self.known.get(object).cloned()
    }
}

/// The pod that this process runs in, as owner of what it writes; `None` where that isn't known.
pub(crate) fn owner(cluster: &ClusterArgs) -> Option<Value> {
    let (name, uid) = (cluster.pod_name.as_deref()?, cluster.pod_uid.as_deref()?);
    Some(json!({"apiVersion": "v1", "kind": "Pod", "name": name, "uid": uid}))
}

/// How long a kind that isn't served yet, or may not be read yet, is left alone.
pub(crate) const ABSENT: Duration = Duration::from_secs(5);

/// How patient the watches are: definitions often come a moment after the program.
pub(crate) fn patience() -> Patience {
    Patience { absent: ABSENT, ..Patience::default() }
}

/// Waits for a moment; for ever where there is none.
pub(crate) async fn until(due: Option<Instant>) {
    match due {
        Some(due) => tokio::time::sleep_until(due).await,
        None => std::future::pending().await,
    }
}

/// What a component made of the configuration: result and summary.
pub(crate) type Verdict = (String, String);

/// Result and summary of these problems: errors of configuration, not of the Services that use it.
pub(crate) fn verdict(problems: &[Problem]) -> Verdict {
    let of_configuration = |p: &&Problem| p.severity == Severity::Error && &*p.object.kind != "Service";
    let errors: Vec<String> = problems.iter().filter(of_configuration).map(Problem::message).collect();
    let result = if errors.is_empty() { "Valid" } else { "Invalid" };
    (result.to_owned(), errors.join("\n"))
}

/// The status of a `ConfigurationState` with one condition of type `condition`.
pub(crate) fn state_status(condition: &str, (result, summary): &Verdict) -> Value {
    let valid = result == "Valid";
    let condition = json!({
        "type": condition, "status": if valid { "True" } else { "False" },
        "reason": if valid { "Reconciled" } else { "ConfigurationError" }, "message": summary,
        "lastTransitionTime": jiff::Timestamp::now().to_string(),
    });
    json!({"result": result, "errorSummary": summary, "conditions": [condition]})
}

/// Makes an object as `manager` wants it, and its status too where there is one.
pub(crate) async fn apply<K>(api: &Api<K>, manager: &str, object: &Value, status: Option<Value>) -> kube::Result<()>
where
    K: Resource + Clone + std::fmt::Debug + DeserializeOwned,
{
    let name = object["metadata"]["name"].as_str().unwrap_or_default();
    let params = PatchParams::apply(manager).force();
    api.patch(name, &params, &Patch::Apply(object)).await?;
    if let Some(status) = status {
        apply_status(api, manager, object, status).await?;
    }
    Ok(())
}

/// Makes the part of an object's status that `manager` owns as it wants it.
pub(crate) async fn apply_status<K>(api: &Api<K>, manager: &str, object: &Value, status: Value) -> kube::Result<()>
where
    K: Resource + Clone + std::fmt::Debug + DeserializeOwned,
{
    let name = object["metadata"]["name"].as_str().unwrap_or_default();
    let params = PatchParams::apply(manager).force();
    let patch = json!({
        "apiVersion": object["apiVersion"], "kind": object["kind"],
        "metadata": {"name": name}, "status": status,
    });
    api.patch_status(name, &params, &Patch::Apply(patch)).await?;
    Ok(())
}

/// Makes the Secret with the heartbeats' key if it isn't there.
pub(crate) async fn ensure_key(client: Client, namespace: &str, name: &str) -> kube::Result<()> {
    let api: Api<Secret> = Api::namespaced(client, namespace);
    if api.get_opt(name).await?.is_some() {
        return Ok(());
    }
    let mut bytes = [0u8; 32];
    rand::rng().fill_bytes(&mut bytes);
    let digits = bytes.iter().fold(String::new(), |digits, byte| digits + &format!("{byte:02x}"));
    let secret = Secret {
        metadata: ObjectMeta { name: Some(name.to_owned()), ..ObjectMeta::default() },
        string_data: Some(BTreeMap::from([(KEY_ENTRY.to_owned(), digits)])),
        type_: Some("Opaque".to_owned()),
        ..Secret::default()
    };
    match api.create(&PostParams::default(), &secret).await {
        Ok(_) => {
            tracing::info!(namespace, name, "made a key for the heartbeats");
            Ok(())
        }
        // Another replica was faster, and its key is as good.
        Err(kube::Error::Api(status)) if status.code == 409 => Ok(()),
        Err(error) => Err(error),
    }
}

/// Reads the heartbeats' key; `None` while there is no Secret.
pub(crate) async fn read_key(client: Client, namespace: &str, name: &str) -> anyhow::Result<Option<Key>> {
    let api: Api<Secret> = Api::namespaced(client, namespace);
    let Some(secret) = api.get_opt(name).await? else { return Ok(None) };
    let data = secret.data.unwrap_or_default();
    let bytes = data.get(KEY_ENTRY).with_context(|| format!("secret {namespace}/{name} has no entry {KEY_ENTRY:?}"))?;
    let text = String::from_utf8_lossy(&bytes.0).into_owned();
    let key = Key::parse(&text).with_context(|| format!("secret {namespace}/{name} holds no 64 hexadecimal digits"))?;
    Ok(Some(key))
}
