//! EndpointSlices and Endpoints in parsed form.

use std::collections::{BTreeMap, BTreeSet};
use std::net::{IpAddr, SocketAddr};

use k8s_openapi::api::core::v1::Endpoints;
use k8s_openapi::api::discovery::v1::EndpointSlice;
use landfall_model::{Change, ObjectKey, ObjectRef, Problem};

use super::service::{ParsedService, Port};
use super::set::SmallSet;
use super::store::Store;
use crate::address::usable;
use crate::backend::Transport;
use crate::reason;
use crate::settings::Origin;

/// The label by which a slice belongs to a Service.
const SERVICE_LABEL: &str = "kubernetes.io/service-name";

/// Whether an endpoint takes requests; the better ones come first.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug)]
enum Readiness {
    /// `ready`, or not said: "A nil value should be interpreted as true".
    Ready,
    /// `serving`: not ready, on its way out perhaps, but still answering.
    Serving,
    /// Neither.
    Down,
}

/// Endpoints that share their ports: a slice, or one subset of Endpoints.
#[derive(PartialEq, Debug)]
struct Group {
    ports: Box<[GroupPort]>,
    addresses: Box<[(IpAddr, Readiness)]>,
}

#[derive(PartialEq, Debug)]
struct GroupPort {
    name: Box<str>,
    transport: Transport,
    /// `None`: every port ("If this is not specified, ports are not restricted").
    number: Option<u16>,
}

/// A slice, or Endpoints.
#[derive(PartialEq, Debug)]
struct Source {
    service: ObjectKey,
    groups: Box<[Group]>,
    problems: Box<[Problem]>,
}

/// All slices and Endpoints.
#[derive(Debug)]
pub(crate) struct EndpointStore {
    origin: Origin,
    slices: Store<Source>,
    /// The slices of each Service.
    by_service: BTreeMap<ObjectKey, SmallSet<ObjectKey>>,
    endpoints: Store<Source>,
}

/// What there is for one port of a Service.
#[derive(Debug, Default)]
pub(crate) struct Found {
    /// The addresses to use, sorted, each once.
    pub(crate) addresses: BTreeSet<SocketAddr>,
    /// Whether there is a slice or Endpoints at all.
    pub(crate) has_source: bool,
    /// Endpoints there are, whatever their port and state.
    pub(crate) all: usize,
    /// Whether any source has the port.
    pub(crate) has_port: bool,
    /// What is wrong with the sources.
    pub(crate) problems: Vec<Problem>,
}

impl EndpointStore {
    pub(crate) fn new(origin: Origin) -> Self {
        Self { origin, slices: Store::default(), by_service: BTreeMap::new(), endpoints: Store::default() }
    }

    /// Applies a change and returns the Services it concerns.
    pub(crate) fn slices(&mut self, change: Change<EndpointSlice>) -> Vec<ObjectKey> {
        let origin = self.origin;
        let changed = self.slices.apply(change, |slice| &slice.metadata, |slice, key| parse_slice(slice, key, origin));
        let mut services = Vec::new();
        for (key, old) in changed {
            if let Some(old) = old {
                if let Some(slices) = self.by_service.get_mut(&old.service) {
                    slices.remove(&key);
                    if slices.is_empty() {
                        self.by_service.remove(&old.service);
                    }
                }
                services.push(old.service);
            }
            if let Some(new) = self.slices.get(&key) {
                self.by_service.entry(new.service.clone()).or_default().insert(key);
                services.push(new.service.clone());
            }
        }
        services
    }

    /// Applies a change and returns the Services it concerns.
    pub(crate) fn endpoints(&mut self, change: Change<Endpoints>) -> Vec<ObjectKey> {
        let origin = self.origin;
        let parse = |endpoints: &Endpoints, key: &ObjectKey| parse_endpoints(endpoints, key, origin);
        let changed = self.endpoints.apply(change, |endpoints| &endpoints.metadata, parse);
        changed.into_iter().map(|(key, _)| key).collect()
    }

    /// The addresses for a port of a Service.
    ///
    /// Endpoints count only where the Service has no slice: the control plane mirrors those made by hand into
    /// slices, and what is mirrored must not count twice.
    pub(crate) fn find(&self, service: &ObjectKey, parsed: &ParsedService, port: &Port) -> Found {
        let slices = self.by_service.get(service).into_iter().flatten().filter_map(|key| self.slices.get(key));
        let sources: Vec<&Source> = match slices.collect::<Vec<_>>() {
            slices if slices.is_empty() => self.endpoints.get(service).into_iter().collect(),
            slices => slices,
        };
        let mut found = Found { has_source: !sources.is_empty(), ..Found::default() };
        let mut usable: Vec<(Readiness, SocketAddr)> = Vec::new();
        for source in sources {
            found.problems.extend_from_slice(&source.problems);
            for group in &source.groups {
                found.all += group.addresses.len();
                let Some(number) = group.number(parsed, port) else { continue };
                found.has_port = true;
                let address = |(ip, readiness): &(IpAddr, Readiness)| (*readiness, SocketAddr::new(*ip, number));
                usable.extend(group.addresses.iter().map(address));
            }
        }
        // "serving" stands in only where not a single endpoint is ready (KEP-1672).
        let best = usable.iter().map(|(readiness, _)| *readiness).min().filter(|best| *best != Readiness::Down);
        found.addresses =
            usable.into_iter().filter(|(state, _)| Some(*state) == best).map(|(_, address)| address).collect();
        found
    }
}

