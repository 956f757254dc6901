//! The last five minutes by host: requests, errors, latency.
//!
//! The counters of the metrics are read every two seconds; a request itself costs nothing. What is kept is bounded: the
//! busiest hosts one by one, all others together.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use serde::Serialize;

use super::latency::Reading;
use super::series::Series;

/// How often the counters are read.
pub const TICK: Duration = Duration::from_secs(2);
/// Ticks that are remembered: five minutes.
const SLOTS: usize = 150;
/// Ticks that the rate of now is made from.
const NOW: usize = 5;
/// Hosts that are kept one by one; each takes some 18 KB.
const HOSTS: usize = 40;

/// What happened between two ticks.
#[derive(Clone, Copy, Default, Debug)]
pub(super) struct Slot {
    pub(super) latency: Reading,
    /// Answers with 5xx.
    pub(super) errors: u64,
}

impl Slot {
    fn add(&mut self, other: &Self) {
        self.latency.add(&other.latency);
        self.errors += other.errors;
    }
}

/// The slots of one host, or of several.
#[derive(Debug)]
struct Ring(Box<[Slot]>);

impl Default for Ring {
    fn default() -> Self {
        Self(vec![Slot::default(); SLOTS].into())
    }
}

impl Ring {
    fn total(&self) -> Slot {
        self.0.iter().fold(Slot::default(), |mut sum, slot| {
            sum.add(slot);
            sum
        })
    }

    fn requests(&self) -> u64 {
        self.0.iter().map(|slot| slot.latency.count()).sum()
    }
}

/// The last minutes.
#[derive(Debug)]
pub struct Recent {
    series: Arc<Series>,
    state: Mutex<State>,
}

#[derive(Debug, Default)]
struct State {
    /// How many ticks there were.
    ticks: usize,
    all: Ring,
    hosts: BTreeMap<String, Ring>,
    rest: Ring,
}

/// What is said of one host, or of several.
#[derive(Clone, PartialEq, Debug, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Summary {
    /// Requests in the last five minutes.
    pub requests: u64,
    /// Those that were answered with 5xx.
    pub errors: u64,
    /// Requests a second now.
    pub rate: f64,
    /// Median latency in milliseconds.
    pub p50: Option<f64>,
    /// Latency in milliseconds of the 99 % that were faster.
    pub p99: Option<f64>,
    /// Mean latency in milliseconds.
    pub mean: Option<f64>,
    /// Requests a second, the oldest first, one for each tick.
    pub rates: Vec<f64>,
    /// Errors a second.
    pub error_rates: Vec<f64>,
    /// Mean latencies in milliseconds.
    pub latencies: Vec<Option<f64>>,
}

/// What is said of one host.
#[derive(Clone, PartialEq, Debug, Serialize)]
pub struct HostSummary {
    /// The host of the rules; `*` for rules without one, empty where no rule took the requests.
    pub host: String,
    /// What is said of it.
    #[serde(flatten)]
    pub summary: Summary,
}

/// The traffic of the last minutes.
#[derive(Clone, PartialEq, Debug, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Traffic {
    /// Seconds between two ticks.
    pub tick: u64,
    /// All requests.
    pub all: Summary,
    /// The busiest hosts, the busiest first.
    pub hosts: Vec<HostSummary>,
    /// All other hosts.
    pub rest: Summary,
}

impl Recent {
    /// Nothing is known yet.
    pub(super) fn new(series: Arc<Series>) -> Self {
        Self { series, state: Mutex::default() }
    }

    /// Reads the counters; to be called once in a [`TICK`].
    pub fn tick(&self) {
        let mut by_host: BTreeMap<String, Slot> = BTreeMap::new();
        self.series.news(|host, news| by_host.entry(host).or_default().add(&news));
        self.lock().take(by_host);
    }

    /// What is known.
    pub fn traffic(&self) -> Traffic {
        let state = self.lock();
        let mut hosts: Vec<HostSummary> = state
            .hosts
            .iter()
            .filter(|(_, ring)| ring.requests() > 0)
            .map(|(host, ring)| HostSummary { host: host.clone(), summary: state.summary(ring) })
            .collect();
        hosts.sort_by_key(|host| std::cmp::Reverse(host.summary.requests));
        let (all, rest) = (state.summary(&state.all), state.summary(&state.rest));
        Traffic { tick: TICK.as_secs(), all, hosts, rest }
    }

