//! The announcer in the lab of network namespaces: a short form of `e2e/lab/measure/all.sh`.
//!
//! Durations are printed, and held to their budgets where `LANDFALL_BUDGETS` is set (`make e2e` sets it): a gap includes
//! the time for which programs wait for a processor, so a budget says nothing on a machine that does something else too.
//! What holds at any speed is asserted everywhere: every address comes back by itself, and two nodes never both keep it.

#![allow(clippy::unwrap_used, clippy::panic, reason = "a test fails by panicking")]

use std::io::Write;
use std::path::{Path, PathBuf};
use std::process::{Command, Output};

/// The budgets: 200 ms for half of all failovers, 300 ms for all.
const BUDGET_MS: (&str, &str) = ("200", "300");

/// On any machine: whoever comes back later was not missed by its peers but started again.
const ALWAYS_MS: &str = "2500";

/// The budget is none. But whoever begins a request in the very moment in which the neighbours are told has it reset,
/// since a connection can't follow its address: of requests every 2 ms that is about two of 10,000, measured over 54
/// moves. Thrice as many are a fault. Fewer moves than these would make a single reset look like one.
const LOST_OF_10_000: &str = "6";

/// What is run, and whether the gap has limits there.
///
/// Short rounds, which are still longer than [`ALWAYS_MS`].
const MEASUREMENTS: [(&str, &str, Limits); 10] = [
    ("failover.py", "--mode kill --rounds 10 --stable 0.5 --watch 3", Limits::Crash),
    ("failover.py", "--mode cut --rounds 10 --stable 0.5 --watch 3", Limits::Crash),
    ("failover.py", "--mode kill --address fd88::202 --rounds 5 --stable 0.5 --watch 3", Limits::Longest),
    ("failover.py", "--mode stop --rounds 5 --stable 0.5 --watch 3", Limits::None),
    ("failover.py", "--mode partition --rounds 3 --stable 0.5 --watch 3", Limits::None),
    ("failover.py", "--mode loss --rounds 1 --seconds 10 --percent 5", Limits::None),
    ("moves.py", "--moves 36", Limits::Lost),
    ("foreign.py", "--seconds 5", Limits::None),
    ("flood.py", "--seconds 3", Limits::None),
    ("many.py", "--rounds 1 --idle 3", Limits::Taken),
];

#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum Limits {
    /// On the median and on the longest gap.
    Crash,
    /// On the longest gap: of a few rounds the median is chance, since a crash comes at any time between two heartbeats.
    Longest,
    /// On requests lost in moves.
    Lost,
    /// On the time until all addresses of a node are taken over: the measurement's own.
    Taken,
    /// The measurement's own.
    None,
}

struct Lab {
    folder: PathBuf,
    program: PathBuf,
}

impl Lab {
    fn up() -> Self {
        assert!(nix::unistd::geteuid().is_root(), "this test makes network namespaces: run it as root");
        let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("../e2e/lab");
        let up = Path::new("/run/netns/ll-sw").exists();
        assert!(!up, "the lab is up already: take it down with e2e/lab/lab.sh down");
        let lab = Self { folder, program: program() };
        let output = lab.run("lab.sh", ["up"]);
        assert!(output.status.success(), "{}", text(&output));
        lab
    }

    fn run<'a>(&self, program: &str, arguments: impl IntoIterator<Item = &'a str>) -> Output {
        let mut command = Command::new(self.folder.join(program));
        command.args(arguments).env("LANDFALL_LB_ANNOUNCER", &self.program).output().unwrap()
    }

    /// Runs a measurement, prints what it found, and says whether it kept to its limits.
    fn measure(&self, program: &str, arguments: &str, limits: Limits) -> bool {
        let budgets = std::env::var_os("LANDFALL_BUDGETS").is_some();
        let all = if budgets { BUDGET_MS.1 } else { ALWAYS_MS };
        let mut words: Vec<&str> = arguments.split(' ').collect();
        match limits {
            Limits::Crash if budgets => words.extend(["--limit-p50", BUDGET_MS.0, "--limit-max", all]),
            Limits::Crash | Limits::Longest => words.extend(["--limit-max", all]),
            Limits::Taken if !budgets => words.extend(["--limit", "5000"]),
            Limits::Lost => words.extend(["--lost", LOST_OF_10_000]),
            Limits::Taken | Limits::None => {}
        }
        let output = self.run(&format!("measure/{program}"), words);
        let text = text(&output);
        println!("{program} {arguments}\n{text}");
        text.lines().filter(|line| line.starts_with("landfall ")).for_each(keep);
        output.status.success()
    }
}

impl Drop for Lab {
    fn drop(&mut self) {
        self.run("lab.sh", ["down"]);
    }
}

/// The program that `make test` has built for its measurements, else the one built with this test.
fn program() -> PathBuf {
    let measured = std::env::var_os("LANDFALL_BIN").map(|folder| Path::new(&folder).join("landfall-lb-announcer"));
    measured.filter(|path| path.exists()).unwrap_or_else(|| env!("CARGO_BIN_EXE_landfall-lb-announcer").into())
}

/// Keeps a figure for the end of `make test`.
fn keep(figure: &str) {
    let Some(path) = std::env::var_os("LANDFALL_FIGURES") else { return };
    let file = std::fs::OpenOptions::new().create(true).append(true).open(path);
    // A figure that can't be kept was printed all the same.
    let _ = file.and_then(|mut file| writeln!(file, "{figure}"));
}

fn text(output: &Output) -> String {
    format!("{}{}", String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr))
}

#[test]
fn addresses_survive_crashes_cuts_stops_moves_and_foreign_hosts() {
    let lab = Lab::up();
    let kept = |(program, arguments, limits): &(&str, &str, Limits)| lab.measure(program, arguments, *limits);
    // All are run, so that one that fails hides none of the others' figures.
    let beyond: Vec<_> = MEASUREMENTS.iter().filter(|measurement| !kept(measurement)).collect();
    assert!(beyond.is_empty(), "beyond the limits, see above: {beyond:#?}");
}
