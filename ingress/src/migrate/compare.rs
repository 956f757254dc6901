//! Asking two controllers the same, one request at a time, within limits.

use std::time::Duration;

use landfall_ingress_model::migration::{Comparison, Difference, Probe, differences};
use tokio::time::{Instant, Interval, MissedTickBehavior, interval};

use super::ask::{Place, ask};

/// What a comparison may cost.
#[derive(Clone, Copy, Debug)]
pub(super) struct Limits {
    /// Requests in a second to each.
    pub(super) rate: u32,
    /// For one answer.
    pub(super) timeout: Duration,
    /// For all.
    pub(super) total: Duration,
}

/// Sends the requests to both and keeps what differs. What differs once is asked again: a backend may have been in the
/// middle of something.
pub(super) async fn compare(old: &Place, new: &Place, probes: &[Probe], left_out: usize, limits: Limits) -> Comparison {
    let until = Instant::now() + limits.total;
    let mut pace = interval(Duration::from_secs(1) / limits.rate.max(1));
    pace.set_missed_tick_behavior(MissedTickBehavior::Delay);
    let mut comparison = Comparison { old: old.text.clone(), new: new.text.clone(), left_out, ..Comparison::default() };
    for (number, probe) in probes.iter().enumerate() {
        if Instant::now() >= until {
            comparison.left_out += probes.len() - number;
            comparison.out_of_time = true;
            break;
        }
        let Some(first) = once(old, new, probe, limits, &mut pace, &mut comparison.asked).await else { continue };
        if first.is_empty() {
            continue;
        }
        let again = once(old, new, probe, limits, &mut pace, &mut comparison.asked).await.unwrap_or_default();
        comparison.differences.extend(first.into_iter().filter(|difference| again.contains(difference)));
    }
    comparison
}

/// One request to both; `None` where one of them does not speak its scheme.
async fn once(
    old: &Place,
    new: &Place,
    probe: &Probe,
    limits: Limits,
    pace: &mut Interval,
    asked: &mut usize,
) -> Option<Vec<Difference>> {
    let (old, new) = (old.address(probe.scheme)?, new.address(probe.scheme)?);
    pace.tick().await;
    *asked += 1;
    let (old, new) = tokio::join!(ask(old, probe, limits.timeout), ask(new, probe, limits.timeout));
    Some(differences(probe, &old, &new))
}
