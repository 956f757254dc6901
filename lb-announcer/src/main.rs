//! `landfall-lb-announcer`: addresses for Services of type `LoadBalancer`, announced by ARP and NDP.

use std::process::ExitCode;

use clap::Parser;
use landfall_lb_announcer::cli::{Cli, Command};
use landfall_lb_announcer::{check, completions, controller, crds, speaker, standalone, who_has};

#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

fn main() -> ExitCode {
    let outcome = match Cli::parse().command {
        Command::Controller(args) => controller::run(&args).map(|()| ExitCode::SUCCESS),
        Command::Speaker(args) => speaker::run(&args).map(|()| ExitCode::SUCCESS),
        Command::Standalone(args) => standalone::run(&args).map(|()| ExitCode::SUCCESS),
        Command::Check(args) => check::run(&args),
        Command::Status(args) => who_has::status(&args),
        Command::WhoHas(args) => who_has::run(&args),
        Command::Completions { shell } => completions::run(shell).map(|()| ExitCode::SUCCESS),
        Command::Crds => crds::print().map(|()| ExitCode::SUCCESS),
    };
    outcome.unwrap_or_else(|error| {
        eprintln!("landfall-lb-announcer: {error:#}");
        ExitCode::from(2)
    })
}
