//! Hosts of requests and of rules.

use http::uri::Authority;
use landfall_ingress_model::host::{HostName, HostPattern};

pub(crate) fn run(bytes: &[u8]) {
    let Ok(text) = std::str::from_utf8(bytes) else { return };
    if let Ok(host) = HostName::from_authority(text) {
        name(text, &host);
    }
    if let Ok(pattern) = HostPattern::parse(text) {
        self::pattern(text, &pattern);
    }
}

fn name(text: &str, host: &HostName) {
    assert_eq!(HostName::from_authority(host.as_str()).as_ref(), Ok(host), "{text:?}: a host has itself as its form");
    assert!(!host.as_str().ends_with('.'), "{text:?}");
    let other: Authority = text.parse().expect("http reads what is accepted here");
    let same = other.host().to_ascii_lowercase();
    assert_eq!(same.strip_suffix('.').unwrap_or(&same), host.as_str());
    if let Some(wildcard) = host.wildcard() {
        assert!(wildcard.matches(Some(host)), "{text:?}");
    }
}

fn pattern(text: &str, pattern: &HostPattern) {
    let shown = pattern.to_string();
    match pattern {
        HostPattern::Any => return assert_eq!((text, &*shown), ("", "*")),
        HostPattern::Exact(name) => {
            assert!(pattern.matches(Some(name)));
            // What a rule may name, a request can ask for.
            assert_eq!(HostName::from_authority(name.as_str()).as_ref(), Ok(name), "{text:?}");
        }
        HostPattern::Wildcard(domain) => {
            let below = HostName::from_authority(&format!("x.{domain}"));
            // A domain of full length has no room for a label in front of it.
            if let Ok(below) = below {
                assert!(pattern.matches(Some(&below)) || below.parent().is_none(), "{text:?}");
            }
            assert!(!pattern.matches(Some(domain)), "{text:?}");
        }
    }
    assert_eq!(HostPattern::parse(&shown).as_ref(), Ok(pattern), "{text:?}");
}
