//! What outlives a process: accounts, certificates, and what all replicas share.

mod authority;
mod cluster;
mod folder;

use std::time::Duration;

use k8s_openapi::api::core::v1::Secret;
use landfall_ingress_model::acme::challenges::Board;
use landfall_ingress_model::acme::state::State;
use landfall_model::ObjectKey;
use serde::{Deserialize, Serialize};
use thiserror::Error;

pub(super) use cluster::Cluster;
pub(super) use folder::{Folder, Manifests};

/// The entry or file of what devices are to trust.
pub(crate) const ROOTS: &str = "ca.crt";

/// What the leader shares with the other replicas and with its successor. Nothing in it is secret.
#[derive(Clone, PartialEq, Eq, Debug, Default, Serialize, Deserialize)]
#[serde(default)]
pub(super) struct Shared {
    /// The challenges to answer.
    pub(super) challenges: Board,
    /// What was tried.
    pub(super) state: State,
}

/// Why something can't be read or written.
#[derive(Debug, Error)]
pub(super) enum StoreError {
    #[error("{0}")]
    Api(String),
    #[error("{0}: {1}")]
    File(String, std::io::Error),
    #[error("{0} can't be read: {1}")]
    Content(String, String),
    #[error("Secret {0} is there and is not ours")]
    Foreign(ObjectKey),
}

/// Where it is kept.
pub(super) enum Store {
    Cluster(Cluster),
    Folder(Folder),
}

impl Store {
    /// How long other replicas may take to hear of what is shared.
    pub(super) fn spread(&self) -> Duration {
        match self {
            Self::Cluster(_) => Duration::from_secs(1),
            // Those that share a folder look into it twice a second.
            Self::Folder(_) => Duration::from_millis(600),
        }
    }

    /// What is shared now.
    pub(super) async fn load(&self) -> Result<Shared, StoreError> {
        match self {
            Self::Cluster(cluster) => cluster.load().await,
            Self::Folder(folder) => folder.load(),
        }
    }

    /// Shares something else.
    pub(super) async fn save(&self, shared: &Shared) -> Result<(), StoreError> {
        match self {
            Self::Cluster(cluster) => cluster.save(shared).await,
            Self::Folder(folder) => folder.save(shared),
        }
    }

    /// The account called `id`.
    pub(super) async fn account(&self, id: &str) -> Result<Option<String>, StoreError> {
        match self {
            Self::Cluster(cluster) => cluster.secret(&format!("account.{id}")).await,
            Self::Folder(folder) => folder.account(id),
        }
    }

    /// Keeps an account.
    pub(super) async fn save_account(&self, id: &str, text: &str) -> Result<(), StoreError> {
        match self {
            Self::Cluster(cluster) => cluster.save_secret(&format!("account.{id}"), Some(text)).await,
            Self::Folder(folder) => folder.save_account(id, text),
        }
    }

    /// The key of an order that is under way.
    pub(super) async fn key(&self, of: &ObjectKey) -> Result<Option<String>, StoreError> {
        match self {
            Self::Cluster(cluster) => cluster.secret(&key_name(of)).await,
            Self::Folder(folder) => folder.key(of),
        }
    }

    /// Keeps the key of an order, or no key any more.
    pub(super) async fn save_key(&self, of: &ObjectKey, pem: Option<&str>) -> Result<(), StoreError> {
        match self {
            Self::Cluster(cluster) => cluster.save_secret(&key_name(of), pem).await,
            Self::Folder(folder) => folder.save_key(of, pem),
        }
    }

    /// Fails if somebody else's Secret stands where a certificate is to stand.
    pub(super) async fn check(&self, key: &ObjectKey) -> Result<(), StoreError> {
        match self {
            Self::Cluster(cluster) => cluster.check(key).await,
            // The folder's own Secrets are known to whoever plans.
            Self::Folder(_) => Ok(()),
        }
    }

    /// Keeps a certificate; never in the place of a Secret that is not ours.
    pub(super) async fn put(&self, key: &ObjectKey, secret: &Secret) -> Result<(), StoreError> {
        match self {
            Self::Cluster(cluster) => cluster.put(key, secret).await,
            Self::Folder(folder) => folder.put(key, secret),
        }
    }

    /// An entry of a Secret with a certificate.
    pub(super) async fn certificate_entry(&self, key: &ObjectKey, name: &str) -> Result<Option<Vec<u8>>, StoreError> {
        match self {
            Self::Cluster(cluster) => cluster.entry(key, name).await,
            Self::Folder(folder) => folder.certificate_entry(key, name),
        }
    }

    /// An entry of a Secret that a user wrote.
    pub(super) async fn entry(&self, key: &ObjectKey, name: &str) -> Result<Option<Vec<u8>>, StoreError> {
        match self {
            Self::Cluster(cluster) => cluster.entry(key, name).await,
            Self::Folder(folder) => Ok(folder.entry(key, name)),
        }
    }
}

fn key_name(of: &ObjectKey) -> String {
    // Neither a namespace nor a Secret's name has an underscore.
    format!("key.{}_{}", of.namespace(), of.name())
}
