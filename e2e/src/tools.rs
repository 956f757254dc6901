//! Programs and ports that the scenarios use.

use std::net::TcpListener;
use std::path::{Path, PathBuf};
use std::process::{Command, Output};
use std::sync::atomic::{AtomicU16, Ordering};

use anyhow::{Context, Result, bail, ensure};

/// Ports are given out below the range from which Linux takes ports for outgoing connections (32768 and up), so
/// that no connection of a neighbour can take one between its choice and its use.
const PORTS: std::ops::Range<u16> = 20_000..30_000;

/// The root of the checkout.
pub fn checkout() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).parent().map(Path::to_path_buf).unwrap_or_default()
}

/// Where what takes long to build is kept between runs.
pub fn cache() -> Result<PathBuf> {
    Ok(match std::env::var_os("LANDFALL_CACHE") {
        Some(cache) => PathBuf::from(cache),
        None => PathBuf::from(std::env::var_os("HOME").context("HOME is not set")?).join(".cache/landfall"),
    })
}

/// The newest helm that is kept there.
pub fn helm() -> Result<PathBuf> {
    let tools = cache()?.join("tools");
    let folders = std::fs::read_dir(&tools).with_context(|| tools.display().to_string())?;
    let found = folders.filter_map(|entry| Some(entry.ok()?.path()));
    let found = found.filter(|path| path.file_name().is_some_and(|name| name.to_string_lossy().starts_with("helm-")));
    let programs = found.flat_map(|path| [path.join("bin/helm"), path.join("helm")]).filter(|path| path.exists());
    programs.max().context("helm is missing: `make deps` builds it")
}

/// The Landfall program called `name`: from the folder named by `LANDFALL_BIN`, else built beside this test.
pub fn program(name: &str) -> Result<PathBuf> {
    let folder = if let Some(folder) = std::env::var_os("LANDFALL_BIN") {
        PathBuf::from(folder)
    } else {
        // target/PROFILE/deps/TEST-HASH
        let test = std::env::current_exe()?;
        test.ancestors().nth(2).context("this test is in no target folder")?.to_path_buf()
    };
    let path = folder.join(name);
    ensure!(path.exists(), "{} is missing: run `cargo build --bins`, or set LANDFALL_BIN", path.display());
    Ok(path)
}

/// A TCP port that is free on loopback and is given to nobody else in this process.
pub fn free_port() -> Result<u16> {
    static NEXT: AtomicU16 = AtomicU16::new(0);
    // Test programs run side by side; each begins elsewhere.
    let begin = std::process::id().wrapping_mul(37);
    for _ in PORTS {
        let offset = u32::from(NEXT.fetch_add(1, Ordering::Relaxed)).wrapping_add(begin);
        let port = PORTS.start + u16::try_from(offset % u32::from(PORTS.end - PORTS.start))?;
        if TcpListener::bind(("::", port)).is_ok() {
            return Ok(port);
        }
    }
    bail!("no free port between {} and {}", PORTS.start, PORTS.end)
}

/// Shows the end of what a program has logged, for a test that fails.
pub fn print_end(program: &str, log: &str) {
    let lines: Vec<_> = log.lines().collect();
    eprintln!("the last lines of {program}:");
    lines.iter().skip(lines.len().saturating_sub(40)).for_each(|line| eprintln!("  {line}"));
}

/// Runs `command` to its end; a failure is an error with what it printed.
pub fn run(command: &mut Command) -> Result<String> {
    let (output, said) = run_any(command)?;
    ensure!(output.status.success(), "{command:?}: {}\n{said}", output.status);
    Ok(String::from_utf8_lossy(&output.stdout).into_owned())
}

/// Runs `command` to its end, whatever it returns; the text is both its streams.
pub fn run_any(command: &mut Command) -> Result<(Output, String)> {
    let name = command.get_program().to_string_lossy().into_owned();
    let output =
        command.output().with_context(|| format!("{name}: not runnable; `make deps` installs what is missing"))?;
    let said = [&output.stdout, &output.stderr].map(|text| String::from_utf8_lossy(text).into_owned()).concat();
    Ok((output, said))
}
