use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use std::sync::Arc;

use proptest::prelude::*;

use super::arp::{Arp, Operation};
use super::heartbeat::{Chunk, Document, Heartbeat, Key, Phase, Versions};
use super::ndp::{Message, Ndp, multicast_mac, solicited_node};
use super::state::{Claim, State};
use super::*;

const MAC: MacAddr = MacAddr(2, 0, 0, 0, 0, 1);
const HIS: MacAddr = MacAddr(2, 0, 0, 0, 0, 9);

fn heartbeat() -> Heartbeat {
    Heartbeat {
        from: "a".into(),
        to: "b".into(),
        incarnation: 1,
        sequence: 2,
        phase: Phase::Ready,
        versions: Versions { state: 3, table: 4 },
        echo_incarnation: 5,
        echo_sequence: 6,
        echo_versions: Versions { state: 7, table: 8 },
        heard: vec![(9, 10)],
        chunk: Some(Chunk { document: Document::Table, version: 4, index: 0, count: 1, bytes: vec![1, 2, 3] }),
    }
}

#[test]
fn arp_frames_have_the_bytes_of_the_rfc() {
    let ip = Ipv4Addr::new(10, 0, 0, 7);
    let frame = Arp::gratuitous_request(MAC, ip).encode();
    let expected = [
        0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 2, 0, 0, 0, 0, 1, 8, 6, 0, 1, 8, 0, 6, 4, 0, 1, 2, 0, 0, 0, 0, 1, 10, 0, 0,
        7, 0, 0, 0, 0, 0, 0, 10, 0, 0, 7,
    ];
    assert_eq!(frame[..42], expected);
    assert_eq!(frame.len(), 60);
    let reply = Arp::decode(&Arp::gratuitous_reply(MAC, ip).encode()).unwrap();
    assert_eq!((reply.operation, reply.target_mac, reply.sender_ip), (Operation::Reply, MAC, ip));
    assert_eq!(Arp::probe(MAC, ip).sender_ip, Ipv4Addr::UNSPECIFIED);
}

#[test]
fn a_request_is_answered_to_its_sender() {
    let request = Arp {
        sender_mac: HIS,
        source: HIS,
        sender_ip: Ipv4Addr::new(10, 0, 0, 9),
        ..Arp::gratuitous_request(HIS, Ipv4Addr::new(10, 0, 0, 7))
    };
    let answer = request.answer(MAC);
    assert_eq!((answer.destination, answer.target_mac, answer.target_ip), (HIS, HIS, request.sender_ip));
    assert_eq!((answer.sender_mac, answer.sender_ip), (MAC, request.target_ip));
}

#[test]
fn a_solicitation_is_answered_as_unreachability_detection_needs() {
    let ip: Ipv6Addr = "fd00::1234:5678".parse().unwrap();
    assert_eq!(solicited_node(ip), "ff02::1:ff34:5678".parse::<Ipv6Addr>().unwrap());
    assert_eq!(multicast_mac(solicited_node(ip)), MacAddr(0x33, 0x33, 0xff, 0x34, 0x56, 0x78));
    let unicast = Ndp {
        source_mac: HIS,
        destination_mac: MAC,
        source: "fe80::9".parse().unwrap(),
        destination: ip,
        target: ip,
        link_layer: None,
        message: Message::Solicitation,
    };
    let read = Ndp::decode(&unicast.encode()).unwrap();
    assert_eq!(read, unicast);
    let answer = read.answer(MAC);
    assert_eq!(answer.destination_mac, HIS);
    assert_eq!(answer.message, Message::Advertisement { solicited: true, overrides: true });
    let probe = Ndp::decode(&Ndp::probe(HIS, ip).encode()).unwrap().answer(MAC);
    assert_eq!(probe.destination, super::ndp::ALL_NODES);
    assert_eq!(probe.message, Message::Advertisement { solicited: false, overrides: true });
}

#[test]
fn a_changed_neighbour_message_is_refused() {
    let frame = Ndp::announcement(MAC, "fd00::1".parse().unwrap()).encode();
    for index in 14..frame.len() {
        let mut changed = frame.clone();
        changed[index] ^= 0x11;
        let read = Ndp::decode(&changed);
        // Version, traffic class and flow label are not part of what is checked.
        assert!(index < 18 || read.is_none(), "byte {index}");
    }
}

