//! The files of a folder: which there are, and which have changed since the last look.

use std::collections::{BTreeMap, HashMap};
use std::fs::{self, Metadata};
use std::io;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::{SystemTime, UNIX_EPOCH};

use super::ManifestsError;

/// How deep folders may be nested; a symbolic link to a parent ends here.
const DEPTH: usize = 16;
/// A larger file is not a manifest; the API server refuses an object of 1.5 MiB.
const LARGEST: u64 = 64 << 20;

/// What tells one content of a file from another without reading it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Signature {
    device: u64,
    inode: u64,
    size: u64,
    modified: (i64, i64),
    changed: (i64, i64),
}

impl Signature {
    fn of(meta: &Metadata) -> Self {
        Self {
            device: meta.dev(),
            inode: meta.ino(),
            size: meta.size(),
            modified: (meta.mtime(), meta.mtime_nsec()),
            changed: (meta.ctime(), meta.ctime_nsec()),
        }
    }

    /// Whether another write would show in the signature.
    ///
    /// The kernel's file times advance in ticks of up to 10 ms: a second write of the same length within the tick
    /// looks like the first. Such a file is read once more on the next look.
    pub(super) fn is_settled(&self) -> bool {
        let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default().as_millis();
        let changed = i128::from(self.changed.0) * 1000 + i128::from(self.changed.1) / 1_000_000;
        i128::try_from(now).is_ok_and(|now| now - changed > 50)
    }
}

/// One look at a folder.
#[derive(Debug, Default)]
pub(super) struct Scan {
    /// The files by path relative to the folder.
    pub(super) files: BTreeMap<Arc<str>, Found>,
    /// Why part of the folder could not be read. Files missing from `files` may still be there then.
    pub(super) failure: Option<String>,
}

/// What was found at a path.
#[derive(Debug)]
pub(super) enum Found {
    /// The file is as it was.
    Unchanged,
    /// The file is new or has changed.
    Text(Signature, String),
    /// The file is there but can't be read.
    Unreadable(String),
}

#[derive(Debug)]
pub(super) struct Folder {
    path: PathBuf,
}

impl Folder {
    pub(super) fn open(path: PathBuf) -> Result<Self, ManifestsError> {
        match fs::read_dir(&path) {
            Ok(_) => Ok(Self { path }),
            Err(cause) => Err(ManifestsError::Folder { folder: path, cause }),
        }
    }

    pub(super) fn path(&self) -> &Path {
        &self.path
    }

    /// Finds all manifests and reads those whose signature is not in `known`.
    pub(super) fn scan(&self, known: &HashMap<Arc<str>, Signature>) -> Scan {
        let mut scan = Scan::default();
        walk(&self.path, "", DEPTH, known, &mut scan);
        scan
    }
}

fn walk(folder: &Path, prefix: &str, depth: usize, known: &HashMap<Arc<str>, Signature>, scan: &mut Scan) {
    let entries = match fs::read_dir(folder) {
        Ok(entries) => entries,
        // Between listing and opening, a folder may well have been removed; but the outermost must be there.
        Err(error) if error.kind() == io::ErrorKind::NotFound && !prefix.is_empty() => return,
        Err(error) => {
            scan.failure = Some(format!("{}: {error}", folder.display()));
            return;
        }
    };
    for entry in entries {
        let entry = match entry {
            Ok(entry) => entry,
            Err(error) => {
                scan.failure = Some(format!("{}: {error}", folder.display()));
                return;
            }
        };
        let name = entry.file_name();
        let Some(name) = name.to_str().filter(|name| !name.starts_with('.')) else { continue };
        let path = entry.path();
        let relative = format!("{prefix}{name}");
        match fs::metadata(&path) {
            Ok(meta) if meta.is_dir() && depth > 0 => walk(&path, &format!("{relative}/"), depth - 1, known, scan),
            Ok(meta) if meta.is_file() && is_manifest(name) => {
                let relative: Arc<str> = relative.into();
                let found = look(&path, &meta, known.get(&relative));
                if let Some(found) = found {
                    scan.files.insert(relative, found);
                }
            }
            Err(error) if is_manifest(name) && error.kind() != io::ErrorKind::NotFound => {
                scan.files.insert(relative.into(), Found::Unreadable(error.to_string()));
            }
            Ok(_) | Err(_) => {}
        }
    }
}

fn is_manifest(name: &str) -> bool {
    let extension = Path::new(name).extension().and_then(|extension| extension.to_str());
    extension.is_some_and(|extension| matches!(extension, "yaml" | "yml" | "json"))
}

fn look(path: &Path, meta: &Metadata, known: Option<&Signature>) -> Option<Found> {
    let signature = Signature::of(meta);
    if known == Some(&signature) {
        return Some(Found::Unchanged);
    }
    if meta.size() > LARGEST {
        return Some(Found::Unreadable(format!("larger than {} MiB", LARGEST >> 20)));
    }
    match fs::read_to_string(path) {
        Ok(text) => Some(Found::Text(signature, text)),
        Err(error) if error.kind() == io::ErrorKind::NotFound => None,
        Err(error) if error.kind() == io::ErrorKind::InvalidData => {
            Some(Found::Unreadable("not UTF-8 text".to_owned()))
        }
        Err(error) => Some(Found::Unreadable(error.to_string())),
    }
}
