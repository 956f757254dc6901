//! Neighbour Discovery: solicitations of both kinds, and group membership on interfaces that come late.

use std::net::Ipv6Addr;

use landfall_lb_announcer::edge::groups::{Groups, solicited_node};
use landfall_lb_announcer::edge::ndp::NdpSocket;
use landfall_lb_announcer::edge::packet::Frames;
use pnet_base::MacAddr;

use crate::namespaces::{CLIENT_MAC, NODE_MAC, Namespaces};

const SOLICITATION: u8 = 135;

fn ours() -> Ipv6Addr {
    "fd89::200".parse().unwrap()
}

fn client() -> Ipv6Addr {
    "fd89::2".parse().unwrap()
}

fn index(name: &str) -> u32 {
    nix::net::if_::if_nametoindex(name).unwrap()
}

/// The frame of a solicited advertisement with Override for `target`, which is also its source.
fn advertisement(to: MacAddr, target: Ipv6Addr) -> Vec<u8> {
    let mut message = vec![136, 0, 0, 0, 0x60, 0, 0, 0];
    message.extend(target.octets());
    message.extend([2, 1]);
    message.extend(NODE_MAC.octets());
    let length = u8::try_from(message.len()).unwrap();
    let mut pseudo = Vec::new();
    pseudo.extend(target.octets());
    pseudo.extend(client().octets());
    pseudo.extend([0, 0, 0, length, 0, 0, 0, 58]);
    pseudo.extend(&message);
    let sum: u32 = pseudo.chunks(2).map(|pair| u32::from(u16::from_be_bytes([pair[0], pair[1]]))).sum();
    let folded = u16::try_from((sum & 0xffff) + (sum >> 16)).unwrap_or_else(|_| panic!("one fold is enough"));
    message[2..4].copy_from_slice(&(!folded).to_be_bytes());

    let mut frame = Vec::new();
    frame.extend(to.octets());
    frame.extend(NODE_MAC.octets());
    frame.extend([0x86, 0xdd, 0x60, 0, 0, 0, 0, length, 58, 255]);
    frame.extend(target.octets());
    frame.extend(client().octets());
    frame.extend(message);
    frame
}

/// Waits for a solicitation of our address; returns the Ethernet address it was sent to.
async fn solicitation(socket: &NdpSocket) -> MacAddr {
    let mut frames = Frames::new();
    loop {
        socket.recv(&mut frames).await.unwrap();
        for frame in frames.iter() {
            assert_eq!(frame[74..78], ours().octets()[12..], "only our target passes the filter");
            if frame[54] == SOLICITATION {
                return MacAddr::from(<[u8; 6]>::try_from(&frame[..6]).unwrap());
            }
        }
    }
}

#[test]
fn multicast_and_unicast_solicitations_are_seen() {
    let lab = Namespaces::new();
    lab.on_node(async || {
        let socket = NdpSocket::open(index("eth0"), NODE_MAC).unwrap();
        socket.watch(NODE_MAC, &[ours()]).unwrap();
        let mut groups = Groups::new();
        assert!(groups.set_interfaces([index("eth0")]).is_empty());
        assert!(groups.join(ours()).is_empty());

        lab.datagram_from_client("fd89::200");
        assert_eq!(solicitation(&socket).await, MacAddr::new(0x33, 0x33, 0xff, 0, 2, 0));
        socket.send(&advertisement(CLIENT_MAC, ours())).unwrap();
        lab.await_neighbour("fd89::200", &NODE_MAC.to_string());

        // Neighbour Unreachability Detection asks the address it knows, although no interface here has it.
        lab.ip_client(&format!("neigh replace fd89::200 lladdr {NODE_MAC} dev eth0 nud probe"));
        assert_eq!(solicitation(&socket).await, NODE_MAC);
        socket.send_when_ready(&advertisement(CLIENT_MAC, ours())).await.unwrap();
        lab.await_neighbour("fd89::200", "REACHABLE");
    });
}

#[test]
fn groups_are_joined_on_interfaces_that_come_late_and_left_with_the_last_address() {
    let lab = Namespaces::new();
    lab.on_node(async || {
        let group = solicited_node(ours()).to_string();
        let mut groups = Groups::new();
        groups.set_interfaces([index("eth0")]);
        groups.join(ours());
        groups.join("fd89:1::200".parse().unwrap());
        assert!(lab.node_groups("eth0").contains(&group));

        lab.ip_node("link add late0 type veth peer name late1");
        lab.ip_node("link set late0 up");
        assert!(groups.set_interfaces([index("eth0"), index("late0")]).is_empty());
        assert!(lab.node_groups("late0").contains(&group));

        groups.leave(ours());
        assert!(lab.node_groups("eth0").contains(&group), "another address still needs the group");
        groups.leave("fd89:1::200".parse().unwrap());
        assert!(!lab.node_groups("eth0").contains(&group));
        assert!(!lab.node_groups("late0").contains(&group));
    });
}

#[test]
fn a_thousand_groups_and_an_interface_that_vanishes() {
    let lab = Namespaces::new();
    lab.on_node(async || {
        lab.ip_node("link add late0 type veth peer name late1");
        lab.ip_node("link set late0 up");
        let late = index("late0");
        let mut groups = Groups::new();
        groups.set_interfaces([index("eth0"), late]);
        for low in 0..1000 {
            assert!(groups.join(Ipv6Addr::new(0xfd89, 0, 0, 0, 0, 0, 0x12, low)).is_empty(), "address {low}");
        }
        assert!(lab.node_groups("eth0").contains("ff02::1:ff12:3e7"));
        lab.ip_node("link del late0");
        assert_eq!(
            groups.set_interfaces([index("eth0"), late]).len(),
            0,
            "the memberships are only lost with a new one"
        );
        assert!(groups.set_interfaces([index("eth0")]).is_empty());
        let failed = groups.set_interfaces([index("eth0"), late]);
        assert_eq!(failed.len(), 1000, "an interface that is not there is reported");
    });
}
