//! Another path for the backend.

use std::borrow::Cow;
use std::fmt::{self, Write};
use std::sync::{Arc, OnceLock};

use regex::bytes::{Captures, Regex, RegexBuilder};

use super::template::{Facts, Template};

/// What a pattern may take in memory once it is compiled.
const LARGEST_PATTERN: usize = 1 << 20;

/// `rewrite-target`: the path as the backend gets it.
#[derive(Clone)]
pub struct Rewrite {
    /// Looked for at the beginning of the decoded path; letter case does not matter. That is where it is found first
    /// if it is found there at all, and how the path has been found as a rule.
    at_start: Regex,
    /// The same, looked for wherever it stands; made once it is needed, which it hardly ever is.
    anywhere: Arc<OnceLock<Option<Regex>>>,
    /// As it was written.
    pattern: Box<str>,
    /// What takes the place of the whole path.
    target: Template,
    /// `x-forwarded-prefix`, which may name what was captured.
    prefix: Option<Template>,
}

/// What a rewrite gives.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum RewriteTarget {
    /// The pattern is not in the path, which stays as it is.
    Unchanged,
    /// This path, escaped, and `X-Forwarded-Prefix`.
    Path(String, Option<http::HeaderValue>),
    /// The client is sent to this place.
    Elsewhere(String),
}

impl Rewrite {
    /// A rewrite of paths that hold `pattern`, a rule's path.
    pub fn new(pattern: &str, target: Template, prefix: Option<Template>) -> Result<Self, regex::Error> {
        let at_start = path_regex(&format!("(?:{pattern})"), true)?;
        Ok(Self { at_start, anywhere: Arc::default(), pattern: pattern.into(), target, prefix })
    }

    fn captures<'p>(&self, decoded: &'p [u8]) -> Option<Captures<'p>> {
        self.at_start.captures(decoded).or_else(|| {
            let anywhere = self.anywhere.get_or_init(|| path_regex(&self.pattern, false).ok());
            anywhere.as_ref()?.captures(decoded)
        })
    }

    /// Whether it has anything to do with a path.
    pub fn is_for(&self, decoded: &[u8]) -> bool {
        self.captures(decoded).is_some()
    }

    /// The path for the backend.
    pub fn apply(&self, decoded: &[u8], facts: &Facts<'_>) -> RewriteTarget {
        let Some(captures) = self.captures(decoded) else { return RewriteTarget::Unchanged };
        let capture = |name: &str| {
            let found = match name.parse::<usize>() {
                Ok(number) => captures.get(number),
                Err(_) => captures.name(name),
            };
            found.map(|found| found.as_bytes())
        };
        let target = self.target.expand_with(facts, capture);
        if target.starts_with(b"http://") || target.starts_with(b"https://") {
            return RewriteTarget::Elsewhere(escaped(&target));
        }
        let prefix = self.prefix.as_ref().map(|prefix| prefix.expand_with(facts, capture));
        RewriteTarget::Path(escaped(&target), prefix.and_then(|prefix| http::HeaderValue::from_bytes(&prefix).ok()))
    }
}

impl PartialEq for Rewrite {
    fn eq(&self, other: &Self) -> bool {
        self.pattern == other.pattern && self.target == other.target && self.prefix == other.prefix
    }
}

impl fmt::Display for Rewrite {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "what {} finds becomes {}", self.pattern, self.target)
    }
}

impl fmt::Debug for Rewrite {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Rewrite({:?} -> {:?} {:?})", self.pattern, self.target, self.prefix)
    }
}

/// A rule's path as ingress-nginx reads it where a host has regular expressions: without regard to letter case, byte
/// by byte, and open at its end.
pub(crate) fn path_regex(pattern: &str, anchored: bool) -> Result<Regex, regex::Error> {
    let anchor = if anchored { "^" } else { "" };
    RegexBuilder::new(&format!("{anchor}{pattern}"))
        .unicode(false)
        .case_insensitive(true)
        .size_limit(LARGEST_PATTERN)
        .build()
}

