//! Name constraints (RFC 5280 section 4.2.1.10): those that are asked for, and those of a certificate that is there.

use std::fmt;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use ipnet::IpNet;
use x509_parser::extensions::GeneralSubtree;
use x509_parser::prelude::{FromDer, GeneralName, X509Certificate};

use crate::host::HostPattern;

/// Domains that no public CA signs for: RFC 8375 (home.arpa), the root zone's reservation of 2024 (internal), RFC 6762
/// with its appendix G (local, lan, home, intranet, private, corp) and RFC 6761 (localhost, test).
const DOMAINS: [&str; 10] =
    ["home.arpa", "internal", "lan", "local", "home", "intranet", "private", "corp", "localhost", "test"];

/// Networks that are nobody's on the Internet: RFC 1918, RFC 6598 (also of Tailscale), RFC 3927, RFC 1122, RFC 4193,
/// RFC 4291.
const NETWORKS: [&str; 9] = [
    "10.0.0.0/8",
    "172.16.0.0/12",
    "192.168.0.0/16",
    "100.64.0.0/10",
    "169.254.0.0/16",
    "127.0.0.0/8",
    "fc00::/7",
    "fe80::/10",
    "::1/128",
];

/// The names and addresses that may be signed for.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Permitted {
    domains: Vec<String>,
    networks: Vec<IpNet>,
}

impl Default for Permitted {
    /// What no public CA signs for.
    fn default() -> Self {
        let networks = NETWORKS.iter().filter_map(|network| network.parse().ok());
        Self { domains: DOMAINS.map(str::to_owned).into(), networks: networks.collect() }
    }
}

impl Permitted {
    /// Reads domains (`home.arpa`), networks (`192.168.0.0/16`) and addresses; `default` stands for the default ones.
    pub fn parse<T: AsRef<str>>(texts: &[T]) -> Result<Self, String> {
        let (mut domains, mut networks) = (Vec::new(), Vec::new());
        for text in texts {
            let text = text.as_ref().trim();
            if text == "default" {
                let default = Self::default();
                domains.extend(default.domains);
                networks.extend(default.networks);
            } else if let Ok(network) = text.parse::<IpNet>() {
                networks.push(network.trunc());
            } else if let Ok(address) = text.parse::<IpAddr>() {
                networks.push(address.into());
            } else {
                let bare = text.strip_prefix("*.").or_else(|| text.strip_prefix('.')).unwrap_or(text);
                match HostPattern::parse(bare) {
                    Ok(HostPattern::Exact(name)) => domains.push(name.to_string()),
                    Ok(_) => return Err("an entry is empty".to_owned()),
                    Err(error) => return Err(format!("{text:?} is neither a domain nor a network: {error}")),
                }
            }
        }
        if domains.is_empty() && networks.is_empty() {
            return Err("nothing is permitted".to_owned());
        }
        Ok(Self { domains, networks })
    }

    /// The domains, each of which stands for itself and all names below it.
    pub fn domains(&self) -> &[String] {
        &self.domains
    }

    /// The networks.
    pub fn networks(&self) -> &[IpNet] {
        &self.networks
    }

    /// Whether a host, a wildcard with its `*.` or an address may be signed for.
    pub fn has(&self, host: &str) -> bool {
        match host.parse::<IpAddr>() {
            Ok(address) => self.networks.iter().any(|network| network.contains(&address)),
            Err(_) => self.domains.iter().any(|domain| is_within(host, domain)),
        }
    }

    /// Whether no public CA signs for the host.
    pub fn is_private(host: &str) -> bool {
        Self::default().has(host)
    }
}

impl fmt::Display for Permitted {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let networks = self.networks.iter().map(ToString::to_string);
        let all: Vec<String> = self.domains.iter().map(|domain| format!("*.{domain}")).chain(networks).collect();
        f.write_str(&all.join(", "))
    }
}

fn is_within(host: &str, domain: &str) -> bool {
    let host = host.strip_prefix("*.").unwrap_or(host);
    // In a certificate, the empty domain is above all.
    domain.is_empty() || host.strip_suffix(domain).is_some_and(|rest| rest.is_empty() || rest.ends_with('.'))
}

/// The name constraints of certificates of authorities, all of which count.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub struct Constraints(Vec<Constraint>);

#[derive(Clone, PartialEq, Eq, Debug, Default)]
struct Constraint {
    permitted: Subtrees,
    excluded: Subtrees,
}

#[derive(Clone, PartialEq, Eq, Debug, Default)]
struct Subtrees {
    domains: Vec<String>,
    networks: Vec<Subnet>,
}

/// Address and mask, which need not be one of a prefix.
type Subnet = (IpAddr, IpAddr);

impl Constraints {
    /// Adds those of a certificate in DER. Fails if it can't be read.
    pub fn add(&mut self, der: &[u8]) -> Result<(), String> {
        let (_, certificate) = X509Certificate::from_der(der).map_err(|error| error.to_string())?;
        let found = certificate.name_constraints().map_err(|error| error.to_string())?;
        if let Some(extension) = found {
            let subtrees = |list: &Option<Vec<GeneralSubtree<'_>>>| Subtrees::read(list.as_deref().unwrap_or_default());
            let permitted = subtrees(&extension.value.permitted_subtrees);
            self.0.push(Constraint { permitted, excluded: subtrees(&extension.value.excluded_subtrees) });
        }
        Ok(())
    }

    /// Whether clients take a certificate for this host.
    pub fn allow(&self, host: &str) -> bool {
        self.0.iter().all(|constraint| constraint.allows(host))
    }
}

