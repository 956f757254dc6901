//! UDP ports: datagrams between clients and endpoints.
//!
//! A session is a client's address, the address that it sent to, an endpoint, and a socket towards that. It ends as in
//! nginx: when as many datagrams have come back as were expected, or when nothing has moved for a while. Whatever can't
//! be sent at once is lost, as UDP may lose it.

mod session;
mod sessions;
mod socket;

use std::net::{IpAddr, SocketAddr};
use std::sync::atomic::Ordering::Relaxed;
use std::sync::{Arc, Mutex, PoisonError};

use landfall_ingress_model::backend::Target;
use landfall_shared::drain::Phase;

use super::accept::Acceptor;
use super::tcp_port::{Service, closed};
use crate::engine::Rejected;
use session::Session;
use sessions::Sessions;
use socket::{Origin, PortSocket, with_buffer};

/// Datagrams that are read before other tasks have their turn.
const BATCH: usize = 64;

/// Of the connections that there may be, sessions are this part at most: they cost an attacker one datagram each.
const SHARE: usize = 4;

/// One UDP port of one worker.
struct Port {
    acceptor: Arc<Acceptor>,
    socket: PortSocket,
    service: Service,
    sessions: Mutex<Sessions>,
}

/// Carries datagrams until the port is closed. While the program drains, sessions go on and none begins.
pub(super) async fn run(acceptor: Arc<Acceptor>, socket: tokio::net::UdpSocket, service: Service) {
    let closing = closed(service.clone());
    let most = (acceptor.limits.total / SHARE).max(1);
    let socket = PortSocket::new(socket);
    let port = Arc::new(Port { acceptor, socket, service, sessions: Mutex::new(Sessions::new(most)) });
    let mut hold = Some(port.acceptor.gate.live.hold());
    let mut closing = std::pin::pin!(closing);
    let mut draining = std::pin::pin!(port.acceptor.gate.drain.draining());
    loop {
        tokio::select! {
            () = &mut closing => break,
            () = &mut draining, if hold.is_some() => hold = None,
            ready = port.socket.readable() => match ready {
                Ok(()) => port.read(),
                Err(error) => {
                    tracing::error!(%error, "a UDP port can't be read");
                    break;
                }
            },
        }
    }
    port.sessions().end_all();
}

impl Port {
    fn sessions(&self) -> std::sync::MutexGuard<'_, Sessions> {
        self.sessions.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn read(self: &Arc<Self>) {
        with_buffer(|buffer| {
            for _ in 0..BATCH {
                // An error is that of a datagram sent earlier, and is its session's business.
                match self.socket.receive(buffer) {
                    Ok((length, origin)) => self.take(&buffer[..length], origin),
                    Err(error) if error.kind() == std::io::ErrorKind::WouldBlock => return,
                    Err(_) => {}
                }
            }
        });
    }

    fn take(self: &Arc<Self>, data: &[u8], origin: Origin) {
        if let Some(session) = self.sessions().get(&origin)
            && !is_orphan(&session)
        {
            session.send(data);
            return;
        }
        let service = self.service.borrow().clone();
        let gate = &self.acceptor.gate;
        let rejected = |why| gate.observer.stream_rejected(&service, why, origin.client);
        if !matches!(gate.drain.phase(), Phase::Running | Phase::LameDuck) {
            return rejected(Rejected::Draining);
        }
        self.sessions().make_room();
        let Some(mut admission) = gate.live.admit(&self.acceptor.limits) else { return rejected(Rejected::TooMany) };
        if !admission.of_client(origin.client.ip(), &self.acceptor.limits) {
            return rejected(Rejected::TooManyOfClient);
        }
        let counts = gate.observer.stream_opened(&service);
        counts.opened.fetch_add(1, Relaxed);
        counts.open.fetch_add(1, Relaxed);
        let session = Arc::new(Session::new(origin, service, counts, admission));
        session.send(data);
        let task = tokio::spawn(session::run(session.clone(), self.clone()));
        self.sessions().insert(session, task.abort_handle());
    }

    /// Sends an answer to a client.
    fn reply(&self, data: &[u8], origin: &Origin) -> std::io::Result<()> {
        self.socket.reply(data, origin)
    }
}

/// Whether the endpoint of a session has left the Service: what a client goes on sending would get lost.
fn is_orphan(session: &Session) -> bool {
    let Some(endpoint) = session.endpoint() else { return false };
    match &session.service.backend.state().target {
        Target::Endpoints(addresses) => addresses.binary_search(&endpoint).is_err(),
        Target::Dns { .. } => false,
    }
}

/// An address that a socket towards `address` is bound to.
fn any_of(address: SocketAddr) -> SocketAddr {
    let any: IpAddr = match address {
        SocketAddr::V4(_) => std::net::Ipv4Addr::UNSPECIFIED.into(),
        SocketAddr::V6(_) => std::net::Ipv6Addr::UNSPECIFIED.into(),
    };
    (any, 0).into()
}
