//! The PROXY protocol: as a receiver versions 1 and 2, who the client of a load balancer before us is; as a sender
//! version 1.
//!
//! Specification: <https://www.haproxy.org/download/3.0/doc/proxy-protocol.txt>. The parser has no input or output
//! and takes nothing that the specification doesn't allow, since whoever gets a header past it chooses the address
//! that everything else trusts.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};

use thiserror::Error;

const V2_SIGNATURE: &[u8; 12] = b"\r\n\r\n\0\r\nQUIT\n";
const V1_SIGNATURE: &[u8; 6] = b"PROXY ";
/// Longest line of version 1, `\r\n` included.
const V1_MAX: usize = 107;
/// Longest part behind the fixed header of version 2. The largest address takes 216 bytes; the rest are TLVs.
const V2_MAX: usize = 4096;
const V2_FIXED: usize = 16;

/// Both ends of the connection that the load balancer took.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Addresses {
    /// The client.
    pub source: SocketAddr,
    /// Where the client connected to.
    pub destination: SocketAddr,
}

/// How far the bytes go.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Progress {
    /// More bytes are needed.
    Partial,
    /// The header is complete.
    Complete {
        /// Bytes of the header.
        length: usize,
        /// The addresses; `None` where the load balancer speaks for itself (`LOCAL`, `UNKNOWN`, `AF_UNSPEC`).
        addresses: Option<Addresses>,
    },
}

/// Why a header is refused.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Error)]
pub enum Malformed {
    /// The bytes don't begin with a signature.
    #[error("the connection does not begin with a PROXY header")]
    Missing,
    /// A version 1 line that breaks the grammar.
    #[error("the PROXY line is malformed")]
    Line,
    /// A version 2 header that breaks the layout.
    #[error("the binary PROXY header is malformed")]
    Binary,
}

/// Reads a header from the first bytes of a connection.
pub fn parse(bytes: &[u8]) -> Result<Progress, Malformed> {
    if bytes.starts_with(V2_SIGNATURE) {
        return parse_v2(bytes);
    }
    if bytes.starts_with(V1_SIGNATURE) {
        return parse_v1(bytes);
    }
    if V2_SIGNATURE.starts_with(bytes) || V1_SIGNATURE.starts_with(bytes) {
        return Ok(Progress::Partial);
    }
    Err(Malformed::Missing)
}

/// The line of version 1 that tells an endpoint of a client.
pub(crate) fn line(client: SocketAddr, destination: SocketAddr) -> String {
    let (from, to) = (client.ip().to_canonical(), destination.ip().to_canonical());
    let family = match (from, to) {
        (IpAddr::V4(_), IpAddr::V4(_)) => "TCP4",
        (IpAddr::V6(_), IpAddr::V6(_)) => "TCP6",
        _ => return "PROXY UNKNOWN\r\n".to_owned(),
    };
    format!("PROXY {family} {from} {to} {} {}\r\n", client.port(), destination.port())
}

fn parse_v1(bytes: &[u8]) -> Result<Progress, Malformed> {
    let window = bytes.get(..V1_MAX).unwrap_or(bytes);
    let Some(line_feed) = window.iter().position(|byte| *byte == b'\n') else {
        return if bytes.len() >= V1_MAX { Err(Malformed::Line) } else { Ok(Progress::Partial) };
    };
    let line = window.get(..line_feed).and_then(|line| line.strip_suffix(b"\r")).ok_or(Malformed::Line)?;
    let line = std::str::from_utf8(line).map_err(|_| Malformed::Line)?;
    let length = line_feed + 1;
    let mut words = line.split(' ').skip(1);
    let family = words.next().ok_or(Malformed::Line)?;
    if family == "UNKNOWN" {
        // What follows has to be ignored.
        return Ok(Progress::Complete { length, addresses: None });
    }
    let (Some(source), Some(destination), Some(source_port), Some(destination_port), None) =
        (words.next(), words.next(), words.next(), words.next(), words.next())
    else {
        return Err(Malformed::Line);
    };
    let source = SocketAddr::new(v1_address(family, source)?, v1_port(source_port)?);
    let destination = SocketAddr::new(v1_address(family, destination)?, v1_port(destination_port)?);
    Ok(Progress::Complete { length, addresses: Some(Addresses { source, destination }) })
}

fn v1_address(family: &str, word: &str) -> Result<IpAddr, Malformed> {
    let address = match family {
        "TCP4" => word.parse().map(IpAddr::V4).ok(),
        "TCP6" => word.parse().map(IpAddr::V6).ok(),
        _ => None,
    };
    address.ok_or(Malformed::Line)
}

/// Decimal, without sign and leading zeros.
fn v1_port(word: &str) -> Result<u16, Malformed> {
    let plain = word.bytes().all(|byte| byte.is_ascii_digit()) && (word == "0" || !word.starts_with('0'));
    if plain { word.parse().map_err(|_| Malformed::Line) } else { Err(Malformed::Line) }
}

fn parse_v2(bytes: &[u8]) -> Result<Progress, Malformed> {
    let Some(&[version_command, family, high, low]) = bytes.get(12..V2_FIXED) else {
        return Ok(Progress::Partial);
    };
    let rest = usize::from(u16::from_be_bytes([high, low]));
    if version_command >> 4 != 2 || rest > V2_MAX {
        return Err(Malformed::Binary);
    }
    let local = match version_command & 0xf {
        0 => true,
        1 => false,
        _ => return Err(Malformed::Binary),
    };
    let length = V2_FIXED + rest;
    let Some(block) = bytes.get(V2_FIXED..length) else {
        return Ok(Progress::Partial);
    };
    if local {
        return Ok(Progress::Complete { length, addresses: None });
    }
    let addresses = match family {
        // TCP over IPv4 and IPv6.
        0x11 => Some(v4_block(block).ok_or(Malformed::Binary)?),
        0x21 => Some(v6_block(block).ok_or(Malformed::Binary)?),
        // Unspecified: the receiver uses the connection's own addresses.
        0x00 => None,
        // Datagrams and Unix sockets carry no HTTP from a load balancer.
        _ => return Err(Malformed::Binary),
    };
    Ok(Progress::Complete { length, addresses })
}

fn port(block: &[u8], at: usize) -> Option<u16> {
    Some(u16::from_be_bytes(block.get(at..at + 2)?.try_into().ok()?))
}

fn v4_block(block: &[u8]) -> Option<Addresses> {
    let address = |at: usize| -> Option<Ipv4Addr> {
        let octets: [u8; 4] = block.get(at..at + 4)?.try_into().ok()?;
        Some(octets.into())
    };
    Some(Addresses {
        source: SocketAddr::from((address(0)?, port(block, 8)?)),
        destination: SocketAddr::from((address(4)?, port(block, 10)?)),
    })
}

fn v6_block(block: &[u8]) -> Option<Addresses> {
    let address = |at: usize| -> Option<Ipv6Addr> {
        let octets: [u8; 16] = block.get(at..at + 16)?.try_into().ok()?;
        Some(octets.into())
    };
    Some(Addresses {
        source: SocketAddr::from((address(0)?, port(block, 32)?)),
        destination: SocketAddr::from((address(16)?, port(block, 34)?)),
    })
}

#[cfg(test)]
mod tests;
