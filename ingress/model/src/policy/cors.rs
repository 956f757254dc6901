//! Cross-origin resource sharing (the Fetch standard, section "CORS protocol").

use http::{HeaderName, HeaderValue};

use crate::fields::FieldValue;

const ALLOW_ORIGIN: HeaderName = HeaderName::from_static("access-control-allow-origin");
const ALLOW_CREDENTIALS: HeaderName = HeaderName::from_static("access-control-allow-credentials");

/// What pages of other origins may do.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Cors {
    /// Which origins; `None`: all, and the answer says `*`.
    pub origins: Option<Box<[OriginPattern]>>,
    /// Whether cookies and the like may be sent along.
    pub credentials: bool,
    /// The other fields, which all answers to allowed origins get.
    pub fields: Box<[(HeaderName, HeaderValue)]>,
}

/// An origin that is allowed.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum OriginPattern {
    /// This one, in lower case.
    Exact(Box<str>),
    /// `https://*.example.com`: what stands before and behind the one label.
    Subdomains(Box<str>, Box<str>),
}

impl OriginPattern {
    /// Whether an origin is meant; letter case does not matter.
    pub fn matches(&self, origin: &str) -> bool {
        let origin = origin.to_ascii_lowercase();
        match self {
            Self::Exact(exact) => **exact == *origin,
            Self::Subdomains(before, behind) => {
                let label = origin.strip_prefix(&**before).and_then(|rest| rest.strip_suffix(&**behind));
                label.is_some_and(|label| {
                    !label.is_empty() && label.bytes().all(|byte| byte.is_ascii_alphanumeric() || byte == b'-')
                })
            }
        }
    }
}

impl Cors {
    /// The fields of an answer to a request of this origin; `None` where the origin is not allowed.
    pub fn fields(&self, origin: Option<FieldValue<'_>>) -> Option<Vec<(HeaderName, HeaderValue)>> {
        let allowed = match &self.origins {
            None => HeaderValue::from_static("*"),
            Some(patterns) => {
                let origin = origin?;
                let text = origin.to_str().ok()?;
                patterns.iter().any(|pattern| pattern.matches(text)).then(|| origin.to_value())?
            }
        };
        let mut fields = Vec::with_capacity(2 + self.fields.len());
        fields.push((ALLOW_ORIGIN, allowed));
        if self.credentials {
            fields.push((ALLOW_CREDENTIALS, HeaderValue::from_static("true")));
        }
        fields.extend(self.fields.iter().cloned());
        Some(fields)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_origin_matches_from_its_beginning_to_its_end() {
        let exact = OriginPattern::Exact("https://ok.example".into());
        let below = OriginPattern::Subdomains("https://".into(), ".ok.example".into());
        for (pattern, origin, expected) in [
            (&exact, "https://ok.example", true),
            (&exact, "HTTPS://OK.example", true),
            (&exact, "https://evil.example/https://ok.example", false),
            (&exact, "https://ok.example.evil", false),
            (&below, "https://a.ok.example", true),
            (&below, "https://a.b.ok.example", false),
            (&below, "https://.ok.example", false),
            (&below, "https://ok.example", false),
            (&below, "http://a.ok.example", false),
        ] {
            assert_eq!(pattern.matches(origin), expected, "{pattern:?} {origin}");
        }
    }
}
