//! The choice among one list of endpoints.
//!
//! When the list changes, a new [`Balancer`] is made from the old one, so that what is known of the endpoints that stay,
//! the turn, and the clients' affinity all survive.

use std::net::{IpAddr, SocketAddr};
use std::sync::atomic::{AtomicUsize, Ordering::Relaxed};
use std::sync::{Arc, OnceLock};
use std::time::{Duration, Instant};

use landfall_ingress_model::backend::{Affinity, Balance};

use super::affinity::AffinityMap;
use super::stats::{EndpointStats, Epoch};

/// What the choice of an endpoint goes by.
#[derive(Clone, Copy, Debug)]
pub struct Choice<'a> {
    /// The method.
    pub balance: Balance,
    /// Whether clients stay with their endpoint.
    pub affinity: Affinity,
    /// The client.
    pub client: IpAddr,
    /// The hash of the request's key for [`Balance::ConsistentHash`]; without one, the client's address is the key.
    pub key: Option<u64>,
    /// Of how many endpoints that the key points to one is taken in turn; 0 is as good as 1.
    pub subset: usize,
    /// The endpoint to take if it can be used.
    pub pinned: Option<SocketAddr>,
    /// Endpoints that this request has tried already.
    pub excluded: &'a [SocketAddr],
}

/// The endpoints of a backend and what is known of each.
#[derive(Debug)]
pub struct Balancer {
    /// Sorted by address.
    endpoints: Box<[Endpoint]>,
    shared: Arc<Shared>,
}

#[derive(Clone, Debug)]
struct Endpoint {
    address: SocketAddr,
    stats: Arc<EndpointStats>,
}

/// What outlives a change of the list.
#[derive(Debug, Default)]
struct Shared {
    cursor: AtomicUsize,
    epoch: Epoch,
    /// Made with the first client, since few backends have an affinity.
    clients: OnceLock<Box<AffinityMap>>,
}

/// A chosen endpoint; counts as a request in flight until it is dropped.
#[derive(Debug)]
pub struct Pick {
    /// The endpoint.
    pub addr: SocketAddr,
    stats: Arc<EndpointStats>,
}

impl Pick {
    fn new(endpoint: &Endpoint) -> Self {
        endpoint.stats.begin();
        Self { addr: endpoint.address, stats: endpoint.stats.clone() }
    }
}

impl Drop for Pick {
    fn drop(&mut self) {
        self.stats.end();
    }
}

impl Balancer {
    /// A balancer over `addresses`, which are sorted and taken once each.
    ///
    /// From `previous` it takes over the turn, the clients' affinity and what is known of each endpoint that stays.
    pub fn new(addresses: impl IntoIterator<Item = SocketAddr>, previous: Option<&Self>) -> Self {
        let mut addresses: Vec<SocketAddr> = addresses.into_iter().collect();
        addresses.sort_unstable();
        addresses.dedup();
        let known = |address| previous.and_then(|previous| previous.stats(address));
        let average = previous.and_then(Self::average);
        let begin = || {
            let stats = Arc::new(EndpointStats::default());
            if let Some((average, at)) = average {
                stats.ewma.set(average, at);
            }
            stats
        };
        let endpoints = addresses
            .into_iter()
            .map(|address| Endpoint { address, stats: known(address).cloned().unwrap_or_else(begin) })
            .collect();
        Self { endpoints, shared: previous.map(|previous| previous.shared.clone()).unwrap_or_default() }
    }

