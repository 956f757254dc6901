//! Metrics of the control work: tables, problems, certificates.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::atomic::{AtomicI64, AtomicU64};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use landfall_ingress_model::table::Table;
use landfall_ingress_model::tls::Certificate;
use landfall_model::Problem;
use prometheus_client::encoding::EncodeLabelSet;
use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::family::Family;
use prometheus_client::metrics::gauge::Gauge;
use prometheus_client::metrics::histogram::Histogram;
use prometheus_client::registry::Registry;

/// Upper bounds of the apply histogram in seconds: the budget is 5 ms inside the process.
const APPLY_BUCKETS: [f64; 10] = [0.0005, 0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.5, 2.0];

#[derive(Clone, PartialEq, Eq, Hash, Debug, EncodeLabelSet)]
struct ReasonLabels {
    reason: &'static str,
}

#[derive(Clone, PartialEq, Eq, Hash, Debug, EncodeLabelSet)]
struct SecretLabels {
    namespace: String,
    secret: String,
}

/// When the table in force was built, in seconds since the epoch.
pub(super) type BuiltAt = Gauge<f64, AtomicU64>;

/// Metrics of the control work.
#[derive(Debug)]
pub struct ControlMetrics {
    generation: Gauge<i64, AtomicI64>,
    built_at: BuiltAt,
    applies: Counter,
    apply_seconds: Histogram,
    hosts: Gauge<i64, AtomicI64>,
    problems: Family<ReasonLabels, Gauge>,
    expiry: Family<SecretLabels, Gauge>,
    /// The reasons and certificates that have a gauge.
    reasons: Mutex<BTreeSet<&'static str>>,
    certificates: Mutex<BTreeMap<String, i64>>,
}

impl ControlMetrics {
    /// Registers the metrics.
    pub fn register(registry: &mut Registry) -> Self {
        let metrics = Self {
            generation: Gauge::default(),
            built_at: Gauge::default(),
            applies: Counter::default(),
            apply_seconds: Histogram::new(APPLY_BUCKETS),
            hosts: Gauge::default(),
            problems: Family::default(),
            expiry: Family::default(),
            reasons: Mutex::default(),
            certificates: Mutex::default(),
        };
        let r = registry;
        r.register("landfall_ingress_table_generation", "Tables built since the start", metrics.generation.clone());
        r.register(
            "landfall_ingress_table_timestamp_seconds",
            "When the table in force was built, in seconds since the epoch",
            metrics.built_at.clone(),
        );
        r.register("landfall_ingress_applies", "Changes that were compiled and published", metrics.applies.clone());
        r.register(
            "landfall_ingress_apply_duration_seconds",
            "From noticing a change to having published it",
            metrics.apply_seconds.clone(),
        );
        r.register("landfall_ingress_hosts", "Hosts in the table in force", metrics.hosts.clone());
        r.register("landfall_ingress_problems", "Problems there are now, by reason", metrics.problems.clone());
        r.register(
            "landfall_ingress_certificate_expiry_timestamp_seconds",
            "When a certificate in use expires, in seconds since the epoch",
            metrics.expiry.clone(),
        );
        metrics
    }

    /// When the last table was built, and how many changes were published.
    pub(super) fn builds(&self) -> (BuiltAt, Counter) {
        (self.built_at.clone(), self.applies.clone())
    }

    /// Counts a build.
    pub fn built(&self, table: &Arc<Table>, before: &Arc<Table>, took: Duration) {
        self.applies.inc();
        self.apply_seconds.observe(took.as_secs_f64());
        if Arc::ptr_eq(table, before) {
            return;
        }
        self.generation.set(i64::try_from(table.generation).unwrap_or(i64::MAX));
        self.built_at.set(SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default().as_secs_f64());
        self.hosts.set(i64::try_from(table.exact.len() + table.wildcard.len()).unwrap_or(i64::MAX));
        if !Arc::ptr_eq(&table.certificates, &before.certificates) {
            self.certificates(table);
        }
    }

    /// Brings the problem gauges up to date.
    pub fn problems(&self, problems: &[Problem]) {
        let mut counts: BTreeMap<&'static str, i64> = BTreeMap::new();
        for problem in problems {
            *counts.entry(problem.reason.as_str()).or_default() += 1;
        }
        for (reason, count) in &counts {
            self.problems.get_or_create(&ReasonLabels { reason }).set(*count);
        }
        // Only what is gone is removed, so that a scrape in the middle finds no hole.
        let mut last = self.reasons.lock().unwrap_or_else(PoisonError::into_inner);
        for reason in last.iter().filter(|reason| !counts.contains_key(*reason)) {
            self.problems.remove(&ReasonLabels { reason });
        }
        *last = counts.into_keys().collect();
    }

    fn certificates(&self, table: &Table) {
        let names = &table.certificates;
        let used = names.exact.values().chain(names.wildcard.values()).chain(&names.default);
        let expiry = |certificate: &Certificate| i64::try_from(certificate.not_after.as_secs()).unwrap_or(i64::MAX);
        let now: BTreeMap<String, i64> =
            used.map(|certificate| (certificate.secret.to_string(), expiry(certificate))).collect();
        let labels = |key: &str| {
            let (namespace, secret) = key.split_once('/').unwrap_or(("", key));
            SecretLabels { namespace: namespace.into(), secret: secret.into() }
        };
        let mut last = self.certificates.lock().unwrap_or_else(PoisonError::into_inner);
        for (key, seconds) in now.iter().filter(|(key, seconds)| last.get(*key) != Some(*seconds)) {
            self.expiry.get_or_create(&labels(key)).set(*seconds);
        }
        for key in last.keys().filter(|key| !now.contains_key(*key)) {
            self.expiry.remove(&labels(key));
        }
        *last = now;
    }
}
