//! What is said of addresses that nobody announces.

use super::lan::link;
use super::*;
use crate::advert::Interfaces;
use crate::duty::Candidate;
use crate::silence::Silence;
use crate::wire::heartbeat::Key;

#[test]
fn a_node_without_a_usable_interface_says_so_after_two_seconds() {
    for (links, usable) in
        [(vec![], vec![]), (vec![link(1, "eth0", MacAddr(2, 0, 0, 0, 0, 1), &[])], vec!["eth0".into()])]
    {
        let mut core = Announcer::new("n1", Liveness::Heartbeats(Key::new([1; 32])), 1, Tuning::default());
        let ip: IpAddr = [192, 0, 2, 200].into();
        let interfaces = Interfaces::Named(BTreeSet::from(["ens18".into()]));
        let candidates = vec![Candidate { node: "n1".into(), interfaces, level: 0 }];
        let duties = BTreeMap::from([(ip, Duty { ip, services: Vec::new(), candidates })]);
        let begun = ms(1_000_000);
        core.set_links(begun, links);
        core.set_duties(begun, &duties);
        while core.deadline() < begun + ms(1_900) {
            core.on_timer(core.deadline().max(begun));
        }
        assert!(core.silent().is_empty());
        while core.deadline() < begun + ms(3_000) {
            core.on_timer(core.deadline());
        }
        assert_eq!(core.silent(), &BTreeMap::from([(ip, Some(Silence::NoInterface { usable }))]));
    }
}

#[test]
fn a_node_that_answers_without_announcing_is_named_by_all_others() {
    let mut lan = Lan::new(21, 3, 2);
    let ip = lan.ips()[0];
    let squatter = lan.first_choice(ip);
    let mac = MacAddr(2, 0, 0, 0, 0, u8::try_from(squatter).unwrap());
    // Its kernel answers, and its announcer asks and gets no answer of its own kernel: it leaves the address alone.
    lan.prefer_all_but(squatter);
    lan.foreign.insert(ip, mac);
    lan.run(ms(6_000));
    let expected = Silence::node(format!("node-{squatter}").into(), mac);
    let saying = |lan: &Lan| (0..3).filter(|n| lan.node(*n).silent().get(&ip) == Some(&Some(expected.clone()))).count();
    assert!(saying(&lan) >= 1, "{:?}", (0..3).map(|n| lan.node(n).silent().clone()).collect::<Vec<_>>());
    lan.foreign.clear();
    lan.run(ms(3_000));
    assert_eq!(lan.owners(ip).len(), 1);
    lan.run(ms(1_000));
    assert!((0..3).all(|n| lan.node(n).silent().is_empty()), "nothing is said once it is announced");
}

#[test]
fn a_foreign_host_is_named_and_whoever_waits_says_for_whom() {
    let mut lan = Lan::new(5, 3, 1);
    let ip = lan.ips()[0];
    let mac = MacAddr(0xaa, 0, 0, 0, 0, 1);
    lan.foreign.insert(ip, mac);
    lan.run(ms(8_000));
    let first = lan.first_choice(ip);
    assert_eq!(lan.node(first).silent().get(&ip), Some(&Some(Silence::foreign(mac))));
    lan.foreign.clear();
    lan.run(ms(20_000));
    assert!((0..3).all(|n| lan.node(n).silent().is_empty()));
}
