//! The loop of an HTTP/1 connection: one request after the other, each handed over whole and alone.

use std::future::poll_fn;
use std::pin::Pin;
use std::sync::Arc;
use std::task::Poll;
use std::time::SystemTime;

use bytes::Bytes;
use http::{StatusCode, Version};
use landfall_ingress_model::fields::Fields;
use landfall_ingress_model::pipeline::{Answer, Connection, request_id};
use tokio::time::{Duration, Instant, timeout, timeout_at};

use super::Shared;
use super::answer::{SHORT_OF_MEMORY, render, violation_page};
use super::body::Length;
use super::client::{Client, Http1Client, linger};
use super::draining::Draining;
use super::event::{Exchange, Scheme};
use super::exchange::{Peer, Request, run};
use super::framing::{Body, Head, RequestScanner, Violation};
use super::http2;
use super::timer::Timer;
use super::wire::Wire;
use crate::listener::ClientStream;
use crate::memory::Refusal;

/// What an HTTP/2 client with prior knowledge sends first (RFC 9113 section 3.4).
const PREFACE: &[u8] = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n";
/// How long a client may take for the answer to what is no request.
const REFUSAL: Duration = Duration::from_secs(2);
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

/// What follows an exchange.
pub(super) enum Next {
    /// Another exchange may.
    Again(Wire<ClientStream>),
    /// The connection speaks HTTP/2.
    Http2(Wire<ClientStream>),
    Over,
}

/// Whatever carries the exchanges of a connection, one after the other.
pub(super) trait Carry: Send {
    /// The client's connection.
    fn connection(&self) -> &Connection;

    /// One exchange.
    fn exchange(
        &mut self,
        engine: &Shared,
        wire: Wire<ClientStream>,
        head: Head,
        timer: &mut Timer,
    ) -> impl Future<Output = Next> + Send;

    /// The whole of a connection that speaks HTTP/2; its preface has come.
    fn http2(self, engine: Arc<Shared>, wire: Wire<ClientStream>) -> impl Future<Output = ()> + Send;
}

/// Serves the connection until it ends.
///
/// An idle connection holds this and nothing else, so everything that comes with a request is boxed.
#[expect(clippy::manual_async_fn, reason = "it would hold each argument twice, and there are thousands of these")]
pub(super) fn serve(
    engine: Arc<Shared>,
    mut wire: Wire<ClientStream>,
    mut carry: impl Carry,
) -> impl Future<Output = ()> + Send {
    async move {
        let mut first = true;
        let mut timer = Timer::default();
        let draining = std::pin::pin!(engine.drain.draining());
        let mut draining = Draining::new(draining);
        let wire = loop {
            if wire.input.is_empty() && !await_request(&engine, &mut wire, first, &mut timer, &mut draining).await {
                return;
            }
            match turn(&engine, wire, &mut carry, first, &mut timer).await {
                Next::Again(kept) => wire = kept,
                Next::Http2(wire) => break wire,
                Next::Over => return,
            }
            wire.shrink();
            first = false;
        };
        Box::pin(carry.http2(engine.clone(), wire)).await;
    }
}

/// Serves a connection whose client has chosen HTTP/2 before.
#[expect(clippy::manual_async_fn, reason = "it would hold each argument twice, and there are thousands of these")]
pub(super) fn skip(
    engine: Arc<Shared>,
    mut wire: Wire<ClientStream>,
    carry: impl Carry,
) -> impl Future<Output = ()> + Send {
    async move {
        if preface(&engine, &mut wire).await {
            Box::pin(carry.http2(engine, wire)).await;
        }
    }
}

/// Waits for the first bytes of a request; false where none come.
fn await_request(
    engine: &Shared,
    wire: &mut Wire<ClientStream>,
    first: bool,
    timer: &mut Timer,
    draining: &mut Draining<&mut impl Future<Output = ()>>,
) -> impl Future<Output = bool> {
    let mut end = Instant::now() + engine.limits.idle_timeout;
    poll_fn(move |cx| {
        if let Poll::Ready(read) = wire.poll_fill(cx) {
            return Poll::Ready(matches!(read, Ok(1..)));
        }
        if draining.has_come(&engine.drain, cx) {
            if !first {
                return Poll::Ready(false);
            }
            end = end.min(Instant::now() + LATE_GRACE);
        }
        timer.poll_until(end, cx).map(|()| false)
    })
}

/// What a request that has begun to come leads to. Most heads have come as a whole.
fn turn<'a>(
    engine: &'a Shared,
    wire: Wire<ClientStream>,
    carry: &'a mut impl Carry,
    first: bool,
    timer: &'a mut Timer,
) -> Pin<Box<dyn Future<Output = Next> + Send + 'a>> {
    let mut scanner = RequestScanner::default();
    match look(engine, &wire, first, &mut scanner) {
        Some(Read::Head(head)) => Box::pin(carry.exchange(engine, wire, head, timer)),
        read => Box::pin(turn_slowly(engine, wire, carry, first, timer, scanner, read)),
    }
}

/// What a request leads to that comes in pieces or can't be served.
async fn turn_slowly(
    engine: &Shared,
    mut wire: Wire<ClientStream>,
    carry: &mut impl Carry,
    first: bool,
    timer: &mut Timer,
    scanner: RequestScanner,
    read: Option<Read>,
) -> Next {
    let read = match read {
        Some(read) => read,
        None => read_rest(engine, &mut wire, first, scanner).await,
    };
    match read {
        Read::Head(head) => Box::pin(carry.exchange(engine, wire, head, timer)).await,
        Read::Preface => Next::Http2(wire),
        Read::Nothing => Next::Over,
        Read::Refused(violation) => {
            refuse(engine, &mut wire, carry.connection(), &violation).await;
            Next::Over
        }
    }
}

