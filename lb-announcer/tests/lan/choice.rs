//! Which node announces an address, and on which interface.

use std::collections::BTreeSet;
use std::fmt::Write as _;
use std::net::Ipv4Addr;
use std::time::Duration;

use landfall_lb_model::wire::MacAddr;

use crate::scene::{ADDRESS, Lan, OBJECTS};

fn mac(last: u8) -> MacAddr {
    MacAddr(2, 0, 0, 0, 0x90, last)
}

/// Who announces which address, as a node says.
fn announcing(lan: &Lan, node: usize) -> Vec<(String, String, String)> {
    let status = lan.status(node).unwrap();
    let services = status["services"].as_array().unwrap().clone();
    let all = services.iter().flat_map(|service| service["announcing"].as_array().unwrap().clone());
    let text = |value: &serde_json::Value| value.to_string().replace('"', "");
    all.map(|entry| (text(&entry["ip"]), text(&entry["node"]), text(&entry["interfaces"]))).collect()
}

#[test]
fn a_second_interface_on_the_same_segment_is_left_alone() {
    let mut lan = Lan::new();
    lan.put(&[0], OBJECTS);
    lan.ip("sw", &format!("link add n0b type veth peer name eth1 netns {}", lan.host("n0")));
    lan.ip("sw", "link set n0b master br0 up");
    lan.ip("n0", "link set eth1 address 02:00:00:00:90:fe up");
    lan.start_with(0, &[]);
    std::thread::sleep(Duration::from_secs(3));
    assert_eq!(lan.ask_for(ADDRESS, Duration::from_secs(2)).0, BTreeSet::from([mac(10)]));
    assert_eq!(announcing(&lan, 0), [(ADDRESS.to_string(), "n0".to_owned(), "[eth0]".to_owned())]);

    // Where the first one is unplugged the second goes on.
    lan.ip("n0", "link set eth0 down");
    std::thread::sleep(Duration::from_secs(1));
    assert_eq!(lan.ask_for(ADDRESS, Duration::from_secs(1)).0, BTreeSet::from([mac(0xfe)]));
    lan.ip("n0", "link set eth0 up");
    lan.ip("n0", "addr add 192.168.90.20/24 dev eth1");
    std::thread::sleep(Duration::from_secs(3));
    assert_eq!(lan.ask_for(ADDRESS, Duration::from_secs(2)).0, BTreeSet::from([mac(10)]));
    let problems = lan.status(0).unwrap()["problems"].to_string();
    assert!(problems.contains("SameSegment") && problems.contains("eth0 and eth1"), "{problems}");
}

#[test]
fn a_macvlan_child_leaves_the_address_to_its_parent() {
    let mut lan = Lan::new();
    lan.put(&[0], OBJECTS);
    lan.ip("n0", "link add link eth0 name shim0 address 02:00:00:00:90:fd type macvlan mode bridge");
    lan.ip("n0", "addr add 192.168.90.201/32 dev shim0");
    lan.ip("n0", "link set shim0 up");
    lan.start_with(0, &[]);
    std::thread::sleep(Duration::from_secs(3));
    assert_eq!(lan.ask_for(ADDRESS, Duration::from_secs(2)).0, BTreeSet::from([mac(10)]));
}

#[test]
fn each_family_is_announced_where_it_has_endpoints() {
    let mut lan = Lan::new();
    let objects = OBJECTS
        .replace("192.168.90.200-192.168.90.210", "192.168.90.200-192.168.90.210, \"fd90::200-fd90::20f\"")
        .replace(
            "type: LoadBalancer",
            "type: LoadBalancer\n  externalTrafficPolicy: Local\n  ipFamilyPolicy: RequireDualStack\n  ipFamilies: [IPv4, IPv6]\n  \
             clusterIPs: [10.96.0.10, \"fd00:96::10\"]",
        );
    let (_, slice) = objects.rsplit_once("---").unwrap();
    let v6 = slice.replace("web-1", "web-2").replace("IPv4", "IPv6").replace("192.168.90.50", "\"fd00:244::1\"");
    lan.put(&[0, 1], &format!("{objects}---{}", v6.replace("nodeName: n0", "nodeName: n1")));
    lan.start(0);
    lan.start(1);
    std::thread::sleep(Duration::from_secs(5));
    let entry = |ip: &str, node: &str| (ip.to_owned(), node.to_owned(), "[eth0]".to_owned());
    assert_eq!(announcing(&lan, 0), [entry("192.168.90.200", "n0"), entry("fd90::200", "n1")]);
    assert_eq!(lan.ask(Duration::from_secs(1)).0, BTreeSet::from([0]));
}

#[test]
fn nodes_that_are_all_not_ready_announce() {
    let mut lan = Lan::new();
    let unready = OBJECTS.replace("{ready: true, serving: true", "{ready: false, serving: false");
    lan.put_with(&[0, 1, 2], "[{type: Ready, status: Unknown}]", &unready);
    (0..3).for_each(|node| lan.start(node));
    lan.owner();
    lan.await_status(0, "a word about it", |s| s["services"].to_string().contains("NoFitNode"));
}

/// Five addresses of policy Local on three nodes that start one second after each other.
#[test]
fn addresses_of_policy_local_do_not_all_go_to_the_node_that_is_first() {
    let mut lan = Lan::new();
    let (pools, service) = OBJECTS.split_once("---\napiVersion: v1\nkind: Service").unwrap();
    let (service, slice) = service.split_once("---").unwrap();
    let mut objects = pools.to_owned();
    for number in 1..=5 {
        let name = format!("web{number}");
        let service = service.replace("name: web,", &format!("name: {name},"));
        let service = service.replace("type: LoadBalancer", "type: LoadBalancer\n  externalTrafficPolicy: Local");
        let _ = write!(objects, "---\napiVersion: v1\nkind: Service{service}");
        let slice = slice.replace("web-1", &format!("{name}-1")).replace("name: web}", &format!("name: {name}}}"));
        let (head, endpoint) = slice.split_once("- addresses").unwrap();
        let _ = write!(objects, "---{head}");
        for node in ["n0", "n1", "n2"] {
            let _ = write!(objects, "- addresses{}", endpoint.trim_end().replace("n0", node) + "\n");
        }
    }
    lan.put(&[0, 1, 2], &objects);
    for node in [2, 1, 0] {
        lan.start(node);
        std::thread::sleep(Duration::from_millis(800));
    }
    std::thread::sleep(Duration::from_secs(5));
    let owners: Vec<BTreeSet<MacAddr>> =
        (200..205).map(|last| lan.ask_for(Ipv4Addr::new(192, 168, 90, last), Duration::from_millis(300)).0).collect();
    println!("owners: {owners:?}");
    assert!(owners.iter().all(|owners| owners.len() == 1), "{owners:?}");
    let orders = (200..205).map(|last| {
        let ip = Ipv4Addr::new(192, 168, 90, last).into();
        let rank = |node: &u8| landfall_lb_model::election::Rank::new(&format!("n{node}"), ip, 0, None);
        let first = (0..3).min_by_key(rank).unwrap();
        BTreeSet::from([mac(10 + first)])
    });
    assert_eq!(owners, orders.collect::<Vec<_>>(), "as MetalLB's order has them");
}
