//! A seeded simulation of nodes on one network segment, with the invariants checked after each step.

mod blocked;
mod foreign;
mod interfaces;
mod lan;
mod silence;
mod spread;

use std::collections::BTreeSet;
use std::net::{IpAddr, Ipv4Addr};
use std::time::Duration;

use lan::Lan;
use rand::rngs::SmallRng;
use rand::{Rng, SeedableRng};

use super::*;
use crate::wire::arp::{Arp, Operation};

fn ms(count: u64) -> Duration {
    Duration::from_millis(count)
}

#[test]
fn after_a_cold_start_each_address_has_the_owner_that_the_order_names() {
    let mut lan = Lan::new(1, 3, 12);
    lan.run(ms(1_500));
    for ip in lan.ips() {
        assert_eq!(lan.owners(ip), vec![lan.first_choice(ip)], "{ip}");
    }
}

#[test]
fn a_crashed_owner_is_replaced_within_a_fifth_of_a_second() {
    let mut gaps = Vec::new();
    for seed in 0..100 {
        let mut lan = Lan::new(seed, 3, 3);
        lan.run(ms(1_500 + seed % 50));
        let ip = lan.ips()[0];
        let owner = lan.owners(ip)[0];
        let before = lan.now();
        lan.crash(owner);
        lan.run_until(ms(500), |lan| lan.owners(ip).len() == 1);
        gaps.push(lan.now().saturating_sub(before));
    }
    gaps.sort();
    println!("gap after a crash: p50 {:?}, p99 {:?}, longest {:?}", gaps[50], gaps[98], gaps[99]);
    assert!(gaps[50] <= ms(200) && gaps[99] <= ms(300), "{gaps:?}");
}

#[test]
fn a_stopped_owner_answers_nothing_that_another_has_taken() {
    for seed in 0..50 {
        let mut lan = Lan::new(seed, 3, 3);
        lan.run(ms(1_500));
        let ip = lan.ips()[0];
        let owner = lan.owners(ip)[0];
        lan.pause(owner);
        lan.run(ms(100 + seed * 20));
        lan.resume(owner);
        lan.run(ms(400));
        assert_eq!(lan.owners(ip).len(), 1, "seed {seed}");
        assert_eq!(lan.longest_overlap, Duration::ZERO, "seed {seed}");
    }
}

#[test]
fn a_planned_move_leaves_no_moment_without_an_owner() {
    for seed in 0..50 {
        let mut lan = Lan::new(seed, 3, 20);
        lan.run(ms(4_500));
        let drained = usize::try_from(seed % 3).unwrap();
        lan.longest_gap = Duration::ZERO;
        lan.drain(drained);
        lan.run(ms(300));
        assert!(lan.ips().iter().all(|ip| lan.owners(*ip).len() == 1 && lan.owners(*ip)[0] != drained));
        lan.leave(drained);
        lan.run(ms(500));
        assert_eq!(lan.longest_gap, Duration::ZERO, "seed {seed}");
        assert!(lan.longest_overlap < ms(20), "seed {seed}: {:?}", lan.longest_overlap);
        assert!(lan.guided > 0, "seed {seed}: the neighbours are led to the new owner");
    }
}

#[test]
fn nodes_that_know_of_a_change_at_different_times_hand_an_address_over_once() {
    for seed in 0..20 {
        let mut lan = Lan::new(seed, 3, 1);
        lan.run(ms(4_500));
        let ip = lan.ips()[0];
        let owner = lan.owners(ip)[0];
        let other = (owner + 1) % 3;
        lan.guided = 0;
        lan.longest_gap = Duration::ZERO;
        // The owner has heard that the other is to have it; the other still believes the opposite.
        lan.prefer(other, owner);
        lan.prefer(owner, other);
        lan.run(ms(300));
        assert_eq!((lan.guided, lan.owners(ip)), (1, vec![other]), "seed {seed}");
        lan.prefer(other, other);
        lan.run(ms(1_000));
        assert_eq!((lan.guided, lan.owners(ip)), (1, vec![other]), "seed {seed}");
        assert_eq!(lan.longest_gap, Duration::ZERO, "seed {seed}");
    }
}