    fn lock(&self) -> std::sync::MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl State {
    fn take(&mut self, by_host: BTreeMap<String, Slot>) {
        let at = self.ticks % SLOTS;
        self.ticks += 1;
        self.all.0[at] = Slot::default();
        self.rest.0[at] = Slot::default();
        self.hosts.values_mut().for_each(|ring| ring.0[at] = Slot::default());
        self.hosts.retain(|_, ring| ring.requests() > 0);
        let mut news: Vec<(String, Slot)> = by_host.into_iter().collect();
        news.sort_by_key(|(_, slot)| std::cmp::Reverse(slot.latency.count()));
        for (host, slot) in news {
            self.all.0[at].add(&slot);
            if !self.hosts.contains_key(&host) && !self.make_room(slot.latency.count()) {
                self.rest.0[at].add(&slot);
                continue;
            }
            self.hosts.entry(host).or_default().0[at].add(&slot);
        }
    }

    /// Whether a host with that many requests gets a ring of its own, in the place of the quietest one if need be.
    fn make_room(&mut self, requests: u64) -> bool {
        if self.hosts.len() < HOSTS {
            return true;
        }
        let quietest = self.hosts.iter().map(|(host, ring)| (ring.requests(), host)).min();
        let Some(host) = quietest.filter(|(least, _)| *least < requests).map(|(_, host)| host.clone()) else {
            return false;
        };
        if let Some(ring) = self.hosts.remove(&host) {
            self.rest.0.iter_mut().zip(&*ring.0).for_each(|(rest, slot)| rest.add(slot));
        }
        true
    }

    fn summary(&self, ring: &Ring) -> Summary {
        let total = ring.total();
        let known = self.ticks.min(SLOTS);
        let slots = || (self.ticks - known..self.ticks).map(|tick| &ring.0[tick % SLOTS]);
        let seconds = TICK.as_secs_f64();
        let recent = known.min(NOW);
        let now: u64 = slots().skip(known - recent).map(|slot| slot.latency.count()).sum();
        let milli = |value: f64| (value * 1e3).round() / 1e3;
        Summary {
            requests: total.latency.count(),
            errors: total.errors,
            rate: milli(now as f64 / (seconds * recent.max(1) as f64)),
            p50: total.latency.quantile(0.5).map(milli),
            p99: total.latency.quantile(0.99).map(milli),
            mean: total.latency.mean().map(milli),
            rates: slots().map(|slot| slot.latency.count() as f64 / seconds).collect(),
            error_rates: slots().map(|slot| slot.errors as f64 / seconds).collect(),
            latencies: slots().map(|slot| slot.latency.mean().map(milli)).collect(),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn slot(requests: u64, errors: u64) -> Slot {
        let mut latency = Reading { nanos: requests * 2_000_000, ..Reading::default() };
        latency.buckets[1] = requests;
        Slot { latency, errors }
    }

    fn recent() -> Recent {
        Recent::new(Arc::new(Series::new(Arc::default())))
    }

    #[test]
    fn rates_errors_and_latencies_are_those_of_the_last_minutes() {
        let recent = recent();
        for tick in 0..SLOTS + 10 {
            let errors = u64::from(tick == SLOTS + 9);
            recent.lock().take(BTreeMap::from([("shop.example".to_owned(), slot(20, errors))]));
        }
        let traffic = recent.traffic();
        let [host] = &*traffic.hosts else { panic!("one host") };
        let expected = 20 * u64::try_from(SLOTS).unwrap();
        assert_eq!((&*host.host, host.summary.requests, host.summary.errors), ("shop.example", expected, 1));
        assert_eq!((host.summary.rate, host.summary.mean), (10.0, Some(2.0)));
        assert_eq!((host.summary.rates.len(), host.summary.rates.last()), (SLOTS, Some(&10.0)));
        assert_eq!(host.summary.error_rates.last(), Some(&0.5));
        for _ in 0..SLOTS {
            recent.lock().take(BTreeMap::new());
        }
        assert_eq!((recent.traffic().hosts.len(), recent.traffic().all.requests), (0, 0));
    }

    #[test]
    fn busy_hosts_take_the_place_of_quiet_ones_and_nothing_is_lost() {
        let recent = recent();
        let quiet = (0..HOSTS as u64 + 5).map(|host| (format!("h{host}"), slot(1 + host, 0)));
        recent.lock().take(quiet.collect());
        recent.lock().take(BTreeMap::from([("busy".to_owned(), slot(1000, 0))]));
        let traffic = recent.traffic();
        assert_eq!((traffic.hosts.len(), &*traffic.hosts[0].host), (HOSTS, "busy"));
        let kept: u64 = traffic.hosts.iter().map(|host| host.summary.requests).sum();
        assert_eq!(kept + traffic.rest.requests, traffic.all.requests);
        assert!(!traffic.hosts.iter().any(|host| host.host == "h0"));
    }
}
