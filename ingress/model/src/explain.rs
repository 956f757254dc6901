//! Why a request is answered the way it is: the winning rule, and what kept each other one from winning.

mod steps;
mod text;

use std::net::{IpAddr, Ipv4Addr, SocketAddr};

use http::header::{HOST, LOCATION};
use http::{HeaderMap, HeaderName, HeaderValue, Method, StatusCode, Version};
use landfall_model::ObjectKey;
use serde::Serialize;

use crate::acme::challenges::Challenges;
use crate::backend::{AllInUse, Target};
use crate::compiler::Compiler;
use crate::compiler::ingress::ParsedIngress;
use crate::compiler::link::Linked;
use crate::fields::Fields;
use crate::host::{HostName, HostPattern};
use crate::path::CanonicalPath;
use crate::pipeline::{
    Answer, Ask, Connection, Decision, Forward, Live, PipelineSettings, RequestHead, Stage, Tls, TlsSession, Trace,
    decide,
};
use crate::policy::Unlimited;
use crate::reason;
use crate::table::{Action, Dialect, PathRule, Route};

pub use steps::{Outcome, StepTaken};

/// A request to explain.
#[derive(Clone, Debug)]
pub struct Request {
    /// `http` or `https`.
    pub scheme: String,
    /// The host as the client sends it, with a port perhaps; empty for none.
    pub host: String,
    /// The path as the client sends it; a query behind it is not looked at.
    pub path: String,
    /// The method.
    pub method: Method,
    /// The client's address, where access goes by it.
    pub client: Option<IpAddr>,
    /// The fields, for what the backend gets of them. No rule looks at them yet.
    pub headers: HeaderMap,
}

/// What happens to a request, and why.
#[derive(Clone, PartialEq, Eq, Debug, Serialize)]
pub struct Explanation {
    /// The scheme.
    pub scheme: String,
    /// The host that is looked for.
    pub host: String,
    /// The path in the form in which it is matched and forwarded.
    pub path: String,
    /// Why the request is refused with 400 before any rule is looked at.
    pub refused: Option<String>,
    /// The rule that answers; without one, and unless refused, the answer is 404.
    pub winner: Option<Winner>,
    /// What snippets answer in the place of any rule.
    pub answer: Option<String>,
    /// The certificate of an HTTPS request.
    pub certificate: Option<String>,
    /// The steps that the request passed, in their order; the last one ended the passage.
    pub steps: Vec<StepTaken>,
    /// The others, the nearest ones first.
    pub rejected: Vec<Rejected>,
}

/// The rule that answers.
#[derive(Clone, PartialEq, Eq, Debug, Serialize)]
pub struct Winner {
    /// Namespace of the Ingress.
    pub namespace: String,
    /// Name of the Ingress.
    pub ingress: String,
    /// Host of the rule; `*` for none.
    pub host: String,
    /// Type and path of the rule, or `default backend`.
    pub path: String,
    /// Whose rules the Ingress follows: `kubernetes` or `ingress-nginx`.
    pub dialect: &'static str,
    /// Service and port.
    pub backend: Option<String>,
    /// The addresses that requests go to, or the DNS name.
    pub endpoints: Vec<String>,
    /// Which clients the rule is for, where not all are.
    pub access: Option<String>,
    /// What is answered without asking a backend, or what happens first; the target for the backend if it is another.
    pub answer: Option<String>,
    /// What snippets of nginx configuration do to the request, each with its place.
    pub snippets: Vec<String>,
    /// The fields that the backend gets, where the request was given some.
    pub headers: Vec<String>,
}

/// A rule that does not answer.
#[derive(Clone, PartialEq, Eq, Debug, Serialize)]
pub struct Rejected {
    /// Namespace of the Ingress.
    pub namespace: String,
    /// Name of the Ingress.
    pub ingress: String,
    /// Host of the rule; `*` for none.
    pub host: String,
    /// Type and path of the rule, `default backend`, or empty where the whole Ingress is meant.
    pub path: String,
    /// Why it does not answer.
    pub reason: String,
}

impl Explanation {
    /// Whether a rule answers.
    pub fn found(&self) -> bool {
        self.winner.is_some()
    }
}

/// How near a rejected rule came; the nearest are told first.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
enum Nearness {
    Matching,
    SameHost,
    LeftOut,
    OtherHost,
    NotOurs,
}

