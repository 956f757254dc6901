//! The `ConfigMap`s of TCP and UDP services, as ingress-nginx reads them: `PORT: NAMESPACE/SERVICE:PORT[:PROXY[:PROXY]]`.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use landfall_model::{ObjectKey, ObjectRef, Problem, Reason};

use super::backends::PoolKey;
use super::{Compiler, Effects};
use crate::backend::{BackendKey, PortRef, Protocol, Transport};
use crate::reason;
use crate::settings::{Origin, Settings};
use crate::table::{Dialect, ProxyHeaders, StreamPort, StreamService, Streams};

/// Uses the backends of these ports; no Ingress has this key.
const USER: &str = "tcp and udp services";

/// What the `ConfigMap`s say.
#[derive(Debug, Default)]
pub(super) struct StreamMaps {
    /// Whether something changed since it was last read.
    pub(super) is_stale: bool,
    entries: Vec<Entry>,
    /// What is wrong with the `ConfigMap`s by themselves.
    problems: Vec<Problem>,
}

/// A port and what it leads to.
#[derive(Clone, PartialEq, Debug)]
struct Entry {
    place: Place,
    port: StreamPort,
    pool: PoolKey,
    proxy: ProxyHeaders,
}

/// An entry of a `ConfigMap`, for messages.
#[derive(Clone, PartialEq, Debug)]
struct Place {
    map: ObjectKey,
    name: String,
    value: String,
}

impl Place {
    fn problem(&self, reason: Reason, cause: impl Into<String>, remedy: impl Into<String>) -> Problem {
        let problem = Problem::new(ObjectRef::new("ConfigMap", self.map.clone()), reason, cause);
        problem.at(format!("data[{}]", self.name), &*self.value).remedy(remedy)
    }
}

/// The `ConfigMap`s that the command line names, and for what.
pub(super) fn named(settings: &Settings) -> impl Iterator<Item = (Transport, &ObjectKey)> {
    let maps = [(Transport::Tcp, &settings.tcp_services), (Transport::Udp, &settings.udp_services)];
    maps.into_iter().filter_map(|(transport, map)| Some((transport, map.as_ref()?)))
}

impl Compiler {
    /// Reads the `ConfigMap`s anew if they changed; the ports, if those are others than before.
    pub(super) fn rebuild_streams(&mut self, first: bool, effects: &mut Effects) -> Option<Streams> {
        if !std::mem::take(&mut self.streams.is_stale) && !first {
            return None;
        }
        let (mut entries, mut problems) = (Vec::new(), Vec::new());
        for (transport, map) in named(&self.settings) {
            match self.config_maps.get(map) {
                Some(data) => read_all(transport, map, data, &mut entries, &mut problems),
                None if self.settings.origin == Origin::Folder || self.config_maps.is_absent(map) => {
                    problems.push(absent(transport, map));
                }
                None => {}
            }
        }
        entries.retain(|entry| {
            let clash =
                entry.port.transport == Transport::Tcp && self.settings.reserved_ports.contains(&entry.port.number);
            if clash {
                let cause = format!("the ingress itself listens on {}, so it leads to no Service", entry.port);
                let remedy = "choose another port, or move the ingress with --http, --https or --admin";
                problems.push(entry.place.problem(reason::PORT_CONFLICT, cause, remedy));
            }
            !clash
        });
        effects.problems |= problems != self.streams.problems || entries != self.streams.entries;
        let user = ObjectKey::cluster(USER);
        let streams = self.make_streams(&entries, &user);
        let needed: BTreeSet<&PoolKey> = entries.iter().map(|entry| &entry.pool).collect();
        for entry in self.streams.entries.iter().filter(|entry| !needed.contains(&entry.pool)) {
            self.backends.release(&entry.pool, &user);
            effects.released.insert(entry.pool.clone());
        }
        self.streams.entries = entries;
        self.streams.problems = problems;
        (!streams.is_same(&self.table.streams)).then_some(streams)
    }

    fn make_streams(&mut self, entries: &[Entry], user: &ObjectKey) -> Streams {
        let policy = self.options.streams.clone();
        let mut ports = BTreeMap::new();
        for Entry { port, pool, proxy, .. } in entries {
            let backend = self.backends.acquire(pool, user);
            let service = StreamService { port: *port, backend, proxy: *proxy, policy: policy.clone() };
            // What stays as it is stays the very same one.
            let service = match self.table.streams.ports.get(port) {
                Some(old) if old.is_same(&service) => old.clone(),
                _ => Arc::new(service),
            };
            ports.insert(*port, service);
        }
        Streams { ports, policy }
    }

    /// What is wrong with the `ConfigMap`s and with what they name.
    pub(super) fn stream_problems(&self) -> Vec<Problem> {
        let mut problems = self.streams.problems.clone();
        for entry in &self.streams.entries {
            let Some(pool) = self.backends.get(&entry.pool) else { continue };
            problems.extend(pool.problems.iter().cloned());
            problems.extend(pool.fault.iter().map(|fault| {
                let outcome = format!("so {} is not opened", entry.port);
                let cause = fault.cause.replace("so this path answers 503", &outcome);
                entry.place.problem(fault.reason, cause, fault.remedy.clone())
            }));
        }
        problems
    }