#[test]
fn a_node_that_has_decided_nothing_yet_gives_no_table() {
    let mut lan = Lan::new(13, 3, 1);
    lan.run(ms(1_000));
    assert_eq!(lan.node(2).leaders_table(lan.local(2)), None);
    lan.set_table(0, vec![1, 2, 3]);
    lan.run(ms(200));
    assert_eq!(lan.node(2).leaders_table(lan.local(2)).map(|(_, t)| t.to_vec()), Some(vec![1, 2, 3]));
    lan.crash(0);
    lan.run(ms(500));
    lan.start(0);
    lan.run(ms(1_000));
    assert_eq!(lan.node(2).leaders_table(lan.local(2)), None, "what it said before is its former run's");
    assert!(lan.node(0).leads(lan.local(0)));
}

#[test]
fn what_says_goodbye_without_having_handed_over_is_replaced_at_once() {
    for seed in 0..50 {
        let mut lan = Lan::new(seed, 3, 20);
        lan.run(ms(4_500));
        lan.longest_gap = Duration::ZERO;
        lan.leave(usize::try_from(seed % 3).unwrap());
        lan.run(ms(500));
        assert!(lan.ips().iter().all(|ip| lan.owners(*ip).len() == 1), "seed {seed}");
        assert!(lan.longest_gap < ms(5), "seed {seed}: {:?}", lan.longest_gap);
    }
}

#[test]
fn a_node_that_comes_back_gets_its_addresses_after_a_while_and_without_a_gap() {
    let mut lan = Lan::new(7, 3, 12);
    lan.run(ms(1_500));
    lan.crash(0);
    lan.run(ms(1_000));
    lan.start(0);
    lan.longest_gap = Duration::ZERO;
    lan.run(ms(2_500));
    assert!(lan.ips().iter().all(|ip| lan.owners(*ip)[0] != 0), "not before it has been up for the hold-down");
    lan.run(ms(2_500));
    assert!(lan.ips().iter().all(|ip| lan.owners(*ip) == vec![lan.first_choice(*ip)]));
    assert_eq!(lan.longest_gap, Duration::ZERO);
}

#[test]
fn an_address_that_follows_its_pods_stays_with_whoever_took_it_over() {
    let mut lan = Lan::new(14, 3, 12);
    lan.level();
    lan.run(ms(1_500));
    assert!(
        lan.ips().iter().all(|ip| lan.owners(*ip) == vec![lan.first_choice(*ip)]),
        "the first owner is the order's"
    );
    lan.crash(0);
    lan.run(ms(1_000));
    let owners: Vec<_> = lan.ips().iter().map(|ip| lan.owners(*ip)).collect();
    lan.start(0);
    lan.run(ms(10_000));
    assert_eq!(owners, lan.ips().iter().map(|ip| lan.owners(*ip)).collect::<Vec<_>>());
}

#[test]
fn a_node_that_has_just_come_back_takes_over_only_where_there_is_no_other() {
    for seed in 0..20 {
        let mut lan = Lan::new(seed, 3, 12);
        lan.level();
        lan.run(ms(4_500));
        lan.crash(0);
        lan.run(ms(1_000));
        lan.start(0);
        lan.run(ms(800));
        lan.crash(1);
        lan.run(ms(500));
        assert!(lan.ips().iter().all(|ip| lan.owners(*ip) == vec![2]), "seed {seed}");
        lan.crash(2);
        lan.run(ms(500));
        assert!(lan.ips().iter().all(|ip| lan.owners(*ip) == vec![0]), "seed {seed}: there is no other");
    }
}

#[test]
fn after_a_partition_heals_there_is_one_owner_at_once() {
    for seed in 0..30 {
        let mut lan = Lan::new(seed, 4, 8);
        lan.run(ms(1_500));
        lan.partition(&[0, 1]);
        lan.run(ms(1_000 + seed * 37));
        assert!(lan.ips().iter().all(|ip| lan.owners(*ip).len() == 2), "each side serves its own");
        lan.heal();
        lan.run(ms(100));
        assert!(lan.ips().iter().all(|ip| lan.owners(*ip).len() == 1), "seed {seed}");
    }
}

