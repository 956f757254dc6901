//! Where a CA of our own is kept: a Secret called `LEASE-ca`, or the folder `authority`. What devices are to trust
//! stands in a `ConfigMap` of the same name, or in `ca.crt`.

use std::collections::BTreeMap;

use super::{Store, StoreError};

impl Store {
    /// All that is kept of the CA; empty where there is none.
    pub(in crate::acme) async fn authority(&self) -> Result<BTreeMap<String, String>, StoreError> {
        match self {
            Self::Cluster(cluster) => cluster.authority().await,
            Self::Folder(folder) => folder.authority(),
        }
    }

    /// Keeps a new CA. `false`: there is one already, and it stays.
    pub(in crate::acme) async fn create_authority(
        &self,
        entries: &BTreeMap<String, String>,
    ) -> Result<bool, StoreError> {
        match self {
            Self::Cluster(cluster) => cluster.create_authority(entries).await,
            Self::Folder(folder) => folder.create_authority(entries),
        }
    }

    /// Keeps other entries beside those that are there.
    pub(in crate::acme) async fn save_authority(&self, entries: &BTreeMap<String, String>) -> Result<(), StoreError> {
        match self {
            Self::Cluster(cluster) => cluster.save_authority(entries).await,
            Self::Folder(folder) => folder.save_authority(entries),
        }
    }

    /// Shows what devices are to trust.
    pub(in crate::acme) async fn publish_roots(&self, text: &str) -> Result<(), StoreError> {
        match self {
            Self::Cluster(cluster) => cluster.publish_roots(text).await,
            Self::Folder(folder) => folder.publish_roots(text),
        }
    }
}
