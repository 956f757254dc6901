//! ARP: what the socket sees, and that the client believes what it sends.

use std::net::Ipv4Addr;
use std::time::{Duration, Instant};

use landfall_lb_announcer::edge::arp::ArpSocket;
use landfall_lb_announcer::edge::packet::Frames;
use pnet_base::MacAddr;

use crate::namespaces::{CLIENT_MAC, NODE_MAC, Namespaces};

const OURS: Ipv4Addr = Ipv4Addr::new(192, 168, 89, 200);
const FOREIGN: Ipv4Addr = Ipv4Addr::new(192, 168, 89, 201);

/// An Ethernet frame with an ARP packet: operation, then sender and target.
fn arp(to: MacAddr, operation: u8, sender: (MacAddr, Ipv4Addr), target: (MacAddr, Ipv4Addr)) -> Vec<u8> {
    let mut frame = Vec::new();
    frame.extend(to.octets());
    frame.extend(sender.0.octets());
    frame.extend([0x08, 0x06, 0, 1, 0x08, 0x00, 6, 4, 0, operation]);
    frame.extend(sender.0.octets());
    frame.extend(sender.1.octets());
    frame.extend(target.0.octets());
    frame.extend(target.1.octets());
    frame.resize(60, 0);
    frame
}

/// The operation and the target address of an ARP frame.
fn summary(frame: &[u8]) -> (u8, Ipv4Addr) {
    (frame[21], Ipv4Addr::new(frame[38], frame[39], frame[40], frame[41]))
}

fn index() -> u32 {
    nix::net::if_::if_nametoindex("eth0").unwrap()
}

/// Whatever arrives until nothing has for 200 ms.
async fn everything(socket: &ArpSocket) -> Vec<(u8, Ipv4Addr)> {
    let mut frames = Frames::new();
    let mut all = Vec::new();
    while let Ok(read) = tokio::time::timeout(Duration::from_millis(200), socket.recv(&mut frames)).await {
        read.unwrap();
        all.extend(frames.iter().map(summary));
    }
    all
}

#[test]
fn requests_for_our_addresses_are_seen_and_other_traffic_is_not() {
    let lab = Namespaces::new();
    let lab = &lab;
    lab.on_node(async || {
        let socket = ArpSocket::open(index(), NODE_MAC).unwrap();
        socket.watch(NODE_MAC, &[OURS]).unwrap();
        // Resolves the node itself first, then sends it IPv4; asks for an address of somebody else, and for ours.
        for to in ["192.168.89.1", "192.168.89.201", "192.168.89.200"] {
            lab.datagram_from_client(to);
        }
        let mut frames = Frames::new();
        socket.recv(&mut frames).await.unwrap();
        let mut seen: Vec<_> = frames.iter().map(summary).collect();
        seen.extend(everything(&socket).await);
        assert!(seen.iter().all(|frame| *frame == (1, OURS)), "{seen:?}");

        socket.watch_all(NODE_MAC).unwrap();
        lab.datagram_from_client("192.168.89.202");
        assert!(everything(&socket).await.contains(&(1, Ipv4Addr::new(192, 168, 89, 202))));
    });
}

#[test]
fn own_frames_and_more_addresses_than_the_kernel_compares() {
    let lab = Namespaces::new();
    lab.on_node(async || {
        let socket = ArpSocket::open(index(), NODE_MAC).unwrap();
        let other = ArpSocket::open(index(), NODE_MAC).unwrap();
        let many: Vec<Ipv4Addr> = (0..501).map(|low| Ipv4Addr::from_bits(0x0a00_0000 + low)).collect();
        other.watch(NODE_MAC, &many[..500]).unwrap();
        let probe = |address| arp(MacAddr::broadcast(), 1, (NODE_MAC, address), (MacAddr::zero(), address));
        socket.send(&probe(many[499])).unwrap();
        assert_eq!(everything(&other).await, [], "a frame on its way out is not taken for one from the network");
        other.watch(NODE_MAC, &many).unwrap();
        lab.datagram_from_client("192.168.89.201");
        assert!(everything(&other).await.contains(&(1, FOREIGN)), "too many to compare: all are seen");
    });
}

#[test]
fn answers_and_gratuitous_arp_reach_the_neighbour_table() {
    let lab = Namespaces::new();
    lab.on_node(async || {
        let socket = ArpSocket::open(index(), NODE_MAC).unwrap();
        socket.watch(NODE_MAC, &[OURS]).unwrap();
        lab.datagram_from_client("192.168.89.200");
        let mut frames = Frames::new();
        socket.recv(&mut frames).await.unwrap();
        assert_eq!(frames.iter().next().map(summary), Some((1, OURS)));
        let client = (CLIENT_MAC, Ipv4Addr::new(192, 168, 89, 2));
        socket.send(&arp(CLIENT_MAC, 2, (NODE_MAC, OURS), client)).unwrap();
        lab.await_neighbour("192.168.89.200", &NODE_MAC.to_string());

        let moved = MacAddr::new(2, 0, 0, 0, 0x88, 0x77);
        socket.send_when_ready(&arp(MacAddr::broadcast(), 1, (moved, OURS), (MacAddr::zero(), OURS))).await.unwrap();
        lab.await_neighbour("192.168.89.200", &moved.to_string());
    });
}

#[test]
fn what_waited_can_be_thrown_away_and_the_socket_outlives_a_link_that_goes_down() {
    let lab = Namespaces::new();
    lab.on_node(async || {
        let socket = ArpSocket::open(index(), NODE_MAC).unwrap();
        socket.watch(NODE_MAC, &[OURS]).unwrap();
        lab.datagram_from_client("192.168.89.200");
        // The client's kernel asks when it gets to it.
        let end = Instant::now() + Duration::from_secs(10);
        while socket.discard().unwrap() == 0 {
            assert!(Instant::now() < end, "the client asked for nothing");
            std::thread::sleep(Duration::from_millis(2));
        }
        lab.ip_node("link set eth0 down");
        lab.ip_node("link set eth0 up");
        lab.ip_client("neigh flush dev eth0");
        let mut frames = Frames::new();
        for _ in 0..50 {
            lab.datagram_from_client("192.168.89.200");
            if tokio::time::timeout(Duration::from_millis(100), socket.recv(&mut frames)).await.is_ok_and(|r| r.is_ok())
            {
                return assert_eq!(frames.iter().next().map(summary), Some((1, OURS)));
            }
        }
        panic!("no request was seen after the link came back");
    });
}
