//! `landfall-ingress`: routes HTTP and HTTPS by host and path to Service endpoints.

use std::process::ExitCode;

use landfall_ingress::cli::{Cli, Command};
use landfall_ingress::{ca, certs, check, completions, echo, explain, migrate, overview, serve, tail, trial};

#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

fn main() -> ExitCode {
    let outcome = match Cli::read().command {
        Command::Serve(args) => serve::run(&args).map(|()| ExitCode::SUCCESS),
        Command::Check(args) => check::run(&args),
        Command::Explain(args) => explain::run(&args),
        Command::Migrate(args) => migrate::run(&args),
        Command::Certs(args) => certs::run(&args),
        Command::Ca(args) => ca::run(&args),
        Command::Status(args) => overview::run(&args),
        Command::Test(args) => trial::run(&args),
        Command::Echo(args) => echo::run(&args),
        Command::Tail(args) => tail::run(&args),
        Command::Completions(args) => completions::run(args.shell).map(|()| ExitCode::SUCCESS),
    };
    outcome.unwrap_or_else(|error| {
        eprintln!("landfall-ingress: {error:#}");
        ExitCode::from(2)
    })
}