    /// The endpoints, sorted.
    pub fn addresses(&self) -> impl ExactSizeIterator<Item = SocketAddr> + '_ {
        self.endpoints.iter().map(|endpoint| endpoint.address)
    }

    /// How many endpoints there are.
    pub fn len(&self) -> usize {
        self.endpoints.len()
    }

    /// Whether there is no endpoint.
    pub fn is_empty(&self) -> bool {
        self.endpoints.is_empty()
    }

    /// What is known of one endpoint.
    pub fn stats(&self, address: SocketAddr) -> Option<&Arc<EndpointStats>> {
        let index = self.endpoints.binary_search_by_key(&address, |endpoint| endpoint.address).ok()?;
        Some(&self.endpoints[index].stats)
    }

    /// Whether the endpoint is left out now, because connecting to it failed.
    pub fn is_ejected(&self, address: SocketAddr, now: Instant) -> bool {
        self.stats(address).is_some_and(|stats| stats.is_ejected(self.shared.epoch.millis(now)))
    }

    /// How long the endpoint is left out from now on; `None`: it isn't.
    pub fn ejected_for(&self, address: SocketAddr, now: Instant) -> Option<std::time::Duration> {
        let left = self.stats(address)?.ejected_until().checked_sub(self.shared.epoch.millis(now))?;
        (left > 0).then(|| std::time::Duration::from_millis(left))
    }

    /// Chooses an endpoint, or `None` when each one is in `choice.excluded`.
    ///
    /// Ejected endpoints are passed over unless nothing else is left: ejection alone never makes a backend
    /// unavailable.
    pub fn pick(&self, choice: &Choice<'_>, now: Instant) -> Option<Pick> {
        let millis = self.shared.epoch.millis(now);
        if let Affinity::ClientIp(timeout) = choice.affinity {
            let client = choice.client.to_canonical();
            let clients = self.shared.clients.get_or_init(Box::default);
            let bound = clients.get(client, timeout, now);
            let endpoint = bound
                .and_then(|address| self.endpoint(address))
                .filter(|endpoint| is_usable(endpoint, choice, Some(millis)))
                .or_else(|| self.choose(choice, millis))?;
            clients.set(client, endpoint.address, timeout, now);
            return Some(Pick::new(endpoint));
        }
        let pinned = choice.pinned.and_then(|address| self.endpoint(address));
        let pinned = pinned.filter(|endpoint| is_usable(endpoint, choice, Some(millis)));
        pinned.or_else(|| self.choose(choice, millis)).map(Pick::new)
    }

    /// Notes that connecting to an endpoint failed: it is passed over for one second, and for twice as long each
    /// further time, up to 30 seconds.
    pub fn failed(&self, address: SocketAddr, now: Instant) {
        if let Some(stats) = self.stats(address) {
            stats.fail(self.shared.epoch.begin(now));
        }
    }

    /// Notes how long an endpoint took to answer, for [`Balance::Ewma`].
    pub fn took(&self, address: SocketAddr, time: Duration, now: Instant) {
        if let Some(stats) = self.stats(address) {
            stats.ewma.observe(time.as_secs_f64() * 1000.0, self.shared.epoch.begin(now));
        }
    }

    /// What endpoints take on average at the moment at which one was heard of last, if any was.
    fn average(&self) -> Option<(f64, u64)> {
        let now = self.endpoints.iter().map(|endpoint| endpoint.stats.ewma.at()).max().filter(|at| *at > 0)?;
        let known: Vec<f64> = self.endpoints.iter().map(|endpoint| endpoint.stats.ewma.score(now)).collect();
        let count = u32::try_from(known.len()).unwrap_or(u32::MAX);
        Some((known.iter().sum::<f64>() / f64::from(count), now))
    }

    /// Notes that an endpoint works.
    pub fn succeeded(&self, address: SocketAddr) {
        if let Some(stats) = self.stats(address) {
            stats.succeed();
        }
    }

    fn endpoint(&self, address: SocketAddr) -> Option<&Endpoint> {
        let index = self.endpoints.binary_search_by_key(&address, |endpoint| endpoint.address).ok()?;
        self.endpoints.get(index)
    }

    fn choose(&self, choice: &Choice<'_>, millis: u64) -> Option<&Endpoint> {
        let by = |passing_over: Option<u64>| match choice.balance {
            Balance::RoundRobin => self.in_turn(choice, passing_over),
            Balance::LeastConnections => self.least_loaded(choice, passing_over),
            Balance::Ewma => self.faster(choice, passing_over, millis),
            Balance::ConsistentHash => self.hashed(choice, passing_over),
        };
        by(Some(millis)).or_else(|| by(None))
    }

    /// The next in turn. An endpoint that can't be used gives its turn away to no neighbour in particular, since
    /// the turn itself moves on.
    fn in_turn(&self, choice: &Choice<'_>, passing_over: Option<u64>) -> Option<&Endpoint> {
        let count = self.endpoints.len();
        let mut start = 0;
        for _ in 0..count {
            start = self.shared.cursor.fetch_add(1, Relaxed) % count;
            if is_usable(&self.endpoints[start], choice, passing_over) {
                return Some(&self.endpoints[start]);
            }
        }
        // Other threads moved the turn meanwhile, so not every endpoint was looked at.
        self.from(start).find(|endpoint| is_usable(endpoint, choice, passing_over))
    }

    fn least_loaded(&self, choice: &Choice<'_>, passing_over: Option<u64>) -> Option<&Endpoint> {
        let start = self.shared.cursor.fetch_add(1, Relaxed) % self.endpoints.len().max(1);
        self.from(start)
            .filter(|endpoint| is_usable(endpoint, choice, passing_over))
            .min_by_key(|endpoint| endpoint.stats.in_flight())
    }

    /// Two choices (Mitzenmacher 2001): the better of two is nearly as good as the best of all, and no endpoint gets
    /// everything for having been the best a moment ago.
    fn faster(&self, choice: &Choice<'_>, passing_over: Option<u64>, millis: u64) -> Option<&Endpoint> {
        let usable = || self.endpoints.iter().filter(|endpoint| is_usable(endpoint, choice, passing_over));
        let count = usable().count();
        let turn = u64::try_from(self.shared.cursor.fetch_add(1, Relaxed)).unwrap_or_default();
        let chance = |salt: u64, below: usize| {
            let below = u64::try_from(below.max(1)).unwrap_or(1);
            usize::try_from(mix(turn ^ salt) % below).unwrap_or_default()
        };
        let first = chance(0, count);
        let second = (first + 1 + chance(u64::MAX, count.saturating_sub(1))) % count.max(1);
        let (one, other) = (usable().nth(first)?, usable().nth(second)?);
        let is_better = other.stats.ewma.score(millis) < one.stats.ewma.score(millis);
        Some(if is_better { other } else { one })
    }

    /// Rendezvous hashing (Thaler and Ravishankar 1998): the endpoint whose hash together with the key is highest.
    /// A new endpoint takes over just its share of the keys, and every proxy comes to the same choice.
    fn hashed(&self, choice: &Choice<'_>, passing_over: Option<u64>) -> Option<&Endpoint> {
        let key = choice.key.unwrap_or_else(|| ip_hash(choice.client.to_canonical()));
        let usable = self.endpoints.iter().filter(|endpoint| is_usable(endpoint, choice, passing_over));
        let score = |endpoint: &&Endpoint| mix(key ^ endpoint_hash(endpoint.address));
        if choice.subset <= 1 {
            return usable.max_by_key(score);
        }
        let mut best: Vec<&Endpoint> = usable.collect();
        best.sort_unstable_by_key(|endpoint| std::cmp::Reverse(score(endpoint)));
        best.truncate(choice.subset);
        let turn = self.shared.cursor.fetch_add(1, Relaxed);
        best.get(turn % best.len().max(1)).copied()
    }

    fn from(&self, start: usize) -> impl Iterator<Item = &Endpoint> {
        let (before, after) = self.endpoints.split_at(start);
        after.iter().chain(before)
    }
}

fn is_usable(endpoint: &Endpoint, choice: &Choice<'_>, passing_over: Option<u64>) -> bool {
    !choice.excluded.contains(&endpoint.address) && !passing_over.is_some_and(|now| endpoint.stats.is_ejected(now))
}

fn endpoint_hash(address: SocketAddr) -> u64 {
    mix(ip_hash(address.ip()) ^ u64::from(address.port()))
}

fn ip_hash(ip: IpAddr) -> u64 {
    match ip {
        IpAddr::V4(ip) => mix(u64::from(ip.to_bits())),
        IpAddr::V6(ip) => {
            let bytes = ip.octets();
            let half = |bytes: &[u8]| bytes.iter().fold(0, |half, byte| half << 8 | u64::from(*byte));
            mix(mix(half(&bytes[..8])) ^ half(&bytes[8..]))
        }
    }
}

/// The finaliser of `SplitMix64` (Steele, Lea and Flood 2014): each bit of the input moves every bit of the output.
fn mix(value: u64) -> u64 {
    let value = value.wrapping_add(0x9e37_79b9_7f4a_7c15);
    let value = (value ^ (value >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    let value = (value ^ (value >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    value ^ (value >> 31)
}

#[cfg(test)]
mod tests;
