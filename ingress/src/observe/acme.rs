//! Metrics of automatic certificates.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Mutex;
use std::sync::PoisonError;

use landfall_ingress_model::acme::view::{Phase, View};
use prometheus_client::encoding::EncodeLabelSet;
use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::family::Family;
use prometheus_client::metrics::gauge::Gauge;
use prometheus_client::registry::Registry;

#[derive(Clone, PartialEq, Eq, Hash, Debug, EncodeLabelSet)]
struct PhaseLabels {
    state: &'static str,
}

#[derive(Clone, PartialEq, Eq, Hash, Debug, EncodeLabelSet)]
struct IssuerLabels {
    issuer: String,
}

#[derive(Clone, PartialEq, Eq, Hash, Debug, EncodeLabelSet)]
struct FailureLabels {
    issuer: String,
    reason: &'static str,
}

#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Debug, EncodeLabelSet)]
struct SecretLabels {
    namespace: String,
    secret: String,
}

/// Counts orders, and says how certificates stand.
#[derive(Debug)]
pub struct AcmeMetrics {
    certificates: Family<PhaseLabels, Gauge>,
    issued: Family<IssuerLabels, Counter>,
    failed: Family<FailureLabels, Counter>,
    renewal: Family<SecretLabels, Gauge>,
    /// The certificates that have a gauge.
    known: Mutex<BTreeSet<SecretLabels>>,
}

impl AcmeMetrics {
    /// Registers the metrics.
    pub fn register(registry: &mut Registry) -> Self {
        let metrics = Self {
            certificates: Family::default(),
            issued: Family::default(),
            failed: Family::default(),
            renewal: Family::default(),
            known: Mutex::default(),
        };
        registry.register(
            "landfall_ingress_acme_certificates",
            "Automatic certificates that are asked for, by how they stand",
            metrics.certificates.clone(),
        );
        registry.register(
            "landfall_ingress_acme_issued",
            "Certificates that this replica was issued",
            metrics.issued.clone(),
        );
        registry.register(
            "landfall_ingress_acme_failures",
            "Orders and hosts that failed at this replica, by reason",
            metrics.failed.clone(),
        );
        registry.register(
            "landfall_ingress_acme_renewal_timestamp_seconds",
            "When an automatic certificate is renewed, in seconds since the epoch",
            metrics.renewal.clone(),
        );
        metrics
    }

    /// A certificate was issued.
    pub(crate) fn issued(&self, issuer: &str) {
        self.issued.get_or_create(&IssuerLabels { issuer: issuer.to_owned() }).inc();
    }

    /// An order, or a host of one, has failed.
    pub(crate) fn failed(&self, issuer: &str, reason: &'static str) {
        self.failed.get_or_create(&FailureLabels { issuer: issuer.to_owned(), reason }).inc();
    }

    /// Brings the gauges up to date.
    pub(crate) fn stand(&self, views: &[View]) {
        let mut counts: BTreeMap<Phase, i64> = Phase::ALL.into_iter().map(|phase| (phase, 0)).collect();
        let mut now = BTreeSet::new();
        for view in views {
            *counts.entry(view.state).or_default() += 1;
            let Some(renews) = view.renews_at else { continue };
            let labels = SecretLabels { namespace: view.namespace.clone(), secret: view.secret.clone() };
            self.renewal.get_or_create(&labels).set(i64::try_from(renews).unwrap_or(i64::MAX));
            now.insert(labels);
        }
        for (phase, count) in counts {
            self.certificates.get_or_create(&PhaseLabels { state: phase.as_str() }).set(count);
        }
        let mut known = self.known.lock().unwrap_or_else(PoisonError::into_inner);
        for gone in known.difference(&now) {
            self.renewal.remove(gone);
        }
        *known = now;
    }
}
