//! Requests by the path of the rule that took them.

use std::collections::BTreeMap;
use std::fmt;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, PoisonError, RwLock};

use arc_swap::ArcSwap;
use landfall_ingress_model::backend::BackendKey;
use landfall_ingress_model::host::HostPattern;
use landfall_ingress_model::table::{Action, Route, Table};
use landfall_model::ObjectKey;
use prometheus_client::encoding::{DescriptorEncoder, EncodeLabelSet, EncodeMetric};
use prometheus_client::metrics::MetricType;
use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::gauge::ConstGauge;
use prometheus_client::metrics::histogram::{Histogram, exponential_buckets, linear_buckets};

use crate::engine::Exchange;
use crate::observe::kept::Kept;
use crate::observe::labels::{Status, known_method};
use crate::observe::series::routes_of;

/// Upper bounds of durations in seconds: those that Prometheus's own clients have by default.
const DURATIONS: [f64; 11] = [0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0];

#[derive(Clone, PartialEq, Eq, Hash, Debug, EncodeLabelSet)]
struct Labels {
    namespace: String,
    ingress: String,
    host: String,
    path: String,
    service: String,
    canary: String,
    method: &'static str,
    status: Status,
}

/// The path of a rule, and where it leads.
#[derive(Clone, PartialEq, Eq, Hash, Debug)]
struct Owner {
    ingress: ObjectKey,
    host: HostPattern,
    path: Box<str>,
    backend: Option<BackendKey>,
}

impl Owner {
    fn of(route: &Route) -> Self {
        let backend = match &route.action {
            Action::Forward(backend) => Some(backend.key.clone()),
            Action::Unavailable(_) | Action::NotFound => None,
        };
        let path = route.written.text(route.id.path.as_ref()).into();
        Self { ingress: route.id.ingress.clone(), host: route.id.host.clone(), path, backend }
    }

    fn is_in(&self, table: &Table) -> bool {
        routes_of(table, &self.host).any(|route| Self::of(route) == *self)
    }
}

/// One of the histograms of a path.
type Of = fn(&Samples) -> &Histogram;

