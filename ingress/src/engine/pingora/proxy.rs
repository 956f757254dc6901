//! Pingora, as far as it is used: exchanges one at a time, HTTP/2 connections whole.

mod context;
mod hooks;
mod request;

use std::sync::Arc;

use arc_swap::ArcSwap;
use landfall_ingress_model::acme::challenges::Challenges;
use landfall_ingress_model::pipeline::PipelineSettings;
use landfall_ingress_model::table::Table;
use landfall_shared::drain::Drain;
use pingora_core::apps::{HttpServerApp, HttpServerOptions, ServerApp};
use pingora_core::protocols::http::ServerSession;
use pingora_core::protocols::http::v2::server::H2Options;
use pingora_core::server::ShutdownWatch;
use pingora_core::server::configuration::ServerConf;
use pingora_proxy::{HttpProxy, http_proxy};

use super::peer::{Anchors, anchors};
use super::session::{ExchangeStream, H2Stream};
use super::shutdown_watch;
use crate::balance::Balancers;
use crate::engine::event::SharedObserver;
use crate::engine::{EngineConfig, EngineLimits};
use crate::limits::Limits;

/// HTTP/2 windows towards clients: large enough for a fast upload over a long way, small enough that 100 streams
/// nobody reads from stay bounded by the connection's.
const STREAM_WINDOW: u32 = 256 * 1024;
const CONNECTION_WINDOW: u32 = 1024 * 1024;
/// Streams that a client may reset before we have looked at them (CVE-2023-44487).
const PENDING_RESETS: usize = 20;
/// Resets that we send for a client's errors before the connection is given up.
const LOCAL_RESETS: usize = 1024;
/// What waits to be sent on one stream.
const SEND_BUFFER: usize = 64 * 1024;
/// Attempts that pingora may make at all; each route sets its own number below it.
const MAX_TRIES: usize = 32;

/// Pingora and what it needs.
pub(in crate::engine) struct Proxy {
    app: Arc<HttpProxy<Hooks>>,
    shutdown: ShutdownWatch,
}

/// The phases of a request, as pingora calls them.
pub(super) struct Hooks {
    table: Arc<ArcSwap<Table>>,
    challenges: Arc<Challenges>,
    pipeline: PipelineSettings,
    limits: EngineLimits,
    drain: Drain,
    observer: SharedObserver,
    balancers: Arc<Balancers>,
    clients: Limits,
    anchors: Anchors,
}

impl Proxy {
    pub(in crate::engine) fn new(config: &EngineConfig) -> Self {
        let EngineConfig { table, challenges, pipeline, limits, drain, observer, balancers, clients, .. } =
            config.clone();
        let shutdown = shutdown_watch(drain.clone());
        let hooks =
            Hooks { table, challenges, pipeline, limits, drain, observer, balancers, clients, anchors: anchors() };
        let conf = ServerConf {
            threads: 1,
            max_retries: MAX_TRIES,
            upstream_keepalive_pool_size: limits.upstream_idle,
            // An empty file: the certificates of the host would be read for nothing.
            ca_file: Some("/dev/null".to_owned()),
            ..ServerConf::default()
        };
        let mut app = http_proxy(&Arc::new(conf), hooks);
        app.h2_options = Some(h2_options(&limits));
        let mut options = HttpServerOptions::default();
        options.h2_idle_timeout = Some(limits.idle_timeout);
        app.server_options = Some(options);
        Self { app: Arc::new(app), shutdown }
    }

    /// One HTTP/1 exchange; whether the client may send another request.
    pub(super) async fn exchange(&self, stream: Box<ExchangeStream>) -> bool {
        let session = ServerSession::new_http1(stream);
        self.app.process_new_http(session, &self.shutdown).await.is_some()
    }

    /// An HTTP/2 connection until its end.
    pub(super) async fn serve_h2(&self, stream: H2Stream) {
        self.app.process_new(Box::new(stream), &self.shutdown).await;
    }
}

fn h2_options(limits: &EngineLimits) -> H2Options {
    let mut options = H2Options::default();
    options.max_concurrent_streams(limits.h2_streams);
    // Counted as RFC 9113 section 6.5.2 does, with 32 bytes for each field.
    options.max_header_list_size(u32::try_from(limits.head.head).unwrap_or(u32::MAX));
    options.initial_window_size(STREAM_WINDOW);
    options.initial_connection_window_size(CONNECTION_WINDOW);
    options.max_pending_accept_reset_streams(PENDING_RESETS);
    options.max_local_error_reset_streams(Some(LOCAL_RESETS));
    options.max_send_buffer_size(SEND_BUFFER);
    options
}
