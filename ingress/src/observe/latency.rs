//! How long things take: a histogram that takes no lock, and that can be read.

use std::fmt;
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};
use std::time::Duration;

use prometheus_client::encoding::{EncodeMetric, MetricEncoder, NoLabelSet};
use prometheus_client::metrics::MetricType;

use super::traffic::LATENCY_BUCKETS;

/// The buckets, and one for what is longer than all of them.
pub(super) const BUCKETS: usize = LATENCY_BUCKETS.len() + 1;

/// A histogram of latencies.
#[derive(Debug, Default)]
pub(super) struct Latency {
    buckets: [AtomicU64; BUCKETS],
    nanos: AtomicU64,
}

/// What a histogram holds at one moment.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub(super) struct Reading {
    pub(super) buckets: [u64; BUCKETS],
    pub(super) nanos: u64,
}

impl Latency {
    pub(super) fn observe(&self, duration: Duration) {
        let seconds = duration.as_secs_f64();
        let index = LATENCY_BUCKETS.iter().position(|bound| seconds <= *bound).unwrap_or(BUCKETS - 1);
        self.buckets[index].fetch_add(1, Relaxed);
        self.nanos.fetch_add(u64::try_from(duration.as_nanos()).unwrap_or(u64::MAX), Relaxed);
    }

    pub(super) fn read(&self) -> Reading {
        Reading {
            buckets: std::array::from_fn(|index| self.buckets[index].load(Relaxed)),
            nanos: self.nanos.load(Relaxed),
        }
    }
}

impl Reading {
    /// How many there were.
    pub(super) fn count(&self) -> u64 {
        self.buckets.iter().sum()
    }

    /// What has come since an earlier reading.
    pub(super) fn since(&self, earlier: &Self) -> Self {
        let buckets = std::array::from_fn(|index| self.buckets[index].saturating_sub(earlier.buckets[index]));
        Self { buckets, nanos: self.nanos.saturating_sub(earlier.nanos) }
    }

    pub(super) fn add(&mut self, other: &Self) {
        self.buckets.iter_mut().zip(other.buckets).for_each(|(sum, count)| *sum += count);
        self.nanos += other.nanos;
    }

    /// The latency in milliseconds that a share of all don't exceed, read off the line between two bounds.
    pub(super) fn quantile(&self, share: f64) -> Option<f64> {
        let count = self.count();
        let wanted = share * count as f64;
        let mut below = 0.0;
        for (index, in_bucket) in self.buckets.iter().enumerate().filter(|(_, count)| **count > 0) {
            let in_bucket = *in_bucket as f64;
            if below + in_bucket >= wanted {
                let from = if index == 0 { 0.0 } else { LATENCY_BUCKETS[index - 1] };
                let to = LATENCY_BUCKETS.get(index).copied().unwrap_or(from);
                return Some((from + (to - from) * ((wanted - below) / in_bucket)) * 1e3);
            }
            below += in_bucket;
        }
        None
    }

    /// The mean in milliseconds.
    pub(super) fn mean(&self) -> Option<f64> {
        let count = self.count();
        (count > 0).then(|| self.nanos as f64 / count as f64 / 1e6)
    }
}

impl EncodeMetric for Reading {
    fn encode(&self, mut encoder: MetricEncoder<'_>) -> fmt::Result {
        let bounds = LATENCY_BUCKETS.into_iter().chain([f64::MAX]);
        let buckets: Vec<(f64, u64)> = bounds.zip(self.buckets).collect();
        encoder.encode_histogram::<NoLabelSet>(self.nanos as f64 / 1e9, self.count(), &buckets, None)
    }

    fn metric_type(&self) -> MetricType {
        MetricType::Histogram
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn quantiles_lie_within_their_bucket() {
        let latency = Latency::default();
        assert_eq!((latency.read().quantile(0.5), latency.read().mean()), (None, None));
        for _ in 0..90 {
            latency.observe(Duration::from_millis(2));
        }
        let earlier = latency.read();
        for _ in 0..10 {
            latency.observe(Duration::from_millis(200));
        }
        latency.observe(Duration::from_mins(5));
        let all = latency.read();
        let (half, most) = (all.quantile(0.5).unwrap(), all.quantile(0.95).unwrap());
        assert!((1.0..=2.5).contains(&half) && (100.0..=250.0).contains(&most), "{half} {most}");
        assert_eq!((all.count(), all.since(&earlier).count()), (101, 11));
        assert!(all.quantile(1.0).is_some_and(|longest| longest >= 60_000.0));
    }
}
