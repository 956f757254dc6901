//! Prometheus metrics: `MetalLB`'s names where it has them, ours for what it doesn't have.

use std::collections::BTreeMap;
use std::net::IpAddr;
use std::sync::atomic::{AtomicU64, Ordering};

use landfall_lb_model::announcer::Report;
use landfall_lb_model::plan::Grant;
use landfall_model::ObjectKey;
use prometheus_client::encoding::EncodeLabelSet;
use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::family::Family;
use prometheus_client::metrics::gauge::Gauge;
use prometheus_client::metrics::histogram::Histogram;
use prometheus_client::registry::Registry;

use crate::moves::{self, Move, Moves};
use crate::page::Page;
use crate::wire::{Figures, View};

#[derive(Clone, PartialEq, Eq, Hash, Debug, EncodeLabelSet)]
struct AnnouncedLabels {
    service: String,
    protocol: String,
    node: String,
    ip: String,
}

#[derive(Clone, PartialEq, Eq, Hash, Debug, EncodeLabelSet)]
struct IpLabels {
    ip: String,
}

#[derive(Clone, PartialEq, Eq, Hash, Debug, EncodeLabelSet)]
struct PoolLabels {
    pool: String,
}

#[derive(Clone, PartialEq, Eq, Hash, Debug, EncodeLabelSet)]
struct ConflictLabels {
    ip: String,
    mac: String,
}

#[derive(Clone, PartialEq, Eq, Hash, Debug, EncodeLabelSet)]
struct UnheardLabels {
    peer: String,
    why: &'static str,
}

#[derive(Clone, PartialEq, Eq, Hash, Debug, EncodeLabelSet)]
struct CauseLabels {
    cause: &'static str,
}

#[derive(Clone, PartialEq, Eq, Hash, Debug, EncodeLabelSet)]
struct ReasonLabels {
    reason: String,
}

type Pools = Family<PoolLabels, Gauge>;

/// The metrics of a speaker.
#[derive(Clone, Debug)]
pub struct SpeakerMetrics {
    moves: Option<(crate::Name, Moves)>,
    announced: Family<AnnouncedLabels, Gauge>,
    requests: Family<IpLabels, Gauge>,
    responses: Family<IpLabels, Gauge>,
    gratuitous: Family<IpLabels, Gauge>,
    taken: Family<CauseLabels, Counter>,
    silence: Histogram,
    conflicts: Family<ConflictLabels, Gauge>,
    received: Counter,
    lost: Counter,
    rejected: Counter,
    replayed: Counter,
    peers: Gauge,
    unheard: Family<UnheardLabels, Gauge>,
    stopped: Counter<f64, AtomicU64>,
}

impl SpeakerMetrics {
    /// Has moves of addresses noted, too.
    pub(crate) fn noting(mut self, node: crate::Name, moves: Moves) -> Self {
        self.moves = Some((node, moves));
        self
    }

    /// The last move of an address, as far as moves are noted.
    pub(crate) fn last_move(&self, ip: IpAddr) -> Option<Move> {
        self.moves.as_ref()?.1.of(ip)
    }

