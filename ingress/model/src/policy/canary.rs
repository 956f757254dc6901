//! A second backend for some of the requests of a path.

use std::borrow::Cow;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use http::HeaderName;
use regex::Regex;

use super::template::variable_cookie as cookie;
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

/// 2^64 divided by the golden ratio. Its multiples are spread evenly over all numbers of 64 bits, however many of them
/// there are and whichever of them are looked at (H. Weyl 1916).
const GOLDEN: u64 = 0x9e37_79b9_7f4a_7c15;

/// Which requests a canary gets: by field, then by cookie, then by its share.
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
    /// `affinity-canary-behavior: legacy`: nobody stays at the canary by a cookie.
    pub ignores_affinity: bool,
    /// How many requests its share has been asked for.
    pub asked: Turns,
}

/// A count that a copy begins anew.
#[derive(Debug, Default)]
pub struct Turns(AtomicU64);

impl Clone for Turns {
    fn clone(&self) -> Self {
        Self::default()
    }
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
            && self.ignores_affinity == other.ignores_affinity
    }
}

impl CanaryRule {
    /// Whether a request is the canary's.
    pub fn takes(&self, headers: &Fields) -> bool {
        let by_header = self.header.as_ref().and_then(|name| self.by_header(headers, name));
        let by_cookie = || self.cookie.as_ref().and_then(|name| word(cookie(headers, name)?));
        by_header.or_else(by_cookie).unwrap_or_else(|| self.is_in_share())
    }

    /// Whether the next request is within the canary's share. After any number of requests it has got that share of
    /// them to within a few, and no pattern of requests meets a pattern here.
    fn is_in_share(&self) -> bool {
        if self.weight == 0 || self.weight >= self.total {
            return self.weight > 0;
        }
        let turn = self.asked.0.fetch_add(1, Ordering::Relaxed).wrapping_add(1);
        let place = u128::from(turn.wrapping_mul(GOLDEN)) * u128::from(self.total);
        place >> 64 < u128::from(self.weight)
    }

    fn by_header(&self, headers: &Fields, name: &HeaderName) -> Option<bool> {
        // Several fields of one name are one list.
        let values: Vec<&str> = headers.get_all(name).filter_map(|value| value.to_str().ok()).collect();
        let value = match &values[..] {
            [] => return None,
            [value] => Cow::Borrowed(*value),
            several => Cow::Owned(several.join(", ")),
        };
        match (&self.value, &self.pattern) {
            (Some(wanted), _) => (**wanted == *value).then_some(true),
            (None, Some(pattern)) => pattern.is_match(&value).then_some(true),
            (None, None) => word(&value),
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
        for (field, cookie, weight, expected) in [
            ("always", "cc=never", 0, true),
            ("never", "cc=always", 100, false),
            ("other", "cc=always", 0, true),
            ("ALWAYS", "cc=never", 100, false),
            ("", "CC=always", 0, true),
            ("", "cc=Always", 100, true),
            ("", "cc=Always", 0, false),
            ("", "", 200, true),
        ] {
            let rule = CanaryRule { weight, ..rule.clone() };
            assert_eq!(rule.takes(&headers(field, cookie)), expected, "{field} {cookie} {weight}");
        }
    }

    #[test]
    fn a_share_is_kept_at_any_time_and_for_every_nth_request() {
        let headers = Fields::default();
        for (weight, total) in [(10, 100), (50, 100), (1, 1000), (99, 100)] {
            for step in [1, 2, 3, 7, 10] {
                let rule = CanaryRule { weight, total, ..CanaryRule::default() };
                let taken: Vec<bool> = (0..20_000).map(|_| rule.takes(&headers)).collect();
                let seen = taken.iter().step_by(step);
                let (count, of) = (seen.clone().filter(|taken| **taken).count() as u64, seen.count() as u64);
                let expected = of * weight / total;
                assert!(count.abs_diff(expected) <= 10, "{weight}/{total}, every {step}th: {count} of {expected}");
            }
        }
    }
}
