//! The loop of an HTTP/1 connection: one request after the other, each handed over whole and alone.

use std::sync::{Arc, PoisonError};
use std::time::SystemTime;

use bytes::{BufMut, Bytes, BytesMut};
use http::{StatusCode, Version};
use landfall_ingress_model::pipeline::{Answer, request_id};
use tokio::time::{Duration, Instant, sleep_until, timeout, timeout_at};

use super::answer::{render, violation_page};
use super::exchange::{Exchange, Scheme};
use super::framing::{Head, RequestScanner, Violation};
use super::session::{ExchangeStream, Request, Returned, Slot};
use super::wire::Wire;
use super::{ClientFacts, Engine};

/// What an HTTP/2 client with prior knowledge sends first (RFC 9113 section 3.4).
const PREFACE: &[u8] = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n";
/// How long and how much is read after the last answer, so that the client gets it before a reset does.
const LINGER: Duration = Duration::from_secs(2);
const LINGER_BYTES: usize = 1024 * 1024;
/// How long a connection that was accepted while draining may take to ask for something.
const LATE_GRACE: Duration = Duration::from_secs(1);

/// What reading a head comes to.
enum Read {
    Head(Head),
    /// The connection speaks HTTP/2.
    Preface,
    /// Nothing was asked; nothing is answered.
    Nothing,
    Refused(Violation),
}

/// Serves the connection until it ends. A client that speaks HTTP/2 is handed back.
pub(super) async fn serve(engine: &Engine, mut wire: Wire, facts: &Arc<ClientFacts>) -> Option<Wire> {
    let slot = Slot::default();
    let mut first = true;
    loop {
        let head = match read_head(engine, &mut wire, first).await {
            Read::Head(head) => head,
            Read::Preface => return Some(wire),
            Read::Nothing => return None,
            Read::Refused(violation) => {
                // Boxed, as is what ends the connection: an idle one does not hold the space for it.
                Box::pin(refuse(engine, &mut wire, facts, &violation)).await;
                return None;
            }
        };
        let returned = Box::pin(exchange(engine, wire, head, facts, &slot)).await?;
        wire = returned.wire;
        if !returned.at_boundary || wire.ended {
            if returned.answered {
                Box::pin(linger(&mut wire)).await;
            }
            return None;
        }
        wire.shrink();
        first = false;
    }
}

/// Reads one head, within the time-limits.
async fn read_head(engine: &Engine, wire: &mut Wire, first: bool) -> Read {
    if wire.input.is_empty() {
        let idle_end = Instant::now() + engine.limits.idle_timeout;
        tokio::select! {
            biased;
            read = wire.fill() => if !matches!(read, Ok(1..)) { return Read::Nothing },
            () = sleep_until(idle_end) => return Read::Nothing,
            () = left_idle(engine, first) => return Read::Nothing,
        }
    }
    let deadline = Instant::now() + engine.limits.head_timeout;
    let mut scanner = RequestScanner::default();
    loop {
        let preface = first && is_preface(&wire.input);
        match preface.then_some(wire.input.len() >= PREFACE.len()) {
            Some(true) => return Read::Preface,
            // The preface has come in pieces and may yet be whole.
            Some(false) => {}
            None => match scanner.scan(&wire.input, &engine.limits.head) {
                Ok(Some(head)) => return Read::Head(head),
                Ok(None) => {}
                Err(violation) => return Read::Refused(violation),
            },
        }
        match timeout_at(deadline, wire.fill()).await {
            Ok(Ok(1..)) => {}
            Ok(_) => return Read::Nothing,
            Err(_) => {
                let reason = "the request did not arrive in time";
                return Read::Refused(Violation::new(StatusCode::REQUEST_TIMEOUT, reason));
            }
        }
    }
}

/// Waits for the whole preface of a client that has chosen HTTP/2 before; false where it doesn't come.
pub(super) async fn preface(engine: &Engine, wire: &mut Wire) -> bool {
    let wait = async {
        while wire.input.len() < PREFACE.len() && is_preface(&wire.input) {
            if !matches!(wire.fill().await, Ok(1..)) {
                return false;
            }
        }
        is_preface(&wire.input)
    };
    timeout(engine.limits.head_timeout, wait).await.unwrap_or(false)
}

