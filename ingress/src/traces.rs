//! Traces: a span for each request that is to have one, sent to a collector by OTLP.
//!
//! No request waits for it: a worker puts a finished span into a queue, and drops it where that is full. A task of the
//! control runtime sends what is there.

mod exporter;
mod message;

use std::time::{Duration, SystemTime, UNIX_EPOCH};

use landfall_ingress_model::policy::{Facts, SpanContext};
use prometheus_client::metrics::counter::Counter;
use prometheus_client::registry::Registry;
use tokio::sync::mpsc;

use crate::engine::Exchange;
pub use exporter::Exporter;
use message::{Attributes, Span};

/// Spans that may wait, as in ingress-nginx (`otel-max-queuesize`). At 1 KB each that is 2 MB.
const QUEUE: usize = 2048;

/// Takes the spans of requests.
#[derive(Clone, Debug)]
pub struct Traces {
    queue: mpsc::Sender<Span>,
    counts: Counts,
}

/// What became of spans.
#[derive(Clone, Debug, Default)]
struct Counts {
    sent: Counter,
    dropped: Counter,
    failed: Counter,
}

impl Traces {
    /// Registers the metrics. The exporter is to be run.
    pub fn register(registry: &mut Registry) -> (Self, Exporter) {
        let (queue, waiting) = mpsc::channel(QUEUE);
        let counts = Counts::default();
        let r = registry.sub_registry_with_prefix("landfall_ingress");
        r.register("spans_sent", "Spans that the collector took", counts.sent.clone());
        r.register("spans_dropped", "Spans that found the queue full", counts.dropped.clone());
        r.register("spans_failed", "Spans that could not be sent", counts.failed.clone());
        (Self { queue, counts: counts.clone() }, Exporter::new(waiting, counts))
    }

    /// Takes the span of a request, or drops it where too many wait.
    pub(crate) fn take(&self, exchange: &Exchange<'_>, context: &SpanContext) {
        let Ok(place) = self.queue.try_reserve() else {
            self.counts.dropped.inc();
            return;
        };
        place.send(span(exchange, context));
    }
}

/// The span of a request: the semantic conventions for HTTP servers, version 1.
fn span(exchange: &Exchange<'_>, context: &SpanContext) -> Span {
    let nanos = |time: SystemTime| {
        u64::try_from(time.duration_since(UNIX_EPOCH).unwrap_or_default().as_nanos()).unwrap_or(u64::MAX)
    };
    let (path, query) =
        exchange.target.split_once('?').map_or((&*exchange.target, None), |(path, query)| (path, Some(query)));
    let route = exchange.route.as_ref();
    let rule = route.map(|route| route.written.text(route.id.path.as_ref()));
    let mut attributes = Attributes::default();
    attributes.text("http.request.method", &exchange.method);
    attributes.text("url.scheme", exchange.scheme.as_str());
    attributes.text("url.path", path);
    attributes.some("url.query", query);
    attributes.some("server.address", Some(&*exchange.host).filter(|host| !host.is_empty()));
    attributes.number("http.response.status_code", exchange.status.into());
    attributes.some("http.route", rule);
    attributes.text("client.address", &exchange.client.to_string());
    attributes.text("network.peer.address", &exchange.peer.ip().to_string());
    attributes.number("network.peer.port", exchange.peer.port().into());
    attributes.text("network.protocol.version", version(exchange.version));
    attributes.some("user_agent.original", exchange.user_agent.as_deref());
    attributes.number("http.request.body.size", i64::try_from(exchange.received).unwrap_or(i64::MAX));
    attributes.number("http.response.body.size", i64::try_from(exchange.sent).unwrap_or(i64::MAX));
    if let Some(route) = route {
        attributes.text("k8s.namespace.name", route.id.ingress.namespace());
        attributes.text("k8s.ingress.name", route.id.ingress.name());
    }
    attributes.some("k8s.service.name", exchange.backend().map(|backend| backend.service.name()));
    attributes.some("upstream.address", exchange.upstream.map(|upstream| upstream.address.to_string()).as_deref());
    // A server's span is in error where the server is to blame.
    let failed = exchange.status >= 500;
    if failed {
        attributes.text("error.type", &exchange.status.to_string());
    }
    let start = nanos(exchange.start);
    Span {
        trace_id: context.trace.to_be_bytes().to_vec(),
        span_id: context.span.to_be_bytes().to_vec(),
        trace_state: context.state.as_ref().and_then(|state| state.to_str().ok()).unwrap_or_default().to_owned(),
        parent_span_id: context.parent.map(|parent| parent.to_be_bytes().to_vec()).unwrap_or_default(),
        name: name(exchange, rule),
        kind: message::SERVER,
        start_time_unix_nano: start,
        end_time_unix_nano: start.saturating_add(u64::try_from(exchange.duration.as_nanos()).unwrap_or(u64::MAX)),
        attributes: attributes.0,
        status: failed.then(|| message::Status {
            message: exchange.error.as_deref().unwrap_or_default().to_owned(),
            code: message::ERROR,
        }),
        flags: u32::from(context.is_sampled),
    }
}

/// What an Ingress calls it, or method and path of the rule, which few of are there.
fn name(exchange: &Exchange<'_>, rule: Option<&str>) -> String {
    let route = exchange.route.as_ref();
    let Some(operation) = route.and_then(|route| route.policy.tracing.as_ref()?.operation.as_ref()) else {
        return rule.map_or_else(|| exchange.method.to_string(), |rule| format!("{} {rule}", exchange.method));
    };
    let (port, empty) = (exchange.backend().map(|backend| backend.port.to_string()), "");
    let method = exchange.method.parse().ok();
    operation.expand(&Facts {
        host: exchange.host.rsplit_once(':').map_or(&*exchange.host, |(host, _)| host),
        authority: &exchange.host,
        scheme: exchange.scheme.as_str(),
        outer_scheme: exchange.scheme.as_str(),
        request_uri: &exchange.target,
        path: exchange.target.split('?').next().unwrap_or_default(),
        method: method.as_ref(),
        client: Some(exchange.client),
        request_id: &exchange.request_id,
        place: [
            route.map_or(empty, |route| route.id.ingress.namespace()),
            route.map_or(empty, |route| route.id.ingress.name()),
            exchange.backend().map_or(empty, |backend| backend.service.name()),
            port.as_deref().unwrap_or_default(),
        ],
        ..Facts::default()
    })
}

fn version(version: http::Version) -> &'static str {
    match version {
        http::Version::HTTP_10 => "1.0",
        http::Version::HTTP_2 => "2",
        _ => "1.1",
    }
}

/// How long what is left may take to be sent at the end.
pub const FAREWELL: Duration = Duration::from_secs(2);
