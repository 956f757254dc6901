//! The engine: carries the bytes of requests and answers as the pipeline decides.
//!
//! [`Engine::serve`] is the whole boundary. A connection loop, `http1` or `http2`, finds each request;
//! `exchange::run` carries it out between a `client` and an `upstream`, each of either version of HTTP.
//! `pingora` can take the exchanges instead, for comparison.

mod answer;
mod body;
mod client;
mod clock;
mod coding;
mod draining;
mod event;
mod exchange;
mod framing;
mod h2_stream;
mod http1;
mod http2;
mod load;
mod passthrough;
mod pingora;
mod reach;
mod timer;
mod tunnel;
mod upstream;
mod websocket;
mod wire;

use std::net::{IpAddr, SocketAddr};
use std::num::NonZeroU64;
use std::pin::Pin;
use std::sync::Arc;
use std::time::Duration;

use arc_swap::ArcSwap;
use landfall_ingress_model::acme::challenges::Challenges;
use landfall_ingress_model::backend::{Backend, BackendKey};
use landfall_ingress_model::pipeline::{Connection, PipelineSettings};
use landfall_ingress_model::table::{ConnectionLimits, Route, StreamService, Table};
use landfall_shared::drain::Drain;
use thiserror::Error;

pub use event::{Exchange, Handshake, Observer, Rejected, Scheme, StreamCounts, StreamRecord, Unobserved, Upstream};
pub use framing::{Body, ChunkScanner, Head, Limits as HeadLimits, RequestScanner, Violation};

use crate::balance::{Balancer, Balancers};
use crate::limits::Limits;
use crate::listener::{ClientStream, Socket, proxy_line};
use crate::memory::{self, Account, Ledger, Refusal};
use clock::Clock;
use event::SharedObserver;
pub(crate) use exchange::Opinions;
use upstream::{Pool, PoolLimits};
use wire::Wire;

pub(crate) use answer::{plain_on_tls, short_of_memory};
pub(crate) use passthrough::{Carried, Ends};
pub(crate) use reach::Chosen;

/// How long a TCP connection may take where another endpoint is left: long for a LAN, and shorter than the second
/// after which a lost SYN is sent again.
const HURRIED_CONNECT: Duration = Duration::from_millis(750);

/// Limits of the engine.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct EngineLimits {
    /// Limits of a request head.
    pub head: HeadLimits,
    /// Total time for a request head, from its first byte on.
    pub head_timeout: Duration,
    /// How long a connection may be without a request.
    pub idle_timeout: Duration,
    /// Requests on one connection of a client.
    pub requests: u32,
    /// Longest pause while a client takes nothing of an answer.
    pub client_timeout: Duration,
    /// Longest pause within the body of a request.
    pub body_timeout: Duration,
    /// Bytes a second that a client has to send of a body or to take of an answer, while it is waited for.
    pub min_rate: Option<NonZeroU64>,
    /// HTTP/2 streams that a client may have open.
    pub h2_streams: u32,
    /// Idle connections to endpoints that each worker keeps.
    pub upstream_idle: usize,
    /// How long an idle connection to an endpoint is kept.
    pub upstream_idle_timeout: Duration,
    /// Requests on one connection to an endpoint.
    pub upstream_requests: u32,
    /// How long one connection to an endpoint is used.
    pub upstream_age: Duration,
    /// Whether clients may speak HTTP/2.
    pub http2: bool,
}

impl EngineLimits {
    /// These limits where the options of a table say nothing else.
    #[must_use]
    fn within(self, options: &ConnectionLimits) -> Self {
        let head = match options.head_size {
            Some((target, head)) => HeadLimits { head, target, ..self.head },
            None => self.head,
        };
        // A connection that is not kept serves one request.
        let requests = if options.idle.is_some_and(|idle| idle.is_zero()) { Some(1) } else { options.requests };
        Self {
            head,
            head_timeout: options.head.unwrap_or(self.head_timeout),
            idle_timeout: options.idle.filter(|idle| !idle.is_zero()).unwrap_or(self.idle_timeout),
            requests: requests.unwrap_or(self.requests),
            body_timeout: options.body.unwrap_or(self.body_timeout),
            h2_streams: options.streams.unwrap_or(self.h2_streams),
            upstream_idle: options.upstream_idle.unwrap_or(self.upstream_idle),
            upstream_idle_timeout: options.upstream_idle_time.unwrap_or(self.upstream_idle_timeout),
            upstream_requests: options.upstream_requests.unwrap_or(self.upstream_requests),
            upstream_age: options.upstream_age.unwrap_or(self.upstream_age),
            http2: self.http2 && !options.without_http2,
            ..self
        }
    }

