//! A request on its way to a backend.

use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;

use http::header::SET_COOKIE;
use http::{HeaderMap, HeaderName, HeaderValue, StatusCode};

use super::Answer;
use super::Question;
use super::fields::X_CODE;
use crate::backend::{Backend, BackendState, Balance};
use crate::fields::{Fields, HeaderEdits};
use crate::policy::snippet::Effects;
use crate::policy::{Facts, Permit, UpstreamTls};
use crate::table::{Action, Route};

/// A request that goes to a backend.
#[derive(Clone)]
#[expect(clippy::struct_excessive_bools, reason = "each is a fact of its own")]
pub struct Forward {
    /// The route that took it; its policy has the limits.
    pub route: Arc<Route>,
    /// The backend.
    pub backend: Arc<Backend>,
    /// The backend's state, loaded once for this request.
    pub state: Arc<BackendState>,
    /// Canonical path, and the query as it came.
    pub target: String,
    /// Edits to the request's fields.
    pub edits: HeaderEdits,
    /// The client behind trusted proxies: what affinity, limits and the access log go by.
    pub client: IpAddr,
    /// Whether the client asked to switch protocols and may.
    pub upgrade: bool,
    /// Whether the client came by HTTPS.
    pub secure: bool,
    /// How TLS is spoken with the endpoints, where something is said of it.
    pub upstream_tls: Option<Arc<UpstreamTls>>,
    /// The host as the client wrote it, where the answer may speak of it.
    pub authority: Box<str>,
    /// Fields that the answer gets, whoever makes it.
    pub reply: Vec<(HeaderName, HeaderValue)>,
    /// Cookies that the client gets besides the backend's.
    pub cookies: Vec<HeaderValue>,
    /// Whether it gets them with an error, too.
    pub cookies_with_errors: bool,
    /// The cookie by which the client stays at its endpoint.
    pub affinity: Option<HeaderValue>,
    /// What decides about the endpoint.
    pub key: Option<Key>,
    /// Held while the request counts as one that is under way.
    pub permit: Option<Permit>,
    /// Whether the backend gets no body, since there is none to be had any more.
    pub is_bodiless: bool,
    /// The copy of the request, without its body.
    pub mirror: Option<Box<Question>>,
    /// The same request to the backend that answers in the place of errors, where there is one.
    pub on_error: Option<Box<Forward>>,
    /// Whether it goes to a backend that answers in the place of errors, whose own are left as they are.
    pub is_replacement: bool,
    /// What snippets ask for.
    pub snippet: Option<Box<Effects>>,
}

/// What decides about an endpoint.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Key {
    /// The endpoint that a hash points to.
    Hash(u64),
    /// One of so many that a hash points to.
    Subset(u64, usize),
    /// This endpoint, as long as it is one.
    Endpoint(SocketAddr),
}

impl std::fmt::Debug for Forward {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "Forward({} to {})", self.target, self.backend.key)
    }
}

impl Forward {
    /// The backend, where it is that of a canary of the route.
    pub fn canary(&self) -> Option<&Arc<Backend>> {
        match &self.route.action {
            Action::Forward(main) if !Arc::ptr_eq(main, &self.backend) => Some(&self.backend),
            Action::Forward(_) | Action::Unavailable(_) | Action::NotFound => None,
        }
    }

    /// What happens to the request after an answer with this status, if another one takes its place. `is_ours` is
    /// whether it is an answer of our own.
    pub fn instead_of(&mut self, status: StatusCode, is_ours: bool) -> Option<Box<Forward>> {
        let errors = self.route.policy.errors.as_ref()?;
        if !errors.replaces(status) || !(is_ours || errors.intercepts) {
            return None;
        }
        let mut instead = self.on_error.take()?;
        instead.edits.set.push((X_CODE, HeaderValue::from(status.as_u16())));
        instead.affinity = self.affinity.take();
        Some(instead)
    }

    /// Whether the answer of the backend with this status is to be replaced and nothing has one to replace it with:
    /// then ingress-nginx answers 404 itself.
    pub fn lacks_page(&self, status: StatusCode) -> bool {
        let Some(errors) = &self.route.policy.errors else { return false };
        let is_rule = self.route.policy.manner.misses_pages && self.on_error.is_none();
        is_rule && errors.intercepts && errors.replaces(status) && !self.is_replacement
    }

