//! Heartbeats that don't arrive: the addresses themselves tell who has them.

use std::time::Duration;

use pnet_base::MacAddr;
use rand::rngs::SmallRng;
use rand::{Rng, SeedableRng};

use super::lan::Lan;
use super::ms;
use crate::announcer::{Presence, Unheard};

/// What a failover may take without heartbeats: two seconds more than with them.
const GAP: Duration = Duration::from_millis(2_300);
/// A planned move is told by a frame, so it takes less.
const MOVE: Duration = Duration::from_millis(600);
/// The time that a frame takes to tell the second of two owners that it isn't alone.
const OVERLAP: Duration = Duration::from_millis(6);

fn blocked_from_the_start(seed: u64, nodes: usize, addresses: u16) -> Lan {
    let mut lan = Lan::new(seed, nodes, addresses);
    lan.block_all();
    lan.run(ms(3_000));
    lan
}

#[test]
fn an_install_without_heartbeats_gives_each_address_one_owner() {
    for seed in 0..40 {
        let mut lan = blocked_from_the_start(seed, 2 + usize::try_from(seed % 4).unwrap(), 8);
        lan.check(&format!("seed {seed}"), GAP, OVERLAP);
        let owners: Vec<_> = lan.ips().iter().map(|ip| lan.owners(*ip)).collect();
        lan.run(ms(20_000));
        lan.check(&format!("seed {seed}, later"), ms(0), OVERLAP);
        assert_eq!(
            owners,
            lan.ips().iter().map(|ip| lan.owners(*ip)).collect::<Vec<_>>(),
            "seed {seed}: nothing moves"
        );
    }
}

#[test]
fn heartbeats_that_stop_and_come_back_move_nothing() {
    for seed in 0..30 {
        let mut lan = Lan::new(seed, 3, 6);
        lan.run(ms(4_000));
        let owners: Vec<_> = lan.ips().iter().map(|ip| lan.owners(*ip)).collect();
        lan.block_all();
        lan.run(ms(10_000));
        lan.check(&format!("seed {seed}, blocked"), ms(0), ms(0));
        lan.unblock_all();
        lan.run(ms(10_000));
        lan.check(&format!("seed {seed}, open"), ms(0), ms(0));
        assert_eq!(owners, lan.ips().iter().map(|ip| lan.owners(*ip)).collect::<Vec<_>>(), "seed {seed}");
    }
}

#[test]
fn a_node_that_fails_unheard_is_replaced() {
    let mut longest = ms(0);
    for seed in 0..40 {
        let mut lan = blocked_from_the_start(seed, 3, 6);
        lan.run(ms(seed * 31));
        let owner = lan.owners(lan.ips()[0])[0];
        if seed % 2 == 0 {
            lan.cut_power(owner);
        } else {
            lan.crash(owner);
        }
        lan.run(ms(5_000));
        lan.check(&format!("seed {seed}"), GAP, OVERLAP);
        lan.start(owner);
        lan.run(ms(5_000));
        lan.check(&format!("seed {seed}, back"), GAP, OVERLAP);
        longest = longest.max(lan.longest_gap);
    }
    println!("longest gap after a crash without heartbeats: {longest:?}");
}

#[test]
fn two_nodes_that_fail_unheard_are_replaced_by_the_third() {
    for seed in 0..30 {
        let mut lan = blocked_from_the_start(seed, 4, 6);
        let owner = lan.owners(lan.ips()[0])[0];
        lan.cut_power(owner);
        lan.run(ms(seed * 23));
        lan.cut_power((owner + 1) % 4);
        lan.run(ms(6_000));
        // The first one's address may be without an owner when the second one fails.
        lan.check(&format!("seed {seed}"), GAP * 2, OVERLAP);
    }
}

#[test]
fn every_speaker_is_restarted_in_turn_without_heartbeats() {
    let mut longest = ms(0);
    for seed in 0..30 {
        let mut lan = blocked_from_the_start(seed, 3, 6);
        for node in 0..3 {
            lan.drain(node);
            lan.run(ms(50));
            lan.leave(node);
            lan.run(ms(1_500 + seed * 10));
            lan.start(node);
            lan.run(ms(1_500));
            lan.check(&format!("seed {seed}, node {node}"), MOVE, OVERLAP);
        }
        longest = longest.max(lan.longest_gap);
    }
    println!("longest gap of a planned move without heartbeats: {longest:?}");
}

#[test]
fn heartbeats_that_arrive_in_one_direction_only_are_as_good_as_none() {
    for seed in 0..60 {
        let mut random = SmallRng::seed_from_u64(seed);
        let mut lan = Lan::new(seed, 3, 6);
        if seed % 2 == 0 {
            lan.run(ms(4_000));
        }
        let from = random.random_range(0..3);
        lan.block(from, (from + 1) % 3);
        if seed % 3 == 0 {
            lan.block(from, (from + 2) % 3);
        }
        lan.run(ms(3_000 + random.random_range(0..3_000)));
        let what = format!("seed {seed}, from {from}");
        lan.check(&what, GAP, OVERLAP);
        let failing = random.random_range(0..3);
        lan.cut_power(failing);
        lan.run(ms(4_000));
        lan.check(&format!("{what}, {failing} failed"), GAP, OVERLAP);
        lan.start(failing);
        lan.run(ms(6_000));
        lan.check(&format!("{what}, {failing} is back"), GAP, OVERLAP);
    }
}

