//! The subnets that nodes are on, and what must not be given to Services because of them.

use std::collections::BTreeSet;
use std::fmt;
use std::net::IpAddr;

use crate::address::{Family, Span};

/// The annotation of a speaker's `ConfigurationState` that holds its node's addresses with their prefixes.
pub const SUBNETS: &str = "landfall.dev/subnets";

/// Lengths of IPv4 prefixes that a network of nodes may have. Longer ones have neither a network nor a broadcast
/// address (RFC 3021).
const LIKELY_V4: std::ops::RangeInclusive<u32> = 8..=30;
/// Lengths of IPv6 prefixes that a network of nodes may have. A /127 has no anycast address of its routers (RFC 6164).
const LIKELY_V6: std::ops::RangeInclusive<u32> = 48..=126;

/// An address of an interface with the length of its prefix.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
pub struct Subnet {
    /// The interface's own address.
    pub ip: IpAddr,
    /// Bits that the addresses of the subnet have in common.
    pub length: u32,
    span: Span,
}

impl Subnet {
    /// The subnet of `ip` with this prefix length; `None` for a length that the family doesn't have.
    pub fn new(ip: IpAddr, length: u32) -> Option<Self> {
        Some(Self { ip, length, span: Span::prefix(ip, length)? })
    }

    /// Reads `192.0.2.10/24`.
    pub fn parse(text: &str) -> Option<Self> {
        let (ip, length) = text.trim().split_once('/')?;
        Self::new(ip.parse().ok()?, length.parse().ok()?)
    }

    /// Reads a list as [`SUBNETS`] holds it; what can't be read is left out.
    pub fn parse_list(text: &str) -> Vec<Self> {
        text.split(',').filter_map(Self::parse).collect()
    }

    /// Whether it is a single address, as of virtual servers and of kube-proxy's own interface: no network of nodes.
    pub fn is_single(&self) -> bool {
        self.span.size() == 1
    }

    /// Its addresses.
    pub(crate) fn span(&self) -> Span {
        self.span
    }

    /// Whether `ip` is one of its addresses.
    pub fn contains(&self, ip: IpAddr) -> bool {
        self.span.contains(ip)
    }

    /// The network address; for IPv6 the anycast address of the subnet's routers (RFC 4291, section 2.6.1).
    pub fn network(&self) -> Option<IpAddr> {
        let longest = if self.ip.is_ipv4() { 30 } else { 126 };
        (self.length <= longest).then(|| self.span.family().address(self.span.first()))
    }

    /// The broadcast address, which only IPv4 has.
    pub fn broadcast(&self) -> Option<IpAddr> {
        (self.ip.is_ipv4() && self.length <= 30).then(|| self.span.family().address(self.span.last()))
    }
}

impl fmt::Display for Subnet {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/{}", self.ip, self.length)
    }
}

/// The addresses that may be the network or broadcast address of the subnet of a node of which only `ip` is known.
pub(crate) fn doubtful(ip: IpAddr) -> BTreeSet<IpAddr> {
    let lengths = match Family::of(ip) {
        Family::V4 => LIKELY_V4,
        Family::V6 => LIKELY_V6,
    };
    let subnets = lengths.filter_map(|length| Subnet::new(ip, length));
    subnets.flat_map(|subnet| [subnet.network(), subnet.broadcast()]).flatten().collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_subnet_says_what_is_its_own() {
        for (text, network, broadcast) in [
            ("192.0.2.10/24", "192.0.2.0", "192.0.2.255"),
            ("192.0.2.10/30", "192.0.2.8", "192.0.2.11"),
            ("192.0.2.10/31", "", ""),
            ("192.0.2.10/32", "", ""),
            ("fd00::10/64", "fd00::", ""),
            ("fd00::10/127", "", ""),
        ] {
            let subnet = Subnet::parse(text).unwrap();
            let name = |ip: Option<IpAddr>| ip.map(|ip| ip.to_string()).unwrap_or_default();
            assert_eq!(
                (name(subnet.network()), name(subnet.broadcast())),
                (network.into(), broadcast.into()),
                "{text}"
            );
            assert_eq!(subnet.to_string(), text);
        }
        for text in ["", "192.0.2.10", "192.0.2.10/33", "x/24", "fd00::/129"] {
            assert_eq!(Subnet::parse(text), None, "{text}");
        }
        assert_eq!(Subnet::parse_list("192.0.2.10/24, fd00::1/64,what").len(), 2);
    }

    #[test]
    fn what_may_be_a_network_or_broadcast_address_is_doubtful() {
        let of = doubtful("192.168.10.5".parse().unwrap());
        for ip in ["192.168.10.0", "192.168.10.255", "192.168.10.7", "192.168.255.255", "192.168.0.0"] {
            assert!(of.contains(&ip.parse::<IpAddr>().unwrap()), "{ip}");
        }
        for ip in ["192.168.10.5", "192.168.10.1", "192.168.10.240", "192.168.11.0"] {
            assert!(!of.contains(&ip.parse::<IpAddr>().unwrap()), "{ip}");
        }
        assert!(doubtful("fd00::5".parse().unwrap()).contains(&"fd00::".parse::<IpAddr>().unwrap()));
    }
}
