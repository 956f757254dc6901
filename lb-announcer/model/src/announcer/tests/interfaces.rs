//! A node with several interfaces, some of them on one segment.

use super::lan::link;
use super::*;
use crate::advert::Interfaces;
use crate::duty::Candidate;
use crate::wire::heartbeat::Key;

const ETH0: MacAddr = MacAddr(2, 0, 0, 0, 0, 1);
const ETH1: MacAddr = MacAddr(2, 0, 0, 0, 0, 2);

/// A node with interfaces 1 and 2, and the wire that connects them or doesn't.
struct Node {
    core: Announcer,
    now: Moment,
    wired: bool,
    sent: Vec<(u32, Vec<u8>)>,
}

impl Node {
    fn new(links: Vec<Link>, wired: bool, ips: &[&str]) -> Self {
        let core = Announcer::new("n1", Liveness::Heartbeats(Key::new([1; 32])), 1, Tuning::default());
        let mut node = Self { core, now: ms(1_000_000), wired, sent: Vec::new() };
        let duty = |ip: &&str| {
            let ip: IpAddr = ip.parse().unwrap();
            let candidates = vec![Candidate { node: "n1".into(), interfaces: Interfaces::All, level: 0 }];
            (ip, Duty { ip, services: Vec::new(), candidates })
        };
        let duties = ips.iter().map(duty).collect();
        let effects = node.core.set_links(node.now, links);
        node.carry_out(effects);
        let effects = node.core.set_duties(node.now, &duties);
        node.carry_out(effects);
        node
    }

    fn carry_out(&mut self, effects: Vec<Effect>) {
        for effect in effects {
            let Effect::Frame { link, bytes } = effect else { continue };
            self.sent.push((link, bytes.clone()));
            if self.wired {
                let more = self.core.on_frame(self.now, 3 - link, &bytes);
                self.carry_out(more);
            }
        }
    }

    fn run(&mut self, time: Duration) {
        let end = self.now + time;
        while self.core.deadline() < end {
            self.now = self.core.deadline().max(self.now);
            let effects = self.core.on_timer(self.now);
            self.carry_out(effects);
        }
        self.now = end;
    }

    /// The interfaces that answer a question for the address that reaches all of them.
    fn answers(&mut self, ip: &str) -> Vec<u32> {
        let his = MacAddr(0xaa, 0, 0, 0, 0, 4);
        let request =
            Arp { sender_ip: Ipv4Addr::new(192, 0, 2, 99), ..Arp::gratuitous_request(his, ip.parse().unwrap()) };
        let mut answers = |link: &u32| !self.core.on_frame(self.now, *link, &request.encode()).is_empty();
        [1, 2].into_iter().filter(|link| answers(link)).collect()
    }

    /// The interfaces that gratuitous frames for the address left from.
    fn announced_on(&self, ip: &str) -> BTreeSet<u32> {
        let ip: Ipv4Addr = ip.parse().unwrap();
        let gratuitous = |bytes: &Vec<u8>| Arp::decode(bytes).is_some_and(|arp| arp.sender_ip == ip);
        self.sent.iter().filter(|(_, bytes)| gratuitous(bytes)).map(|(link, _)| *link).collect()
    }
}

fn check(eth0: &[&str], eth1: &[&str], wired: bool, expected: &[u32], doubled: bool) {
    let links = vec![link(1, "eth0", ETH0, eth0), link(2, "eth1", ETH1, eth1)];
    let mut node = Node::new(links, wired, &["192.0.2.200"]);
    node.run(ms(2_000));
    let what = format!("eth0 {eth0:?}, eth1 {eth1:?}, wired {wired}");
    assert_eq!(node.answers("192.0.2.200"), expected, "{what}");
    let interfaces = node.core.announcer_of("192.0.2.200".parse().unwrap(), node.now).unwrap().1;
    assert_eq!(interfaces.len(), expected.len(), "{what}: {interfaces:?}");
    assert_eq!(node.announced_on("192.0.2.200"), expected.iter().copied().collect(), "{what}");
    assert_eq!(node.core.doubled_interfaces().len(), usize::from(doubled), "{what}");
}

#[test]
fn of_interfaces_on_one_segment_the_one_that_suits_the_address_speaks_for_it() {
    check(&["192.0.2.11/24"], &[], true, &[1], false);
    check(&[], &["192.0.2.11/24"], true, &[2], false);
    check(&["198.51.100.1/24"], &["192.0.2.11/24"], true, &[2], true);
    check(&["fd00::1/64"], &["198.51.100.1/24"], true, &[2], false);
    check(&["192.0.2.11/24"], &["192.0.2.12/24"], true, &[1], true);
    // Nothing better there: one of them.
    check(&[], &[], true, &[1], false);
    // Two segments: each interface has its own neighbours.
    check(&["192.0.2.11/24"], &[], false, &[1, 2], false);
    check(&["192.0.2.11/24"], &["198.51.100.1/24"], false, &[1, 2], false);
}

#[test]
fn a_child_on_the_same_segment_leaves_the_address_to_its_parent() {
    let eth0 = link(1, "eth0", ETH0, &["192.0.2.11/24"]);
    let shim = Link { lower: Some(1), ..link(2, "shim0", ETH1, &[]) };
    let mut node = Node::new(vec![eth0.clone(), shim.clone()], false, &["192.0.2.200"]);
    node.run(ms(2_000));
    assert_eq!(node.answers("192.0.2.200"), [1]);
    // The other way round, as where the parent is a mere port of the hypervisor.
    let (eth0, shim) = (Link { networks: Vec::new(), ..eth0.clone() }, Link { networks: eth0.networks, ..shim });
    let effects = node.core.set_links(node.now, vec![eth0, shim]);
    node.sent.clear();
    node.carry_out(effects);
    assert_eq!(node.announced_on("192.0.2.200"), BTreeSet::from([2]), "said at once");
    assert_eq!(node.answers("192.0.2.200"), [2]);
}

#[test]
fn when_the_interface_that_speaks_loses_its_carrier_the_other_one_goes_on_at_once() {
    let links = vec![link(1, "eth0", ETH0, &["192.0.2.11/24"]), link(2, "eth1", ETH1, &[])];
    let mut node = Node::new(links.clone(), true, &["192.0.2.200"]);
    node.run(ms(2_000));
    node.sent.clear();
    let effects = node.core.set_links(node.now, links[1..].to_vec());
    node.carry_out(effects);
    assert_eq!((node.announced_on("192.0.2.200"), node.answers("192.0.2.200")), (BTreeSet::from([2]), vec![2]));
}

#[test]
fn a_cable_that_was_moved_to_another_switch_is_noticed_in_the_end() {
    let links = vec![link(1, "eth0", ETH0, &["192.0.2.11/24"]), link(2, "eth1", ETH1, &[])];
    let mut node = Node::new(links, true, &["192.0.2.200"]);
    node.run(ms(120_000));
    assert_eq!(node.answers("192.0.2.200"), [1]);
    node.wired = false;
    node.run(ms(700_000));
    assert_eq!(node.answers("192.0.2.200"), [1, 2]);
}
