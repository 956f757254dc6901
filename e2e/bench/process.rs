//! Child processes on a core of their own, and what they have used.

use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};

use anyhow::{Context, Result, ensure};
use landfall_e2e::tools;

/// Where the proxy under test runs, alone.
const PROXY_CORE: &str = "0";
/// Where the load generator and this program run.
const LOAD_CORE: &str = "1";

/// Which core a process runs on.
#[derive(Clone, Copy)]
pub(crate) enum Core {
    Proxy,
    Load,
    Backend,
}

impl Core {
    fn number(self) -> &'static str {
        match self {
            Core::Proxy => PROXY_CORE,
            // With only two cores the backend shares one with the load generator: neither is what is measured.
            Core::Backend if cores() > 2 => "2",
            Core::Load | Core::Backend => LOAD_CORE,
        }
    }
}

/// A process that ends with this program.
pub(crate) struct Process {
    child: Child,
    log: PathBuf,
}

impl Process {
    /// Starts `command` on `core`. Its output is kept in `log`.
    pub(crate) fn start(command: &Command, core: Core, log: &Path) -> Result<Self> {
        let out = std::fs::File::create(log)?;
        let name = command.get_program().to_string_lossy().into_owned();
        let mut pinned = on_core(command, core);
        let child = pinned.stdin(Stdio::null()).stdout(out.try_clone()?).stderr(out).spawn();
        Ok(Self { child: child.with_context(|| name)?, log: log.to_path_buf() })
    }

    /// Processor time that it and its children have used so far, in microseconds.
    pub(crate) fn cpu_micros(&self) -> Result<f64> {
        let mut nanos = 0;
        for pid in self.family()? {
            for task in std::fs::read_dir(format!("/proc/{pid}/task"))? {
                // The scheduler's own count, in nanoseconds; that of /proc/PID/stat is in hundredths of a second.
                let path = task?.path().join("schedstat");
                let text = std::fs::read_to_string(&path).with_context(|| path.display().to_string())?;
                nanos += text.split_whitespace().next().unwrap_or_default().parse::<u64>()?;
            }
        }
        Ok(nanos as f64 / 1e3)
    }

    /// Resident memory of it and its children in bytes. Pages that they share are counted once.
    pub(crate) fn memory(&self) -> Result<u64> {
        let mut kib = 0;
        for pid in self.family()? {
            let text = std::fs::read_to_string(format!("/proc/{pid}/smaps_rollup"))?;
            let line = text.lines().find_map(|line| line.strip_prefix("Pss:")).context("no Pss in smaps_rollup")?;
            kib += line.trim().trim_end_matches("kB").trim().parse::<u64>()?;
        }
        Ok(kib * 1024)
    }

    /// What it said.
    pub(crate) fn log(&self) -> String {
        std::fs::read_to_string(&self.log).unwrap_or_default()
    }

    fn family(&self) -> Result<Vec<u32>> {
        let pid = self.child.id();
        let path = format!("/proc/{pid}/task/{pid}/children");
        let children = std::fs::read_to_string(&path).context(path)?;
        let children = children.split_whitespace().map(str::parse).collect::<Result<Vec<u32>, _>>()?;
        Ok(std::iter::once(pid).chain(children).collect())
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        use nix::sys::signal::{Signal, kill};
        // SIGTERM, so that a master process takes its workers along; it has half a second for that.
        if let Ok(pid) = i32::try_from(self.child.id()) {
            let _ = kill(nix::unistd::Pid::from_raw(pid), Signal::SIGTERM);
        }
        for _ in 0..50 {
            if matches!(self.child.try_wait(), Ok(Some(_))) {
                return;
            }
            std::thread::sleep(std::time::Duration::from_millis(10));
        }
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// `command`, with its arguments and environment, on `core`.
pub(crate) fn on_core(command: &Command, core: Core) -> Command {
    let mut pinned = Command::new("taskset");
    pinned.args(["-c", core.number()]).arg(command.get_program()).args(command.get_args());
    for (name, value) in command.get_envs() {
        match value {
            Some(value) => pinned.env(name, value),
            None => pinned.env_remove(name),
        };
    }
    pinned
}

/// Keeps this program off the core that is measured.
pub(crate) fn pin_this() -> Result<()> {
    ensure!(cores() >= 2, "the comparison needs two cores: one for the proxy and one for the load");
    let pid = std::process::id().to_string();
    tools::run(Command::new("taskset").args(["-a", "-p", "-c", LOAD_CORE, &pid])).map(drop)
}

fn cores() -> usize {
    // Not what this process may use, which pinning has made one.
    std::fs::read_to_string("/proc/cpuinfo").map_or(1, |text| text.matches("\nprocessor").count() + 1)
}
