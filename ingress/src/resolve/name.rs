//! What is known of one name.

use std::net::IpAddr;
use std::sync::Arc;
use std::time::{Duration, Instant};

use arc_swap::ArcSwapOption;
use tokio::sync::Mutex;

use super::ResolveError;

/// How long an answer may still be used when it can't be renewed (RFC 8767).
const STALE: Duration = Duration::from_mins(1);
/// Pause before a failed query is repeated (RFC 9520 section 3.2: at least one second).
const RETRY: Duration = Duration::from_secs(1);
/// How long it is remembered that there is no such name, or that its addresses are refused.
const NEGATIVE: Duration = Duration::from_secs(5);

/// An answer of the name servers.
#[derive(Debug)]
pub(super) struct Answer {
    /// Sorted, at least one.
    pub(super) addresses: Vec<IpAddr>,
    pub(super) ttl: Duration,
}

/// One name and its last outcome.
#[derive(Debug, Default)]
pub(super) struct Name {
    known: ArcSwapOption<Known>,
    /// Held by whoever asks the name servers.
    pub(super) asking: Mutex<()>,
}

#[derive(Debug)]
struct Known {
    outcome: Result<Arc<[IpAddr]>, ResolveError>,
    /// From then on it is to be renewed.
    renew: Instant,
    /// From then on it may not be used.
    end: Instant,
}

impl Name {
    /// The outcome while it needs no renewal.
    pub(super) fn current(&self, now: Instant) -> Option<Result<Arc<[IpAddr]>, ResolveError>> {
        let known = self.known.load();
        known.as_ref().filter(|known| now < known.renew).map(|known| known.outcome.clone())
    }

    /// The last addresses while they may be used.
    pub(super) fn stale(&self, now: Instant) -> Option<Arc<[IpAddr]>> {
        self.known.load().as_ref().filter(|known| now < known.end)?.outcome.clone().ok()
    }

    /// Keeps an answer or a failure, and returns what requests get.
    pub(super) fn keep(
        &self,
        answer: Result<Answer, ResolveError>,
        now: Instant,
    ) -> Result<Arc<[IpAddr]>, ResolveError> {
        let last = self.known.load_full();
        let old = last.as_ref().and_then(|known| Some((known.outcome.as_ref().ok()?, known.end)));
        let new = match (answer, old) {
            (Ok(Answer { addresses, ttl }), old) => {
                // The same list stays the same one, so that whoever balances by it sees that it is the same.
                let addresses = match old {
                    Some((old, _)) if **old == *addresses => old.clone(),
                    _ => addresses.into(),
                };
                Known { outcome: Ok(addresses), renew: now + ttl, end: now + ttl + STALE }
            }
            // A name server that is away takes no service down at once; one that says "no such name" does.
            (Err(ResolveError::Failed { .. } | ResolveError::Exhausted { .. }), Some((old, end))) if now < end => {
                Known { outcome: Ok(old.clone()), renew: now + RETRY, end }
            }
            (Err(error), _) => {
                let briefly = match error {
                    ResolveError::Failed { .. } | ResolveError::Exhausted { .. } | ResolveError::Unconfigured(_) => {
                        RETRY
                    }
                    ResolveError::Missing(_) | ResolveError::Refused { .. } => NEGATIVE,
                };
                Known { outcome: Err(error), renew: now + briefly, end: now }
            }
        };
        let outcome = new.outcome.clone();
        self.known.store(Some(Arc::new(new)));
        outcome
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn answer(addresses: &[&str]) -> Answer {
        let addresses = addresses.iter().map(|text| text.parse().unwrap()).collect();
        Answer { addresses, ttl: Duration::from_secs(10) }
    }

    fn failed() -> ResolveError {
        ResolveError::Failed { name: "a.example".into(), cause: "away".into() }
    }

    #[test]
    fn an_old_answer_is_used_while_name_servers_are_away_but_not_for_long() {
        let (name, start) = (Name::default(), Instant::now());
        let after = |seconds: u64| start + Duration::from_secs(seconds);
        let first = name.keep(Ok(answer(&["192.0.2.1"])), start).unwrap();
        assert!(name.current(after(9)).is_some() && name.current(after(10)).is_none());
        let kept = name.keep(Err(failed()), after(11)).unwrap();
        assert!(Arc::ptr_eq(&first, &kept));
        assert!(name.current(after(12)).is_none(), "the query is repeated after a second");
        assert!(name.stale(after(69)).is_some() && name.stale(after(70)).is_none());
        assert!(name.keep(Err(failed()), after(71)).is_err());
        assert!(name.current(after(71)).is_some_and(|outcome| outcome.is_err()), "a failure is kept for a moment");
        assert!(name.current(after(72)).is_none());
    }

    #[test]
    fn a_name_that_is_gone_is_gone_at_once() {
        let (name, start) = (Name::default(), Instant::now());
        name.keep(Ok(answer(&["192.0.2.1"])), start).unwrap();
        let missing = ResolveError::Missing("a.example".into());
        assert_eq!(name.keep(Err(missing.clone()), start), Err(missing.clone()));
        assert_eq!(name.current(start + Duration::from_secs(4)), Some(Err(missing)));
        assert_eq!(name.current(start + Duration::from_secs(5)), None);
        assert_eq!(name.stale(start), None);
    }
}
