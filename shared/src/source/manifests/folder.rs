//! The files of a folder: which there are, and which have changed since the last look.

use std::collections::{BTreeMap, BTreeSet, HashMap, HashSet, VecDeque};
use std::fs::{self, Metadata};
use std::io;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::{SystemTime, UNIX_EPOCH};

use super::ManifestsError;

/// How deep folders may be nested.
const DEPTH: usize = 16;
/// A larger file is not a manifest; the API server refuses an object of 1.5 MiB.
const LARGEST: u64 = 64 << 20;

/// What tells one content of a file from another without reading it.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
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
    /// The outermost folder and those behind symbolic links. Where one is replaced, others are to be watched.
    pub(super) places: BTreeSet<Place>,
}

/// Device and inode of a folder.
pub(super) type Place = (u64, u64);

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
        let mut walk = Walk { known, scan: Scan::default(), seen: HashSet::new(), links: VecDeque::new() };
        if let Ok(meta) = fs::metadata(&self.path) {
            walk.enter(&meta);
            walk.scan.places.insert(place(&meta));
        }
        walk.folder(&self.path, "", DEPTH);
        // What is not behind a link comes first, so that a folder has one name whatever links to it.
        while let Some(Link { path, prefix, depth }) = walk.links.pop_front() {
            let Ok(meta) = fs::metadata(&path) else { continue };
            if walk.enter(&meta) {
                walk.scan.places.insert(place(&meta));
                walk.folder(&path, &prefix, depth);
            }
        }
        walk.scan
    }
}

pub(super) fn place(meta: &Metadata) -> Place {
    (meta.dev(), meta.ino())
}

/// A look at a folder while it goes on.
struct Walk<'a> {
    known: &'a HashMap<Arc<str>, Signature>,
    scan: Scan,
    /// Folders that were read. A folder may link to itself, or two to each other.
    seen: HashSet<Place>,
    links: VecDeque<Link>,
}

/// A symbolic link to a folder.
struct Link {
    path: PathBuf,
    prefix: String,
    depth: usize,
}

impl Walk<'_> {
    /// Whether a folder is still to be read.
    fn enter(&mut self, meta: &Metadata) -> bool {
        self.seen.insert(place(meta))
    }

    fn folder(&mut self, folder: &Path, prefix: &str, depth: usize) {
        let entries = fs::read_dir(folder).and_then(Iterator::collect::<io::Result<Vec<_>>>);
        let mut entries = match entries {
            Ok(entries) => entries,
            // Between listing and opening, a folder may well have been removed; but the outermost must be there.
            Err(error) if error.kind() == io::ErrorKind::NotFound && !prefix.is_empty() => return,
            Err(error) => {
                self.scan.failure = Some(format!("{}: {error}", folder.display()));
                return;
            }
        };
        entries.sort_by_key(fs::DirEntry::file_name);
        for entry in entries {
            let name = entry.file_name();
            let Some(name) = name.to_str().filter(|name| !name.starts_with('.')) else { continue };
            let linked = entry.file_type().is_ok_and(|kind| kind.is_symlink());
            self.entry(&entry.path(), name, linked, format!("{prefix}{name}"), depth);
        }
    }

    fn entry(&mut self, path: &Path, name: &str, linked: bool, relative: String, depth: usize) {
        match fs::metadata(path) {
            Ok(meta) if meta.is_dir() && depth > 0 => {
                let prefix = relative + "/";
                if linked {
                    self.links.push_back(Link { path: path.to_owned(), prefix, depth: depth - 1 });
                } else if self.enter(&meta) {
                    self.folder(path, &prefix, depth - 1);
                }
            }
            Ok(meta) if meta.is_file() && is_manifest(name) => {
                let relative: Arc<str> = relative.into();
                if let Some(found) = look(path, &meta, self.known.get(&relative)) {
                    self.scan.files.insert(relative, found);
                }
            }
            Err(error) if is_manifest(name) && error.kind() != io::ErrorKind::NotFound => {
                self.scan.files.insert(relative.into(), Found::Unreadable(error.to_string()));
            }
            Ok(_) | Err(_) => {}
        }
    }
}

fn is_manifest(name: &str) -> bool {
    let extension = Path::new(name).extension();
    extension.is_some_and(|extension| ["yaml", "yml", "json"].iter().any(|known| extension.eq_ignore_ascii_case(known)))
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
