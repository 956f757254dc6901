use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use super::*;

fn addresses(count: u8) -> Vec<SocketAddr> {
    (1..=count).map(|last| SocketAddr::from(([10, 0, 0, last], 80))).collect()
}

fn choice(balance: Balance) -> Choice<'static> {
    let client = IpAddr::from([192, 0, 2, 1]);
    Choice { balance, affinity: Affinity::None, client, key: None, subset: 0, pinned: None, excluded: &[] }
}

fn spread(balancer: &Balancer, choice: &Choice<'_>, requests: usize, now: Instant) -> BTreeMap<SocketAddr, usize> {
    let mut counts = BTreeMap::new();
    for _ in 0..requests {
        *counts.entry(balancer.pick(choice, now).expect("there is an endpoint").addr).or_default() += 1;
    }
    counts
}

#[test]
fn round_robin_is_even_from_the_first_request_and_after_a_swap() {
    let now = Instant::now();
    let first = Balancer::new(addresses(3), None);
    assert_eq!(spread(&first, &choice(Balance::RoundRobin), 3, now).len(), 3);
    first.pick(&choice(Balance::RoundRobin), now);
    let second = Balancer::new(addresses(4), Some(&first));
    let counts = spread(&second, &choice(Balance::RoundRobin), 400, now);
    assert!(counts.values().all(|count| *count == 100), "{counts:?}");
}

#[test]
fn an_ejected_endpoint_gives_its_turns_to_all_others_evenly() {
    let now = Instant::now();
    let balancer = Balancer::new(addresses(4), None);
    balancer.failed(addresses(4)[1], now);
    let counts = spread(&balancer, &choice(Balance::RoundRobin), 300, now);
    assert_eq!(counts.values().copied().collect::<Vec<_>>(), [100, 100, 100]);
}

#[test]
fn ejection_doubles_to_thirty_seconds_and_a_success_ends_it() {
    let start = Instant::now();
    let balancer = Balancer::new(addresses(2), None);
    let bad = addresses(2)[0];
    let mut now = start;
    for seconds in [1, 2, 4, 8, 16, 30, 30] {
        balancer.failed(bad, now);
        balancer.failed(bad, now);
        assert!(balancer.is_ejected(bad, now + Duration::from_millis(seconds * 1000 - 1)), "{seconds}");
        now += Duration::from_secs(seconds);
        assert!(!balancer.is_ejected(bad, now), "{seconds}");
    }
    balancer.failed(bad, now);
    balancer.succeeded(bad);
    assert!(!balancer.is_ejected(bad, now));
    balancer.failed(bad, now);
    assert!(!balancer.is_ejected(bad, now + Duration::from_secs(1)));
}

#[test]
fn ejection_outlives_a_swap_and_never_leaves_nothing() {
    let now = Instant::now();
    let all = addresses(2);
    let balancer = Balancer::new(all.clone(), None);
    balancer.failed(all[0], now);
    let balancer = Balancer::new(all.clone(), Some(&balancer));
    for method in [Balance::RoundRobin, Balance::LeastConnections, Balance::ConsistentHash] {
        assert_eq!(balancer.pick(&choice(method), now).unwrap().addr, all[1], "{method:?}");
        let excluding = Choice { excluded: &all[1..], ..choice(method) };
        assert_eq!(balancer.pick(&excluding, now).unwrap().addr, all[0], "{method:?}");
    }
    balancer.failed(all[1], now);
    assert_eq!(spread(&balancer, &choice(Balance::RoundRobin), 10, now).len(), 2);
}

#[test]
fn the_faster_of_two_endpoints_is_taken_and_a_slow_one_is_tried_again() {
    let start = Instant::now();
    let all = addresses(3);
    let balancer = Balancer::new(all.clone(), None);
    let ewma = choice(Balance::Ewma);
    assert_eq!(spread(&balancer, &ewma, 300, start).len(), 3, "nothing is known yet");
    let millis = Duration::from_millis;
    for (address, took) in all.iter().zip([500, 10, 12]) {
        (0..20).for_each(|step| balancer.took(*address, millis(took), start + millis(100 * step)));
    }
    let counts = spread(&balancer, &ewma, 3000, start + millis(2000));
    assert!(!counts.contains_key(&all[0]), "{counts:?}");
    assert!(counts[&all[1]] > 1500 && counts[&all[2]] > 500, "{counts:?}");
    // A new endpoint begins with what the others take, and one that was slow is forgotten to be so.
    let balancer = Balancer::new(addresses(4), Some(&balancer));
    assert!(!spread(&balancer, &ewma, 1000, start + millis(2000)).contains_key(&all[0]));
    for address in &all[1..] {
        (0..50).for_each(|step| balancer.took(*address, millis(10), start + millis(2000 + 2000 * step)));
    }
    assert!(spread(&balancer, &ewma, 1000, start + millis(102_000)).contains_key(&all[0]));
    // Whichever is ejected or was tried gives way.
    let excluding = Choice { excluded: &all[1..], ..ewma };
    balancer.failed(addresses(4)[3], start);
    assert_eq!(balancer.pick(&excluding, start).unwrap().addr, all[0]);
}

