//! A second backend for some of the requests of a path.

use std::sync::Arc;

use http::HeaderName;
use regex::Regex;

use super::template::cookie;
use crate::backend::Backend;
use crate::fields::Fields;

/// The backend of a canary, and which requests it gets.
#[derive(Clone, Debug)]
pub struct Canary {
    /// The backend.
    pub backend: Arc<Backend>,
    /// Which requests.
    pub rule: Arc<CanaryRule>,
}

/// Which requests a canary gets: by field, then by cookie, then by chance.
#[derive(Clone, Debug, Default)]
pub struct CanaryRule {
    /// The field that decides.
    pub header: Option<HeaderName>,
    /// The value of the field that means the canary; otherwise `always` and `never` are told apart.
    pub value: Option<Box<str>>,
    /// What the value has to hold, where no value is given.
    pub pattern: Option<Regex>,
    /// The cookie that decides by `always` and `never`.
    pub cookie: Option<Box<str>>,
    /// Requests out of `total`.
    pub weight: u64,
    /// Of how many requests `weight` are the canary's.
    pub total: u64,
}

impl PartialEq for CanaryRule {
    fn eq(&self, other: &Self) -> bool {
        let pattern = |rule: &Self| rule.pattern.as_ref().map(|pattern| pattern.as_str().to_owned());
        self.header == other.header
            && self.value == other.value
            && pattern(self) == pattern(other)
            && self.cookie == other.cookie
            && self.weight == other.weight
            && self.total == other.total
    }
}

impl CanaryRule {
    /// Whether a request is the canary's. `dice` is a random number.
    pub fn takes(&self, headers: &Fields, dice: u64) -> bool {
        let by_header = self.header.as_ref().and_then(|name| self.by_header(headers, name));
        let by_cookie = || self.cookie.as_ref().and_then(|name| word(cookie(headers, name)?));
        by_header.or_else(by_cookie).unwrap_or_else(|| dice % self.total.max(1) < self.weight)
    }

    fn by_header(&self, headers: &Fields, name: &HeaderName) -> Option<bool> {
        let mut values = headers.get_all(name);
        let value = values.next()?.to_str().ok()?;
        if values.next().is_some() {
            return None;
        }
        match (&self.value, &self.pattern) {
            (Some(wanted), _) => (**wanted == *value).then_some(true),
            (None, Some(pattern)) => pattern.is_match(value).then_some(true),
            (None, None) => word(value),
        }
    }
}

fn word(text: &str) -> Option<bool> {
    match text {
        "always" => Some(true),
        "never" => Some(false),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use http::{HeaderMap, HeaderValue};

    use super::*;

    #[test]
    fn the_field_comes_before_the_cookie_and_the_cookie_before_chance() {
        let rule = CanaryRule {
            header: Some(HeaderName::from_static("x-c")),
            cookie: Some("cc".into()),
            weight: 30,
            total: 100,
            ..CanaryRule::default()
        };
        let headers = |field: &'static str, cookie: &'static str| {
            let mut headers = HeaderMap::new();
            if !field.is_empty() {
                headers.insert("x-c", HeaderValue::from_static(field));
            }
            if !cookie.is_empty() {
                headers.insert("cookie", HeaderValue::from_static(cookie));
            }
            Fields::from(&headers)
        };
        for (field, cookie, dice, expected) in [
            ("always", "cc=never", 99, true),
            ("never", "cc=always", 0, false),
            ("other", "cc=always", 99, true),
            ("ALWAYS", "cc=never", 0, false),
            ("", "cc=Always", 29, true),
            ("", "cc=Always", 30, false),
            ("", "", 129, true),
        ] {
            assert_eq!(rule.takes(&headers(field, cookie), dice), expected, "{field} {cookie} {dice}");
        }
    }
}
