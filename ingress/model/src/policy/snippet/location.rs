//! `location` blocks of a server, and which of them takes a request.

use super::memory::Memory;
use super::script::{Level, Pattern};
use super::{Place, Snippet};

/// A `location` block.
#[derive(Clone, PartialEq, Debug)]
pub(crate) struct Location {
    pub(crate) at: Place,
    pub(super) path: LocationPath,
    pub(crate) level: Level,
}

#[derive(Clone, PartialEq, Debug)]
pub(super) enum LocationPath {
    /// `=`
    Exact(Box<str>),
    /// Without a modifier, or with `^~`: then no regular expression is looked at.
    Prefix { path: Box<str>, is_final: bool },
    /// `~` and `~*`
    Regex(Pattern),
}

/// What the rules of Ingresses have for a request.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Nearest {
    /// This very path.
    Exact,
    /// A path of so many characters, or the root of a host.
    Prefix(usize),
    /// A regular expression.
    Regex,
}

impl Nearest {
    pub(crate) const NONE: Self = Self::Prefix(0);
}

impl Snippet {
    /// The block that takes a request for the path in `memory`, as nginx chooses: that very path, the longest prefix if
    /// it is final, the first regular expression, the longest prefix. The groups of a regular expression are those of
    /// the request then. Blocks of snippets stand before the rules of Ingresses.
    pub(crate) fn locate(&self, memory: &mut Memory, rules: Nearest) -> Option<&Location> {
        if self.locations.is_empty() {
            return None;
        }
        let path = memory.path().to_vec();
        let exact =
            |location: &&Location| matches!(&location.path, LocationPath::Exact(exact) if exact.as_bytes() == path);
        if let Some(location) = self.locations.iter().find(exact) {
            return Some(location);
        }
        if rules == Nearest::Exact {
            return None;
        }
        let prefixes = self.locations.iter().filter_map(|location| match &location.path {
            LocationPath::Prefix { path: prefix, is_final } if path.starts_with(prefix.as_bytes()) => {
                Some((prefix.len(), *is_final, location))
            }
            _ => None,
        });
        let longest = prefixes.max_by_key(|(length, ..)| *length);
        let longest = longest.filter(|(length, ..)| !matches!(rules, Nearest::Prefix(other) if other > *length));
        if let Some((_, true, location)) = longest {
            return Some(location);
        }
        for location in &self.locations {
            if let LocationPath::Regex(pattern) = &location.path
                && pattern.matches(&path, memory)
            {
                return Some(location);
            }
        }
        longest.filter(|_| rules != Nearest::Regex).map(|(.., location)| location)
    }
}
