//! What the loop sees of a state folder, and of the Secrets in a folder of manifests.

use std::collections::HashMap;
use std::fs::File;
use std::sync::{Arc, PoisonError};
use std::time::SystemTime;

use k8s_openapi::api::core::v1::Secret;
use landfall_ingress_model::input::Input;
use landfall_model::{Change, ObjectKey};

use super::Runner;
use crate::acme::store::Store;

/// What is seen of a state folder.
#[derive(Default)]
pub(super) struct FolderWatch {
    pub(super) lock: Option<File>,
    version: Option<SystemTime>,
    certificates: HashMap<ObjectKey, Arc<Secret>>,
}

impl Runner {
    /// Issuers of a folder may name its Secrets.
    pub(super) fn note_manifests(&self, change: &Change<Secret>) {
        let key = |secret: &Secret| {
            let meta = &secret.metadata;
            ObjectKey::of(meta)
        };
        let mut manifests = self.manifests.lock().unwrap_or_else(PoisonError::into_inner);
        match change {
            Change::Replace(all) => *manifests = all.iter().map(|secret| (key(secret), secret.clone())).collect(),
            Change::Apply(secret) => drop(manifests.insert(key(secret), secret.clone())),
            Change::Delete(key) => drop(manifests.remove(key)),
        }
    }

    /// Takes in what others have written into the state folder; says whether this process leads.
    pub(super) fn look_at_folder(&mut self) -> bool {
        let edge = self.edge.clone();
        let Store::Folder(folder) = &edge.store else { return false };
        if self.folder.lock.is_none() {
            match folder.lead() {
                Ok(lock) => self.folder.lock = lock,
                Err(error) => tracing::error!(%error, "the state folder can't be used"),
            }
        }
        let version = folder.version();
        if self.folder.version != version {
            self.folder.version = version;
            for secret in folder.certificates() {
                let key = ObjectKey::new(
                    secret.metadata.namespace.as_deref().unwrap_or_default(),
                    secret.metadata.name.as_deref().unwrap_or_default(),
                );
                if self.folder.certificates.get(&key).is_some_and(|known| **known == *secret) {
                    continue;
                }
                self.edge.memory().world.keep(&secret);
                self.folder.certificates.insert(key, secret.clone());
                let _ = self.secrets.send(Input::NamedSecret(Change::Apply(secret)));
            }
            if self.folder.lock.is_none() {
                let roots = folder.roots().map(|roots| self.edge.roots.follow(roots));
                match roots.and_then(|()| folder.load()) {
                    Ok(shared) => self.edge.follow(shared),
                    Err(error) => tracing::warn!(%error, "what the leader shares can't be read"),
                }
            }
        }
        self.folder.lock.is_some()
    }
}
