//! Metrics of the traffic. Labels are bounded by the table: the rule's host and the Ingress, never what a client or a
//! backend wrote.

use std::io;
use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::AtomicI64;
use std::time::Instant;

use arc_swap::ArcSwap;
use landfall_ingress_model::backend::BackendKey;
use landfall_ingress_model::table::{StreamService, Table};
use prometheus_client::encoding::EncodeLabelSet;
use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::family::Family;
use prometheus_client::metrics::gauge::Gauge;
use prometheus_client::metrics::histogram::Histogram;
use prometheus_client::registry::{Registry, Unit};

use super::access::AccessLog;
use super::control::ControlMetrics;
use super::limited::Limited;
use super::live::Live;
use super::nginx::{Identity, Nginx};
use super::recent::Recent;
use super::series::Series;
use super::streams::StreamSeries;
use crate::engine::{Exchange, Handshake, Observer, Rejected, Scheme, StreamCounts, StreamRecord};
use crate::traces::Traces;

/// Upper bounds of latencies in seconds, from a cached answer on a LAN to the default read time-out.
pub(super) const LATENCY_BUCKETS: [f64; 12] =
    [0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 1.0, 2.5, 10.0, 60.0];

#[derive(Clone, PartialEq, Eq, Hash, Debug, EncodeLabelSet)]
struct ListenerLabels {
    scheme: &'static str,
}

#[derive(Clone, PartialEq, Eq, Hash, Debug, EncodeLabelSet)]
struct RejectedLabels {
    scheme: &'static str,
    reason: &'static str,
}

#[derive(Clone, PartialEq, Eq, Hash, Debug, EncodeLabelSet)]
struct HandshakeLabels {
    version: &'static str,
    resumed: &'static str,
}

#[derive(Clone, PartialEq, Eq, Hash, Debug, EncodeLabelSet)]
struct LackLabels {
    doing: &'static str,
}

/// A histogram of latencies.
pub(super) fn latency() -> Histogram {
    Histogram::new(LATENCY_BUCKETS)
}

type Connections = Family<ListenerLabels, Gauge<i64, AtomicI64>>;

/// How many connections there are, and were.
#[derive(Clone, Debug)]
pub(super) struct Open {
    connections: Connections,
    opened: Family<ListenerLabels, Counter>,
}

impl Open {
    pub(super) fn now(&self) -> i64 {
        EITHER.iter().map(|labels| self.connections.get_or_create(labels).get()).sum()
    }

    pub(super) fn accepted(&self) -> u64 {
        EITHER.iter().map(|labels| self.opened.get_or_create(labels).get()).sum()
    }
}

const EITHER: [ListenerLabels; 2] =
    [ListenerLabels { scheme: Scheme::Http.as_str() }, ListenerLabels { scheme: Scheme::Https.as_str() }];

/// Metrics of the traffic, and the access log.
#[derive(Debug)]
pub struct Traffic {
    access_log: Option<AccessLog>,
    live: Option<Arc<Live>>,
    series: Arc<Series>,
    streams: Arc<StreamSeries>,
    /// The same by the names of ingress-nginx, where they are asked for.
    nginx: Option<Arc<Nginx>>,
    connections: Connections,
    opened: Family<ListenerLabels, Counter>,
    rejected: Family<RejectedLabels, Counter>,
    handshakes: Family<HandshakeLabels, Counter>,
    handshake_seconds: Histogram,
    lacks: Family<LackLabels, Counter>,
    lack_lines: Limited,
    traces: Option<Traces>,
}

impl Traffic {
    /// Registers the metrics. Rules and backends that `table` has no more lose theirs.
    pub fn register(registry: &mut Registry, access_log: Option<AccessLog>, table: Arc<ArcSwap<Table>>) -> Self {
        let traffic = Self {
            access_log,
            live: None,
            series: Arc::new(Series::new(table.clone())),
            streams: Arc::new(StreamSeries::new(table)),
            nginx: None,
            connections: Family::default(),
            opened: Family::default(),
            rejected: Family::default(),
            handshakes: Family::default(),
            handshake_seconds: latency(),
            lacks: Family::default(),
            lack_lines: Limited::default(),
            traces: None,
        };
        let r = registry.sub_registry_with_prefix("landfall_ingress");
        r.register_collector(Box::new(traffic.series.clone()));
        r.register_collector(Box::new(traffic.streams.clone()));
        r.register("connections", "Connections open now", traffic.connections.clone());
        r.register("connections_opened", "Connections accepted", traffic.opened.clone());
        r.register("connections_rejected", "Connections turned away, by reason", traffic.rejected.clone());
        r.register("tls_handshakes", "Finished TLS handshakes", traffic.handshakes.clone());
        r.register_with_unit(
            "tls_handshake",
            "From accepting a connection to the end of its handshake",
            Unit::Seconds,
            traffic.handshake_seconds.clone(),
        );
        let help = "What failed because this process had no file descriptor, port or memory left";
        r.register("lacks", help, traffic.lacks.clone());
        if let Some(log) = &traffic.access_log {
            let help = "Lines of the access log that were left out, since nobody read the others";
            r.register("access_log_lines_dropped", help, log.dropped());
        }
        traffic
    }

