//! Which answers are compressed on their way, and how.

use http::header::{
    ACCEPT_ENCODING, ACCEPT_RANGES, CACHE_CONTROL, CONTENT_ENCODING, CONTENT_TYPE, ETAG, USER_AGENT, VARY,
};
use http::{HeaderValue, StatusCode, Version};
use regex::Regex;

use crate::fields::{FieldValue, Fields, HeaderEdits};
use crate::pipeline::{has_token, tokens};

/// What is compressed; where both codings would do, brotli is taken.
#[derive(Clone, Debug, Default)]
pub struct Compression {
    /// `use-gzip`.
    pub gzip: Option<CodingRule>,
    /// `enable-brotli`.
    pub brotli: Option<CodingRule>,
    /// `gzip-disable`: no gzip for these values of `User-Agent`.
    pub disabled: Option<Regex>,
}

impl PartialEq for Compression {
    fn eq(&self, other: &Self) -> bool {
        let text = |pattern: &Option<Regex>| pattern.as_ref().map(|pattern| pattern.as_str().to_owned());
        self.gzip == other.gzip && self.brotli == other.brotli && text(&self.disabled) == text(&other.disabled)
    }
}

/// When a coding is used.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct CodingRule {
    /// From 1, fast, to 9 for gzip or 11 for brotli, small.
    pub level: u32,
    /// Bytes of the shortest body that it is used for, where the length is known.
    pub min_length: u64,
    /// Media types in lower case, besides `text/html`; `*` is every type.
    pub types: Box<[Box<str>]>,
}

/// A coding of a body (RFC 9110 section 8.4.1) with its level.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Coding {
    /// `gzip`.
    Gzip(u32),
    /// `br`.
    Brotli(u32),
}

/// An answer on its way.
#[derive(Clone, Copy, Debug)]
pub struct Encodable<'a> {
    /// The version of HTTP that the client speaks.
    pub version: Version,
    /// The fields of the request.
    pub request: &'a Fields,
    /// The status of the answer.
    pub status: StatusCode,
    /// The fields of the answer.
    pub response: &'a Fields,
    /// The length of its body, where it is known.
    pub length: Option<u64>,
}

impl Compression {
    /// The coding that an answer with a body gets, and what its fields become.
    ///
    /// Caches are told that there are several forms of it even where this client takes the plain one.
    pub fn choose(&self, answer: &Encodable<'_>, edits: &mut HeaderEdits) -> Option<Coding> {
        if !matches!(answer.status.as_u16(), 200 | 403 | 404) || answer.response.contains(CONTENT_ENCODING) {
            return None;
        }
        // RFC 9110 section 7.7: what is not to be transformed isn't, whatever is configured.
        if has_token(answer.response, CACHE_CONTROL, "no-transform") {
            return None;
        }
        let fits = |rule: &&CodingRule| rule.fits(answer);
        let (gzip, brotli) = (self.gzip.as_ref().filter(fits), self.brotli.as_ref().filter(fits));
        if gzip.is_none() && brotli.is_none() {
            return None;
        }
        edits.add.push((VARY, HeaderValue::from_static("Accept-Encoding")));
        let agent = answer.request.get(USER_AGENT).and_then(|agent| agent.to_str().ok()).unwrap_or_default();
        let disabled = self.disabled.as_ref().is_some_and(|pattern| pattern.is_match(agent));
        let takes = |name: &str| accepts(answer.request, name);
        let gzip = gzip.filter(|_| answer.version >= Version::HTTP_11 && !disabled && takes("gzip"));
        let (coding, name) = match (brotli.filter(|_| takes("br")), gzip) {
            (Some(rule), _) => (Coding::Brotli(rule.level), "br"),
            (None, Some(rule)) => (Coding::Gzip(rule.level), "gzip"),
            (None, None) => return None,
        };
        edits.set.push((CONTENT_ENCODING, HeaderValue::from_static(name)));
        // Ranges and strong validators are of the plain form.
        edits.remove.push(ACCEPT_RANGES);
        if let Some(tag) = answer.response.get(ETAG) {
            match weak(tag) {
                Some(weak) => edits.set.push((ETAG, weak)),
                None => edits.remove.push(ETAG),
            }
        }
        Some(coding)
    }
}

impl CodingRule {
    fn fits(&self, answer: &Encodable<'_>) -> bool {
        if answer.length.is_some_and(|length| length < self.min_length) {
            return false;
        }
        let kind = answer.response.get(CONTENT_TYPE).and_then(|kind| kind.to_str().ok()).unwrap_or_default();
        let kind = kind.split(';').next().unwrap_or_default().trim();
        let same = |name: &str| name == "*" || name.eq_ignore_ascii_case(kind);
        // gRPC compresses its messages itself, and its clients know no other coding.
        let is_grpc = kind.to_ascii_lowercase().starts_with("application/grpc");
        !kind.is_empty() && !is_grpc && (same("text/html") || self.types.iter().any(|name| same(name)))
    }
}

