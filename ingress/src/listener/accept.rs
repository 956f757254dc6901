//! From an accepted TCP connection to a stream that the engine can serve.

use std::net::{IpAddr, Ipv4Addr, Shutdown, SocketAddr};
use std::pin::Pin;
use std::sync::Arc;
use std::time::Duration;

use arc_swap::ArcSwap;
use bytes::BytesMut;
use ipnet::IpNet;
use landfall_ingress_model::pipeline::Connection;
use landfall_ingress_model::table::{Route, Table};
use socket2::SockRef;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use tokio::time::{Instant, timeout, timeout_at};

use super::gate::Gate;
use super::limits::{Admission, ConnectionLimits};
use super::proxy_protocol::{Addresses, Progress, parse};
use super::stream::{ClientStream, Socket};
use super::tls::{Tls, server_name, version_text};
use crate::engine::{Handshake, Observer, Rejected, Scheme, plain_on_tls, short_of_memory};

/// Total time for PROXY header and TLS handshake.
pub(super) const HANDSHAKE_TIMEOUT: Duration = Duration::from_secs(5);
/// Bytes that the kernel takes for a client beyond what is on the wire: so much is kept of an answer whose client reads
/// slowly, instead of as much as its buffer may grow to.
const UNSENT: u32 = 128 * 1024;
/// First byte of a TLS handshake record (RFC 8446 section 5.1).
const HANDSHAKE_RECORD: u8 = 22;
/// Where a client connected to whose PROXY header doesn't say.
const NOWHERE: SocketAddr = SocketAddr::new(IpAddr::V4(Ipv4Addr::UNSPECIFIED), 0);

/// What the accept loops of one worker share.
pub(super) struct Acceptor {
    pub(super) gate: Gate,
    pub(super) table: Arc<ArcSwap<Table>>,
    pub(super) tls: Arc<Tls>,
    pub(super) limits: ConnectionLimits,
    /// Peers that have to send a PROXY header.
    pub(super) proxies: Vec<IpNet>,
}

/// How long somebody who is turned away is waited for.
const PATIENCE: Duration = Duration::from_secs(1);

/// Says that there is no memory left, once the client has asked: an answer before that is none to many clients. It holds
/// its socket meanwhile and nothing else.
async fn turn_away(tcp: &TcpStream) {
    let asked = timeout(PATIENCE, tcp.peek(&mut [0])).await;
    drop_input(tcp);
    if asked.is_ok() && tcp.try_write(&short_of_memory()).is_ok() {
        // Unread input would reset the connection, and take the answer along.
        let _ = SockRef::from(tcp).shutdown(Shutdown::Write);
        let _ = timeout(PATIENCE, tcp.peek(&mut [0])).await;
        drop_input(tcp);
    }
}

fn drop_input(tcp: &TcpStream) {
    let mut some = [0; 4096];
    for _ in 0..16 {
        if !tcp.try_read(&mut some).is_ok_and(|read| read > 0) {
            return;
        }
    }
}

impl Acceptor {
    /// Accepts until the program drains.
    pub(super) async fn run(self: Arc<Self>, listener: TcpListener, scheme: Scheme) {
        self.gate.run(listener, std::future::pending(), |tcp, peer| self.take(tcp, peer, scheme)).await;
    }

    fn take(self: &Arc<Self>, tcp: TcpStream, peer: SocketAddr, scheme: Scheme) {
        let Some(admission) = self.gate.live.admit(&self.limits) else {
            self.gate.observer.rejected(scheme, Rejected::TooMany, peer);
            return;
        };
        if self.gate.engine.refuses_connection() {
            self.gate.observer.rejected(scheme, Rejected::Memory, peer);
            if scheme == Scheme::Http {
                tokio::spawn(async move {
                    let _admission = admission;
                    turn_away(&tcp).await;
                });
            }
            return;
        }
        // Where that can't be said, the kernel holds more of what nobody reads.
        let _ = SockRef::from(&tcp).set_tcp_notsent_lowat(UNSENT);
        let opened = Opened::new(self.gate.observer.clone(), scheme);
        // Boxed, so that an idle connection does not hold the space that its handshake took.
        let begun = Box::pin(self.clone().begin(tcp, peer, scheme, admission));
        tokio::spawn(async move {
            if let Some((served, _admission)) = begun.await {
                served.await;
            }
            drop(opened);
        });
    }

    /// Prepares a connection; returns what is to be done with it then, and while it is counted.
    async fn begin(
        self: Arc<Self>,
        tcp: TcpStream,
        peer: SocketAddr,
        scheme: Scheme,
        mut admission: Admission,
    ) -> Option<(Pin<Box<dyn Future<Output = ()> + Send>>, Admission)> {
        let served = match self.prepare(tcp, peer, scheme, &mut admission).await {
            Ok(Some(Prepared { stream, connection, end: End::Here })) => self.gate.engine.serve(stream, connection),
            Ok(Some(Prepared { stream, connection, end: End::Endpoint(route) })) => Box::pin(async move {
                let passed = self.gate.engine.pass_through(stream, &connection, &route).await;
                if let Err(reason) = passed {
                    tracing::debug!(client.addr = %connection.client, reason, "TLS is not passed through");
                    self.gate.observer.rejected(scheme, Rejected::Passthrough, peer);
                }
            }),
            Ok(None) => return None,
            Err(why) => {
                self.gate.observer.rejected(scheme, why, peer);
                return None;
            }
        };
        Some((served, admission))
    }

