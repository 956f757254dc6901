//! Answers of a real ingress-nginx, recorded once, held against ours.
//!
//! `answers.json` has cases: objects, requests, and what each request was answered. Cases of one world live in one
//! program at the same time, each in its own namespace, and their services are echoes in this process that note what
//! they are asked. `unmet.txt` is the ledger: the cases that we don't answer alike yet, each with the first
//! difference. A case that is missing there must be met, and one that stands there must not be.
//!
//! | environment variable | meaning |
//! |---|---|
//! | `LANDFALL_OBSERVED=update` | the ledger is written anew |
//! | `LANDFALL_OBSERVED_ONLY=a01,cors` | only these cases or families, with every request and answer in full |

mod case;
mod client;
mod echo;
mod judge;
mod ledger;
mod pki;
mod play;
mod world;

use std::collections::BTreeMap;

use anyhow::{Result, ensure};
use futures::{StreamExt, TryStreamExt, stream};

use crate::case::Recording;
use crate::ledger::Ledger;
use crate::play::{Outcome, Selection};

/// Programs that run at one time; more would make requests slow that are to come quickly after each other.
const AT_ONCE: usize = 4;

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_ingress_nginx_answered_is_answered() -> Result<()> {
    let recording = Recording::read()?;
    let selection = Selection::from_environment(&recording.cases)?;
    let update = std::env::var("LANDFALL_OBSERVED").is_ok_and(|value| value == "update");
    ensure!(!(update && selection.is_partial()), "the ledger is only written for all cases");
    let worlds = recording.worlds().into_iter().filter(|world| selection.touches(world));
    let played = stream::iter(worlds).map(|world| tokio::spawn(play::world(world, selection.clone())));
    let played: Vec<_> = played.buffer_unordered(AT_ONCE).map(|played| played?).try_collect().await?;
    let mut outcomes: BTreeMap<String, Outcome> =
        played.into_iter().flatten().map(|outcome| (outcome.id.clone(), outcome)).collect();
    let in_order: Vec<Outcome> = recording.cases.iter().filter_map(|case| outcomes.remove(&case.id)).collect();
    println!("{}", table(&in_order));
    if update {
        return Ledger::write(&in_order);
    }
    let complaints = Ledger::read()?.complaints(&in_order, !selection.is_partial());
    ensure!(complaints.is_empty(), "{} cases are not as unmet.txt says:\n{}", complaints.len(), complaints.join("\n"));
    Ok(())
}

/// How many of each family are met.
fn table(outcomes: &[Outcome]) -> String {
    let mut families = BTreeMap::<&str, (usize, usize)>::new();
    for outcome in outcomes {
        let (met, all) = families.entry(&outcome.family).or_default();
        *met += usize::from(outcome.difference.is_none());
        *all += 1;
    }
    let total = families.values().fold((0, 0), |sum, (met, all)| (sum.0 + met, sum.1 + all));
    let rows = families.into_iter().chain([("total", total)]);
    let rows: Vec<_> = rows.map(|(family, (met, all))| format!("{family:<20} {met:>4} of {all:>4}")).collect();
    rows.join("\n")
}
