//! Frames of a link: ARP, neighbour discovery, TCP segments.

use crate::wire::arp::Arp;
use crate::wire::ndp::Ndp;
use crate::wire::segment::Segment;

pub(crate) fn arp(bytes: &[u8]) {
    let Some(read) = Arp::decode(bytes) else { return };
    assert_eq!(Arp::decode(&read.encode()), Some(read));
    assert_eq!(Arp::decode(&[bytes, b"more"].concat()), Some(read), "padding means nothing");
    let answer = read.answer(read.target_mac);
    assert_eq!(Arp::decode(&answer.encode()), Some(answer));
    assert_eq!((answer.target_ip, answer.sender_ip), (read.sender_ip, read.target_ip));
}

pub(crate) fn ndp(bytes: &[u8]) {
    check_ndp(bytes);
    // A fuzzer does not find checksums.
    let mut sealed = bytes.to_vec();
    if seal(&mut sealed).is_some() {
        check_ndp(&sealed);
    }
}

fn check_ndp(bytes: &[u8]) {
    let Some(read) = Ndp::decode(bytes) else { return };
    let written = read.encode();
    assert_eq!(Ndp::decode(&written), Some(read));
    let mut again = written.clone();
    assert!(seal(&mut again).is_some() && again == written, "the checksum is another by another computation");
    let answer = read.answer(crate::wire::MacAddr(2, 0, 0, 0, 0, 1));
    // Who asks for the address of a host by a group of nodes, or for none, gets no sensible answer either.
    if !read.target.is_unspecified() {
        assert_eq!(Ndp::decode(&answer.encode()), Some(answer));
    }
}

/// Writes the `ICMPv6` checksum (RFC 4443 section 2.3) of a frame whose payload has the length that it says.
fn seal(frame: &mut [u8]) -> Option<()> {
    let length = usize::from(u16::from_be_bytes([*frame.get(18)?, *frame.get(19)?]));
    let end = 54 + length;
    if length < 4 || frame.len() < end {
        return None;
    }
    frame[56..58].fill(0);
    let mut sum = u32::try_from(length).ok()? + 58;
    let covered = frame[22..end].chunks(2);
    sum += covered.map(|pair| u32::from(pair[0]) << 8 | u32::from(*pair.get(1).unwrap_or(&0))).sum::<u32>();
    while sum > 0xffff {
        sum = (sum & 0xffff) + (sum >> 16);
    }
    let sum = !u16::try_from(sum).ok()?;
    frame[56..58].copy_from_slice(&sum.to_be_bytes());
    Some(())
}

pub(crate) fn segment(bytes: &[u8]) {
    let Some(read) = Segment::decode(bytes) else { return };
    let (from, _, _) = read.flow;
    assert_eq!(from.is_ipv4(), read.to.is_ipv4());
    assert_eq!(Segment::decode(&[bytes, b"more"].concat()), Some(read), "the payload means nothing");
}
