//! Header edits on the way back to the client, and how the body of a response is delimited.

use std::sync::LazyLock;

use http::header::{
    CONNECTION, CONTENT_LENGTH, PROXY_AUTHENTICATE, PROXY_AUTHORIZATION, SERVER, TE, TRAILER, TRANSFER_ENCODING,
    UPGRADE,
};
use http::{HeaderValue, Method, StatusCode};

use super::hops::{KEEP_ALIVE, PROXY_CONNECTION, remove_nominated};
use super::tokens::members;
use crate::fields::{Fields, HeaderEdits, Names};

/// What no client gets as it came: fields of one hop.
static NEVER_SENT: LazyLock<Names> = LazyLock::new(|| {
    Names::new([CONNECTION, KEEP_ALIVE, PROXY_CONNECTION, TE, UPGRADE, PROXY_AUTHORIZATION, PROXY_AUTHENTICATE])
});

/// What an answer without a `Server` field gets.
pub(super) const SERVER_NAME: HeaderValue = HeaderValue::from_static("landfall");

/// Whether a response is the 101 that an upgrade was asked for.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Upgraded {
    /// It is.
    Yes,
    /// It is an ordinary response.
    No,
}

/// Whether the trailer section of a response reaches the client.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Trailers {
    /// It does, if there is one.
    Pass,
    /// There can be none, or the client can't take it.
    Drop,
}

/// Edits to a response. `Date` is left alone: it is the backend's (RFC 9110 section 6.6.1).
///
/// - Hop-by-hop fields are removed; `upgraded` keeps those of a 101.
/// - Framing fields are left as [`response_body`] reads them: none where there may be none, else one of each.
/// - `Trailer` stays only where trailers pass.
/// - A final response without `Server` gets ours.
pub fn response_edits(status: StatusCode, headers: &Fields, upgraded: Upgraded, trailers: Trailers) -> HeaderEdits {
    let mut edits = HeaderEdits { always: &NEVER_SENT, ..HeaderEdits::default() };
    remove_nominated(headers, &mut edits);
    if upgraded == Upgraded::Yes
        && let Some(token) = headers.get(UPGRADE)
    {
        edits.set.push((CONNECTION, HeaderValue::from_static("upgrade")));
        edits.set.push((UPGRADE, token.to_value()));
    }
    if trailers == Trailers::Drop {
        edits.remove.push(TRAILER);
    }
    if !status.is_informational() && !headers.contains(SERVER) {
        edits.set.push((SERVER, SERVER_NAME));
    }
    edit_framing(status, headers, &mut edits);
    edits
}

/// RFC 9112 section 6.1: "A server MUST NOT send a Transfer-Encoding header field in any response with a status code
/// of 1xx (Informational) or 204 (No Content)"; RFC 9110 section 8.6 says the same of `Content-Length`. A 304 may have
/// the length of what it stands for. Its `Transfer-Encoding` could only announce chunks that never come.
fn edit_framing(status: StatusCode, headers: &Fields, edits: &mut HeaderEdits) {
    let (lengthless, chunkless) = (is_lengthless(status), is_bodiless(status));
    if lengthless {
        edits.remove.push(CONTENT_LENGTH);
    } else if is_repeated(headers)
        && let Ok(Some(length)) = declared_length(headers)
    {
        edits.set.push((CONTENT_LENGTH, HeaderValue::from(length)));
    }
    if chunkless {
        edits.remove.push(TRANSFER_ENCODING);
    } else if headers.get_all(TRANSFER_ENCODING).nth(1).is_some() && is_chunked(headers) == Ok(true) {
        edits.set.push((TRANSFER_ENCODING, HeaderValue::from_static("chunked")));
    }
}

/// Whether there is more than one length, in one field or in several.
fn is_repeated(headers: &Fields) -> bool {
    let mut lengths = headers.get_all(CONTENT_LENGTH);
    lengths.next().is_some_and(|first| first.as_bytes().contains(&b',')) || lengths.next().is_some()
}

fn is_lengthless(status: StatusCode) -> bool {
    status.is_informational() || status == StatusCode::NO_CONTENT
}

fn is_bodiless(status: StatusCode) -> bool {
    is_lengthless(status) || status == StatusCode::NOT_MODIFIED
}

