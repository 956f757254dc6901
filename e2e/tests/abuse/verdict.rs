//! What the attacks have cost, in a table, and whether that is within the bars.

use std::fmt::Write as _;
use std::io::Write as _;

use anyhow::{Result, ensure};
use landfall_e2e::figures::{self, megabytes};

use crate::good::PATIENCE;
use crate::scene::{Cost, Scene};
use crate::target::Kind;

/// An attack may always cost this much, and this much for each byte that is sent.
const FREE: u64 = 64_000_000;
const HELD_FOR_EACH: u64 = 2;
/// A well-behaved client may wait so many times longer, where budgets are held: on a machine that does nothing else.
const SLOWER: u32 = 3;
/// Growth that no measurement tells from none.
const NOISE: u64 = 4_000_000;

/// Plays an attack on each program in turn. `refused` names those that refuse what it is made of, so that what it costs
/// them says nothing.
pub(crate) async fn play<T>(name: &str, refused: &[Kind], attack: impl AsyncFn(&Scene) -> Result<T>) -> Result<()> {
    let mut costs = Vec::new();
    for kind in Kind::all() {
        let scene = Scene::start(*kind).await?;
        match attack(&scene).await {
            Ok(held) => costs.push(scene.end(held).await?),
            // A peer may defend itself; the ingress has to serve whoever attacks it until it says otherwise.
            Err(error) if *kind != Kind::Landfall => println!("{name}: {} ends it: {error:#}", kind.name()),
            Err(error) => return Err(error.context(name.to_owned())),
        }
    }
    tell(name, refused, &costs)?;
    judge(name, refused, &costs)
}

/// One line for each program, also to the file that `hack/abuse` shows at its end.
fn tell(name: &str, refused: &[Kind], costs: &[Cost]) -> Result<()> {
    let mut lines = String::new();
    for cost in costs {
        let p99 = |durations: &figures::Durations| durations.percentile(99).as_secs_f64() * 1000.0;
        let held = cost.growth as f64 / cost.sent.max(1) as f64;
        let note = if refused.contains(&cost.kind) { " (refuses)" } else { "" };
        writeln!(
            lines,
            "| {name} | {}{note} | {:.2} | {:.1} | {:.1} | {held:.1} | {:.2} | {:.1} | {:.1} | {} |",
            cost.kind.name(),
            megabytes(cost.sent),
            megabytes(cost.growth),
            megabytes(cost.left),
            cost.cpu.as_secs_f64(),
            p99(&cost.good.before),
            p99(&cost.good.during),
            cost.good.failures,
        )?;
    }
    print!("{lines}");
    if let Some(path) = std::env::var_os("LANDFALL_ABUSE_TABLE") {
        std::fs::OpenOptions::new().create(true).append(true).open(path)?.write_all(lines.as_bytes())?;
    }
    Ok(())
}

fn judge(name: &str, refused: &[Kind], costs: &[Cost]) -> Result<()> {
    let Some(ours) = costs.iter().find(|cost| cost.kind == Kind::Landfall) else { return Ok(()) };
    let grown = megabytes(ours.growth);
    ensure!(ours.is_whole, "{name}: the ingress has ended");
    let good = &ours.good;
    ensure!(good.failures == 0, "{name}: {} requests of others failed: {:?}", good.failures, good.first);
    let most = FREE.max(ours.sent * HELD_FOR_EACH);
    ensure!(ours.growth <= most, "{name}: memory grew by {grown:.1} MB; at most {:.1} MB are allowed", megabytes(most));
    let peers = costs.iter().filter(|cost| cost.kind != Kind::Landfall && !refused.contains(&cost.kind));
    if let Some(best) = peers.min_by_key(|cost| cost.growth) {
        let most = best.growth.max(NOISE);
        let (name_of, had) = (best.kind.name(), megabytes(best.growth));
        ensure!(ours.growth <= most, "{name}: memory grew by {grown:.1} MB, and that of {name_of} by {had:.1} MB");
    }
    let allowed = good.before.percentile(99) * SLOWER;
    figures::within(good.during.percentile(99), allowed, PATIENCE)
}
