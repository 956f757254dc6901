//! Host names as requests carry them and host patterns as Ingress rules write them.

use std::borrow::Borrow;
use std::fmt;
use std::net::IpAddr;
use std::sync::Arc;

use thiserror::Error;

/// The host a request or a TLS handshake is for: lower case, without port and without a trailing dot.
///
/// An address literal is a host name too; an IPv6 one keeps its brackets.
#[derive(Clone, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct HostName(Arc<str>);

/// Why a text is not a host.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Error)]
pub enum BadHost {
    /// Nothing is left once port and trailing dot are gone.
    #[error("the host is empty")]
    Empty,
    /// A character that no host name has (RFC 3986 section 3.2.2), user information, or a broken literal.
    #[error("the host has a character that no host name has")]
    Character,
    /// An empty label (RFC 1035 section 3.1): two dots beside each other.
    #[error("the host has two dots beside each other")]
    Dots,
    /// What follows the colon is not a port number.
    #[error("the port is not a number from 0 to 65535")]
    Port,
    /// Longer than the 253 octets of a DNS name (RFC 1035 section 2.3.4).
    #[error("the host is longer than 253 characters")]
    TooLong,
    /// A wildcard anywhere but as the whole first label, or one without a domain behind it.
    #[error("a wildcard must be the whole first label, as in *.example.com")]
    Wildcard,
    /// Not a name of letters, digits and hyphens in labels of 1 to 63 (RFC 1123 section 2.1).
    #[error("not a DNS name")]
    NotDns,
    /// An address where the Kubernetes API asks for a name.
    #[error("an IP address, but the field takes a DNS name")]
    Address,
}

impl HostName {
    /// Reads the `Host` field or the `:authority` of a request (RFC 9110 section 7.2).
    pub fn from_authority(authority: &str) -> Result<Self, BadHost> {
        let host = strip_port(authority)?;
        let host = host.strip_suffix('.').unwrap_or(host);
        match host.len() {
            0 => return Err(BadHost::Empty),
            254.. => return Err(BadHost::TooLong),
            _ => {}
        }
        let literal = host.starts_with('[');
        let valid = |byte: u8| match byte {
            b'a'..=b'z' | b'A'..=b'Z' | b'0'..=b'9' | b'-' | b'.' | b'_' => true,
            b':' | b'[' | b']' => literal,
            // The sub-delims that a registered name may have; a wildcard never matches one.
            b'~' | b'!' | b'$' | b'&' | b'\'' | b'(' | b')' | b'+' | b',' | b';' | b'=' => !literal,
            _ => false,
        };
        if !host.bytes().all(valid) {
            return Err(BadHost::Character);
        }
        // A name is told from another by its text, so it has one text only: "a.." would be neither "a." nor "a".
        if host.ends_with('.') || host.as_bytes().windows(2).any(|pair| pair == b"..") {
            return Err(BadHost::Dots);
        }
        Ok(if host.bytes().any(|byte| byte.is_ascii_uppercase()) {
            Self(host.to_ascii_lowercase().into())
        } else {
            Self(host.into())
        })
    }

    /// An address as a host: as an authority has it, with brackets for IPv6.
    pub fn from_address(address: IpAddr) -> Self {
        Self(match address.to_canonical() {
            IpAddr::V4(address) => address.to_string().into(),
            IpAddr::V6(address) => format!("[{address}]").into(),
        })
    }

    /// The address that it is, if it is one.
    pub fn address(&self) -> Option<IpAddr> {
        self.0.trim_start_matches('[').trim_end_matches(']').parse().ok()
    }

    /// The name itself.
    pub fn as_str(&self) -> &str {
        &self.0
    }

    /// What stands behind the first label: `example.com` of `www.example.com`.
    ///
    /// `None` for a name of one label and for addresses, which no wildcard covers.
    pub fn parent(&self) -> Option<&str> {
        let (label, parent) = self.0.split_once('.')?;
        let address = self.0.starts_with('[') || self.0.parse::<std::net::Ipv4Addr>().is_ok();
        (!label.is_empty() && !parent.is_empty() && !address).then_some(parent)
    }
}

