//! TCP on its way in, and nothing else.

use std::net::IpAddr;

use landfall_lb_announcer::edge::packet::Frames;
use landfall_lb_announcer::edge::traffic::{Family, TrafficSocket};

use crate::namespaces::{NODE_MAC, Namespaces};

#[test]
fn segments_for_watched_addresses_are_seen_and_nothing_else() {
    let lab = Namespaces::new();
    let index = || nix::net::if_::if_nametoindex("eth0").unwrap();
    for (family, watched, other, tail) in
        [(Family::V4, "192.168.89.1", "192.168.89.3/32", 33), (Family::V6, "fd89::1", "fd89::3/128", 53)]
    {
        let nodad = if family == Family::V6 { " nodad" } else { "" };
        lab.ip_node(&format!("addr add {other} dev eth0{nodad}"));
        let ips: Vec<IpAddr> = vec![watched.parse().unwrap()];
        lab.on_node(async || {
            let socket = TrafficSocket::open(index(), NODE_MAC, family, &ips).unwrap();
            let mut frames = Frames::new();
            lab.datagram_from_client(watched);
            lab.connect_from_client(other.split('/').next().unwrap());
            assert!(socket.try_recv(&mut frames).is_err(), "neither datagrams nor what goes elsewhere");
            lab.connect_from_client(watched);
            socket.recv(&mut frames).await.unwrap();
            assert!(frames.iter().all(|frame| frame[tail] == 1), "only the watched address");
            let none: Vec<IpAddr> = Vec::new();
            socket.watch(NODE_MAC, &none).unwrap();
            while socket.try_recv(&mut frames).is_ok() {}
            lab.connect_from_client(watched);
            assert!(socket.try_recv(&mut frames).is_err(), "no address, no segment");
        });
    }
}
