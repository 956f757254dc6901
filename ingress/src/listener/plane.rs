//! The data plane: workers with their listeners and engines.

use std::net::{SocketAddr, TcpListener};
use std::sync::Arc;
use std::thread::JoinHandle;

use arc_swap::ArcSwap;
use ipnet::IpNet;
use landfall_ingress_model::acme::challenges::Challenges;
use landfall_ingress_model::pipeline::PipelineSettings;
use landfall_ingress_model::settings::Origin;
use landfall_ingress_model::table::Table;
use landfall_shared::drain::Drain;
use thiserror::Error;
use tokio::sync::{mpsc, watch};

use super::accept::Acceptor;
use super::datagrams;
use super::gate::Gate;
use super::limits::{ConnectionLimits, Live, idle_within};
use super::ports::{Opened, StreamPorts};
use super::socket::{BindError, Listener};
use super::tls::{Tls, TlsError};
use crate::balance::Balancers;
use crate::engine::{Carrier, Engine, EngineConfig, EngineLimits, Observer, Opinions, Scheme};
use crate::limits::Limits;
use crate::memory::{self, Ledger};
use crate::resolve::Resolver;

/// What the data plane works with.
#[derive(Clone)]
pub struct DataPlaneConfig {
    /// Where plain HTTP is listened for.
    pub http: Vec<SocketAddr>,
    /// Where HTTPS is listened for.
    pub https: Vec<SocketAddr>,
    /// Worker threads; 0 is one for each core.
    pub workers: usize,
    /// The routing table.
    pub table: Arc<ArcSwap<Table>>,
    /// The challenges of our own that are answered.
    pub challenges: Arc<Challenges>,
    /// Settings of the pipeline.
    pub pipeline: PipelineSettings,
    /// Limits of requests.
    pub limits: EngineLimits,
    /// Limits of connections.
    pub connections: ConnectionLimits,
    /// Peers that have to send a PROXY header; from others it is not understood.
    pub proxy_protocol: Vec<IpNet>,
    /// Balances over the endpoints of each backend.
    pub balancers: Arc<Balancers>,
    /// The way out.
    pub drain: Drain,
    /// Hears of everything that happens.
    pub observer: Arc<dyn Observer>,
    /// What carries the exchanges.
    pub carrier: Carrier,
    /// What is held for clients, and how much memory there may be.
    pub memory: Arc<Ledger>,
}

impl DataPlaneConfig {
    /// Defaults for everything that has one; nothing is listened on yet.
    pub fn new(table: Arc<ArcSwap<Table>>, drain: Drain, observer: Arc<dyn Observer>) -> Self {
        Self {
            http: Vec::new(),
            https: Vec::new(),
            workers: 0,
            table,
            challenges: Arc::default(),
            pipeline: PipelineSettings::default(),
            limits: EngineLimits::default(),
            connections: ConnectionLimits::default(),
            proxy_protocol: Vec::new(),
            balancers: Balancers::new(Arc::new(Resolver::new(Origin::Cluster))),
            drain,
            observer,
            carrier: Carrier::default(),
            memory: Ledger::new(None),
        }
    }
}

