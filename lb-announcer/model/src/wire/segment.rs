//! TCP segments on their way to an announced address: as much of them as tells when a connection is in use.

use std::net::IpAddr;

use pnet_packet::Packet;
use pnet_packet::ethernet::{EtherTypes, EthernetPacket};
use pnet_packet::ip::IpNextHeaderProtocols;
use pnet_packet::ipv4::Ipv4Packet;
use pnet_packet::ipv6::Ipv6Packet;
use pnet_packet::tcp::{TcpFlags, TcpPacket};

/// One end's part of a connection: client's address and port, and the port it talks to.
pub type Flow = (IpAddr, u16, u16);

/// A segment that a client sent.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Segment {
    /// Where it goes.
    pub to: IpAddr,
    /// Whose it is.
    pub flow: Flow,
    /// What it means for the connection.
    pub turn: Turn,
}

/// What a segment means for its connection.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Turn {
    /// The client begins it.
    Begins,
    /// The client goes on with it.
    GoesOn,
    /// The client has nothing more to say (FIN), or nothing more to hear (RST).
    Ends,
}

impl Segment {
    /// Reads a frame, which may have been cut after the TCP header; `None` if it is no TCP segment, or a fragment
    /// without the header.
    pub fn decode(frame: &[u8]) -> Option<Self> {
        let ethernet = EthernetPacket::new(frame)?;
        match ethernet.get_ethertype() {
            EtherTypes::Ipv4 => {
                let ip = Ipv4Packet::new(ethernet.payload())?;
                let header = usize::from(ip.get_header_length()) * 4;
                let first = ip.get_fragment_offset() == 0;
                let tcp = ethernet.payload().get(header..)?;
                (first && ip.get_next_level_protocol() == IpNextHeaderProtocols::Tcp)
                    .then(|| Self::read(ip.get_source().into(), ip.get_destination().into(), tcp))?
            }
            EtherTypes::Ipv6 => {
                let ip = Ipv6Packet::new(ethernet.payload())?;
                let tcp = ethernet.payload().get(Ipv6Packet::minimum_packet_size()..)?;
                (ip.get_next_header() == IpNextHeaderProtocols::Tcp)
                    .then(|| Self::read(ip.get_source().into(), ip.get_destination().into(), tcp))?
            }
            _ => None,
        }
    }

    fn read(from: IpAddr, to: IpAddr, tcp: &[u8]) -> Option<Self> {
        let tcp = TcpPacket::new(tcp)?;
        let flags = tcp.get_flags();
        let turn = if flags & (TcpFlags::FIN | TcpFlags::RST) != 0 {
            Turn::Ends
        } else if flags & TcpFlags::SYN != 0 {
            Turn::Begins
        } else {
            Turn::GoesOn
        };
        Some(Self { to, flow: (from, tcp.get_source(), tcp.get_destination()), turn })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn frame(flags: u8) -> Vec<u8> {
        let mut frame = vec![0; 14 + 20 + 20];
        frame[12..14].copy_from_slice(&[8, 0]);
        frame[14] = 0x45;
        frame[23] = 6;
        frame[26..34].copy_from_slice(&[10, 0, 0, 1, 10, 0, 0, 2]);
        frame[34..38].copy_from_slice(&[0x30, 0x39, 0, 80]);
        frame[46] = 0x50;
        frame[47] = flags;
        frame
    }

    #[test]
    fn flags_tell_what_a_segment_means() {
        let cases =
            [(0x02, Turn::Begins), (0x10, Turn::GoesOn), (0x18, Turn::GoesOn), (0x11, Turn::Ends), (4, Turn::Ends)];
        for (flags, turn) in cases {
            let flow = ([10, 0, 0, 1].into(), 12_345, 80);
            let expected = Segment { to: [10, 0, 0, 2].into(), flow, turn };
            assert_eq!(Segment::decode(&frame(flags)), Some(expected), "{flags:#x}");
        }
    }

    #[test]
    fn what_is_no_segment_is_left_alone() {
        let mut udp = frame(2);
        udp[23] = 17;
        let mut fragment = frame(2);
        fragment[21] = 8;
        for bytes in [&udp[..], &fragment, &frame(2)[..40], &[]] {
            assert_eq!(Segment::decode(bytes), None);
        }
    }

    #[test]
    fn a_segment_of_ipv6_is_read() {
        let mut frame = vec![0; 14 + 40 + 20];
        frame[12..14].copy_from_slice(&[0x86, 0xdd]);
        frame[14] = 0x60;
        frame[20] = 6;
        frame[53] = 9;
        frame[66] = 0x50;
        frame[67] = 2;
        let read = Segment::decode(&frame).unwrap();
        assert_eq!((read.to, read.turn), ("::9".parse().unwrap(), Turn::Begins));
    }
}
