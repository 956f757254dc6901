//! Metrics of rules and backends: one series for each that there is, and none for those that are gone.

use std::collections::{BTreeMap, HashSet};
use std::fmt;
use std::sync::{Arc, Mutex, OnceLock, PoisonError, RwLock};

use arc_swap::ArcSwap;
use landfall_ingress_model::backend::BackendKey;
use landfall_ingress_model::host::HostPattern;
use landfall_ingress_model::table::{Action, HostRoutes, Route, RouteId, Table};
use landfall_model::ObjectKey;
use prometheus_client::collector::Collector;
use prometheus_client::encoding::{DescriptorEncoder, EncodeLabelSet, EncodeMetric};
use prometheus_client::metrics::MetricType;
use prometheus_client::metrics::counter::Counter;
use prometheus_client::registry::Unit;

use super::kept::Kept;
use super::labels::{Status, known_method};
use super::latency::{Latency, Reading};
use super::recent::Slot;
use crate::engine::Exchange;

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
    status: Status,
}

#[derive(Clone, PartialEq, Eq, Hash, Debug, EncodeLabelSet)]
struct BackendLabels {
    namespace: String,
    service: String,
    port: String,
}

/// Whom a series is of. Requests that no rule took share one.
#[derive(Clone, PartialEq, Eq, Hash, Debug)]
struct Owner(Option<(ObjectKey, HostPattern)>);

impl Owner {
    fn of(route: Option<&RouteId>) -> Self {
        Self(route.map(|route| (route.ingress.clone(), route.host.clone())))
    }

    fn labels(&self) -> RouteLabels {
        match &self.0 {
            Some((ingress, host)) => RouteLabels {
                namespace: ingress.namespace().into(),
                ingress: ingress.name().into(),
                host: host.to_string(),
            },
            None => RouteLabels { namespace: String::new(), ingress: String::new(), host: String::new() },
        }
    }

    /// Whether the table still has a rule of this Ingress for this host.
    fn is_in(&self, table: &Table) -> bool {
        let Some((ingress, host)) = &self.0 else { return true };
        routes_of(table, host).any(|route| route.id.ingress == *ingress)
    }
}

/// The routes that a host has, and those for what no host takes.
pub(super) fn routes_of<'t>(table: &'t Table, host: &HostPattern) -> impl Iterator<Item = &'t Arc<Route>> {
    let routes = match host {
        HostPattern::Exact(host) => table.exact.get(host),
        HostPattern::Wildcard(domain) => table.wildcard.get(domain),
        HostPattern::Any => Some(&table.any),
    };
    routes.into_iter().flat_map(|routes| all(routes)).chain(&table.default).chain(&table.fallback)
}

fn all(routes: &HostRoutes) -> impl Iterator<Item = &Arc<Route>> {
    // Those of other namespaces have no others in turn.
    let levels = std::iter::once(routes).chain(routes.others.values());
    levels.flat_map(|routes| {
        let expressions = routes.regex.iter().map(|regex| &regex.route);
        routes.exact.values().chain(routes.prefix.values()).chain(expressions).chain(&routes.default)
    })
}

/// The metrics of one owner.
#[derive(Debug, Default)]
struct RouteSeries {
    requests: RwLock<BTreeMap<(&'static str, Status), Counter>>,
    duration: OnceLock<Box<Latency>>,
    upstream: OnceLock<Box<Latency>>,
    retries: Counter,
    received: Counter,
    sent: Counter,
    /// What the last tick of [`super::Recent`] saw: latencies, and answers with 5xx.
    seen: Mutex<Slot>,
}

impl RouteSeries {
    fn count(&self, exchange: &Exchange<'_>) {
        let key = (known_method(&exchange.method), Status::of(exchange.status));
        let known = self.requests.read().unwrap_or_else(PoisonError::into_inner).get(&key).map(Counter::inc);
        if known.is_none() {
            self.requests.write().unwrap_or_else(PoisonError::into_inner).entry(key).or_default().inc();
        }
        self.duration.get_or_init(Box::default).observe(exchange.duration);
        if let Some(first_byte) = exchange.upstream.and_then(|upstream| upstream.first_byte) {
            self.upstream.get_or_init(Box::default).observe(first_byte);
        }
        self.retries.inc_by(u64::from(exchange.tries.saturating_sub(1)));
        self.received.inc_by(exchange.received);
        self.sent.inc_by(exchange.sent);
    }

    /// What has happened since this was asked last.
    fn news(&self) -> Option<Slot> {
        let latency = self.duration.get()?.read();
        let mut seen = self.seen.lock().unwrap_or_else(PoisonError::into_inner);
        if latency == seen.latency {
            return None;
        }
        let counts = self.requests.read().unwrap_or_else(PoisonError::into_inner);
        let errors = counts.iter().filter(|((_, status), _)| status.is_error()).map(|(_, count)| count.get()).sum();
        let news = Slot { latency: latency.since(&seen.latency), errors: u64::saturating_sub(errors, seen.errors) };
        *seen = Slot { latency, errors };
        Some(news)
    }
}

/// The metrics of everything that the table names. What the table has no more is dropped with the next scrape.
#[derive(Debug)]
pub(super) struct Series {
    table: Arc<ArcSwap<Table>>,
    routes: Kept<Owner, RouteSeries>,
    ejections: Kept<BackendKey, Counter>,
}

impl Series {
    pub(super) fn new(table: Arc<ArcSwap<Table>>) -> Self {
        Self { table, routes: Kept::default(), ejections: Kept::default() }
    }

