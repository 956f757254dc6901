//! Requests of clients, counted against the limits of Ingresses. All workers count together.
//!
//! A rate is a leaky bucket, as nginx has it: what has come in excess of the rate drains with time, and may be as much
//! as the burst. Memory is bounded, whatever the number of clients: those that were quiet longest are forgotten.

use std::net::IpAddr;
use std::sync::atomic::{AtomicU32, Ordering::Relaxed};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use landfall_ingress_model::policy::{Limit, Limiter, Permit, Rate, TooMuch};
use moka::sync::Cache;

/// Clients that are remembered.
const CLIENTS: u64 = 200_000;
/// How long a quiet client is remembered.
const QUIET: Duration = Duration::from_mins(10);

/// What clients have asked lately.
#[derive(Clone)]
pub(crate) struct Limits {
    clients: Cache<(u64, IpAddr), Arc<Client>>,
}

/// What one client has asked of one Ingress.
#[derive(Default)]
struct Client {
    buckets: Mutex<[Bucket; 2]>,
    at_once: AtomicU32,
}

/// Thousandths of a request in excess of a rate, at a moment.
#[derive(Clone, Copy, Default)]
struct Bucket {
    excess: u64,
    at: Option<Instant>,
}

impl Bucket {
    /// What it holds with one request more; `None` if that is too much.
    fn with_one_more(self, rate: Rate, now: Instant) -> Option<Self> {
        let excess = match self.at {
            None => 0,
            Some(at) => {
                let millis = u64::try_from(now.saturating_duration_since(at).as_millis()).unwrap_or(u64::MAX);
                let drained = rate.milli.saturating_mul(millis) / 1000;
                (self.excess + 1000).saturating_sub(drained)
            }
        };
        (excess <= rate.burst.saturating_mul(1000)).then_some(Self { excess, at: Some(now) })
    }
}

impl Default for Limits {
    fn default() -> Self {
        Self { clients: Cache::builder().max_capacity(CLIENTS).time_to_idle(QUIET).build() }
    }
}

impl Limiter for Limits {
    fn admit(&self, limit: &Limit, address: IpAddr) -> Result<Option<Permit>, TooMuch> {
        let client = self.clients.get_with((limit.zone, address), Arc::default);
        let permit = limit.at_once.map(|most| UnderWay::begin(&client, most)).transpose()?;
        let now = Instant::now();
        let mut buckets = client.buckets.lock().unwrap_or_else(PoisonError::into_inner);
        let mut after = *buckets;
        for (bucket, rate) in after.iter_mut().zip([limit.per_second, limit.per_minute]) {
            if let Some(rate) = rate {
                *bucket = bucket.with_one_more(rate, now).ok_or(TooMuch::Often)?;
            }
        }
        *buckets = after;
        Ok(permit.map(|permit| Arc::new(permit) as Permit))
    }
}

/// A request that is under way.
struct UnderWay(Arc<Client>);

impl UnderWay {
    fn begin(client: &Arc<Client>, most: u32) -> Result<Self, TooMuch> {
        let begun = client.at_once.fetch_update(Relaxed, Relaxed, |count| (count < most).then_some(count + 1));
        begun.map(|_| Self(client.clone())).map_err(|_| TooMuch::AtOnce)
    }
}

impl Drop for UnderWay {
    fn drop(&mut self) {
        self.0.at_once.fetch_sub(1, Relaxed);
    }
}

#[cfg(test)]
mod tests {
    use http::StatusCode;

    use super::*;

    fn limit(per_second: Option<Rate>, at_once: Option<u32>) -> Limit {
        let status = StatusCode::SERVICE_UNAVAILABLE;
        Limit { zone: 1, per_second, per_minute: None, at_once, exempt: Box::default(), status, crowded: status }
    }

    #[test]
    fn the_first_and_the_burst_pass_and_the_rest_drains_with_time() {
        let rate = Rate { milli: 2000, burst: 3 };
        let start = Instant::now();
        let mut bucket = Bucket::default();
        let mut ask = |millis| match bucket.with_one_more(rate, start + Duration::from_millis(millis)) {
            Some(after) => {
                bucket = after;
                true
            }
            None => false,
        };
        assert_eq!([0, 0, 0, 0, 0].map(&mut ask), [true, true, true, true, false]);
        assert_eq!([400, 500, 500, 1000].map(&mut ask), [false, true, false, true]);
    }

    #[test]
    fn requests_at_once_are_counted_for_each_client() {
        let limits = Limits::default();
        let limit = limit(None, Some(2));
        let (one, other) = ([192, 0, 2, 1].into(), [192, 0, 2, 2].into());
        let first = limits.admit(&limit, one).unwrap();
        let _second = limits.admit(&limit, one).unwrap();
        assert!(limits.admit(&limit, one).is_err());
        assert!(limits.admit(&limit, other).is_ok());
        drop(first);
        assert!(limits.admit(&limit, one).is_ok());
    }

    #[test]
    fn a_million_clients_are_held_in_bounded_memory() {
        let limits = Limits::default();
        let limit = limit(Some(Rate { milli: 1000, burst: 5 }), None);
        for number in 0..1_000_000_u32 {
            assert!(limits.admit(&limit, IpAddr::from(number.to_be_bytes())).is_ok());
        }
        // Each call does a part of what is left to do.
        for _ in 0..1000 {
            limits.clients.run_pending_tasks();
        }
        assert!(limits.clients.entry_count() <= CLIENTS);
    }
}
