//! Label values that neither a client nor a backend can make many of.

use std::fmt;

use prometheus_client::encoding::{EncodeLabelValue, LabelValueEncoder};

/// Statuses that are shown by number: those of RFC 9110 and other common ones, and 499 for a client that left.
const KNOWN: &[u16] = &[
    101, 200, 201, 202, 203, 204, 205, 206, 207, 300, 301, 302, 303, 304, 307, 308, 400, 401, 403, 404, 405, 406, 408,
    409, 410, 411, 412, 413, 414, 415, 416, 417, 421, 422, 425, 426, 429, 431, 499, 500, 501, 502, 503, 504, 505,
];

/// A status as a label: `404`, or `4xx` for one that is rare.
#[derive(Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Debug)]
pub(super) enum Status {
    /// By number; 0 where none was sent.
    Number(u16),
    /// By its first digit.
    Class(u16),
}

impl Status {
    pub(super) fn of(status: u16) -> Self {
        if status == 0 || KNOWN.contains(&status) { Self::Number(status) } else { Self::Class(status / 100) }
    }
}

impl Status {
    /// Whether it is one of 5xx.
    pub(super) fn is_error(self) -> bool {
        matches!(self, Self::Number(500..=599) | Self::Class(5))
    }
}

impl fmt::Display for Status {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Number(status) => write!(f, "{status}"),
            Self::Class(class) => write!(f, "{class}xx"),
        }
    }
}

impl EncodeLabelValue for Status {
    fn encode(&self, encoder: &mut LabelValueEncoder<'_>) -> fmt::Result {
        EncodeLabelValue::encode(&self.to_string(), encoder)
    }
}

/// The methods of RFC 9110 section 9 and PATCH by name, all others as one.
pub(super) fn known_method(method: &str) -> &'static str {
    const KNOWN: [&str; 8] = ["GET", "HEAD", "POST", "PUT", "DELETE", "OPTIONS", "TRACE", "PATCH"];
    KNOWN.iter().find(|known| **known == method).copied().unwrap_or("other")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_backend_has_few_statuses_to_choose_from() {
        let labels: std::collections::BTreeSet<_> = (0..=999).map(|status| Status::of(status).to_string()).collect();
        assert!(labels.len() < 60, "{}", labels.len());
        let shown = |status| Status::of(status).to_string();
        assert_eq!([shown(404), shown(418), shown(599), shown(0)], ["404", "4xx", "5xx", "0"]);
    }
}