#[test]
fn a_node_whose_object_is_deleted_while_it_announces_hands_over_and_is_nobodys_foreign_host() {
    for seed in 0..60 {
        let mut random = SmallRng::seed_from_u64(seed);
        let mut lan = Lan::new(seed, 3, 6);
        if seed % 3 == 0 {
            lan.block_all();
        }
        lan.run(ms(4_000));
        let owner = lan.owners(lan.ips()[0])[0];
        let others: Vec<usize> = (0..3).filter(|node| *node != owner).collect();
        // It hears of it itself as late as anybody.
        lan.set_deleted(owner, true, &others);
        lan.run(ms(random.random_range(0..3_000)));
        lan.set_deleted(owner, true, &[owner]);
        lan.run(ms(4_000));
        let what = format!("seed {seed}");
        lan.check(&what, if seed % 3 == 0 { GAP } else { ms(300) }, OVERLAP);
        assert!(lan.ips().iter().all(|ip| lan.owners(*ip) != vec![owner]), "{what}: it has left");
        lan.set_deleted(owner, false, &[0, 1, 2]);
        lan.run(ms(6_000));
        lan.check(&format!("{what}, back"), if seed % 3 == 0 { GAP } else { ms(300) }, OVERLAP);
    }
}

#[test]
fn random_faults_without_heartbeats_break_no_invariant() {
    for seed in 0..60 {
        let mut random = SmallRng::seed_from_u64(seed);
        let nodes = random.random_range(2..5);
        let mut lan = blocked_from_the_start(seed, nodes, 5);
        lan.loss = if seed % 4 == 0 { 0.01 } else { 0.0 };
        // Heartbeats are trusted until their silence is noticed; a frame that is lost as well costs a step of the burst.
        let limit = if seed % 4 == 0 { ms(250) } else { ms(60) };
        for step in 0..12 {
            let node = random.random_range(0..nodes);
            let others = lan.running() > 1;
            match random.random_range(0..7) {
                0 if others => lan.cut_power(node),
                1 => lan.start(node),
                2 if others => {
                    lan.pause(node);
                    lan.run(ms(random.random_range(10..2_500)));
                    lan.resume(node);
                }
                3 if others => {
                    lan.drain(node);
                    lan.run(ms(50));
                    lan.leave(node);
                }
                4 => lan.unblock_all(),
                5 => lan.block_all(),
                _ => lan.block(node, random.random_range(0..nodes)),
            }
            lan.run(ms(random.random_range(20..3_000)));
            assert!(lan.longest_overlap < limit, "seed {seed} step {step}: two owners for {:?}", lan.longest_overlap);
        }
        lan.loss = 0.0;
        lan.start_all();
        lan.run(ms(6_000));
        // Several may fail within one failover.
        lan.check(&format!("seed {seed}"), GAP * 2, limit);
    }
}

#[test]
fn a_device_that_answers_for_everybody_keeps_nobody_from_announcing() {
    for seed in 0..20 {
        let mut lan = Lan::new(seed, 3, 4);
        let proxy = MacAddr(0xaa, 0, 0, 0, 0, 7);
        lan.proxy = Some(proxy);
        if seed % 2 == 0 {
            lan.block_all();
        }
        lan.run(ms(4_000));
        lan.check(&format!("seed {seed}"), GAP, OVERLAP);
        for node in 0..3 {
            assert!(lan.node(node).conflicts(lan.local(node)).is_empty(), "seed {seed}: it has none of the addresses");
            assert_eq!(lan.node(node).proxies(lan.local(node)), vec![proxy], "seed {seed}: it is named");
        }
    }
}

#[test]
fn who_is_not_heard_is_named_and_why() {
    let mut lan = Lan::new(1, 3, 3);
    lan.set_presence(Presence::Ready);
    lan.run(ms(5_000));
    assert!((0..3).all(|node| lan.node(node).unheard().is_empty()));
    lan.block(1, 0);
    lan.run(ms(15_000));
    let named = |lan: &Lan, node: usize| -> Vec<(String, Unheard)> {
        lan.node(node).unheard().iter().map(|(name, why)| (name.to_string(), *why)).collect()
    };
    assert_eq!(named(&lan, 0), [("node-1".to_owned(), Unheard::Blocked)], "nothing of node-1 comes here");
    assert_eq!(named(&lan, 1), [("node-0".to_owned(), Unheard::NotReached)], "node-0 says it hears nothing");
    assert!(named(&lan, 2).is_empty());
    lan.unblock_all();
    lan.run(ms(2_000));
    assert!((0..3).all(|node| lan.node(node).unheard().is_empty()), "it is over when they are heard");
    lan.cut_power(2);
    lan.run(ms(20_000));
    assert!((0..2).all(|node| lan.node(node).unheard().is_empty()), "a node without power is not blocked");
}

/// In standalone mode nobody says who runs; the nodes' own answers and their questions do.
#[test]
fn who_is_not_heard_is_named_without_an_api_server() {
    let mut lan = blocked_from_the_start(2, 3, 3);
    lan.run(ms(20_000));
    for node in 0..3 {
        let named = lan.node(node).unheard();
        assert_eq!(named.len(), 2, "node {node}: {named:?}");
        assert!(named.values().all(|why| *why == Unheard::Blocked), "node {node}: {named:?}");
    }
}

#[test]
fn a_peer_with_another_key_is_named_and_no_foreign_host() {
    let mut lan = Lan::new(3, 3, 6);
    lan.give_other_key(2);
    lan.run(ms(8_000));
    lan.check("another key", GAP, OVERLAP);
    let named = |node: usize| lan.node(node).unheard().clone();
    assert_eq!(named(0).into_iter().collect::<Vec<_>>(), [("node-2".into(), Unheard::OtherKey)]);
    assert_eq!(named(2).len(), 2);
    assert!(named(2).values().all(|why| *why == Unheard::OtherKey));
}