#[test]
fn five_in_a_hundred_frames_lost_mislead_nobody() {
    let mut taken = 0;
    for seed in 0..10 {
        let mut lan = Lan::new(seed, 3, 3);
        lan.run(ms(1_500));
        lan.reset_failovers();
        lan.loss = 0.05;
        lan.run(ms(60_000));
        taken += lan.failovers();
    }
    println!("false takeovers in 10 minutes at 5 % loss: {taken}");
    assert_eq!(taken, 0);
}

#[test]
fn a_fifth_of_all_frames_lost_misleads_hardly_anybody() {
    let mut lan = Lan::new(3, 3, 3);
    lan.run(ms(1_500));
    lan.reset_failovers();
    lan.loss = 0.2;
    lan.run(ms(60_000));
    println!("false takeovers in a minute at 20 % loss: {}", lan.failovers());
    assert!(lan.failovers() <= 3);
}

#[test]
fn random_faults_break_no_invariant() {
    for seed in 0..60 {
        let mut random = SmallRng::seed_from_u64(seed);
        let nodes = random.random_range(2..6);
        let mut lan = Lan::new(seed, nodes, 6);
        lan.run(ms(1_500));
        for step in 0..20 {
            let node = random.random_range(0..nodes);
            let others = lan.running() > 1;
            match random.random_range(0..6) {
                0 if others => lan.crash(node),
                1 => lan.start(node),
                2 if others => {
                    lan.pause(node);
                    lan.run(ms(random.random_range(10..1_500)));
                    lan.resume(node);
                }
                3 if others => {
                    lan.drain(node);
                    lan.run(ms(250));
                    lan.leave(node);
                }
                4 => lan.jump_clock(node, ms(random.random_range(1..5_000))),
                _ => {}
            }
            lan.run(ms(random.random_range(20..1_200)));
            assert!(lan.longest_overlap < ms(60), "seed {seed} step {step}: two owners for {:?}", lan.longest_overlap);
        }
        lan.start_all();
        lan.run(ms(900));
        assert!(lan.ips().iter().all(|ip| lan.owners(*ip).len() == 1), "seed {seed}: one owner in the end");
        assert!(lan.longest_gap < ms(800), "seed {seed}: nobody answered for {:?}", lan.longest_gap);
    }
}

#[test]
fn a_foreign_host_is_found_and_its_address_is_not_announced() {
    let mut lan = Lan::new(5, 3, 3);
    let ip = lan.ips()[1];
    let mac = MacAddr(0xaa, 0, 0, 0, 0, 1);
    lan.foreign.insert(ip, mac);
    lan.run(ms(1_500));
    assert_eq!(lan.owners(ip), Vec::<usize>::new());
    for node in 0..3 {
        assert_eq!(lan.node(node).conflicts(lan.local(node)).get(&ip).map(|(mac, _)| *mac), Some(mac), "node {node}");
    }
    lan.foreign.clear();
    lan.run(ms(15_000));
    assert_eq!(lan.owners(ip).len(), 1, "it is announced once the host has gone");
}

#[test]
fn an_address_that_may_come_next_is_looked_at() {
    let mut lan = Lan::new(6, 3, 1);
    let next: IpAddr = Ipv4Addr::new(10, 0, 9, 9).into();
    lan.foreign.insert(next, MacAddr(0xaa, 0, 0, 0, 0, 2));
    lan.run(ms(1_500));
    lan.look_ahead(&BTreeSet::from([next]));
    lan.run(ms(1_000));
    assert!((0..3).all(|node| lan.node(node).conflicts(lan.local(node)).contains_key(&next)));
}

