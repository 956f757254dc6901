//! The heartbeat between announcers, authenticated with HMAC-SHA256 (RFC 2104).
//!
//! Each packet repeats the last sequence number that its sender got from the receiver. So a receiver knows that a
//! packet is fresh without any clock, and one that was recorded earlier proves nothing.

use std::sync::Arc;

use hmac::{Hmac, Mac};
use sha2::Sha256;

use crate::wire::{Reader, put_text};

const MAGIC: [u8; 4] = *b"LFH1";
const TAG: usize = 32;
/// Bytes of a document in one packet: with everything else below the least MTU of IPv6.
pub const CHUNK: usize = 900;
/// Peers of which a packet says how long ago they were heard.
const MAX_HEARD: usize = 64;

/// The shared secret.
#[derive(Clone)]
pub struct Key([u8; 32]);

impl Key {
    /// Reads 64 hexadecimal digits.
    pub fn parse(text: &str) -> Option<Self> {
        let text = text.trim().as_bytes();
        if text.len() != 64 {
            return None;
        }
        let mut key = [0; 32];
        for (byte, digits) in key.iter_mut().zip(text.chunks(2)) {
            *byte = u8::from_str_radix(std::str::from_utf8(digits).ok()?, 16).ok().filter(|_| digits[0] != b'+')?;
        }
        Some(Self(key))
    }

    /// The key with these bytes.
    pub fn new(bytes: [u8; 32]) -> Self {
        Self(bytes)
    }

    fn mac(&self, bytes: &[u8]) -> Hmac<Sha256> {
        let mut mac = Hmac::<Sha256>::new_from_slice(&self.0).expect("HMAC takes a key of any length");
        mac.update(bytes);
        mac
    }
}

impl std::fmt::Debug for Key {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Key(..)")
    }
}

/// What the sender is about to do.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Phase {
    /// It has just begun and takes nothing yet.
    Starting,
    /// It can take addresses, but has come up a moment ago: others go first.
    Fresh,
    /// It can take addresses.
    Ready,
    /// It hands over what it has.
    Draining,
    /// It has stopped: this is its last word.
    Gone,
}

impl Phase {
    /// Whether it can take addresses.
    pub fn takes(self) -> bool {
        matches!(self, Self::Fresh | Self::Ready)
    }
}

/// A document that both sides keep the latest version of.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug)]
pub enum Document {
    /// Interfaces, claims and conflicts: [`crate::wire::state::State`].
    State,
    /// Which Service has which address, where there is no API server to say so.
    Table,
}

/// Versions of both documents.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct Versions {
    /// Of [`Document::State`].
    pub state: u64,
    /// Of [`Document::Table`].
    pub table: u64,
}

impl Versions {
    /// The version of one of them.
    pub fn of(&self, document: Document) -> u64 {
        match document {
            Document::State => self.state,
            Document::Table => self.table,
        }
    }

    /// The version of one of them, to change.
    pub fn of_mut(&mut self, document: Document) -> &mut u64 {
        match document {
            Document::State => &mut self.state,
            Document::Table => &mut self.table,
        }
    }
}

/// A part of a document.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Chunk {
    /// Which document.
    pub document: Document,
    /// Which version of it.
    pub version: u64,
    /// Which part, from 0.
    pub index: u16,
    /// Of how many.
    pub count: u16,
    /// The bytes.
    pub bytes: Vec<u8>,
}

/// A heartbeat.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Heartbeat {
    /// The sending node.
    pub from: Arc<str>,
    /// The node it is for.
    pub to: Arc<str>,
    /// Distinguishes runs of the sender.
    pub incarnation: u64,
    /// Counts packets to this receiver.
    pub sequence: u64,
    /// What the sender is about to do.
    pub phase: Phase,
    /// The sender's latest documents.
    pub versions: Versions,
    /// The receiver's incarnation as the sender knows it.
    pub echo_incarnation: u64,
    /// The last sequence number that the sender got from the receiver.
    pub echo_sequence: u64,
    /// The receiver's documents that the sender has whole.
    pub echo_versions: Versions,
    /// How many milliseconds ago the sender heard others, by [`name_hash`].
    pub heard: Vec<(u64, u16)>,
    /// A part of a document that the receiver lacks.
    pub chunk: Option<Chunk>,
}