/// Explains what the table of the last build does with a request.
pub fn explain(compiler: &Compiler, request: &Request) -> Explanation {
    let raw = request.path.split('?').next().unwrap_or_default();
    let mut explanation = Explanation {
        scheme: request.scheme.clone(),
        host: request.host.clone(),
        path: raw.to_owned(),
        refused: None,
        winner: None,
        answer: None,
        certificate: None,
        steps: Vec::new(),
        rejected: Vec::new(),
    };
    let host = match request.host.as_str() {
        "" => None,
        text => match HostName::from_authority(text) {
            Ok(host) => Some(host),
            Err(error) => {
                explanation.refused = Some(error.to_string());
                return explanation;
            }
        },
    };
    let path = match CanonicalPath::parse(if raw.is_empty() { "/" } else { raw }) {
        Ok(path) => path,
        Err(error) => {
            explanation.refused = Some(error.to_string());
            return explanation;
        }
    };
    explanation.host = host.as_ref().map(HostName::to_string).unwrap_or_default();
    explanation.path = path.to_string();
    let (decision, stages) = decision(compiler, request);
    if let Decision::Answer(answer, None) = &decision
        && answer.said.is_some()
    {
        explanation.answer = Some(answer_text(answer, None, request));
    }
    // A snippet may have rewritten the path, so that another rule takes the request than that of the path.
    let decided = match &decision {
        Decision::Forward(forward) => Some(forward.route.clone()),
        Decision::Ask(ask) => Some(ask.route().clone()),
        Decision::Answer(_, route) => route.clone(),
    };
    let found = || compiler.table.find(host.as_ref(), &path).cloned().filter(|_| explanation.answer.is_none());
    let route = decided.or_else(found);
    explanation.steps = steps::told(&stages, &decision, route.as_deref());
    explanation.winner = route.as_ref().map(|route| winner(route, decision, request));
    explanation.certificate = (request.scheme == "https").then(|| certificate(compiler, host.as_ref()));
    let question = Question { compiler, host: host.as_ref(), path: &path, winner: route.as_deref() };
    explanation.rejected = question.rejected();
    explanation
}

fn winner(route: &Route, decision: Decision, request: &Request) -> Winner {
    let (backend, endpoints, unavailable) = match &route.action {
        Action::Forward(backend) => {
            let state = backend.state();
            let endpoints = match &state.target {
                Target::Endpoints(addresses) => addresses.iter().map(ToString::to_string).collect(),
                Target::Dns { name, port } => vec![format!("{name}:{port}")],
            };
            (Some(backend.key.to_string()), endpoints, state.unavailable.clone())
        }
        Action::Unavailable(why) => (None, Vec::new(), Some(why.clone())),
        Action::NotFound => (None, Vec::new(), None),
    };
    let snippets = match &decision {
        Decision::Forward(forward) => forward.snippet.as_deref().map(|snippet| snippet.told().to_vec()),
        Decision::Ask(ask) => ask.snippet().map(|snippet| snippet.told().to_vec()),
        Decision::Answer(..) => None,
    };
    let (answer, headers) = match decision {
        // Who asks is not known, so whether it may is not either.
        Decision::Answer(answer, _)
            if answer.status == StatusCode::FORBIDDEN && answer.said.is_none() && request.client.is_none() =>
        {
            (None, Vec::new())
        }
        Decision::Answer(answer, _) => (Some(answer_text(&answer, unavailable.as_deref(), request)), Vec::new()),
        Decision::Ask(ask) => (Some(ask_text(&ask)), Vec::new()),
        Decision::Forward(forward) if request.headers.is_empty() => (other_target(&forward, request), Vec::new()),
        Decision::Forward(forward) => (other_target(&forward, request), forwarded(&forward, request)),
    };
    let access = route.policy.access.as_deref();
    Winner {
        namespace: route.id.ingress.namespace().to_owned(),
        ingress: route.id.ingress.name().to_owned(),
        host: route.id.host.to_string(),
        path: path_text(route.id.path.as_ref()),
        dialect: match route.dialect {
            Dialect::Kubernetes => "kubernetes",
            Dialect::IngressNginx => "ingress-nginx",
        },
        backend,
        endpoints,
        access: access.map(|access| format!("{access}; 403 for others")),
        answer,
        snippets: snippets.unwrap_or_default(),
        headers,
    }
}

/// What is answered without asking a backend.
fn answer_text(answer: &Answer, unavailable: Option<&str>, request: &Request) -> String {
    let status = answer.status.as_u16();
    let place = answer.headers.iter().find(|(name, _)| name == LOCATION);
    let by = answer.said.map(|said| format!(", by {said}")).unwrap_or_default();
    if let Some((_, place)) = place {
        return format!("{status} to {}{by}", String::from_utf8_lossy(place.as_bytes()));
    }
    if answer.said.is_some() {
        return format!("{status}{by}");
    }
    let page = answer.body.lines().next().and_then(|line| line.split_once(": ")).map(|(_, reason)| reason);
    match (answer.status, unavailable, request.client) {
        (StatusCode::SERVICE_UNAVAILABLE, Some(why), _) => format!("503: {why}"),
        (StatusCode::FORBIDDEN, _, Some(client)) => format!("403: {client} may not use this rule"),
        _ => format!("{status}: {}", page.unwrap_or_default()),
    }
}

