//! The announcer in the lab of network namespaces: a short form of the measurements in `e2e/lab/measure`.
//!
//! The limits are those of the budgets, widened by what a busy machine takes: others may build on it meanwhile.

#![allow(clippy::unwrap_used, clippy::panic, reason = "a test fails by panicking")]

use std::path::{Path, PathBuf};
use std::process::{Command, Output};

/// The budgets: 200 ms for half of all failovers, 300 ms for all.
const BUDGET_MS: (f64, f64) = (200.0, 300.0);

struct Lab {
    folder: PathBuf,
}

impl Lab {
    fn up() -> Self {
        assert!(nix::unistd::geteuid().is_root(), "this test makes network namespaces: run it as root");
        let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("../e2e/lab");
        assert!(
            !Path::new("/run/netns/ll-sw").exists(),
            "the lab is up already: take it down with e2e/lab/lab.sh down"
        );
        let lab = Self { folder };
        let output = lab.run("lab.sh", &["up"]);
        assert!(output.status.success(), "{}", text(&output));
        lab
    }

    fn run(&self, program: &str, arguments: &[&str]) -> Output {
        let program = self.folder.join(program);
        Command::new(program)
            .args(arguments)
            .env("LANDFALL_LB_ANNOUNCER", env!("CARGO_BIN_EXE_landfall-lb-announcer"))
            .output()
            .unwrap()
    }

    /// Runs a measurement, prints what it found, and fails if it did.
    fn measure(&self, program: &str, arguments: &[&str]) {
        let output = self.run(program, arguments);
        println!("{}", text(&output));
        assert!(output.status.success(), "{program} {arguments:?}:\n{}", text(&output));
    }
}

impl Drop for Lab {
    fn drop(&mut self) {
        self.run("lab.sh", &["down"]);
    }
}

fn text(output: &Output) -> String {
    format!("{}{}", String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr))
}

/// How many programs wait for each processor, at least one.
fn busyness() -> f64 {
    let load = std::fs::read_to_string("/proc/loadavg").unwrap();
    let load: f64 = load.split(' ').next().unwrap().parse().unwrap();
    let processors = std::thread::available_parallelism().unwrap().get();
    (load / f64::from(u32::try_from(processors).unwrap())).max(1.0)
}

#[test]
fn addresses_survive_crashes_cuts_stops_moves_and_foreign_hosts() {
    let lab = Lab::up();
    let busy = busyness();
    let (p50, all) = (format!("{}", BUDGET_MS.0 * busy), format!("{}", BUDGET_MS.1 * busy));
    for mode in ["kill", "cut"] {
        let arguments = ["--mode", mode, "--rounds", "3", "--limit-p50", &p50, "--limit-max", &all];
        lab.measure("measure/failover.py", &arguments);
    }
    let six = ["--mode", "kill", "--rounds", "2", "--address", "fd88::202", "--limit-max", &all];
    lab.measure("measure/failover.py", &six);
    for mode in ["stop", "move", "partition"] {
        // What is not to be interrupted at all: the limit only allows for waiting for a processor.
        lab.measure("measure/failover.py", &["--mode", mode, "--rounds", "3", "--timeout", "200", "--limit-max", &all]);
    }
    lab.measure("measure/foreign.py", &["--seconds", "5"]);
}
