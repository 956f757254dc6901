//! Names of hosts beside those that rules have, and clients that no host serves.

use std::collections::BTreeMap;
use std::sync::Arc;

use http::header::{REFERER, USER_AGENT};
use http::{HeaderName, HeaderValue, StatusCode};

use crate::fields::Fields;
use crate::host::{HostName, HostPattern};
use crate::policy::Forwarding;

/// Names of a host besides its own.
#[derive(Clone, Debug)]
pub enum NamePattern {
    /// This name.
    Exact(HostName),
    /// All names below this one.
    Below(HostName),
    /// Names that hold this expression.
    Regex(regex::Regex),
}

impl NamePattern {
    /// Whether a name is meant.
    pub fn matches(&self, name: &str) -> bool {
        match self {
            Self::Exact(exact) => exact.as_str() == name,
            Self::Below(domain) => {
                name.strip_suffix(domain.as_str()).is_some_and(|rest| rest.len() > 1 && rest.ends_with('.'))
            }
            Self::Regex(pattern) => pattern.is_match(name),
        }
    }
}

impl PartialEq for NamePattern {
    fn eq(&self, other: &Self) -> bool {
        match (self, other) {
            (Self::Exact(a), Self::Exact(b)) | (Self::Below(a), Self::Below(b)) => a == b,
            (Self::Regex(a), Self::Regex(b)) => a.as_str() == b.as_str(),
            _ => false,
        }
    }
}

/// Another name of a host.
#[derive(Clone, PartialEq, Debug)]
pub struct Alias {
    /// The name.
    pub name: NamePattern,
    /// The host whose rules hold.
    pub host: HostPattern,
    /// The names in the certificate of the host; a plain request is sent to HTTPS only by one of them.
    pub covered: Arc<[HostPattern]>,
}

/// A name that is sent to the same one with or without `www.`.
#[derive(Clone, PartialEq, Debug)]
pub struct WwwRedirect {
    /// Where to.
    pub host: HostName,
    /// `http-redirect-code`.
    pub status: StatusCode,
    /// Whose word about scheme and port is believed.
    pub forwarding: Arc<Forwarding>,
    /// Fields of the answer.
    pub fields: Vec<(HeaderName, HeaderValue)>,
}

/// Names beside those that rules have.
#[derive(Clone, PartialEq, Debug, Default)]
pub struct OtherNames {
    /// Aliases, in the order in which they count.
    pub aliases: Vec<Alias>,
    /// Names that are sent elsewhere.
    pub www: BTreeMap<HostName, WwwRedirect>,
}

impl OtherNames {
    /// The host that a name stands for, or to which clients are sent that ask for it.
    pub(super) fn target(&self, name: &HostName) -> Option<HostPattern> {
        if let Some(redirect) = self.www.get(name) {
            return Some(HostPattern::Exact(redirect.host.clone()));
        }
        let alias = self.aliases.iter().find(|alias| alias.name.matches(name.as_str()))?;
        Some(alias.host.clone())
    }
}

/// Clients that are refused whatever they ask for: `block-user-agents` and `block-referers`.
#[derive(Clone, PartialEq, Debug, Default)]
pub struct Blocked {
    /// By `User-Agent`.
    pub agents: Vec<TextPattern>,
    /// By `Referer`.
    pub referers: Vec<TextPattern>,
}

/// A text, or a regular expression.
#[derive(Clone, Debug)]
pub enum TextPattern {
    /// This text, whatever the letter case.
    Exact(Box<str>),
    /// What holds this expression.
    Regex(regex::Regex),
}

impl PartialEq for TextPattern {
    fn eq(&self, other: &Self) -> bool {
        match (self, other) {
            (Self::Exact(a), Self::Exact(b)) => a == b,
            (Self::Regex(a), Self::Regex(b)) => a.as_str() == b.as_str(),
            _ => false,
        }
    }
}

impl Blocked {
    /// Whether a request is refused.
    pub fn blocks(&self, headers: &Fields) -> bool {
        let text = |name: HeaderName| headers.get(name).and_then(|value| value.to_str().ok()).unwrap_or_default();
        let among = |patterns: &[TextPattern], text: &str| {
            patterns.iter().any(|pattern| match pattern {
                TextPattern::Exact(exact) => exact.eq_ignore_ascii_case(text),
                TextPattern::Regex(pattern) => pattern.is_match(text),
            })
        };
        among(&self.agents, text(USER_AGENT)) || among(&self.referers, text(REFERER))
    }
}
