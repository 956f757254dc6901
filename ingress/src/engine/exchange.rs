//! One exchange: a request, the attempts at endpoints, and the answer; whichever versions of HTTP are spoken.
//!
//! [`run`] is the whole of it, in the order in which things happen: decide, attempt until an endpoint has answered,
//! pass the response on, record. Bodies move in both directions at once, see [`Transfer`].

mod attempt;
mod authorize;
mod floor;
mod pace;
mod record;
mod reply;
mod service;
mod transfer;
mod upload;

use std::sync::{Arc, Mutex, PoisonError};

use http::header::{AUTHORIZATION, WWW_AUTHENTICATE};
use http::{HeaderName, Method, StatusCode, Version};
use landfall_ingress_model::backend::BackendKey;
use landfall_ingress_model::fields::{Fields, HeaderEdits};
use landfall_ingress_model::pipeline::{
    Answer, Ask, Connection, Decision, Forward, RequestHead, Trailers, Upgraded, decide, error_page, request_id,
    response_edits,
};
use landfall_ingress_model::policy::{Encodable, UpstreamTls};
use landfall_ingress_model::table::Route;
use tokio::time::Instant;

use super::Shared;
use super::body::Length;
use super::client::{Client, ClientError, Reply};
use super::coding::Encoder;
use super::framing::Violation;
use super::timer::Timer;
use super::tunnel::tunnel;
use super::upstream::{AnswerHead, Care, ConnectError, Idle, Upstream, UpstreamError};
use super::websocket;
use attempt::Attempts;
use service::Services;
use transfer::Transfer;
use upload::Upload;

pub(crate) use authorize::Opinions;
pub(super) use record::Record;
pub(super) use reply::answer;

/// A request as it came.
pub(super) struct Request {
    pub(super) method: Method,
    pub(super) version: Version,
    /// Path and query in origin form, or `*`.
    pub(super) target: String,
    /// The host of a target in absolute form, or `:authority`.
    pub(super) authority: Option<String>,
    pub(super) fields: Fields,
    pub(super) body: Length,
    /// Why the request is answered here, whatever the table says.
    pub(super) violation: Option<Violation>,
}

impl Request {
    /// Bytes of its head that are held.
    pub(super) fn size(&self) -> usize {
        self.fields.held() + self.target.len() + self.authority.as_ref().map_or(0, String::len)
    }
}

/// What is known of a client's connection, for all of its requests.
pub(super) struct Peer {
    pub(super) connection: Connection,
    /// Connections to endpoints that no other client may use, since they are authenticated as this one.
    own: Mutex<Vec<(BackendKey, Idle)>>,
}

impl Peer {
    pub(super) fn new(connection: Connection) -> Self {
        Self { connection, own: Mutex::default() }
    }

    /// The client's own connection to a backend, if it has one that was made in the way that is asked for.
    fn take_own(&self, backend: &BackendKey, tls: Option<&Arc<UpstreamTls>>, care: Care) -> Option<Upstream> {
        let mut own = self.own.lock().unwrap_or_else(PoisonError::into_inner);
        let index = own.iter().position(|(key, idle)| key == backend && idle.origin().tls.as_ref() == tls)?;
        let (_, idle) = own.swap_remove(index);
        drop(own);
        let mut upstream = idle.resume(care)?;
        upstream.own();
        Some(Upstream::Http1(upstream))
    }

    fn keep_own(&self, backend: BackendKey, idle: Idle) {
        self.own.lock().unwrap_or_else(PoisonError::into_inner).push((backend, idle));
    }
}