/// Whether the bytes are the preface or the beginning of it.
fn is_preface(input: &[u8]) -> bool {
    let length = input.len().min(PREFACE.len());
    input.get(..length) == PREFACE.get(..length)
}

/// Returns when an idle connection is to be closed because the program is leaving.
async fn left_idle(engine: &Engine, first: bool) {
    engine.drain.draining().await;
    if first {
        tokio::time::sleep(LATE_GRACE).await;
    }
}

/// Hands one exchange to pingora and takes the connection back. `None`: it is lost.
async fn exchange(
    engine: &Engine,
    mut wire: Wire,
    head: Head,
    facts: &Arc<ClientFacts>,
    slot: &Slot,
) -> Option<Returned> {
    let replay = replay(&wire.input, &head);
    wire.consume(head.length);
    let Head { version, target, authority, body, .. } = head;
    let request = Request { version, target, authority };
    let stream = ExchangeStream::new(wire, slot.clone(), replay, body, request, facts.clone());
    let reusable = engine.proxy.exchange(Box::new(stream)).await;
    let mut returned = slot.lock().unwrap_or_else(PoisonError::into_inner).take()?;
    returned.at_boundary &= reusable || returned.kept;
    if returned.wire.flush().await.is_err() {
        return None;
    }
    Some(returned)
}

/// The head as pingora gets it. The target is left out, since nothing that pingora knows about it is used.
fn replay(input: &[u8], head: &Head) -> Bytes {
    let fields = input.get(head.fields_start..head.length).unwrap_or_default();
    let mut bytes = BytesMut::with_capacity(head.method.as_str().len() + 16 + fields.len());
    bytes.put_slice(head.method.as_str().as_bytes());
    bytes.put_slice(if head.version == Version::HTTP_10 { b" / HTTP/1.0\r\n" } else { b" / HTTP/1.1\r\n" });
    bytes.put_slice(fields);
    bytes.freeze()
}

/// Answers what is no sound request.
async fn refuse(engine: &Engine, wire: &mut Wire, facts: &ClientFacts, violation: &Violation) {
    let start = Instant::now();
    let id = request_id(&http::HeaderMap::new(), rand::random());
    let answer = violation_page(violation, &id);
    let bytes = render(&answer);
    if timeout(LINGER, wire.send(&bytes)).await.is_ok_and(|sent| sent.is_ok()) {
        linger(wire).await;
    }
    engine.observer.exchange(&refused(facts, &answer, violation, start.elapsed()));
}

/// The record of a request that was not understood.
fn refused(facts: &ClientFacts, answer: &Answer, violation: &Violation, duration: Duration) -> Exchange {
    let id = answer.headers.iter().find(|(name, _)| name == "x-request-id");
    Exchange {
        start: SystemTime::now(),
        duration,
        request_id: id.and_then(|(_, value)| value.to_str().ok()).unwrap_or_default().to_owned(),
        client: facts.connection.client.ip().to_canonical(),
        peer: facts.connection.peer,
        method: "-".into(),
        scheme: Scheme::of(&facts.connection),
        host: String::new(),
        target: "-".into(),
        version: Version::HTTP_11,
        status: violation.status.as_u16(),
        received: 0,
        sent: answer.body.len() as u64,
        route: None,
        backend: None,
        upstream: None,
        tries: 0,
        user_agent: None,
        referer: None,
        error: Some(violation.reason.to_owned()),
    }
}

/// Ends the connection so that the client reads the last answer (RFC 9112 section 9.6): closing a socket that has
/// unread bytes resets the connection and throws away what was not yet sent.
pub(super) async fn linger(wire: &mut Wire) {
    let end = async {
        wire.finish().await?;
        let mut left = LINGER_BYTES;
        while !wire.ended && left > 0 {
            let read = wire.fill().await?;
            left = left.saturating_sub(read);
            wire.consume(wire.input.len());
        }
        std::io::Result::Ok(())
    };
    // Whether the client is still there does not matter any more.
    let _ = timeout(LINGER, end).await;
}
