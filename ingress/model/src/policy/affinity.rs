//! Which endpoint a client or a request belongs to.

use std::fmt::Write;
use std::hash::{DefaultHasher, Hash, Hasher};
use std::net::SocketAddr;

use http::{HeaderValue, header};
use k8s_openapi::jiff::Timestamp;

use super::template::{Template, cookie};
use crate::fields::Fields;

/// A cookie that keeps a client at its endpoint.
#[derive(Clone, PartialEq, Debug)]
pub struct CookieAffinity {
    /// Its name.
    pub name: Box<str>,
    /// `Path`; `None`: the path of the rule.
    pub path: Option<Box<str>>,
    /// `Domain`.
    pub domain: Option<Box<str>>,
    /// `Expires`, in seconds from now.
    pub expires: Option<i64>,
    /// `Max-Age`, in seconds.
    pub max_age: Option<i64>,
    /// `SameSite`.
    pub same_site: Option<Box<str>>,
    /// `SameSite=None` is left out for browsers that take it for another value.
    pub conditional_none: bool,
    /// `Secure` over plain HTTP, too.
    pub secure: bool,
    /// Whether the cookie names the endpoint itself, which holds when others come and go.
    pub persistent: bool,
}

/// What requests have in common that go to the same endpoint.
#[derive(Clone, PartialEq, Debug)]
pub struct HashBy {
    /// The key.
    pub key: Template,
    /// Of how many endpoints each key has one is taken in turn; 1: it has one.
    pub subset: usize,
}

impl CookieAffinity {
    /// What the client sends: what tells its endpoint, and the name of the backend that has given it.
    pub fn value<'a>(&self, headers: &'a Fields) -> Option<(&'a str, &'a str)> {
        let value = cookie(headers, &self.name).filter(|value| !value.is_empty())?;
        Some(value.split_once('|').unwrap_or((value, "")))
    }

    /// `Set-Cookie`, for a rule's path, at `now` seconds since the epoch.
    pub fn set(&self, value: &str, rule_path: &str, secure: bool, headers: &Fields, now: u64) -> Option<HeaderValue> {
        let mut text = String::with_capacity(128);
        for part in [&*self.name, "=", value] {
            text.push_str(part);
        }
        // The order is that of ingress-nginx. Writing to a text can't fail.
        if let Some(expires) = self.expires {
            let _ = write!(text, "; Expires={}", date(now.saturating_add_signed(expires)));
        }
        if let Some(max_age) = self.max_age {
            let _ = write!(text, "; Max-Age={max_age}");
        }
        if let Some(domain) = &self.domain {
            let _ = write!(text, "; Domain={domain}");
        }
        text.push_str("; Path=");
        text.push_str(self.path.as_deref().unwrap_or(rule_path));
        if secure || self.secure {
            text.push_str("; Secure");
        }
        text.push_str("; HttpOnly");
        if let Some(same_site) = &self.same_site {
            let agent = headers.get(header::USER_AGENT).and_then(|agent| agent.to_str().ok()).unwrap_or_default();
            if !(self.conditional_none && **same_site == *"None" && misreads_none(agent)) {
                let _ = write!(text, "; SameSite={same_site}");
            }
        }
        HeaderValue::try_from(text).ok()
    }
}

/// Writes a number as 16 hexadecimal digits.
pub fn push_hexadecimal(number: u64, text: &mut String) {
    for shift in (0..16).rev() {
        let digit = u32::try_from(number >> (shift * 4) & 0xf).unwrap_or_default();
        text.push(char::from_digit(digit, 16).unwrap_or('0'));
    }
}

/// Browsers that take `SameSite=None` for `Strict`, or refuse the cookie (the Chromium project's list of incompatible
/// clients).
fn misreads_none(agent: &str) -> bool {
    let chrome = agent.split("Chrome/").nth(1).and_then(|rest| rest.split('.').next()).map(str::parse::<u32>);
    let old_chrome = matches!(chrome, Some(Ok(51..=66)));
    let old_apple = agent.contains("iPhone OS 12_")
        || agent.contains("CPU OS 12_")
        || (agent.contains("Macintosh") && agent.contains("10_14") && agent.contains("Safari") && chrome.is_none());
    old_chrome || old_apple
}

/// `Fri, 27-Nov-26 06:05:42 GMT`: nginx's form of a cookie's time.
fn date(seconds: u64) -> String {
    let seconds = i64::try_from(seconds).unwrap_or(i64::MAX);
    let time = Timestamp::from_second(seconds).unwrap_or(Timestamp::MAX);
    time.strftime("%a, %d-%b-%y %H:%M:%S GMT").to_string()
}

/// A number for a text, the same in every process.
pub fn key_of(text: &[u8]) -> u64 {
    let mut hasher = DefaultHasher::new();
    text.hash(&mut hasher);
    hasher.finish()
}

/// What a cookie calls an endpoint.
pub fn name_of(address: SocketAddr) -> String {
    let mut name = String::with_capacity(16);
    push_hexadecimal(key_of(address.to_string().as_bytes()), &mut name);
    name
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_time_has_the_form_of_nginx() {
        assert_eq!(date(0), "Thu, 01-Jan-70 00:00:00 GMT");
        assert_eq!(date(1_795_759_542), "Fri, 27-Nov-26 06:05:42 GMT");
        assert_eq!(date(1_709_164_800), "Thu, 29-Feb-24 00:00:00 GMT");
    }
}
