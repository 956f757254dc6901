//! `check`: every problem of a folder of manifests, without a network.

use std::collections::BTreeMap;
use std::process::ExitCode;

use landfall_lb_model::speakers::SpeakerRule;
use landfall_lb_model::world::World;
use landfall_model::Problem;
use landfall_shared::source::manifests;

use crate::cli::{CheckArgs, Output};
use crate::inputs::{Role, plan};

/// Runs the check; the exit code is 1 if there is a problem.
pub fn run(args: &CheckArgs) -> anyhow::Result<ExitCode> {
    let reading = manifests::read(&args.manifests, &plan(&[], Role::Everything))?;
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
    for problem in &mut problems {
        if problem.location.is_none() {
            problem.location = reading.locations.get(&problem.object).cloned();
        }
    }
    problems.sort();
    problems.dedup();
    match args.output {
        Output::Json => println!("{}", serde_json::to_string_pretty(&problems)?),
        Output::Text => problems.iter().for_each(|problem| match &problem.location {
            Some(location) => println!("{location}: {}: {problem}", problem.reason),
            None => println!("{}: {problem}", problem.reason),
        }),
    }
    Ok(if problems.is_empty() { ExitCode::SUCCESS } else { ExitCode::FAILURE })
}