    /// A Problem of a port that can't be listened on, for those who try.
    pub fn stream_problem(&self, port: StreamPort, cause: String, remedy: String) -> Option<Problem> {
        let entry = self.streams.entries.iter().find(|entry| entry.port == port)?;
        Some(entry.place.problem(reason::PORT_UNAVAILABLE, cause, remedy))
    }
}

fn absent(transport: Transport, map: &ObjectKey) -> Problem {
    let cause = format!("there is no such ConfigMap, so no {transport} port is opened");
    let remedy = format!("create it, or correct --{}-services-configmap", transport.as_str().to_ascii_lowercase());
    Problem::new(ObjectRef::new("ConfigMap", map.clone()), reason::UNKNOWN_CONFIG_MAP, cause).remedy(remedy).warning()
}

fn read_all(
    transport: Transport,
    map: &ObjectKey,
    data: &BTreeMap<String, String>,
    entries: &mut Vec<Entry>,
    problems: &mut Vec<Problem>,
) {
    for (name, value) in data {
        let place = Place { map: map.clone(), name: name.clone(), value: value.trim().to_owned() };
        let Some(number) = name.trim().parse().ok().filter(|number: &u16| *number > 0) else {
            let cause = format!("this key is no {transport} port, so the entry is not used");
            problems.push(place.problem(reason::INVALID_CONFIG_MAP, cause, "use a number from 1 to 65535"));
            continue;
        };
        let port = StreamPort { transport, number };
        if entries.iter().any(|entry| entry.port == port) {
            let cause = format!("another key means {port} too, so this entry is not used");
            problems.push(place.problem(reason::INVALID_CONFIG_MAP, cause, "keep one of them"));
            continue;
        }
        match read(&place, port) {
            Ok((entry, remark)) => {
                entries.push(entry);
                problems.extend(remark);
            }
            Err(problem) => problems.push(*problem),
        }
    }
}

/// One entry, and what has no effect in it.
fn read(place: &Place, port: StreamPort) -> Result<(Entry, Option<Problem>), Box<Problem>> {
    let refused = |cause: &str| {
        let (cause, form) = (format!("{cause}, so {port} is not opened"), form(port.transport));
        Box::new(place.problem(reason::INVALID_CONFIG_MAP, cause, format!("write {form}")))
    };
    let mut parts = place.value.split(':');
    let service = parts.next().and_then(ObjectKey::parse).ok_or_else(|| refused("it does not begin with a Service"))?;
    let wanted =
        parts.next().filter(|wanted| !wanted.is_empty()).ok_or_else(|| refused("it names no port of the Service"))?;
    let wanted = if wanted.bytes().all(|byte| byte.is_ascii_digit()) {
        let number = wanted.parse().ok().filter(|number: &u16| *number > 0);
        PortRef::Number(number.ok_or_else(|| refused("the port of the Service is none"))?)
    } else {
        PortRef::Name(wanted.into())
    };
    let words: Vec<&str> = parts.collect();
    if words.len() > 2 {
        return Err(refused("it has too many parts"));
    }
    let says = |index: usize| words.get(index).is_some_and(|word| word.eq_ignore_ascii_case("PROXY"));
    let is_known = |word: &&str| word.is_empty() || word.eq_ignore_ascii_case("PROXY");
    let is_tcp = port.transport == Transport::Tcp;
    let remark = if !is_tcp && words.iter().any(|word| !word.is_empty()) {
        Some("the PROXY protocol is for TCP only, so there is none here")
    } else if words.iter().any(|word| !is_known(word)) {
        Some("the only word that may follow the port is PROXY, so this one has no effect")
    } else {
        None
    };
    let remark = remark.map(|cause| {
        place.problem(reason::INVALID_CONFIG_MAP, cause, format!("write {}", form(port.transport))).warning()
    });
    let proxy = ProxyHeaders { from_client: is_tcp && says(0), to_endpoint: is_tcp && says(1) };
    let pool = PoolKey {
        key: BackendKey { service, port: wanted },
        transport: port.transport,
        // Whatever is spoken there is nobody's business, so no appProtocol is looked at.
        protocol: Some(Protocol::Http),
        dialect: Dialect::IngressNginx,
        via_service: false,
    };
    Ok((Entry { place: place.clone(), port, pool, proxy }, remark))
}

fn form(transport: Transport) -> &'static str {
    match transport {
        Transport::Tcp => {
            "NAMESPACE/SERVICE:PORT, with :PROXY behind it where clients send a PROXY header, and another :PROXY where \
             endpoints want one"
        }
        Transport::Udp => "NAMESPACE/SERVICE:PORT",
    }
}
