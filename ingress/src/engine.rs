//! The engine: carries the bytes of requests and answers as the pipeline decides.
//!
//! [`Engine::serve`] is the whole boundary. The connection loops are ours: they find and check each request's
//! boundaries; one exchange at a time, or an HTTP/2 connection, is then handed to pingora. Nothing above this module
//! knows pingora.

mod answer;
mod exchange;
mod framing;
mod http1;
mod outcome;
mod proxy;
mod session;
mod upstream;
mod websocket;
mod wire;

use std::pin::Pin;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use arc_swap::ArcSwap;
use http::StatusCode;
use landfall_ingress_model::pipeline::{Connection, PipelineSettings};
use landfall_ingress_model::table::Table;
use landfall_shared::drain::Drain;
use pingora_core::protocols::raw_connect::ProxyDigest;
use pingora_http::ResponseHeader;
use tokio::sync::watch;

pub use exchange::{Exchange, Handshake, Observer, Rejected, Scheme, Unobserved, Upstream};
pub use framing::{Body, ChunkScanner, Head, Limits as HeadLimits, RequestScanner, Violation};

use crate::listener::ClientStream;
use crate::resolve::Resolver;
use exchange::SharedObserver;
use proxy::Proxy;
use wire::Wire;

pub(crate) use answer::plain_on_tls;

/// Limits of the engine.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct EngineLimits {
    /// Limits of a request head.
    pub head: HeadLimits,
    /// Total time for a request head, from its first byte on.
    pub head_timeout: Duration,
    /// How long a connection may be without a request.
    pub idle_timeout: Duration,
    /// Longest pause within the body of a request, and while a client takes nothing of an answer.
    pub client_timeout: Duration,
    /// HTTP/2 streams that a client may have open.
    pub h2_streams: u32,
    /// Idle connections to endpoints that each worker keeps.
    pub upstream_idle: usize,
    /// How long an idle connection to an endpoint is kept.
    pub upstream_idle_timeout: Duration,
}

impl Default for EngineLimits {
    /// The times are those of ingress-nginx, except for the head's.
    fn default() -> Self {
        Self {
            head: HeadLimits::default(),
            head_timeout: Duration::from_secs(10),
            idle_timeout: Duration::from_secs(75),
            client_timeout: Duration::from_mins(1),
            h2_streams: 100,
            upstream_idle: 320,
            upstream_idle_timeout: Duration::from_mins(1),
        }
    }
}

/// What an engine works with.
#[derive(Clone)]
pub struct EngineConfig {
    /// The routing table.
    pub table: Arc<ArcSwap<Table>>,
    /// Settings of the pipeline.
    pub pipeline: PipelineSettings,
    /// Limits.
    pub limits: EngineLimits,
    /// The way out.
    pub drain: Drain,
    /// Hears of each exchange.
    pub observer: Arc<dyn Observer>,
    /// Resolves the names of `ExternalName` Services.
    pub resolver: Arc<Resolver>,
}

/// An engine: one for each data worker, with its own connections to endpoints.
pub struct Engine {
    limits: EngineLimits,
    drain: Drain,
    observer: SharedObserver,
    proxy: Proxy,
}

/// What is known of a client for all of its requests.
#[derive(Debug)]
pub(crate) struct ClientFacts {
    pub(crate) connection: Connection,
    /// The same, in the form in which pingora hands it to the requests of an HTTP/2 connection.
    digest: Option<Arc<ProxyDigest>>,
}

impl Engine {
    /// An engine. To be made on the runtime that it will run on.
    pub fn new(config: &EngineConfig) -> Self {
        let shutdown = shutdown_watch(config.drain.clone());
        let EngineConfig { limits, drain, observer, .. } = config;
        Self { limits: *limits, drain: drain.clone(), observer: observer.clone(), proxy: Proxy::new(config, shutdown) }
    }

    /// Serves a client until its connection ends.
    pub async fn serve(&self, stream: ClientStream, connection: Connection) {
        let mut wire = Wire::new(stream);
        if wire.speaks_h2() {
            if http1::preface(self, &mut wire).await {
                self.serve_h2(wire, connection).await;
            }
            return;
        }
        let facts = Arc::new(ClientFacts { connection, digest: None });
        if let Some(wire) = http1::serve(self, wire, &facts).await {
            self.serve_h2(wire, facts.connection.clone()).await;
        }
    }

    /// Boxed, so that HTTP/1 connections do not hold the space for it.
    fn serve_h2(&self, wire: Wire, connection: Connection) -> Pin<Box<dyn Future<Output = ()> + Send + '_>> {
        Box::pin(self.drive_h2(wire, connection))
    }

    async fn drive_h2(&self, wire: Wire, connection: Connection) {
        // The header is a dummy that the type asks for.
        let Ok(dummy) = ResponseHeader::build_no_case(StatusCode::OK, Some(0)) else { return };
        let digest = ProxyDigest::new(Box::new(dummy), Some(Box::new(connection.clone())));
        let facts = Arc::new(ClientFacts { connection, digest: Some(Arc::new(digest)) });
        let slot = Arc::new(Mutex::new(None));
        self.proxy.serve_h2(session::H2Stream::new(wire, slot.clone(), facts)).await;
        let returned = slot.lock().unwrap_or_else(PoisonError::into_inner).take();
        if let Some(mut wire) = returned {
            http1::linger(&mut wire).await;
        }
    }
}

/// Pingora's form of the drain: true from the moment on when nothing new is accepted.
fn shutdown_watch(drain: Drain) -> watch::Receiver<bool> {
    let (sender, receiver) = watch::channel(false);
    tokio::spawn(async move {
        drain.draining().await;
        sender.send_replace(true);
        // Pingora takes a closed channel for a change again and again, so it stays open.
        sender.closed().await;
    });
    receiver
}
