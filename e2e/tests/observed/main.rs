//! Answers of a real ingress-nginx, recorded once, held against ours.
//!
//! `answers.json` has cases: objects, requests, and what each request was answered. Cases of one world live in one
//! program at the same time, each in its own namespace, and their services are echoes in this process that note what
//! they are asked. `unmet.txt` is the ledger: the cases that we don't answer alike yet, each with the first
//! difference. A case that is missing there must be met, and one that stands there must not be. `neighbours.json` has
//! cases of the same form that nobody recorded.
//!
//! | environment variable | meaning |
//! |---|---|
//! | `LANDFALL_OBSERVED=update` | the ledger is written anew |
//! | `LANDFALL_OBSERVED_FILE=PATH` | the cases of this file, of the same form, instead; all of them must be met |
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
    let others = std::env::var_os("LANDFALL_OBSERVED_FILE").is_some();
    ensure!(!(update && (others || selection.is_partial())), "the ledger is only written for all cases");
    let in_order = outcomes(&recording, &selection).await?;
    println!("{}", table(&in_order));
    if update {
        return Ledger::write(&in_order);
    }
    let ledger = if others { Ledger::default() } else { Ledger::read()? };
    let complaints = ledger.complaints(&in_order, !selection.is_partial());
    ensure!(complaints.is_empty(), "{} cases are not as unmet.txt says:\n{}", complaints.len(), complaints.join("\n"));
    Ok(())
}

/// What stands beside the recorded answers: other values, orders and combinations, with the answers that follow from
/// ingress-nginx's source and from what was seen of it. All of them are met.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_stands_beside_those_answers_is_answered_alike() -> Result<()> {
    let neighbours = Recording::neighbours()?;
    let in_order = outcomes(&neighbours, &Selection::all()).await?;
    println!("{}", table(&in_order));
    let complaints = Ledger::default().complaints(&in_order, true);
    ensure!(complaints.is_empty(), "{} cases are not met:\n{}", complaints.len(), complaints.join("\n"));
    Ok(())
}

/// Plays the cases that are selected; what came of them, in their order.
async fn outcomes(recording: &Recording, selection: &Selection) -> Result<Vec<Outcome>> {
    let worlds = recording.worlds().into_iter().filter(|world| selection.touches(world));
    let played = stream::iter(worlds).map(|world| tokio::spawn(play::world(world, selection.clone())));
    let played: Vec<_> = played.buffer_unordered(AT_ONCE).map(|played| played?).try_collect().await?;
    let mut outcomes: BTreeMap<String, Outcome> =
        played.into_iter().flatten().map(|outcome| (outcome.id.clone(), outcome)).collect();
    Ok(recording.cases.iter().filter_map(|case| outcomes.remove(&case.id)).collect())
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