    /// Registers them.
    pub fn new(registry: &mut Registry) -> Self {
        // From half the time that a failover takes to where it is none any more.
        let buckets = [0.1, 0.15, 0.2, 0.25, 0.3, 0.5, 1.0, 5.0];
        let metrics = Self {
            moves: None,
            announced: Family::default(),
            requests: Family::default(),
            responses: Family::default(),
            gratuitous: Family::default(),
            taken: Family::default(),
            silence: Histogram::new(buckets),
            conflicts: Family::default(),
            received: Counter::default(),
            lost: Counter::default(),
            rejected: Counter::default(),
            replayed: Counter::default(),
            peers: Gauge::default(),
            unheard: Family::default(),
            stopped: Counter::default(),
        };
        let m = &metrics;
        registry.register("metallb_speaker_announced", "Addresses that this node announces", m.announced.clone());
        registry.register("metallb_layer2_requests_received", "Requests for an announced address", m.requests.clone());
        registry.register("metallb_layer2_responses_sent", "Answers to such requests", m.responses.clone());
        registry.register("metallb_layer2_gratuitous_sent", "Gratuitous frames sent", m.gratuitous.clone());
        registry.register("landfall_lb_taken", "Addresses that this node began to announce, by cause", m.taken.clone());
        registry.register("landfall_lb_failover_seconds", "Silence of the former owner at takeover", m.silence.clone());
        registry.register("landfall_lb_conflicts", "Addresses that a foreign host answers for", m.conflicts.clone());
        registry.register("landfall_lb_heartbeats_received", "Heartbeats accepted", m.received.clone());
        registry.register("landfall_lb_heartbeats_lost", "Heartbeats that never came", m.lost.clone());
        registry.register("landfall_lb_heartbeats_rejected", "Heartbeats with a wrong key or form", m.rejected.clone());
        registry.register(
            "landfall_lb_heartbeats_replayed",
            "Heartbeats that came twice or too late",
            m.replayed.clone(),
        );
        registry.register("landfall_lb_peers", "Peers that are alive", m.peers.clone());
        registry.register(
            "landfall_lb_peers_unheard",
            "Peers that run and whose heartbeats don't arrive, by reason",
            m.unheard.clone(),
        );
        registry.register("landfall_lb_stopped_seconds", "Time for which this process was stopped", m.stopped.clone());
        metrics
    }

    /// Counts what happened.
    pub fn happened(&self, report: &Report) {
        if let Some((node, moves)) = &self.moves {
            moves.happened(node, report);
        }
        match report {
            Report::Took { cause, silence, .. } => {
                self.taken.get_or_create(&CauseLabels { cause: moves::word(*cause) }).inc();
                if let Some(silence) = silence {
                    self.silence.observe(silence.as_secs_f64());
                }
            }
            Report::Woke { after } => drop(self.stopped.inc_by(after.as_secs_f64())),
            _ => {}
        }
    }

    /// Brings the gauges up to date.
    pub fn refresh(&self, node: &str, view: &View, figures: &Figures, services: &BTreeMap<ObjectKey, Option<Grant>>) {
        self.announced.clear();
        for (key, grant) in services {
            for ip in grant.iter().flat_map(|g| &g.ips) {
                if view.announcers.get(ip).is_some_and(|(by, _)| &**by == node) {
                    let labels = AnnouncedLabels {
                        service: key.to_string(),
                        protocol: "layer2".to_owned(),
                        node: node.to_owned(),
                        ip: ip.to_string(),
                    };
                    self.announced.get_or_create(&labels).set(1);
                }
            }
        }
        for family in [&self.requests, &self.responses, &self.gratuitous] {
            family.clear();
        }
        for (ip, frames) in &figures.frames {
            let labels = IpLabels { ip: ip.to_string() };
            self.requests.get_or_create(&labels).set(gauge(frames.requests));
            self.responses.get_or_create(&labels).set(gauge(frames.responses));
            self.gratuitous.get_or_create(&labels).set(gauge(frames.gratuitous));
        }
        self.conflicts.clear();
        for (ip, (mac, _)) in view.conflicts.iter().chain(&view.contested) {
            self.conflicts.get_or_create(&ConflictLabels { ip: ip.to_string(), mac: mac.to_string() }).set(1);
        }
        count(&self.received, figures.counters.received);
        count(&self.lost, figures.counters.lost);
        count(&self.rejected, figures.counters.rejected);
        count(&self.replayed, figures.counters.replayed);
        self.unheard.clear();
        for (peer, why) in &view.unheard {
            let labels = UnheardLabels { peer: peer.to_string(), why: why.as_str() };
            self.unheard.get_or_create(&labels).set(1);
        }
        self.peers.set(i64::try_from(view.peers.len()).unwrap_or(i64::MAX));
    }
}

