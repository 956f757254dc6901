//! `migrate`: what changes for the Ingresses of ingress-nginx when Landfall serves them.

mod ask;
mod compare;
mod read;

use std::process::ExitCode;

use anyhow::Context;
use landfall_ingress_model::migration::{Choice, Compiled, Html, Migration, Report, probes};
use landfall_ingress_model::settings::{Origin, Publish};
use landfall_model::Severity;

use crate::cli::{MigrateArgs, ReportOutput};
use crate::control::unix_now;

/// Prints the report; exits with 1 if anything is refused or differs, or can't be read as what it is.
pub fn run(args: &MigrateArgs) -> anyhow::Result<ExitCode> {
    // Fails only if somebody was faster, which is then the same provider.
    let _ = rustls::crypto::CryptoProvider::install_default((*crate::crypto_provider()).clone());
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
    let runtime = runtime.context("cannot start the runtime")?;
    let outcome = runtime.block_on(migrate(args));
    runtime.shutdown_background();
    outcome
}

async fn migrate(args: &MigrateArgs) -> anyhow::Result<ExitCode> {
    let origin = if args.manifests.is_some() { Origin::Folder } else { Origin::Cluster };
    let choice = Choice { workload: args.nginx_workload.clone(), flags: args.nginx_flags.clone() };
    let mut migration = Migration::new(args.model.settings(origin, Publish::Nothing), choice);
    let problems = match &args.manifests {
        Some(folder) => read::folder(folder, &mut migration)?,
        None => read::cluster(&mut migration).await?,
    };
    let compiled = migration.compile(unix_now());
    let mut report = migration.report(&compiled);
    report.problems.extend(problems);
    if let Some(old) = &args.compare {
        report.comparison = Some(compared(args, old, &compiled).await?);
    }
    match args.output {
        ReportOutput::Text => print!("{report}"),
        ReportOutput::Json => println!("{}", serde_json::to_string_pretty(&report)?),
        ReportOutput::Html => print!("{}", Html(&report)),
    }
    Ok(if is_clean(&report) { ExitCode::SUCCESS } else { ExitCode::from(1) })
}

async fn compared(
    args: &MigrateArgs,
    old: &str,
    compiled: &Compiled,
) -> anyhow::Result<landfall_ingress_model::migration::Comparison> {
    let (old, new) = (ask::Place::find(old).await?, ask::Place::find(&args.new).await?);
    let (probes, left_out) = probes(compiled, args.max_requests);
    let limits = compare::Limits { rate: args.rate, timeout: args.timeout, total: args.time_limit };
    Ok(compare::compare(&old, &new, &probes, left_out, limits).await)
}

fn is_clean(report: &Report) -> bool {
    let unread = report.problems.iter().any(|problem| problem.severity == Severity::Error);
    !report.differs() && !unread
}
