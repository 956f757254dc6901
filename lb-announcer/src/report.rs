//! What people see: `/status`, the log, and Problems found at run time.

use std::collections::BTreeMap;
use std::net::IpAddr;
use std::time::Duration;

use landfall_lb_model::announcer::{Cause, Report, Unheard};
use landfall_lb_model::node::NodeFacts;
use landfall_lb_model::plan::{Grant, TakenBy};
use landfall_lb_model::reason;
use landfall_lb_model::silence::{self, Said};
use landfall_lb_model::wire::MacAddr;
use landfall_lb_model::world::World;
use landfall_model::{ObjectKey, ObjectRef, Problem};
use landfall_shared::source::SourceView;
use serde_json::{Value, json};

use crate::Name;
use crate::wire::View;

/// The JSON of `/status`.
pub fn status(
    ready: bool,
    services: &BTreeMap<ObjectKey, Option<Grant>>,
    problems: &[Problem],
    view: &View,
    source: &SourceView,
) -> Value {
    let of = |key: &ObjectKey| -> Vec<&Problem> {
        problems.iter().filter(|p| &*p.object.kind == "Service" && p.object.key == *key).collect()
    };
    let lines: Vec<Value> = services
        .iter()
        .map(|(key, grant)| {
            let ips: Vec<IpAddr> = grant.as_ref().map(|g| g.ips.clone()).unwrap_or_default();
            let announcing: Vec<Value> = ips
                .iter()
                .filter_map(|ip| {
                    let (node, interfaces) = view.announcers.get(ip)?;
                    let interfaces: Vec<&str> = interfaces.iter().map(|i| &**i).collect();
                    Some(json!({"ip": ip, "node": &**node, "interfaces": interfaces}))
                })
                .collect();
            json!({
                "namespace": key.namespace(), "name": key.name(), "addresses": ips,
                "pool": grant.as_ref().map(|g| &*g.pool), "announcing": announcing, "problems": of(key),
            })
        })
        .collect();
    let outer: Vec<&Problem> =
        problems.iter().filter(|p| &*p.object.kind != "Service" || !services.contains_key(&p.object.key)).collect();
    let unheard: BTreeMap<&str, &str> = view.unheard.iter().map(|(peer, why)| (&**peer, why.as_str())).collect();
    let peers: Vec<&str> = view.peers.iter().map(|p| &**p).collect();
    let interfaces: Vec<&str> = view.interfaces.iter().map(|p| &**p).collect();
    json!({
        "ready": ready, "services": lines, "problems": outer, "peers": peers, "interfaces": interfaces,
        "allocates": view.leads, "source": source.describe(), "unheard": unheard,
        "waitsForPort": view.awaited_port,
    })
}

/// Problems with addresses that something on the network uses.
pub fn conflict_problems(world: &World, conflicts: &BTreeMap<IpAddr, (MacAddr, Name)>) -> Vec<Problem> {
    conflicts
        .iter()
        .filter_map(|(ip, (mac, node))| {
            let pool = world.pool_of(*ip)?;
            let object = ObjectRef::new("IPAddressPool", pool.key.clone());
            let cause = format!(
                "a host with MAC address {mac} answers for {ip}, as node {node} saw; no further Service gets it"
            );
            let problem = Problem::new(object, reason::ADDRESS_CONFLICT, cause).at("spec.addresses", ip.to_string());
            Some(problem.remedy("give that host another address, or take this one out of the pool").warning())
        })
        .collect()
}

/// Problems with announced addresses that foreign hosts answer for too.
pub fn contest_problems(world: &World, contested: &BTreeMap<IpAddr, (MacAddr, Name)>) -> Vec<Problem> {
    contested
        .iter()
        .filter_map(|(ip, (mac, node))| {
            let object = ObjectRef::new("IPAddressPool", world.pool_of(*ip)?.key.clone());
            let cause =
                format!("a host with MAC address {mac} answers for {ip}, which node {node} announces and defends");
            let problem = Problem::new(object, reason::ADDRESS_CONFLICT, cause).at("spec.addresses", ip.to_string());
            Some(problem.remedy("give that host another address, or the Service"))
        })
        .collect()
}