impl HostName {
    /// The only wildcard that covers this name: `*.example.com` for `www.example.com`.
    pub fn wildcard(&self) -> Option<HostPattern> {
        self.parent().map(|domain| HostPattern::Wildcard(Self(domain.into())))
    }
}

/// The host without its port; brackets stay.
fn strip_port(authority: &str) -> Result<&str, BadHost> {
    let (host, port) = if let Some(rest) = authority.strip_prefix('[') {
        let end = rest.find(']').ok_or(BadHost::Character)? + 2;
        let (host, rest) = authority.split_at(end);
        if host[1..end - 1].parse::<std::net::Ipv6Addr>().is_err() {
            return Err(BadHost::Character);
        }
        match rest.strip_prefix(':') {
            Some(port) => (host, port),
            None if rest.is_empty() => return Ok(host),
            None => return Err(BadHost::Character),
        }
    } else {
        match authority.split_once(':') {
            Some(parts) => parts,
            None => return Ok(authority),
        }
    };
    // RFC 3986 allows an empty port behind the colon.
    let digits = port.bytes().all(|byte| byte.is_ascii_digit());
    if !port.is_empty() && (!digits || port.parse::<u16>().is_err()) {
        return Err(BadHost::Port);
    }
    Ok(host)
}

impl Borrow<str> for HostName {
    fn borrow(&self) -> &str {
        &self.0
    }
}

impl fmt::Display for HostName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl fmt::Debug for HostName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

/// The host of an Ingress rule or TLS entry (Kubernetes: Ingress, "Hostname wildcards").
#[derive(Clone, PartialEq, Eq, Hash, PartialOrd, Ord, Debug)]
pub enum HostPattern {
    /// `foo.bar.com`: this host only.
    Exact(HostName),
    /// `*.bar.com`, held as `bar.com`: any host with exactly one label more.
    Wildcard(HostName),
    /// No host: every request.
    Any,
}

impl HostPattern {
    /// Reads `spec.rules[].host` or one of `spec.tls[].hosts`; an empty text is [`HostPattern::Any`].
    ///
    /// Upper case is taken as lower case although the API server refuses it, since manifests have it.
    pub fn parse(text: &str) -> Result<Self, BadHost> {
        if text.is_empty() {
            return Ok(Self::Any);
        }
        let wildcard = text.strip_prefix("*.");
        let name = wildcard.unwrap_or(text);
        if name.contains('*') || text == "*." {
            return Err(BadHost::Wildcard);
        }
        let name = name.strip_suffix('.').unwrap_or(name).to_ascii_lowercase();
        if name.parse::<std::net::IpAddr>().is_ok() {
            return Err(BadHost::Address);
        }
        if name.len() > 253 {
            return Err(BadHost::TooLong);
        }
        if !name.split('.').all(is_label) {
            return Err(BadHost::NotDns);
        }
        let name = HostName(name.into());
        Ok(if wildcard.is_some() { Self::Wildcard(name) } else { Self::Exact(name) })
    }

    /// The host of a TLS entry: as [`Self::parse`], and addresses, which certificates may be for.
    pub fn parse_tls(text: &str) -> Result<Self, BadHost> {
        match text.parse() {
            Ok(address) => Ok(Self::Exact(HostName::from_address(address))),
            Err(_) => Self::parse(text),
        }
    }

    /// Whether a request for `host` is meant; `None` is a request without a host.
    pub fn matches(&self, host: Option<&HostName>) -> bool {
        match (self, host) {
            (Self::Any, _) => true,
            (_, None) => false,
            (Self::Exact(name), Some(host)) => name == host,
            (Self::Wildcard(domain), Some(host)) => host.parent() == Some(domain.as_str()),
        }
    }
}

/// RFC 1123 section 2.1: 1 to 63 letters, digits and hyphens, no hyphen at either end.
fn is_label(label: &str) -> bool {
    let bytes = label.as_bytes();
    let plain = |byte: &u8| byte.is_ascii_lowercase() || byte.is_ascii_digit() || *byte == b'-';
    (1..=63).contains(&bytes.len())
        && bytes.iter().all(plain)
        && bytes.first() != Some(&b'-')
        && bytes.last() != Some(&b'-')
}

