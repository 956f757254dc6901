//! The one form of a request's path: what is matched, authorised and forwarded.

use std::fmt;

use thiserror::Error;

/// A path in canonical form.
///
/// It starts with `/`; dot segments are removed (RFC 3986 section 5.2.4), also those written as `%2e`;
/// unreserved characters are decoded and the remaining escapes are in upper case (section 6.2.2);
/// characters that a path must escape are escaped. Empty segments stay as they are.
///
/// `%2F` and `%5C` stay escaped: they are ordinary characters of a segment, which package registries and code
/// forges need.
#[derive(Clone, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct CanonicalPath(Box<str>);

/// Why a path is refused with 400.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Error)]
pub enum BadPath {
    /// The path does not start with a slash.
    #[error("the path does not start with a slash")]
    NoLeadingSlash,
    /// A `%` without two hexadecimal digits behind it.
    #[error("a percent sign is not followed by two hexadecimal digits")]
    Escape,
    /// A control character, as it is or escaped as `%00`.
    #[error("the path has a control character")]
    Control,
    /// A segment such as `..%2f` that would become a dot segment once a backend decodes it.
    #[error("an escaped slash or backslash hides a dot segment")]
    HiddenDotSegment,
}

impl CanonicalPath {
    /// Brings the path of a request target (without its query) into canonical form.
    pub fn parse(raw: &str) -> Result<Self, BadPath> {
        let rest = raw.strip_prefix('/').ok_or(BadPath::NoLeadingSlash)?;
        if is_canonical(raw.as_bytes()) {
            return Ok(Self(raw.into()));
        }
        let mut path = String::with_capacity(raw.len() + 8);
        let mut segments = rest.split('/').peekable();
        while let Some(raw_segment) = segments.next() {
            let segment = canonical_segment(raw_segment)?;
            let last = segments.peek().is_none();
            match segment.as_str() {
                "." if last => path.push('/'),
                "." => {}
                ".." => {
                    path.truncate(path.rfind('/').unwrap_or(0));
                    if last {
                        path.push('/');
                    }
                }
                _ => {
                    path.push('/');
                    path.push_str(&segment);
                }
            }
        }
        Ok(Self(path.into()))
    }

    /// Whether a path leads above the root on its way, where nothing is. RFC 3986 stays at the root then, which
    /// [`CanonicalPath::parse`] does; nginx refuses it, for which slashes in a row are one.
    pub fn leaves_root(raw: &str) -> bool {
        let mut depth = 0_usize;
        for segment in raw.split('/') {
            let segment = segment.replace("%2e", ".").replace("%2E", ".");
            match segment.as_str() {
                "" | "." => {}
                ".." if depth == 0 => return true,
                ".." => depth -= 1,
                _ => depth += 1,
            }
        }
        false
    }

