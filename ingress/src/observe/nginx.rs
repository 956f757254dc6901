//! The metrics under the names that ingress-nginx has for them, which its boards and people's alerts ask for.
//!
//! What nothing here measures has no series rather than a value that means something else.

mod paths;
mod process;

use std::fmt;
use std::sync::Arc;

use arc_swap::ArcSwap;
use landfall_ingress_model::host::HostName;
use landfall_ingress_model::table::Table;
use landfall_ingress_model::tls::Certificate;
use prometheus_client::collector::Collector;
use prometheus_client::encoding::{DescriptorEncoder, EncodeLabelSet, EncodeMetric};
use prometheus_client::metrics::MetricType;
use prometheus_client::metrics::counter::{ConstCounter, Counter};
use prometheus_client::metrics::gauge::ConstGauge;
use prometheus_client::registry::Registry;

use super::control::{BuiltAt, ControlMetrics};
use super::traffic::Open;
use crate::engine::Exchange;
use paths::Paths;
use process::Process;

/// The value of `controller_class` that queries of the boards have.
const CLASS: &str = "k8s.io/ingress-nginx";

#[derive(Clone, PartialEq, Eq, Hash, Debug, EncodeLabelSet)]
struct StateLabels {
    state: &'static str,
}

#[derive(Clone, PartialEq, Eq, Hash, Debug, EncodeLabelSet)]
struct CertificateLabels {
    class: &'static str,
    host: String,
    namespace: String,
    secret_name: String,
}

/// Which pod the metrics are of.
#[derive(Clone, Debug)]
pub struct Identity {
    /// Its namespace.
    pub namespace: String,
    /// Its name.
    pub pod: String,
}

/// The metrics of ingress-nginx.
#[derive(Debug)]
pub(super) struct Nginx {
    table: Arc<ArcSwap<Table>>,
    paths: Paths,
}

impl Nginx {
    pub(super) fn new(table: Arc<ArcSwap<Table>>) -> Arc<Self> {
        Arc::new(Self { paths: Paths::new(table.clone()), table })
    }

    /// Registers all of them.
    pub(super) fn register(
        self: &Arc<Self>,
        registry: &mut Registry,
        identity: Identity,
        control: &ControlMetrics,
        open: Open,
    ) {
        let labels = [("class", CLASS.to_owned()), ("namespace", identity.namespace), ("pod", identity.pod)];
        let labels = labels.map(|(name, value)| (format!("controller_{name}").into(), value.into()));
        let (built_at, applies) = control.builds();
        registry
            .sub_registry_with_prefix("nginx_ingress_controller")
            .sub_registry_with_labels(labels.into_iter())
            .register_collector(Box::new(Collected { nginx: self.clone(), built_at, applies, open }));
    }

    /// Counts a request. Those that no rule took are not counted, as in ingress-nginx.
    pub(super) fn count(&self, exchange: &Exchange<'_>) {
        self.paths.count(exchange);
    }
}

#[derive(Debug)]
struct Collected {
    nginx: Arc<Nginx>,
    built_at: BuiltAt,
    applies: Counter,
    open: Open,
}

impl Collector for Collected {
    fn encode(&self, mut encoder: DescriptorEncoder<'_>) -> fmt::Result {
        let table = self.nginx.table.load();
        self.nginx.paths.encode(&mut encoder, &table)?;
        let help = "Connections by their state";
        one_of(&mut encoder, "nginx_process_connections", help, "active", self.open.now())?;
        let help = "Connections since the start";
        counter(&mut encoder, "nginx_process_connections", help, Some("accepted"), self.open.accepted())?;
        let help = "Requests since the start";
        counter(&mut encoder, "nginx_process_requests", help, None, self.nginx.paths.requests())?;
        if let Some(process) = Process::read() {
            process.encode(&mut encoder)?;
        }
        // A table is in force as soon as it is built, and what can't be compiled is a problem of its object alone.
        one(&mut encoder, "config_last_reload_successful", "Always 1: no table is ever refused", 1)?;
        let help = "When the table in force was built, in seconds since the epoch";
        one(&mut encoder, "config_last_reload_successful_timestamp_seconds", help, self.built_at.get())?;
        counter(&mut encoder, "success", "Changes that were compiled and published", None, self.applies.get())?;
        certificates(&mut encoder, &table)
    }
}

/// When each certificate in use expires, by the names of its hosts.
fn certificates(encoder: &mut DescriptorEncoder<'_>, table: &Table) -> fmt::Result {
    let names = &table.certificates;
    let host = |name: &HostName| name.to_string();
    let exact = names.exact.iter().map(|(name, certificate)| (host(name), certificate));
    let wildcard = names.wildcard.iter().map(|(name, certificate)| (format!("*.{name}"), certificate));
    let default = names.default.iter().map(|certificate| ("_".to_owned(), certificate));
    let all: Vec<(String, &Arc<Certificate>)> = exact.chain(wildcard).chain(default).collect();
    if all.is_empty() {
        return Ok(());
    }
    let help = "When a certificate in use expires, in seconds since the epoch";
    let mut metric = encoder.encode_descriptor("ssl_expire_time_seconds", help, None, MetricType::Gauge)?;
    for (host, certificate) in all {
        let labels = CertificateLabels {
            class: CLASS,
            host,
            namespace: certificate.secret.namespace().into(),
            secret_name: certificate.secret.name().into(),
        };
        let expires = i64::try_from(certificate.not_after.as_secs()).unwrap_or(i64::MAX);
        ConstGauge::new(expires).encode(metric.encode_family(&labels)?)?;
    }
    Ok(())
}

fn one<N>(encoder: &mut DescriptorEncoder<'_>, name: &str, help: &str, value: N) -> fmt::Result
where
    ConstGauge<N>: EncodeMetric,
{
    ConstGauge::new(value).encode(encoder.encode_descriptor(name, help, None, MetricType::Gauge)?)
}

fn one_of(encoder: &mut DescriptorEncoder<'_>, name: &str, help: &str, state: &'static str, value: i64) -> fmt::Result {
    let mut metric = encoder.encode_descriptor(name, help, None, MetricType::Gauge)?;
    ConstGauge::new(value).encode(metric.encode_family(&StateLabels { state })?)
}

/// A counter, whose name the format ends in `_total`.
fn counter(
    encoder: &mut DescriptorEncoder<'_>,
    name: &str,
    help: &str,
    state: Option<&'static str>,
    value: u64,
) -> fmt::Result {
    let mut metric = encoder.encode_descriptor(name, help, None, MetricType::Counter)?;
    match state {
        Some(state) => ConstCounter::new(value).encode(metric.encode_family(&StateLabels { state })?),
        None => ConstCounter::new(value).encode(metric),
    }
}
