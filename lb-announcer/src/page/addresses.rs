//! What the page asks: all addresses, pools and peers, as this node or the controller knows them.

use std::collections::{BTreeMap, BTreeSet};
use std::net::IpAddr;

use landfall_lb_model::plan::Usage;
use landfall_model::{ObjectKey, Problem};
use landfall_shared::admin::{Answer, Query};
use serde::Serialize;
use serde_json::{Value, json};

use super::{Facts, Page, lock};
use crate::Name;
use crate::inputs::Role;
use crate::moves::Move;
use crate::report;
use crate::wire::View;

/// Addresses and problems that are told of at once.
const MOST: usize = 500;

/// An address that a Service has.
#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct Shown {
    ip: IpAddr,
    namespace: String,
    service: String,
    pool: String,
    /// Who announces it, where that is known.
    nodes: Vec<Name>,
    interfaces: Vec<Name>,
    /// MAC addresses that answer for it, where they are known.
    macs: BTreeSet<String>,
    /// Who would take it over, the first choice first.
    standbys: Vec<Name>,
    #[serde(rename = "move")]
    last: Option<Move>,
    /// The MAC address of a foreign host that answers for it.
    contested_by: Option<String>,
    problems: Vec<Problem>,
}

#[derive(Serialize)]
struct Pool {
    name: Name,
    family: &'static str,
    total: f64,
    assigned: f64,
    taken: f64,
}

#[derive(Serialize)]
struct Peer {
    node: Name,
    heard: bool,
    why: Option<String>,
}

pub(super) fn overview(facts: &Facts, _: &Query) -> Answer {
    let (page, view) = (lock(&facts.shown), facts.view.borrow().clone());
    let held = page.services.values().flatten().map(|grant| grant.ips.len()).sum::<usize>();
    let announced = if facts.role == Role::Allocates {
        page.services.keys().filter(|key| page.announcing.contains_key(*key)).count()
    } else {
        view.announcers.len()
    };
    let own = view.announcers.values().filter(|(node, _)| **node == *facts.node).count();
    let errors = page.problems.iter().filter(|problem| problem.severity == landfall_model::Severity::Error).count();
    let mut problems = page.problems.clone();
    problems.sort_by_key(|problem| std::cmp::Reverse(problem.severity));
    Answer::Json(
        json!({
            "program": "landfall-lb-announcer",
            "version": env!("CARGO_PKG_VERSION"),
            "replica": facts.replica(),
            "role": role(facts.role),
            "node": facts.node,
            "started": facts.started,
            "now": super::seconds_now(),
            "ready": facts.readiness.is_ready(),
            "awaited": facts.readiness.awaited(),
            "source": facts.source.describe(),
            "allocates": facts.role == Role::Allocates || view.leads,
            "interfaces": view.interfaces.iter().map(|name| json!({
                "name": name, "mac": view.macs.get(name).map(ToString::to_string),
            })).collect::<Vec<_>>(),
            "waitsForPort": view.awaited_port,
            "heartbeatPort": facts.port,
            "counts": {
                "services": page.services.len(),
                "addresses": held,
                "announced": announced,
                "own": own,
                "waiting": page.services.values().filter(|grant| grant.is_none()).count(),
                "errors": errors,
                "warnings": page.problems.len() - errors,
            },
            "pools": pools(&page.usage),
            "peers": peers(facts, &page, &view),
            "problems": problems.into_iter().take(20).collect::<Vec<_>>(),
        })
        .to_string(),
    )
}

pub(super) fn role(role: Role) -> &'static str {
    match role {
        Role::Allocates => "controller",
        Role::Announces => "speaker",
        Role::Everything => "standalone",
    }
}

fn pools(usage: &BTreeMap<Name, (Usage, Usage)>) -> Vec<Pool> {
    let of = |name: &Name, family, usage: &Usage| Pool {
        name: name.clone(),
        family,
        total: usage.total as f64,
        assigned: usage.assigned as f64,
        taken: usage.taken as f64,
    };
    let both = usage.iter().flat_map(|(name, (four, six))| [of(name, "IPv4", four), of(name, "IPv6", six)]);
    both.filter(|pool| pool.total > 0.0).collect()
}

fn peers(facts: &Facts, page: &Page, view: &View) -> Vec<Peer> {
    let heard = view.peers.iter().map(|peer| Peer { node: peer.clone(), heard: true, why: None });
    let unheard = view.unheard.iter().map(|(peer, why)| Peer {
        node: peer.clone(),
        heard: false,
        why: Some(report::unheard(&facts.node, peer, *why, facts.port, &BTreeMap::new())),
    });
    // Whom nobody misses, since it is gone: it would take an address over once it is back.
    let known: BTreeSet<&Name> = view.peers.iter().chain(view.unheard.keys()).collect();
    let candidates: BTreeSet<&Name> = page.standbys.values().flatten().collect();
    let silent = candidates.into_iter().filter(|node| facts.role != Role::Allocates && !known.contains(node));
    let silent = silent.filter(|node| ***node != *facts.node);
    let silent = silent.map(|node| Peer { node: node.clone(), heard: false, why: Some("it is not there".to_owned()) });
    heard.chain(unheard).chain(silent).collect()
}

