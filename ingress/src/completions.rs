//! `completions`: what a shell completes.

use std::io::{self, Write};

use clap::CommandFactory;
use clap_complete::Shell;

use crate::cli::Cli;

/// Prints the completions of `shell`.
pub fn run(shell: Shell) -> anyhow::Result<()> {
    let mut script = Vec::new();
    clap_complete::generate(shell, &mut Cli::command(), "landfall-ingress", &mut script);
    io::stdout().write_all(&script)?;
    Ok(())
}
