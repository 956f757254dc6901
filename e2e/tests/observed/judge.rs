//! Whether an answer is one that is wanted, and if not, the first difference.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::atomic::Ordering;

use landfall_e2e::figures;
use regex::Regex;
use serde_json::Value;

use crate::case::{Expect, Request, Saw, Statuses};
use crate::client::{Answer, Exchange, Outcome};
use crate::echo::{SEEN, Seen};
use crate::pki::{self, Pki};

/// The value that every answer over TLS has unless it is told otherwise.
const HSTS: (&str, &str) = ("Strict-Transport-Security", "max-age=31536000; includeSubDomains");

/// Fields that must not be there unless they are named, and beginnings of such.
const ABSENT: [&str; 5] = ["location", "set-cookie", "refresh", "content-encoding", "access-control-"];

/// What is known of one exchange.
pub(crate) struct Observed<'a> {
    pub(crate) exchange: &'a Exchange,
    /// What services got meanwhile.
    pub(crate) seen: &'a [Seen],
    pub(crate) pki: &'a Pki,
    /// Whether the world has HSTS as it is by default.
    pub(crate) hsts: bool,
}

/// How much of what is not said counts.
#[derive(Clone, Copy, PartialEq)]
enum Manner {
    /// Fields that are not named are absent, and services that are not named were not asked.
    Whole,
    /// Only what is said.
    Said,
}

/// `None` if the answer is what is expected, or as good; else the first difference to what is expected.
pub(crate) fn difference(request: &Request, observed: &Observed<'_>) -> Option<String> {
    // A choice of statuses was written by hand, and says no more than it says.
    let manner = match request.expect.meant.status {
        Some(Statuses::Any(_)) => Manner::Said,
        _ => Manner::Whole,
    };
    let difference = compare(&request.expect.meant, request, observed, manner)?;
    let as_good = request.accept.iter().any(|other| compare(&other.meant, request, observed, Manner::Said).is_none());
    (!as_good).then_some(difference)
}

/// Which request of a service this answer answers.
pub(crate) fn answered<'a>(answer: &Answer, seen: &'a [Seen]) -> Option<&'a Seen> {
    let id = match serde_json::from_slice::<Value>(&answer.body) {
        Ok(said) => said["seen"].as_u64(),
        Err(_) if answer.values("content-encoding").next().is_some() => {
            answer.values(SEEN).next().and_then(|id| id.parse().ok())
        }
        Err(_) => None,
    };
    seen.iter().find(|seen| u64::try_from(seen.id).is_ok_and(|known| Some(known) == id))
}

fn compare(expect: &Expect, request: &Request, observed: &Observed<'_>, manner: Manner) -> Option<String> {
    let answer = match (&observed.exchange.result, expect.error.as_deref()) {
        (Outcome::Answer(answer), None) => answer,
        (Outcome::Handshake, None) => return certificate(expect, observed),
        (Outcome::Closed, Some("closed")) | (Outcome::Tls(_), Some("tls")) | (Outcome::Silence, Some("silence")) => {
            return others(expect, None, observed.seen, manner);
        }
        (Outcome::Answer(answer), Some(error)) => return Some(format!("{} instead of {error}", answer.status)),
        (other, wanted) => {
            let wanted = wanted.map_or_else(|| text(expect.status.as_ref()), str::to_owned);
            return Some(format!("{other:?} instead of {wanted}"));
        }
    };
    status(expect, answer)
        .or_else(|| certificate(expect, observed))
        .or_else(|| answered_by(expect, answer, observed.seen, manner))
        .or_else(|| named(&expect.headers, answer, request.tls && observed.hsts))
        .or_else(|| if manner == Manner::Whole { unnamed(expect, request, answer) } else { None })
        .or_else(|| others(expect, answered(answer, observed.seen), observed.seen, manner))
        .or_else(|| rest(expect, answer, observed.exchange))
}

fn text(statuses: Option<&Statuses>) -> String {
    match statuses {
        Some(Statuses::One(status)) => status.to_string(),
        Some(Statuses::Any(statuses)) => format!("one of {statuses:?}"),
        None => "an answer".to_owned(),
    }
}

fn status(expect: &Expect, answer: &Answer) -> Option<String> {
    let right = match &expect.status {
        Some(Statuses::One(status)) => *status == answer.status,
        Some(Statuses::Any(statuses)) => statuses.contains(&answer.status),
        None => true,
    };
    (!right).then(|| format!("status {} instead of {}", answer.status, text(expect.status.as_ref())))
}