/// How the body of an HTTP/1.1 response is delimited.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum ResponseBody {
    /// There is none, whatever the fields say.
    Nothing,
    /// So many bytes.
    Length(u64),
    /// Chunks.
    Chunked,
    /// Everything up to the end of the connection.
    UntilClose,
}

/// Why it can't be said where a response ends: the client gets 502 in its place, and the connection is closed.
#[derive(Clone, Copy, PartialEq, Eq, Debug, thiserror::Error)]
pub enum BadFraming {
    /// Two lengths that differ.
    #[error("the response has two different Content-Lengths")]
    Lengths,
    /// A length that is no number of bytes below 2^63.
    #[error("the Content-Length of the response is not a number")]
    NotALength,
    /// A transfer coding other than chunked.
    #[error("the response has a transfer coding other than chunked")]
    Coding,
    /// Both ways of saying where the body ends.
    #[error("the response has both a Content-Length and a Transfer-Encoding")]
    Both,
}

/// How the body of the response to a request with this method is delimited (RFC 9112 section 6.3). Equal lengths are
/// one, and so is `chunked` said twice.
pub fn response_body(method: &Method, status: StatusCode, headers: &Fields) -> Result<ResponseBody, BadFraming> {
    if is_lengthless(status) {
        return Ok(ResponseBody::Nothing);
    }
    let (length, chunked) = (declared_length(headers)?, is_chunked(headers)?);
    match (length, chunked) {
        (Some(_), true) => Err(BadFraming::Both),
        _ if is_bodiless(status) || method == Method::HEAD => Ok(ResponseBody::Nothing),
        (Some(length), false) => Ok(ResponseBody::Length(length)),
        (None, true) => Ok(ResponseBody::Chunked),
        (None, false) => Ok(ResponseBody::UntilClose),
    }
}

/// The declared length of a body; equal lengths are one.
pub fn declared_length(headers: &Fields) -> Result<Option<u64>, BadFraming> {
    let mut declared = None;
    let mut values = headers.get_all(CONTENT_LENGTH);
    if let (Some(only), None) = (values.next(), values.next())
        && let Some(length) = number(only.as_bytes())
    {
        return Ok(Some(length));
    }
    for value in members(headers, CONTENT_LENGTH) {
        let length = number(value).ok_or(BadFraming::NotALength)?;
        if declared.is_some_and(|declared| declared != length) {
            return Err(BadFraming::Lengths);
        }
        declared = Some(length);
    }
    Ok(declared)
}

/// A number in digits alone. More than 2^63 - 1 bytes is what no backend can mean.
fn number(digits: &[u8]) -> Option<u64> {
    if digits.is_empty() {
        return None;
    }
    let length = digits.iter().try_fold(0_u64, |length, byte| {
        let digit = byte.is_ascii_digit().then(|| u64::from(byte - b'0'))?;
        length.checked_mul(10)?.checked_add(digit)
    });
    length.filter(|length| i64::try_from(*length).is_ok())
}

fn is_chunked(headers: &Fields) -> Result<bool, BadFraming> {
    let mut chunked = false;
    for value in headers.get_all(TRANSFER_ENCODING) {
        if !value.as_bytes().trim_ascii().eq_ignore_ascii_case(b"chunked") {
            return Err(BadFraming::Coding);
        }
        chunked = true;
    }
    Ok(chunked)
}

#[cfg(test)]
mod tests {
    use http::{HeaderMap, HeaderName};

    use super::*;

    type Texts = &'static [(&'static str, &'static str)];

    fn headers(fields: &[(&'static str, &'static str)]) -> HeaderMap {
        let field = |(name, value): &(&'static str, &'static str)| {
            (name.parse::<HeaderName>(), HeaderValue::from_static(value))
        };
        fields.iter().map(field).map(|(name, value)| (name.unwrap(), value)).collect()
    }

    /// The fields that the client gets, in lines.
    fn passed(status: u16, fields: &[(&'static str, &'static str)], trailers: Trailers) -> Vec<String> {
        let mut headers = headers(fields);
        let status = StatusCode::from_u16(status).unwrap();
        response_edits(status, &Fields::from(&headers), Upgraded::No, trailers).apply(&mut headers);
        let mut lines: Vec<_> =
            headers.iter().map(|(name, value)| format!("{name}: {}", value.to_str().unwrap())).collect();
        lines.sort();
        lines
    }

    fn check(status: u16, fields: &[(&'static str, &'static str)], expected: &[&str]) {
        assert_eq!(passed(status, fields, Trailers::Drop), expected, "{status} {fields:?}");
    }

