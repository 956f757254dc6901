//! The store in a cluster: a `ConfigMap` for what is shared, a Secret for accounts and keys under way, both in our own
//! namespace; certificates in Secrets of the Ingresses' namespaces.

mod authority;

use std::collections::BTreeMap;

use k8s_openapi::ByteString;
use k8s_openapi::api::core::v1::{ConfigMap, Secret};
use kube::api::{Patch, PatchParams, PostParams};
use kube::{Api, Client};
use landfall_ingress_model::acme::certificate::{Existing, REPLACE};
use landfall_model::ObjectKey;
use serde_json::{Value, json};

use super::{Shared, StoreError};

const CHALLENGES: &str = "challenges";
const STATE: &str = "state";
const MANAGER: &str = "landfall-ingress";

/// Objects of the API server.
pub(in crate::acme) struct Cluster {
    client: Client,
    namespace: String,
    /// The name of the `ConfigMap` and of the Secret.
    name: String,
    /// The same for a CA of our own.
    authority: String,
}

impl Cluster {
    pub(in crate::acme) fn new(client: Client, namespace: String, lease: &str) -> Self {
        let name = Self::board_of(&namespace, lease).name().to_owned();
        Self { client, namespace, name, authority: format!("{lease}-ca") }
    }

    /// The `ConfigMap` that all replicas watch, by their namespace and the name of their Lease.
    pub(in crate::acme) fn board_of(namespace: &str, lease: &str) -> ObjectKey {
        ObjectKey::new(namespace, format!("{lease}-acme"))
    }

    /// The `ConfigMap` that all replicas watch.
    pub(in crate::acme) fn board(&self) -> ObjectKey {
        ObjectKey::new(self.namespace.as_str(), self.name.as_str())
    }

    /// Reads what is shared from its `ConfigMap`.
    pub(in crate::acme) fn read(map: Option<&ConfigMap>) -> Result<Shared, StoreError> {
        let data = map.and_then(|map| map.data.as_ref());
        let text = |name: &str| data.and_then(|data| data.get(name)).map_or("{}", String::as_str);
        let bad =
            |error: serde_json::Error| StoreError::Content("the ConfigMap of our own".to_owned(), error.to_string());
        let challenges = serde_json::from_str(text(CHALLENGES)).map_err(bad)?;
        let state = serde_json::from_str(text(STATE)).map_err(bad)?;
        Ok(Shared { challenges, state })
    }

    pub(super) async fn load(&self) -> Result<Shared, StoreError> {
        let maps: Api<ConfigMap> = Api::namespaced(self.client.clone(), &self.namespace);
        let map = maps.get_opt(&self.name).await.map_err(|error| self.failed("read", "ConfigMap", &error))?;
        Self::read(map.as_ref())
    }

    pub(super) async fn save(&self, shared: &Shared) -> Result<(), StoreError> {
        let text = |value: &Value| value.to_string();
        let challenges = text(&json!(shared.challenges));
        let state = text(&json!(shared.state));
        let data = BTreeMap::from([(CHALLENGES.to_owned(), challenges), (STATE.to_owned(), state)]);
        let maps: Api<ConfigMap> = Api::namespaced(self.client.clone(), &self.namespace);
        let failed = |error: kube::Error| self.failed("write", "ConfigMap", &error);
        match maps.patch(&self.name, &parameters(), &Patch::Merge(json!({ "data": data }))).await {
            Err(error) if code(&error) == 404 => {
                let mut map = ConfigMap { data: Some(data), ..ConfigMap::default() };
                map.metadata.name = Some(self.name.clone());
                maps.create(&PostParams::default(), &map).await.map_err(failed).map(drop)
            }
            outcome => outcome.map_err(failed).map(drop),
        }
    }

    pub(super) async fn secret(&self, entry: &str) -> Result<Option<String>, StoreError> {
        let key = self.board();
        let found = self.entry(&key, entry).await?;
        found
            .map(|bytes| {
                String::from_utf8(bytes)
                    .map_err(|error| StoreError::Content(format!("Secret {key}"), error.to_string()))
            })
            .transpose()
    }