    /// Those of connections to endpoints.
    fn pool(&self) -> PoolLimits {
        PoolLimits {
            idle: self.upstream_idle,
            idle_time: self.upstream_idle_timeout,
            requests: self.upstream_requests,
            age: self.upstream_age,
        }
    }
}

impl Default for EngineLimits {
    /// The times are those of ingress-nginx, except for the head's.
    fn default() -> Self {
        Self {
            head: HeadLimits::default(),
            head_timeout: Duration::from_secs(10),
            idle_timeout: Duration::from_secs(75),
            requests: u32::MAX,
            client_timeout: Duration::from_mins(1),
            body_timeout: Duration::from_mins(1),
            min_rate: NonZeroU64::new(100),
            h2_streams: 100,
            upstream_idle: 320,
            upstream_idle_timeout: Duration::from_mins(1),
            upstream_requests: u32::MAX,
            upstream_age: Duration::MAX,
            http2: true,
        }
    }
}

/// What carries the exchanges.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default, clap::ValueEnum)]
pub enum Carrier {
    /// The carriers of this engine.
    #[default]
    Landfall,
    /// Pingora's proxy, for comparison and as a way back.
    Pingora,
}

/// What an engine works with.
#[derive(Clone)]
pub struct EngineConfig {
    /// The routing table.
    pub table: Arc<ArcSwap<Table>>,
    /// The challenges of our own that are answered.
    pub challenges: Arc<Challenges>,
    /// Settings of the pipeline.
    pub pipeline: PipelineSettings,
    /// Limits.
    pub limits: EngineLimits,
    /// The way out.
    pub drain: Drain,
    /// Hears of each exchange.
    pub observer: Arc<dyn Observer>,
    /// Balances over the endpoints of each backend.
    pub balancers: Arc<Balancers>,
    /// What services said of requests.
    pub(crate) opinions: Opinions,
    /// What clients have asked lately.
    pub(crate) clients: Limits,
    /// What carries the exchanges.
    pub carrier: Carrier,
    /// What is held for clients.
    pub memory: Arc<Ledger>,
}

