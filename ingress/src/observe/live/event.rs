//! What is told of one request.

use std::borrow::Cow;
use std::time::UNIX_EPOCH;

use serde::Serialize;

use crate::engine::Exchange;
use crate::observe::access::protocol;

/// Bytes of a path, a host or an error that are shown.
const SHOWN: usize = 1024;

/// What stands in the place of a value that isn't shown.
const MASK: &str = "***";

/// Whether the values of queries are shown.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub enum Queries {
    /// Names alone: links to reset a password and the like have their secret there.
    #[default]
    Masked,
    /// Whole.
    Shown,
}

/// A request that somebody watches; its fields have the names that they have in the access log.
#[derive(Debug, Serialize)]
pub(super) struct Event {
    /// When its head had been read, in milliseconds since 1970.
    time_ms: u64,
    #[serde(rename = "client.addr")]
    client: std::net::IpAddr,
    method: Box<str>,
    scheme: &'static str,
    host: Box<str>,
    path: Box<str>,
    protocol: &'static str,
    status: u16,
    duration_ms: f64,
    received: u64,
    sent: u64,
    #[serde(flatten)]
    rule: Option<Rule>,
    #[serde(rename = "upstream.addr", skip_serializing_if = "Option::is_none")]
    upstream: Option<std::net::SocketAddr>,
    #[serde(rename = "upstream.duration_ms", skip_serializing_if = "Option::is_none")]
    first_byte: Option<f64>,
    tries: u32,
    request_id: Box<str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    error: Option<Box<str>>,
}

/// The rule that took it.
#[derive(Debug, Serialize)]
#[expect(clippy::struct_field_names, reason = "the names of the JSON")]
struct Rule {
    namespace: Box<str>,
    ingress: Box<str>,
    rule: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    backend: Option<String>,
}

impl Event {
    pub(super) fn of(exchange: &Exchange<'_>, queries: Queries) -> Self {
        let millis = |duration: std::time::Duration| (duration.as_secs_f64() * 1e6).round() / 1e3;
        let route = exchange.route.as_ref().map(|route| &route.id);
        let since = exchange.start.duration_since(UNIX_EPOCH).unwrap_or_default();
        Self {
            time_ms: u64::try_from(since.as_millis()).unwrap_or(u64::MAX),
            client: exchange.client,
            method: shortened(&exchange.method).into(),
            scheme: exchange.scheme.as_str(),
            host: shortened(&exchange.host).into(),
            path: match queries {
                Queries::Masked => shortened(&masked(&exchange.target)).into(),
                Queries::Shown => shortened(&exchange.target).into(),
            },
            protocol: protocol(exchange.version),
            status: exchange.status,
            duration_ms: millis(exchange.duration),
            received: exchange.received,
            sent: exchange.sent,
            rule: route.map(|id| Rule {
                namespace: id.ingress.namespace().into(),
                ingress: id.ingress.name().into(),
                rule: id.path.as_ref().map_or_else(|| "default backend".to_owned(), ToString::to_string),
                backend: exchange.backend().map(ToString::to_string),
            }),
            upstream: exchange.upstream.map(|upstream| upstream.address),
            first_byte: exchange.upstream.and_then(|upstream| upstream.first_byte).map(millis),
            tries: exchange.tries,
            request_id: shortened(&exchange.request_id).into(),
            error: exchange.error.as_deref().map(|error| shortened(error).into()),
        }
    }

    /// Writes it as a server-sent event.
    pub(super) fn write(&self, text: &mut String) {
        let Ok(json) = serde_json::to_string(self) else { return };
        text.push_str("event: request\ndata: ");
        text.push_str(&json);
        text.push_str("\n\n");
    }
}

fn shortened(text: &str) -> Cow<'_, str> {
    if text.len() <= SHOWN {
        return Cow::Borrowed(text);
    }
    let end = (0..=SHOWN).rev().find(|end| text.is_char_boundary(*end)).unwrap_or(0);
    Cow::Owned(format!("{}…", &text[..end]))
}

/// A target without what may be secret: a name and a password before the host, values of the query and of parameters
/// in the path, as in `;jsessionid=`.
fn masked(target: &str) -> Cow<'_, str> {
    let (path, query) = match target.split_once('?') {
        Some((path, query)) => (path, Some(query)),
        None => (target, None),
    };
    let has_user = path.find("://").is_some_and(|at| path[at + 3..].split('/').next().is_some_and(|a| a.contains('@')));
    if query.is_none() && !has_user && !path.contains(';') {
        return Cow::Borrowed(target);
    }
    let mut shown = String::with_capacity(target.len());
    let mut rest = path;
    if let Some((scheme, after)) = path.split_once("://").filter(|_| has_user) {
        let (authority, _) = after.split_once('/').unwrap_or((after, ""));
        let host = authority.rsplit('@').next().unwrap_or_default();
        shown.push_str(scheme);
        shown.push_str("://***@");
        shown.push_str(host);
        rest = &after[authority.len()..];
    }
    for (index, segment) in rest.split('/').enumerate() {
        if index > 0 {
            shown.push('/');
        }
        let mut parts = segment.split(';');
        shown.push_str(parts.next().unwrap_or_default());
        for parameter in parts {
            shown.push(';');
            push_pair(&mut shown, parameter);
        }
    }
    for (index, pair) in query.into_iter().flat_map(|query| query.split('&')).enumerate() {
        shown.push(if index == 0 { '?' } else { '&' });
        push_pair(&mut shown, pair);
    }
    Cow::Owned(shown)
}

fn push_pair(shown: &mut String, pair: &str) {
    match pair.split_once('=') {
        Some((name, "")) => {
            shown.push_str(name);
            shown.push('=');
        }
        Some((name, _)) => {
            shown.push_str(name);
            shown.push('=');
            shown.push_str(MASK);
        }
        None if pair.is_empty() => {}
        // Without a name, it may be a value.
        None => shown.push_str(MASK),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn values_are_masked_and_names_are_shown() {
        let table = [
            ("/", "/"),
            ("/a/b.html", "/a/b.html"),
            ("/reset?token=secret&user=me", "/reset?token=***&user=***"),
            ("/a?secret", "/a?***"),
            ("/a?x=&y=1", "/a?x=&y=***"),
            ("/a?b=c=d", "/a?b=***"),
            ("/a?x=1?y=2", "/a?x=***"),
            ("/a?", "/a?"),
            ("/app;jsessionid=0123/page;v?x=1", "/app;jsessionid=***/page;***?x=***"),
            ("http://me:secret@shop.example/a?x=1", "http://***@shop.example/a?x=***"),
            ("http://shop.example/a@b", "http://shop.example/a@b"),
            ("*", "*"),
        ];
        for (target, shown) in table {
            assert_eq!(masked(target), shown, "{target}");
        }
    }

    #[test]
    fn long_texts_are_cut_where_a_character_ends() {
        assert_eq!(shortened("short"), "short");
        let long = "ü".repeat(SHOWN);
        let cut = shortened(&long);
        assert!(cut.ends_with("ü…") && cut.len() <= SHOWN + "…".len(), "{}", cut.len());
    }
}
