//! A client's session with an endpoint.

use std::io::ErrorKind::{ConnectionRefused, WouldBlock};
use std::io::{self, Read};
use std::net::SocketAddr;
use std::sync::atomic::Ordering::Relaxed;
use std::sync::{Arc, Mutex, PoisonError};

use bytes::Bytes;
use futures::FutureExt;
use landfall_ingress_model::table::StreamService;
use socket2::SockRef;
use tokio::io::Interest;
use tokio::net::UdpSocket;
use tokio::sync::Notify;
use tokio::time::{Instant, sleep_until};

use super::socket::{Origin, with_buffer};
use super::{BATCH, Port, any_of};
use crate::engine::{Chosen, Rejected, StreamCounts, StreamRecord};
use crate::lack::is_lack;
use crate::listener::limits::Admission;

/// Datagrams that are kept until an endpoint has answered, to be sent to another one if it is not there.
const MOST_KEPT: usize = 8;

/// What an endpoint says: a datagram, or that nobody listens there.
const ANSWER: Interest = Interest::READABLE.add(Interest::ERROR);

/// A session.
pub(super) struct Session {
    pub(super) origin: Origin,
    pub(super) service: Arc<StreamService>,
    counts: Arc<StreamCounts>,
    begun: Instant,
    state: Mutex<State>,
    /// The endpoint has refused what was sent.
    refused: Notify,
    _admission: Admission,
}

struct State {
    /// Towards the endpoint.
    socket: Option<Arc<UdpSocket>>,
    endpoint: Option<SocketAddr>,
    /// What was sent and may have to be sent again.
    kept: Vec<Bytes>,
    moved: Instant,
    is_used: bool,
    requests: u64,
    replies: u64,
    received: u64,
    sent: u64,
}

impl Session {
    pub(super) fn new(
        origin: Origin,
        service: Arc<StreamService>,
        counts: Arc<StreamCounts>,
        admission: Admission,
    ) -> Self {
        let begun = Instant::now();
        let state = State {
            socket: None,
            endpoint: None,
            kept: Vec::new(),
            moved: begun,
            is_used: false,
            requests: 0,
            replies: 0,
            received: 0,
            sent: 0,
        };
        Self { origin, service, counts, begun, state: Mutex::new(state), refused: Notify::new(), _admission: admission }
    }

    fn state(&self) -> std::sync::MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The endpoint, once there is one.
    pub(super) fn endpoint(&self) -> Option<SocketAddr> {
        self.state().endpoint
    }

    /// Whether something has moved since this was last asked.
    pub(super) fn was_used(&self) -> bool {
        std::mem::take(&mut self.state().is_used)
    }

    /// Sends a client's datagram to the endpoint, or keeps it until there is one.
    pub(super) fn send(&self, data: &[u8]) {
        let length = data.len() as u64;
        self.counts.received.fetch_add(length, Relaxed);
        let mut state = self.state();
        state.received += length;
        state.requests += 1;
        state.moved = Instant::now();
        state.is_used = true;
        if state.replies == 0 && state.kept.len() < MOST_KEPT {
            state.kept.push(Bytes::copy_from_slice(data));
        }
        if let Some(socket) = &state.socket
            && SockRef::from(&**socket).send(data).is_err_and(|error| error.kind() == ConnectionRefused)
        {
            // It is about what was sent before; this one was not sent at all.
            self.refused.notify_one();
        }
    }

    /// Joins it with an endpoint; what was kept goes there.
    ///
    /// The kernel is asked itself, here and elsewhere, since the runtime knows only later that a new socket can be
    /// written to.
    fn join(&self, socket: &Arc<UdpSocket>, endpoint: SocketAddr) {
        // What another endpoint has refused is no refusal of this one.
        let _ = self.refused.notified().now_or_never();
        let mut state = self.state();
        for data in &state.kept {
            let _ = SockRef::from(&**socket).send(data);
        }
        state.socket = Some(socket.clone());
        state.endpoint = Some(endpoint);
    }

    /// Keeps what the client sends until there is another endpoint.
    fn part(&self) {
        self.state().socket = None;
    }

    /// Passes on what the endpoint has sent.
    fn pump(&self, socket: &UdpSocket, port: &Port) -> Pumped {
        with_buffer(|buffer| {
            for _ in 0..BATCH {
                let length = match receive(socket, buffer) {
                    Ok(length) => length,
                    Err(error) if error.kind() == WouldBlock => return Pumped::Waits,
                    Err(error) if error.kind() == ConnectionRefused => return Pumped::Refused,
                    Err(_) => return Pumped::Over,
                };
                // A client that can't be reached hears nothing; it may still send.
                let _ = port.reply(&buffer[..length], &self.origin);
                self.counts.sent.fetch_add(length as u64, Relaxed);
                let mut state = self.state();
                state.sent += length as u64;
                state.replies += 1;
                state.moved = Instant::now();
                state.is_used = true;
                state.kept = Vec::new();
                if self.is_answered(&state) {
                    return Pumped::Over;
                }
            }
            Pumped::Waits
        })
    }

