//! Changes to the head of a response on its way to the client.

use http::header::{LOCATION, REFRESH, SET_COOKIE};
use http::{HeaderName, HeaderValue};

use super::template::{Facts, Template};
use crate::fields::Fields;

/// `Strict-Transport-Security` (RFC 6797), for answers over TLS.
pub type Hsts = HeaderValue;

/// What is changed in a response.
#[derive(Clone, PartialEq, Debug, Default)]
pub struct ResponseRules {
    /// Sent over TLS, in place of the backend's own.
    pub hsts: Option<Hsts>,
    /// Fields that every answer gets, in place of the backend's own.
    pub set: Vec<(HeaderName, HeaderValue)>,
    /// Fields of the backend that no client gets.
    pub hide: Vec<HeaderName>,
    /// The beginning of `Location` and `Refresh` of the backend.
    pub location: Option<Replace>,
    /// `Domain` of the backend's cookies.
    pub cookie_domain: Option<Replace>,
    /// `Path` of the backend's cookies.
    pub cookie_path: Option<Replace>,
}

/// A text at the beginning of a value, and what stands there afterwards.
#[derive(Clone, PartialEq, Debug)]
pub struct Replace {
    /// What is looked for.
    pub from: Box<str>,
    /// What takes its place.
    pub to: Template,
}

impl ResponseRules {
    /// Whether nothing is changed.
    pub fn is_empty(&self) -> bool {
        *self == Self::default()
    }

    /// Whether values of the backend are changed.
    pub fn changes_values(&self) -> bool {
        self.location.is_some() || self.cookie_domain.is_some() || self.cookie_path.is_some()
    }

    /// The fields of a response that are other than the backend sent them; several of one name stand together.
    pub fn rewritten(&self, headers: &Fields, facts: &Facts<'_>) -> Vec<(HeaderName, Vec<HeaderValue>)> {
        let mut changed = Vec::new();
        if let Some(replace) = &self.location {
            for name in [LOCATION, REFRESH] {
                let value = headers.get(&name).and_then(|value| value.to_str().ok());
                if let Some(value) = value.and_then(|value| location(&name, value, replace, facts)) {
                    changed.push((name, vec![value]));
                }
            }
        }
        if self.cookie_domain.is_some() || self.cookie_path.is_some() {
            let cookies: Vec<HeaderValue> = headers.get_all(SET_COOKIE).map(|cookie| cookie.to_value()).collect();
            let rewritten: Vec<HeaderValue> = cookies.iter().map(|cookie| self.cookie(cookie, facts)).collect();
            if cookies != rewritten {
                changed.push((SET_COOKIE, rewritten));
            }
        }
        changed
    }

    /// A cookie with its `Domain` and `Path` replaced; one that needs no change stays as it is.
    fn cookie(&self, cookie: &HeaderValue, facts: &Facts<'_>) -> HeaderValue {
        let Ok(text) = cookie.to_str() else { return cookie.clone() };
        let mut changed = false;
        let mut attribute = |part: &str| -> String {
            let part = part.trim();
            let Some((name, value)) = part.split_once('=') else { return part.to_owned() };
            let replace = match name.trim().to_ascii_lowercase().as_str() {
                "domain" => self.cookie_domain.as_ref(),
                "path" => self.cookie_path.as_ref(),
                _ => None,
            };
            let domain = name.trim().eq_ignore_ascii_case("domain");
            match replace.and_then(|replace| replace.cookie(value.trim(), domain, facts)) {
                Some(value) => {
                    changed = true;
                    format!("{}={value}", name.trim())
                }
                None => part.to_owned(),
            }
        };
        let mut parts = text.split(';');
        let mut result = parts.next().unwrap_or_default().to_owned();
        for part in parts {
            result.push_str("; ");
            result.push_str(&attribute(part));
        }
        if !changed {
            return cookie.clone();
        }
        HeaderValue::from_str(&result).unwrap_or_else(|_| cookie.clone())
    }
}

impl Replace {
    fn cookie(&self, value: &str, domain: bool, facts: &Facts<'_>) -> Option<String> {
        let rest = if domain {
            let bare = |text: &str| text.trim_start_matches('.').to_ascii_lowercase();
            (bare(value) == bare(&self.from)).then_some("")?
        } else {
            value.strip_prefix(&*self.from)?
        };
        Some(self.to.expand(facts) + rest)
    }
}

/// The new value of `Location` or `Refresh`. What becomes relative by it is relative to the host of the request.
fn location(name: &HeaderName, value: &str, replace: &Replace, facts: &Facts<'_>) -> Option<HeaderValue> {
    let (before, place) = if name == REFRESH { value.split_at(value.find("url=")? + 4) } else { ("", value) };
    let rest = place.strip_prefix(&*replace.from)?;
    let mut place = replace.to.expand(facts) + rest;
    if place.starts_with('/') && name == LOCATION {
        place = format!("{}://{}{place}", facts.scheme, facts.host);
    }
    HeaderValue::from_str(&format!("{before}{place}")).ok()
}
