//! Which of the addresses that Services were given have been announced since.
//!
//! An address that was announced stays with its Service whatever anybody sees on the network. One that was not is as
//! good as any other. What isn't known to be new counts as announced, so that a fact that got lost takes no address
//! away.

use std::collections::{BTreeMap, BTreeSet};
use std::net::IpAddr;
use std::sync::Arc;

use landfall_model::ObjectKey;

use crate::crd::ServiceL2Status;
use crate::moved::{self, Moves};
use crate::plan::Plan;
use crate::service::ServiceFacts;

type Services = BTreeMap<ObjectKey, Arc<ServiceFacts>>;

/// What was given lately, and what nodes announce.
#[derive(Debug, Default)]
pub(super) struct Announced {
    /// What this process's own plans gave and nobody has announced since.
    given: BTreeSet<(ObjectKey, IpAddr)>,
    /// What the Services' conditions may still call new and has been announced.
    seen: BTreeSet<(ObjectKey, IpAddr)>,
    /// The Service of each `ServiceL2Status`.
    now: BTreeMap<ObjectKey, Announcing>,
}

/// That a node announces a Service, as its speaker says.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Announcing {
    /// The Service.
    pub service: ObjectKey,
    /// The node.
    pub node: Arc<str>,
    /// The interfaces; empty: all of the node's.
    pub interfaces: Vec<Arc<str>>,
    /// When the node's speaker wrote it down, in milliseconds since 1970.
    pub since_ms: u64,
    /// The addresses that it announces, and how they came; empty where the speaker says nothing of that.
    pub moves: Moves,
}

impl Announcing {
    /// Since when the node announces this address of the Service; `None` where it doesn't.
    pub fn since_ms(&self, ip: IpAddr) -> Option<u64> {
        if self.moves.is_empty() { Some(self.since_ms) } else { self.moves.get(&ip).map(|moved| moved.since_ms) }
    }
}

impl Announced {
    pub(super) fn clear(&mut self) {
        self.now.clear();
    }

    pub(super) fn set(&mut self, key: ObjectKey, object: &ServiceL2Status) {
        // The object is made before its status is written.
        match object.status.as_ref().filter(|s| !s.service_name.is_empty()) {
            Some(status) => {
                let service = ObjectKey::new(status.service_namespace.as_str(), status.service_name.as_str());
                let interfaces = status.interfaces.iter().map(|interface| interface.name.as_str().into()).collect();
                let made = object.metadata.creation_timestamp.as_ref().map(|time| time.0.as_millisecond());
                let since_ms = made.and_then(|made| u64::try_from(made).ok()).unwrap_or_default();
                let moves = moved::read(object.metadata.annotations.as_ref());
                let node = status.node.as_str().into();
                self.now.insert(key, Announcing { service, node, interfaces, since_ms, moves });
            }
            None => self.gone(&key),
        }
    }

    pub(super) fn gone(&mut self, key: &ObjectKey) {
        self.now.remove(key);
    }

    /// The Services that nodes announce right now.
    pub(super) fn services(&self) -> BTreeSet<ObjectKey> {
        self.now.values().map(|now| now.service.clone()).collect()
    }

    /// Who announces what right now.
    pub(super) fn all(&self) -> impl Iterator<Item = &Announcing> {
        self.now.values()
    }

    /// Who announces this address of the Service. A node without power leaves behind what it said, so the one that came
    /// last is right.
    pub(super) fn of(&self, service: &ObjectKey, ip: IpAddr) -> Option<&Announcing> {
        let all = self.now.values().filter(|now| now.service == *service);
        all.filter_map(|now| Some((now.since_ms(ip)?, now))).max_by_key(|(since, _)| *since).map(|(_, now)| now)
    }

    /// Takes note of what nodes announce right now.
    pub(super) fn note_those_announced(&mut self, services: &Services) {
        let announced = self.services();
        // A speaker announces what stands in the status, not what is about to.
        self.note(services, |service, ip| announced.contains(&service.key) && service.status.contains(&ip));
    }

    /// Takes note of the addresses for which `is_announced` holds.
    pub(super) fn note(&mut self, services: &Services, is_announced: impl Fn(&ServiceFacts, IpAddr) -> bool) {
        for (key, ip) in self.unannounced(services) {
            if services.get(&key).is_some_and(|service| is_announced(service, ip)) {
                self.given.remove(&(key.clone(), ip));
                self.seen.insert((key, ip));
            }
        }
    }

    /// Takes note of what a plan gives and of what it leaves nobody.
    pub(super) fn agree(&mut self, plan: &Plan) {
        let granted = |(key, ip): &(ObjectKey, IpAddr)| plan.grant(key).is_some_and(|g| g.ips.contains(ip));
        self.given.extend(plan.given.iter().cloned());
        self.given.retain(granted);
        self.seen.retain(|pair| granted(pair) && !plan.given.contains(pair));
    }

    /// What Services hold that nobody has announced since they were given it.
    pub(super) fn unannounced(&self, services: &Services) -> BTreeSet<(ObjectKey, IpAddr)> {
        let said = services.values().flat_map(|s| s.unannounced.iter().map(|ip| (s.key.clone(), *ip)));
        self.given.iter().cloned().chain(said).filter(|pair| !self.seen.contains(pair)).collect()
    }
}