/// RFC 4861 sections 7.1.1 and 7.1.2: what is to be dropped without a word. What is cut short, or has a wrong hop limit,
/// code, checksum or next header, is among the changed messages above.
#[test]
fn a_neighbour_message_that_the_rules_forbid_is_dropped() {
    let ip: Ipv6Addr = "fd00::1234:5678".parse().unwrap();
    let probe = Ndp::probe(HIS, ip);
    let asked = Ndp { source: "fd00::9".parse().unwrap(), link_layer: Some(HIS), ..probe };
    let answer = asked.answer(MAC);
    let all_nodes = super::ndp::ALL_NODES;
    let solicited = Message::Advertisement { solicited: true, overrides: true };
    let check = |what: &str, message: Ndp, valid: bool| {
        assert_eq!(Ndp::decode(&message.encode()).is_some(), valid, "{what}");
    };
    check("a probe", probe, true);
    check("a probe with a source link-layer option", Ndp { link_layer: Some(HIS), ..probe }, false);
    check("a probe to all nodes", Ndp { destination: all_nodes, ..probe }, false);
    check("a probe to the target itself", Ndp { destination: ip, ..probe }, false);
    check("a solicitation", asked, true);
    check("a unicast solicitation", Ndp { destination: ip, ..asked }, true);
    check("a solicitation from a multicast address", Ndp { source: all_nodes, ..asked }, false);
    check("a solicitation from a multicast MAC address", Ndp { source_mac: multicast_mac(all_nodes), ..asked }, false);
    check("a multicast target", Ndp { target: solicited_node(ip), ..asked }, false);
    check("an answer", answer, true);
    check("an answer to everybody that says it was asked for", Ndp { destination: all_nodes, ..answer }, false);
    check("an answer from a multicast address", Ndp { source: all_nodes, message: solicited, ..answer }, false);
    let mut frame = asked.encode();
    let (option, sum) = (frame.len() - 7, 14 + 40 + 3);
    frame[option] = 0;
    frame[sum] += 1;
    assert!(Ndp::decode(&frame).is_none(), "an option of length 0");
}

#[test]
fn keys_are_64_hexadecimal_digits() {
    assert!(Key::parse(&"0f".repeat(32)).is_some());
    for wrong in ["", "0f", &"0g".repeat(32), &"+1".repeat(32), &"0f".repeat(33)] {
        assert!(Key::parse(wrong).is_none(), "{wrong:?}");
    }
}

#[test]
fn only_the_right_key_reads_a_heartbeat() {
    let key = Key::new([7; 32]);
    let packet = heartbeat().encode(&key);
    assert_eq!(Heartbeat::decode(&packet, &key), Some(heartbeat()));
    assert_eq!(Heartbeat::decode(&packet, &Key::new([8; 32])), None);
    for index in 0..packet.len() {
        let mut changed = packet.clone();
        changed[index] ^= 1;
        assert_eq!(Heartbeat::decode(&changed, &key), None);
    }
}

proptest! {
    #[test]
    fn no_bytes_make_a_decoder_panic(bytes in proptest::collection::vec(any::<u8>(), 0..200), kind in 0usize..4) {
        let mut frame = bytes.clone();
        if frame.len() > 60 {
            // Steers some of the inputs past the first checks.
            frame[12..14].copy_from_slice(if kind == 0 { &[8, 6] } else { &[0x86, 0xdd] });
            frame[20] = 58;
            frame[21] = 255;
        }
        let _ = Arp::decode(&frame);
        let _ = Ndp::decode(&frame);
        let _ = State::decode(&bytes);
        let _ = Heartbeat::decode(&bytes, &Key::new([0; 32]));
    }

    #[test]
    fn states_round_trip(
        claims in proptest::collection::btree_map(any::<IpAddr>(), (any::<u64>(), any::<u64>()), 0..20),
        conflicts in proptest::collection::btree_map(any::<IpAddr>(), any::<[u8; 6]>(), 0..20),
        names in proptest::collection::vec("[a-z]{1,15}", 0..4),
    ) {
        let state = State {
            interfaces: names.into_iter().map(|n| (Arc::from(n), MAC)).collect(),
            claims: claims.into_iter().map(|(ip, (epoch, offered_to))| (ip, Claim { epoch, offered_to })).collect(),
            contested: conflicts.keys().map(|ip| (*ip, MAC)).collect(),
            conflicts: conflicts.into_iter().map(|(ip, mac)| (ip, mac.into())).collect(),
        };
        prop_assert_eq!(State::decode(&state.encode()), Some(state));
    }
}
