//! What hosts ask of their clients' certificates, request by request.

use http::StatusCode;

use super::ClientCertificate;
use super::request::Request;
use super::steps::Step;
use crate::authorities::Flaw;
use crate::policy::{ClientCertificates, Demand};
use crate::table::{Route, Table};

impl Request<'_> {
    /// What is asked of the client's certificate, which comes before everything else. Over plain HTTP nothing is known
    /// of it yet, since the client may still be sent to HTTPS.
    pub(super) fn client_certificate(&self, policy: &ClientCertificates, table: &Table) -> Step {
        if policy.authorities.is_err() {
            let reason = "it is not known whose certificates may use this host";
            return Err(self.page(StatusCode::FORBIDDEN, reason));
        }
        let tls = self.facts.connection.tls.as_ref();
        // Who does not ask looks at none, though another host may have asked for it.
        let shown = tls.and_then(|tls| tls.client.as_deref()).filter(|_| policy.asks().is_some());
        if let (Some(tls), Some(authorities)) = (tls, policy.asks()) {
            // As nginx: a name that no rule names is none.
            let named = tls.server_name.as_ref().filter(|name| table.knows(name));
            if named.is_some_and(|name| Some(name) != self.host) {
                return Err(self.page(StatusCode::MISDIRECTED_REQUEST, "the connection was made for another host"));
            }
            match shown.map(|shown| shown.verdict(authorities, policy.depth)).as_deref() {
                None if policy.demand == Demand::Required => {
                    return self.without_certificate(policy, "a client certificate is needed");
                }
                Some(Err(Flaw::Foreign(_))) if policy.demand == Demand::OptionalNoCa => {}
                Some(Err(_)) => return self.without_certificate(policy, "the client certificate is not trusted"),
                None | Some(Ok(())) => {}
            }
        }
        let subject = shown.map(ClientCertificate::subject).unwrap_or_default();
        if policy.subject.as_ref().is_some_and(|pattern| !pattern.is_match(subject)) {
            return Err(self.page(StatusCode::FORBIDDEN, "this client certificate may not use this host"));
        }
        Ok(())
    }

    /// No service hears of a request by plain HTTP where each needs a certificate.
    pub(super) fn certificate_over_tls(&self, policy: &ClientCertificates, route: &Route) -> Step {
        let is_plain = self.facts.connection.tls.is_none();
        if is_plain && policy.demand == Demand::Required && !route.is_acme_challenge() {
            return self.without_certificate(policy, "a client certificate is needed, so use HTTPS");
        }
        Ok(())
    }

    fn without_certificate(&self, policy: &ClientCertificates, reason: &str) -> Step {
        Err(match &policy.error_page {
            Some(page) => {
                let facts = self.request_facts(self.facts.client());
                self.sent_to(StatusCode::FOUND, &page.expand(&facts))
            }
            None => self.page(StatusCode::BAD_REQUEST, reason),
        })
    }
}
