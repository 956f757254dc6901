//! Where an address is, by what the objects of a cluster say.

use std::net::IpAddr;
use std::sync::Arc;

use landfall_model::ObjectKey;

use crate::crd::ServiceL2Status;
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
    /// Since when, as RFC 3339 has it: when the node's speaker wrote that it announces the Service.
    pub since: Option<String>,
    /// The nodes that would take it, the next one first.
    pub standbys: Vec<String>,
}

/// Finds who has `ip`.
pub fn holder(ip: IpAddr, world: &mut World, statuses: &[Arc<ServiceL2Status>]) -> Holder {
    let has = |ips: &[IpAddr]| ips.contains(&ip);
    let services: Vec<ObjectKey> =
        world.services().iter().filter(|(_, service)| has(&service.status)).map(|(key, _)| key.clone()).collect();
    let of_one = |status: &&Arc<ServiceL2Status>| {
        status.status.as_ref().is_some_and(|said| {
            services.iter().any(|key| key.namespace() == said.service_namespace && key.name() == said.service_name)
        })
    };
    let announced = statuses.iter().find(of_one);
    let said = announced.and_then(|status| status.status.as_ref());
    let node = said.map(|said| said.node.clone());
    let since = announced.and_then(|status| status.metadata.creation_timestamp.as_ref());
    let since = since.map(|time| time.0.to_string());
    let interfaces = said.iter().flat_map(|said| &said.interfaces).map(|interface| interface.name.clone()).collect();
    let grants = world.granted_by_status();
    let (duties, _) = world.duties(grants.iter());
    let candidates = duties.get(&ip).into_iter().flat_map(|duty| &duty.candidates);
    let standbys = candidates.map(|candidate| candidate.node.to_string()).filter(|name| node.as_ref() != Some(name));
    let standbys = standbys.collect();
    let pool = world.pool_of(ip).map(|pool| pool.name().to_owned());
    Holder { ip, pool, services, node, interfaces, since, standbys }
}
