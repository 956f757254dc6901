//! `limit-rate`: how fast a client gets a body.
#![allow(clippy::unwrap_used, clippy::panic, reason = "a test may panic")]

mod support;

use std::num::NonZeroU64;
use std::time::{Duration, Instant};

use landfall_ingress_model::policy::Pace;
use support::backend::Backend;
use support::client::Client;
use support::plane::{Plane, rule};

#[test]
fn a_body_takes_its_time_and_its_neighbours_do_not() {
    let backend = Backend::echo();
    let bytes_per_second = NonZeroU64::new(256 * 1024).unwrap();
    let slow = rule("slow", "/", &[backend.address])
        .policy(|policy| policy.pace = Some(Pace { bytes_per_second, after: 256 * 1024 }));
    let plane = Plane::start(vec![slow, rule("fast", "/", &[backend.address])]);
    let timed = |host: &str, size: usize| {
        let mut client = Client::plain(plane.http());
        let begun = Instant::now();
        assert_eq!(client.get(host, &format!("/download/{size}")).body.len(), size);
        begun.elapsed()
    };
    // The first quarter of a MiB is free, and so is the last piece, which nothing follows.
    let took = timed("slow", 768 * 1024);
    assert!((Duration::from_millis(1700)..Duration::from_secs(10)).contains(&took), "{took:?}");
    assert!(timed("slow", 200 * 1024) < took);
    assert!(timed("fast", 768 * 1024) < took);
}
