//! `check`: every problem in a folder of manifests, or of a cluster.

mod cluster;
mod names;

use std::path::Path;
use std::process::ExitCode;

use anyhow::Context;
use landfall_ingress_model::compiler::Compiler;
use landfall_ingress_model::settings::{Origin, Publish};
use landfall_model::{Findings, Problem, Severity};
use landfall_shared::look::{self, Look};
use landfall_shared::source::manifests::{self, Reading};
use serde_json::json;

use crate::cli::{CheckArgs, ModelArgs, Output};
use crate::control::unix_now;
use crate::inputs;

pub(crate) use cluster::read;

/// Prints what is found; exits with 1 if there is a problem. In a cluster, warnings don't count.
pub fn run(args: &CheckArgs) -> anyhow::Result<ExitCode> {
    match &args.manifests {
        Some(manifests) => folder(args, manifests),
        None => in_cluster(args),
    }
}

fn in_cluster(args: &CheckArgs) -> anyhow::Result<ExitCode> {
    let findings = crate::once(async {
        let look = Look::new().await?;
        look::until_well(args.wait, || judge(args, look.clone())).await
    })?;
    match args.output {
        Output::Text => print!("{findings}"),
        Output::Json => println!("{}", serde_json::to_string_pretty(&findings)?),
    }
    Ok(if findings.fails() { ExitCode::from(1) } else { ExitCode::SUCCESS })
}

async fn judge(args: &CheckArgs, look: Look) -> anyhow::Result<Findings> {
    let mut findings = look.version().await?;
    let seen = read(&look, args.namespace.as_deref(), &args.model).await?;
    findings.extend(seen.facts.judge(&seen.built, &seen.settings));
    seen.ordered.into_iter().for_each(|problem| findings.bad("certificates", problem));
    if !args.no_dns {
        let lookups = names::look_up(seen.facts.hosts(&seen.built)).await;
        findings.extend(seen.facts.judge_names(&seen.built, &lookups));
    }
    findings.extend(look.missing());
    Ok(findings)
}

fn folder(args: &CheckArgs, manifests: &Path) -> anyhow::Result<ExitCode> {
    let (compiler, mut problems) = compile(manifests, &args.model)?;
    drop(compiler);
    problems.sort_by(|a, b| (&a.location, &a.object).cmp(&(&b.location, &b.object)));
    match args.output {
        Output::Text => print_text(&problems),
        Output::Json => println!("{}", serde_json::to_string_pretty(&json!({ "problems": problems }))?),
    }
    Ok(if problems.is_empty() { ExitCode::SUCCESS } else { ExitCode::from(1) })
}

/// Reads and compiles a folder; the problems are those of the reader and those of the model.
pub fn compile(dir: &Path, model: &ModelArgs) -> anyhow::Result<(Compiler, Vec<Problem>)> {
    let reading: Reading<_> =
        manifests::read(dir, &inputs::folder()).with_context(|| format!("cannot read {}", dir.display()))?;
    let mut compiler = Compiler::new(model.settings(Origin::Folder, Publish::Nothing));
    compiler.apply(reading.changes);
    let built = compiler.build(unix_now());
    let mut problems = reading.problems;
    for problem in built.problems.iter().cloned() {
        let location = reading.locations.get(&problem.object).filter(|_| problem.location.is_none());
        problems.push(match location {
            Some(location) => problem.in_file(location),
            None => problem,
        });
    }
    Ok((compiler, problems))
}

fn print_text(problems: &[Problem]) {
    for problem in problems {
        let severity = match problem.severity {
            Severity::Warning => "warning",
            Severity::Error => "error",
        };
        let place = problem.location.as_ref().map(|place| format!("{place}: ")).unwrap_or_default();
        println!("{place}{severity}: {} [{}]", problem.message(), problem.reason);
    }
    match problems.len() {
        0 => println!("no problems"),
        1 => println!("1 problem"),
        count => println!("{count} problems"),
    }
}
