//! Which endpoint a client was sent to last (`sessionAffinity: ClientIP`).

use std::collections::HashMap;
use std::net::{IpAddr, SocketAddr};
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

/// Clients of one generation. Two generations are held, so twice as many clients at most, at about 80 bytes each.
const CLIENTS: usize = 32 * 1024;

/// Client addresses and their endpoints, bounded; what was used longest ago goes first.
///
/// Clients live in two generations. A client that returns moves to the young one. When the young one is full or
/// older than the time-out, it becomes the old one and the former old one is dropped: then every client in that
/// had been away for longer than all of the young ones.
#[derive(Debug, Default)]
pub(super) struct AffinityMap(Mutex<Generations>);

#[derive(Debug, Default)]
struct Generations {
    young: HashMap<IpAddr, Bound>,
    old: HashMap<IpAddr, Bound>,
    since: Option<Instant>,
}

#[derive(Clone, Copy, Debug)]
struct Bound {
    endpoint: SocketAddr,
    last: Instant,
}

impl AffinityMap {
    /// The endpoint of a client whose last request is less than `timeout` ago.
    pub(super) fn get(&self, client: IpAddr, timeout: Duration, now: Instant) -> Option<SocketAddr> {
        let generations = self.lock();
        let bound = generations.young.get(&client).or_else(|| generations.old.get(&client))?;
        (now.saturating_duration_since(bound.last) < timeout).then_some(bound.endpoint)
    }

    /// Notes a request of a client.
    pub(super) fn set(&self, client: IpAddr, endpoint: SocketAddr, timeout: Duration, now: Instant) {
        let mut generations = self.lock();
        let since = *generations.since.get_or_insert(now);
        let full = generations.young.len() >= CLIENTS && !generations.young.contains_key(&client);
        if full || now.saturating_duration_since(since) >= timeout {
            generations.old = std::mem::take(&mut generations.young);
            generations.since = Some(now);
        }
        generations.old.remove(&client);
        generations.young.insert(client, Bound { endpoint, last: now });
    }

    #[cfg(test)]
    pub(super) fn len(&self) -> usize {
        let generations = self.lock();
        generations.young.len() + generations.old.len()
    }

    fn lock(&self) -> MutexGuard<'_, Generations> {
        // Each write leaves the maps whole, so a panic elsewhere doesn't spoil them.
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn it_is_bounded_and_forgets_who_was_away_longest() {
        let map = AffinityMap::default();
        let (timeout, start) = (Duration::from_hours(3), Instant::now());
        let endpoint = "10.0.0.1:80".parse().unwrap();
        let client = |number: u32| IpAddr::from(number.to_be_bytes());
        for number in 0..200_000 {
            map.set(client(number), endpoint, timeout, start);
            map.set(client(0), endpoint, timeout, start);
            assert!(map.len() <= 2 * CLIENTS);
        }
        for known in [0, 199_999, 190_000] {
            assert_eq!(map.get(client(known), timeout, start), Some(endpoint), "{known}");
        }
        assert_eq!(map.get(client(1), timeout, start), None);
    }
}
