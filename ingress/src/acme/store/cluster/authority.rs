//! The CA of our own in a cluster.

use std::collections::BTreeMap;

use k8s_openapi::ByteString;
use k8s_openapi::api::core::v1::{ConfigMap, Secret};
use kube::Api;
use kube::api::{Patch, PostParams};
use landfall_model::ObjectKey;
use serde_json::json;

use super::{Cluster, StoreError, code, parameters, words};
use crate::acme::store::ROOTS;

impl Cluster {
    /// The `ConfigMap` that has what devices are to trust.
    pub(in crate::acme) fn roots(&self) -> ObjectKey {
        ObjectKey::new(self.namespace.as_str(), self.authority.as_str())
    }

    /// Reads what devices are to trust from its `ConfigMap`.
    pub(in crate::acme) fn read_roots(map: Option<&ConfigMap>) -> String {
        map.and_then(|map| map.data.as_ref()?.get(ROOTS).cloned()).unwrap_or_default()
    }

    pub(in crate::acme::store) async fn authority(&self) -> Result<BTreeMap<String, String>, StoreError> {
        let secrets: Api<Secret> = Api::namespaced(self.client.clone(), &self.namespace);
        let found = secrets.get_opt(&self.authority).await.map_err(|error| self.failed_ca("read", "Secret", &error))?;
        let data = found.and_then(|secret| secret.data).unwrap_or_default();
        let text = |bytes: ByteString| String::from_utf8_lossy(&bytes.0).into_owned();
        Ok(data.into_iter().map(|(name, bytes)| (name, text(bytes))).collect())
    }

    pub(in crate::acme::store) async fn create_authority(
        &self,
        entries: &BTreeMap<String, String>,
    ) -> Result<bool, StoreError> {
        let secrets: Api<Secret> = Api::namespaced(self.client.clone(), &self.namespace);
        let mut secret = Secret { type_: Some("Opaque".to_owned()), data: Some(bytes(entries)), ..Secret::default() };
        secret.metadata.name = Some(self.authority.clone());
        match secrets.create(&PostParams::default(), &secret).await {
            Ok(_) => Ok(true),
            Err(error) if code(&error) != 409 => Err(self.failed_ca("create", "Secret", &error)),
            // It is there, with intermediates of roots that somebody has brought along, say.
            Err(_) if self.authority().await?.contains_key(ROOTS) => Ok(false),
            Err(_) => self.save_authority(entries).await.map(|()| true),
        }
    }

    pub(in crate::acme::store) async fn save_authority(
        &self,
        entries: &BTreeMap<String, String>,
    ) -> Result<(), StoreError> {
        let secrets: Api<Secret> = Api::namespaced(self.client.clone(), &self.namespace);
        let patch = Patch::Merge(json!({ "data": bytes(entries) }));
        match secrets.patch(&self.authority, &parameters(), &patch).await {
            Ok(_) => Ok(()),
            Err(error) if code(&error) == 404 => {
                let mut secret =
                    Secret { type_: Some("Opaque".to_owned()), data: Some(bytes(entries)), ..Secret::default() };
                secret.metadata.name = Some(self.authority.clone());
                let created = secrets.create(&PostParams::default(), &secret).await;
                created.map_err(|error| self.failed_ca("create", "Secret", &error)).map(drop)
            }
            Err(error) => Err(self.failed_ca("write", "Secret", &error)),
        }
    }

    pub(in crate::acme::store) async fn publish_roots(&self, text: &str) -> Result<(), StoreError> {
        let maps: Api<ConfigMap> = Api::namespaced(self.client.clone(), &self.namespace);
        let data = BTreeMap::from([(ROOTS.to_owned(), text.to_owned())]);
        let failed = |error: kube::Error| self.failed_ca("write", "ConfigMap", &error);
        match maps.patch(&self.authority, &parameters(), &Patch::Merge(json!({ "data": data }))).await {
            Err(error) if code(&error) == 404 => {
                let mut map = ConfigMap { data: Some(data), ..ConfigMap::default() };
                map.metadata.name = Some(self.authority.clone());
                maps.create(&PostParams::default(), &map).await.map_err(failed).map(drop)
            }
            outcome => outcome.map_err(failed).map(drop),
        }
    }

    fn failed_ca(&self, how: &str, kind: &str, error: &kube::Error) -> StoreError {
        StoreError::Api(format!("cannot {how} {kind} {}/{}: {}", self.namespace, self.authority, words(error)))
    }
}

fn bytes(entries: &BTreeMap<String, String>) -> BTreeMap<String, ByteString> {
    entries.iter().map(|(name, text)| (name.clone(), ByteString(text.clone().into_bytes()))).collect()
}
