//! A foreign host that answers for an announced address, and faults of the owner while it does.

use pnet_base::MacAddr;

use super::lan::Lan;
use super::ms;
use crate::wire::arp::Arp;

const HOST: MacAddr = MacAddr(0xaa, 0, 0, 0, 0, 9);

/// What a foreign host did to an address before its owner crashed.
#[derive(Clone, Copy, Debug)]
enum Before {
    /// It answers for it, and goes on to.
    Answers,
    /// It answered for it, and has gone.
    Answered,
    /// It claimed it once, and answers nothing.
    Claimed,
}

/// Three nodes, one address, and a foreign host that has been noticed by the owner.
fn contested(seed: u64, before: Before) -> Lan {
    let mut lan = Lan::new(seed, 3, 1);
    lan.run(ms(3_000 + seed * 7));
    let ip = lan.ips()[0];
    let std::net::IpAddr::V4(v4) = ip else { unreachable!() };
    match before {
        Before::Answers | Before::Answered => drop(lan.foreign.insert(ip, HOST)),
        Before::Claimed => lan.broadcast(&Arp::gratuitous_request(HOST, v4).encode()),
    }
    lan.run_until(ms(12_000), |lan| (0..3).all(|n| lan.node(n).contested(lan.local(n)).contains_key(&ip)));
    assert!(lan.node(0).contested(lan.local(0)).contains_key(&ip), "seed {seed}: {before:?} is noticed");
    if matches!(before, Before::Answered) {
        lan.foreign.clear();
    }
    lan
}

/// RFC 5227 section 2.4 (c): an address that is announced is kept, whoever else claims it and whatever happens to its
/// owner. Until now a foreign host could wait for a crash and then keep the address.
#[test]
fn the_heir_of_a_contested_address_takes_and_defends_it() {
    for before in [Before::Answers, Before::Answered, Before::Claimed] {
        for seed in 0..20 {
            let mut lan = contested(seed, before);
            let ip = lan.ips()[0];
            let owner = lan.owners(ip)[0];
            lan.crash(owner);
            lan.run_until(ms(300), |lan| lan.owners(ip).len() == 1);
            assert_eq!(lan.owners(ip).len(), 1, "seed {seed}: {before:?}");
            lan.run(ms(12_000));
            assert_eq!(lan.owners(ip).len(), 1, "seed {seed}: {before:?}");
            for node in (0..3).filter(|node| *node != owner) {
                let (core, now) = (lan.node(node), lan.local(node));
                assert!(core.conflicts(now).is_empty(), "seed {seed}: {before:?}, node {node}: it is not given up");
                let known = core.contested(now).get(&ip).map(|(mac, _)| *mac);
                let answers = matches!(before, Before::Answers);
                assert_eq!(known, answers.then_some(HOST), "seed {seed}: {before:?}, node {node}");
            }
        }
    }
}

#[test]
fn a_stopped_owner_of_a_contested_address_asks_before_it_answers_again() {
    for before in [Before::Answers, Before::Answered, Before::Claimed] {
        for seed in 0..20 {
            let mut lan = contested(seed, before);
            let ip = lan.ips()[0];
            let owner = lan.owners(ip)[0];
            lan.pause(owner);
            // Longer than the fence, so that it doesn't go on as if nothing had been.
            lan.run(ms(210 + seed * 20));
            lan.resume(owner);
            lan.run(ms(700));
            assert_eq!(lan.owners(ip).len(), 1, "seed {seed}: {before:?}");
        }
    }
}

/// One frame each from a thousand MAC addresses: what is told of them stays bounded.
#[test]
fn many_claims_from_many_hosts_are_told_of_a_few_times() {
    let mut lan = Lan::new(4, 3, 4);
    lan.run(ms(4_000));
    let std::net::IpAddr::V4(v4) = lan.ips()[0] else { unreachable!() };
    for host in 0..1_000_u16 {
        let [high, low] = host.to_be_bytes();
        lan.broadcast(&Arp::gratuitous_request(MacAddr(0xaa, 0, 0, 1, high, low), v4).encode());
        lan.run(ms(10));
    }
    let told: u64 = (0..3).map(|node| lan.node(node).counters().conflicts).sum();
    assert!(told <= 3, "told of {told} times");
    assert_eq!(lan.owners(lan.ips()[0]).len(), 1);
}

#[test]
fn a_contested_address_is_handed_over_without_a_gap() {
    for before in [Before::Answers, Before::Answered, Before::Claimed] {
        for seed in 0..20 {
            let mut lan = contested(seed, before);
            let ip = lan.ips()[0];
            let owner = lan.owners(ip)[0];
            lan.run(ms(3_000));
            lan.longest_gap = ms(0);
            lan.drain(owner);
            lan.run(ms(300));
            lan.leave(owner);
            lan.run(ms(500));
            assert_eq!(lan.owners(ip).len(), 1, "seed {seed}: {before:?}");
            assert_eq!(lan.longest_gap, ms(0), "seed {seed}: {before:?}");
        }
    }
}

#[test]
fn what_one_node_believes_taken_another_may_have_asked_about_since() {
    for seed in 0..20 {
        let mut lan = Lan::new(seed, 3, 1);
        let ip = lan.ips()[0];
        let first = lan.first_choice(ip);
        lan.foreign.insert(ip, HOST);
        lan.run(ms(1_500));
        lan.crash(first);
        lan.run(ms(1_000));
        assert!((0..3).any(|n| n != first && lan.node(n).own_conflicts().contains_key(&ip)), "another has asked");
        // The host goes, the first node comes back, asks, and announces; then it crashes.
        lan.foreign.clear();
        lan.start(first);
        lan.run(ms(1_000));
        assert_eq!(lan.owners(ip), vec![first], "seed {seed}");
        lan.crash(first);
        lan.run_until(ms(300), |lan| lan.owners(ip).len() == 1);
        assert_eq!(lan.owners(ip).len(), 1, "seed {seed}: what it knew of the host is out of date");
    }
}

#[test]
fn the_node_that_knew_of_a_foreign_host_crashes() {
    for seed in 0..20 {
        let mut lan = Lan::new(seed, 3, 1);
        let ip = lan.ips()[0];
        let finder = lan.first_choice(ip);
        lan.foreign.insert(ip, HOST);
        lan.run(ms(1_500));
        lan.crash(finder);
        lan.run(ms(1_000));
        assert!(lan.owners(ip).is_empty(), "seed {seed}: the next one asks as well");
        let other = (finder + 1) % 3;
        assert!(lan.node(other).conflicts(lan.local(other)).contains_key(&ip), "seed {seed}");
    }
}
