//! Looking at a request, deciding on it, and answering it here.

use std::time::{Instant, SystemTime, UNIX_EPOCH};

use bytes::Bytes;
use http::{HeaderMap, Method, StatusCode, Version, header};
use landfall_ingress_model::fields::Fields;
use landfall_ingress_model::pipeline::{
    Answer, Connection, Decision, Live, RequestHead, decide, error_page, field_count, request_id,
};
use landfall_shared::drain::Phase;
use pingora_core::Result;
use pingora_http::ResponseHeader;
use pingora_proxy::Session;

use super::Hooks;
use super::context::{Context, RequestFacts, text};
use crate::engine::framing::Violation;
use crate::engine::pingora::session::ExchangeStream;

/// The target of a request, its host where the target has one, and the connection it came on.
struct Seen<'a> {
    target: &'a str,
    authority: Option<&'a str>,
    version: Version,
    connection: &'a Connection,
}

/// The stream below an HTTP/1 session.
pub(super) fn exchange_stream(session: &Session) -> Option<&ExchangeStream> {
    let stream = session.as_downstream().stream()?;
    (**stream).as_any().downcast_ref()
}

/// What pingora doesn't know of the request, or would have changed.
fn seen(session: &Session) -> Option<Seen<'_>> {
    if let Some(stream) = exchange_stream(session) {
        let request = &stream.request;
        return Some(Seen {
            target: &request.target,
            authority: request.authority.as_deref(),
            version: request.version,
            connection: &stream.facts.connection,
        });
    }
    let digest = session.as_downstream().digest()?.proxy_digest.as_ref()?;
    let connection = digest.user_data.as_ref()?.downcast_ref()?;
    let uri = &session.req_header().uri;
    let target = uri.path_and_query().map_or("/", http::uri::PathAndQuery::as_str);
    let authority = uri.authority().map(http::uri::Authority::as_str);
    Some(Seen { target, authority, version: Version::HTTP_2, connection })
}

impl Hooks {
    /// Looks at the request and asks the pipeline.
    pub(super) fn look(&self, session: &Session, context: &mut Context) -> Option<Decision> {
        let seen = seen(session)?;
        let header = session.req_header();
        let headers = &header.headers;
        let fields = Fields::from(headers);
        let id = request_id(&fields, rand::random());
        let decision = if let Some(violation) = self.h2_limits(&seen, headers) {
            context.error = Some(violation.reason.to_owned());
            Decision::Answer(error_page(violation.status, violation.reason, &fields, &id), None)
        } else {
            let Seen { target, authority, version, connection } = seen;
            let head = RequestHead { method: &header.method, version, target, authority, headers: &fields };
            let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default().as_secs();
            let live = Live {
                dice: rand::random(),
                now,
                instant: Instant::now(),
                limiter: &self.clients,
                challenges: &self.challenges,
                ejections: &*self.balancers,
                trace: None,
            };
            decide(&head, connection, &self.table.load(), &self.pipeline, &id, &live)
        };
        let route = match &decision {
            Decision::Forward(forward) => Some(forward.route.clone()),
            Decision::Ask(ask) => Some(ask.route().clone()),
            Decision::Answer(_, route) => route.clone(),
        };
        context.request = Some(RequestFacts {
            id,
            connection: seen.connection.clone(),
            method: header.method.as_str().to_owned(),
            version: seen.version,
            host: RequestFacts::host_of(seen.authority, headers),
            target: seen.target.to_owned(),
            route,
            user_agent: text(headers, &header::USER_AGENT),
            referer: text(headers, &header::REFERER),
        });
        Some(decision)
    }

    /// The limits that the HTTP/1 scanner keeps, for HTTP/2.
    fn h2_limits(&self, seen: &Seen<'_>, headers: &HeaderMap) -> Option<Violation> {
        if seen.target.len() > self.limits.head.target {
            return Some(Violation::new(StatusCode::URI_TOO_LONG, "the request target is too long"));
        }
        if field_count(headers) > self.limits.head.fields {
            let status = StatusCode::REQUEST_HEADER_FIELDS_TOO_LARGE;
            return Some(Violation::new(status, "the request has too many header fields"));
        }
        None
    }

    /// Sends an answer of our own.
    pub(super) async fn answer(&self, session: &mut Session, answer: Answer) -> Result<()> {
        let mut header = ResponseHeader::build(answer.status, Some(answer.headers.len() + 1))?;
        for (name, value) in answer.headers {
            header.append_header(name, value)?;
        }
        let bodyless = answer.status == StatusCode::NO_CONTENT;
        if !bodyless {
            header.insert_header(header::CONTENT_LENGTH, answer.body.len())?;
        }
        self.close_if_leaving(session);
        let silent = bodyless || answer.body.is_empty() || session.req_header().method == Method::HEAD;
        session.write_response_header(Box::new(header), silent).await?;
        if silent {
            return session.as_downstream_mut().finish_body().await;
        }
        session.write_response_body(Some(Bytes::from(answer.body)), true).await
    }

    /// Asks HTTP/1 clients to come back on another connection while the program is on its way out.
    pub(super) fn close_if_leaving(&self, session: &mut Session) {
        if self.drain.phase() != Phase::Running {
            session.set_keepalive(None);
        }
    }
}