    /// Everything before the first byte of HTTP. `None`: the client has left.
    async fn prepare(
        &self,
        tcp: TcpStream,
        peer: SocketAddr,
        scheme: Scheme,
        admission: &mut Admission,
    ) -> Result<Option<Prepared>, Rejected> {
        let begun = Instant::now();
        let mut deadline = begun + HANDSHAKE_TIMEOUT;
        let Ok(local) = tcp.local_addr() else { return Ok(None) };
        let mut connection = Connection { client: peer, peer, local, destination: None, tls: None };
        let mut ahead = BytesMut::new();
        let mut tcp = tcp;
        let rules = self.table.load().connections.clone();
        let flagged = self.is_proxy(peer);
        if flagged || rules.proxy_protocol {
            let end = rules.proxy_header.map_or(deadline, |limit| begun + limit);
            let read = timeout_at(end, read_proxy_header(&mut tcp, &mut ahead)).await;
            if rules.proxy_header.is_some() {
                deadline = Instant::now() + HANDSHAKE_TIMEOUT;
            }
            match read.map_err(|_| Rejected::ProxyProtocol)?? {
                Some(addresses) => {
                    if flagged || rules.believes(peer.ip()) {
                        connection.client = addresses.source;
                    }
                    connection.local = addresses.destination;
                    connection.destination = Some(addresses.destination);
                }
                None => connection.destination = Some(NOWHERE),
            }
        }
        if !admission.of_client(connection.client.ip(), &self.limits) {
            return Err(Rejected::TooManyOfClient);
        }
        if scheme == Scheme::Http {
            let stream = ClientStream::Plain(Socket::new(tcp, ahead.freeze()));
            return Ok(Some(Prepared { stream, connection, end: End::Here }));
        }
        let handshake = self.handshake(tcp, ahead, begun, &mut connection);
        let secured = timeout_at(deadline, handshake).await.map_err(|_| Rejected::HandshakeTimeout)??;
        Ok(secured.map(|(stream, end)| Prepared { stream, connection, end }))
    }

    fn is_proxy(&self, peer: SocketAddr) -> bool {
        let address = peer.ip().to_canonical();
        self.proxies.iter().any(|net| net.contains(&address))
    }

    /// `None`: the client left without a word, as health checks of load balancers do.
    async fn handshake(
        &self,
        mut tcp: TcpStream,
        mut ahead: BytesMut,
        begun: Instant,
        connection: &mut Connection,
    ) -> Result<Option<(ClientStream, End)>, Rejected> {
        if ahead.is_empty() && !matches!(tcp.read_buf(&mut ahead).await, Ok(1..)) {
            return Ok(None);
        }
        if ahead.first() != Some(&HANDSHAKE_RECORD) {
            // Whether the client reads the page is up to the client.
            let _ = tcp.write_all(&plain_on_tls()).await;
            let _ = tcp.shutdown().await;
            return Err(Rejected::PlainOnTls);
        }
        if !self.table.load().connections.passthrough.is_empty() {
            let name = server_name(&mut tcp, &mut ahead).await;
            let table = self.table.load();
            if let Some(routes) = name.as_ref().and_then(|name| table.passthrough(name)) {
                // A host without a path / has nowhere to go to.
                let route = routes.root().cloned().ok_or(Rejected::Passthrough)?;
                return Ok(Some((ClientStream::Plain(Socket::new(tcp, ahead.freeze())), End::Endpoint(route))));
            }
        }
        let accepted = self.tls.accept(tcp, ahead, connection.local.ip()).await.map_err(|error| {
            tracing::debug!(client.addr = %connection.client, %error, "TLS handshake failed");
            Rejected::Handshake
        })?;
        let Some((stream, tls)) = accepted else { return Ok(None) };
        let state = stream.get_ref().1;
        self.gate.observer.handshake(Handshake {
            duration: begun.elapsed(),
            resumed: state.handshake_kind() == Some(rustls::HandshakeKind::Resumed),
            version: version_text(state.protocol_version()),
        });
        connection.tls = Some(tls);
        Ok(Some((ClientStream::Tls(Box::new(stream)), End::Here)))
    }
}

/// A connection behind PROXY header and handshake.
struct Prepared {
    stream: ClientStream,
    connection: Connection,
    end: End,
}

/// Where the client's words are read.
enum End {
    Here,
    /// At an endpoint of this route, within TLS.
    Endpoint(Arc<Route>),
}

/// Reads a whole header and leaves what follows it in `ahead`.
pub(super) async fn read_proxy_header(
    tcp: &mut TcpStream,
    ahead: &mut BytesMut,
) -> Result<Option<Addresses>, Rejected> {
    loop {
        match parse(ahead) {
            Ok(Progress::Complete { length, addresses }) => {
                let _ = ahead.split_to(length);
                return Ok(addresses);
            }
            Ok(Progress::Partial) => {}
            Err(error) => {
                tracing::debug!(%error, "PROXY header refused");
                return Err(Rejected::ProxyProtocol);
            }
        }
        if !matches!(tcp.read_buf(ahead).await, Ok(1..)) {
            return Err(Rejected::ProxyProtocol);
        }
    }
}

/// Tells the observer of a connection's beginning and, however it comes, its end.
struct Opened {
    observer: Arc<dyn Observer>,
    scheme: Scheme,
}

impl Opened {
    fn new(observer: Arc<dyn Observer>, scheme: Scheme) -> Self {
        observer.opened(scheme);
        Self { observer, scheme }
    }
}

impl Drop for Opened {
    fn drop(&mut self) {
        self.observer.closed(self.scheme);
    }
}