    /// The path itself.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

/// Whether nothing needs to be done: the common case, decided without an allocation.
fn is_canonical(path: &[u8]) -> bool {
    let mut previous = 0;
    for &byte in path {
        if !(is_plain(byte) || byte == b'/') || (previous == b'/' && byte == b'.') {
            return false;
        }
        previous = byte;
    }
    true
}

/// Characters that stand for themselves: unreserved, sub-delims, `:` and `@` (RFC 3986 section 3.3).
fn is_plain(byte: u8) -> bool {
    is_unreserved(byte) || b"!$&'()*+,;=:@".contains(&byte)
}

/// RFC 3986 section 2.3.
fn is_unreserved(byte: u8) -> bool {
    byte.is_ascii_alphanumeric() || b"-._~".contains(&byte)
}

/// Decodes what is unreserved, escapes what must be, and refuses what could be read in two ways.
fn canonical_segment(raw: &str) -> Result<String, BadPath> {
    let mut segment = String::with_capacity(raw.len());
    let mut hides_slash = false;
    let mut bytes = raw.bytes();
    while let Some(byte) = bytes.next() {
        let (byte, escaped) = if byte == b'%' {
            let digit = |byte: Option<u8>| byte.and_then(|byte| char::from(byte).to_digit(16)).ok_or(BadPath::Escape);
            let value = digit(bytes.next())? * 16 + digit(bytes.next())?;
            (u8::try_from(value).map_err(|_| BadPath::Escape)?, true)
        } else {
            (byte, false)
        };
        match byte {
            0 => return Err(BadPath::Control),
            _ if byte.is_ascii_control() && !escaped => return Err(BadPath::Control),
            b'/' | b'\\' => {
                hides_slash = true;
                push_escaped(&mut segment, byte);
            }
            _ if is_unreserved(byte) || (!escaped && is_plain(byte)) => segment.push(char::from(byte)),
            _ => push_escaped(&mut segment, byte),
        }
    }
    if hides_slash && segment.split("%2F").flat_map(|part| part.split("%5C")).any(|part| part == "." || part == "..") {
        return Err(BadPath::HiddenDotSegment);
    }
    Ok(segment)
}

/// Appends `%XX`.
fn push_escaped(text: &mut String, byte: u8) {
    const DIGITS: &[u8; 16] = b"0123456789ABCDEF";
    text.push('%');
    text.push(char::from(DIGITS[usize::from(byte >> 4)]));
    text.push(char::from(DIGITS[usize::from(byte & 15)]));
}

impl fmt::Display for CanonicalPath {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl fmt::Debug for CanonicalPath {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn paths_have_one_form() {
        let cases = [
            ("/", "/"),
            ("/a/b", "/a/b"),
            ("/a/../b", "/b"),
            ("/a/../b/%2e%2e//", "//"),
            ("/a/./b/.", "/a/b/"),
            ("/a/b/..", "/a/"),
            ("/../../a", "/a"),
            ("/%7Euser", "/~user"),
            ("/%61dmin", "/admin"),
            ("/a%2fb", "/a%2Fb"),
            ("/a%5cb", "/a%5Cb"),
            ("/a\\b", "/a%5Cb"),
            ("/caf\u{e9}", "/caf%C3%A9"),
            ("/caf%c3%a9", "/caf%C3%A9"),
            ("/a b", "/a%20b"),
            ("/a//b", "/a//b"),
            ("/.hidden", "/.hidden"),
            ("/...", "/..."),
            ("/a;b=1", "/a;b=1"),
            ("/a%3Bb", "/a%3Bb"),
        ];
        for (raw, canonical) in cases {
            assert_eq!(CanonicalPath::parse(raw).map(|path| path.to_string()), Ok(canonical.into()), "{raw}");
        }
    }

    #[test]
    fn paths_that_could_be_read_in_two_ways_are_refused() {
        let cases = [
            ("a", BadPath::NoLeadingSlash),
            ("", BadPath::NoLeadingSlash),
            ("*", BadPath::NoLeadingSlash),
            ("/%", BadPath::Escape),
            ("/%2", BadPath::Escape),
            ("/%zz", BadPath::Escape),
            ("/%00", BadPath::Control),
            ("/a\u{1}", BadPath::Control),
            ("/a/..%2fb", BadPath::HiddenDotSegment),
            ("/a/%2e%2e%2Fb", BadPath::HiddenDotSegment),
            ("/a/..%5cb", BadPath::HiddenDotSegment),
            ("/a/b%2f..", BadPath::HiddenDotSegment),
            ("/a/x%2f.%2fy", BadPath::HiddenDotSegment),
        ];
        for (raw, error) in cases {
            assert_eq!(CanonicalPath::parse(raw), Err(error), "{raw}");
        }
    }

    #[test]
    fn what_leads_above_the_root_is_known() {
        for (raw, leaves) in [
            ("/..", true),
            ("/../../a", true),
            ("/a/%2e%2E/../b", true),
            ("/a//../../b", true),
            ("/a/../b", false),
            ("/a/b/../..", false),
            ("/...", false),
        ] {
            assert_eq!(CanonicalPath::leaves_root(raw), leaves, "{raw}");
        }
    }

    proptest! {
        #[test]
        fn the_canonical_form_is_a_fixed_point(raw in "/[a-c./%25eEfF\\\\ ]{0,24}") {
            if let Ok(path) = CanonicalPath::parse(&raw) {
                prop_assert_eq!(CanonicalPath::parse(path.as_str()), Ok(path.clone()));
                prop_assert!(!path.as_str().split('/').any(|segment| segment == "." || segment == ".."));
            }
        }

        #[test]
        fn no_text_makes_it_panic(raw in "\\PC{0,40}") {
            let _ = CanonicalPath::parse(&raw);
        }
    }
}
