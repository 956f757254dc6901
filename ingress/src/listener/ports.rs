//! The ports of TCP and UDP services: opened and closed while the program runs.

use std::collections::{BTreeMap, BTreeSet};
use std::net::{IpAddr, SocketAddr, TcpListener, UdpSocket};
use std::sync::Arc;

use landfall_ingress_model::backend::Transport;
use landfall_ingress_model::table::{StreamPort, StreamService, Streams};
use tokio::sync::{mpsc, watch};

use super::socket::{BindError, Listener, bind_datagrams};
use super::tcp_port::Service;

/// A socket of a worker, and what it is for.
pub(super) enum Opened {
    Tcp(TcpListener, Service),
    Udp(UdpSocket, Service),
}

/// Opens and closes ports. Each is on the addresses of plain HTTP, with a socket for each worker.
#[derive(Debug)]
pub struct StreamPorts {
    addresses: BTreeSet<IpAddr>,
    workers: Vec<mpsc::UnboundedSender<Opened>>,
    open: BTreeMap<StreamPort, watch::Sender<Arc<StreamService>>>,
}

/// A port that can't be listened on.
#[derive(Debug)]
pub struct Unopened {
    /// The port.
    pub port: StreamPort,
    /// Why.
    pub cause: BindError,
}

impl StreamPorts {
    pub(super) fn new(addresses: BTreeSet<IpAddr>, workers: Vec<mpsc::UnboundedSender<Opened>>) -> Self {
        Self { addresses, workers, open: BTreeMap::new() }
    }

    /// Has those ports open that are wanted and that have an endpoint, and no others. Returns those that can't be.
    ///
    /// Where a port stays and leads elsewhere, new connections go there. Connections of a port that is closed go on;
    /// UDP has none, so its sessions end.
    pub fn follow(&mut self, streams: &Streams) -> Vec<Unopened> {
        let wanted = |port: &StreamPort| streams.ports.get(port).is_some_and(|service| service.is_open());
        self.open.retain(|port, _| {
            let stays = wanted(port);
            if !stays {
                tracing::info!(transport = port.transport.as_str(), port = port.number, "port is closed");
            }
            stays
        });
        let mut unopened = Vec::new();
        for service in streams.ports.values().filter(|service| service.is_open()) {
            if let Some(open) = self.open.get(&service.port) {
                open.send_if_modified(|old| {
                    let is_new = !Arc::ptr_eq(old, service);
                    if is_new {
                        old.clone_from(service);
                    }
                    is_new
                });
                continue;
            }
            match self.open(service) {
                Ok(sender) => {
                    let StreamPort { transport, number } = service.port;
                    tracing::info!(transport = transport.as_str(), port = number, backend = %service.backend.key, "port is open");
                    self.open.insert(service.port, sender);
                }
                Err(cause) => unopened.push(Unopened { port: service.port, cause }),
            }
        }
        unopened
    }

    fn open(&self, service: &Arc<StreamService>) -> Result<watch::Sender<Arc<StreamService>>, BindError> {
        let (sender, receiver) = watch::channel(service.clone());
        let count = self.workers.len();
        let mut opened = Vec::new();
        // All addresses or none.
        for ip in &self.addresses {
            let address = SocketAddr::new(*ip, service.port.number);
            match service.port.transport {
                Transport::Tcp => {
                    let sockets = Listener::bind(address, count)?.into_sockets();
                    opened.push(sockets.into_iter().map(|socket| Opened::Tcp(socket, receiver.clone())).collect());
                }
                Transport::Udp => {
                    let sockets = bind_datagrams(address, count)?;
                    let sockets = sockets.into_iter().map(|socket| Opened::Udp(socket, receiver.clone()));
                    opened.push(sockets.collect::<Vec<_>>());
                }
            }
        }
        for sockets in opened {
            for (worker, socket) in self.workers.iter().zip(sockets) {
                // A worker that is gone has said so.
                let _ = worker.send(socket);
            }
        }
        Ok(sender)
    }
}