fn certificate(expect: &Expect, observed: &Observed<'_>) -> Option<String> {
    let exchange = observed.exchange;
    if let Some(wanted) = &expect.certificate {
        let Some(certificate) = &exchange.certificate else { return Some("there is no certificate".to_owned()) };
        let names = pki::dns_names(certificate);
        let wanted_names = || wanted.split(", ").map(|name| name.trim_start_matches("DNS:").to_owned());
        let right = match wanted.as_str() {
            "fake" => !observed.pki.has_issued(certificate),
            _ => wanted_names().collect::<BTreeSet<_>>() == names,
        };
        if !right {
            return Some(format!("certificate of {names:?} instead of {wanted}"));
        }
    }
    if let Some(wanted) = &expect.certificate_cn {
        let name = exchange.certificate.as_ref().map(pki::common_name).unwrap_or_default();
        if name != *wanted {
            return Some(format!("certificate's common name {name:?} instead of {wanted:?}"));
        }
    }
    let alpn = expect.alpn.as_ref().filter(|wanted| Some(*wanted) != exchange.alpn.as_ref());
    alpn.map(|wanted| format!("alpn {:?} instead of {wanted}", exchange.alpn))
}

/// Who answered, and what it was asked.
fn answered_by(expect: &Expect, answer: &Answer, seen: &[Seen], manner: Manner) -> Option<String> {
    let found = answered(answer, seen);
    let (Some(wanted), Some(seen)) = (&expect.served_by, found) else {
        return match (&expect.served_by, found) {
            (Some(wanted), None) => Some(format!("our own answer instead of one of {wanted}")),
            (None, Some(seen)) if manner == Manner::Whole => {
                Some(format!("an answer of {} instead of our own", seen.service))
            }
            _ => None,
        };
    };
    if **wanted != *seen.service {
        return Some(format!("served by {} instead of {wanted}", seen.service));
    }
    for (what, wanted, found) in
        [("path", &expect.upstream_path, &seen.path), ("method", &expect.upstream_method, &seen.method)]
    {
        if let Some(wanted) = wanted.as_ref().filter(|wanted| *wanted != found) {
            return Some(format!("upstream {what} {found:?} instead of {wanted:?}"));
        }
    }
    let difference = fields(&expect.upstream_headers, &seen.headers, "upstream ");
    difference.or_else(|| {
        let mut others = seen.headers.iter().filter(|(name, _)| !is_named(&expect.upstream_headers, name));
        let (name, value) = others.next().filter(|_| expect.no_other_upstream_headers)?;
        Some(format!("upstream {name} {value:?} instead of none"))
    })
}

fn is_named(fields: &BTreeMap<String, Value>, name: &str) -> bool {
    fields.keys().any(|named| named.eq_ignore_ascii_case(name))
}

/// The first of the named fields that differs.
fn fields(wanted: &BTreeMap<String, Value>, headers: &[(String, String)], of: &str) -> Option<String> {
    wanted.iter().find_map(|(name, wanted)| {
        let values = headers.iter().filter(|(found, _)| found.eq_ignore_ascii_case(name));
        let mut values: Vec<&str> = values.map(|(_, value)| value.as_str()).collect();
        let mut wanted = wanted.clone();
        if name.eq_ignore_ascii_case("x-request-id") && !wanted.is_null() {
            // How often it is there is free.
            values.dedup();
            if let Value::Array(several) = &wanted {
                wanted = several.first().cloned().unwrap_or_default();
            }
        }
        (!matches(&wanted, &values)).then(|| {
            let found = if values.is_empty() { "absent".to_owned() } else { format!("{values:?}") };
            let wanted = if wanted.is_null() { "absent".to_owned() } else { wanted.to_string() };
            format!("{of}{name} {found} instead of {wanted}")
        })
    })
}

/// The named fields of an answer. HSTS may be where nginx forgets it, but with the right value only.
fn named(wanted: &BTreeMap<String, Value>, answer: &Answer, hsts: bool) -> Option<String> {
    let mut wanted = wanted.clone();
    if hsts && answer.values(HSTS.0).eq([HSTS.1]) {
        wanted.retain(|name, value| !(name.eq_ignore_ascii_case(HSTS.0) && value.is_null()));
    }
    fields(&wanted, &answer.headers, "")
}

/// A field that is not named and should not be there.
fn unnamed(expect: &Expect, request: &Request, answer: &Answer) -> Option<String> {
    let found = answer.headers.iter().find(|(name, value)| {
        let lower = name.to_ascii_lowercase();
        let watched =
            ABSENT.iter().any(|absent| lower == *absent || absent.ends_with('-') && lower.starts_with(absent));
        // Whatever a service sets is its own.
        let hsts =
            lower == HSTS.0.to_ascii_lowercase() && !request.path.contains(HSTS.0) && (!request.tls || value != HSTS.1);
        (watched || hsts) && !is_named(&expect.headers, name)
    });
    found.map(|(name, value)| format!("{name} {value:?} instead of none"))
}

