use pnet_base::MacAddr;

use super::*;
use crate::edge::links::LinkTraits;

fn ethernet(ifindex: u32, name: &str) -> Link {
    Link {
        ifindex,
        name: name.to_owned(),
        mac: Some(MacAddr::new(2, 0, 0, 0, 0, 1)),
        up: true,
        carrier: true,
        traits: LinkTraits { broadcast: true, multicast: true, ..LinkTraits::default() },
        master: None,
        lower: None,
        addresses: Vec::new(),
    }
}

fn check(patterns: &[&str], link: &Link, expected: Option<&Refusal>) {
    let bridge = ethernet(90, "br0");
    let vrf = Link { traits: LinkTraits { vrf: true, ..bridge.traits }, ..ethernet(91, "red") };
    let links: Links = [bridge, vrf, link.clone()].into_iter().collect();
    let selection = Selection::new(patterns).unwrap();
    assert_eq!(selection.refusal(link, &links).as_ref(), expected, "{patterns:?} {link:?}");
}

#[test]
fn names_decide_first() {
    use Refusal::{Excluded, NotSelected};
    for (patterns, name, expected) in [
        (&[][..], "eth0", None),
        (&[], "enp3s0f1", None),
        (&[], "bond0.100", None),
        (&[], "docker0", Some(Excluded)),
        (&[], "veth1a2b", Some(Excluded)),
        (&[], "cali123", Some(Excluded)),
        (&[], "lo", Some(Excluded)),
        (&[], "lofty0", None),
        (&["eth0"], "eth0", None),
        (&["eth0"], "eth0.100", Some(NotSelected)),
        (&["eth.*", "bond[01]"], "bond1", None),
        (&["eth0|eth1"], "eth10", Some(NotSelected)),
        (&["^ens"], "ens3", Some(NotSelected)),
        (&["veth.*"], "veth1a2b", None),
    ] {
        check(patterns, &ethernet(2, name), expected.as_ref());
    }
}

#[test]
fn what_the_interface_is_decides_next() {
    let plain = ethernet(2, "eth0");
    let with = |traits| Link { traits, ..plain.clone() };
    for (link, expected) in [
        (with(LinkTraits { loopback: true, ..plain.traits }), Refusal::Loopback),
        (with(LinkTraits { no_arp: true, ..plain.traits }), Refusal::NoArp),
        (with(LinkTraits { broadcast: false, ..plain.traits }), Refusal::NotEthernet),
        (Link { mac: None, ..plain.clone() }, Refusal::NotEthernet),
        (Link { master: Some(90), ..plain.clone() }, Refusal::PortOf("br0".to_owned())),
        (Link { master: Some(77), ..plain.clone() }, Refusal::PortOf("#77".to_owned())),
        (Link { up: false, carrier: false, ..plain.clone() }, Refusal::Down),
        (Link { carrier: false, ..plain.clone() }, Refusal::NoCarrier),
    ] {
        check(&[], &link, Some(&expected));
    }
    check(&[], &Link { master: Some(91), ..plain.clone() }, None);
}

#[test]
fn a_wrong_pattern_is_refused() {
    for pattern in ["eth[", "a)(b", "*"] {
        assert!(Selection::new(&[pattern]).is_err(), "{pattern}");
    }
}
