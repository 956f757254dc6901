//! The smaller questions of the page: overview, problems, certificates.

use std::collections::{BTreeMap, HashSet};
use std::sync::Arc;
use std::time::UNIX_EPOCH;

use landfall_ingress_model::acme::view::View;
use landfall_ingress_model::table::Table;
use landfall_ingress_model::tls::Certificate;
use landfall_model::{Problem, Severity};
use landfall_shared::admin::{Answer, Query};
use serde::Serialize;
use serde_json::{Value, json};

use super::{Facts, json as text};

/// Problems and certificates that are told of at once.
const MOST: usize = 500;

pub(super) fn overview(facts: &Facts, _: &Query) -> Answer {
    let page = &facts.page;
    let table = page.table.load_full();
    let (generation, since, ingresses, addresses) = page.board.live();
    let problems = page.board.problems();
    let errors = problems.iter().filter(|problem| problem.severity == Severity::Error).count();
    let certificates = all_certificates(&table, page.board.automatic_certificates());
    Answer::Json(text(&json!({
        "program": "landfall-ingress",
        "version": env!("CARGO_PKG_VERSION"),
        "replica": facts.replica,
        "started": facts.started.duration_since(UNIX_EPOCH).unwrap_or_default().as_secs(),
        "now": crate::control::unix_now().as_secs(),
        "ready": page.readiness.is_ready(),
        "awaited": page.readiness.awaited(),
        "generation": generation,
        "liveSince": since,
        "source": page.source.describe(),
        "counts": {
            "ingresses": ingresses,
            "hosts": table.exact.len() + table.wildcard.len(),
            "routes": crate::observe::routes(&table).count(),
            "ports": table.streams.ports.len(),
            "certificates": certificates.len(),
            "errors": errors,
            "warnings": problems.len() - errors,
        },
        "problems": ordered(problems).into_iter().take(20).collect::<Vec<_>>(),
        "certificates": certificates.into_iter().take(8).collect::<Vec<_>>(),
        "addresses": addresses,
        "traffic": page.recent.traffic(),
    })))
}

/// Errors before warnings.
fn ordered(mut problems: Vec<Problem>) -> Vec<Problem> {
    problems.sort_by_key(|problem| std::cmp::Reverse(problem.severity));
    problems
}

/// `/status/problems`.
pub(super) fn problems(facts: &Facts, query: &Query) -> Answer {
    let problems = ordered(facts.page.board.problems());
    let total = problems.len();
    let has = |problem: &Problem, word: &str| problem.to_string().to_ascii_lowercase().contains(word);
    listed(facts, query, "problems", total, problems, |problem, word| {
        has(problem, word) || problem.reason.as_str().to_ascii_lowercase().contains(word)
    })
}

/// A certificate: what is served, and how it is looked after.
#[derive(Clone, Serialize)]
#[serde(rename_all = "camelCase")]
struct Shown {
    namespace: String,
    secret: String,
    names: Vec<String>,
    issuer: Option<String>,
    /// Seconds since the epoch.
    expires: Option<u64>,
    is_default: bool,
    /// Whether it is served.
    is_served: bool,
    /// Where it is ordered automatically.
    acme: Option<View>,
}

/// `/status/certificates`.
pub(super) fn certificates(facts: &Facts, query: &Query) -> Answer {
    let all = all_certificates(&facts.page.table.load_full(), facts.page.board.automatic_certificates());
    let total = all.len();
    listed(facts, query, "certificates", total, all, |shown, word| {
        let text = format!("{}/{} {}", shown.namespace, shown.secret, shown.names.join(" "));
        text.to_ascii_lowercase().contains(word)
    })
}

/// Those that are served and those that are asked for, whichever expires first before the others.
fn all_certificates(table: &Table, automatic: Vec<View>) -> Vec<Shown> {
    let served = &table.certificates;
    let default = served.default.as_ref().map(|default| default.secret.clone());
    let mut views: BTreeMap<(String, String), View> =
        automatic.into_iter().map(|view| ((view.namespace.clone(), view.secret.clone()), view)).collect();
    let mut known = HashSet::new();
    let certificates = served.exact.values().chain(served.wildcard.values()).chain(&served.default);
    let certificates = certificates.filter(|certificate| known.insert(Arc::as_ptr(certificate)));
    let mut shown: Vec<Shown> = certificates
        .map(|certificate: &Arc<Certificate>| {
            let (namespace, secret) = (certificate.secret.namespace().to_owned(), certificate.secret.name().to_owned());
            Shown {
                names: certificate.names.iter().map(ToString::to_string).collect(),
                issuer: certificate.issuer(),
                expires: Some(certificate.not_after.as_secs()),
                is_default: default.as_ref() == Some(&certificate.secret),
                is_served: true,
                acme: views.remove(&(namespace.clone(), secret.clone())),
                namespace,
                secret,
            }
        })
        .collect();
    shown.extend(views.into_values().map(|view| Shown {
        namespace: view.namespace.clone(),
        secret: view.secret.clone(),
        names: view.hosts.iter().map(|host| host.host.clone()).collect(),
        issuer: None,
        expires: view.expires,
        is_default: false,
        is_served: false,
        acme: Some(view),
    }));
    let name = |shown: &Shown| (shown.namespace.clone(), shown.secret.clone());
    shown.sort_by_key(|one| (one.expires, name(one)));
    shown
}

/// A page of a list, of what has every word that is searched for.
fn listed<T: Serialize>(
    facts: &Facts,
    query: &Query,
    name: &str,
    total: usize,
    mut all: Vec<T>,
    has: impl Fn(&T, &str) -> bool,
) -> Answer {
    let search = query.get("search").unwrap_or_default().to_ascii_lowercase();
    all.retain(|one| search.split_whitespace().all(|word| has(one, word)));
    let number = |name, usual| query.get(name).and_then(|text| text.parse::<usize>().ok()).unwrap_or(usual);
    let (offset, limit) = (number("offset", 0), number("limit", 100).min(MOST));
    let mut answer: Value = json!({ "replica": facts.replica, "total": total, "matched": all.len(), "offset": offset });
    answer[name] = json!(all.into_iter().skip(offset).take(limit).collect::<Vec<T>>());
    Answer::Json(answer.to_string())
}