/// Why the data plane can't start.
#[derive(Debug, Error)]
pub enum StartError {
    /// An address can't be listened on.
    #[error(transparent)]
    Bind(#[from] BindError),
    /// TLS can't be set up.
    #[error(transparent)]
    Tls(#[from] TlsError),
    /// A worker can't be started.
    #[error("cannot start a data worker: {0}")]
    Worker(#[from] std::io::Error),
}

/// Running workers.
#[derive(Debug)]
pub struct DataPlane {
    http: Vec<SocketAddr>,
    https: Vec<SocketAddr>,
    live: Arc<Live>,
    stop: watch::Sender<bool>,
    workers: Vec<JoinHandle<()>>,
    ports: Vec<mpsc::UnboundedSender<Opened>>,
}

impl DataPlane {
    /// Opens the listeners and starts the workers: each is a thread with a runtime, sockets and an engine of its
    /// own, so that no request crosses from one core to another.
    pub fn start(mut config: DataPlaneConfig) -> Result<Self, StartError> {
        let count = match config.workers {
            0 => std::thread::available_parallelism().map_or(1, usize::from),
            count => count,
        };
        limit_connections(&mut config, count);
        watch_memory(&config.memory)?;
        let config = Arc::new(config);
        let provider = crate::crypto_provider();
        // Pingora takes the process's provider for its own connections; whoever installed one before keeps it.
        let _ = rustls::crypto::CryptoProvider::install_default((*provider).clone());
        let tls = Arc::new(Tls::new(config.table.clone(), config.challenges.clone(), &provider)?);
        let live = Arc::new(Live::default());
        let mut sockets: Vec<Vec<(TcpListener, Scheme)>> = (0..count).map(|_| Vec::new()).collect();
        let mut bind = |addresses: &[SocketAddr], scheme: Scheme| {
            let mut bound = Vec::new();
            for address in addresses {
                let listener = Listener::bind(*address, count)?;
                bound.push(listener.address());
                for (worker, socket) in sockets.iter_mut().zip(listener.into_sockets()) {
                    worker.push((socket, scheme));
                }
            }
            Ok::<_, BindError>(bound)
        };
        let http = bind(&config.http, Scheme::Http)?;
        let https = bind(&config.https, Scheme::Https)?;
        let (stop, stopped) = watch::channel(false);
        let (mut workers, mut ports) = (Vec::with_capacity(count), Vec::with_capacity(count));
        let (opinions, clients) = (Opinions::default(), Limits::default());
        for (index, sockets) in sockets.into_iter().enumerate() {
            let (sender, opened) = mpsc::unbounded_channel();
            ports.push(sender);
            let worker = Worker {
                opened,
                config: config.clone(),
                tls: tls.clone(),
                live: live.clone(),
                opinions: opinions.clone(),
                clients: clients.clone(),
                stopped: stopped.clone(),
            };
            workers.push(worker.spawn(index, sockets)?);
        }
        Ok(Self { http, https, live, stop, workers, ports })
    }

    /// The addresses of plain HTTP, with the ports that the kernel chose.
    pub fn http(&self) -> &[SocketAddr] {
        &self.http
    }

    /// The addresses of HTTPS, with the ports that the kernel chose.
    pub fn https(&self) -> &[SocketAddr] {
        &self.https
    }

    /// What opens and closes the ports of TCP and UDP services, on the addresses of plain HTTP.
    pub fn stream_ports(&self) -> StreamPorts {
        StreamPorts::new(self.http.iter().map(SocketAddr::ip).collect(), self.ports.clone())
    }

    /// Connections now.
    pub fn connections(&self) -> usize {
        self.live.connections()
    }

    /// Returns once nothing is accepted any more and the last connection has ended.
    pub async fn idle(&self) {
        self.live.idle().await;
    }

    /// Ends the workers and cuts off what is left.
    pub fn stop(self) {
        self.stop.send_replace(true);
        for worker in self.workers {
            // A worker that panicked has ended, too.
            let _ = worker.join();
        }
    }
}

/// What one worker is made of.
struct Worker {
    config: Arc<DataPlaneConfig>,
    tls: Arc<Tls>,
    live: Arc<Live>,
    opinions: Opinions,
    clients: Limits,
    stopped: watch::Receiver<bool>,
    opened: mpsc::UnboundedReceiver<Opened>,
}

impl Worker {
    fn spawn(self, index: usize, sockets: Vec<(TcpListener, Scheme)>) -> std::io::Result<JoinHandle<()>> {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
        std::thread::Builder::new().name(format!("data-{index}")).spawn(move || {
            if let Err(error) = runtime.block_on(self.run(sockets)) {
                tracing::error!(%error, "a data worker cannot use its sockets");
            }
            runtime.shutdown_background();
        })
    }

    async fn run(mut self, sockets: Vec<(TcpListener, Scheme)>) -> std::io::Result<()> {
        let DataPlaneConfig {
            table,
            challenges,
            pipeline,
            limits,
            connections,
            proxy_protocol,
            drain,
            observer,
            balancers,
            carrier,
            memory,
            ..
        } = (*self.config).clone();
        let engine = Engine::new(&EngineConfig {
            table: table.clone(),
            challenges,
            pipeline,
            limits,
            drain: drain.clone(),
            observer: observer.clone(),
            balancers,
            opinions: self.opinions.clone(),
            clients: self.clients.clone(),
            carrier,
            memory,
        })
        .map_err(std::io::Error::other)?;
        let acceptor = Arc::new(Acceptor {
            gate: Gate { engine, live: self.live, drain, observer },
            table,
            tls: self.tls,
            limits: connections,
            proxies: proxy_protocol,
        });
        for (socket, scheme) in sockets {
            let listener = tokio::net::TcpListener::from_std(socket)?;
            tokio::spawn(acceptor.clone().run(listener, scheme));
        }
        loop {
            let opened = tokio::select! {
                // Whoever holds the other end has gone when this fails, which is the end as well.
                _ = self.stopped.wait_for(|stopped| *stopped) => return Ok(()),
                Some(opened) = self.opened.recv() => opened,
            };
            let begun = match opened {
                Opened::Tcp(socket, service) => tokio::net::TcpListener::from_std(socket).map(|listener| {
                    tokio::spawn(acceptor.clone().run_port(listener, service));
                }),
                Opened::Udp(socket, service) => tokio::net::UdpSocket::from_std(socket).map(|socket| {
                    tokio::spawn(datagrams::run(acceptor.clone(), socket, service));
                }),
            };
            if let Err(error) = begun {
                tracing::error!(%error, "a data worker cannot use a socket");
            }
        }
    }
}

/// Begins to look at the memory of the process, where there is a limit.
fn watch_memory(ledger: &Arc<Ledger>) -> std::io::Result<()> {
    if ledger.limit().is_some() {
        let ledger = Arc::downgrade(ledger);
        std::thread::Builder::new().name("memory".to_owned()).spawn(move || memory::watch(&ledger))?;
    }
    Ok(())
}

/// Lowers the limits of connections to what the limit of open files allows.
fn limit_connections(config: &mut DataPlaneConfig, workers: usize) {
    let Some(files) = raise_file_limit() else { return };
    let (wanted, idle) = (config.connections, config.limits.upstream_idle * workers);
    config.connections = wanted.within(files, idle);
    config.limits.upstream_idle = idle_within(files, idle) / workers;
    if config.connections.total < wanted.total {
        tracing::warn!(
            files,
            wanted = wanted.total,
            max_connections = config.connections.total,
            upstream_keepalive = config.limits.upstream_idle,
            "the limit of open files (ulimit -n) allows fewer connections than --max-connections"
        );
    }
}

/// The limit that a shell sets is meant for programs that use `select`, so it is raised as far as it may be. Returns
/// what it is then.
fn raise_file_limit() -> Option<usize> {
    use nix::sys::resource::{Resource, getrlimit, setrlimit};
    let (mut soft, hard) = getrlimit(Resource::RLIMIT_NOFILE).ok()?;
    if soft < hard {
        match setrlimit(Resource::RLIMIT_NOFILE, hard, hard) {
            Ok(()) => soft = hard,
            Err(error) => tracing::warn!(%error, soft, "cannot raise the limit of open files"),
        }
    }
    // Without a limit there is no number of files to derive one from.
    (soft != nix::sys::resource::RLIM_INFINITY).then(|| usize::try_from(soft).unwrap_or(usize::MAX))
}
