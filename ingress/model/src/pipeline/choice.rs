//! Where a request goes: the backend or a canary of it, the endpoint that it belongs to, and who gets a copy.

use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;

use http::header::HOST;
use http::{HeaderValue, StatusCode};

use super::Key;
use super::ask::{self, Question, parts};
use super::request::Request;
use super::steps::{NO_RULE, Step};
use crate::backend::{Backend, BackendState, Target};
use crate::fields::Fields;
use crate::policy::{Canary, CookieAffinity, HashBy, key_of, name_of, push_hexadecimal};
use crate::table::{Action, Route, Table};

impl Request<'_> {
    /// The backend; what no rule of a host has may be for the default backend of all.
    pub(super) fn backend<'t>(&self, route: &'t Route, table: &'t Table) -> Step<&'t Arc<Backend>> {
        match &route.action {
            Action::Forward(backend) => Ok(backend),
            Action::Unavailable(_) => Err(self.unavailable("this route is out of service")),
            Action::NotFound => {
                if let Some(Action::Forward(backend)) = table.fallback.as_ref().map(|fallback| &fallback.action) {
                    return Ok(backend);
                }
                Err(self.page(StatusCode::NOT_FOUND, NO_RULE))
            }
        }
    }

    /// The canary that a request is for, if it is one's that has endpoints. Whoever has a cookie stays where it was
    /// given, at the main backend or at a canary.
    pub(super) fn canary<'c>(&self, route: &Route, main: &Backend, canaries: &'c [Canary]) -> Option<&'c Canary> {
        if canaries.is_empty() {
            return None;
        }
        let headers = self.facts.head.headers;
        let is_alive = |canary: &&Canary| canary.backend.state().unavailable.is_none();
        let state = main.state();
        let given = affinity_of(route, &state, headers).and_then(|affinity| affinity.value(headers));
        if let Some((_, giver)) = given.filter(|(_, giver)| !giver.is_empty()) {
            if main.is_named(giver) {
                return None;
            }
            let of_giver = |canary: &&Canary| !canary.rule.ignores_affinity && canary.backend.is_named(giver);
            if let Some(canary) = canaries.iter().filter(is_alive).find(of_giver) {
                return Some(canary);
            }
        }
        canaries.iter().filter(|canary| canary.rule.takes(headers)).find(is_alive)
    }

    /// What decides about the endpoint, and the cookie by which it is to be the same the next time. `main` is the state
    /// of the backend whose cookie holds, where one does.
    pub(super) fn endpoint(
        &self,
        route: &Route,
        backend: &Backend,
        state: &BackendState,
        main: Option<&BackendState>,
        client: IpAddr,
    ) -> (Option<Key>, Option<HeaderValue>) {
        let head = self.facts.head;
        let Some(affinity) = main.and_then(|main| affinity_of(route, main, head.headers)) else {
            let facts = || self.template_facts(route, None, client);
            let shares = route.policy.manner.shares_endpoints;
            let by = if shares { state.hash_by.as_ref() } else { route.policy.hash_by.as_ref() };
            let key = |by: &HashBy| match (key_of(by.key.expand(&facts()).as_bytes()), by.subset) {
                (key, 1) => Key::Hash(key),
                (key, size) => Key::Subset(key, size),
            };
            return (by.map(|by| key(by)), None);
        };
        let Target::Endpoints(addresses) = &state.target else { return (None, None) };
        let rule_path = route.written.text(route.id.path.as_ref());
        let set = |value: &str| {
            let mut text = String::with_capacity(33);
            text.push_str(value);
            text.push('|');
            backend.push_name(&mut text);
            let value = text;
            affinity.set(&value, rule_path, self.facts.secure(), head.headers, self.live.now)
        };
        let given = affinity.value(head.headers).map(|(value, _)| value);
        if !affinity.persistent {
            if let Some(value) = given {
                return (Some(Key::Hash(key_of(value.as_bytes()))), None);
            }
            let mut fresh = String::with_capacity(16);
            push_hexadecimal(self.live.dice, &mut fresh);
            return (Some(Key::Hash(key_of(fresh.as_bytes()))), set(&fresh));
        }
        let usable = |address: &SocketAddr| !self.live.ejections.is_ejected(backend, *address, self.live.instant);
        let known = given.and_then(|value| addresses.iter().copied().find(|address| name_of(*address) == *value));
        if let Some(address) = known.filter(usable) {
            return (Some(Key::Endpoint(address)), None);
        }
        let usable: Vec<SocketAddr> = addresses.iter().copied().filter(usable).collect();
        let index = self.live.dice % u64::try_from(usable.len()).unwrap_or(1).max(1);
        let chosen = usize::try_from(index).ok().and_then(|index| usable.get(index).copied());
        (chosen.map(Key::Endpoint), chosen.and_then(|address| set(&name_of(address))))
    }

    /// The copy of the request, as far as it is made before the body is known.
    pub(super) fn mirror(&self, route: &Route, backend: &Backend, client: IpAddr) -> Option<Box<Question>> {
        let mirror = route.policy.mirror.as_ref()?;
        let head = self.facts.head;
        let mut url = mirror.url.expand(&self.template_facts(route, Some(backend), client));
        if let (true, Some(query)) = (mirror.adds_query, self.query) {
            url.push(if url.contains('?') { '&' } else { '?' });
            url.push_str(query);
        }
        let mut fields = ask::passed_on(head.headers);
        let (_, authority, _) = parts(&url);
        let host = authority.rsplit_once(':').map_or(authority, |(host, _)| host);
        let host = mirror.host.clone().or_else(|| HeaderValue::from_str(host).ok())?;
        fields.insert(HOST, host);
        Some(Box::new(Question { method: head.method.clone(), url, fields, key: None }))
    }
}

/// The cookie that keeps the clients of a route at the endpoints of its backend. Where it is the Service's, only those
/// who ask for it give it out.
fn affinity_of<'a>(route: &'a Route, state: &'a BackendState, headers: &Fields) -> Option<&'a Arc<CookieAffinity>> {
    let of_service = state.cookie.as_ref().filter(|_| route.policy.manner.shares_endpoints);
    let own = route.policy.affinity.as_ref();
    let known = || of_service.filter(|cookie| cookie.value(headers).is_some());
    own.and(of_service).or(own).or_else(known)
}

/// The state of the backend whose cookie holds for a request: a canary gives out that of the main backend, or none.
pub(super) fn giver(canary: Option<&Canary>, main: &Backend, state: &Arc<BackendState>) -> Option<Arc<BackendState>> {
    match canary {
        Some(canary) if canary.rule.ignores_affinity => None,
        Some(_) => Some(main.state()),
        None => Some(state.clone()),
    }
}
