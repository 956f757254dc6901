//! Changes to fields.

use std::sync::LazyLock;

use http::header::{CONTENT_LENGTH, TRANSFER_ENCODING};
use http::{HeaderMap, HeaderName, HeaderValue};

use super::{FieldLine, mark};

/// Names that are the same for every message, and what finds them quickly.
#[derive(Debug)]
pub struct Names {
    list: Box<[HeaderName]>,
    marks: u64,
}

impl Names {
    /// These names.
    pub fn new(names: impl Into<Box<[HeaderName]>>) -> Self {
        let list = names.into();
        let marks = list.iter().fold(0, |all, name| all | bit(name));
        Self { list, marks }
    }
}

impl PartialEq for Names {
    fn eq(&self, other: &Self) -> bool {
        self.list == other.list
    }
}

impl Default for &Names {
    fn default() -> Self {
        static NONE: LazyLock<Names> = LazyLock::new(|| Names::new([]));
        &NONE
    }
}

fn bit(name: &HeaderName) -> u64 {
    1 << mark(name.as_str().as_bytes())
}

/// Changes to a header section: first the removals, then the settings, then the additions.
#[derive(Clone, PartialEq, Debug, Default)]
pub struct HeaderEdits {
    /// Fields to remove from every message of a kind.
    pub always: &'static Names,
    /// Further fields to remove.
    pub remove: Vec<HeaderName>,
    /// Fields to set, each replacing all former values.
    pub set: Vec<(HeaderName, HeaderValue)>,
    /// Fields to add.
    pub add: Vec<(HeaderName, HeaderValue)>,
}

impl HeaderEdits {
    /// All fields to remove.
    pub fn removed(&self) -> impl Iterator<Item = &HeaderName> {
        self.always.list.iter().chain(&self.remove)
    }

    /// Carries the edits out on a plain header map.
    pub fn apply(&self, headers: &mut HeaderMap) {
        for name in self.removed() {
            headers.remove(name);
        }
        for (name, value) in &self.set {
            headers.insert(name.clone(), value.clone());
        }
        for (name, value) in &self.add {
            headers.append(name.clone(), value.clone());
        }
    }
}

/// What says where a body ends.
static FRAMING: LazyLock<Names> = LazyLock::new(|| Names::new([CONTENT_LENGTH, TRANSFER_ENCODING]));

/// The names that edits touch, and those that frame the body. Most names differ from all of them by their mark.
pub(super) struct Edited<'a> {
    edits: &'a HeaderEdits,
    marks: u64,
}

impl<'a> Edited<'a> {
    pub(super) fn new(edits: &'a HeaderEdits) -> Self {
        let mut marks = edits.always.marks | FRAMING.marks;
        for name in edits.remove.iter().chain(edits.set.iter().map(|(name, _)| name)) {
            marks |= bit(name);
        }
        Self { edits, marks }
    }

    /// Whether a line is not passed on as it is.
    pub(super) fn has(&self, line: &FieldLine, raw: &[u8]) -> bool {
        if self.marks & 1 << line.mark == 0 {
            return false;
        }
        let name = line.name(raw);
        let same = |other: &HeaderName| name.eq_ignore_ascii_case(other.as_str().as_bytes());
        same(&CONTENT_LENGTH)
            || same(&TRANSFER_ENCODING)
            || self.edits.set.iter().any(|(other, _)| same(other))
            || self.edits.removed().any(same)
    }
}
