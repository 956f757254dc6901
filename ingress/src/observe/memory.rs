//! Metrics of memory: what is held for clients, and what was refused for want of it.

use std::fmt;
use std::sync::{Arc, PoisonError};

use landfall_shared::admin::SharedRegistry;
use prometheus_client::collector::Collector;
use prometheus_client::encoding::{DescriptorEncoder, EncodeLabelSet, EncodeMetric};
use prometheus_client::metrics::MetricType;
use prometheus_client::metrics::counter::ConstCounter;
use prometheus_client::metrics::gauge::ConstGauge;
use prometheus_client::registry::Unit;

use crate::memory::{Ledger, Refusal};

#[derive(Clone, PartialEq, Eq, Hash, Debug, EncodeLabelSet)]
struct HeldLabels {
    what: &'static str,
}

#[derive(Debug)]
struct Memory(Arc<Ledger>);

/// Registers the metrics.
pub(crate) fn register(registry: &SharedRegistry, ledger: Arc<Ledger>) {
    let mut registry = registry.lock().unwrap_or_else(PoisonError::into_inner);
    let registry = registry.sub_registry_with_prefix("landfall_ingress");
    registry.register_collector(Box::new(Memory(ledger)));
}

impl Collector for Memory {
    fn encode(&self, mut encoder: DescriptorEncoder) -> fmt::Result {
        let amounts = self.0.amounts();
        let help = "Bytes on their way for clients: heads of requests under way, and pieces of bodies";
        let mut family = encoder.encode_descriptor("held", help, Some(&Unit::Bytes), MetricType::Gauge)?;
        for (what, bytes) in [("heads", amounts.heads), ("bodies", amounts.bodies)] {
            ConstGauge::new(bytes).encode(family.encode_family(&HeldLabels { what })?)?;
        }
        gauge(&mut encoder, "exchanges", "Requests under way", None, amounts.exchanges)?;
        if let Some(limit) = self.0.limit() {
            let help = "What the process may have resident";
            gauge(&mut encoder, "memory_limit", help, Some(&Unit::Bytes), signed(limit))?;
            let help = "What the process has resident";
            gauge(&mut encoder, "memory_used", help, Some(&Unit::Bytes), signed(self.0.used()))?;
        }
        let help = "How short memory is: 0 not at all, 1 less is read at a time, 2 nothing new is begun";
        gauge(&mut encoder, "memory_pressure", help, None, self.0.pressure() as i64)?;
        let help = "What was refused for want of memory";
        let mut family = encoder.encode_descriptor("memory_refused", help, None, MetricType::Counter)?;
        for what in Refusal::ALL {
            let count = ConstCounter::new(self.0.refused(what));
            count.encode(family.encode_family(&HeldLabels { what: what.as_str() })?)?;
        }
        Ok(())
    }
}

fn gauge(encoder: &mut DescriptorEncoder<'_>, name: &str, help: &str, unit: Option<&Unit>, value: i64) -> fmt::Result {
    ConstGauge::new(value).encode(encoder.encode_descriptor(name, help, unit, MetricType::Gauge)?)
}

fn signed(bytes: u64) -> i64 {
    i64::try_from(bytes).unwrap_or(i64::MAX)
}