/// An engine can't be made.
#[derive(Debug, Error)]
#[error("TLS towards endpoints can't be set up: {0}")]
pub struct EngineError(#[from] rustls::Error);

/// An engine: one for each data worker, with its own connections to endpoints.
pub struct Engine {
    /// What the next connection begins with; another one once the options about connections are others.
    shared: ArcSwap<Shared>,
    /// The limits where options say nothing.
    limits: EngineLimits,
    pingora: Option<Arc<pingora::Proxy>>,
}

/// What all exchanges of a worker share that began under the same options about connections.
#[derive(Clone)]
struct Shared {
    table: Arc<ArcSwap<Table>>,
    challenges: Arc<Challenges>,
    pipeline: PipelineSettings,
    /// What the options of the table said of connections.
    options: ConnectionLimits,
    limits: EngineLimits,
    drain: Drain,
    observer: SharedObserver,
    balancers: Arc<Balancers>,
    opinions: Opinions,
    clients: Limits,
    pool: Arc<Pool>,
    clock: Clock,
    memory: Arc<Account>,
}

impl Shared {
    /// Notes that an endpoint could not be reached.
    fn failed(&self, backend: &BackendKey, balancer: &Balancer, address: SocketAddr) {
        let now = std::time::Instant::now();
        // Requests that were under way together fail together, and are told of once.
        let known = balancer.is_ejected(address, now);
        balancer.failed(address, now);
        if !known {
            self.observer.ejected(backend, address);
        }
    }
}

impl Engine {
    /// An engine. To be made on the runtime that it will run on.
    pub fn new(config: &EngineConfig) -> Result<Self, EngineError> {
        let EngineConfig {
            table,
            challenges,
            pipeline,
            limits,
            drain,
            observer,
            balancers,
            opinions,
            clients,
            carrier,
            memory,
        } = config.clone();
        let pool = Pool::new(&crate::crypto_provider(), limits.pool())?;
        let (clock, options) = (Clock::default(), ConnectionLimits::default());
        let memory = memory.account();
        tokio::spawn(memory::give_back(memory.clone()));
        let shared = Shared {
            table,
            challenges,
            pipeline,
            options,
            limits,
            drain,
            observer,
            balancers,
            opinions,
            clients,
            pool,
            clock,
            memory,
        };
        let pingora = (carrier == Carrier::Pingora).then(|| Arc::new(pingora::Proxy::new(config)));
        Ok(Self { shared: ArcSwap::from_pointee(shared), limits, pingora })
    }

    /// What a connection that begins now works with.
    fn shared(&self) -> Arc<Shared> {
        let shared = self.shared.load();
        let options = shared.table.load().connections.limits;
        if options == shared.options {
            return shared.clone();
        }
        let limits = self.limits.within(&options);
        let changed = Arc::new(Shared { options, limits, ..Shared::clone(&shared) });
        changed.pool.limit(limits.pool());
        self.shared.store(changed.clone());
        changed
    }

    /// Closes the connections to endpoints that wait for a request, so that others can be opened.
    pub fn make_room(&self) {
        self.shared.load().pool.clear();
    }

    /// Whether there is no memory left for another connection.
    pub(crate) fn refuses_connection(&self) -> bool {
        self.shared.load().memory.refuses(Refusal::Connection)
    }

    /// Serves a client until its connection ends. What is returned has the size of what the client speaks: thousands of
    /// connections are idle.
    pub fn serve(&self, stream: ClientStream, connection: Connection) -> Pin<Box<dyn Future<Output = ()> + Send>> {
        let shared = self.shared();
        if let Some(proxy) = &self.pingora {
            return speak(shared, stream, pingora::Exchanges::new(proxy.clone(), connection));
        }
        let exchanges = http1::Exchanges::new(connection, shared.limits.requests);
        speak(shared, stream, exchanges)
    }

    /// Hands the bytes of a client to an endpoint of `route` as they are; says why where that can't be.
    pub(crate) async fn pass_through(
        &self,
        stream: ClientStream,
        connection: &Connection,
        route: &Route,
    ) -> Result<(), &'static str> {
        passthrough::pass_through(&self.shared.load_full(), stream, connection.client.ip().to_canonical(), route).await
    }

    /// Hands the bytes of a client to an endpoint of a port's Service. What is known of it stands in `carried`, however
    /// it ends.
    pub(crate) async fn carry(
        &self,
        socket: Socket,
        ends: Ends,
        service: &StreamService,
        counts: &StreamCounts,
        carried: &mut Carried,
    ) {
        passthrough::carry(&self.shared.load_full(), socket, ends, service, counts, carried).await;
    }

    /// An endpoint for datagrams of a client; says why where there is none.
    pub(crate) async fn choose(
        &self,
        backend: &Arc<Backend>,
        client: IpAddr,
        excluded: &[SocketAddr],
    ) -> Result<Chosen, &'static str> {
        reach::choose(&self.shared.load_full(), backend, client, excluded).await
    }

    /// Notes that an endpoint takes no datagrams.
    pub(crate) fn failed(&self, backend: &BackendKey, chosen: &Chosen) {
        self.shared.load().failed(backend, &chosen.balancer, chosen.pick.addr);
    }
}

/// Serves a client in the version of HTTP that it chose in the TLS handshake, or that it begins with.
fn speak(
    shared: Arc<Shared>,
    stream: ClientStream,
    exchanges: impl http1::Carry + 'static,
) -> Pin<Box<dyn Future<Output = ()> + Send>> {
    let wire = Wire::new(stream);
    if wire.speaks_h2() {
        Box::pin(http1::skip(shared, wire, exchanges))
    } else {
        Box::pin(http1::serve(shared, wire, exchanges))
    }
}
