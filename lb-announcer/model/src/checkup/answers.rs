//! Who answers ARP for addresses of pools, and who ought to.

use std::collections::{BTreeMap, BTreeSet};
use std::net::{IpAddr, Ipv4Addr};

use landfall_model::{ObjectKey, ObjectRef, Problem};
use pnet_base::MacAddr;

use super::ADDRESS_ANSWERS;
use crate::address::Family;
use crate::pool::Pool;
use crate::reason;
use crate::world::World;

/// So many addresses that nobody has, answered by one host, make that host one that answers for everybody.
const FEWEST: usize = 3;

/// Addresses to ask the LAN for, at most `most`: those that Services have, then those that are free.
pub fn questions(world: &World, most: usize) -> Vec<Ipv4Addr> {
    let held: BTreeSet<IpAddr> = held(world).into_keys().collect();
    let spans = world.pools().iter().flat_map(|pool| &pool.spans).filter(|span| span.family() == Family::V4);
    let all = spans.flat_map(|span| span.first()..=span.last()).map(|number| Family::V4.address(number));
    let free = all.filter(|ip| !held.contains(ip));
    let v4 = |ip: IpAddr| if let IpAddr::V4(ip) = ip { Some(ip) } else { None };
    held.iter().copied().chain(free).filter_map(v4).take(most).collect()
}

/// What is wrong with the answers to [`questions`]: by whom each address that was asked for was answered, if at all.
pub fn judge(world: &World, answers: &BTreeMap<Ipv4Addr, BTreeSet<MacAddr>>, asked: &[Ipv4Addr]) -> Vec<Problem> {
    let held = held(world);
    let free: Vec<Ipv4Addr> = asked.iter().copied().filter(|ip| !held.contains_key(&IpAddr::V4(*ip))).collect();
    let (mut problems, mut proxies) = (Vec::new(), BTreeSet::new());
    for pool in world.pools() {
        let free: Vec<Ipv4Addr> = free.iter().copied().filter(|ip| pool.contains(IpAddr::V4(*ip))).collect();
        for mac in for_all(&free, answers) {
            proxies.insert(mac);
            problems.push(proxy(pool, mac));
        }
    }
    for (ip, macs) in answers {
        let ip = IpAddr::V4(*ip);
        let macs: BTreeSet<MacAddr> = macs.difference(&proxies).copied().collect();
        match held.get(&ip) {
            _ if macs.is_empty() => {}
            Some(service) => problems.extend(strangers(world, service, ip, &macs)),
            // That a pool has a node's own address is said elsewhere.
            None if world.nodes().values().any(|node| node.addresses.contains(&ip)) => {}
            None => problems.extend(world.pool_of(ip).map(|pool| unwanted(world, pool, ip, &macs))),
        }
    }
    problems
}

/// The addresses that Services have.
fn held(world: &World) -> BTreeMap<IpAddr, ObjectKey> {
    let services = world.services().iter();
    services.flat_map(|(key, service)| service.status.iter().map(move |ip| (*ip, key.clone()))).collect()
}

/// The hosts that answer for every one of these addresses, which nobody has.
fn for_all(free: &[Ipv4Addr], answers: &BTreeMap<Ipv4Addr, BTreeSet<MacAddr>>) -> BTreeSet<MacAddr> {
    let mut macs = free.iter().map(|ip| answers.get(ip).cloned().unwrap_or_default());
    match macs.next().filter(|_| free.len() >= FEWEST) {
        Some(first) => macs.fold(first, |all, macs| all.intersection(&macs).copied().collect()),
        None => BTreeSet::new(),
    }
}

fn proxy(pool: &Pool, mac: MacAddr) -> Problem {
    let cause =
        format!("a host with MAC address {mac} answers ARP for every free address, as a router with proxy ARP does");
    let problem = Problem::new(ObjectRef::new("IPAddressPool", pool.key.clone()), reason::PROXY_ARP, cause);
    let remedy = "turn proxy ARP off on that device, often an access point or a router; clients may reach it instead of \
                  the node that announces an address";
    problem.at("spec.addresses", "").remedy(remedy).warning()
}

/// Who answers for an address of a Service beside the node that announces it.
fn strangers(world: &World, service: &ObjectKey, ip: IpAddr, macs: &BTreeSet<MacAddr>) -> Option<Problem> {
    let node = &world.announcer(service, ip)?.node;
    let speakers = world.speakers();
    let own = speakers.macs(node);
    let others: Vec<MacAddr> = macs.difference(&own).copied().collect();
    let (nodes, foreign): (Vec<MacAddr>, Vec<MacAddr>) =
        others.into_iter().partition(|mac| speakers.is_nodes_own(*mac));
    let about = ObjectRef::new("Service", service.clone());
    let problem = if !foreign.is_empty() && !own.is_empty() {
        let cause =
            format!("a host with MAC address {} answers ARP for it, and node {node} announces it", list(&foreign));
        Problem::new(about, reason::ADDRESS_CONFLICT, cause).remedy("give that host another address, or the Service")
    } else if !nodes.is_empty() && macs.len() > nodes.len() {
        // An address that has just moved is answered for by one node only.
        let cause =
            format!("another node with MAC address {} answers ARP for it, and node {node} announces it", list(&nodes));
        let remedy = "remove the address from that node's interfaces; where kube-proxy runs in mode IPVS, set its \
                      strictARP to true";
        Problem::new(about, reason::ADDRESS_ON_NODE, cause).remedy(remedy)
    } else {
        return None;
    };
    Some(problem.at("status.loadBalancer.ingress", ip.to_string()))
}

/// Who answers for an address that no Service has.
fn unwanted(world: &World, pool: &Pool, ip: IpAddr, macs: &BTreeSet<MacAddr>) -> Problem {
    let macs: Vec<MacAddr> = macs.iter().copied().collect();
    let is_node = macs.iter().all(|mac| world.speakers().is_nodes_own(*mac));
    let who = if is_node { "node" } else { "host" };
    let cause = format!("a {who} with MAC address {} answers ARP for it", list(&macs));
    let problem = Problem::new(ObjectRef::new("IPAddressPool", pool.key.clone()), ADDRESS_ANSWERS, cause);
    let remedy = if is_node {
        "remove the address from that node's interfaces, or take it out of the pool"
    } else {
        "give that host another address, or take this one out of the pool"
    };
    problem.at("spec.addresses", ip.to_string()).remedy(remedy).warning()
}

fn list(macs: &[MacAddr]) -> String {
    macs.iter().map(ToString::to_string).collect::<Vec<_>>().join(" and ")
}
