//! The same exchanges with both carriers: what clients and backends see of them is the same, but for what `known` lists.
//!
//! Requests, answers, cuts and ends are made from a seed. `LANDFALL_EXCHANGES` says how many there are, and
//! `LANDFALL_SEED` where they begin:
//! `LANDFALL_EXCHANGES=1000000 cargo test --release -p landfall-ingress --test differential -- --nocapture`
#![allow(clippy::unwrap_used, clippy::panic, reason = "a test may panic")]

#[path = "../support/mod.rs"]
mod support;

mod backend;
mod client;
mod h2_client;
mod known;
mod message;
mod pools;
mod script;
mod seen;

use std::collections::BTreeMap;
use std::sync::Arc;

use landfall_ingress::engine::Carrier;
use landfall_ingress_model::tls::CertificateTable;
use rand::SeedableRng;
use rand::rngs::SmallRng;

use backend::Backend;
use known::{KNOWN, RARE};
use script::{Conversation, Exchange};
use seen::Seen;
use support::plane::{Plane, rule, table};

/// What a test run does. It meets every known difference.
const USUAL: u64 = 6000;
const SEED: u64 = 20_261_128;
/// Conversations between two looks at what came of them.
const BATCH: usize = 200;
/// More differences than these are of no use to a reader.
const SHOWN: usize = 8;

/// What clients speak.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum Front {
    Http1,
    Http2,
}

/// A carrier with a backend of its own.
struct Side {
    plane: Plane,
    backend: Backend,
}

impl Side {
    fn new(carrier: Carrier) -> Self {
        let backend = Backend::start();
        let rules = vec![rule("a", "/", &[backend.address])];
        let plane = Plane::with(table(rules, CertificateTable::default()), |config| config.carrier = carrier);
        Self { plane, backend }
    }

    fn run(&self, front: Front, conversations: &[Conversation]) -> Vec<Vec<Seen>> {
        self.plane.heard.exchanges.lock().unwrap().clear();
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
        let address = self.plane.http();
        let seen = |conversation| {
            converse(&self.backend, conversation, || match front {
                Front::Http1 => client::converse(address, &self.backend, conversation),
                Front::Http2 => runtime.block_on(h2_client::converse(address, conversation)),
            })
        };
        conversations.iter().map(seen).collect()
    }
}

fn converse(backend: &Backend, conversation: &Conversation, ask: impl FnOnce() -> Vec<Seen>) -> Vec<Seen> {
    for exchange in conversation {
        backend.expect(exchange);
    }
    let mut seen = ask();
    for (exchange, seen) in conversation.iter().zip(&mut seen) {
        seen.backend = backend.heard(exchange);
        seen.normalise(exchange);
    }
    seen
}

/// What came of all exchanges so far.
#[derive(Default)]
struct Tally {
    exchanges: u64,
    known: BTreeMap<&'static str, u64>,
    unknown: Vec<String>,
    unknown_count: u64,
}

impl Tally {
    fn take(&mut self, exchange: &Exchange, mut ours: Seen, mut theirs: Seen) {
        self.exchanges += 1;
        if ours == theirs {
            return;
        }
        let before = (ours.clone(), theirs.clone());
        let mut names = Vec::new();
        for known in KNOWN {
            let had = (ours.clone(), theirs.clone());
            (known.settle)(exchange, &mut ours, &mut theirs);
            if had != (ours.clone(), theirs.clone()) {
                names.push(known.name);
            }
            if ours == theirs {
                for name in names {
                    *self.known.entry(name).or_default() += 1;
                }
                return;
            }
        }
        self.unknown_count += 1;
        if self.unknown.len() < SHOWN {
            self.unknown.push(format!("{exchange}\n{}", Seen::difference(&before.0, &before.1)));
        }
    }
}

fn number(name: &str, default: u64) -> u64 {
    std::env::var(name).map_or(default, |text| text.parse().unwrap_or_else(|_| panic!("{name}: not a number: {text}")))
}

#[test]
fn both_carriers_do_the_same() {
    compare(Front::Http1);
}

#[test]
fn both_carriers_do_the_same_for_http2() {
    compare(Front::Http2);
}

fn compare(front: Front) {
    let (exchanges, seed) = (number("LANDFALL_EXCHANGES", USUAL), number("LANDFALL_SEED", SEED));
    let (ours, theirs) = (Side::new(Carrier::Landfall), Side::new(Carrier::Pingora));
    let mut random = SmallRng::seed_from_u64(seed);
    let (mut tally, mut id) = (Tally::default(), 0);
    while tally.exchanges < exchanges {
        let batch: Arc<Vec<Conversation>> =
            Arc::new((0..BATCH).map(|_| script::conversation(&mut random, &mut id)).collect());
        let (left, right) = std::thread::scope(|scope| {
            let other = scope.spawn(|| theirs.run(front, &batch));
            (ours.run(front, &batch), other.join().unwrap())
        });
        let sides = left.into_iter().flatten().zip(right.into_iter().flatten());
        for (exchange, (ours, theirs)) in batch.iter().flatten().zip(sides) {
            tally.take(exchange, ours, theirs);
        }
        if tally.unknown_count > 200 {
            break;
        }
    }
    println!("{front:?}: {} exchanges; known differences: {:#?}", tally.exchanges, tally.known);
    let unknown = tally.unknown.join("\n\n");
    assert!(tally.unknown_count == 0, "{} unknown differences\n\n{unknown}", tally.unknown_count);
    for rare in RARE {
        let met = tally.known.get(rare).copied().unwrap_or_default();
        assert!(met * 1000 <= tally.exchanges.max(2000), "{rare}: {met} times");
    }
    for known in KNOWN.iter().filter(|known| front == Front::Http1 && known.is_usual) {
        assert!(tally.known.contains_key(known.name), "{:?} was not met; is it still there?", known.name);
    }
}
