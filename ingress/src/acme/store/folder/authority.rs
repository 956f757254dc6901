//! The CA of our own in a state folder.
//!
//! ```text
//! authority/ca.crt, ca.key             the root
//! authority/intermediate.ISSUER.*      intermediates
//! ca.crt                               what devices are to trust
//! ```

use std::collections::BTreeMap;
use std::io::ErrorKind;

use super::{Folder, StoreError, failed, file_name};
use crate::acme::store::ROOTS;

const AUTHORITY: &str = "authority";

impl Folder {
    /// What devices are to trust; empty where there is no CA.
    pub(in crate::acme) fn roots(&self) -> Result<String, StoreError> {
        Ok(Self::read(&self.root.join(ROOTS))?.unwrap_or_default())
    }

    pub(in crate::acme::store) fn authority(&self) -> Result<BTreeMap<String, String>, StoreError> {
        let folder = self.root.join(AUTHORITY);
        let listed = match std::fs::read_dir(&folder) {
            Ok(listed) => listed,
            Err(error) if error.kind() == ErrorKind::NotFound => return Ok(BTreeMap::new()),
            Err(error) => return Err(failed(&folder, error)),
        };
        let mut entries = BTreeMap::new();
        for entry in listed.flatten() {
            let name = entry.file_name().to_string_lossy().into_owned();
            if let Some(text) = Self::read(&entry.path())? {
                entries.insert(name, text);
            }
        }
        Ok(entries)
    }

    /// Certificate and key come to their place together, so that there is never one without the other.
    pub(in crate::acme::store) fn create_authority(
        &self,
        entries: &BTreeMap<String, String>,
    ) -> Result<bool, StoreError> {
        let (folder, beside) = (self.root.join(AUTHORITY), self.root.join("authority.new"));
        if self.authority()?.contains_key(ROOTS) {
            return Ok(false);
        }
        if let Err(error) = std::fs::remove_dir_all(&beside)
            && error.kind() != ErrorKind::NotFound
        {
            return Err(failed(&beside, error));
        }
        Self::make(&beside)?;
        // Intermediates of roots that somebody has brought along stay.
        for (name, text) in self.authority()?.iter().chain(entries) {
            Self::write(&beside.join(file_name(name)), text)?;
        }
        if let Err(error) = std::fs::remove_dir_all(&folder)
            && error.kind() != ErrorKind::NotFound
        {
            return Err(failed(&folder, error));
        }
        std::fs::rename(&beside, &folder).map_err(|error| failed(&folder, error))?;
        Ok(true)
    }

    pub(in crate::acme::store) fn save_authority(&self, entries: &BTreeMap<String, String>) -> Result<(), StoreError> {
        let folder = self.root.join(AUTHORITY);
        Self::make(&folder)?;
        for (name, text) in entries {
            Self::write(&folder.join(file_name(name)), text)?;
        }
        Ok(())
    }

    pub(in crate::acme::store) fn publish_roots(&self, text: &str) -> Result<(), StoreError> {
        Self::write(&self.root.join(ROOTS), text)
    }
}
