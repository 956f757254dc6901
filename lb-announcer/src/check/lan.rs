//! Whether hosts on the LAN answer for addresses that pools are to give, as far as this machine is on that LAN.

use std::collections::BTreeSet;
use std::net::{IpAddr, Ipv4Addr};

use landfall_lb_model::address::Family;
use landfall_lb_model::checkup::ADDRESS_ANSWERS;
use landfall_lb_model::world::World;
use landfall_model::{Findings, ObjectRef, Problem};

use crate::probe::{self, Trouble};

/// Addresses that are asked for at most: a /24 fits.
const MOST: usize = 256;

/// Asks for the addresses of the pools that no Service has.
pub(super) async fn judge(world: &World) -> Findings {
    let mut findings = Findings::new();
    let held: BTreeSet<IpAddr> = world.services().values().flat_map(|service| service.status.clone()).collect();
    let spans = world.pools().iter().flat_map(|pool| &pool.spans).filter(|span| span.family() == Family::V4);
    let addresses = spans.flat_map(|span| span.first()..=span.last()).map(|number| Family::V4.address(number));
    let free = addresses.filter(|ip| !held.contains(ip)).take(MOST);
    let free: Vec<Ipv4Addr> = free.filter_map(|ip| if let IpAddr::V4(ip) = ip { Some(ip) } else { None }).collect();
    if free.is_empty() {
        return findings;
    }
    match probe::ask(&free).await {
        Ok(answers) => {
            let ours = |ip: &IpAddr| world.nodes().values().any(|node| node.addresses.contains(ip));
            let problems = answers.iter().filter_map(|(ip, macs)| {
                let ip = IpAddr::V4(*ip);
                let pool = world.pool_of(ip).filter(|_| !ours(&ip))?;
                let macs: Vec<String> = macs.iter().map(ToString::to_string).collect();
                let cause = format!("a host with MAC address {} answers ARP for it", macs.join(" and "));
                let about = ObjectRef::new("IPAddressPool", pool.key.clone());
                let problem = Problem::new(about, ADDRESS_ANSWERS, cause).at("spec.addresses", ip.to_string());
                Some(problem.remedy("give that host another address, or take this one out of the pool").warning())
            });
            let good = format!("no host on the LAN answers for the {} free addresses that were asked for", free.len());
            findings.all("arp", problems.collect::<Vec<_>>(), good);
        }
        Err(trouble @ (Trouble::NotOnLan | Trouble::NoRight)) => {
            findings.unknown(
                "arp",
                format!("whether hosts answer for free addresses of the pools is not known: {trouble}"),
            );
        }
        Err(Trouble::Io(error)) => findings.unknown("arp", format!("cannot ask the LAN by ARP: {error}")),
    }
    findings
}