    pub(super) fn count(&self, exchange: &Exchange<'_>) {
        let find =
            |route: Option<&RouteId>| self.routes.get(&Owner::of(route), |owner| owner.is_in(&self.table.load()));
        match &exchange.route {
            // Found by the names with its first request only.
            Some(route) => route.attached.or_attach(|| find(Some(&route.id))).count(exchange),
            None => find(None).count(exchange),
        }
    }

    /// Tells what has happened at each host since this was asked last; requests that no rule took have an empty one.
    pub(super) fn news(&self, mut tell: impl FnMut(String, Slot)) {
        self.routes.each(|owner, series| {
            if let Some(news) = series.news() {
                tell(owner.0.as_ref().map(|(_, host)| host.to_string()).unwrap_or_default(), news);
            }
        });
    }

    pub(super) fn ejected(&self, backend: &BackendKey) {
        // Few are ever ejected, so that a look at the whole table waits for a scrape.
        self.ejections.get(backend, |_| true).inc();
    }
}

/// All routes of a table.
pub(crate) fn routes(table: &Table) -> impl Iterator<Item = &Arc<Route>> {
    let hosts = table.exact.values().chain(table.wildcard.values()).chain([&table.any]);
    hosts.flat_map(|routes| all(routes)).chain(&table.default).chain(&table.fallback)
}

/// The backends that routes lead to.
fn backends(table: &Table) -> HashSet<&BackendKey> {
    let ports = table.streams.ports.values().map(|service| &service.backend.key);
    routes(table)
        .filter_map(|route| match &route.action {
            Action::Forward(backend) => Some(&backend.key),
            Action::Unavailable(_) | Action::NotFound => None,
        })
        .chain(ports)
        .collect()
}

impl Collector for Series {
    fn encode(&self, mut encoder: DescriptorEncoder) -> fmt::Result {
        let table = self.table.load();
        let series = self.routes.sweep(|owner| owner.is_in(&table));
        let series: Vec<_> = series.into_iter().map(|(owner, series)| (owner.labels(), series)).collect();
        requests(&mut encoder, &series)?;
        let histogram = |of: fn(&RouteSeries) -> Option<Reading>| move |series: &RouteSeries| of(series);
        let (name, help) = ("request_duration", "From the request's head to the last byte of its answer");
        family(
            &mut encoder,
            (name, help, Some(&Unit::Seconds)),
            &series,
            histogram(|series| Some(series.duration.get()?.read())),
        )?;
        let (name, help) = ("upstream_response", "From the choice of an endpoint to the head of its response");
        family(
            &mut encoder,
            (name, help, Some(&Unit::Seconds)),
            &series,
            histogram(|series| Some(series.upstream.get()?.read())),
        )?;
        let counter = |of: fn(&RouteSeries) -> &Counter| {
            move |series: &RouteSeries| Some(of(series)).filter(|counter| counter.get() > 0).cloned()
        };
        let (name, help) = ("retries", "Attempts at an endpoint after the first");
        family(&mut encoder, (name, help, None), &series, counter(|series| &series.retries))?;
        let (name, help) = ("request_body", "Bytes of request bodies");
        family(&mut encoder, (name, help, Some(&Unit::Bytes)), &series, counter(|series| &series.received))?;
        let (name, help) = ("response_body", "Bytes of response bodies");
        family(&mut encoder, (name, help, Some(&Unit::Bytes)), &series, counter(|series| &series.sent))?;
        if self.ejections.is_empty() {
            return Ok(());
        }
        let there = backends(&table);
        let ejections = self.ejections.sweep(|backend| there.contains(backend));
        let labels = |backend: &BackendKey| BackendLabels {
            namespace: backend.service.namespace().into(),
            service: backend.service.name().into(),
            port: backend.port.to_string(),
        };
        let ejections: Vec<_> = ejections.iter().map(|(backend, count)| (labels(backend), count.clone())).collect();
        let (name, help) = ("endpoint_ejections", "Endpoints left out after failures");
        family(&mut encoder, (name, help, None), &ejections, |counter: &Counter| Some(counter.clone()))
    }
}

fn requests(encoder: &mut DescriptorEncoder<'_>, series: &[(RouteLabels, Arc<RouteSeries>)]) -> fmt::Result {
    let help = "Requests by the rule that took them";
    let mut metric = encoder.encode_descriptor("requests", help, None, MetricType::Counter)?;
    for (route, series) in series {
        let counts = series.requests.read().unwrap_or_else(PoisonError::into_inner);
        for ((method, status), count) in &*counts {
            let labels = RequestLabels {
                namespace: route.namespace.clone(),
                ingress: route.ingress.clone(),
                host: route.host.clone(),
                method,
                status: *status,
            };
            count.encode(metric.encode_family(&labels)?)?;
        }
    }
    Ok(())
}

/// Writes one metric of all owners that have it.
pub(super) fn family<L: EncodeLabelSet, S, M: EncodeMetric>(
    encoder: &mut DescriptorEncoder<'_>,
    (name, help, unit): (&str, &str, Option<&Unit>),
    series: &[(L, Arc<S>)],
    of: impl Fn(&S) -> Option<M>,
) -> fmt::Result {
    let metrics: Vec<_> = series.iter().filter_map(|(labels, series)| Some((labels, of(series)?))).collect();
    let Some((_, first)) = metrics.first() else { return Ok(()) };
    let mut metric = encoder.encode_descriptor(name, help, unit, first.metric_type())?;
    for (labels, found) in &metrics {
        found.encode(metric.encode_family(*labels)?)?;
    }
    Ok(())
}

#[cfg(test)]
mod tests;
