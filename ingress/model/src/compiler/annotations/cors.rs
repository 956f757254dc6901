//! Cross-origin resource sharing.

use std::sync::Arc;

use http::{HeaderName, HeaderValue};

use super::fault::Fault;
use super::value::{boolean, is_of, number};
use super::{Annotations, Read};
use crate::policy::{Cors, OriginPattern};

const METHODS: &str = "GET, PUT, POST, DELETE, PATCH, OPTIONS";
const HEADERS: &str =
    "DNT,Keep-Alive,User-Agent,X-Requested-With,If-Modified-Since,Cache-Control,Content-Type,Range,Authorization";
/// Twenty days.
const MAX_AGE: i64 = 1_728_000;

/// The annotations of this family.
#[derive(Clone, PartialEq, Debug, Default)]
pub(super) struct CorsAnnotations {
    enabled: bool,
    /// `None`: all.
    origins: Option<Vec<OriginPattern>>,
    methods: Option<HeaderValue>,
    headers: Option<HeaderValue>,
    expose: Option<HeaderValue>,
    no_credentials: bool,
    max_age: Option<i64>,
    made: Option<Arc<Cors>>,
}

impl CorsAnnotations {
    pub(super) fn read_in(all: &mut Annotations, name: &str, value: &str) -> Result<Read, Fault> {
        let this = &mut all.cors;
        match name {
            "enable-cors" => this.enabled = boolean(value)?,
            "cors-allow-origin" => return this.read_origins(value).map(|()| Read::Taken),
            "cors-allow-methods" => {
                this.methods = Some(list(value, |word| word.bytes().all(|byte| byte.is_ascii_alphabetic()))?);
            }
            "cors-allow-headers" => {
                let value = if is_of(value, b"-_, ") { HeaderValue::from_str(value).ok() } else { None };
                this.headers = Some(value.ok_or(Fault::Value(NAMES))?);
            }
            "cors-expose-headers" => this.expose = Some(list(value, |word| word == "*" || is_of(word, b"-_"))?),
            "cors-allow-credentials" => this.no_credentials = !boolean(value)?,
            "cors-max-age" => this.max_age = Some(number(value)?),
            _ => return Ok(Read::Foreign),
        }
        Ok(Read::Taken)
    }

    /// A list with an entry that can't be read allows nobody: ingress-nginx takes it for all origins. One without a
    /// scheme is left out there, too, and the others hold.
    fn read_origins(&mut self, value: &str) -> Result<(), Fault> {
        let entries: Vec<&str> = value.split(',').map(str::trim).filter(|entry| !entry.is_empty()).collect();
        if entries.contains(&"*") {
            self.origins = None;
            return Ok(());
        }
        let read = |entry: &&str| origin(entry).ok_or_else(|| (*entry).to_owned());
        let is_bare = |entry: &&str| !entry.contains("://") && is_of(entry, b"-.:*");
        let (bare, full): (Vec<&str>, Vec<&str>) =
            entries.into_iter().partition(|entry| read(entry).is_err() && is_bare(entry));
        let origins: Result<Vec<_>, _> = full.iter().map(read).collect();
        self.origins = Some(origins.as_ref().cloned().unwrap_or_default());
        match (origins, bare.first()) {
            (Err(entry), _) => Err(Fault::Origin(entry)),
            (Ok(origins), Some(bare)) if origins.is_empty() => Err(Fault::Origin((*bare).to_owned())),
            (Ok(_), Some(bare)) => Err(Fault::BareOrigin((*bare).to_owned())),
            (Ok(_), None) => Ok(()),
        }
    }

    /// Makes the policy out of what was read.
    pub(super) fn finish(&mut self) {
        if !self.enabled {
            return;
        }
        let name = HeaderName::from_static;
        let value = HeaderValue::from_static;
        let mut fields = vec![
            (name("access-control-allow-methods"), self.methods.clone().unwrap_or(value(METHODS))),
            (name("access-control-allow-headers"), self.headers.clone().unwrap_or(value(HEADERS))),
            (name("access-control-max-age"), self.max_age.unwrap_or(MAX_AGE).into()),
        ];
        fields.extend(self.expose.clone().map(|expose| (name("access-control-expose-headers"), expose)));
        let origins = self.origins.clone().map(Into::into);
        self.made = Some(Arc::new(Cors { origins, credentials: !self.no_credentials, fields: fields.into() }));
    }

    pub(super) fn cors(&self) -> Option<Arc<Cors>> {
        self.made.clone()
    }
}

const NAMES: &str = "give names separated by commas";

/// Words that are each followed by a comma, a space, both or none, as ingress-nginx wants them.
fn list(value: &str, is_word: impl Fn(&str) -> bool) -> Result<HeaderValue, Fault> {
    let words = value.split_inclusive([',', ' ']);
    let mut behind_comma = false;
    for piece in words {
        let word = piece.trim_end_matches([',', ' ']);
        let is_gap = word.is_empty() && piece == " " && behind_comma;
        if !is_gap && (word.is_empty() || !is_word(word)) {
            return Err(Fault::Value(NAMES));
        }
        behind_comma = piece.ends_with(',');
    }
    HeaderValue::from_str(value).map_err(|_| Fault::Value(NAMES))
}

/// `https://app.example.com:8443`, `https://*.example.com`, or `null`.
fn origin(text: &str) -> Option<OriginPattern> {
    let text = text.to_ascii_lowercase();
    if text == "null" {
        return Some(OriginPattern::Exact(text.into()));
    }
    let (scheme, host) = text.split_once("://")?;
    let starts = scheme.bytes().next().is_some_and(|byte| byte.is_ascii_lowercase());
    if !starts || !is_of(scheme, b"+-.") {
        return None;
    }
    let (wildcard, bare) = match host.strip_prefix("*.") {
        Some(rest) => (true, rest),
        None => (false, host),
    };
    let (name, port) = bare.split_once(':').unwrap_or((bare, "1"));
    let digits = !port.is_empty() && port.bytes().all(|byte| byte.is_ascii_digit());
    if name.is_empty() || !is_of(name, b"-._") || !digits {
        return None;
    }
    Some(if wildcard {
        OriginPattern::Subdomains(format!("{scheme}://").into(), format!(".{bare}").into())
    } else {
        OriginPattern::Exact(text.into())
    })
}
