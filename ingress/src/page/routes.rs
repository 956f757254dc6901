//! `/status/routes`: the rules in force, a page of them at a time.

use std::fmt::Write as _;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Instant;

use landfall_ingress_model::backend::{Backend, Protocol, Target};
use landfall_ingress_model::policy::Words;
use landfall_ingress_model::table::{Action, Dialect, Route};
use landfall_model::ObjectRef;
use landfall_shared::admin::{Answer, Query};
use serde::Serialize;

use super::{Facts, json};
use crate::balance::Balancers;

/// Rules that are told of at once.
const MOST: usize = 500;
/// Endpoints that are told of one by one, for each rule.
const ENDPOINTS: usize = 32;

#[derive(Serialize)]
#[expect(clippy::struct_field_names, reason = "the names of the JSON")]
struct Routes<'a> {
    replica: &'a str,
    total: usize,
    matched: usize,
    offset: usize,
    routes: Vec<Shown>,
}

/// A rule.
#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct Shown {
    host: String,
    path: String,
    namespace: String,
    ingress: String,
    dialect: &'static str,
    /// What it leads to; `null` where it answers by itself.
    backend: Option<String>,
    protocol: Option<&'static str>,
    /// Why it answers 503, where it does.
    unavailable: Option<String>,
    endpoints: Vec<Endpoint>,
    /// Endpoints that aren't told of.
    more_endpoints: usize,
    asks: Vec<Words>,
    /// File and line, where the Ingress is from a folder.
    source: Option<String>,
}

#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct Endpoint {
    address: String,
    state: State,
    #[serde(skip_serializing_if = "Option::is_none")]
    ejected_for_ms: Option<u64>,
    in_flight: u32,
}

#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
enum State {
    Ready,
    Ejected,
    /// Found by DNS for each request.
    Resolved,
}

pub(super) fn routes(facts: &Facts, query: &Query) -> Answer {
    let table = facts.page.table.load_full();
    let mut routes: Vec<&Arc<Route>> = crate::observe::routes(&table).collect();
    routes.sort_by(|one, other| one.id.cmp(&other.id));
    routes.dedup_by(|one, other| Arc::ptr_eq(one, other));
    let total = routes.len();
    let words: Vec<String> =
        query.get("search").unwrap_or_default().split_whitespace().map(str::to_ascii_lowercase).collect();
    let only_unwell = query.get("show") == Some("unwell");
    let mut text = String::new();
    routes.retain(|route| has(route, &words, &mut text) && (!only_unwell || is_unwell(&facts.page.balancers, route)));
    let number = |name, usual| query.get(name).and_then(|text| text.parse::<usize>().ok()).unwrap_or(usual);
    let (offset, limit) = (number("offset", 0), number("limit", 100).min(MOST));
    let shown = routes.iter().skip(offset).take(limit).map(|route| shown(facts, route)).collect();
    Answer::Json(json(&Routes { replica: &facts.replica, total, matched: routes.len(), offset, routes: shown }))
}

/// Whether every word stands in what is shown of a rule.
fn has(route: &Route, words: &[String], text: &mut String) -> bool {
    if words.is_empty() {
        return true;
    }
    text.clear();
    // Writing to a text can't fail.
    let _ = write!(text, "{}{} {}", route.id.host, path(route), route.id.ingress);
    if let Action::Forward(backend) = &route.action {
        let _ = write!(text, " {}", backend.key);
    }
    text.make_ascii_lowercase();
    words.iter().all(|word| text.contains(&**word))
}

fn path(route: &Route) -> String {
    route.id.path.as_ref().map_or_else(|| "default backend".to_owned(), ToString::to_string)
}

/// Whether requests fail, or an endpoint is left out.
fn is_unwell(balancers: &Balancers, route: &Route) -> bool {
    match &route.action {
        Action::Unavailable(_) => true,
        Action::NotFound => false,
        Action::Forward(backend) => {
            let state = backend.state();
            let now = Instant::now();
            let ejected = || {
                let balancer = balancers.known(backend)?;
                Some(balancer.addresses().any(|address| balancer.is_ejected(address, now)))
            };
            state.unavailable.is_some() || ejected() == Some(true)
        }
    }
}

fn shown(facts: &Facts, route: &Arc<Route>) -> Shown {
    let key = &route.id.ingress;
    let location = facts.page.source.locate(&ObjectRef::new("Ingress", key.clone()));
    let backend = match &route.action {
        Action::Forward(backend) => Some(backend),
        Action::Unavailable(_) | Action::NotFound => None,
    };
    let (protocol, why, endpoints, more_endpoints) =
        backend.map_or((None, None, Vec::new(), 0), |backend| backend_now(&facts.page.balancers, backend));
    Shown {
        host: route.id.host.to_string(),
        path: path(route),
        namespace: key.namespace().to_owned(),
        ingress: key.name().to_owned(),
        dialect: match route.dialect {
            Dialect::Kubernetes => "kubernetes",
            Dialect::IngressNginx => "ingress-nginx",
        },
        backend: backend.map(|backend| backend.key.to_string()),
        protocol,
        unavailable: match &route.action {
            Action::Unavailable(why) => Some(why.to_string()),
            _ => why,
        },
        endpoints,
        more_endpoints,
        asks: route.policy.words(),
        source: location.map(|location| location.to_string()),
    }
}

/// What is known of a backend at this moment.
fn backend_now(
    balancers: &Balancers,
    backend: &Backend,
) -> (Option<&'static str>, Option<String>, Vec<Endpoint>, usize) {
    let state = backend.state();
    let protocol = match state.protocol {
        Protocol::Http => "HTTP/1.1",
        Protocol::H2c => "HTTP/2 in the clear",
        Protocol::Https => "HTTPS",
    };
    let (endpoints, more) = match &state.target {
        Target::Endpoints(addresses) => {
            let (balancer, now) = (balancers.known(backend), Instant::now());
            let endpoint = |address: &SocketAddr| {
                let ejected = balancer.as_ref().and_then(|balancer| balancer.ejected_for(*address, now));
                let known = balancer.as_ref().and_then(|balancer| balancer.stats(*address));
                Endpoint {
                    address: address.to_string(),
                    state: if ejected.is_some() { State::Ejected } else { State::Ready },
                    ejected_for_ms: ejected.map(|left| u64::try_from(left.as_millis()).unwrap_or(u64::MAX)),
                    in_flight: known.map_or(0, |stats| stats.in_flight()),
                }
            };
            let shown = addresses.iter().take(ENDPOINTS).map(endpoint).collect();
            (shown, addresses.len().saturating_sub(ENDPOINTS))
        }
        Target::Dns { name, port } => {
            let address = format!("{name}:{port}");
            (vec![Endpoint { address, state: State::Resolved, ejected_for_ms: None, in_flight: 0 }], 0)
        }
    };
    (Some(protocol), state.unavailable.as_ref().map(ToString::to_string), endpoints, more)
}