    /// The last minutes, by host.
    pub fn recent(&self) -> Arc<Recent> {
        Arc::new(Recent::new(self.series.clone()))
    }

    /// Tells whoever watches of each request.
    #[must_use]
    pub fn watched(mut self, live: Arc<Live>) -> Self {
        self.live = Some(live);
        self
    }

    /// Gives it what takes spans.
    #[must_use]
    pub fn with_traces(self, traces: Traces) -> Self {
        Self { traces: Some(traces), ..self }
    }

    /// Registers the metrics once more, by the names of ingress-nginx.
    #[must_use]
    pub fn as_nginx(
        mut self,
        registry: &mut Registry,
        table: Arc<ArcSwap<Table>>,
        identity: Identity,
        control: &ControlMetrics,
    ) -> Self {
        let nginx = Nginx::new(table);
        let open = Open { connections: self.connections.clone(), opened: self.opened.clone() };
        nginx.register(registry, identity, control, open);
        self.nginx = Some(nginx);
        self
    }
}

impl Observer for Traffic {
    fn exchange(&self, exchange: &Exchange<'_>) {
        self.series.count(exchange);
        if let Some(nginx) = &self.nginx {
            nginx.count(exchange);
        }
        if let Some(live) = &self.live {
            live.exchange(exchange);
        }
        if let (Some(traces), Some(span)) = (&self.traces, &exchange.span)
            && span.is_sampled
        {
            traces.take(exchange, span);
        }
        let is_unlogged = exchange.route.as_ref().is_some_and(|route| route.policy.is_unlogged);
        if let Some(log) = self.access_log.as_ref().filter(|_| !is_unlogged) {
            log.write(exchange);
        }
    }

    fn reads(&self) -> bool {
        self.access_log.is_some() || self.live.as_ref().is_some_and(|live| live.is_watched())
    }

    fn opened(&self, scheme: Scheme) {
        let labels = ListenerLabels { scheme: scheme.as_str() };
        self.connections.get_or_create(&labels).inc();
        self.opened.get_or_create(&labels).inc();
    }

    fn closed(&self, scheme: Scheme) {
        self.connections.get_or_create(&ListenerLabels { scheme: scheme.as_str() }).dec();
    }

    fn rejected(&self, scheme: Scheme, why: Rejected, peer: SocketAddr) {
        self.rejected.get_or_create(&RejectedLabels { scheme: scheme.as_str(), reason: why.as_str() }).inc();
        tracing::debug!(client.addr = %peer, scheme = scheme.as_str(), reason = why.as_str(), "connection rejected");
    }

    fn handshake(&self, handshake: Handshake) {
        let resumed = if handshake.resumed { "true" } else { "false" };
        self.handshakes.get_or_create(&HandshakeLabels { version: handshake.version, resumed }).inc();
        self.handshake_seconds.observe(handshake.duration.as_secs_f64());
    }

    fn lacks(&self, doing: &'static str, error: &io::Error) {
        self.lacks.get_or_create(&LackLabels { doing }).inc();
        if let Some(unsaid) = self.lack_lines.pass(Instant::now()) {
            tracing::error!(
                %error,
                doing,
                unsaid,
                "no file descriptor, port or memory is left; raise the limit of open files (ulimit -n)"
            );
        }
    }

    fn stream_opened(&self, service: &StreamService) -> Arc<StreamCounts> {
        self.streams.counts(service)
    }

    fn stream_closed(&self, record: &StreamRecord<'_>) {
        if let Some(why) = record.rejected {
            self.streams.rejected(record.service, why);
        }
        if let Some(log) = self.access_log.as_ref().filter(|_| !record.service.policy.is_unlogged) {
            log.write_stream(record);
        }
    }

    fn stream_rejected(&self, service: &StreamService, why: Rejected, peer: SocketAddr) {
        self.streams.rejected(service, why);
        tracing::debug!(client.addr = %peer, port = %service.port, reason = why.as_str(), "connection rejected");
    }

    fn ejected(&self, backend: &BackendKey, endpoint: SocketAddr) {
        self.series.ejected(backend);
        tracing::warn!(%backend, upstream.addr = %endpoint, "endpoint fails to connect and is left out for a while");
    }
}
