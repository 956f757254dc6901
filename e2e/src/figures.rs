//! What the scenarios measure: percentiles, memory, and one place where the figures are printed.

use std::fmt;
use std::io::Write;
use std::time::Duration;

use anyhow::{Context, Result, ensure};

/// Durations of one operation, many times.
#[derive(Clone, Debug, Default)]
pub struct Durations(Vec<Duration>);

impl Durations {
    /// Notes one.
    pub fn push(&mut self, duration: Duration) {
        self.0.push(duration);
    }

    /// The smallest duration that `percent` of all do not exceed (nearest rank); zero if there are none.
    pub fn percentile(&self, percent: usize) -> Duration {
        let mut sorted = self.0.clone();
        sorted.sort_unstable();
        let rank = (sorted.len() * percent).div_ceil(100).max(1);
        sorted.get(rank - 1).copied().unwrap_or_default()
    }
}

impl fmt::Display for Durations {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let millis = |percent| self.percentile(percent).as_secs_f64() * 1000.0;
        write!(f, "p50 {:.1} ms, p99 {:.1} ms, worst {:.1} ms of {}", millis(50), millis(99), millis(100), self.0.len())
    }
}

/// Prints one figure and appends it to the file named by `LANDFALL_FIGURES`, which `make test` shows at its end.
pub fn print(figure: &str) {
    println!("figure: {figure}");
    if let Some(path) = std::env::var_os("LANDFALL_FIGURES") {
        let file = std::fs::OpenOptions::new().create(true).append(true).open(path);
        // A figure that can't be kept was printed all the same.
        let _ = file.and_then(|mut file| writeln!(file, "{figure}"));
    }
}

/// Whether durations are held to their budgets, which are those of a machine that does nothing else: `make e2e` does so.
///
/// Elsewhere a machine compiles, or others use it too. There durations are printed, and what is asserted holds at any
/// speed.
pub fn held_to_budgets() -> bool {
    std::env::var_os("LANDFALL_BUDGETS").is_some()
}

/// An error if `measured` is beyond `budget` where budgets are held, or beyond `always` anywhere.
pub fn within(measured: Duration, budget: Duration, always: Duration) -> Result<()> {
    let limit = if held_to_budgets() { budget } else { always };
    ensure!(measured <= limit, "{measured:?}; at most {limit:?} is allowed");
    Ok(())
}

/// The resident memory of a process, in bytes.
#[derive(Clone, Copy, Debug)]
pub struct Memory {
    /// All of it, with the pages of the program itself.
    pub resident: u64,
    /// Without the pages that are files and can be dropped: what the process has allocated.
    pub allocated: u64,
}

impl fmt::Display for Memory {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:.1} MB, of which allocated {:.1} MB", megabytes(self.resident), megabytes(self.allocated))
    }
}

/// The resident memory of process `pid`.
pub fn resident(pid: u32) -> Result<Memory> {
    let path = format!("/proc/{pid}/status");
    let status = std::fs::read_to_string(&path).with_context(|| path.clone())?;
    let bytes = |field: &str| -> Result<u64> {
        let line = status.lines().find_map(|line| line.strip_prefix(field)).context("no such field")?;
        let kib: u64 = line.trim().trim_end_matches("kB").trim().parse()?;
        Ok(kib * 1024)
    };
    Ok(Memory { resident: bytes("VmRSS:")?, allocated: bytes("RssAnon:")? })
}

/// Bytes as megabytes of a million, the unit of the budgets.
pub fn megabytes(bytes: u64) -> f64 {
    bytes as f64 / 1e6
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn percentiles_are_by_nearest_rank() {
        let durations = Durations((1..=200).map(Duration::from_millis).collect());
        for (percent, millis) in [(50, 100), (99, 198), (100, 200), (0, 1)] {
            assert_eq!(durations.percentile(percent), Duration::from_millis(millis), "p{percent}");
        }
        assert_eq!(Durations::default().percentile(99), Duration::ZERO);
    }
}