/// Whether the values of one field are what is wanted.
fn matches(wanted: &Value, values: &[&str]) -> bool {
    match wanted {
        Value::Null => values.is_empty(),
        Value::String(text) if text == "*" => true,
        Value::Array(several) if several.iter().all(Value::is_object) => cookies(several, values),
        Value::Array(several) => {
            several.len() == values.len() && several.iter().zip(values).all(|(wanted, value)| one(wanted, value))
        }
        wanted => values.len() == 1 && one(wanted, values[0]),
    }
}

fn one(wanted: &Value, value: &str) -> bool {
    let Some(wanted) = wanted.as_str() else { return false };
    match wanted.strip_prefix('~') {
        Some(pattern) => Regex::new(pattern).is_ok_and(|pattern| pattern.is_match(value)),
        None => wanted == value,
    }
}

/// Whether each cookie is there once, in any order, and no other.
fn cookies(wanted: &[Value], values: &[&str]) -> bool {
    let mut left = values.to_vec();
    let all = wanted.iter().all(|wanted| {
        let found = left.iter().position(|value| cookie(wanted, value));
        found.map(|found| left.remove(found)).is_some()
    });
    all && left.is_empty()
}

fn cookie(wanted: &Value, value: &str) -> bool {
    let mut parts = value.split(';').map(str::trim);
    let (name, content) = parts.next().and_then(|pair| pair.split_once('=')).unwrap_or_default();
    let mut attributes: Vec<&str> = parts.filter(|part| !part.is_empty()).collect();
    let all = wanted["attributes"].as_array().is_none_or(|wanted| {
        let all = wanted.iter().filter_map(Value::as_str).all(|wanted| {
            let found = attributes.iter().position(|found| match wanted.split_once("=~") {
                Some((name, "")) => found.split('=').next().is_some_and(|found| found.eq_ignore_ascii_case(name)),
                _ => *found == wanted,
            });
            found.map(|found| attributes.remove(found)).is_some()
        });
        all && attributes.is_empty()
    });
    let value = wanted["value"].as_str().is_none_or(|wanted| wanted == "~" || wanted == content);
    all && value && wanted["cookie"].as_str() == Some(name)
}

/// What services got besides the request that was answered.
fn others(expect: &Expect, answered: Option<&Seen>, seen: &[Seen], manner: Manner) -> Option<String> {
    let nobody = BTreeMap::new();
    let wanted = match &expect.others_saw {
        _ if expect.others_saw_any => return None,
        Some(wanted) => wanted,
        None if manner == Manner::Said => return None,
        None => &nobody,
    };
    // Where a service was asked several times, all of them are listed, the answered one too.
    let answered = answered.filter(|seen| !wanted.contains_key(&*seen.service));
    let mut left: Vec<&Seen> = seen.iter().filter(|seen| answered.is_none_or(|one| one.id != seen.id)).collect();
    for (service, wanted) in wanted {
        for wanted in wanted {
            let mine = |seen: &&Seen| *seen.service == **service;
            let found = left.iter().position(|seen| mine(seen) && saw(wanted, seen).is_none());
            let Some(found) = found else {
                let close = left.iter().find(|seen| mine(seen)).and_then(|seen| saw(wanted, seen));
                let close = close.unwrap_or_else(|| "nothing".to_owned());
                return Some(format!("{service} saw {close} instead of {} {}", wanted.method, wanted.path));
            };
            left.remove(found);
        }
    }
    let one = left.first()?;
    Some(format!("{} saw {} {} instead of nothing", one.service, one.method, one.path))
}

/// How a request differs from what another service is said to have got.
fn saw(wanted: &Saw, seen: &Seen) -> Option<String> {
    if wanted.method != seen.method || wanted.path != seen.path {
        return Some(format!("{} {}", seen.method, seen.path));
    }
    let length = seen.length.load(Ordering::Relaxed);
    let difference = wanted.length.filter(|wanted| *wanted != length);
    fields(&wanted.headers, &seen.headers, "")
        .or_else(|| difference.map(|wanted| format!("a body of {length} instead of {wanted} bytes")))
}

fn rest(expect: &Expect, answer: &Answer, exchange: &Exchange) -> Option<String> {
    if answer.cut {
        return Some("the body is cut".to_owned());
    }
    let body = String::from_utf8_lossy(&answer.body);
    if let Some(wanted) = expect.body.as_ref().filter(|wanted| **wanted != body) {
        return Some(format!("body {body:?} instead of {wanted:?}"));
    }
    let took = u64::try_from(exchange.took.as_millis()).unwrap_or(u64::MAX);
    // A little less is the clock's, and more is a busy machine's.
    // On a busy machine an answer may be late, but never early.
    let slack = if figures::held_to_budgets() { 600 } else { 10_000 };
    let wanted = expect.took_ms.filter(|wanted| took + 50 < *wanted || took > *wanted + slack)?;
    Some(format!("took {took} ms instead of {wanted}"))
}

#[cfg(test)]
mod tests;
