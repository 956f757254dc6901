//! Which addresses requests may be sent to.
//!
//! The same filter stands before the addresses in EndpointSlices and Endpoints and before those that a name of a
//! Service of type ExternalName resolves to.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use thiserror::Error;

use crate::settings::Origin;

/// Addresses outside the link-local range at which cloud providers answer with credentials of the node: Alibaba
/// Cloud, Azure, Oracle Cloud, Google Cloud, and the range of AWS.
const METADATA_V4: [Ipv4Addr; 3] =
    [Ipv4Addr::new(100, 100, 100, 200), Ipv4Addr::new(168, 63, 129, 16), Ipv4Addr::new(192, 0, 0, 192)];
const METADATA_V6: Ipv6Addr = Ipv6Addr::new(0xfd20, 0xce, 0, 0, 0, 0, 0, 0x254);
const METADATA_V6_NET: [u16; 2] = [0xfd00, 0x0ec2];

/// Why no request is sent to an address.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Error)]
pub enum Unusable {
    /// `0.0.0.0/8` and `::`, which Linux takes for the own host.
    #[error("an unspecified address can't be used as an endpoint")]
    Unspecified,
    /// Multicast and broadcast.
    #[error("a multicast or broadcast address can't be used as an endpoint")]
    Multicast,
    /// Loopback, outside a folder of manifests.
    #[error("a loopback address can't be used as an endpoint in a cluster")]
    Loopback,
    /// Link-local.
    #[error("a link-local address can't be used as an endpoint")]
    LinkLocal,
    /// A cloud provider's metadata service.
    #[error("the address of a cloud's metadata service can't be used as an endpoint")]
    Metadata,
}

/// The address in canonical form, if requests may be sent to it.
///
/// > endpoint IPs must not be: loopback (127.0.0.0/8 for IPv4, ::1/128 for IPv6), or link-local (169.254.0.0/16 and
/// > 224.0.0.0/24 for IPv4, fe80::/64 for IPv6). (Kubernetes: Service, "Services without selectors")
///
/// Otherwise whoever may write slices or Services could reach into the proxy's own host.
pub fn usable(address: IpAddr, origin: Origin) -> Result<IpAddr, Unusable> {
    let address = address.to_canonical();
    match embedded(address) {
        Some(inner) => check_v4(inner, origin)?,
        None => check(address, origin)?,
    }
    Ok(address)
}

fn check(address: IpAddr, origin: Origin) -> Result<(), Unusable> {
    let address = match address {
        IpAddr::V4(address) => return check_v4(address, origin),
        IpAddr::V6(address) => address,
    };
    if address.is_unspecified() {
        Err(Unusable::Unspecified)
    } else if address.is_multicast() {
        Err(Unusable::Multicast)
    } else if address.is_loopback() && origin == Origin::Cluster {
        Err(Unusable::Loopback)
    } else if address.is_unicast_link_local() {
        Err(Unusable::LinkLocal)
    } else if address == METADATA_V6 || address.segments().starts_with(&METADATA_V6_NET) {
        Err(Unusable::Metadata)
    } else {
        Ok(())
    }
}

fn check_v4(address: Ipv4Addr, origin: Origin) -> Result<(), Unusable> {
    if address.octets()[0] == 0 {
        Err(Unusable::Unspecified)
    } else if address.is_multicast() || address.is_broadcast() {
        Err(Unusable::Multicast)
    } else if address.is_loopback() && origin == Origin::Cluster {
        Err(Unusable::Loopback)
    } else if address.is_link_local() {
        Err(Unusable::LinkLocal)
    } else if METADATA_V4.contains(&address) {
        Err(Unusable::Metadata)
    } else {
        Ok(())
    }
}

/// The IPv4 address that a NAT64 gateway makes of an IPv6 one (RFC 6052, `64:ff9b::/96`).
fn embedded(address: IpAddr) -> Option<Ipv4Addr> {
    let IpAddr::V6(address) = address else { return None };
    let bytes = address.octets();
    let [a, b, c, d] = [bytes[12], bytes[13], bytes[14], bytes[15]];
    address.segments().starts_with(&[0x64, 0xff9b, 0, 0, 0, 0]).then(|| Ipv4Addr::new(a, b, c, d))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn addresses_that_lead_to_the_own_host_or_to_credentials_are_refused() {
        let cases = [
            ("10.0.0.1", None, None),
            ("100.100.100.201", None, None),
            ("2001:db8::1", None, None),
            ("fd00::1", None, None),
            ("64:ff9b::c000:201", None, None),
            ("127.0.0.1", Some(Unusable::Loopback), None),
            ("127.9.9.9", Some(Unusable::Loopback), None),
            ("::1", Some(Unusable::Loopback), None),
            ("::ffff:127.0.0.1", Some(Unusable::Loopback), None),
            ("64:ff9b::7f00:1", Some(Unusable::Loopback), None),
            ("0.0.0.0", Some(Unusable::Unspecified), Some(Unusable::Unspecified)),
            ("0.0.0.1", Some(Unusable::Unspecified), Some(Unusable::Unspecified)),
            ("::", Some(Unusable::Unspecified), Some(Unusable::Unspecified)),
            ("169.254.169.254", Some(Unusable::LinkLocal), Some(Unusable::LinkLocal)),
            ("::ffff:169.254.169.254", Some(Unusable::LinkLocal), Some(Unusable::LinkLocal)),
            ("64:ff9b::a9fe:a9fe", Some(Unusable::LinkLocal), Some(Unusable::LinkLocal)),
            ("fe80::1", Some(Unusable::LinkLocal), Some(Unusable::LinkLocal)),
            ("224.0.0.1", Some(Unusable::Multicast), Some(Unusable::Multicast)),
            ("255.255.255.255", Some(Unusable::Multicast), Some(Unusable::Multicast)),
            ("ff02::1", Some(Unusable::Multicast), Some(Unusable::Multicast)),
            ("100.100.100.200", Some(Unusable::Metadata), Some(Unusable::Metadata)),
            ("168.63.129.16", Some(Unusable::Metadata), Some(Unusable::Metadata)),
            ("fd00:ec2::254", Some(Unusable::Metadata), Some(Unusable::Metadata)),
            ("fd20:ce::254", Some(Unusable::Metadata), Some(Unusable::Metadata)),
        ];
        for (text, cluster, folder) in cases {
            let address: IpAddr = text.parse().unwrap();
            assert_eq!(usable(address, Origin::Cluster).err(), cluster, "{text} in a cluster");
            assert_eq!(usable(address, Origin::Folder).err(), folder, "{text} from a folder");
        }
    }
}