    /// Whether as many datagrams came back as were expected.
    fn is_answered(&self, state: &State) -> bool {
        let expected = self.service.policy.responses;
        expected.is_some_and(|each| state.replies >= u64::from(each).saturating_mul(state.requests))
    }
}

/// A datagram, or what has become of one that was sent.
fn receive(socket: &UdpSocket, buffer: &mut [u8]) -> io::Result<usize> {
    let mut read = || (&*SockRef::from(socket)).read(buffer);
    // The runtime takes one interest at a time here.
    match socket.try_io(Interest::READABLE, &mut read) {
        Err(error) if error.kind() == WouldBlock => socket.try_io(Interest::ERROR, read),
        other => other,
    }
}

/// How far the endpoint is.
enum Pumped {
    Waits,
    /// Nobody listens there.
    Refused,
    Over,
}

/// Carries a session to its end.
pub(super) async fn run(session: Arc<Session>, port: Arc<Port>) {
    let mut ending = Ending { session: &session, port: &port, tries: 0, rejected: None };
    let (service, client) = (&session.service, session.origin.client.ip().to_canonical());
    let (policy, engine) = (&service.policy, &port.acceptor.gate.engine);
    let mut refused = Vec::new();
    loop {
        let Ok(chosen) = engine.choose(&service.backend, client, &refused).await else {
            ending.rejected = Some(Rejected::NoEndpoint);
            return;
        };
        let endpoint = chosen.pick.addr;
        ending.tries += 1;
        let socket = match connect(endpoint).await {
            Ok(socket) => Arc::new(socket),
            Err(error) => {
                if is_lack(&error) {
                    port.acceptor.gate.observer.lacks("connect", &error);
                    engine.make_room();
                }
                ending.rejected = Some(Rejected::NoEndpoint);
                return;
            }
        };
        session.join(&socket, endpoint);
        if relay(&session, &socket, &port, &chosen).await == Relayed::Over {
            return;
        }
        // Nobody listens there.
        engine.failed(&service.backend.key, &chosen);
        let out_of_time = policy.within.is_some_and(|within| session.begun.elapsed() >= within);
        if session.state().replies > 0 || ending.tries >= policy.tries || out_of_time {
            ending.rejected = (session.state().replies == 0).then_some(Rejected::NoEndpoint);
            return;
        }
        session.part();
        refused.push(endpoint);
    }
}

async fn connect(endpoint: SocketAddr) -> io::Result<UdpSocket> {
    let socket = UdpSocket::bind(any_of(endpoint)).await?;
    socket.connect(endpoint).await?;
    Ok(socket)
}

#[derive(PartialEq)]
enum Relayed {
    Refused,
    Over,
}

/// Passes datagrams back until the session is over.
async fn relay(session: &Session, socket: &UdpSocket, port: &Port, chosen: &Chosen) -> Relayed {
    if session.is_answered(&session.state()) {
        return Relayed::Over;
    }
    let idle = session.service.policy.idle;
    let mut timer = std::pin::pin!(sleep_until(session.state().moved + idle));
    loop {
        tokio::select! {
            ready = socket.ready(ANSWER) => match ready.map(|_| session.pump(socket, port)) {
                Ok(Pumped::Waits) => {}
                Ok(Pumped::Refused) => return Relayed::Refused,
                Ok(Pumped::Over) | Err(_) => {
                    chosen.balancer.succeeded(chosen.pick.addr);
                    return Relayed::Over;
                }
            },
            () = session.refused.notified() => return Relayed::Refused,
            () = &mut timer => {
                let end = session.state().moved + idle;
                if end <= Instant::now() {
                    return Relayed::Over;
                }
                timer.as_mut().reset(end);
            }
        }
    }
}

/// The end of a session, however it comes.
struct Ending<'a> {
    session: &'a Arc<Session>,
    port: &'a Arc<Port>,
    tries: u32,
    rejected: Option<Rejected>,
}

impl Drop for Ending<'_> {
    fn drop(&mut self) {
        let session = self.session;
        session.counts.open.fetch_sub(1, Relaxed);
        self.port.sessions().remove(session);
        let state = session.state();
        self.port.acceptor.gate.observer.stream_closed(&StreamRecord {
            service: &session.service,
            client: session.origin.client,
            duration: session.begun.elapsed(),
            received: state.received,
            sent: state.sent,
            upstream: state.endpoint,
            tries: self.tries,
            rejected: self.rejected,
        });
    }
}