    pub(super) async fn save_secret(&self, entry: &str, text: Option<&str>) -> Result<(), StoreError> {
        let secrets: Api<Secret> = Api::namespaced(self.client.clone(), &self.namespace);
        let value = text.map(|text| ByteString(text.as_bytes().to_vec()));
        let failed = |error: kube::Error| self.failed("write", "Secret", &error);
        // A merge patch of one entry leaves what another order writes meanwhile; null removes it.
        let patch = Patch::Merge(json!({ "data": { entry: value } }));
        match secrets.patch(&self.name, &parameters(), &patch).await {
            Err(error) if code(&error) == 404 => {
                let Some(value) = value else { return Ok(()) };
                let data = Some(BTreeMap::from([(entry.to_owned(), value)]));
                let mut secret = Secret { data, type_: Some("Opaque".to_owned()), ..Secret::default() };
                secret.metadata.name = Some(self.name.clone());
                secrets.create(&PostParams::default(), &secret).await.map_err(failed).map(drop)
            }
            outcome => outcome.map_err(failed).map(drop),
        }
    }

    async fn get(&self, key: &ObjectKey) -> Result<Option<Secret>, StoreError> {
        let secrets: Api<Secret> = Api::namespaced(self.client.clone(), key.namespace());
        let failed = |error: kube::Error| StoreError::Api(format!("Secret {key} can't be read: {}", words(&error)));
        secrets.get_opt(key.name()).await.map_err(failed)
    }

    pub(super) async fn check(&self, key: &ObjectKey) -> Result<(), StoreError> {
        match self.get(key).await? {
            Some(secret) if !is_ours(&secret) => Err(StoreError::Foreign(key.clone())),
            _ => Ok(()),
        }
    }

    pub(super) async fn put(&self, key: &ObjectKey, secret: &Secret) -> Result<(), StoreError> {
        let secrets: Api<Secret> = Api::namespaced(self.client.clone(), key.namespace());
        let failed = |error: kube::Error| StoreError::Api(format!("Secret {key} can't be written: {}", words(&error)));
        let Some(there) = self.get(key).await? else {
            return secrets.create(&PostParams::default(), secret).await.map_err(failed).map(drop);
        };
        if !is_ours(&there) {
            return Err(StoreError::Foreign(key.clone()));
        }
        // With the version that was looked at: whoever took it over in between keeps it. Labels and annotations of
        // others stay.
        let mut next = there;
        next.data.clone_from(&secret.data);
        next.metadata.labels.get_or_insert_default().extend(secret.metadata.labels.clone().unwrap_or_default());
        let annotations = secret.metadata.annotations.clone().unwrap_or_default();
        next.metadata.annotations.get_or_insert_default().extend(annotations);
        // That was asked for of the certificate before.
        next.metadata.annotations.get_or_insert_default().remove(REPLACE);
        next.metadata.managed_fields = None;
        secrets.replace(key.name(), &PostParams::default(), &next).await.map_err(failed).map(drop)
    }

    pub(super) async fn entry(&self, key: &ObjectKey, name: &str) -> Result<Option<Vec<u8>>, StoreError> {
        let secret = self.get(key).await?;
        Ok(secret.and_then(|secret| secret.data?.remove(name)).map(|bytes| bytes.0))
    }

    fn failed(&self, how: &str, kind: &str, error: &kube::Error) -> StoreError {
        StoreError::Api(format!("cannot {how} {kind} {}/{}: {}", self.namespace, self.name, words(error)))
    }
}

/// The type of a Secret can't be changed, and others are not watched.
fn is_ours(secret: &Secret) -> bool {
    Existing::read(secret).is_managed && secret.type_.as_deref() == Some("kubernetes.io/tls")
}

fn parameters() -> PatchParams {
    PatchParams { field_manager: Some(MANAGER.to_owned()), ..PatchParams::default() }
}

fn code(error: &kube::Error) -> u16 {
    match error {
        kube::Error::Api(status) => status.code,
        _ => 0,
    }
}

/// The server's own message; kube's text repeats the whole status.
fn words(error: &kube::Error) -> String {
    match error {
        kube::Error::Api(status) => format!("{} ({})", status.message, status.code),
        other => other.to_string(),
    }
}