/// Reads the rest of a head, within the time limit.
async fn read_rest(engine: &Shared, wire: &mut Wire<ClientStream>, first: bool, mut scanner: RequestScanner) -> Read {
    let deadline = Instant::now() + engine.limits.head_timeout;
    loop {
        match timeout_at(deadline, wire.fill()).await {
            Ok(Ok(1..)) => {}
            Ok(_) => return Read::Nothing,
            Err(_) => {
                let reason = "the request did not arrive in time";
                return Read::Refused(Violation::new(StatusCode::REQUEST_TIMEOUT, reason));
            }
        }
        if let Some(read) = look(engine, wire, first, &mut scanner) {
            return read;
        }
    }
}

/// What has come, if it is whole.
fn look(engine: &Shared, wire: &Wire<ClientStream>, first: bool, scanner: &mut RequestScanner) -> Option<Read> {
    let preface = first && engine.limits.http2 && is_preface(&wire.input);
    match preface.then_some(wire.input.len() >= PREFACE.len()) {
        Some(true) => Some(Read::Preface),
        // The preface has come in pieces and may yet be whole.
        Some(false) => None,
        None => match scanner.scan(&wire.input, &engine.limits.head) {
            Ok(Some(_)) if engine.memory.refuses(Refusal::Request) => Some(Read::Refused(SHORT_OF_MEMORY)),
            Ok(head) => head.map(Read::Head),
            Err(violation) => Some(Read::Refused(violation)),
        },
    }
}

/// Waits for the whole preface of a client that has chosen HTTP/2 before; false where it doesn't come.
async fn preface(engine: &Shared, wire: &mut Wire<ClientStream>) -> bool {
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

/// Exchanges that this engine carries itself.
pub(super) struct Exchanges {
    peer: Peer,
    /// Requests that the connection may still have.
    left: u32,
}

impl Exchanges {
    pub(super) fn new(connection: Connection, left: u32) -> Self {
        Self { peer: Peer::new(connection), left }
    }
}

impl Carry for Exchanges {
    fn connection(&self) -> &Connection {
        &self.peer.connection
    }

    fn exchange(
        &mut self,
        engine: &Shared,
        mut wire: Wire<ClientStream>,
        mut head: Head,
        timer: &mut Timer,
    ) -> impl Future<Output = Next> + Send {
        let bytes: Bytes = wire.input.split_to(head.length).freeze();
        let fields = head.fields(bytes);
        let Head { method, version, target, authority, body, .. } = head;
        let length = match &body {
            // A length of 0 that is not declared is no body at all.
            Body::Length(0) if !fields.contains(http::header::CONTENT_LENGTH) => Length::None,
            Body::Length(length) => Length::Known(*length),
            Body::Chunked(_) | Body::UntilEnd => Length::Unknown,
        };
        let mut client = Http1Client::new(wire, body, version, &method, &fields, engine.clock.clone());
        self.left = self.left.saturating_sub(1);
        if self.left == 0 {
            client.end();
        }
        let request = Request { method, version, target, authority, fields, body: length, violation: None };
        async move {
            run(engine, &request, &mut Client::Http1(&mut client), &self.peer, timer).await;
            if client.goes_on() {
                return Next::Again(client.wire);
            }
            drop(request);
            if client.is_answered() {
                Box::pin(linger(&mut client.wire)).await;
            }
            Next::Over
        }
    }

    fn http2(self, engine: Arc<Shared>, wire: Wire<ClientStream>) -> impl Future<Output = ()> + Send {
        http2::serve(engine, wire, self.peer)
    }
}

/// Answers what is no sound request.
async fn refuse(engine: &Shared, wire: &mut Wire<ClientStream>, connection: &Connection, violation: &Violation) {
    let start = Instant::now();
    let id = request_id(&Fields::default(), rand::random());
    let answer = violation_page(violation, &id);
    let bytes = render(&answer);
    if timeout(REFUSAL, wire.send(&bytes)).await.is_ok_and(|sent| sent.is_ok()) {
        linger(wire).await;
    }
    engine.observer.exchange(&refused(connection, &answer, violation, start.elapsed()));
}

/// The record of a request that was not understood.
fn refused<'a>(connection: &Connection, answer: &'a Answer, violation: &Violation, duration: Duration) -> Exchange<'a> {
    let id = answer.headers.iter().find(|(name, _)| name == "x-request-id");
    Exchange {
        start: SystemTime::now(),
        duration,
        request_id: id.and_then(|(_, value)| value.to_str().ok()).unwrap_or_default().into(),
        client: connection.client.ip().to_canonical(),
        peer: connection.peer,
        method: "-".into(),
        scheme: Scheme::of(connection),
        host: "".into(),
        target: "-".into(),
        version: Version::HTTP_11,
        status: violation.status.as_u16(),
        received: 0,
        sent: answer.body.len() as u64,
        route: None,
        canary: None,
        upstream: None,
        span: None,
        tries: 0,
        user_agent: None,
        referer: None,
        fields: None,
        tls: None,
        error: Some(violation.reason.into()),
    }
}
