//! One thing that a report says about an Ingress.

use serde::Serialize;

/// What becomes of an Ingress.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Verdict {
    /// Its requests are answered as ingress-nginx answers them.
    Alike,
    /// Something that it asks for has another effect here, or none.
    Differs,
    /// Something that it asks for is refused, and its routes answer 503 or 403 for it.
    Refused,
}

impl Verdict {
    /// The word for people and programs.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Alike => "alike",
            Self::Differs => "differs",
            Self::Refused => "refused",
        }
    }
}

/// One thing that is to be known, and what to do about it.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Debug, Serialize)]
pub struct Finding {
    /// A word to look for: `regex-host`, `fails-open`.
    pub code: &'static str,
    /// The annotation without its prefix, or the field, host or path that it is about.
    pub subject: String,
    /// The value as it was written; empty where there is none.
    pub value: String,
    /// What happens, in lower case and without a full stop.
    pub text: String,
    /// What to write instead, or to do; empty where nothing needs to be done.
    pub remedy: String,
}

impl Finding {
    pub(super) fn new(code: &'static str, subject: impl Into<String>, text: impl Into<String>) -> Self {
        Self { code, subject: subject.into(), value: String::new(), text: text.into(), remedy: String::new() }
    }

    #[must_use]
    pub(super) fn value(mut self, value: impl Into<String>) -> Self {
        self.value = value.into();
        self
    }

    #[must_use]
    pub(super) fn remedy(mut self, remedy: impl Into<String>) -> Self {
        self.remedy = remedy.into();
        self
    }
}
