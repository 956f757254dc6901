//! Fields whose value is a list (RFC 9110 section 5.6.1): one reading of them for everybody.

use http::HeaderName;

use crate::fields::Fields;

/// The members of all fields of this name, without the space around them; empty ones too.
pub(super) fn members(headers: &Fields, name: HeaderName) -> impl Iterator<Item = &[u8]> {
    headers.get_all(name).flat_map(|value| value.as_bytes().split(|byte| *byte == b',')).map(<[u8]>::trim_ascii)
}

/// The members that are not empty, which a recipient has to ignore.
pub fn tokens(headers: &Fields, name: HeaderName) -> impl Iterator<Item = &[u8]> {
    members(headers, name).filter(|member| !member.is_empty())
}

/// Whether `word` is a member, in upper or lower case.
pub fn has_token(headers: &Fields, name: HeaderName, word: &str) -> bool {
    tokens(headers, name).any(|token| token.eq_ignore_ascii_case(word.as_bytes()))
}

#[cfg(test)]
mod tests {
    use http::header::CONNECTION;
    use http::{HeaderMap, HeaderValue};

    use super::*;

    #[test]
    fn members_of_several_fields_are_one_list() {
        let mut headers = HeaderMap::new();
        for value in [&b"Close, x"[..], b"", b" ,\tKeep-Alive ,", b"caf\xe9"] {
            headers.append(CONNECTION, HeaderValue::from_bytes(value).unwrap());
        }
        let headers = Fields::from(&headers);
        let found: Vec<_> = tokens(&headers, CONNECTION).collect();
        assert_eq!(found, [&b"Close"[..], b"x", b"Keep-Alive", b"caf\xe9"]);
        assert!(has_token(&headers, CONNECTION, "close") && has_token(&headers, CONNECTION, "keep-alive"));
        assert!(!has_token(&headers, CONNECTION, "clos"));
        assert_eq!(members(&headers, CONNECTION).count(), 7);
    }
}
