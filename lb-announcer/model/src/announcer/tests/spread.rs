//! Addresses that follow their pods where nodes start one after the other.

use super::*;

/// Nodes that are off, and addresses that follow their pods.
fn off(seed: u64, addresses: u16) -> Lan {
    let mut lan = Lan::new(seed, 3, addresses);
    lan.level();
    (0..3).for_each(|node| lan.crash(node));
    lan.run(ms(1_000));
    lan
}

fn load(lan: &Lan) -> [usize; 3] {
    let mut load = [0; 3];
    for ip in lan.ips() {
        let owners = lan.owners(ip);
        assert_eq!(owners.len(), 1, "{ip}");
        load[owners[0]] += 1;
    }
    load
}

#[test]
fn nodes_that_start_shortly_after_each_other_share_as_the_order_says() {
    for seed in 0..20 {
        let mut lan = off(seed, 12);
        for node in [seed % 3, (seed + 1) % 3, (seed + 2) % 3] {
            lan.start(usize::try_from(node).unwrap());
            lan.run(ms(100 + seed * 60));
        }
        lan.run(ms(4_000));
        assert!(lan.ips().iter().all(|ip| lan.owners(*ip) == vec![lan.first_choice(*ip)]), "seed {seed}");
    }
}

#[test]
fn an_address_that_a_client_asks_for_waits_for_nobody() {
    let mut lan = off(3, 12);
    let node = 0;
    lan.start(node);
    lan.run(ms(100));
    let asked = lan.ips().into_iter().find(|ip| lan.first_choice(*ip) != node).unwrap();
    let IpAddr::V4(v4) = asked else { unreachable!() };
    let his = MacAddr(0xaa, 0, 0, 0, 0, 4);
    let request = Arp { sender_ip: Ipv4Addr::new(10, 0, 0, 99), ..Arp::gratuitous_request(his, v4) };
    lan.ask(node, 1, request);
    lan.run(ms(1_000));
    let owned: Vec<IpAddr> = lan.ips().into_iter().filter(|ip| lan.owners(*ip) == vec![node]).collect();
    let expected = lan.ips().into_iter().filter(|ip| *ip == asked || lan.first_choice(*ip) == node);
    assert_eq!(owned, expected.collect::<Vec<_>>());
    lan.run(ms(3_000));
    assert_eq!(load(&lan), [12, 0, 0], "nobody has come");
}

#[test]
fn what_has_piled_up_on_one_node_is_spread_without_a_gap_and_not_at_once() {
    for seed in 0..5 {
        let mut lan = off(seed, 12);
        lan.start(0);
        lan.run(ms(10_000));
        assert_eq!(load(&lan), [12, 0, 0]);
        lan.start(1);
        lan.start(2);
        (lan.longest_gap, lan.longest_overlap) = (ms(0), ms(0));
        lan.run(ms(25_000));
        assert_eq!(load(&lan), [12, 0, 0], "seed {seed}: the others have to have been up for a while");
        lan.run(ms(12_000));
        let moved = 12 - load(&lan)[0];
        assert!((1..=3).contains(&moved), "seed {seed}: {moved} at once");
        lan.run(ms(100_000));
        let after = load(&lan);
        let wanted = |node: usize| lan.ips().iter().filter(|ip| lan.first_choice(**ip) == node).count();
        assert!(after[0] <= wanted(0).max(5), "seed {seed}: {after:?}");
        assert!(after.iter().all(|count| *count >= 2), "seed {seed}: {after:?}");
        assert_eq!(lan.longest_gap, Duration::ZERO, "seed {seed}");
        assert!(lan.longest_overlap < ms(20), "seed {seed}: {:?}", lan.longest_overlap);
        lan.run(ms(60_000));
        assert_eq!(load(&lan), after, "seed {seed}: and then it stays");
    }
}

#[test]
fn a_single_service_never_moves_for_the_order_alone() {
    for (seed, addresses) in [(0, 1), (1, 1), (2, 1), (3, 2), (4, 2), (5, 2)] {
        let mut lan = off(seed, addresses);
        lan.pair_up();
        let last = (0..3).find(|node| lan.ips().iter().all(|ip| *node != lan.first_choice(*ip))).unwrap();
        lan.start(last);
        lan.run(ms(10_000));
        lan.start_all();
        lan.run(ms(120_000));
        assert!(lan.ips().iter().all(|ip| lan.owners(*ip) == vec![last]), "seed {seed}");
    }
}

#[test]
fn the_addresses_of_a_service_with_two_families_move_together() {
    let mut lan = off(7, 8);
    lan.pair_up();
    lan.start(0);
    lan.run(ms(10_000));
    lan.start(1);
    lan.start(2);
    lan.run(ms(100_000));
    let load = load(&lan);
    assert!(load[0] < 8 && load.iter().all(|count| count % 2 == 0), "{load:?}");
}
