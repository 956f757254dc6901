//! The store of a process without a cluster: a folder that only its user may read.
//!
//! ```text
//! shared.json                      challenges and what was tried
//! accounts/ID.json                 accounts
//! keys/NAMESPACE_NAME.pem          keys of orders under way
//! certificates/NAMESPACE/NAME.json each a Secret as a cluster would have it
//! authority/, ca.crt               a CA of our own, and what devices are to trust
//! leader                           locked by the process that orders
//! ```
//!
//! Each file is written beside its place and moved there, so that nobody reads half of one.

mod authority;

use std::collections::HashMap;
use std::fs::{DirBuilder, File, OpenOptions};
use std::io::{ErrorKind, Write};
use std::os::unix::fs::{DirBuilderExt, OpenOptionsExt, PermissionsExt};
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::SystemTime;

use k8s_openapi::api::core::v1::Secret;
use landfall_model::ObjectKey;

use super::{ROOTS, Shared, StoreError};

const SHARED: &str = "shared.json";

/// The Secrets in the folder of manifests, for what issuers name.
pub(in crate::acme) type Manifests = Arc<Mutex<HashMap<ObjectKey, Arc<Secret>>>>;

/// A folder.
pub(in crate::acme) struct Folder {
    root: PathBuf,
    manifests: Manifests,
}

impl Folder {
    /// Makes the folder, and takes from others what they have no business with.
    pub(in crate::acme) fn open(root: PathBuf, manifests: Manifests) -> Result<Self, StoreError> {
        let folder = Self { root, manifests };
        for part in ["", "accounts", "keys", "certificates"] {
            Self::make(&folder.root.join(part))?;
        }
        Ok(folder)
    }

    /// The lock of the process that orders; `None` while another one has it. It ends with the process.
    pub(in crate::acme) fn lead(&self) -> Result<Option<File>, StoreError> {
        let path = self.root.join("leader");
        let failed = |error| failed(&path, error);
        let file = OpenOptions::new().create(true).append(true).mode(0o600).open(&path).map_err(failed)?;
        match file.try_lock() {
            Ok(()) => Ok(Some(file)),
            Err(std::fs::TryLockError::WouldBlock) => Ok(None),
            Err(std::fs::TryLockError::Error(error)) => Err(failed(error)),
        }
    }

    /// Changes whenever something in the folder was written.
    pub(in crate::acme) fn version(&self) -> Option<SystemTime> {
        let modified = |path: PathBuf| std::fs::metadata(path).and_then(|meta| meta.modified()).ok();
        let certificates = std::fs::read_dir(self.root.join("certificates")).into_iter().flatten().flatten();
        let folders = certificates.filter_map(|entry| modified(entry.path()));
        folders.chain([SHARED, ROOTS].into_iter().filter_map(|file| modified(self.root.join(file)))).max()
    }

    /// All certificates.
    pub(in crate::acme) fn certificates(&self) -> Vec<Arc<Secret>> {
        let mut found = Vec::new();
        let namespaces = std::fs::read_dir(self.root.join("certificates")).into_iter().flatten().flatten();
        for entry in
            namespaces.flat_map(|namespace| std::fs::read_dir(namespace.path()).into_iter().flatten().flatten())
        {
            let path = entry.path();
            if path.extension().is_none_or(|extension| extension != "json") {
                continue;
            }
            let text = std::fs::read_to_string(&path).map_err(|error| error.to_string());
            match text.and_then(|text| serde_json::from_str::<Secret>(&text).map_err(|error| error.to_string())) {
                Ok(secret) => found.push(Arc::new(secret)),
                Err(error) => tracing::error!(path = %path.display(), error, "a certificate can't be read"),
            }
        }
        found
    }

    pub(in crate::acme) fn load(&self) -> Result<Shared, StoreError> {
        let path = self.root.join(SHARED);
        let Some(text) = Self::read(&path)? else { return Ok(Shared::default()) };
        serde_json::from_str(&text).map_err(|error| StoreError::Content(path.display().to_string(), error.to_string()))
    }

    pub(super) fn save(&self, shared: &Shared) -> Result<(), StoreError> {
        Self::write(&self.root.join(SHARED), &serde_json::json!(shared).to_string())
    }

    pub(super) fn account(&self, id: &str) -> Result<Option<String>, StoreError> {
        Self::read(&self.root.join(format!("accounts/{id}.json")))
    }

    pub(super) fn save_account(&self, id: &str, text: &str) -> Result<(), StoreError> {
        Self::write(&self.root.join(format!("accounts/{id}.json")), text)
    }

    pub(super) fn key(&self, of: &ObjectKey) -> Result<Option<String>, StoreError> {
        Self::read(&self.key_path(of))
    }

    pub(super) fn save_key(&self, of: &ObjectKey, pem: Option<&str>) -> Result<(), StoreError> {
        let path = self.key_path(of);
        match pem {
            Some(pem) => Self::write(&path, pem),
            None => match std::fs::remove_file(&path) {
                Err(error) if error.kind() != ErrorKind::NotFound => Err(failed(&path, error)),
                _ => Ok(()),
            },
        }
    }