impl Constraint {
    /// RFC 5280: what no subtree of its kind is named for is allowed; what is excluded is so in any case.
    fn allows(&self, host: &str) -> bool {
        let Self { permitted, excluded } = self;
        if let Ok(address) = host.parse::<IpAddr>() {
            let within = |subnets: &[Subnet]| subnets.iter().any(|subnet| contains(*subnet, address));
            (permitted.networks.is_empty() || within(&permitted.networks)) && !within(&excluded.networks)
        } else {
            let within = |domains: &[String]| domains.iter().any(|domain| is_within(host, domain));
            (permitted.domains.is_empty() || within(&permitted.domains)) && !within(&excluded.domains)
        }
    }
}

impl Subtrees {
    fn read(list: &[GeneralSubtree<'_>]) -> Self {
        let mut found = Self::default();
        for subtree in list {
            match &subtree.base {
                GeneralName::DNSName(name) => found.domains.push(name.trim_start_matches('.').to_ascii_lowercase()),
                GeneralName::IPAddress(bytes) => found.networks.extend(subnet(bytes)),
                _ => {}
            }
        }
        found
    }
}

/// An address and a mask, each of 4 or of 16 octets.
fn subnet(bytes: &[u8]) -> Option<Subnet> {
    let (address, mask) = bytes.split_at(bytes.len() / 2);
    let read = |bytes: &[u8]| -> Option<IpAddr> {
        let four = <[u8; 4]>::try_from(bytes).map(|octets| Ipv4Addr::from(octets).into());
        four.or_else(|_| <[u8; 16]>::try_from(bytes).map(|octets| Ipv6Addr::from(octets).into())).ok()
    };
    Some((read(address)?, read(mask)?))
}

fn contains(subnet: Subnet, address: IpAddr) -> bool {
    match (subnet, address) {
        ((IpAddr::V4(net), IpAddr::V4(mask)), IpAddr::V4(address)) => {
            net.to_bits() & mask.to_bits() == address.to_bits() & mask.to_bits()
        }
        ((IpAddr::V6(net), IpAddr::V6(mask)), IpAddr::V6(address)) => {
            net.to_bits() & mask.to_bits() == address.to_bits() & mask.to_bits()
        }
        _ => false,
    }
}

#[cfg(test)]
mod tests {
    use rcgen::{CertificateParams, CidrSubnet, GeneralSubtree, KeyPair, NameConstraints};

    use super::*;

    #[test]
    fn a_domain_stands_for_itself_and_what_is_below_it() {
        let permitted = Permitted::parse(&["home.arpa", "*.Example.COM", "192.168.1.7/24", "fd00::1"]).unwrap();
        for host in
            ["home.arpa", "a.home.arpa", "*.home.arpa", "a.b.home.arpa", "x.example.com", "192.168.1.9", "fd00::1"]
        {
            assert!(permitted.has(host), "{host}");
        }
        for host in ["arpa", "ahome.arpa", "home.arpa.example", "*.arpa", "192.168.2.1", "fd00::2", "lan"] {
            assert!(!permitted.has(host), "{host}");
        }
        assert_eq!(permitted.to_string(), "*.home.arpa, *.example.com, 192.168.1.0/24, fd00::1/128");
    }

    #[test]
    fn the_default_is_what_no_public_ca_signs_for() {
        for host in ["nas.home.arpa", "*.lan", "a.internal", "printer.local", "localhost", "10.1.2.3", "fd12::1", "::1"]
        {
            assert!(Permitted::is_private(host), "{host}");
        }
        for host in ["example.com", "lan.example.com", "8.8.8.8", "2001:db8::1", "172.32.0.1"] {
            assert!(!Permitted::is_private(host), "{host}");
        }
        assert_eq!(Permitted::default().networks().len(), NETWORKS.len());
        let more = Permitted::parse(&["default", "example.com"]).unwrap();
        assert!(more.has("nas.lan") && more.has("a.example.com"));
    }

    #[test]
    fn what_is_neither_domain_nor_network_is_refused() {
        for text in ["", "a b", "10.0.0.0/33", "a_b", "*.*.lan"] {
            assert!(Permitted::parse(&[text]).is_err(), "{text}");
        }
        assert!(Permitted::parse::<&str>(&[]).is_err());
    }

    #[test]
    fn constraints_of_all_certificates_count() {
        let pair = KeyPair::generate().unwrap();
        let certificate = |permitted_subtrees, excluded_subtrees| {
            let mut params = CertificateParams::default();
            params.is_ca = rcgen::IsCa::Ca(rcgen::BasicConstraints::Unconstrained);
            params.name_constraints = Some(NameConstraints { permitted_subtrees, excluded_subtrees });
            params.self_signed(&pair).unwrap()
        };
        let name = |name: &str| GeneralSubtree::DnsName(name.to_owned());
        let net = GeneralSubtree::IpAddress(CidrSubnet::from_v4_prefix([10, 0, 0, 0], 8));
        let mut all = Constraints::default();
        assert!(all.allow("anything.example"));
        all.add(certificate(vec![name("lan"), net], vec![]).der()).unwrap();
        assert!(all.allow("*.lan") && all.allow("10.9.9.9"));
        assert!(!all.allow("example.com") && !all.allow("11.0.0.1") && !all.allow("fd00::1"));
        let nothing = GeneralSubtree::IpAddress(CidrSubnet::from_v4_prefix([0; 4], 0));
        all.add(certificate(vec![], vec![name(".guest.lan"), nothing]).der()).unwrap();
        assert!(all.allow("a.lan") && !all.allow("a.guest.lan") && !all.allow("10.9.9.9"));
        all.add(certificate(vec![], vec![name("")]).der()).unwrap();
        assert!(!all.allow("a.lan"));
        assert!(Constraints::default().add(b"nonsense").is_err());
    }
}