/// What tells samples of one path from each other.
type Kind = (&'static str, Status, Option<BackendKey>);

/// The samples of one path.
#[derive(Debug, Default)]
struct Path(RwLock<BTreeMap<Kind, Arc<Samples>>>);

/// The samples of one path, method, status and canary.
#[derive(Debug)]
struct Samples {
    requests: Counter,
    request: Histogram,
    response: Histogram,
    connect: Histogram,
    header: Histogram,
    received: Histogram,
    sent: Histogram,
    bytes: Histogram,
}

impl Default for Samples {
    fn default() -> Self {
        let duration = || Histogram::new(DURATIONS);
        let sizes = || Histogram::new(exponential_buckets(10.0, 10.0, 7));
        let lengths = || Histogram::new(linear_buckets(10.0, 10.0, 10));
        Self {
            requests: Counter::default(),
            request: duration(),
            response: duration(),
            connect: duration(),
            header: duration(),
            received: lengths(),
            sent: lengths(),
            bytes: sizes(),
        }
    }
}

impl Samples {
    fn take(&self, exchange: &Exchange<'_>) {
        self.requests.inc();
        let duration = exchange.duration.as_secs_f64();
        self.request.observe(duration);
        self.received.observe(exchange.received as f64);
        self.sent.observe(exchange.sent as f64);
        self.bytes.observe(exchange.sent as f64);
        let Some(upstream) = &exchange.upstream else { return };
        if let Some(connect) = upstream.connect {
            self.connect.observe(connect.as_secs_f64());
        }
        if let Some(header) = upstream.first_byte {
            self.header.observe(header.as_secs_f64());
            // Bodies are passed on as they come, so a response ends here and at the endpoint at the same time.
            self.response.observe(duration);
        }
    }
}

/// The samples of all paths. What the table has no more is dropped with the next scrape.
#[derive(Debug)]
pub(super) struct Paths {
    table: Arc<ArcSwap<Table>>,
    kept: Kept<Owner, Path>,
    requests: AtomicU64,
}

impl Paths {
    pub(super) fn new(table: Arc<ArcSwap<Table>>) -> Self {
        Self { table, kept: Kept::default(), requests: AtomicU64::default() }
    }

    /// All requests, those that no rule took too.
    pub(super) fn requests(&self) -> u64 {
        self.requests.load(Ordering::Relaxed)
    }

    pub(super) fn count(&self, exchange: &Exchange<'_>) {
        self.requests.fetch_add(1, Ordering::Relaxed);
        let Some(route) = &exchange.route else { return };
        let find = || self.kept.get(&Owner::of(route), |owner| owner.is_in(&self.table.load()));
        // Found by the names with its first request only.
        let path = route.attached.or_attach(find);
        let canary = exchange.canary.as_ref().map(|canary| canary.key.clone());
        let kind = (known_method(&exchange.method), Status::of(exchange.status), canary);
        let known = path.0.read().unwrap_or_else(PoisonError::into_inner).get(&kind).cloned();
        let samples = known
            .unwrap_or_else(|| path.0.write().unwrap_or_else(PoisonError::into_inner).entry(kind).or_default().clone());
        samples.take(exchange);
    }

    pub(super) fn encode(&self, encoder: &mut DescriptorEncoder<'_>, table: &Table) -> fmt::Result {
        let mut all: Vec<(Labels, Arc<Samples>)> = Vec::new();
        for (owner, path) in self.kept.sweep(|owner| owner.is_in(table)) {
            let samples = path.0.read().unwrap_or_else(PoisonError::into_inner);
            all.extend(samples.iter().map(|(kind, samples)| (labels(&owner, kind), samples.clone())));
        }
        if all.is_empty() {
            return Ok(());
        }
        // A counter's name would have to end in `_total`, and this one doesn't in ingress-nginx.
        let help = "Requests by the path that took them; a counter";
        let mut metric = encoder.encode_descriptor("requests", help, None, MetricType::Unknown)?;
        for (labels, samples) in &all {
            let count = i64::try_from(samples.requests.get()).unwrap_or(i64::MAX);
            ConstGauge::new(count).encode(metric.encode_family(labels)?)?;
        }
        let histograms: [(&str, &str, Of); 7] = [
            ("request_duration_seconds", "From a request's head to the last byte of its answer", |all| &all.request),
            ("response_duration_seconds", "The same, where an endpoint answered", |all| &all.response),
            ("connect_duration_seconds", "Until there was a connection to the endpoint", |all| &all.connect),
            ("header_duration_seconds", "Until the head of the endpoint's response", |all| &all.header),
            ("request_size", "Bytes of the request's body", |all| &all.received),
            ("response_size", "Bytes of the answer's body", |all| &all.sent),
            ("bytes_sent", "Bytes of the answer's body", |all| &all.bytes),
        ];
        for (name, help, of) in histograms {
            let mut metric = encoder.encode_descriptor(name, help, None, MetricType::Histogram)?;
            for (labels, samples) in &all {
                of(samples).encode(metric.encode_family(labels)?)?;
            }
        }
        Ok(())
    }
}

fn labels(owner: &Owner, (method, status, canary): &Kind) -> Labels {
    let canary = canary.as_ref().map(|key| format!("{}-{}-{}", key.service.namespace(), key.service.name(), key.port));
    Labels {
        namespace: owner.ingress.namespace().into(),
        ingress: owner.ingress.name().into(),
        host: match &owner.host {
            HostPattern::Any => "_".into(),
            host => host.to_string(),
        },
        path: owner.path.to_string(),
        service: owner.backend.as_ref().map_or("", |key| key.service.name()).into(),
        canary: canary.unwrap_or_default(),
        method,
        status: *status,
    }
}
