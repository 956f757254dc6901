//! What an announcer tells its peers of itself: interfaces, claims and conflicts.

use std::collections::BTreeMap;
use std::net::IpAddr;
use std::sync::Arc;

use pnet_base::MacAddr;

use crate::wire::{Reader, put_text};

/// A node's claim on an address.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Claim {
    /// Grows with each change of owner; the greater one wins.
    pub epoch: u64,
    /// [`crate::wire::heartbeat::name_hash`] of the node that is asked to take over, or 0.
    pub offered_to: u64,
}

/// The document.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub struct State {
    /// The interfaces that can be announced on, with their MAC addresses.
    pub interfaces: Vec<(Arc<str>, MacAddr)>,
    /// The addresses that the node answers for.
    pub claims: BTreeMap<IpAddr, Claim>,
    /// Addresses that a foreign host answered for.
    pub conflicts: BTreeMap<IpAddr, MacAddr>,
    /// Addresses that the node announces and that a foreign host answers for too.
    pub contested: BTreeMap<IpAddr, MacAddr>,
}

impl State {
    /// Writes the document.
    pub fn encode(&self) -> Vec<u8> {
        let mut out = Vec::new();
        put_count(&mut out, self.interfaces.len());
        for (name, mac) in &self.interfaces {
            put_text(&mut out, name);
            out.extend_from_slice(&mac.octets());
        }
        put_count(&mut out, self.claims.len());
        for (ip, claim) in &self.claims {
            put_ip(&mut out, *ip);
            out.extend_from_slice(&claim.epoch.to_be_bytes());
            out.extend_from_slice(&claim.offered_to.to_be_bytes());
        }
        for addresses in [&self.conflicts, &self.contested] {
            put_count(&mut out, addresses.len());
            for (ip, mac) in addresses {
                put_ip(&mut out, *ip);
                out.extend_from_slice(&mac.octets());
            }
        }
        out
    }

    /// Reads the document.
    pub fn decode(bytes: &[u8]) -> Option<Self> {
        let mut reader = Reader::new(bytes);
        let mut state = Self::default();
        for _ in 0..reader.u16()? {
            state.interfaces.push((reader.text()?.into(), mac(&mut reader)?));
        }
        for _ in 0..reader.u16()? {
            let ip = ip(&mut reader)?;
            state.claims.insert(ip, Claim { epoch: reader.u64()?, offered_to: reader.u64()? });
        }
        for addresses in [&mut state.conflicts, &mut state.contested] {
            for _ in 0..reader.u16()? {
                addresses.insert(ip(&mut reader)?, mac(&mut reader)?);
            }
        }
        reader.is_empty().then_some(state)
    }
}

fn put_count(out: &mut Vec<u8>, count: usize) {
    out.extend_from_slice(&u16::try_from(count).unwrap_or(u16::MAX).to_be_bytes());
}

fn put_ip(out: &mut Vec<u8>, ip: IpAddr) {
    match ip {
        IpAddr::V4(ip) => {
            out.push(4);
            out.extend_from_slice(&ip.octets());
        }
        IpAddr::V6(ip) => {
            out.push(6);
            out.extend_from_slice(&ip.octets());
        }
    }
}

fn ip(reader: &mut Reader<'_>) -> Option<IpAddr> {
    match reader.u8()? {
        4 => Some(IpAddr::from(reader.array::<4>()?)),
        6 => Some(IpAddr::from(reader.array::<16>()?)),
        _ => None,
    }
}

fn mac(reader: &mut Reader<'_>) -> Option<MacAddr> {
    Some(MacAddr::from(reader.array::<6>()?))
}
