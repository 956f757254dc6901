//! Whether addresses of pools are on the nodes' networks, and advertisements name interfaces that there are.

use std::collections::BTreeSet;
use std::net::IpAddr;

use landfall_model::{ObjectRef, Problem};

use super::{Facts, POOL_OUTSIDE_SUBNETS, UNKNOWN_INTERFACE};
use crate::address::{Family, Span};
use crate::advert::Interfaces;
use crate::pool::Pool;
use crate::speakers::INTERFACES;
use crate::subnet::{SUBNETS, Subnet};
use crate::world::World;

/// Pools with addresses that are on no node's network: no ARP request for them ever reaches a node.
pub(super) fn outside(facts: &Facts, world: &World) -> Vec<Problem> {
    let said: Vec<Subnet> =
        annotations(facts, SUBNETS).flat_map(Subnet::parse_list).filter(|s| !s.is_single()).collect();
    // Before speakers run, the prefixes that networks mostly have must do.
    let usual = |ip: &IpAddr| Subnet::new(*ip, if ip.is_ipv4() { 24 } else { 64 });
    let guessed: Vec<Subnet> = world.nodes().values().flat_map(|node| &node.addresses).filter_map(usual).collect();
    let is_known = !said.is_empty();
    let subnets = if is_known { said } else { guessed };
    let problem = |(pool, span): (&Pool, Span)| {
        let of_family = |subnet: &&Subnet| Family::of(subnet.ip) == span.family();
        let mut near = subnets.iter().filter(of_family).peekable();
        if near.peek().is_some() && near.any(|subnet| span.intersect(subnet.span()).is_some()) {
            return None;
        }
        // Without any address of that family nothing is known.
        let networks: BTreeSet<String> = subnets.iter().filter(of_family).map(ToString::to_string).collect();
        if networks.is_empty() && !is_known {
            return None;
        }
        let networks: Vec<String> = networks.into_iter().collect();
        let cause = if networks.is_empty() {
            format!("no node has an {} address, so nobody can announce these", span.family())
        } else {
            format!("no node is on the network of these addresses; the nodes are on {}", networks.join(", "))
        };
        let about = ObjectRef::new("IPAddressPool", pool.key.clone());
        let problem = Problem::new(about, POOL_OUTSIDE_SUBNETS, cause).at("spec.addresses", span.to_string());
        let problem = problem.remedy("use free addresses of the nodes' own network, outside of the DHCP range");
        Some(if is_known { problem } else { problem.warning() })
    };
    let spans = world.pools().iter().flat_map(|pool| pool.spans.iter().map(move |span| (pool, *span)));
    spans.filter_map(problem).collect()
}

/// Advertisements that name interfaces which no node has.
pub(super) fn interfaces(facts: &Facts, world: &World) -> Vec<Problem> {
    let lists: Vec<&str> = annotations(facts, INTERFACES).collect();
    if lists.is_empty() {
        return Vec::new();
    }
    let entries = lists.iter().flat_map(|list| list.split(','));
    let there: BTreeSet<&str> = entries.filter_map(|entry| Some(entry.rsplit_once('=')?.0)).collect();
    let mut problems = Vec::new();
    for advert in world.adverts() {
        let Interfaces::Named(names) = &advert.interfaces else { continue };
        for name in names.iter().filter(|name| !there.contains(&***name)) {
            let about = ObjectRef::new("L2Advertisement", advert.key.clone());
            let there: Vec<&str> = there.iter().copied().collect();
            let cause = format!("no node has an interface of this name; the nodes have {}", there.join(", "));
            let problem = Problem::new(about, UNKNOWN_INTERFACE, cause).at("spec.interfaces", &**name);
            let problem = problem.remedy("name an interface that the nodes have, or leave the list out");
            // Another name of the list may be right.
            let some = names.iter().any(|other| there.contains(&&**other));
            problems.push(if some { problem.warning() } else { problem });
        }
    }
    problems
}

fn annotations<'a>(facts: &'a Facts, name: &'a str) -> impl Iterator<Item = &'a str> {
    let states = facts.states.iter().filter_map(|state| state.metadata.annotations.as_ref());
    states.filter_map(move |annotations| annotations.get(name)).map(String::as_str)
}