/// `/status/addresses`.
pub(super) fn addresses(facts: &Facts, query: &Query) -> Answer {
    let (page, view) = (lock(&facts.shown), facts.view.borrow().clone());
    let mut shown: Vec<Shown> = Vec::new();
    let mut waiting: Vec<Value> = Vec::new();
    for (key, grant) in &page.services {
        let problems = || page.problems.iter().filter(|p| &*p.object.kind == "Service" && p.object.key == *key);
        let Some(grant) = grant else {
            waiting.push(json!({
                "namespace": key.namespace(), "service": key.name(), "problems": problems().collect::<Vec<_>>(),
            }));
            continue;
        };
        for ip in &grant.ips {
            shown.push(address(facts, &page, &view, (key, *ip), &grant.pool, problems().cloned().collect()));
        }
    }
    let total = shown.len();
    let search = query.get("search").unwrap_or_default().to_ascii_lowercase();
    let has = |one: &Shown, word: &str| {
        let nodes = one.nodes.join(" ");
        let macs: Vec<&str> = one.macs.iter().map(String::as_str).collect();
        let text = format!("{} {}/{} {} {nodes} {}", one.ip, one.namespace, one.service, one.pool, macs.join(" "));
        text.to_ascii_lowercase().contains(word)
    };
    shown.retain(|one| search.split_whitespace().all(|word| has(one, word)));
    shown.sort_by_key(|one| one.ip);
    let matched = shown.len();
    let number = |name, usual| query.get(name).and_then(|text| text.parse::<usize>().ok()).unwrap_or(usual);
    let (offset, limit) = (number("offset", 0), number("limit", 100).min(MOST));
    let conflicts: Vec<Value> = view
        .conflicts
        .iter()
        .map(|(ip, (mac, node))| json!({ "ip": ip, "mac": mac.to_string(), "seenBy": node }))
        .collect();
    Answer::Json(
        json!({
            "replica": facts.replica(),
            "role": role(facts.role),
            "total": total, "matched": matched, "offset": offset,
            "addresses": shown.into_iter().skip(offset).take(limit).collect::<Vec<_>>(),
            "waiting": waiting.into_iter().take(MOST).collect::<Vec<_>>(),
            "pools": pools(&page.usage),
            "peers": peers(facts, &page, &view),
            "conflicts": conflicts,
        })
        .to_string(),
    )
}

fn address(
    facts: &Facts,
    page: &Page,
    view: &View,
    (key, ip): (&ObjectKey, IpAddr),
    pool: &str,
    problems: Vec<Problem>,
) -> Shown {
    let (nodes, interfaces): (Vec<Name>, Vec<Name>) = if let Some((node, interfaces)) = view.announcers.get(&ip) {
        (vec![node.clone()], interfaces.clone())
    } else {
        let announcing = page.announcing.get(key).map(Vec::as_slice).unwrap_or_default();
        let interfaces: BTreeSet<Name> = announcing.iter().flat_map(|(_, interfaces)| interfaces.clone()).collect();
        (announcing.iter().map(|(node, _)| node.clone()).collect(), interfaces.into_iter().collect())
    };
    let own = nodes.first().filter(|node| ***node == *facts.node);
    let macs = match own {
        Some(_) => interfaces.iter().filter_map(|name| view.macs.get(name)).map(ToString::to_string).collect(),
        None => nodes.iter().filter_map(|node| page.macs.get(node)).flatten().cloned().collect(),
    };
    let standbys = page.standbys.get(&ip).map(Vec::as_slice).unwrap_or_default();
    Shown {
        ip,
        namespace: key.namespace().to_owned(),
        service: key.name().to_owned(),
        pool: pool.to_owned(),
        standbys: standbys.iter().filter(|node| !nodes.contains(node)).cloned().collect(),
        nodes,
        interfaces,
        macs,
        last: page.moves.get(&ip).cloned().or_else(|| facts.moves.of(ip)),
        contested_by: view.contested.get(&ip).map(|(mac, _)| mac.to_string()),
        problems,
    }
}

/// `/status/problems`.
pub(super) fn problems(facts: &Facts, query: &Query) -> Answer {
    let mut problems = lock(&facts.shown).problems.clone();
    let total = problems.len();
    let search = query.get("search").unwrap_or_default().to_ascii_lowercase();
    let has =
        |problem: &Problem, word: &str| format!("{} {problem}", problem.reason).to_ascii_lowercase().contains(word);
    problems.retain(|problem| search.split_whitespace().all(|word| has(problem, word)));
    problems.sort_by_key(|problem| std::cmp::Reverse(problem.severity));
    let matched = problems.len();
    problems.truncate(MOST);
    Answer::Json(
        json!({ "replica": facts.replica(), "total": total, "matched": matched, "offset": 0, "problems": problems })
            .to_string(),
    )
}
