//! Requests that show whether two controllers answer alike: harmless ones, derived from the rules.

use std::collections::BTreeMap;

use serde::Serialize;

use super::Compiled;
use crate::host::HostPattern;
use crate::table::{Dialect, PathRule, Route};

/// A part of every path and host that no rule is likely to have.
const UNKNOWN: &str = "landfall-compare";

/// How a request is sent.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Scheme {
    /// In the clear.
    Http,
    /// Over TLS.
    Https,
}

impl Scheme {
    /// As in a URL.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Http => "http",
            Self::Https => "https",
        }
    }
}

/// Methods that change nothing (RFC 9110 section 9.2.1).
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug, Serialize)]
#[serde(rename_all = "UPPERCASE")]
pub enum Method {
    /// The page.
    Get,
    /// The head of the page.
    Head,
    /// A preflight, as a browser sends it.
    Options,
}

impl Method {
    /// As in a request line.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Get => "GET",
            Self::Head => "HEAD",
            Self::Options => "OPTIONS",
        }
    }
}

/// One request to both.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Debug)]
pub struct Probe {
    /// Its scheme.
    pub scheme: Scheme,
    /// Its host.
    pub host: String,
    /// Its path.
    pub path: String,
    /// Its method.
    pub method: Method,
    /// The Ingress whose rule it is derived from.
    pub ingress: Option<String>,
}

impl Probe {
    /// The URL.
    pub fn url(&self) -> String {
        format!("{}://{}{}", self.scheme.as_str(), self.host, self.path)
    }
}

/// The requests for the Ingresses of ingress-nginx, at most so many, and how many are left out for that.
///
/// The first ones are for all hosts alike, so that a limit leaves none of them out as a whole.
pub fn probes(compiled: &Compiled, most: usize) -> (Vec<Probe>, usize) {
    let mut by_host: BTreeMap<String, Vec<Probe>> = BTreeMap::new();
    let mut keys: Vec<_> = compiled.compiler.linked.keys().collect();
    keys.sort();
    let linked = keys.into_iter().filter_map(|key| compiled.compiler.linked.get(key));
    for linked in linked.filter(|linked| linked.dialect == Dialect::IngressNginx) {
        for route in linked.routes.iter().map(|linked| &linked.route).filter(|route| route.id.path.is_some()) {
            let host = host_of(&route.id.host);
            of_route(&host, route, by_host.entry(host.clone()).or_default());
        }
    }
    for (host, probes) in &mut by_host {
        both(probes, host, &format!("/{UNKNOWN}-unknown"), Method::Get, None);
    }
    for name in compiled.compiler.table.names.www.keys() {
        both(by_host.entry(name.to_string()).or_default(), &name.to_string(), "/", Method::Get, None);
    }
    let unknown = host_of(&HostPattern::Any);
    both(by_host.entry(unknown.clone()).or_default(), &unknown, "/", Method::Get, None);
    let mut ranked: Vec<(usize, Probe)> = Vec::new();
    for probes in by_host.into_values() {
        let mut kept: Vec<Probe> = Vec::new();
        for probe in probes {
            let is_new = !kept.iter().any(|other| other.url() == probe.url() && other.method == probe.method);
            kept.extend(is_new.then_some(probe));
        }
        ranked.extend(kept.into_iter().enumerate());
    }
    ranked.sort_by_key(|(rank, _)| *rank);
    let left_out = ranked.len().saturating_sub(most);
    (ranked.into_iter().take(most).map(|(_, probe)| probe).collect(), left_out)
}

fn of_route(host: &str, route: &Route, probes: &mut Vec<Probe>) {
    let ingress = Some(route.id.ingress.to_string());
    let literal = literal(route.written.text(route.id.path.as_ref()), route.written.is_regex);
    let bare = literal.trim_end_matches('/');
    let first = if bare.is_empty() { "/" } else { bare };
    both(probes, host, first, Method::Get, ingress.as_ref());
    if !bare.is_empty() {
        both(probes, host, &format!("{bare}/"), Method::Get, ingress.as_ref());
    }
    if matches!(route.id.path, Some(PathRule::Prefix(_))) {
        both(probes, host, &format!("{bare}/{UNKNOWN}/"), Method::Get, ingress.as_ref());
    }
    if route.policy.cors.is_some() {
        both(probes, host, first, Method::Options, ingress.as_ref());
    }
    if bare.is_empty() {
        both(probes, host, first, Method::Head, ingress.as_ref());
    }
}

fn both(probes: &mut Vec<Probe>, host: &str, path: &str, method: Method, ingress: Option<&String>) {
    for scheme in [Scheme::Https, Scheme::Http] {
        probes.push(Probe { scheme, host: host.into(), path: path.into(), method, ingress: ingress.cloned() });
    }
}

/// A host that a pattern takes.
fn host_of(host: &HostPattern) -> String {
    match host {
        HostPattern::Exact(name) => name.to_string(),
        HostPattern::Wildcard(domain) => format!("{UNKNOWN}.{domain}"),
        HostPattern::Any => format!("{UNKNOWN}.invalid"),
    }
}

/// A path that a rule takes: of a regular expression what stands before its first sign.
fn literal(path: &str, is_regex: bool) -> String {
    if !is_regex {
        return path.to_owned();
    }
    let mut literal = String::new();
    let mut letters = path.trim_start_matches('^').chars().peekable();
    while let Some(letter) = letters.next() {
        let repeats = matches!(letters.peek(), Some('*' | '+' | '?' | '{'));
        match letter {
            '\\' => match letters.next() {
                Some(escaped) if !escaped.is_ascii_alphanumeric() => literal.push(escaped),
                _ => break,
            },
            '[' | '(' | '{' | '*' | '+' | '?' | '|' | '$' => break,
            _ if repeats => break,
            letter => literal.push(letter),
        }
    }
    if literal.starts_with('/') { literal } else { format!("/{literal}") }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_path_is_found_for_every_expression() {
        for (path, expected) in [
            ("/api(/|$)(.*)", "/api"),
            ("/(.*)", "/"),
            ("/.*", "/"),
            (r"/v1\.2/x", "/v1.2/x"),
            ("/app/?(.*)", "/app"),
            (r"/user/\d+", "/user/"),
            ("^/a/b$", "/a/b"),
        ] {
            assert_eq!(literal(path, true), expected, "{path}");
        }
        assert_eq!(literal("/a(b)", false), "/a(b)");
    }
}
