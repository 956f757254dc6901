//! Metrics of the ports of TCP and UDP services: one series for each port that there is.

use std::collections::BTreeMap;
use std::fmt;
use std::sync::atomic::Ordering::Relaxed;
use std::sync::{Arc, PoisonError, RwLock};

use arc_swap::ArcSwap;
use landfall_ingress_model::table::{StreamPort, StreamService, Table};
use landfall_model::ObjectKey;
use prometheus_client::collector::Collector;
use prometheus_client::encoding::{DescriptorEncoder, EncodeLabelSet, EncodeMetric};
use prometheus_client::metrics::MetricType;
use prometheus_client::metrics::counter::{ConstCounter, Counter};
use prometheus_client::metrics::gauge::ConstGauge;
use prometheus_client::registry::Unit;

use super::kept::Kept;
use super::series::family;
use crate::engine::{Rejected, StreamCounts};

#[derive(Clone, PartialEq, Eq, Hash, Debug, EncodeLabelSet)]
struct PortLabels {
    protocol: &'static str,
    port: u16,
    namespace: String,
    service: String,
}

#[derive(Clone, PartialEq, Eq, Hash, Debug, EncodeLabelSet)]
struct RejectedLabels {
    protocol: &'static str,
    port: u16,
    namespace: String,
    service: String,
    reason: &'static str,
}

/// A port and the Service that it leads to.
#[derive(Clone, PartialEq, Eq, Hash, Debug)]
struct Owner {
    port: StreamPort,
    service: ObjectKey,
}

impl Owner {
    fn of(service: &StreamService) -> Self {
        Self { port: service.port, service: service.backend.key.service.clone() }
    }

    fn is_in(&self, table: &Table) -> bool {
        table.streams.ports.get(&self.port).is_some_and(|service| service.backend.key.service == self.service)
    }

    fn labels(&self) -> PortLabels {
        PortLabels {
            protocol: self.port.transport.as_str(),
            port: self.port.number,
            namespace: self.service.namespace().into(),
            service: self.service.name().into(),
        }
    }
}

/// Those that came to nothing, by reason.
type Rejections = RwLock<BTreeMap<&'static str, Counter>>;

/// The metrics of all ports. A port that the table has no more is dropped with the next scrape.
#[derive(Debug)]
pub(super) struct StreamSeries {
    table: Arc<ArcSwap<Table>>,
    counts: Kept<Owner, StreamCounts>,
    rejections: Kept<Owner, Rejections>,
}

impl StreamSeries {
    pub(super) fn new(table: Arc<ArcSwap<Table>>) -> Self {
        Self { table, counts: Kept::default(), rejections: Kept::default() }
    }

    pub(super) fn counts(&self, service: &StreamService) -> Arc<StreamCounts> {
        self.counts.get(&Owner::of(service), |owner| owner.is_in(&self.table.load()))
    }

    pub(super) fn rejected(&self, service: &StreamService, why: Rejected) {
        let rejections = self.rejections.get(&Owner::of(service), |owner| owner.is_in(&self.table.load()));
        rejections.write().unwrap_or_else(PoisonError::into_inner).entry(why.as_str()).or_default().inc();
    }
}

impl Collector for StreamSeries {
    fn encode(&self, mut encoder: DescriptorEncoder) -> fmt::Result {
        let table = self.table.load();
        let counts = self.counts.sweep(|owner| owner.is_in(&table));
        let counts: Vec<_> = counts.into_iter().map(|(owner, counts)| (owner.labels(), counts)).collect();
        let (name, help) = ("stream_connections", "TCP connections and UDP sessions on the ports of Services now");
        let open = |counts: &StreamCounts| Some(ConstGauge::new(counts.open.load(Relaxed)));
        family(&mut encoder, (name, help, None), &counts, open)?;
        let (name, help) = ("stream_connections_opened", "TCP connections and UDP sessions on the ports of Services");
        let opened = |counts: &StreamCounts| Some(ConstCounter::new(counts.opened.load(Relaxed)));
        family(&mut encoder, (name, help, None), &counts, opened)?;
        let (name, help) = ("stream_received", "Bytes from clients of the ports of Services");
        let received = |counts: &StreamCounts| Some(ConstCounter::new(counts.received.load(Relaxed)));
        family(&mut encoder, (name, help, Some(&Unit::Bytes)), &counts, received)?;
        let (name, help) = ("stream_sent", "Bytes to clients of the ports of Services");
        let sent = |counts: &StreamCounts| Some(ConstCounter::new(counts.sent.load(Relaxed)));
        family(&mut encoder, (name, help, Some(&Unit::Bytes)), &counts, sent)?;
        self.encode_rejections(&mut encoder, &table)
    }
}

impl StreamSeries {
    fn encode_rejections(&self, encoder: &mut DescriptorEncoder<'_>, table: &Table) -> fmt::Result {
        let rejections = self.rejections.sweep(|owner| owner.is_in(table));
        if rejections.is_empty() {
            return Ok(());
        }
        let help = "Connections and sessions on the ports of Services that came to nothing, by reason";
        let mut metric = encoder.encode_descriptor("stream_rejected", help, None, MetricType::Counter)?;
        for (owner, reasons) in rejections {
            let PortLabels { protocol, port, namespace, service } = owner.labels();
            for (reason, count) in &*reasons.read().unwrap_or_else(PoisonError::into_inner) {
                let (namespace, service) = (namespace.clone(), service.clone());
                let labels = RejectedLabels { protocol, port, namespace, service, reason };
                count.encode(metric.encode_family(&labels)?)?;
            }
        }
        Ok(())
    }
}