#[test]
fn a_claim_on_an_announced_address_is_defended_once_in_ten_seconds() {
    let mut lan = Lan::new(8, 3, 1);
    lan.run(ms(40_000));
    let ip = lan.ips()[0];
    let IpAddr::V4(v4) = ip else { unreachable!() };
    let owner = lan.owners(ip)[0];
    let before = lan.announcements(owner);
    for _ in 0..5 {
        let claim = Arp::gratuitous_request(MacAddr(0xaa, 0, 0, 0, 0, 3), v4);
        lan.broadcast(&claim.encode());
        lan.run(ms(1_000));
    }
    assert_eq!(lan.announcements(owner) - before, 2, "one defence: a request and a reply");
    assert_eq!(lan.owners(ip), vec![owner]);
    assert!((0..3).all(|node| lan.node(node).contested(lan.local(node)).contains_key(&ip)), "every node knows");
    lan.run(ms(40_000));
    assert!((0..3).all(|node| lan.node(node).contested(lan.local(node)).is_empty()), "and forgets");
}

#[test]
fn a_host_that_takes_an_announced_address_in_silence_is_found_by_asking() {
    let mut lan = Lan::new(12, 3, 1);
    lan.run(ms(5_000));
    let ip = lan.ips()[0];
    lan.foreign.insert(ip, MacAddr(0xaa, 0, 0, 0, 0, 5));
    lan.run(ms(12_000));
    assert!((0..3).all(|node| lan.node(node).contested(lan.local(node)).contains_key(&ip)));
}

#[test]
fn replayed_and_forged_heartbeats_are_dropped_and_counted() {
    let mut lan = Lan::new(9, 2, 1);
    lan.record = true;
    lan.run(ms(1_000));
    let recorded = std::mem::take(&mut lan.recorded);
    lan.record = false;
    let before = lan.node(1).counters();
    for packet in &recorded {
        lan.inject(1, packet);
    }
    let after = lan.node(1).counters();
    assert_eq!(after.received, before.received, "nothing that was recorded counts");
    assert!(after.replayed > before.replayed);
    lan.inject(1, b"no heartbeat at all");
    assert_eq!(lan.node(1).counters().rejected, after.rejected + 1);
    lan.crash(0);
    lan.run(ms(150));
    for packet in &recorded {
        lan.inject(1, packet);
    }
    lan.run(ms(200));
    assert!(lan.node(1).live_peers(lan.local(1)).is_empty(), "recorded heartbeats raise nobody from the dead");
}

#[test]
fn only_requests_for_our_addresses_on_allowed_interfaces_are_answered() {
    let mut lan = Lan::new(10, 1, 1);
    lan.run(ms(1_000));
    let ip = lan.ips()[0];
    let IpAddr::V4(v4) = ip else { unreachable!() };
    let his = MacAddr(0xaa, 0, 0, 0, 0, 4);
    let request = Arp { sender_ip: Ipv4Addr::new(10, 0, 0, 99), ..Arp::gratuitous_request(his, v4) };
    assert_eq!(lan.ask(0, 1, request).len(), 1);
    assert_eq!(lan.ask(0, 1, Arp::probe(his, v4)).len(), 1, "a probe is answered too");
    assert!(lan.ask(0, 1, Arp { operation: Operation::Reply, ..request }).is_empty(), "a reply is not");
    assert!(lan.ask(0, 1, Arp { destination: his, ..request }).is_empty(), "nor what is meant for another host");
    assert!(lan.ask(0, 2, request).is_empty(), "nor anything from an interface that isn't used");
    assert!(lan.ask(0, 1, Arp { target_ip: Ipv4Addr::new(10, 0, 0, 98), ..request }).is_empty());
}

#[test]
fn documents_of_many_packets_arrive_whole_in_spite_of_loss() {
    let mut lan = Lan::new(11, 3, 400);
    lan.loss = 0.05;
    lan.run(ms(3_000));
    lan.loss = 0.0;
    lan.run(ms(300));
    assert!(lan.ips().iter().all(|ip| lan.owners(*ip).len() == 1));
    let table = vec![42; 50_000];
    lan.set_table(0, table.clone());
    lan.run(ms(500));
    assert_eq!(lan.node(2).leaders_table(lan.local(2)).map(|(_, t)| t.to_vec()), Some(table));
}
