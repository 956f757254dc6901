//! Fields that end here: those of one hop, and those that the next server would take for ours.

use http::HeaderName;
use http::header::{
    AUTHORIZATION, CONNECTION, CONTENT_ENCODING, CONTENT_LENGTH, CONTENT_TYPE, COOKIE, HOST, PROXY_AUTHORIZATION,
    SET_COOKIE, TE, TRAILER, TRANSFER_ENCODING, UPGRADE,
};

use super::forwarding::SET;
use super::tokens::tokens;
use crate::fields::{Fields, HeaderEdits};

pub(super) const KEEP_ALIVE: HeaderName = HeaderName::from_static("keep-alive");
pub(super) const PROXY_CONNECTION: HeaderName = HeaderName::from_static("proxy-connection");

/// Fields of one hop (RFC 9110 section 7.6.1). `Transfer-Encoding` and `Trailer` belong to the framing.
const HOP_BY_HOP: [HeaderName; 5] = [CONNECTION, KEEP_ALIVE, PROXY_CONNECTION, TE, UPGRADE];

/// Fields that a `Connection` field may name but that are never dropped for it, since the request would mean
/// something else without them.
const NEVER_NOMINATED: [HeaderName; 6] = [HOST, CONTENT_LENGTH, TRANSFER_ENCODING, TRAILER, AUTHORIZATION, COOKIE];

/// Fields that say where a message ends.
const FRAMING: [HeaderName; 3] = [CONTENT_LENGTH, TRANSFER_ENCODING, TRAILER];

/// Removes the fields that `Connection` names.
pub(super) fn remove_nominated(headers: &Fields, edits: &mut HeaderEdits) {
    // What nearly everybody says names no field, or one that is removed anyhow.
    let is_usual =
        |token: &[u8]| [&b"keep-alive"[..], b"close", b"upgrade"].iter().any(|usual| token.eq_ignore_ascii_case(usual));
    for token in tokens(headers, CONNECTION).filter(|token| !is_usual(token)) {
        if let Ok(name) = HeaderName::from_bytes(token)
            && headers.contains(&name)
            && !NEVER_NOMINATED.contains(&name)
        {
            edits.remove.push(name);
        }
    }
}

/// Removes what a client says of its own certificate, and the fields that CGI, WSGI, PHP and the like make into the
/// same variable as one that is set here: to them
/// `X_Forwarded_For` and `X.Forwarded.For` are `X-Forwarded-For`.
///
/// RFC 3875 section 4.1.18 changes `-` to `_`; common servers do so with every character that is no letter or digit.
pub(super) fn remove_aliases(headers: &Fields, edits: &mut HeaderEdits) {
    let aliases = headers.names().filter(|name| is_alias(name));
    edits.remove.extend(aliases.filter_map(|name| HeaderName::from_bytes(name).ok()));
}

/// What begins like this is about a client's certificate, and said by us alone.
const CLIENT_CERTIFICATE: &[u8] = b"ssl-client-";

/// Whether a field says something of a client's certificate, or becomes the same variable as one that does.
pub(super) fn is_about_certificate(name: &[u8]) -> bool {
    let begin = name.get(..CLIENT_CERTIFICATE.len());
    begin.is_some_and(|begin| begin.iter().zip(CLIENT_CERTIFICATE).all(is_variable_byte_of))
}

/// Whether a byte of a name becomes the same one of a variable's name as the other, which is in lower case.
fn is_variable_byte_of((byte, other): (&u8, &u8)) -> bool {
    byte.eq_ignore_ascii_case(other) || (!byte.is_ascii_alphanumeric() && *other == b'-')
}

fn is_alias(name: &[u8]) -> bool {
    if is_about_certificate(name) {
        return true;
    }
    let plain = |byte: &u8| byte.is_ascii_alphanumeric() || *byte == b'-';
    if name.iter().all(plain) {
        return false;
    }
    let is_variable_of = |other: &HeaderName| {
        let other = other.as_str().as_bytes();
        name.len() == other.len() && name.iter().zip(other).all(is_variable_byte_of)
    };
    SET.iter().chain(&FRAMING).any(is_variable_of)
}

/// Whether a field may stand behind the body of a request or a response.
///
/// A receiver may merge trailers into the header section, so what may not come from a client there may not come from
/// it here; nor may what changes what the message is (RFC 9110 section 6.5.1).
pub fn may_trail(name: &HeaderName) -> bool {
    let others = [HOST, AUTHORIZATION, COOKIE, SET_COOKIE, CONTENT_ENCODING, CONTENT_TYPE, PROXY_AUTHORIZATION];
    let never = HOP_BY_HOP.iter().chain(&FRAMING).chain(&SET).chain(&others).any(|other| other == name);
    !never && !is_alias(name.as_str().as_bytes())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_that_become_one_variable_with_ours_are_removed() {
        for alias in [
            "x_forwarded_for",
            "x-forwarded_for",
            "x.forwarded.for",
            "x-forwarded_proto",
            "x_forwarded_host",
            "x!forwarded~port",
            "x_real_ip",
            "x.real.ip",
            "x_request_id",
            "x_scheme",
            "x_forwarded_scheme",
            "content_length",
            "transfer_encoding",
            "ssl-client-verify",
            "ssl-client-whatever",
            "ssl_client_cert",
            "ssl-client_s-dn",
        ] {
            assert!(is_alias(alias.as_bytes()) && is_alias(alias.to_uppercase().as_bytes()), "{alias}");
        }
        for other in [
            "x-forwarded-for",
            "my_header",
            "x_api_key",
            "session_id",
            "x_forwarded_forr",
            "x-forwarded-f_r",
            "xrealip",
            "ssl-client",
            "ssl-clients",
            "x-ssl-client-verify",
        ] {
            assert!(!is_alias(other.as_bytes()) && !is_alias(other.to_uppercase().as_bytes()), "{other}");
        }
    }

    #[test]
    fn trailers_change_nothing_that_was_decided() {
        for name in ["grpc-status", "digest", "server-timing", "my_field"] {
            assert!(may_trail(&HeaderName::from_static(name)), "{name}");
        }
        for name in [
            "x-forwarded-for",
            "x_forwarded_for",
            "x.real.ip",
            "host",
            "cookie",
            "authorization",
            "content-length",
            "content_length",
            "transfer-encoding",
            "connection",
            "upgrade",
            "ssl-client-verify",
        ] {
            assert!(!may_trail(&HeaderName::from_static(name)), "{name}");
        }
    }
}