impl Group {
    /// The port's number here. Slices and Services are matched by the port's name; in a slice made by hand for a
    /// Service of one port the name is often forgotten.
    fn number(&self, service: &ParsedService, port: &Port) -> Option<u16> {
        let mut meant = self.ports.iter().filter(|candidate| port.is(candidate.transport));
        let found = meant.clone().find(|candidate| candidate.name == port.name).or_else(|| {
            let only = meant.next().filter(|_| meant.next().is_none())?;
            (only.name.is_empty() && service.ports.len() == 1).then_some(only)
        })?;
        Some(found.number.or(port.target).unwrap_or(port.number))
    }
}

fn parse_slice(slice: &EndpointSlice, key: &ObjectKey, origin: Origin) -> Source {
    let service = slice.metadata.labels.as_ref().and_then(|labels| labels.get(SERVICE_LABEL));
    let service = ObjectKey::new(key.namespace(), service.map_or("", String::as_str));
    let object = ObjectRef::new("EndpointSlice", key.clone());
    let mut problems = Vec::new();
    if !matches!(slice.address_type.as_str(), "IPv4" | "IPv6") {
        let cause = "only IP addresses are supported, so its endpoints are not used";
        let problem = Problem::new(object, reason::UNSUPPORTED_ADDRESS_TYPE, cause);
        let remedy = "use IPv4 or IPv6; for a DNS name, create a Service of type ExternalName";
        problems.push(problem.at("addressType", &slice.address_type).remedy(remedy));
        return Source { service, groups: Box::default(), problems: problems.into() };
    }
    let ports = slice.ports.iter().flatten().filter_map(|port| {
        Some(GroupPort {
            name: port.name.as_deref().unwrap_or_default().into(),
            transport: Transport::parse(port.protocol.as_deref().unwrap_or_default())?,
            number: port.port.and_then(|number| u16::try_from(number).ok()),
        })
    });
    let ports = ports.collect();
    let mut addresses = Vec::with_capacity(slice.endpoints.len());
    for (index, endpoint) in slice.endpoints.iter().enumerate() {
        let conditions = endpoint.conditions.as_ref();
        let ready = conditions.and_then(|conditions| conditions.ready).unwrap_or(true);
        let serving = conditions.and_then(|conditions| conditions.serving).unwrap_or(ready);
        let readiness = match (ready, serving) {
            (true, _) => Readiness::Ready,
            (false, true) => Readiness::Serving,
            (false, false) => Readiness::Down,
        };
        // > These are all assumed to be fungible and clients may choose to only use the first element.
        let Some(text) = endpoint.addresses.first() else { continue };
        match address(text, origin) {
            Ok(ip) => addresses.push((ip, readiness)),
            Err(cause) => problems.push(refused(&object, cause, format!("endpoints[{index}].addresses[0]"), text)),
        }
    }
    let groups = [Group { ports, addresses: addresses.into() }].into();
    Source { service, groups, problems: problems.into() }
}

fn parse_endpoints(endpoints: &Endpoints, key: &ObjectKey, origin: Origin) -> Source {
    let service = key.clone();
    let object = ObjectRef::new("Endpoints", service.clone());
    let mut problems = Vec::new();
    let mut groups = Vec::new();
    for (index, subset) in endpoints.subsets.iter().flatten().enumerate() {
        let ports = subset.ports.iter().flatten().filter_map(|port| {
            Some(GroupPort {
                name: port.name.as_deref().unwrap_or_default().into(),
                transport: Transport::parse(port.protocol.as_deref().unwrap_or_default())?,
                number: Some(u16::try_from(port.port).ok()?),
            })
        });
        let ports = ports.collect();
        let ready = subset.addresses.iter().flatten().map(|address| ("addresses", address, Readiness::Ready));
        let not_ready = subset.not_ready_addresses.iter().flatten();
        let not_ready = not_ready.map(|address| ("notReadyAddresses", address, Readiness::Down));
        let mut addresses = Vec::new();
        for (list, entry, readiness) in ready.chain(not_ready) {
            match address(&entry.ip, origin) {
                Ok(ip) => addresses.push((ip, readiness)),
                Err(cause) => problems.push(refused(&object, cause, format!("subsets[{index}].{list}"), &entry.ip)),
            }
        }
        groups.push(Group { ports, addresses: addresses.into() });
    }
    Source { service, groups: groups.into(), problems: problems.into() }
}

fn refused(object: &ObjectRef, cause: String, field: String, value: &str) -> Problem {
    let problem = Problem::new(object.clone(), reason::INVALID_ADDRESS, cause);
    problem.at(field, value).remedy("use an address that every node can reach")
}

/// An endpoint's address.
fn address(text: &str, origin: Origin) -> Result<IpAddr, String> {
    let ip = text.parse::<IpAddr>().map_err(|_| "not an IP address".to_owned())?;
    usable(ip, origin).map_err(|unusable| unusable.to_string())
}