/// What has to be found out before the backend is asked.
fn ask_text(ask: &Ask) -> String {
    match ask.question(false) {
        Some(question) => format!("{} is asked whether the request may pass", question.url),
        None => "401, unless the request has a name and a password".to_owned(),
    }
}

/// The target for the backend, where it is another one.
fn other_target(forward: &Forward, request: &Request) -> Option<String> {
    (forward.target != request.path).then(|| format!("the backend gets {}", forward.target))
}

/// What the pipeline decides about a request by this client, without trusted proxies in between, and which steps it
/// passes.
fn decision(compiler: &Compiler, request: &Request) -> (Decision, Vec<Stage>) {
    let client = SocketAddr::new(request.client.unwrap_or(Ipv4Addr::LOCALHOST.into()), 0);
    let tls =
        (request.scheme == "https").then_some(Tls { server_name: None, client: None, session: TlsSession::default() });
    let connection = Connection { client, peer: client, local: client, destination: None, tls };
    let mut headers = request.headers.clone();
    if let Ok(host) = HeaderValue::from_str(&request.host) {
        headers.insert(HOST, host);
    }
    let version = if request.host.is_empty() { Version::HTTP_10 } else { Version::HTTP_11 };
    let head = RequestHead {
        method: &request.method,
        version,
        target: &request.path,
        authority: None,
        headers: &Fields::from(&headers),
    };
    let id = headers.get("x-request-id").cloned().unwrap_or(HeaderValue::from_static("(generated)"));
    let trace = Trace::default();
    let live = Live {
        dice: u64::MAX,
        now: 0,
        instant: std::time::Instant::now(),
        limiter: &Unlimited,
        challenges: &Challenges::default(),
        ejections: &AllInUse,
        trace: Some(&trace),
    };
    let decision = decide(&head, &connection, &compiler.table, &PipelineSettings::default(), &id, &live);
    (decision, trace.stages())
}

/// The fields that the backend gets.
fn forwarded(forward: &Forward, request: &Request) -> Vec<String> {
    let mut headers = request.headers.clone();
    if let Ok(host) = HeaderValue::from_str(&request.host) {
        headers.insert(HOST, host);
    }
    forward.edits.apply(&mut headers);
    let line =
        |(name, value): (&HeaderName, &HeaderValue)| format!("{name}: {}", String::from_utf8_lossy(value.as_bytes()));
    let mut lines: Vec<String> = headers.iter().map(line).collect();
    lines.sort();
    lines
}

fn certificate(compiler: &Compiler, host: Option<&HostName>) -> String {
    let table = &compiler.table.certificates;
    match (table.find(host), &table.default) {
        (Some(found), Some(default)) if found.secret == default.secret => format!("Secret {} (default)", found.secret),
        (Some(found), _) => format!("Secret {}", found.secret),
        (None, _) => "self-signed, since no Secret is for this host".to_owned(),
    }
}

fn path_text(path: Option<&PathRule>) -> String {
    path.map_or("default backend".to_owned(), PathRule::to_string)
}

struct Question<'a> {
    compiler: &'a Compiler,
    host: Option<&'a HostName>,
    path: &'a CanonicalPath,
    winner: Option<&'a Route>,
}

