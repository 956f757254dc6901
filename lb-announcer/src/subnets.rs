//! The subnets of this node, as its interfaces have them.

use std::collections::BTreeMap;
use std::net::IpAddr;

use landfall_lb_model::subnet::Subnet;
use landfall_lb_model::wire::MacAddr;

use crate::edge::links::{Link, LinkWatch, Links};

/// Follows the addresses of the interfaces.
pub(crate) struct OwnSubnets {
    watch: LinkWatch,
}

impl OwnSubnets {
    /// Reads them; needs a running tokio runtime.
    pub(crate) async fn open() -> std::io::Result<Self> {
        Ok(Self { watch: LinkWatch::open().await? })
    }

    /// All of them, in ascending order.
    pub(crate) fn get(&self) -> Vec<Subnet> {
        subnets(self.watch.links())
    }

    /// Every interface with its MAC address, also those that aren't announced on.
    pub(crate) fn macs(&self) -> impl Iterator<Item = (&str, MacAddr)> {
        let links = self.watch.links().iter().filter(|link| !link.traits.loopback);
        links.filter_map(|link| Some((link.name.as_str(), link.mac?)))
    }

    /// Every address of every interface, with the interface's name; those of loopback interfaces too, where a virtual
    /// server's may be.
    pub(crate) fn addresses(&self) -> BTreeMap<IpAddr, String> {
        let addresses =
            |link: &Link| link.addresses.iter().map(|net| (net.addr(), link.name.clone())).collect::<Vec<_>>();
        self.watch.links().iter().flat_map(addresses).collect()
    }

    /// Waits until something about an interface has changed. Safe to cancel.
    pub(crate) async fn changed(&mut self) {
        if let Err(error) = self.watch.changed().await {
            tracing::debug!(%error, "cannot watch the interfaces");
        }
    }
}

/// The subnets of one interface.
///
/// Loopback and link-local addresses are on no network that a Service's address could be on. Single addresses may be
/// Services' own, which kube-proxy in IPVS mode binds to an interface.
pub(crate) fn of(link: &Link) -> impl Iterator<Item = Subnet> {
    let nets = link.addresses.iter().filter(|_| !link.traits.loopback);
    let subnets = nets.filter_map(|net| Subnet::new(net.addr(), u32::from(net.prefix_len())));
    let is_link_local = |subnet: &Subnet| match subnet.ip {
        std::net::IpAddr::V4(ip) => ip.is_link_local(),
        std::net::IpAddr::V6(ip) => ip.is_unicast_link_local(),
    };
    subnets.filter(move |s| !s.is_single() && !is_link_local(s))
}

fn subnets(links: &Links) -> Vec<Subnet> {
    let mut found: Vec<Subnet> = links.iter().flat_map(of).collect();
    found.sort_unstable();
    found.dedup();
    found
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::edge::links::LinkTraits;

    #[test]
    fn only_networks_that_a_service_can_be_on_count() {
        let link = |ifindex: u32, name: &str, addresses: &[&str]| Link {
            ifindex,
            name: name.to_owned(),
            mac: None,
            up: true,
            carrier: true,
            traits: LinkTraits { loopback: name == "lo", ..LinkTraits::default() },
            master: None,
            lower: None,
            addresses: addresses.iter().map(|a| a.parse().unwrap()).collect(),
        };
        let links: Links = [
            link(1, "lo", &["127.0.0.1/8", "::1/128"]),
            link(2, "eth0", &["192.0.2.10/24", "fd00::10/64", "fe80::1/64"]),
            link(3, "kube-ipvs0", &["192.0.2.200/32", "10.96.0.1/32"]),
        ]
        .into_iter()
        .collect();
        let found: Vec<String> = subnets(&links).iter().map(ToString::to_string).collect();
        assert_eq!(found, ["192.0.2.10/24", "fd00::10/64"]);
    }
}
