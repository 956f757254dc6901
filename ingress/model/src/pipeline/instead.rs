//! A backend that answers in the place of another one, or of us.

use std::sync::Arc;

use http::header::{ACCEPT, CONNECTION, CONTENT_LENGTH, HOST};
use http::{HeaderName, HeaderValue};

use super::Answer;
use super::Forward;
use super::fields::{
    X_FORMAT, X_FORWARDED_FOR, X_INGRESS_NAME, X_NAMESPACE, X_ORIGINAL_URI, X_REQUEST_ID, X_SERVICE_NAME,
    X_SERVICE_PORT,
};
use super::request::Request;
use crate::backend::Backend;
use crate::fields::HeaderEdits;
use crate::table::{Action, Route, Table};

/// Whether another backend answers in the place of our own answer.
pub(super) fn is_replaced(route: &Route, answer: &Answer) -> bool {
    let has_rule = !matches!(route.action, Action::NotFound);
    has_rule && !answer.is_final && route.policy.errors.as_ref().is_some_and(|errors| errors.replaces(answer.status))
}

/// Says which backend another one takes the place of.
pub(super) fn name_backend(route: &Route, backend: Option<&Backend>, edits: &mut HeaderEdits) {
    let own = match (&route.action, backend) {
        (_, Some(backend)) => Some(&backend.key),
        (Action::Forward(backend), None) => Some(&backend.key),
        _ => None,
    };
    let id = &route.id.ingress;
    let port = own.map(|key| key.port.to_string()).unwrap_or_default();
    let service = own.map_or("", |key| key.service.name());
    for (name, text) in [
        (X_NAMESPACE, id.namespace()),
        (X_INGRESS_NAME, id.name()),
        (X_SERVICE_NAME, service),
        (X_SERVICE_PORT, port.as_str()),
    ] {
        if let Ok(value) = HeaderValue::from_str(text) {
            edits.set.push((name, value));
        }
    }
}

impl Request<'_> {
    /// The request as the backend gets it that answers in the place of errors.
    pub(super) fn error_forward(
        &self,
        route: &Arc<Route>,
        backend: Option<&Backend>,
        table: &Table,
    ) -> Option<Box<Forward>> {
        let errors = route.policy.errors.as_ref()?;
        let fallback = match table.fallback.as_ref().map(|fallback| &fallback.action) {
            Some(Action::Forward(backend)) => Some(backend),
            _ => None,
        };
        let instead = errors.backend.as_ref().or(fallback)?;
        let state = instead.state();
        if state.unavailable.is_some() {
            return None;
        }
        let head = self.facts.head;
        let mut edits = self.facts.request_edits();
        let shown = [X_FORWARDED_FOR, X_REQUEST_ID, HOST, CONTENT_LENGTH];
        let dropped: Vec<HeaderName> =
            edits.set.iter().map(|(name, _)| name).filter(|name| !shown.contains(name)).cloned().collect();
        edits.set.retain(|(name, _)| shown.contains(name));
        edits.remove.extend(dropped);
        let mut set = |name: HeaderName, value: Option<HeaderValue>| match value {
            Some(value) => edits.set.push((name, value)),
            None => edits.remove.push(name),
        };
        set(X_FORMAT, head.headers.get(ACCEPT).map(|value| value.to_value()));
        set(X_ORIGINAL_URI, HeaderValue::from_str(head.target).ok());
        set(CONNECTION, Some(HeaderValue::from_static("close")));
        name_backend(route, backend, &mut edits);
        let target = self.query.map_or_else(|| "/".to_owned(), |query| format!("/?{query}"));
        Some(Box::new(Forward {
            route: route.clone(),
            backend: instead.clone(),
            target,
            edits,
            client: self.facts.client(),
            upgrade: false,
            secure: self.facts.secure(),
            upstream_tls: route.policy.upstream_tls.clone(),
            authority: Box::default(),
            reply: Vec::new(),
            cookies: Vec::new(),
            cookies_with_errors: false,
            affinity: None,
            key: None,
            permit: None,
            is_bodiless: false,
            mirror: None,
            on_error: None,
            is_replacement: true,
            snippet: None,
            state,
        }))
    }
}