/// What has been counted elsewhere; it only grows.
fn count(counter: &Counter, total: u64) {
    counter.inner().store(total, Ordering::Relaxed);
}

/// The metrics of whoever allocates.
#[derive(Clone, Debug)]
pub struct PoolMetrics {
    total: Pools,
    in_use: Pools,
    ipv4_total: Pools,
    ipv6_total: Pools,
    ipv4_in_use: Pools,
    ipv6_in_use: Pools,
    services: Pools,
    taken: Pools,
    waiting: Gauge,
}

impl PoolMetrics {
    /// Registers them.
    pub fn new(registry: &mut Registry) -> Self {
        let metrics = Self {
            total: Family::default(),
            in_use: Family::default(),
            ipv4_total: Family::default(),
            ipv6_total: Family::default(),
            ipv4_in_use: Family::default(),
            ipv6_in_use: Family::default(),
            services: Family::default(),
            taken: Family::default(),
            waiting: Gauge::default(),
        };
        let m = &metrics;
        registry.register("metallb_allocator_addresses_total", "Addresses of a pool", m.total.clone());
        registry.register("metallb_allocator_addresses_in_use_total", "Addresses that Services hold", m.in_use.clone());
        registry.register("metallb_allocator_ipv4_addresses_total", "IPv4 addresses of a pool", m.ipv4_total.clone());
        registry.register("metallb_allocator_ipv6_addresses_total", "IPv6 addresses of a pool", m.ipv6_total.clone());
        registry.register(
            "metallb_allocator_ipv4_addresses_in_use_total",
            "IPv4 addresses in use",
            m.ipv4_in_use.clone(),
        );
        registry.register(
            "metallb_allocator_ipv6_addresses_in_use_total",
            "IPv6 addresses in use",
            m.ipv6_in_use.clone(),
        );
        registry.register(
            "metallb_allocator_services_allocated_total",
            "Services with an address of the pool",
            m.services.clone(),
        );
        registry.register("landfall_lb_pool_taken", "Addresses of a pool that something else uses", m.taken.clone());
        registry.register("landfall_lb_services_waiting", "Services that wait for an address", m.waiting.clone());
        metrics
    }

    /// Brings the gauges up to date.
    pub fn refresh(&self, page: &Page) {
        let all = [
            &self.total,
            &self.in_use,
            &self.ipv4_total,
            &self.ipv6_total,
            &self.ipv4_in_use,
            &self.ipv6_in_use,
            &self.taken,
            &self.services,
        ];
        for family in all {
            family.clear();
        }
        let mut services: BTreeMap<&str, u128> = BTreeMap::new();
        for grant in page.services.values().flatten() {
            *services.entry(&grant.pool).or_default() += 1;
        }
        for (pool, (v4, v6)) in &page.usage {
            let values = [
                v4.total.saturating_add(v6.total),
                v4.assigned + v6.assigned,
                v4.total,
                v6.total,
                v4.assigned,
                v6.assigned,
                v4.taken + v6.taken,
                services.get(&**pool).copied().unwrap_or_default(),
            ];
            let labels = PoolLabels { pool: pool.to_string() };
            for (family, value) in all.iter().zip(values) {
                family.get_or_create(&labels).set(i64::try_from(value).unwrap_or(i64::MAX));
            }
        }
        self.waiting.set(i64::try_from(page.waiting).unwrap_or(i64::MAX));
    }
}

/// The metrics of every role: what it has read, and what is wrong.
#[derive(Clone, Debug)]
pub struct StateMetrics {
    updates: Counter,
    update_errors: Counter,
    loaded: Gauge,
    stale: Gauge,
    problems: Family<ReasonLabels, Gauge>,
}

