//! Classic BPF programs that let a packet socket see only what concerns the announcer.
//!
//! The kernel runs them before it copies or queues anything, so that other traffic on a busy interface never wakes
//! the process. A load beyond the end of a frame makes the program drop it, so short frames need no check here.

use nix::libc;
use pnet_base::MacAddr;
use socket2::SockFilter;

use super::packet::SNAPSHOT;

/// How many values [`Program::accept_any`] compares in the kernel before it leaves the choice to the reader.
///
/// Each value costs two instructions in each of at most two places; 500 values take 2,000 of the kernel's
/// limit of 4,096 instructions (`BPF_MAXINSNS`).
pub(super) const MOST_VALUES: usize = 500;

const LOAD_WORD: u16 = code(libc::BPF_LD | libc::BPF_W | libc::BPF_ABS);
const LOAD_HALF: u16 = code(libc::BPF_LD | libc::BPF_H | libc::BPF_ABS);
const LOAD_BYTE: u16 = code(libc::BPF_LD | libc::BPF_B | libc::BPF_ABS);
const JUMP_EQUAL: u16 = code(libc::BPF_JMP | libc::BPF_JEQ | libc::BPF_K);
const JUMP_GREATER: u16 = code(libc::BPF_JMP | libc::BPF_JGT | libc::BPF_K);
const RETURN: u16 = code(libc::BPF_RET | libc::BPF_K);

/// Where the kernel keeps the packet type for filters: `SKF_AD_OFF + SKF_AD_PKTTYPE`.
const PACKET_TYPE: u32 = (libc::SKF_AD_OFF + libc::SKF_AD_PKTTYPE).cast_unsigned();
/// `PACKET_HOST`, `PACKET_BROADCAST` and `PACKET_MULTICAST` are 0 to 2; from `PACKET_OTHERHOST` on come frames for
/// others (also those of a VLAN that has an interface of its own) and our own on their way out.
const LAST_FOR_US: u32 = 2;

/// A filter program under construction; every condition either drops the frame or goes on to the next.
pub(super) struct Program(Vec<SockFilter>);

impl Program {
    /// Drops what isn't addressed to this interface and what it sent itself, also when a switch reflects it.
    pub(super) fn incoming(own: MacAddr) -> Self {
        let mut program = Self(Vec::new());
        program.push(LOAD_BYTE, PACKET_TYPE);
        program.0.push(SockFilter::new(JUMP_GREATER, 0, 1, LAST_FOR_US));
        program.drop();
        let [front @ .., fifth, sixth] = own.octets();
        program.push(LOAD_WORD, 6);
        program.0.push(SockFilter::new(JUMP_EQUAL, 0, 3, u32::from_be_bytes(front)));
        program.push(LOAD_HALF, 10);
        program.0.push(SockFilter::new(JUMP_EQUAL, 0, 1, u32::from(u16::from_be_bytes([fifth, sixth]))));
        program.drop();
        program
    }

    /// Goes on only if the 32 bits at `offset` are `value`.
    pub(super) fn word(mut self, offset: u32, value: u32) -> Self {
        self.push(LOAD_WORD, offset);
        self.require(&[value]);
        self
    }

    /// Goes on only if the 16 bits at `offset` are one of `values`.
    pub(super) fn half(mut self, offset: u32, values: &[u32]) -> Self {
        self.push(LOAD_HALF, offset);
        self.require(values);
        self
    }

    /// Goes on only if the byte at `offset` is one of `values`.
    pub(super) fn byte(mut self, offset: u32, values: &[u32]) -> Self {
        self.push(LOAD_BYTE, offset);
        self.require(values);
        self
    }

    /// Accepts everything that has come this far.
    pub(super) fn accept(mut self) -> Vec<SockFilter> {
        self.push(RETURN, SNAPSHOT);
        self.0
    }

    /// Accepts frames that have one of the values in the 32 bits at their offset, and drops the others.
    ///
    /// With more than [`MOST_VALUES`] values at one offset everything is accepted: the reader has to look anyway.
    pub(super) fn accept_any(mut self, places: &[(u32, &[u32])]) -> Vec<SockFilter> {
        if places.iter().any(|(_, values)| values.len() > MOST_VALUES) {
            return self.accept();
        }
        for (offset, values) in places {
            self.push(LOAD_WORD, *offset);
            for value in *values {
                self.0.push(SockFilter::new(JUMP_EQUAL, 0, 1, *value));
                self.push(RETURN, SNAPSHOT);
            }
        }
        self.drop();
        self.0
    }

    fn push(&mut self, code: u16, k: u32) {
        self.0.push(SockFilter::new(code, 0, 0, k));
    }

    fn drop(&mut self) {
        self.push(RETURN, 0);
    }

    /// Drops the frame unless the accumulator is one of `values`, of which there are never more than a few.
    fn require(&mut self, values: &[u32]) {
        for (index, value) in values.iter().enumerate() {
            let over = u8::try_from(values.len() - index).unwrap_or(u8::MAX);
            self.0.push(SockFilter::new(JUMP_EQUAL, over, 0, *value));
        }
        self.drop();
    }
}

/// The codes of classic BPF fit into 16 bits by definition of `struct sock_filter`.
#[allow(clippy::cast_possible_truncation)]
const fn code(bits: u32) -> u16 {
    bits as u16
}