    /// How an endpoint is chosen, by which key, from how many, and which one it is if that is decided.
    pub fn choice(&self) -> (Balance, Option<u64>, usize, Option<SocketAddr>) {
        let balance = self.route.policy.balance.unwrap_or(self.state.balance);
        match self.key {
            Some(Key::Hash(key)) => (Balance::ConsistentHash, Some(key), 1, None),
            Some(Key::Subset(key, size)) => (Balance::ConsistentHash, Some(key), size, None),
            Some(Key::Endpoint(address)) => (balance, None, 1, Some(address)),
            None => (balance, None, 1, None),
        }
    }

    /// Adds to the edits of a response what the route asks for.
    pub fn respond(&self, status: StatusCode, response: &Fields, edits: &mut HeaderEdits) {
        let snippet = self.snippet.as_deref();
        let passes = |name: &HeaderName| snippet.is_some_and(|snippet| snippet.passes(name));
        let hidden = snippet.map(Effects::hides).unwrap_or_default();
        edits.remove.extend(hidden.iter().filter(|name| response.contains(*name)).cloned());
        if let Some(rules) = &self.route.policy.respond {
            let hidden = rules.hide.iter().filter(|name| response.contains(*name) && !passes(name));
            edits.remove.extend(hidden.cloned());
            if rules.changes_values() {
                let scheme = if self.secure { "https" } else { "http" };
                let facts =
                    Facts { host: host_of(&self.authority), authority: &self.authority, scheme, ..Facts::default() };
                for (name, values) in rules.rewritten(response, &facts) {
                    edits.remove.push(name.clone());
                    edits.add.extend(values.into_iter().map(|value| (name.clone(), value)));
                }
            }
        }
        edits.set.extend(self.reply.iter().cloned());
        edits.add.extend(self.affinity.iter().map(|cookie| (SET_COOKIE, cookie.clone())));
        if self.cookies_with_errors || status.as_u16() < 400 {
            edits.add.extend(self.cookies.iter().map(|cookie| (SET_COOKIE, cookie.clone())));
        }
        if let Some(snippet) = snippet.filter(|snippet| !snippet.leaves_responses()) {
            apply(snippet, status, response, edits);
        }
    }

    /// Adds to an answer of our own what the route asks for.
    pub fn dress(&self, answer: &mut Answer) {
        answer.set(self.reply.iter().cloned());
        if let Some(snippet) = &self.snippet {
            answer.change(snippet);
        }
    }

    /// Fills in what an authentication service has said for snippets, if it was asked, and sets the fields for the
    /// backend.
    pub(super) fn settle(&mut self, opinion: Option<(StatusCode, &HeaderMap)>) {
        let Some(snippet) = &mut self.snippet else { return };
        for (name, value) in snippet.settle(opinion) {
            self.edits.set.retain(|(set, _)| *set != name);
            self.edits.add.retain(|(added, _)| *added != name);
            match value {
                Some(value) => self.edits.set.push((name, value)),
                None => self.edits.remove.push(name),
            }
        }
    }
}

/// Adds to the edits of a response what snippets make of it as it would be sent without them.
fn apply(snippet: &Effects, status: StatusCode, response: &Fields, edits: &mut HeaderEdits) {
    let response = response.to_map();
    let mut before = response.clone();
    edits.apply(&mut before);
    let mut after = before.clone();
    snippet.apply(status, Some(&response), &mut after);
    let differs = |name: &&HeaderName| !before.get_all(*name).iter().eq(after.get_all(*name).iter());
    let mut changed: Vec<&HeaderName> = before.keys().chain(after.keys()).filter(differs).collect();
    changed.sort_unstable_by_key(|name| name.as_str());
    changed.dedup();
    for name in changed {
        edits.set.retain(|(set, _)| set != name);
        edits.add.retain(|(added, _)| added != name);
        edits.remove.push(name.clone());
        edits.add.extend(after.get_all(name).iter().map(|value| (name.clone(), value.clone())));
    }
}

/// The host of an authority, without its port.
pub(super) fn host_of(authority: &str) -> &str {
    match authority.rsplit_once(':') {
        Some((host, port)) if port.bytes().all(|byte| byte.is_ascii_digit()) => host,
        _ => authority,
    }
}