impl fmt::Display for HostPattern {
    /// As the rule wrote it; `*` stands for no host.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Exact(name) => write!(f, "{name}"),
            Self::Wildcard(domain) => write!(f, "*.{domain}"),
            Self::Any => f.write_str("*"),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_authority_becomes_a_host_without_case_port_and_trailing_dot() {
        let cases = [
            ("Example.COM", "example.com"),
            ("example.com:8443", "example.com"),
            ("example.com.:80", "example.com"),
            ("example.com:", "example.com"),
            ("[2001:DB8::1]:443", "[2001:db8::1]"),
            ("10.0.0.1", "10.0.0.1"),
            ("under_score.example", "under_score.example"),
        ];
        for (authority, host) in cases {
            assert_eq!(HostName::from_authority(authority).unwrap().as_str(), host, "{authority}");
        }
    }

    #[test]
    fn what_is_no_host_is_refused() {
        let cases = [
            ("", BadHost::Empty),
            (".", BadHost::Empty),
            (":80", BadHost::Empty),
            ("a b", BadHost::Character),
            ("a/b", BadHost::Character),
            ("user@host", BadHost::Character),
            ("..", BadHost::Dots),
            ("a..:80", BadHost::Dots),
            ("a..example", BadHost::Dots),
            ("[::1", BadHost::Character),
            ("[nonsense]", BadHost::Character),
            ("[::1]x", BadHost::Character),
            ("host:80a", BadHost::Port),
            ("host:99999", BadHost::Port),
            ("host:1:2", BadHost::Port),
            ("caf\u{e9}.example", BadHost::Character),
        ];
        for (authority, error) in cases {
            assert_eq!(HostName::from_authority(authority), Err(error), "{authority:?}");
        }
    }

    #[test]
    fn an_address_is_a_host_of_tls_entries_alone() {
        for (text, host) in [("10.0.0.1", "10.0.0.1"), ("FD00::1", "[fd00::1]"), ("::ffff:10.0.0.1", "10.0.0.1")] {
            let HostPattern::Exact(name) = HostPattern::parse_tls(text).unwrap() else { panic!("{text}") };
            assert_eq!((name.as_str(), name.parent()), (host, None));
            assert_eq!(Some(HostName::from_address(name.address().unwrap())), Some(name));
            assert!(HostPattern::parse(text).is_err());
        }
        assert_eq!(HostPattern::parse_tls("a.lan"), HostPattern::parse("a.lan"));
        assert_eq!(HostPattern::parse_tls("10.0.0.1."), Err(BadHost::Address));
    }

    #[test]
    fn wildcards_cover_exactly_one_label() {
        // The table of the Kubernetes documentation, "Hostname wildcards".
        let pattern = HostPattern::parse("*.foo.com").unwrap();
        let host = |text: &str| Some(HostName::from_authority(text).unwrap());
        assert!(pattern.matches(host("bar.foo.com").as_ref()));
        assert!(!pattern.matches(host("baz.bar.foo.com").as_ref()));
        assert!(!pattern.matches(host("foo.com").as_ref()));
        assert!(!pattern.matches(None));
    }

    #[test]
    fn patterns_that_are_no_dns_name_are_refused() {
        let cases = [
            ("*", BadHost::Wildcard),
            ("foo.*.com", BadHost::Wildcard),
            ("a*.com", BadHost::Wildcard),
            ("*.*.com", BadHost::Wildcard),
            ("10.0.0.1", BadHost::Address),
            ("10.0.0.1.", BadHost::Address),
            ("a_b.com", BadHost::NotDns),
            ("-a.com", BadHost::NotDns),
            ("a..com", BadHost::NotDns),
            ("a.com:80", BadHost::NotDns),
        ];
        for (pattern, error) in cases {
            assert_eq!(HostPattern::parse(pattern), Err(error), "{pattern:?}");
        }
    }
}