/// What is wrong with the network around `node`: heartbeats that don't come, a port that another program has, a device
/// that answers for everybody, two interfaces where one would do.
pub fn network_problems(node: &str, port: u16, view: &View, nodes: &BTreeMap<Name, NodeFacts>) -> Vec<Problem> {
    let about = || ObjectRef::new("Node", ObjectKey::cluster(node));
    let unheard = view.unheard.iter().map(|(peer, why)| {
        let cause = unheard(node, peer, *why, Some(port), nodes);
        Problem::new(about(), reason::HEARTBEATS_BLOCKED, cause).remedy(remedy(*why, Some(port))).warning()
    });
    let proxies = view.proxies.iter().map(|mac| {
        let cause = format!("a device with MAC address {mac} answers for the nodes' own addresses (proxy ARP)");
        let problem = Problem::new(about(), reason::PROXY_ARP, format!("{cause}; its answers are ignored"));
        problem.remedy("turn proxy ARP off on that device, often an access point or a router").warning()
    });
    let port = view.awaited_port.iter().map(|address| {
        let cause = format!("another program has UDP port {}, so this node announces nothing", address.port());
        let remedy = "stop that program; MetalLB's speaker uses the same port. It goes on as soon as the port is free";
        Problem::new(about(), reason::PORT_IN_USE, cause).at("--heartbeat", address.to_string()).remedy(remedy)
    });
    let doubled = view.doubled_interfaces.iter().map(|(a, b)| {
        let cause = format!(
            "interfaces {a} and {b} of node {node} are on one network segment; each address is announced on one of \
             them, on {a} where both suit it"
        );
        let remedy = "name the interfaces to announce on with --interface, or the interfaces of the L2Advertisement";
        Problem::new(about(), reason::SAME_SEGMENT, cause).remedy(remedy).warning()
    });
    unheard.chain(proxies).chain(port).chain(doubled).collect()
}

/// Whose heartbeats don't arrive where, as the speakers say of themselves.
pub fn unheard_problems(world: &World) -> Vec<Problem> {
    let problem = |(node, (peer, why)): (&Name, (&Name, &Unheard))| {
        let about = ObjectRef::new("Node", ObjectKey::cluster(node.clone()));
        let cause = unheard(node, peer, *why, None, world.nodes());
        Problem::new(about, reason::HEARTBEATS_BLOCKED, cause).remedy(remedy(*why, None)).warning()
    };
    let all = world.speakers().unheard().iter().flat_map(|(node, peers)| peers.iter().map(move |peer| (node, peer)));
    all.map(problem).collect()
}

/// The same as said of each Service that has an address: it can still be announced, and takes longer to move.
pub fn slow_failovers(world: &World, unheard: &[Problem]) -> BTreeMap<ObjectKey, Problem> {
    let Some(first) = unheard.first() else { return BTreeMap::new() };
    let more = if unheard.len() > 1 { format!(" (and {} more)", unheard.len() - 1) } else { String::new() };
    let cause = format!("the address moves more slowly to another node: {}{more}", first.cause);
    let problem = |key: &ObjectKey| {
        let problem = Problem::new(ObjectRef::new("Service", key.clone()), reason::HEARTBEATS_BLOCKED, cause.clone());
        (key.clone(), problem.remedy(first.remedy.clone()).warning())
    };
    world.services().keys().map(problem).collect()
}

fn port_name(port: Option<u16>) -> String {
    port.map_or_else(|| "the heartbeats' UDP port (7946 by default)".to_owned(), |port| format!("UDP port {port}"))
}

/// In words: which heartbeats don't arrive, from where to where.
pub fn unheard(node: &str, peer: &str, why: Unheard, port: Option<u16>, nodes: &BTreeMap<Name, NodeFacts>) -> String {
    let port = port_name(port);
    let with_address = |name: &str| match nodes.get(name).and_then(|n| n.addresses.first()) {
        Some(ip) => format!("{name} ({ip})"),
        None => name.to_owned(),
    };
    let (from, to) = (with_address(peer), with_address(node));
    match why {
        Unheard::Blocked => format!("no heartbeat of node {from} arrives at {port} of node {to}"),
        Unheard::NotReached => format!("the heartbeats of node {to} don't arrive at {port} of node {from}"),
        Unheard::OtherKey => format!("the heartbeats of node {from} are made with another key than those of node {to}"),
    }
}

/// What to do about that.
pub fn remedy(why: Unheard, port: Option<u16>) -> String {
    let port = port_name(port);
    match why {
        Unheard::Blocked | Unheard::NotReached => format!(
            "allow {port} between all nodes, in both directions, in their firewalls (ufw, firewalld, nftables) \
             and in the network"
        ),
        Unheard::OtherKey => "give all nodes the same key, and restart the speakers that read another one".to_owned(),
    }
}

/// Problems with addresses that nobody announces, by what the nodes say of them.
pub fn silence_problems<'a>(
    grants: impl Iterator<Item = (&'a ObjectKey, &'a Grant)>,
    said: &BTreeMap<Name, Said>,
) -> Vec<Problem> {
    let mut problems = Vec::new();
    // Mostly nobody has anything to say.
    let said: Vec<(&Name, &Said)> = said.iter().filter(|(_, said)| !said.is_empty()).collect();
    for (service, grant) in grants {
        for ip in &grant.ips {
            let mut said = said.iter().filter_map(|(node, said)| Some((&***node, said.get(ip)?))).peekable();
            if said.peek().is_some() {
                problems.push(silence::problem(service, *ip, said));
            }
        }
    }
    problems
}