impl StateMetrics {
    /// Registers them.
    pub fn new(registry: &mut Registry) -> Self {
        let m = Self {
            updates: Counter::default(),
            update_errors: Counter::default(),
            loaded: Gauge::default(),
            stale: Gauge::default(),
            problems: Family::default(),
        };
        // The suffix `_total` of counters is added when they are written out.
        registry.register("metallb_k8s_client_updates", "Changes of objects that were read", m.updates.clone());
        registry.register(
            "metallb_k8s_client_update_errors",
            "How often the API server could not be read",
            m.update_errors.clone(),
        );
        registry.register(
            "metallb_k8s_client_config_loaded_bool",
            "1 if the configuration has been read",
            m.loaded.clone(),
        );
        registry.register(
            "metallb_k8s_client_config_stale_bool",
            "1 if some of the configuration cannot be used",
            m.stale.clone(),
        );
        registry.register("landfall_lb_problems", "Problems by reason", m.problems.clone());
        m
    }

    /// Brings them up to date.
    pub fn refresh(&self, page: &Page) {
        self.updates.inner().store(page.updates, Ordering::Relaxed);
        self.update_errors.inner().store(page.update_errors, Ordering::Relaxed);
        self.loaded.set(page.loaded.into());
        self.stale.set(page.stale.into());
        self.problems.clear();
        for problem in &page.problems {
            self.problems.get_or_create(&ReasonLabels { reason: problem.reason.to_string() }).inc();
        }
    }
}

fn gauge(value: u64) -> i64 {
    i64::try_from(value).unwrap_or(i64::MAX)
}

#[cfg(test)]
mod tests {
    use std::net::IpAddr;
    use std::sync::Arc;

    use landfall_lb_model::announcer::FrameCounters;
    use landfall_lb_model::plan::Usage;
    use prometheus_client::encoding::text::encode;

    use super::*;

    /// What dashboards and alerts for `MetalLB` ask for, and ours.
    #[test]
    fn names_and_labels_are_those_that_dashboards_know() {
        let mut registry = Registry::default();
        let (speaker, pools, state) =
            (SpeakerMetrics::new(&mut registry), PoolMetrics::new(&mut registry), StateMetrics::new(&mut registry));
        let ip = IpAddr::from([192, 0, 2, 1]);
        let grant = Grant { ips: vec![ip], pool: "lan".into() };
        let v4 = Usage { total: 16, assigned: 1, taken: 2 };
        let page = Page {
            services: BTreeMap::from([(ObjectKey::new("shop", "web"), Some(grant))]),
            usage: BTreeMap::from([(Arc::from("lan"), (v4, Usage::default()))]),
            updates: 7,
            loaded: true,
            ..Page::default()
        };
        let interfaces = vec![Arc::from("eth0")];
        let view = View { announcers: BTreeMap::from([(ip, (Arc::from("n1"), interfaces))]), ..View::default() };
        let frames = FrameCounters { requests: 3, responses: 2, gratuitous: 10 };
        let figures = Figures { frames: vec![(ip, frames)], ..Figures::default() };
        speaker.refresh("n1", &view, &figures, &page.services);
        pools.refresh(&page);
        state.refresh(&page);
        let mut text = String::new();
        encode(&mut text, &registry).unwrap();
        for line in [
            r#"metallb_speaker_announced{service="shop/web",protocol="layer2",node="n1",ip="192.0.2.1"} 1"#,
            r#"metallb_layer2_requests_received{ip="192.0.2.1"} 3"#,
            r#"metallb_layer2_responses_sent{ip="192.0.2.1"} 2"#,
            r#"metallb_layer2_gratuitous_sent{ip="192.0.2.1"} 10"#,
            r#"metallb_allocator_addresses_total{pool="lan"} 16"#,
            r#"metallb_allocator_addresses_in_use_total{pool="lan"} 1"#,
            r#"metallb_allocator_services_allocated_total{pool="lan"} 1"#,
            r#"landfall_lb_pool_taken{pool="lan"} 2"#,
            "metallb_k8s_client_updates_total 7",
            "metallb_k8s_client_config_loaded_bool 1",
            "metallb_k8s_client_config_stale_bool 0",
        ] {
            assert!(text.lines().any(|found| found == line), "{line} is not in\n{text}");
        }
    }
}
