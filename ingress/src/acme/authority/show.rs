//! What devices are to trust, for whoever asks this replica.

use std::collections::BTreeMap;
use std::sync::{Mutex, MutexGuard, PoisonError};

/// The roots of all CAs of our own.
#[derive(Debug, Default)]
pub(crate) struct Roots(Mutex<Shown>);

#[derive(Debug, Default)]
struct Shown {
    /// As the leader knows them, by issuer.
    own: BTreeMap<String, String>,
    /// All of them, each once, in PEM form.
    text: String,
    /// Whether that is written where other replicas read it.
    is_written: bool,
}

impl Roots {
    /// The roots in PEM form; `None` if there is none yet.
    pub(crate) fn text(&self) -> Option<String> {
        let shown = self.shown();
        (!shown.text.is_empty()).then(|| shown.text.clone())
    }

    /// Takes over what the leader has written.
    pub(in crate::acme) fn follow(&self, text: String) {
        *self.shown() = Shown { text, ..Shown::default() };
    }

    /// Takes the root of an issuer. Returns all of them if they are to be written.
    pub(super) fn set(&self, issuer: &str, root: String) -> Option<String> {
        let mut shown = self.shown();
        shown.own.insert(issuer.to_owned(), root);
        let mut texts: Vec<&str> = shown.own.values().map(String::as_str).collect();
        texts.sort_unstable();
        texts.dedup();
        let text = texts.concat();
        if shown.text != text {
            shown.text = text;
            shown.is_written = false;
        }
        (!shown.is_written).then(|| shown.text.clone())
    }

    /// Notes that a text was written.
    pub(super) fn written(&self, text: &str) {
        let mut shown = self.shown();
        shown.is_written = shown.text == text;
    }

    fn shown(&self) -> MutexGuard<'_, Shown> {
        // Every change of it is whole before anything can fail.
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
