//! Where an address is, by what the objects of a cluster say.

use std::net::IpAddr;

use landfall_model::ObjectKey;

use crate::moved::Moved;
use crate::world::World;

/// Who has an address.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Holder {
    /// The address.
    pub ip: IpAddr,
    /// The pool that has it.
    pub pool: Option<String>,
    /// The Services that have it.
    pub services: Vec<ObjectKey>,
    /// The node that announces it.
    pub node: Option<String>,
    /// The interfaces that it is announced on; empty: all that the speaker uses.
    pub interfaces: Vec<String>,
    /// Since when, in milliseconds since 1970.
    pub since_ms: Option<u64>,
    /// How it came there, as the node's speaker says.
    pub moved: Option<Moved>,
    /// The nodes that would take it, the next one first.
    pub standbys: Vec<String>,
}

/// Finds who has `ip`.
pub fn holder(ip: IpAddr, world: &mut World) -> Holder {
    let has = |ips: &[IpAddr]| ips.contains(&ip);
    let services: Vec<ObjectKey> =
        world.services().iter().filter(|(_, service)| has(&service.status)).map(|(key, _)| key.clone()).collect();
    let announcing = services.iter().find_map(|key| world.announcer(key, ip)).cloned();
    let node = announcing.as_ref().map(|now| now.node.to_string());
    let since_ms = announcing.as_ref().and_then(|now| now.since_ms(ip)).filter(|since| *since > 0);
    let interfaces = announcing.iter().flat_map(|now| &now.interfaces).map(ToString::to_string).collect();
    let moved = announcing.and_then(|now| now.moves.get(&ip).cloned());
    let grants = world.granted_by_status();
    let (duties, _) = world.duties(grants.iter());
    let candidates = duties.get(&ip).into_iter().flat_map(|duty| &duty.candidates);
    let standbys = candidates.map(|candidate| candidate.node.to_string()).filter(|name| node.as_ref() != Some(name));
    let standbys = standbys.collect();
    let pool = world.pool_of(ip).map(|pool| pool.name().to_owned());
    Holder { ip, pool, services, node, interfaces, since_ms, moved, standbys }
}