/// Problems with addresses of pools that are a node's or a subnet's own.
pub fn reserved_problems(world: &World, reserved: &BTreeMap<IpAddr, TakenBy>) -> Vec<Problem> {
    // That another Service has an address is nothing to mend.
    reserved
        .iter()
        .filter(|(_, by)| !matches!(by, TakenBy::Service(_)))
        .filter_map(|(ip, by)| {
            let pool = world.pool_of(*ip)?;
            let object = ObjectRef::new("IPAddressPool", pool.key.clone());
            let cause = format!("no further Service gets {ip}: {by}");
            let problem = Problem::new(object, reason::RESERVED_ADDRESS, cause).at("spec.addresses", ip.to_string());
            Some(problem.remedy(format!("exclude it with \"!{ip}\"")).warning())
        })
        .collect()
}

/// Everything that can't be given: nodes' and subnets' own addresses, and what foreign hosts have.
pub fn taken(world: &World, view: &View) -> BTreeMap<IpAddr, TakenBy> {
    let mut taken = world.reserved();
    for (ip, (mac, _)) in &view.conflicts {
        taken.insert(*ip, TakenBy::ForeignHost(*mac));
    }
    taken
}

/// Logs what the protocol core reports.
pub fn log(report: &Report, node: &str) {
    match report {
        Report::Took { ip, epoch, cause, silence } => {
            let cause = match cause {
                Cause::Free => "free",
                Cause::Failover => "failover",
                Cause::Handover => "handover",
                Cause::Resumed => "resumed",
            };
            let silence_ms = silence.map(|s| u64::try_from(s.as_millis()).unwrap_or(u64::MAX));
            tracing::info!(%ip, node, epoch, cause, silence_ms, "service has IP, announcing");
        }
        Report::Left { ip, to } => {
            tracing::info!(%ip, node, to = to.as_deref(), "withdrawing service announcement");
        }
        Report::Conflict { ip, mac, defended } => {
            tracing::warn!(%ip, node, %mac, defended, reason = %reason::ADDRESS_CONFLICT, "a foreign host answers for an address");
        }
        Report::Proxy { mac } => {
            tracing::warn!(node, %mac, reason = %reason::PROXY_ARP, "a device answers for the nodes' own addresses");
        }
        Report::ConflictOver { ip } => tracing::info!(%ip, node, "the foreign host has gone"),
        Report::PeerUp(peer) => tracing::info!(node, peer = &**peer, "peer is up"),
        Report::PeerDown(peer) => tracing::info!(node, peer = &**peer, "peer is down"),
        Report::Woke { after } => {
            tracing::warn!(
                node,
                after_ms = u64::try_from(after.as_millis()).unwrap_or(u64::MAX),
                "this process did not run for a while (suspended, or starved of CPU); it checks its addresses again"
            );
        }
    }
}

/// Logs Problems that are new, and those that are over.
#[derive(Debug, Default)]
pub struct ProblemLog {
    known: std::collections::BTreeSet<Problem>,
}

impl ProblemLog {
    /// Takes in all Problems that hold now.
    pub fn update(&mut self, problems: &[Problem]) {
        for problem in problems.iter().filter(|p| !self.known.contains(p)) {
            tracing::warn!(
                kind = &*problem.object.kind,
                namespace = problem.object.key.namespace(),
                name = problem.object.key.name(),
                reason = %problem.reason,
                "{problem}"
            );
        }
        // One whose words have changed is not over.
        let stays = |over: &Problem| problems.iter().any(|p| (&p.object, p.reason) == (&over.object, over.reason));
        let over: std::collections::BTreeSet<_> =
            self.known.iter().filter(|p| !stays(p)).map(|p| (&p.object, p.reason)).collect();
        for (object, reason) in over {
            let (namespace, name) = (object.key.namespace(), object.key.name());
            tracing::info!(kind = &*object.kind, namespace, name, %reason, "this problem is over");
        }
        self.known = problems.iter().cloned().collect();
    }
}

/// Logs once when the API server is lost and once when it is back.
#[derive(Debug, Default)]
pub struct ConnectionLog {
    lost: bool,
    losses: u64,
}

impl ConnectionLog {
    /// How long the connection must have been one or the other before that is said: an API server that starts again
    /// answers for one kind earlier than for the next.
    pub const SETTLES: Duration = Duration::from_secs(1);

    /// Takes in what the source knows now.
    pub fn update(&mut self, source: &SourceView) {
        let lost = source.disconnected_since().is_some();
        if lost == self.lost {
            return;
        }
        self.lost = lost;
        if lost {
            self.losses += 1;
            let described = source.describe();
            let failing = described["failing"].as_object();
            let first = failing.and_then(|f| f.iter().next());
            let (resource, why) =
                first.map_or((None, None), |(part, why)| (Some(part.as_str()), why["error"].as_str()));
            tracing::error!(
                resource,
                error = why,
                "cannot read from the api server; what was last known stays in force"
            );
        } else {
            tracing::info!("reading from the api server again");
        }
    }

    /// How often it was lost.
    pub fn losses(&self) -> u64 {
        self.losses
    }
}
