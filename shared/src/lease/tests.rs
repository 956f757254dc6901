use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use serde_json::json;

use super::*;
use crate::testing::{Answer, Store, client, failure};

const PATH: &str = "/apis/coordination.k8s.io/v1/namespaces/landfall/leases/ingress";

/// A candidate whose way to the API server can be closed.
fn candidate(store: &Store, identity: &str) -> (Elector, Arc<AtomicBool>) {
    let reachable = Arc::new(AtomicBool::new(true));
    let (store, open) = (store.clone(), reachable.clone());
    let client = client(move |call| if open.load(Ordering::Relaxed) { store.answer(call) } else { Answer::Refuse });
    (Elector::start(client, "landfall", "ingress", identity), reachable)
}

async fn leads(elector: &Elector) -> Duration {
    let start = Instant::now();
    elector.leader().wait_for(|leads| *leads).await.unwrap();
    start.elapsed()
}

fn holder(store: &Store) -> String {
    store.get(PATH).unwrap()["spec"]["holderIdentity"].as_str().unwrap().to_owned()
}

#[tokio::test(start_paused = true)]
async fn the_first_leads_and_the_next_takes_over_at_once_when_it_leaves() {
    let store = Store::default();
    let (one, _) = candidate(&store, "one");
    leads(&one).await;
    let (two, _) = candidate(&store, "two");
    tokio::time::sleep(Duration::from_mins(1)).await;
    assert!(!*two.leader().borrow());
    let watched = one.leader();
    one.release().await;
    assert!(!*watched.borrow());
    assert_eq!(holder(&store), "");
    assert!(leads(&two).await <= Duration::from_millis(2500));
    assert_eq!(holder(&store), "two");
    assert_eq!(store.get(PATH).unwrap()["spec"]["leaseTransitions"], 1);
}

#[tokio::test(start_paused = true)]
async fn a_leader_that_is_cut_off_steps_down_before_another_takes_over() {
    let store = Store::default();
    let (one, reachable) = candidate(&store, "one");
    leads(&one).await;
    let (two, _) = candidate(&store, "two");
    tokio::time::sleep(Duration::from_secs(7)).await;
    reachable.store(false, Ordering::Relaxed);
    let start = Instant::now();
    one.leader().wait_for(|leads| !*leads).await.unwrap();
    let down = start.elapsed();
    assert!(!*two.leader().borrow());
    leads(&two).await;
    let up = start.elapsed();
    assert!(down <= Duration::from_secs(10) && down >= Duration::from_secs(7), "{down:?}");
    assert!(up >= Duration::from_secs(12) && up <= Duration::from_secs(18), "{up:?}");
    // Back again, it finds another and stays quiet.
    reachable.store(true, Ordering::Relaxed);
    tokio::time::sleep(Duration::from_mins(1)).await;
    assert!(!*one.leader().borrow() && *two.leader().borrow());
}

/// The longest that nobody leads is the lease's duration and one look of the other, wherever in its turn it is.
#[tokio::test(start_paused = true)]
async fn a_leader_that_is_killed_is_followed_after_the_duration_and_one_look() {
    for turn in 0..24 {
        let store = Store::default();
        let (one, _) = candidate(&store, "one");
        leads(&one).await;
        tokio::time::sleep(Duration::from_millis(100 * turn)).await;
        let (two, _) = candidate(&store, "two");
        leads(&one).await;
        tokio::time::sleep(Duration::from_millis(10_010)).await;
        drop(one);
        let took = leads(&two).await;
        assert!(took <= Duration::from_millis(15_000 + 2_400 + 5), "turn {turn}: {took:?}");
        assert!(took >= Duration::from_millis(15_000 - 2_000 - 10), "turn {turn}: {took:?}");
    }
}

#[tokio::test(start_paused = true)]
async fn a_leader_outlives_a_short_outage_and_a_request_that_hangs() {
    let store = Store::default();
    let (answers, script) = (store.clone(), Arc::new(AtomicBool::new(false)));
    let hangs = script.clone();
    let client = client(move |call| if hangs.load(Ordering::Relaxed) { Answer::Hang } else { answers.answer(call) });
    let one = Elector::start(client, "landfall", "ingress", "one");
    leads(&one).await;
    let watched = one.leader();
    script.store(true, Ordering::Relaxed);
    let start = Instant::now();
    watched.clone().wait_for(|leads| !*leads).await.unwrap();
    assert!(start.elapsed() <= Duration::from_secs(10));
    script.store(false, Ordering::Relaxed);
    leads(&one).await;
    drop(one);
    tokio::task::yield_now().await;
    assert!(!*watched.borrow(), "a candidate that is gone leads no more");
}

#[tokio::test(start_paused = true)]
async fn a_lease_is_taken_only_when_its_record_stood_still() {
    let store = Store::default();
    // Renewed long ago by the other's clock, which says nothing.
    let lease = json!({"metadata": {"name": "ingress"}, "spec": {"holderIdentity": "other", "leaseDurationSeconds": 20, "renewTime": "2001-01-01T00:00:00.000000Z"}});
    store.put(PATH, lease);
    let (one, _) = candidate(&store, "one");
    let waited = leads(&one).await;
    assert!(waited >= Duration::from_secs(20) && waited <= Duration::from_secs(23), "{waited:?}");
}

/// Candidates whose requests are lost, slow or refused at random: at no time do two lead.
#[tokio::test(start_paused = true)]
async fn two_never_lead_at_once() {
    use rand::rngs::StdRng;
    use rand::{Rng, SeedableRng};
    for seed in 0..20 {
        let store = Store::default();
        let electors: Vec<_> = (0..3)
            .map(|number| {
                let store = store.clone();
                let mut random = StdRng::seed_from_u64(seed * 10 + number);
                // Bad and good times alternate, each of some requests.
                let (mut bad, mut left) = (false, 0);
                let client = client(move |call| {
                    if left == 0 {
                        (bad, left) = (!bad, random.random_range(1..12));
                    }
                    left -= 1;
                    match random.random_range(0..4) {
                        0 if bad => Answer::Hang,
                        1 if bad => {
                            // It happens, but the answer is lost.
                            drop(store.answer(call));
                            Answer::Refuse
                        }
                        2 | 3 if bad => failure(503, "busy"),
                        _ => store.answer(call),
                    }
                });
                Elector::start(client, "landfall", "ingress", &format!("candidate-{number}"))
            })
            .collect();
        let leaders: Vec<_> = electors.iter().map(Elector::leader).collect();
        let mut led = 0;
        for _ in 0..6000 {
            tokio::time::sleep(Duration::from_millis(100)).await;
            let now = leaders.iter().filter(|leader| *leader.borrow()).count();
            assert!(now <= 1, "seed {seed}");
            led += now;
        }
        assert!(led > 1000, "seed {seed}: somebody leads most of the time, not {led} of 6000");
    }
}
