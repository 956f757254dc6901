//! What snippets make of a request and of its response, once it is decided where the request goes.

use http::header::{CACHE_CONTROL, CONTENT_TYPE, ETAG, EXPIRES, LAST_MODIFIED};
use http::{HeaderMap, HeaderName, HeaderValue, StatusCode};
use k8s_openapi::jiff::Timestamp;
use k8s_openapi::jiff::fmt::rfc2822;

use super::settings::{Change, Field, Lifetime, Manner, clear_all};
use super::value::{Filled, Name, Response};

/// What a snippet asks for, with everything filled in that is known of the request.
#[derive(Clone, PartialEq, Debug, Default)]
pub struct Effects {
    /// `proxy_set_header`; an empty value removes the field.
    pub(super) request: Vec<(HeaderName, Filled)>,
    /// `auth_request_set`.
    pub(super) auth: Vec<(Name, Filled)>,
    pub(super) more: Vec<More>,
    pub(super) add: Vec<Add>,
    pub(super) expires: Option<Lifetime>,
    pub(super) hide: Vec<HeaderName>,
    pub(super) pass: Vec<HeaderName>,
    /// Seconds since the epoch.
    pub(super) now: u64,
    pub(super) told: Vec<String>,
}

#[derive(Clone, PartialEq, Debug)]
pub(super) struct More {
    pub(super) change: Change,
    pub(super) value: Filled,
}

#[derive(Clone, PartialEq, Debug)]
pub(super) struct Add {
    pub(super) name: HeaderName,
    pub(super) value: Filled,
    pub(super) always: bool,
}

impl Effects {
    /// Fills in what an authentication service has said, if one was asked, and gives the fields for the backend; those
    /// without a value are removed.
    pub(crate) fn settle(
        &mut self,
        opinion: Option<(StatusCode, &HeaderMap)>,
    ) -> Vec<(HeaderName, Option<HeaderValue>)> {
        let mut said: Vec<(Name, Vec<u8>)> = Vec::new();
        for (name, value) in &mut self.auth {
            value.settle(&said);
            let response = opinion.map(|(status, fields)| Response { status, upstream: Some(fields), sent: fields });
            let text = value.text(response);
            said.retain(|(known, _)| known != name);
            said.push((name.clone(), text));
        }
        let more = self.more.iter_mut().map(|more| &mut more.value);
        let add = self.add.iter_mut().map(|add| &mut add.value);
        for value in more.chain(add).chain(self.request.iter_mut().map(|(_, value)| value)) {
            value.settle(&said);
        }
        let value = |value: &Filled| {
            let bytes = value.text(None);
            if bytes.is_empty() { None } else { HeaderValue::from_bytes(&bytes).ok() }
        };
        self.request.iter().map(|(name, filled)| (name.clone(), value(filled))).collect()
    }

    /// What was done, for people.
    pub fn told(&self) -> &[String] {
        &self.told
    }

    /// Fields of a backend that no client gets.
    pub(crate) fn hides(&self) -> &[HeaderName] {
        &self.hide
    }

    /// Whether a field is to pass that would not otherwise.
    pub(crate) fn passes(&self, name: &HeaderName) -> bool {
        self.pass.contains(name)
    }

    /// Whether responses stay as they are.
    pub(crate) fn leaves_responses(&self) -> bool {
        self.more.is_empty() && self.add.is_empty() && self.expires.is_none()
    }

    /// Changes the fields of a response in nginx's order: headers-more, `expires`, `add_header`.
    pub(crate) fn apply(&self, status: StatusCode, upstream: Option<&HeaderMap>, headers: &mut HeaderMap) {
        for more in &self.more {
            more.apply(status, upstream, headers);
        }
        let is_good = matches!(status.as_u16(), 200 | 201 | 204 | 206 | 301..=304 | 307 | 308);
        if let Some(lifetime) = self.expires.filter(|_| is_good) {
            self.expire(lifetime, headers);
        }
        for add in self.add.iter().filter(|add| add.always || is_good) {
            let text = add.value.text(Some(Response { status, upstream, sent: headers }));
            let Ok(value) = HeaderValue::from_bytes(&text) else { continue };
            if value.is_empty() {
                continue;
            }
            if [LAST_MODIFIED, ETAG, CONTENT_TYPE].contains(&add.name) {
                headers.insert(add.name.clone(), value);
            } else {
                headers.append(add.name.clone(), value);
            }
        }
    }

    fn expire(&self, lifetime: Lifetime, headers: &mut HeaderMap) {
        let now = i64::try_from(self.now).unwrap_or(i64::MAX);
        let (expires, control) = match lifetime {
            Lifetime::Off => return,
            Lifetime::Epoch => (Some("Thu, 01 Jan 1970 00:00:01 GMT".to_owned()), "no-cache".to_owned()),
            Lifetime::Max => (Some("Thu, 31 Dec 2037 23:55:55 GMT".to_owned()), "max-age=315360000".to_owned()),
            Lifetime::Seconds(seconds) => (date(now.saturating_add(seconds)), max_age(seconds, seconds)),
            Lifetime::Modified(seconds) => {
                let modified = headers.get(LAST_MODIFIED).and_then(|value| value.to_str().ok()).and_then(moment);
                let end = modified.unwrap_or(now).saturating_add(seconds);
                (date(end), max_age(seconds, end.saturating_sub(now)))
            }
        };
        if let Some(expires) = expires.and_then(|date| HeaderValue::from_str(&date).ok()) {
            headers.insert(EXPIRES, expires);
        }
        if let Ok(control) = HeaderValue::from_str(&control) {
            headers.insert(CACHE_CONTROL, control);
        }
    }
}

impl More {
    fn apply(&self, status: StatusCode, upstream: Option<&HeaderMap>, headers: &mut HeaderMap) {
        let statuses = &self.change.statuses;
        if !(statuses.is_empty() || statuses.contains(&status.as_u16())) || !self.change.is_for_type(headers) {
            return;
        }
        match &self.change.field {
            Field::Set(name, _) => {
                let text = self.value.text(Some(Response { status, upstream, sent: headers }));
                match HeaderValue::from_bytes(&text) {
                    Ok(value) if !value.is_empty() => {
                        if self.change.manner == Manner::Append {
                            headers.append(name.clone(), value);
                        } else {
                            headers.insert(name.clone(), value);
                        }
                    }
                    _ => {
                        headers.remove(name);
                    }
                }
            }
            Field::Clear(name) => {
                headers.remove(name);
            }
            Field::ClearAll(prefix) => clear_all(headers, prefix),
        }
    }
}

fn max_age(offset: i64, age: i64) -> String {
    if offset < 0 || age < 0 { "no-cache".to_owned() } else { format!("max-age={age}") }
}

/// `Sun, 06 Nov 1994 08:49:37 GMT` (RFC 9110 section 5.6.7).
fn date(seconds: i64) -> Option<String> {
    let time = Timestamp::from_second(seconds).ok()?;
    Some(time.strftime("%a, %d %b %Y %H:%M:%S GMT").to_string())
}

/// Seconds since the epoch of such a date.
fn moment(text: &str) -> Option<i64> {
    let time = rfc2822::parse(text).ok()?.timestamp();
    Some(time.as_second())
}
