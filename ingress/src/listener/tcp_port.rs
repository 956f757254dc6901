//! Connections on the TCP ports of Services.

use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::Ordering::Relaxed;

use bytes::BytesMut;
use ipnet::IpNet;
use landfall_ingress_model::table::StreamService;
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::watch;
use tokio::time::{Instant, timeout};

use super::accept::{Acceptor, HANDSHAKE_TIMEOUT, read_proxy_header};
use super::limits::Admission;
use super::stream::Socket;
use crate::engine::{Carried, Ends, Observer, Rejected, StreamCounts, StreamRecord};

/// What a port leads to. Whoever opened the port closes it by dropping the other end.
pub(super) type Service = watch::Receiver<Arc<StreamService>>;

/// Returns once the port is to be closed.
pub(super) async fn closed(mut service: Service) {
    while service.changed().await.is_ok() {}
}

impl Acceptor {
    /// Accepts on the port of a Service until it is closed or the program drains; connections go on.
    pub(super) async fn run_port(self: Arc<Self>, listener: TcpListener, service: Service) {
        let take = |tcp, peer| self.take_for(tcp, peer, service.borrow().clone());
        self.gate.run(listener, closed(service.clone()), take).await;
    }

    fn take_for(self: &Arc<Self>, tcp: TcpStream, peer: SocketAddr, service: Arc<StreamService>) {
        let Some(admission) = self.gate.live.admit(&self.limits) else {
            self.gate.observer.stream_rejected(&service, Rejected::TooMany, peer);
            return;
        };
        if self.gate.engine.refuses_connection() {
            self.gate.observer.stream_rejected(&service, Rejected::Memory, peer);
            return;
        }
        let this = self.clone();
        tokio::spawn(async move {
            let mut admission = admission;
            let observer = &*this.gate.observer;
            let Ok(local) = tcp.local_addr() else { return };
            let mut passage = Passage::new(observer, &service, Ends { client: peer, destination: local });
            // Boxed, so that what waits for a PROXY header is not held for the life of the connection.
            match Box::pin(this.introduce(tcp, &mut passage, &mut admission)).await {
                Ok(socket) => {
                    let Passage { ends, counts, carried, .. } = &mut passage;
                    this.gate.engine.carry(socket, *ends, &service, counts, carried).await;
                    passage.rejected = passage.carried.failure.map(|_| Rejected::NoEndpoint);
                }
                Err(why) => passage.rejected = Some(why),
            }
        });
    }

    /// Finds out who the client is.
    async fn introduce(
        &self,
        mut tcp: TcpStream,
        passage: &mut Passage<'_>,
        admission: &mut Admission,
    ) -> Result<Socket, Rejected> {
        let mut ahead = BytesMut::new();
        if passage.service.proxy.from_client {
            let read = timeout(HANDSHAKE_TIMEOUT, read_proxy_header(&mut tcp, &mut ahead)).await;
            let addresses = read.map_err(|_| Rejected::ProxyProtocol)??;
            let believed = is_believed(&self.table.load().connections.proxies, passage.ends.client);
            if let Some(addresses) = addresses.filter(|_| believed) {
                passage.ends = Ends { client: addresses.source, destination: addresses.destination };
            }
        }
        if !admission.of_client(passage.ends.client.ip(), &self.limits) {
            return Err(Rejected::TooManyOfClient);
        }
        Ok(Socket::new(tcp, ahead.freeze()))
    }
}

/// Whether what a PROXY header of this peer says counts: `proxy-real-ip-cidr`.
fn is_believed(proxies: &[IpNet], peer: SocketAddr) -> bool {
    let peer = peer.ip().to_canonical();
    proxies.is_empty() || proxies.iter().any(|net| net.contains(&peer))
}

/// A connection on its way; the observer hears of its end, however it comes.
struct Passage<'a> {
    observer: &'a dyn Observer,
    service: &'a StreamService,
    begun: Instant,
    ends: Ends,
    counts: Arc<StreamCounts>,
    carried: Carried,
    rejected: Option<Rejected>,
}

impl<'a> Passage<'a> {
    fn new(observer: &'a dyn Observer, service: &'a StreamService, ends: Ends) -> Self {
        let counts = observer.stream_opened(service);
        counts.opened.fetch_add(1, Relaxed);
        counts.open.fetch_add(1, Relaxed);
        let (begun, carried) = (Instant::now(), Carried::default());
        Self { observer, service, begun, ends, counts, carried, rejected: None }
    }
}

impl Drop for Passage<'_> {
    fn drop(&mut self) {
        self.counts.open.fetch_sub(1, Relaxed);
        let Carried { upstream, tries, received, sent, .. } = self.carried;
        self.observer.stream_closed(&StreamRecord {
            service: self.service,
            client: self.ends.client,
            duration: self.begun.elapsed(),
            received,
            sent,
            upstream,
            tries,
            rejected: self.rejected,
        });
    }
}
