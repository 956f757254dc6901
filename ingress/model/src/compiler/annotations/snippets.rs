//! The annotations that hold nginx configuration.

use std::collections::BTreeSet;
use std::sync::Arc;

use super::PREFIX;
use crate::policy::snippet::{Kind, Name, Snippet, SnippetFault, names_of, read};

/// What became of a text.
pub(crate) type Outcome = Result<(Arc<Snippet>, Vec<SnippetFault>), Vec<SnippetFault>>;

/// The annotations of this family.
#[derive(Clone, PartialEq, Debug, Default)]
pub(crate) struct SnippetAnnotations(Vec<Written>);

/// One of them.
#[derive(Clone, PartialEq, Debug)]
pub(crate) struct Written {
    pub(crate) kind: Kind,
    /// The name of the annotation, with its prefix.
    pub(crate) key: Box<str>,
    pub(crate) outcome: Outcome,
}

/// Which kind of snippet an annotation holds.
pub(super) fn kind_of(name: &str) -> Option<Kind> {
    match name {
        "configuration-snippet" => Some(Kind::Configuration),
        "server-snippet" => Some(Kind::Server),
        "auth-snippet" => Some(Kind::Auth),
        _ => None,
    }
}

impl SnippetAnnotations {
    /// Reads the texts of one Ingress, which may use each other's variables.
    pub(super) fn read(texts: &[(Kind, &str)]) -> Self {
        let names: BTreeSet<Name> = texts.iter().flat_map(|(_, text)| names_of(text)).collect();
        let written = texts.iter().map(|(kind, text)| {
            let outcome = read(*kind, text, &names).map(|(snippet, notes)| (Arc::new(snippet), notes));
            Written { kind: *kind, key: format!("{PREFIX}{kind}").into(), outcome }
        });
        Self(written.collect())
    }

    /// All of them.
    pub(crate) fn iter(&self) -> impl Iterator<Item = &Written> {
        self.0.iter()
    }
}
