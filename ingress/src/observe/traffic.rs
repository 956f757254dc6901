//! Metrics of the traffic. Labels are bounded by the table: the rule's host and the Ingress, never what a client
//! wrote.

use std::net::SocketAddr;
use std::sync::atomic::AtomicI64;

use landfall_ingress_model::backend::BackendKey;
use landfall_ingress_model::table::RouteId;
use prometheus_client::encoding::EncodeLabelSet;
use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::family::Family;
use prometheus_client::metrics::gauge::Gauge;
use prometheus_client::metrics::histogram::Histogram;
use prometheus_client::registry::{Registry, Unit};

use super::log_exchange;
use crate::engine::{Exchange, Handshake, Observer, Rejected, Scheme};

/// Upper bounds of latencies in seconds, from a cached answer on a LAN to the default read time-out.
const LATENCY_BUCKETS: [f64; 12] = [0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 1.0, 2.5, 10.0, 60.0];

#[derive(Clone, PartialEq, Eq, Hash, Debug, EncodeLabelSet)]
struct RouteLabels {
    namespace: String,
    ingress: String,
    host: String,
}

#[derive(Clone, PartialEq, Eq, Hash, Debug, EncodeLabelSet)]
struct RequestLabels {
    namespace: String,
    ingress: String,
    host: String,
    method: &'static str,
    status: u16,
}

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
struct BackendLabels {
    namespace: String,
    service: String,
    port: String,
}

type Histograms = Family<RouteLabels, Histogram, fn() -> Histogram>;

fn latency() -> Histogram {
    Histogram::new(LATENCY_BUCKETS)
}

/// Whether each request gives a line in the access log.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum AccessLog {
    /// It does.
    On,
    /// It does not.
    Off,
}

/// Metrics of the traffic, and the access log.
#[derive(Debug)]
pub struct Traffic {
    access_log: AccessLog,
    requests: Family<RequestLabels, Counter>,
    duration: Histograms,
    upstream: Histograms,
    retries: Family<RouteLabels, Counter>,
    received: Family<RouteLabels, Counter>,
    sent: Family<RouteLabels, Counter>,
    connections: Family<ListenerLabels, Gauge<i64, AtomicI64>>,
    opened: Family<ListenerLabels, Counter>,
    rejected: Family<RejectedLabels, Counter>,
    handshakes: Family<HandshakeLabels, Counter>,
    handshake_seconds: Histogram,
    ejections: Family<BackendLabels, Counter>,
}

impl Traffic {
    /// Registers the metrics.
    pub fn register(registry: &mut Registry, access_log: AccessLog) -> Self {
        let traffic = Self {
            access_log,
            requests: Family::default(),
            duration: Family::new_with_constructor(latency),
            upstream: Family::new_with_constructor(latency),
            retries: Family::default(),
            received: Family::default(),
            sent: Family::default(),
            connections: Family::default(),
            opened: Family::default(),
            rejected: Family::default(),
            handshakes: Family::default(),
            handshake_seconds: latency(),
            ejections: Family::default(),
        };
        let r = registry.sub_registry_with_prefix("landfall_ingress");
        r.register("requests", "Requests by the rule that took them", traffic.requests.clone());
        let seconds = || Unit::Seconds;
        r.register_with_unit(
            "request_duration",
            "From the request's head to the last byte of its answer",
            seconds(),
            traffic.duration.clone(),
        );
        r.register_with_unit(
            "upstream_response",
            "From the choice of an endpoint to the head of its response",
            seconds(),
            traffic.upstream.clone(),
        );
        r.register("retries", "Attempts at an endpoint after the first", traffic.retries.clone());
        r.register_with_unit("request_body", "Bytes of request bodies", Unit::Bytes, traffic.received.clone());
        r.register_with_unit("response_body", "Bytes of response bodies", Unit::Bytes, traffic.sent.clone());
        r.register("connections", "Connections open now", traffic.connections.clone());
        r.register("connections_opened", "Connections accepted", traffic.opened.clone());
        r.register("connections_rejected", "Connections turned away, by reason", traffic.rejected.clone());
        r.register("tls_handshakes", "Finished TLS handshakes", traffic.handshakes.clone());
        r.register_with_unit(
            "tls_handshake",
            "From accepting a connection to the end of its handshake",
            seconds(),
            traffic.handshake_seconds.clone(),
        );
        r.register("endpoint_ejections", "Endpoints left out after failures", traffic.ejections.clone());
        traffic
    }
}

impl Observer for Traffic {
    fn exchange(&self, exchange: &Exchange) {
        let route = route_labels(exchange.route.as_ref());
        let labels = RequestLabels {
            namespace: route.namespace.clone(),
            ingress: route.ingress.clone(),
            host: route.host.clone(),
            method: known_method(&exchange.method),
            status: exchange.status,
        };
        self.requests.get_or_create(&labels).inc();
        self.duration.get_or_create(&route).observe(exchange.duration.as_secs_f64());
        if let Some(first_byte) = exchange.upstream.and_then(|upstream| upstream.first_byte) {
            self.upstream.get_or_create(&route).observe(first_byte.as_secs_f64());
        }
        if exchange.tries > 1 {
            self.retries.get_or_create(&route).inc_by(u64::from(exchange.tries - 1));
        }
        if exchange.received > 0 {
            self.received.get_or_create(&route).inc_by(exchange.received);
        }
        if exchange.sent > 0 {
            self.sent.get_or_create(&route).inc_by(exchange.sent);
        }
        if self.access_log == AccessLog::On {
            log_exchange(exchange);
        }
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

    fn ejected(&self, backend: &BackendKey, endpoint: SocketAddr) {
        let labels = BackendLabels {
            namespace: backend.service.namespace().into(),
            service: backend.service.name().into(),
            port: backend.port.to_string(),
        };
        self.ejections.get_or_create(&labels).inc();
        tracing::warn!(%backend, upstream.addr = %endpoint, "endpoint fails to connect and is left out for a while");
    }
}

/// Requests that no rule took share one series.
fn route_labels(route: Option<&RouteId>) -> RouteLabels {
    match route {
        Some(route) => RouteLabels {
            namespace: route.ingress.namespace().into(),
            ingress: route.ingress.name().into(),
            host: route.host.to_string(),
        },
        None => RouteLabels { namespace: String::new(), ingress: String::new(), host: String::new() },
    }
}

/// The methods of RFC 9110 section 9 and PATCH by name, all others as one.
fn known_method(method: &str) -> &'static str {
    const KNOWN: [&str; 8] = ["GET", "HEAD", "POST", "PUT", "DELETE", "OPTIONS", "TRACE", "PATCH"];
    KNOWN.iter().find(|known| **known == method).copied().unwrap_or("other")
}