/// A path as nginx matches it: escapes decoded, slashes in a row one slash. Borrowed where that changes nothing.
pub fn decoded(path: &str) -> Cow<'_, [u8]> {
    let bytes = path.as_bytes();
    if !bytes.contains(&b'%') && !path.contains("//") {
        return Cow::Borrowed(bytes);
    }
    let digit = |byte: Option<&u8>| byte.and_then(|byte| char::from(*byte).to_digit(16));
    let mut decoded = Vec::with_capacity(bytes.len());
    let mut rest = bytes;
    while let Some((&byte, behind)) = rest.split_first() {
        rest = behind;
        let mut byte = byte;
        if byte == b'%'
            && let (Some(high), Some(low)) = (digit(rest.first()), digit(rest.get(1)))
        {
            byte = u8::try_from(high * 16 + low).unwrap_or(byte);
            rest = &rest[2..];
        }
        if byte != b'/' || decoded.last() != Some(&b'/') {
            decoded.push(byte);
        }
    }
    Cow::Owned(decoded)
}

/// Which bytes of a path stand for themselves.
static PLAIN: [bool; 256] = {
    let mut plain = [false; 256];
    let mut byte = b'!';
    while byte <= b'~' {
        plain[byte as usize] =
            !matches!(byte, b'"' | b'#' | b'%' | b'<' | b'>' | b'?' | b'\\' | b'^' | b'`' | b'{' | b'|' | b'}');
        byte += 1;
    }
    plain
};

/// A decoded path in the form that a request line takes.
pub fn escaped(decoded: &[u8]) -> String {
    let is_plain = |byte: u8| PLAIN.get(usize::from(byte)).is_some_and(|plain| *plain);
    if decoded.iter().all(|byte| is_plain(*byte)) {
        return String::from_utf8_lossy(decoded).into_owned();
    }
    let mut path = String::with_capacity(decoded.len() + 8);
    for &byte in decoded {
        if is_plain(byte) {
            path.push(char::from(byte));
        } else {
            // Writing to a text can't fail.
            let _ = write!(path, "%{byte:02X}");
        }
    }
    path
}

#[cfg(test)]
mod tests {
    use super::*;

    fn rewrite(pattern: &str, target: &str, path: &str) -> RewriteTarget {
        let rewrite = Rewrite::new(pattern, Template::parse(target).unwrap(), None).unwrap();
        let facts = Facts { host: "h.test", scheme: "http", ..Facts::default() };
        rewrite.apply(&decoded(path), &facts)
    }

    #[test]
    fn the_whole_path_is_replaced_with_what_was_captured() {
        for (pattern, target, path, expected) in [
            ("/api(/|$)(.*)", "/$2", "/api/a%20b", "/a%20b"),
            ("/api(/|$)(.*)", "/$2", "/api/a%2Fb", "/a/b"),
            ("/api(/|$)(.*)", "/$2", "/api//x", "/x"),
            ("/api(/|$)(.*)", "/$2", "/API/Up", "/Up"),
            ("/api(/|$)(.*)", "/$2", "/api", "/"),
            ("/api(/|$)(.*)", "/$2", "/api/%7Bx%7D", "/%7Bx%7D"),
            ("/api(/|$)(.*)", "/$2", "/api/a&b", "/a&b"),
            ("/foo(/|$)(.*)", "/x/$1/$3/$2", "/foo/bar", "/x////bar"),
            ("/foo", "/$2", "/foo/bar", "/"),
            ("/v(1|2)/(?<rest>.*)", "/$rest/$1", "/v1/x/y", "/x/y/1"),
            ("/foo", "/on/$host", "/x/foo", "/on/h.test"),
        ] {
            assert_eq!(
                rewrite(pattern, target, path),
                RewriteTarget::Path(expected.into(), None),
                "{pattern} {target} {path}"
            );
        }
        assert_eq!(rewrite("/foo", "/new", "/fo"), RewriteTarget::Unchanged);
        let elsewhere = RewriteTarget::Elsewhere("https://o.example/x".into());
        assert_eq!(rewrite("/api/(.*)", "https://o.example/$1", "/api/x"), elsewhere);
    }
}
