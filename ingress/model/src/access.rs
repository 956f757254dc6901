//! Which clients a route is for.

use std::net::IpAddr;

use ipnet::{IpNet, Ipv4Net};

/// Source ranges of ingress-nginx: first those that are denied, then those that are allowed.
#[derive(Clone, PartialEq, Eq, Hash, Debug, Default)]
pub struct Access {
    /// `denylist-source-range`: who gets 403.
    pub deny: Box<[IpNet]>,
    /// `allowlist-source-range`: everybody else gets 403; `None`: everybody is allowed.
    pub allow: Option<Box<[IpNet]>>,
}

impl Access {
    /// Whether a client may use the route. Addresses of the other family are in no range, as in nginx.
    pub fn permits(&self, client: IpAddr) -> bool {
        let client = client.to_canonical();
        let among = |ranges: &[IpNet]| ranges.iter().any(|range| range.contains(&client));
        !among(&self.deny) && self.allow.as_deref().is_none_or(among)
    }
}

impl std::fmt::Display for Access {
    /// `allowed: 10.0.0.0/8; denied: 10.1.0.0/16`
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let list = |ranges: &[IpNet]| ranges.iter().map(IpNet::to_string).collect::<Vec<_>>().join(", ");
        match &self.allow {
            Some(allow) => write!(f, "allowed: {}", list(allow))?,
            None => f.write_str("allowed: all others")?,
        }
        if self.deny.is_empty() { Ok(()) } else { write!(f, "; denied: {}", list(&self.deny)) }
    }
}

/// Reads a list of networks and addresses, separated by commas; `Err` is the first entry that is neither.
pub(crate) fn ranges(text: &str) -> Result<Box<[IpNet]>, &str> {
    text.split(',').map(|entry| range(entry.trim()).ok_or(entry.trim())).collect()
}

/// A network, or an address that stands for itself. Host bits do not matter.
pub(crate) fn range(text: &str) -> Option<IpNet> {
    let net: IpNet = text.parse().ok().or_else(|| text.parse::<IpAddr>().ok().map(IpNet::from))?;
    // Clients that came as IPv4 in IPv6 are compared as IPv4.
    let net = match net {
        IpNet::V6(mapped) if mapped.prefix_len() >= 96 => match mapped.addr().to_ipv4_mapped() {
            Some(address) => Ipv4Net::new(address, mapped.prefix_len() - 96).map_or(net, IpNet::V4),
            None => net,
        },
        _ => net,
    };
    Some(net.trunc())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn access(deny: &str, allow: &str) -> Access {
        let list = |text: &str| if text.is_empty() { Box::default() } else { ranges(text).unwrap() };
        Access { deny: list(deny), allow: (!allow.is_empty()).then(|| list(allow)) }
    }

    #[test]
    fn the_deny_list_comes_before_the_allow_list() {
        let cases = [
            ("", "0.0.0.0/0,::/0", "192.0.2.1", true),
            ("", "0.0.0.0/0,::/0", "2001:db8::1", true),
            ("", "0.0.0.0/0", "2001:db8::1", false),
            ("", "::/0", "192.0.2.1", false),
            ("", "10.0.0.0/8", "10.1.2.3", true),
            ("", "10.0.0.0/8", "::ffff:10.1.2.3", true),
            ("", "::ffff:10.0.0.0/104", "10.1.2.3", true),
            ("", "10.9.9.9/8", "10.1.2.3", true),
            ("", "192.0.2.1", "192.0.2.1", true),
            ("", "192.0.2.1", "192.0.2.2", false),
            ("", " 127.0.0.1 , 10.0.0.0/8 ", "10.0.0.1", true),
            ("10.1.0.0/16", "10.0.0.0/8", "10.1.2.3", false),
            ("10.1.0.0/16", "10.0.0.0/8", "10.2.2.3", true),
            ("::ffff:10.1.0.0/112", "", "10.1.2.3", false),
            ("10.1.0.0/16", "", "192.0.2.1", true),
            ("2001:db8::/32", "", "2001:db8::1", false),
        ];
        for (deny, allow, client, permitted) in cases {
            assert_eq!(access(deny, allow).permits(client.parse().unwrap()), permitted, "-{deny} +{allow} {client}");
        }
    }

    #[test]
    fn an_entry_that_is_no_range_is_named() {
        for (text, bad) in [
            ("abc", "abc"),
            ("10.0.0.0/8,", ""),
            ("10.0.0.1, 10.0.0.0/33", "10.0.0.0/33"),
            ("10.0.0.0/8 ::1", "10.0.0.0/8 ::1"),
        ] {
            assert_eq!(ranges(text), Err(bad), "{text}");
        }
    }
}