    pub(super) fn put(&self, key: &ObjectKey, secret: &Secret) -> Result<(), StoreError> {
        Self::make(&self.root.join("certificates").join(file_name(key.namespace())))?;
        let text = serde_json::to_string_pretty(secret).unwrap_or_default();
        Self::write(&self.certificate_path(key), &text)
    }

    /// An entry of a certificate that is kept here; else of the Secret of that name in the folder of manifests.
    pub(super) fn certificate_entry(&self, key: &ObjectKey, name: &str) -> Result<Option<Vec<u8>>, StoreError> {
        let path = self.certificate_path(key);
        let Some(text) = Self::read(&path)? else { return Ok(self.entry(key, name)) };
        let secret: Secret = serde_json::from_str(&text)
            .map_err(|error| StoreError::Content(path.display().to_string(), error.to_string()))?;
        Ok(secret.data.and_then(|mut data| data.remove(name)).map(|bytes| bytes.0))
    }

    fn certificate_path(&self, key: &ObjectKey) -> PathBuf {
        let folder = self.root.join("certificates").join(file_name(key.namespace()));
        folder.join(format!("{}.json", file_name(key.name())))
    }

    pub(super) fn entry(&self, key: &ObjectKey, name: &str) -> Option<Vec<u8>> {
        let manifests = self.manifests.lock().unwrap_or_else(PoisonError::into_inner);
        let secret = manifests.get(key)?;
        let plain = || secret.string_data.as_ref()?.get(name).map(|text| text.as_bytes().to_vec());
        plain().or_else(|| Some(secret.data.as_ref()?.get(name)?.0.clone()))
    }

    fn key_path(&self, of: &ObjectKey) -> PathBuf {
        self.root.join(format!("keys/{}_{}.pem", file_name(of.namespace()), file_name(of.name())))
    }

    fn read(path: &Path) -> Result<Option<String>, StoreError> {
        match std::fs::read_to_string(path) {
            Ok(text) => Ok(Some(text)),
            Err(error) if error.kind() == ErrorKind::NotFound => Ok(None),
            Err(error) => Err(failed(path, error)),
        }
    }

    fn make(path: &Path) -> Result<(), StoreError> {
        DirBuilder::new().recursive(true).mode(0o700).create(path).map_err(|error| failed(path, error))?;
        std::fs::set_permissions(path, std::fs::Permissions::from_mode(0o700)).map_err(|error| failed(path, error))
    }

    fn write(path: &Path, text: &str) -> Result<(), StoreError> {
        let beside = path.with_extension("new");
        let written = || {
            let mut file = OpenOptions::new().write(true).create(true).truncate(true).mode(0o600).open(&beside)?;
            file.set_permissions(std::fs::Permissions::from_mode(0o600))?;
            file.write_all(text.as_bytes())?;
            file.sync_all()?;
            std::fs::rename(&beside, path)
        };
        written().map_err(|error| failed(path, error))
    }
}

/// A name that leads to no other folder. The API server takes no other names, but a folder of manifests is no API server.
fn file_name(name: &str) -> String {
    name.replace(['/', '\\', '\0'], "_").replace("..", "__")
}

fn failed(path: &Path, error: std::io::Error) -> StoreError {
    StoreError::File(path.display().to_string(), error)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn nobody_else_may_read_what_is_kept_and_one_process_leads() {
        let root = std::env::temp_dir().join(format!("landfall-acme-{}", std::process::id()));
        let folder = Folder::open(root.clone(), Manifests::default()).unwrap();
        folder.save_account("a", "{}").unwrap();
        folder.put(&ObjectKey::new("../x", "y/z"), &Secret::default()).unwrap();
        let mode = |path: &str| std::fs::metadata(root.join(path)).unwrap().permissions().mode() & 0o777;
        assert_eq!(mode(""), 0o700);
        assert_eq!(mode("accounts/a.json"), 0o600);
        assert_eq!(mode("certificates/___x"), 0o700);
        assert_eq!(mode("certificates/___x/y_z.json"), 0o600);
        assert_eq!(folder.certificates().len(), 1);
        let secret = Secret {
            data: Some([("tls.key".into(), k8s_openapi::ByteString(b"k".into()))].into()),
            ..Secret::default()
        };
        folder.put(&ObjectKey::new("a", "b"), &secret).unwrap();
        assert_eq!(folder.certificate_entry(&ObjectKey::new("a", "b"), "tls.key").unwrap().as_deref(), Some(&b"k"[..]));
        assert_eq!(folder.certificate_entry(&ObjectKey::new("a", "c"), "tls.key").unwrap(), None);
        assert_eq!(folder.account("a").unwrap().as_deref(), Some("{}"));
        assert_eq!(folder.account("b").unwrap(), None);
        let held = folder.lead().unwrap();
        assert!(held.is_some() && folder.lead().unwrap().is_none());
        drop(held);
        assert!(folder.lead().unwrap().is_some());
        std::fs::remove_dir_all(root).unwrap();
    }
}