/// Why an exchange came to no good end.
#[derive(Debug)]
pub(super) enum Failure {
    /// The client is gone.
    ClientGone(String),
    /// The client takes nothing, or sends nothing.
    ClientStalled(&'static str),
    /// What the client sends is not sound.
    Violation(Violation),
    /// The body is larger than it may be.
    TooLarge,
    /// No endpoint is left to try.
    NoEndpoint,
    /// The name of an external service has no address.
    Unresolved(u16, String),
    /// No endpoint could be connected to.
    Connect(ConnectError),
    /// The endpoint failed.
    Upstream(UpstreamError),
    /// The endpoint is too slow.
    UpstreamTimedOut,
    /// The answer is to be replaced, and nothing has an answer to replace it with.
    NoPage,
}

impl From<ClientError> for Failure {
    fn from(error: ClientError) -> Self {
        match error {
            ClientError::Gone(error) => Self::ClientGone(error.to_string()),
            ClientError::Violation(violation) => Self::Violation(violation),
        }
    }
}

impl From<UpstreamError> for Failure {
    fn from(error: UpstreamError) -> Self {
        Self::Upstream(error)
    }
}

/// The parts of one exchange.
struct Parts<'a, 'c> {
    engine: &'a Shared,
    request: &'a Request,
    client: &'a mut Client<'c>,
    peer: &'a Peer,
    timer: &'a mut Timer,
    record: Record<'a>,
}

/// Carries one exchange out.
pub(super) async fn run(engine: &Shared, request: &Request, client: &mut Client<'_>, peer: &Peer, timer: &mut Timer) {
    let headers = &request.fields;
    let _counted = engine.memory.exchange(request.size());
    let id = request_id(headers, rand::random());
    let mut parts = Parts { engine, request, client, peer, timer, record: Record::new(request, peer, &id) };
    let decision = if let Some(violation) = request.violation {
        parts.record.error = Some(violation.reason.to_owned());
        Decision::Answer(error_page(violation.status, violation.reason, headers, &id), None)
    } else {
        let Request { method, version, target, authority, .. } = request;
        let head = RequestHead { method, version: *version, target, authority: authority.as_deref(), headers };
        decide(&head, &peer.connection, &engine.table.load(), &engine.pipeline, &id, &parts.record.live(engine))
    };
    let decided = match told(decision) {
        Ok(decided) => decided,
        Err(ask) => Box::pin(authorize::authorize(engine, request, *ask, &id)).await.map_err(Box::new),
    };
    let outcome = match decided {
        Err(here) => {
            let (page, route) = *here;
            parts.record.route = route;
            parts.record.trace();
            answer(engine, request, parts.client, &page, parts.timer, &mut parts.record).await
        }
        Ok(mut forward) => {
            parts.record.take(&forward);
            parts.record.trace_to(&mut forward);
            forward_to_end(&mut parts, forward).await
        }
    };
    if let Err(failure) = outcome {
        parts.record.fail(&failure);
        parts.client.cut_off();
    }
    parts.record.tell(engine, parts.client.sent());
}

/// What is decided at once; `Err` is what somebody has to be asked for. Small, since it is held as long as the request.
fn told(decision: Decision) -> Result<Decided, Box<Ask>> {
    match decision {
        Decision::Forward(forward) => Ok(Ok(forward)),
        Decision::Answer(page, route) => Ok(Err(Box::new((page, route)))),
        Decision::Ask(ask) => Err(ask),
    }
}

/// A request goes to a backend, or is answered here.
type Decided = Result<Box<Forward>, Box<(Answer, Option<Arc<Route>>)>>;

/// Forwards a request until somebody has answered it: its backend, or the one that answers in the place of errors.
async fn forward_to_end(parts: &mut Parts<'_, '_>, mut forward: Box<Forward>) -> Result<(), Failure> {
    let mut upload = Upload::new(parts.request.body, forward.route.policy.max_body);
    if forward.route.policy.manner.asks_for_bodies && parts.client.waits() {
        // The backend does not learn that somebody waited for that.
        parts.client.inform(StatusCode::CONTINUE, &Fields::default(), &HeaderEdits::default());
    }
    loop {
        if forward.is_bodiless {
            upload = Upload::new(Length::None, None);
        }
        match pass_on(parts, &mut forward, &mut upload).await {
            Ok(None) => return Ok(()),
            Ok(Some(mut instead)) => {
                instead.is_bodiless |= !upload.is_repeatable();
                forward = instead;
            }
            Err(failure) => {
                let page = failure.page().filter(|_| !parts.client.has_answer());
                let Some(mut instead) = page.and_then(|(status, _)| forward.instead_of(status, true)) else {
                    let Parts { engine, request, client, timer, record, .. } = parts;
                    return reply::fail(engine, request, &forward, client, failure, timer, record).await;
                };
                instead.is_bodiless = true;
                forward = instead;
            }
        }
    }
}

/// Passes a request to an endpoint and its response to the client; or says what happens to the request instead.
async fn pass_on(
    parts: &mut Parts<'_, '_>,
    forward: &mut Forward,
    upload: &mut Upload,
) -> Result<Option<Box<Forward>>, Failure> {
    let policy = forward.route.policy.clone();
    let statuses = policy.retry.as_ref().is_some_and(|retry| !retry.statuses.is_empty());
    let simple = parts.request.method.is_idempotent() && parts.request.body == Length::None;
    let repeats = simple && policy.manner.repeats;
    let repeatable = forward.on_error.is_some() || forward.mirror.is_some() || statuses || repeats;
    let mut attempts = Attempts::new(parts.engine, parts.request, forward, parts.peer);
    let (mut upstream, head, clocked) = loop {
        let mut upstream = attempts.connect(&mut parts.record).await?;
        upload.begin(repeatable || Attempts::may_repeat(&upstream));
        let begun = if upstream.is_reused() { parts.record.attempt() } else { Instant::now() };
        let transfer = Transfer::new(
            parts.engine,
            parts.request,
            forward,
            parts.client,
            &mut upstream,
            upload,
            parts.timer,
            begun,
        );
        let sent = transfer.head(&attempts.outbound(), &mut parts.record).await;
        parts.record.received = upload.received();
        match sent {
            // An answer that is as bad as none.
            Ok(head) if statuses && attempts.repeats(head.status, upload, &parts.record) => {
                attempts.timed().end(&parts.record);
            }
            Ok(head) => break (upstream, head, attempts.timed()),
            Err(Failure::Upstream(error)) if attempts.again(&upstream, &error, upload, &parts.record) => {}
            Err(Failure::UpstreamTimedOut) if attempts.after_timeout(upload, &parts.record) => {
                attempts.timed().end(&parts.record);
            }
            Err(failure) => {
                attempts.timed().end(&parts.record);
                return Err(failure);
            }
        }
    };
    if let Some(copy) = forward.mirror.take() {
        let with_body = policy.mirror.as_ref().is_some_and(|mirror| mirror.with_body);
        let body = if with_body && parts.request.body != Length::None { upload.whole_body() } else { None };
        Services::of(parts.engine).copy(*copy, body);
    }
    if let Some(instead) = forward.instead_of(head.status, false) {
        return Ok(Some(instead));
    }
    if forward.lacks_page(head.status) {
        return Err(Failure::NoPage);
    }
    parts.record.status = head.status.as_u16();
    if head.status == StatusCode::SWITCHING_PROTOCOLS {
        return Box::pin(switch(parts.engine, forward, parts.client, upstream, &head, parts.timer))
            .await
            .map(|()| None);
    }
    let AnswerHead { status, fields, declared, body } = &head;
    let body = if parts.request.method == Method::HEAD { Length::None } else { *body };
    let trailers = if matches!(body, Length::None | Length::Known(_)) { Trailers::Drop } else { Trailers::Pass };
    let mut edits = response_edits(*status, fields, Upgraded::No, trailers);
    forward.respond(*status, fields, &mut edits);
    let coding = match &policy.compression {
        Some(compression) if !matches!(body, Length::None | Length::Known(0)) => compression.choose(
            &Encodable {
                version: parts.request.version,
                request: &parts.request.fields,
                status: *status,
                response: fields,
                length: *declared,
            },
            &mut edits,
        ),
        _ => None,
    };
    let (declared, sent) = if coding.is_some() { (None, Length::Unknown) } else { (*declared, body) };
    reply::begin(parts.engine, parts.client, &Reply { status: *status, fields, edits: &edits, declared, body: sent })?;
    let since = parts.record.heard();
    let transfer =
        Transfer::new(parts.engine, parts.request, forward, parts.client, &mut upstream, upload, parts.timer, since);
    let passed = transfer.body(body, coding.map(|coding| Box::new(Encoder::new(coding)))).await;
    parts.record.received = upload.received();
    clocked.end(&parts.record);
    passed?;
    keep(parts, forward, upstream, &head.fields);
    Ok(None)
}

/// Keeps a connection for its next request, if there may be one.
fn keep(parts: &mut Parts<'_, '_>, forward: &Forward, upstream: Upstream, response: &Fields) {
    let now = parts.record.end();
    let Upstream::Http1(upstream) = upstream else { return };
    let own = upstream.is_own()
        || authenticates_connection(&parts.request.fields, &AUTHORIZATION)
        || authenticates_connection(response, &WWW_AUTHENTICATE);
    let Some(idle) = upstream.into_idle(now) else { return };
    if own {
        parts.peer.keep_own(forward.backend.key.clone(), idle);
    } else {
        parts.engine.pool.put(idle);
    }
}

/// Whether a message is about NTLM or Negotiate, which authenticate the connection and not the request
/// (RFC 4559 section 6).
fn authenticates_connection(headers: &Fields, name: &HeaderName) -> bool {
    headers.get_all(name).any(|value| {
        let scheme = value.as_bytes().split(|byte| *byte == b' ').next().unwrap_or_default();
        scheme.eq_ignore_ascii_case(b"ntlm") || scheme.eq_ignore_ascii_case(b"negotiate")
    })
}

/// Lets client and endpoint speak another protocol with each other.
async fn switch(
    engine: &Shared,
    forward: &Forward,
    client: &mut Client<'_>,
    upstream: Upstream,
    head: &AnswerHead,
    timer: &mut Timer,
) -> Result<(), Failure> {
    let (Client::Http1(client), Upstream::Http1(upstream)) = (client, upstream) else {
        return Err(Failure::Upstream(UpstreamError::NoResponse));
    };
    let edits = response_edits(head.status, &head.fields, Upgraded::Yes, Trailers::Drop);
    client.switch(&head.fields, &edits);
    let websocket = websocket::is_websocket(head.fields.get(http::header::UPGRADE).map(|protocol| protocol.as_bytes()));
    let away = websocket.then(|| websocket::Away::behind_head(engine.drain.clone()));
    let limit = forward.route.policy.upgrade_idle;
    let mut wire = upstream.into_wire();
    client.wire.set_appetite(engine.memory.piece());
    wire.set_appetite(engine.memory.piece());
    let moved = tunnel(&mut client.wire, &mut wire, away, limit, timer, &mut |_, _| {}).await;
    client.passed(moved);
    Ok(())
}
