//! Whenever nobody announces an address, it is said why.

use std::collections::BTreeSet;
use std::time::Duration;

use crate::scene::{ADDRESS, Lan, OBJECTS};

/// How long it may take until a reason is given on a machine that others use too; two seconds are what is waited.
const GIVEN: Duration = Duration::from_secs(8);

/// Every problem that `/status` of the node has.
fn problems(lan: &Lan, node: usize) -> String {
    lan.status(node).map(|status| format!("{}{}", status["services"], status["problems"])).unwrap_or_default()
}

/// Waits until the node says all of these words.
fn says(lan: &Lan, node: usize, words: &[&str]) {
    let begun = std::time::Instant::now();
    while !words.iter().all(|word| problems(lan, node).contains(word)) {
        assert!(begun.elapsed() < GIVEN, "n{node} doesn't say {words:?}: {}", problems(lan, node));
        std::thread::sleep(Duration::from_millis(100));
    }
}

fn local() -> String {
    OBJECTS.replace("type: LoadBalancer", "type: LoadBalancer\n  externalTrafficPolicy: Local")
}

#[test]
fn an_address_that_was_left_on_another_node_is_named_and_announced_once_it_is_removed() {
    let mut lan = Lan::new();
    lan.put(&[0, 1], &local());
    lan.ip("n1", "addr add 192.168.90.200/32 dev eth0");
    lan.start(0);
    lan.start(1);
    says(&lan, 0, &["AddressOnNode", "node n1 answers for it with MAC address 02:00:00:00:90:0b"]);
    says(&lan, 1, &["AddressOnNode", "node n1 has the address on its interface eth0"]);
    lan.ip("n1", "addr del 192.168.90.200/32 dev eth0");
    std::thread::sleep(Duration::from_secs(3));
    assert_eq!(lan.ask(Duration::from_secs(1)).0, BTreeSet::from([0]));
    assert!(!problems(&lan, 0).contains("AddressOnNode"), "{}", problems(&lan, 0));
}

/// kube-proxy in mode IPVS binds the addresses of all Services to an interface; here it is a bridge of that name.
#[test]
fn addresses_that_kube_proxy_binds_to_every_node_are_named_with_strict_arp_as_the_remedy() {
    let mut lan = Lan::new();
    lan.put(&[0, 1], OBJECTS);
    for node in ["n0", "n1"] {
        lan.ip(node, "link add kube-ipvs0 type bridge");
        lan.ip(node, "addr add 192.168.90.200/32 dev kube-ipvs0");
    }
    lan.start(0);
    lan.start(1);
    for node in [0, 1] {
        says(&lan, node, &["AddressOnNode", "kube-ipvs0", "strictARP"]);
    }
}

#[test]
fn a_node_without_an_interface_to_announce_on_is_not_ready_and_says_so() {
    let mut lan = Lan::new();
    lan.put(&[0], OBJECTS);
    lan.start_with(0, &["--interface", "ens18"]);
    says(&lan, 0, &["NoInterface", "node n0 has no interface that can be used", "--interface"]);
    let ready = lan.admin(0, "/readyz").unwrap();
    assert!(ready.contains("503") && ready.contains("interface"), "{ready}");
    assert!(lan.ask(Duration::from_millis(300)).0.is_empty());
}

#[test]
fn an_advertisement_of_an_interface_that_the_node_does_not_have_is_named() {
    let mut lan = Lan::new();
    lan.put(&[0], &OBJECTS.replace("kind: L2Advertisement", "kind: L2Advertisement\nspec: {interfaces: [ens18]}"));
    lan.start(0);
    says(&lan, 0, &["NoInterface", "it could use eth0", "L2Advertisement"]);
    lan.put(&[0], OBJECTS);
    std::thread::sleep(Duration::from_secs(2));
    assert_eq!(lan.ask(Duration::from_secs(1)).0, BTreeSet::from([0]), "{ADDRESS}");
    assert!(!problems(&lan, 0).contains("NoInterface"), "{}", problems(&lan, 0));
}