#[test]
fn a_key_may_belong_to_several_endpoints() {
    let now = Instant::now();
    let balancer = Balancer::new(addresses(9), None);
    let mut all = BTreeSet::new();
    for key in 0..100 {
        let hashed = Choice { key: Some(key), subset: 3, ..choice(Balance::ConsistentHash) };
        let counts = spread(&balancer, &hashed, 30, now);
        assert_eq!(counts.values().copied().collect::<Vec<_>>(), [10, 10, 10]);
        let one = Choice { subset: 1, ..hashed };
        assert!(counts.contains_key(&balancer.pick(&one, now).unwrap().addr));
        all.extend(counts.into_keys());
    }
    assert_eq!(all.len(), 9);
}

#[test]
fn what_was_tried_is_not_tried_again() {
    let now = Instant::now();
    let all = addresses(3);
    let balancer = Balancer::new(all.clone(), None);
    for method in [Balance::RoundRobin, Balance::LeastConnections, Balance::ConsistentHash] {
        let mut tried = Vec::new();
        while let Some(pick) = balancer.pick(&Choice { excluded: &tried, ..choice(method) }, now) {
            tried.push(pick.addr);
        }
        assert_eq!(tried.iter().copied().collect::<BTreeSet<_>>().len(), 3, "{method:?}");
        assert_eq!(tried.len(), 3);
    }
    assert!(Balancer::new([], None).pick(&choice(Balance::RoundRobin), now).is_none());
    assert!(Balancer::new([], None).pick(&choice(Balance::LeastConnections), now).is_none());
}

#[test]
fn least_connections_goes_where_the_fewest_requests_are() {
    let now = Instant::now();
    let balancer = Balancer::new(addresses(3), None);
    let held: Vec<Pick> = (0..3).filter_map(|_| balancer.pick(&choice(Balance::LeastConnections), now)).collect();
    assert_eq!(held.iter().map(|pick| pick.addr).collect::<BTreeSet<_>>().len(), 3);
    let mut held = held.into_iter();
    let freed = held.next().unwrap().addr;
    // The first was dropped with the `unwrap`, so it is the least loaded one.
    assert_eq!(balancer.pick(&choice(Balance::LeastConnections), now).unwrap().addr, freed);
    assert_eq!(balancer.stats(freed).unwrap().in_flight(), 0);
}

#[test]
fn a_new_endpoint_moves_its_share_of_the_keys_only() {
    let now = Instant::now();
    let before = Balancer::new(addresses(9), None);
    let after = Balancer::new(addresses(10), Some(&before));
    let added = addresses(10)[9];
    let keys = 10_000;
    let mut moved = 0;
    let mut counts: BTreeMap<SocketAddr, u32> = BTreeMap::new();
    for key in 0..keys {
        let choice = Choice { key: Some(key), ..choice(Balance::ConsistentHash) };
        let (old, new) = (before.pick(&choice, now).unwrap().addr, after.pick(&choice, now).unwrap().addr);
        *counts.entry(new).or_default() += 1;
        if old != new {
            assert_eq!(new, added, "a key moves to the new endpoint or stays");
            moved += 1;
        }
    }
    assert!((800..1200).contains(&moved), "{moved} of {keys} moved");
    assert!(counts.values().all(|count| (800..1200).contains(count)), "{counts:?}");
}

#[test]
fn a_client_stays_until_its_timeout_after_the_last_request() {
    let start = Instant::now();
    let seconds = Duration::from_secs;
    let balancer = Balancer::new(addresses(5), None);
    let sticky = Choice { affinity: Affinity::ClientIp(seconds(10)), ..choice(Balance::RoundRobin) };
    let first = balancer.pick(&sticky, start).unwrap().addr;
    for at in [1, 9, 18, 27] {
        assert_eq!(balancer.pick(&sticky, start + seconds(at)).unwrap().addr, first, "{at}");
    }
    let swapped = Balancer::new(addresses(7), Some(&balancer));
    assert_eq!(swapped.pick(&sticky, start + seconds(36)).unwrap().addr, first);
    assert_ne!(swapped.pick(&sticky, start + seconds(46)).unwrap().addr, first, "it is another's turn");
}

#[test]
fn a_client_moves_on_when_its_endpoint_is_gone_or_ejected() {
    let now = Instant::now();
    let balancer = Balancer::new(addresses(3), None);
    let sticky = Choice { affinity: Affinity::ClientIp(Duration::from_secs(10)), ..choice(Balance::RoundRobin) };
    let first = balancer.pick(&sticky, now).unwrap().addr;
    balancer.failed(first, now);
    let second = balancer.pick(&sticky, now).unwrap().addr;
    assert_ne!(first, second);
    let rest = addresses(3).into_iter().filter(|address| *address != second);
    let swapped = Balancer::new(rest, Some(&balancer));
    assert_ne!(swapped.pick(&sticky, now).unwrap().addr, second);
}

#[test]
fn many_threads_share_the_turn_evenly() {
    let balancer = Balancer::new(addresses(4), None);
    let now = Instant::now();
    std::thread::scope(|scope| {
        for _ in 0..4 {
            scope.spawn(|| {
                for _ in 0..1000 {
                    std::mem::forget(balancer.pick(&choice(Balance::RoundRobin), now));
                }
            });
        }
    });
    assert!(balancer.endpoints.iter().all(|endpoint| endpoint.stats.in_flight() == 1000));
}
