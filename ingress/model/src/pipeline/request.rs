//! A request whose host and path are known, what is filled in from it, and the pages that answer it.

use std::net::IpAddr;
use std::sync::Arc;

use http::header::ORIGIN;
use http::{HeaderName, HeaderValue, StatusCode};

use super::page::{Answer, error_page};
use super::{Live, forwarding};
use crate::backend::Backend;
use crate::fields::Fields;
use crate::host::HostName;
use crate::path::CanonicalPath;
use crate::policy::{ClientCertificates, Facts, ResponseRules};
use crate::table::{HostLevels, Route, Table};

/// A request whose host and path are known.
#[derive(Clone, Copy)]
pub(super) struct Request<'a> {
    pub(super) facts: forwarding::Facts<'a>,
    pub(super) live: &'a Live<'a>,
    pub(super) host: Option<&'a HostName>,
    pub(super) path: &'a CanonicalPath,
    pub(super) query: Option<&'a str>,
    /// Whether the host is another name of one whose certificate does not cover it.
    pub(super) is_uncovered: bool,
    /// Whether path and query are those of a snippet.
    pub(super) is_rewritten: bool,
    /// Whether a snippet has ended the phase in which paths are rewritten.
    pub(super) is_stopped: bool,
    /// The fields as the client sent them, where a snippet has changed them.
    pub(super) sent: Option<&'a Fields>,
}

/// Where a request goes through.
#[derive(Clone, Copy)]
pub(super) struct Way<'t> {
    pub(super) table: &'t Table,
    pub(super) levels: HostLevels<'t>,
    /// What its host asks of clients' certificates.
    pub(super) of_host: Option<&'t Arc<ClientCertificates>>,
}

impl Request<'_> {
    /// Fields that every answer of a route gets; `cors` is whether pages of other origins may see it.
    pub(super) fn reply(&self, route: &Route, cors: bool) -> Vec<(HeaderName, HeaderValue)> {
        let mut fields = self.common_fields(route.policy.respond.as_deref());
        let cors = route.policy.cors.as_ref().filter(|_| cors);
        if let Some(allowed) = cors.and_then(|policy| policy.fields(self.facts.head.headers.get(ORIGIN))) {
            if fields.is_empty() {
                return allowed;
            }
            fields.extend(allowed);
        }
        fields
    }

    /// Fields that every answer gets.
    pub(super) fn common_fields(&self, rules: Option<&ResponseRules>) -> Vec<(HeaderName, HeaderValue)> {
        let Some(rules) = rules else { return Vec::new() };
        let hsts = rules.hsts.as_ref().filter(|_| self.facts.connection.tls.is_some());
        let hsts = hsts.map(|hsts| (http::header::STRICT_TRANSPORT_SECURITY, hsts.clone()));
        hsts.into_iter().chain(rules.set.iter().cloned()).collect()
    }

    pub(super) fn canonical_target(&self) -> String {
        let mut target = String::from(self.path.as_str());
        if let Some(query) = self.query {
            target.push('?');
            target.push_str(query);
        }
        target
    }

    pub(super) fn template_facts<'f>(
        &'f self,
        route: &'f Route,
        backend: Option<&'f Backend>,
        client: IpAddr,
    ) -> Facts<'f> {
        let id = &route.id.ingress;
        let (service, port) = backend.map_or(("", ""), |backend| (backend.key.service.name(), backend.port()));
        Facts { place: [id.namespace(), id.name(), service, port], ..self.request_facts(client) }
    }

    /// What variables stand for that have nothing to do with a route.
    pub(super) fn request_facts(&self, client: IpAddr) -> Facts<'_> {
        let head = self.facts.head;
        Facts {
            host: self.host.map(HostName::as_str).unwrap_or_default(),
            authority: self.facts.authority.unwrap_or_default(),
            scheme: self.scheme(),
            outer_scheme: if self.facts.secure() { "https" } else { "http" },
            request_uri: head.target,
            path: self.path.as_str(),
            method: Some(head.method),
            client: Some(client),
            headers: Some(head.headers),
            request_id: self.facts.request_id.to_str().unwrap_or_default(),
            dice: self.live.dice,
            no_arguments: false,
            place: [""; 4],
            tls: self.facts.connection.tls.as_ref(),
        }
    }

    /// The scheme of the connection itself, whatever a proxy says.
    pub(super) fn scheme(&self) -> &'static str {
        if self.facts.connection.tls.is_some() { "https" } else { "http" }
    }

    pub(super) fn page(&self, status: StatusCode, reason: &str) -> Answer {
        error_page(status, reason, self.facts.head.headers, self.facts.request_id)
    }

    pub(super) fn unavailable(&self, reason: &str) -> Answer {
        self.page(StatusCode::SERVICE_UNAVAILABLE, reason)
    }
}