/// A short form of a node's name.
pub fn name_hash(name: &str) -> u64 {
    use sha2::Digest;
    let digest = Sha256::digest(name);
    digest.iter().take(8).fold(0, |hash, byte| (hash << 8) | u64::from(*byte))
}

impl Heartbeat {
    /// Writes the packet with its authentication tag.
    pub fn encode(&self, key: &Key) -> Vec<u8> {
        let mut out = Vec::with_capacity(256 + self.chunk.as_ref().map_or(0, |c| c.bytes.len()));
        out.extend_from_slice(&MAGIC);
        put_text(&mut out, &self.from);
        put_text(&mut out, &self.to);
        out.push(match self.phase {
            Phase::Starting => 0,
            Phase::Ready => 1,
            Phase::Draining => 2,
            Phase::Gone => 3,
            Phase::Fresh => 4,
        });
        let numbers = [
            self.incarnation,
            self.sequence,
            self.versions.state,
            self.versions.table,
            self.echo_incarnation,
            self.echo_sequence,
            self.echo_versions.state,
            self.echo_versions.table,
        ];
        for number in numbers {
            out.extend_from_slice(&number.to_be_bytes());
        }
        let heard = &self.heard[..self.heard.len().min(MAX_HEARD)];
        out.push(u8::try_from(heard.len()).unwrap_or(0));
        for (name, age) in heard {
            out.extend_from_slice(&name.to_be_bytes());
            out.extend_from_slice(&age.to_be_bytes());
        }
        if let Some(chunk) = &self.chunk {
            out.push(match chunk.document {
                Document::State => 0,
                Document::Table => 1,
            });
            out.extend_from_slice(&chunk.version.to_be_bytes());
            out.extend_from_slice(&chunk.index.to_be_bytes());
            out.extend_from_slice(&chunk.count.to_be_bytes());
            out.extend_from_slice(&chunk.bytes);
        }
        let tag = key.mac(&out).finalize().into_bytes();
        out.extend_from_slice(&tag);
        out
    }

    /// Whether a packet looks like a heartbeat, whatever key it was made with.
    pub fn claims_to_be(packet: &[u8]) -> bool {
        packet.starts_with(&MAGIC) && packet.len() > MAGIC.len() + TAG
    }

    /// Reads a packet; `None` if it wasn't made with the key or isn't well-formed.
    pub fn decode(packet: &[u8], key: &Key) -> Option<Self> {
        let (body, tag) = packet.split_at_checked(packet.len().checked_sub(TAG)?)?;
        key.mac(body).verify_slice(tag).ok()?;
        let mut reader = Reader::new(body);
        if reader.array()? != MAGIC {
            return None;
        }
        let from = reader.text()?.into();
        let to = reader.text()?.into();
        let phase = match reader.u8()? {
            0 => Phase::Starting,
            1 => Phase::Ready,
            2 => Phase::Draining,
            3 => Phase::Gone,
            4 => Phase::Fresh,
            _ => return None,
        };
        let (incarnation, sequence) = (reader.u64()?, reader.u64()?);
        let versions = Versions { state: reader.u64()?, table: reader.u64()? };
        let (echo_incarnation, echo_sequence) = (reader.u64()?, reader.u64()?);
        let echo_versions = Versions { state: reader.u64()?, table: reader.u64()? };
        let count = reader.u8()?;
        let heard = (0..count).map(|_| Some((reader.u64()?, reader.u16()?))).collect::<Option<Vec<_>>>()?;
        let chunk = if reader.is_empty() { None } else { Some(chunk(&mut reader)?) };
        Some(Self {
            from,
            to,
            incarnation,
            sequence,
            phase,
            versions,
            echo_incarnation,
            echo_sequence,
            echo_versions,
            heard,
            chunk,
        })
    }
}

fn chunk(reader: &mut Reader<'_>) -> Option<Chunk> {
    let document = match reader.u8()? {
        0 => Document::State,
        1 => Document::Table,
        _ => return None,
    };
    let (version, index, count) = (reader.u64()?, reader.u16()?, reader.u16()?);
    (index < count).then(|| Chunk { document, version, index, count, bytes: reader.rest().to_vec() })
}