impl Question<'_> {
    fn rejected(&self) -> Vec<Rejected> {
        let mut found: Vec<(Nearness, Rejected)> = Vec::new();
        for (key, stored) in self.compiler.ingresses.iter() {
            match self.compiler.linked.get(key) {
                Some(linked) => self.of_ours(key, linked, &mut found),
                None => found.push((Nearness::NotOurs, self.foreign(key, &stored.parsed))),
            }
        }
        found.sort_by_key(|(nearness, _)| *nearness);
        found.into_iter().map(|(_, rejected)| rejected).collect()
    }

    fn of_ours(&self, key: &ObjectKey, linked: &Linked, found: &mut Vec<(Nearness, Rejected)>) {
        for canary in &linked.canaries {
            let reason = "a canary, which gets some of the requests that another Ingress has a rule for";
            let path = canary.path.0.to_string();
            found.push((Nearness::LeftOut, rejected(key, &canary.host.to_string(), path, reason)));
        }
        for candidate in linked.routes.iter().map(|linked| &*linked.route).chain(linked.default.as_deref()) {
            if self.winner.is_some_and(|winner| std::ptr::eq(winner, candidate)) {
                continue;
            }
            let (nearness, reason) = self.reason(candidate);
            let path = path_text(candidate.id.path.as_ref());
            found.push((nearness, rejected(key, &candidate.id.host.to_string(), path, reason)));
        }
        let left_out = [reason::INVALID_HOST, reason::INVALID_PATH, reason::INVALID_PATH_TYPE];
        for problem in linked.parsed.problems.iter().filter(|problem| left_out.contains(&problem.reason)) {
            let reason = format!("left out: {}", problem.cause);
            found
                .push((Nearness::LeftOut, rejected(key, "", format!("{} {:?}", problem.field, problem.value), reason)));
        }
    }

    fn foreign(&self, key: &ObjectKey, parsed: &ParsedIngress) -> Rejected {
        let verdict = self.compiler.classes.verdict(key, &parsed.class, &self.compiler.settings);
        let hosts: Vec<String> = parsed.rules.iter().map(|rule| rule.host.to_string()).collect();
        let reason = verdict.ours.err().unwrap_or_default();
        rejected(key, &hosts.join(" "), String::new(), format!("not ours: {reason}"))
    }

    fn reason(&self, candidate: &Route) -> (Nearness, String) {
        let id = &candidate.id;
        if !id.host.matches(self.host) {
            return (Nearness::OtherHost, host_reason(&id.host, self.host));
        }
        if let Some(reason) = self.ownership_reason(candidate) {
            return (Nearness::Matching, reason);
        }
        let Some(rule) = &id.path else {
            return (Nearness::Matching, self.default_reason(candidate));
        };
        if !rule.matches(self.path) {
            return (Nearness::SameHost, self.path_reason(rule));
        }
        let Some(winner) = self.winner else { return (Nearness::Matching, "not in the table".to_owned()) };
        let reason = if winner.id.host != id.host {
            format!("host {} is less specific than {}", id.host, winner.id.host)
        } else if winner.id.path.as_ref() == Some(rule) {
            lost(&winner.id.ingress, &id.ingress)
        } else {
            self.shorter_reason(rule, winner)
        };
        (Nearness::Matching, reason)
    }

    /// That the host belongs to another namespace than the rule.
    fn ownership_reason(&self, candidate: &Route) -> Option<String> {
        let asked = HostPattern::Exact(self.host?.clone());
        let owner = self.compiler.owner(&asked).or_else(|| self.compiler.owner(&HostPattern::Any))?;
        let namespace = owner.key.namespace();
        let foreign = namespace != candidate.id.ingress.namespace();
        foreign.then(|| format!("the host belongs to namespace {namespace}, since ingress {} is older", owner.key))
    }

    fn default_reason(&self, candidate: &Route) -> String {
        match self.winner {
            Some(winner) if winner.id.path.is_some() => "a default backend, and a rule takes the request".to_owned(),
            Some(winner) if winner.id.host == candidate.id.host => lost(&winner.id.ingress, &candidate.id.ingress),
            Some(winner) => format!("the default backend of host {} comes first", winner.id.host),
            None => "not in the table".to_owned(),
        }
    }

    fn path_reason(&self, rule: &PathRule) -> String {
        match rule {
            PathRule::Exact(exact) => format!("the path is not exactly {exact}"),
            PathRule::Prefix(prefix) if prefix.len() > self.path.as_str().len() => {
                format!("{prefix} is longer than the path")
            }
            PathRule::Prefix(prefix) => format!("{prefix} is no prefix of the path by elements"),
        }
    }

    /// > precedence is given first to the longest matching path. If two paths are still equally matched, precedence is
    /// > given to paths with an exact path type over prefix path type.
    fn shorter_reason(&self, rule: &PathRule, winner: &Route) -> String {
        match winner.id.path.as_ref() {
            Some(PathRule::Exact(path)) if **path == *self.path.as_str() => {
                format!("Exact {path} comes before {rule}")
            }
            Some(path) => format!("{rule} is shorter than {path}"),
            None => "not in the table".to_owned(),
        }
    }
}

fn host_reason(pattern: &HostPattern, host: Option<&HostName>) -> String {
    match (pattern, host) {
        (_, None) => "the request has no host".to_owned(),
        (HostPattern::Wildcard(domain), Some(host)) if host.as_str().ends_with(domain.as_str()) => {
            format!("host differs: {pattern} is for exactly one label before {domain}")
        }
        _ => "host differs".to_owned(),
    }
}

fn lost(winner: &ObjectKey, loser: &ObjectKey) -> String {
    if winner == loser {
        "the same path stands in this Ingress before it".to_owned()
    } else {
        format!("lost the conflict to {winner}, which is older")
    }
}

fn rejected(key: &ObjectKey, host: &str, path: String, reason: impl Into<String>) -> Rejected {
    Rejected {
        namespace: key.namespace().to_owned(),
        ingress: key.name().to_owned(),
        host: host.to_owned(),
        path,
        reason: reason.into(),
    }
}
