//! Answers that send a client elsewhere.

use std::net::IpAddr;

use http::header::LOCATION;
use http::{HeaderValue, StatusCode};

use super::forwarding;
use super::page::Answer;
use super::request::Request;
use super::steps::Step;
use crate::host::HostName;
use crate::policy::{HttpsRedirect, decoded, escaped};
use crate::table::{HostLevels, Route, WwwRedirect};

impl Request<'_> {
    /// `app-root`: whoever asks for the root is sent to the application.
    pub(super) fn app_root(&self, levels: HostLevels<'_>) -> Option<Answer> {
        let root = levels.app_root()?;
        if !matches!(&*decoded(self.path.as_str()), [b'/']) {
            return None;
        }
        let root = root.expand(&self.request_facts(self.facts.client()));
        let place = format!("{}://{}{root}", self.scheme(), self.facts.authority.unwrap_or_default());
        Some(self.sent_to(StatusCode::FOUND, &place))
    }

    /// From the name with `www.` to that without it, or the other way.
    pub(super) fn other_name(&self, redirect: &WwwRedirect) -> Answer {
        let target = self.facts.head.target;
        let target = target.strip_suffix('/').unwrap_or(target);
        let facts = forwarding::Facts { nginx: Some(&redirect.forwarding), ..self.facts };
        let scheme = if facts.secure() { "https" } else { "http" };
        let port = facts.given_port().unwrap_or(if facts.secure() { 443 } else { 80 });
        let mut answer = self.sent_to(redirect.status, &format!("{scheme}://{}:{port}{target}", redirect.host));
        answer.set(redirect.fields.iter().cloned());
        answer
    }

    /// To the same place with a slash at the end of the path.
    pub(super) fn with_slash(&self, route: &Route) -> Answer {
        let query = self.query.map(|query| format!("?{query}")).unwrap_or_default();
        // nginx names the path of the rule, however the client has written it.
        let path = escaped(route.written.text(route.id.path.as_ref()).as_bytes());
        if route.policy.relative_redirects {
            return self.sent_to(StatusCode::MOVED_PERMANENTLY, &format!("{path}{query}"));
        }
        let host = self.host.map(HostName::as_str).unwrap_or_default();
        let place = format!("{}://{host}{path}{query}", self.scheme());
        self.sent_to(StatusCode::MOVED_PERMANENTLY, &place)
    }

    /// The redirect of a whole route.
    pub(super) fn redirect(&self, route: &Route) -> Step {
        let Some(redirect) = &route.policy.redirect else { return Ok(()) };
        let place = redirect.location.to_str().unwrap_or_default();
        if redirect.status == StatusCode::NOT_MODIFIED {
            return Err(Answer::empty(redirect.status, self.facts.request_id));
        }
        if place.starts_with('/') && !route.policy.relative_redirects {
            let host = self.host.map(HostName::as_str).unwrap_or_default();
            return Err(self.sent_to(redirect.status, &format!("{}://{host}{place}", self.scheme())));
        }
        Err(self.sent_to(redirect.status, place))
    }

    /// To HTTPS, at its well-known port.
    pub(super) fn https(&self, route: &Route) -> Step {
        let (status, target) = match route.policy.https_redirect {
            HttpsRedirect::Never => return Ok(()),
            _ if self.facts.secure() => return Ok(()),
            HttpsRedirect::IngressNginx { forced: false, .. } if self.is_uncovered => return Ok(()),
            HttpsRedirect::Always => (StatusCode::PERMANENT_REDIRECT, self.canonical_target()),
            HttpsRedirect::IngressNginx { status, keeps_slash, .. } => {
                let target = self.facts.head.target;
                let shorter = target.strip_suffix('/').filter(|_| !keeps_slash);
                (status, shorter.unwrap_or(target).to_owned())
            }
        };
        let place = match (self.host, self.facts.authority) {
            (Some(_), Some(authority)) if route.policy.manner.verbatim => {
                let port = match route.policy.https_redirect {
                    HttpsRedirect::IngressNginx { with_port: true, .. } => ":443",
                    _ => "",
                };
                let host = self.facts.given_host().unwrap_or(authority);
                format!("https://{}{port}{target}", super::forward::host_of(host))
            }
            (Some(host), _) => format!("https://{host}{target}"),
            (None, _) => match self.facts.connection.local.ip().to_canonical() {
                IpAddr::V4(address) => format!("https://{address}{target}"),
                IpAddr::V6(address) => format!("https://[{address}]{target}"),
            },
        };
        Err(self.sent_to(status, &place))
    }

    pub(super) fn sent_to(&self, status: StatusCode, place: &str) -> Answer {
        let mut answer = Answer::empty(status, self.facts.request_id);
        match HeaderValue::from_str(place) {
            Ok(location) => answer.headers.push((LOCATION, location)),
            Err(_) => answer.status = StatusCode::BAD_REQUEST,
        }
        answer
    }
}
