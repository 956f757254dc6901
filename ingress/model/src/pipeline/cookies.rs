//! `Cookie` fields: HTTP/2 may send each cookie in a field of its own.

use http::header::COOKIE;
use http::{HeaderMap, HeaderValue};

use crate::fields::Fields;

/// One `Cookie` field for those of the request, where there are several.
///
/// > If there are multiple Cookie header fields after decompression, these MUST be concatenated into a single octet
/// > string using the two-octet delimiter of 0x3B, 0x20 (the ASCII string "; ") before being passed into a non-HTTP/2
/// > context, such as an HTTP/1.1 connection
///
/// (RFC 9113 section 8.2.3.) It is done for every version, since a client over HTTP/1.1 must send one field
/// (RFC 6265 section 5.4), and backends differ in which of several they read.
pub(super) fn joined(headers: &Fields) -> Option<HeaderValue> {
    let fields = || headers.get_all(COOKIE);
    fields().nth(1)?;
    let mut list = Vec::with_capacity(fields().map(|value| value.len() + 2).sum());
    for value in fields().filter(|value| !value.is_empty()) {
        if !list.is_empty() {
            list.extend_from_slice(b"; ");
        }
        list.extend_from_slice(value.as_bytes());
    }
    // What is joined are bytes of field values, so they make one.
    HeaderValue::from_bytes(&list).ok()
}

/// How many fields a header section counts as against the limit: all `Cookie` fields are one.
pub fn field_count(headers: &HeaderMap) -> usize {
    let cookies = headers.get_all(COOKIE).iter().count();
    headers.len() - cookies.saturating_sub(1)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn cookies(values: &[&'static str]) -> HeaderMap {
        values.iter().map(|value| (COOKIE, HeaderValue::from_static(value))).collect()
    }

    #[test]
    fn crumbs_become_one_field() {
        let cases: [(&[&str], Option<&str>); 5] = [
            (&[], None),
            (&["a=1; b=2"], None),
            (&["theme=dark", "session=abc", "csrf=1"], Some("theme=dark; session=abc; csrf=1")),
            (&["a=1; b=2", "c=3"], Some("a=1; b=2; c=3")),
            (&["a=1", "", "c=3"], Some("a=1; c=3")),
        ];
        for (crumbs, expected) in cases {
            assert_eq!(joined(&Fields::from(&cookies(crumbs))), expected.map(HeaderValue::from_static), "{crumbs:?}");
        }
    }

    #[test]
    fn crumbs_count_once() {
        let mut headers = cookies(&["a=1"; 101]);
        assert_eq!(field_count(&headers), 1);
        headers.insert("accept", HeaderValue::from_static("*/*"));
        assert_eq!(field_count(&headers), 2);
        headers.remove(COOKIE);
        assert_eq!(field_count(&headers), 1);
    }
}