    const LENGTH: (&str, &str) = ("Content-Length", "5");
    const CHUNKED: (&str, &str) = ("Transfer-Encoding", "chunked");

    #[test]
    fn framing_fields_are_sent_where_they_may_be_and_once() {
        check(103, &[LENGTH, CHUNKED, ("Connection", "close"), ("Link", "</a>")], &["link: </a>"]);
        check(100, &[], &[]);
        check(204, &[CHUNKED], &["server: landfall"]);
        check(204, &[LENGTH], &["server: landfall"]);
        check(304, &[LENGTH], &["content-length: 5", "server: landfall"]);
        check(304, &[CHUNKED], &["server: landfall"]);
        check(200, &[LENGTH, LENGTH], &["content-length: 5", "server: landfall"]);
        check(200, &[("Content-Length", "5, 5")], &["content-length: 5", "server: landfall"]);
        check(200, &[CHUNKED, ("x-a", "1"), CHUNKED], &["server: landfall", "transfer-encoding: chunked", "x-a: 1"]);
        check(205, &[("Content-Length", "0")], &["content-length: 0", "server: landfall"]);
    }

    #[test]
    fn server_and_date_are_the_backends() {
        check(200, &[("Server", "nginx"), ("Date", "then")], &["date: then", "server: nginx"]);
        check(500, &[], &["server: landfall"]);
    }

    #[test]
    fn trailer_is_announced_only_where_trailers_pass() {
        let fields = [CHUNKED, ("Trailer", "Digest"), ("Server", "x")];
        check(200, &fields, &["server: x", "transfer-encoding: chunked"]);
        let lines = passed(200, &fields, Trailers::Pass);
        assert_eq!(lines, ["server: x", "trailer: Digest", "transfer-encoding: chunked"]);
    }

    #[test]
    fn a_body_ends_where_the_head_says() {
        use ResponseBody::{Chunked, Length, Nothing, UntilClose};
        let cases: &[(&str, u16, Texts, Result<ResponseBody, BadFraming>)] = &[
            ("GET", 200, &[LENGTH], Ok(Length(5))),
            ("GET", 200, &[LENGTH, LENGTH], Ok(Length(5))),
            ("GET", 200, &[("Content-Length", "5, 5")], Ok(Length(5))),
            ("GET", 200, &[CHUNKED, CHUNKED], Ok(Chunked)),
            ("GET", 200, &[("Transfer-Encoding", "Chunked ")], Ok(Chunked)),
            ("GET", 200, &[], Ok(UntilClose)),
            ("HEAD", 200, &[LENGTH], Ok(Nothing)),
            ("HEAD", 200, &[CHUNKED], Ok(Nothing)),
            ("GET", 204, &[CHUNKED], Ok(Nothing)),
            ("GET", 304, &[LENGTH], Ok(Nothing)),
            ("GET", 103, &[("Content-Length", "x")], Ok(Nothing)),
            ("GET", 200, &[LENGTH, ("Content-Length", "6")], Err(BadFraming::Lengths)),
            ("GET", 304, &[LENGTH, ("Content-Length", "6")], Err(BadFraming::Lengths)),
            ("GET", 200, &[("Content-Length", "5, 6")], Err(BadFraming::Lengths)),
            ("GET", 200, &[("Content-Length", "+5")], Err(BadFraming::NotALength)),
            ("GET", 200, &[("Content-Length", "")], Err(BadFraming::NotALength)),
            ("GET", 200, &[("Content-Length", "9223372036854775808")], Err(BadFraming::NotALength)),
            ("GET", 200, &[("Transfer-Encoding", "gzip, chunked")], Err(BadFraming::Coding)),
            ("GET", 200, &[("Transfer-Encoding", "identity")], Err(BadFraming::Coding)),
            ("GET", 200, &[CHUNKED, ("Transfer-Encoding", "x")], Err(BadFraming::Coding)),
            ("GET", 200, &[LENGTH, CHUNKED], Err(BadFraming::Both)),
        ];
        for (method, status, fields, expected) in cases {
            let (method, status) = (method.parse().unwrap(), StatusCode::from_u16(*status).unwrap());
            assert_eq!(
                response_body(&method, status, &Fields::from(&headers(fields))),
                *expected,
                "{method} {status} {fields:?}"
            );
        }
    }
}