/// Whether a client takes a coding (RFC 9110 section 12.5.3).
fn accepts(headers: &Fields, name: &str) -> bool {
    tokens(headers, ACCEPT_ENCODING).any(|entry| {
        let entry = String::from_utf8_lossy(entry);
        let mut parts = entry.split(';').map(str::trim);
        let refused = |weight: &str| {
            let weight = weight.strip_prefix("q=").or_else(|| weight.strip_prefix("Q="));
            weight.is_some_and(|weight| weight.parse::<f32>().is_ok_and(|weight| weight <= 0.0))
        };
        parts.next().is_some_and(|coding| coding.eq_ignore_ascii_case(name)) && !parts.any(refused)
    })
}

/// A strong validator made weak (RFC 9110 section 8.8.3); a weak one stays. `None`: it is none.
fn weak(tag: FieldValue<'_>) -> Option<HeaderValue> {
    match tag.as_bytes() {
        [b'W', b'/', b'"', ..] => Some(tag.to_value()),
        bytes @ [b'"', .., b'"'] => HeaderValue::from_bytes(&[b"W/", bytes].concat()).ok(),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn rule(min_length: u64) -> CodingRule {
        CodingRule { level: 1, min_length, types: Box::new(["application/json".into()]) }
    }

    /// `Accept-Encoding; status; Content-Type; length` gives the coding, and whether caches are told of it.
    fn check(accepted: &'static str, status: u16, kind: &'static str, length: u64, expected: (Option<Coding>, bool)) {
        let compression =
            Compression { gzip: Some(rule(10)), brotli: Some(rule(20)), disabled: Regex::new("^Old").ok() };
        let request = Fields::from_iter([(ACCEPT_ENCODING, HeaderValue::from_static(accepted))]);
        let response = Fields::from_iter([(CONTENT_TYPE, HeaderValue::from_static(kind))]);
        let status = StatusCode::from_u16(status).unwrap();
        let (version, length) = (Version::HTTP_11, Some(length));
        let answer = Encodable { version, request: &request, status, response: &response, length };
        let mut edits = HeaderEdits::default();
        let coding = compression.choose(&answer, &mut edits);
        let told = edits.add.iter().any(|(name, _)| name == VARY);
        assert_eq!((coding, told), expected, "{accepted} {status} {kind} {length:?}");
    }

    #[test]
    fn a_coding_is_one_that_the_client_takes_and_that_is_worth_it() {
        let (gzip, brotli) = (Some(Coding::Gzip(1)), Some(Coding::Brotli(1)));
        check("gzip, br", 200, "application/json; charset=utf-8", 100, (brotli, true));
        check("gzip", 200, "text/html", 100, (gzip, true));
        check("gzip, br", 200, "text/html", 15, (gzip, true));
        check("gzip;q=0, br;q=0.0", 200, "text/html", 100, (None, true));
        check("GZIP;q=0.5", 404, "Text/HTML", 100, (gzip, true));
        check("identity", 200, "text/html", 100, (None, true));
        check("gzip", 200, "text/html", 9, (None, false));
        check("gzip", 200, "image/png", 100, (None, false));
        check("gzip", 500, "text/html", 100, (None, false));
    }

    #[test]
    fn calls_and_what_is_not_to_be_transformed_stay_as_they_are() {
        let everything = Some(CodingRule { level: 1, min_length: 0, types: Box::new(["*".into()]) });
        let compression = Compression { gzip: everything, ..Compression::default() };
        let request = Fields::from_iter([(ACCEPT_ENCODING, HeaderValue::from_static("gzip"))]);
        let coding = |fields: &[(http::HeaderName, &'static str)]| {
            let fields = fields.iter().map(|(name, value)| (name.clone(), HeaderValue::from_static(value)));
            let response: Fields = fields.collect();
            let (version, status) = (Version::HTTP_2, StatusCode::OK);
            let answer = Encodable { version, request: &request, status, response: &response, length: None };
            compression.choose(&answer, &mut HeaderEdits::default())
        };
        assert_eq!(coding(&[(CONTENT_TYPE, "image/x")]), Some(Coding::Gzip(1)));
        assert_eq!(coding(&[(CONTENT_TYPE, "application/grpc+proto")]), None);
        assert_eq!(coding(&[(CONTENT_TYPE, "text/html"), (CACHE_CONTROL, "private, no-transform")]), None);
    }

    #[test]
    fn what_speaks_of_the_plain_form_is_weakened_or_gone() {
        let weakened = |tag| {
            let fields = Fields::from_iter([(ETAG, HeaderValue::from_static(tag))]);
            fields.get(ETAG).and_then(weak).map(|tag| tag.to_str().unwrap().to_owned())
        };
        assert_eq!(weakened("\"a\"").as_deref(), Some("W/\"a\""));
        assert_eq!(weakened("W/\"a\"").as_deref(), Some("W/\"a\""));
        assert_eq!(weakened("a"), None);
    }
}
