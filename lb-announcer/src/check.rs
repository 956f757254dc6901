//! `check`: every problem of a folder of manifests, without a network; or of a cluster, by its API server.

pub(crate) mod cluster;
mod lan;

use std::collections::BTreeMap;
use std::path::Path;
use std::process::ExitCode;

use anyhow::Context;
use landfall_lb_model::reason;
use landfall_lb_model::speakers::SpeakerRule;
use landfall_lb_model::world::World;
use landfall_model::{Findings, Problem};
use landfall_shared::look::{self, Look};
use landfall_shared::source::manifests;

use crate::cli::{CheckArgs, Output};
use crate::inputs::{Role, plan};

/// Runs the check; the exit code is 1 if there is a problem. In a cluster, warnings don't count.
pub fn run(args: &CheckArgs) -> anyhow::Result<ExitCode> {
    match &args.manifests {
        Some(manifests) => folder(args, manifests),
        None => in_cluster(args),
    }
}

fn in_cluster(args: &CheckArgs) -> anyhow::Result<ExitCode> {
    crate::install_crypto();
    let runtime = crate::runtime().context("cannot start the runtime")?;
    let findings = runtime.block_on(async {
        let look = Look::new().await?;
        look::until_well(args.wait, || once(args, look.clone())).await
    })?;
    match args.output {
        Output::Json => println!("{}", serde_json::to_string_pretty(&findings)?),
        Output::Text => print!("{findings}"),
    }
    Ok(if findings.fails() { ExitCode::FAILURE } else { ExitCode::SUCCESS })
}

async fn once(args: &CheckArgs, look: Look) -> anyhow::Result<Findings> {
    let mut findings = look.version().await?;
    let mut seen = cluster::read(&look, &args.namespace, &args.rules.rules(SpeakerRule::Seen)).await?;
    findings.extend(seen.judge());
    findings.extend(lan::judge(&seen.world).await);
    findings.extend(look.missing());
    Ok(findings)
}

fn folder(args: &CheckArgs, folder: &Path) -> anyhow::Result<ExitCode> {
    let reading = manifests::read(folder, &plan(&[], Role::Everything))?;
    let mut world = World::new(args.rules.rules(SpeakerRule::EveryNode));
    reading.changes.into_iter().for_each(|change| world.apply(change));
    world.settle();
    let held = world.services().iter().map(|(key, s)| (key.clone(), s.status.clone())).collect::<BTreeMap<_, _>>();
    let planned = world.plan(&held, &world.reserved(), 0);
    let (_, duty_problems) = world.duties(planned.grants());
    let mut problems: Vec<Problem> = reading.problems;
    problems.extend(world.problems());
    problems.extend(planned.problems);
    problems.extend(duty_problems);
    problems.extend(world.review(&[args.namespace.clone(), "metallb-system".to_owned()]));
    for problem in &mut problems {
        if problem.location.is_none() {
            problem.location = reading.locations.get(&problem.object);
        }
    }
    problems.sort();
    problems.dedup();
    print(&world, problems, args.output)
}

fn print(world: &World, mut problems: Vec<Problem>, output: Output) -> anyhow::Result<ExitCode> {
    let code = if problems.is_empty() { ExitCode::SUCCESS } else { ExitCode::FAILURE };
    let objects = |problem: &Problem| {
        let outdated = problem.reason == reason::OUTDATED_CONFIGURATION;
        world.replacement(&problem.object).filter(|text| outdated && !text.is_empty())
    };
    match output {
        Output::Json => {
            for problem in &mut problems {
                if let Some(text) = objects(problem) {
                    problem.remedy = format!("{}\n{text}", problem.remedy);
                }
            }
            println!("{}", serde_json::to_string_pretty(&problems)?);
        }
        Output::Text => {
            for problem in &problems {
                match &problem.location {
                    Some(location) => println!("{location}: {}: {problem}", problem.reason),
                    None => println!("{}: {problem}", problem.reason),
                }
                if let Some(text) = objects(problem) {
                    print!("{text}");
                }
            }
        }
    }
    Ok(code)
}
