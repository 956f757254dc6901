//! The canonical form of a path.

use landfall_ingress_model::path::CanonicalPath;

pub(crate) fn run(bytes: &[u8]) {
    let Ok(raw) = std::str::from_utf8(bytes) else { return };
    let Ok(path) = CanonicalPath::parse(raw) else { return };
    let text = path.as_str();
    assert_eq!(CanonicalPath::parse(text).as_ref(), Ok(&path), "the canonical form has itself as its form");
    assert!(text.starts_with('/'));
    assert!(text.bytes().all(|byte| byte.is_ascii_graphic()), "{text:?}");
    assert!(!text.contains(['?', '#']), "{text:?} is more than a path");
    assert_eq!(decoded(text), resolved(raw), "{raw:?} and {text:?} name different things");
    // A backend that decodes first and resolves then, as many do, gets to the same place.
    assert_eq!(resolve(&late(text)), late(text), "{text:?} goes elsewhere once it is decoded");
}

/// The segments of a path, decoded.
fn decoded(path: &str) -> Vec<Vec<u8>> {
    path.split('/').skip(1).map(decode).collect()
}

/// The segments of a path, first decoded and then resolved (RFC 3986 section 5.2.4).
fn resolved(path: &str) -> Vec<Vec<u8>> {
    resolve(&decoded(path))
}

fn resolve(segments: &[Vec<u8>]) -> Vec<Vec<u8>> {
    let mut resolved: Vec<Vec<u8>> = Vec::new();
    for (index, segment) in segments.iter().enumerate() {
        let dots = matches!(&segment[..], b"." | b"..");
        if &segment[..] == b".." {
            resolved.pop();
        }
        if !dots {
            resolved.push(segment.clone());
        } else if index + 1 == segments.len() {
            resolved.push(Vec::new());
        }
    }
    resolved
}

/// The segments that somebody sees who decodes the whole path before looking for slashes of either kind.
fn late(path: &str) -> Vec<Vec<u8>> {
    let all = decode(path);
    all.split(|byte| *byte == b'/' || *byte == b'\\').skip(1).map(<[u8]>::to_vec).collect()
}

fn decode(text: &str) -> Vec<u8> {
    let mut decoded = Vec::new();
    let mut rest = text.as_bytes();
    while let [byte, behind @ ..] = rest {
        rest = behind;
        if *byte == b'%' {
            let (digits, behind) = rest.split_at(2);
            rest = behind;
            decoded.push(u8::from_str_radix(std::str::from_utf8(digits).unwrap(), 16).unwrap());
        } else {
            decoded.push(*byte);
        }
    }
    decoded
}
