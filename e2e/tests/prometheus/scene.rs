//! A network of its own with both programs and a Prometheus that scrapes them.

use std::fs::File;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::Duration;

use anyhow::{Context, Result, ensure};
use landfall_e2e::{tools, wait};
use serde_json::Value;
use tempfile::TempDir;

const PATIENCE: Duration = Duration::from_mins(1);

/// Where things listen; nobody else is in the network.
pub(crate) const INGRESS: &str = "127.0.0.1:10254";
pub(crate) const ANNOUNCER: &str = "127.0.0.1:10255";
const PROMETHEUS: &str = "127.0.0.1:9090";

fn tool(name: &str) -> Result<PathBuf> {
    let path = tools::cache()?.join("tools/prometheus").join(name);
    ensure!(path.exists(), "{} is missing: `make deps` fetches it", path.display());
    Ok(path)
}

/// The program that tests rules.
pub(crate) fn promtool() -> Result<PathBuf> {
    tool("promtool")
}

/// Writes the chart's alerts as rule files.
pub(crate) fn rules(folder: &Path) -> Result<Vec<PathBuf>> {
    let write = |name: &str| {
        let list = std::fs::read_to_string(tools::checkout().join(format!("charts/landfall/alerts/{name}.yaml")))?;
        let indented: String = list.lines().fold(String::new(), |all, line| all + "  " + line + "\n");
        let path = folder.join(format!("{name}.yaml"));
        std::fs::write(&path, format!("groups:\n- name: landfall-{name}\n  rules:\n{indented}"))?;
        Ok(path)
    };
    ["ingress", "lb-announcer"].into_iter().map(write).collect()
}

/// The network and what runs in it; dropping it removes both.
pub(crate) struct Scene {
    name: String,
    folder: TempDir,
    children: Vec<Child>,
}

impl Scene {
    /// Makes the network: loopback, and an interface with the nodes' address.
    pub(crate) fn new() -> Result<Self> {
        let scene = Self {
            name: format!("landfall-prom-{}", std::process::id()),
            folder: TempDir::new()?,
            children: Vec::new(),
        };
        tools::run(Command::new("ip").args(["netns", "add", &scene.name]))?;
        for words in [
            "link set lo up",
            "link add eth0 type veth peer name peer0",
            "addr add 192.168.99.1/24 dev eth0",
            "link set eth0 up",
            "link set peer0 up",
        ] {
            scene.inside("ip", &words.split(' ').collect::<Vec<_>>())?;
        }
        Ok(scene)
    }

    /// A folder that goes with it.
    pub(crate) fn folder(&self) -> &Path {
        self.folder.path()
    }

    /// Runs a program in the network to its end.
    pub(crate) fn inside(&self, program: &str, arguments: &[&str]) -> Result<String> {
        tools::run(Command::new("ip").args(["netns", "exec", &self.name, program]).args(arguments))
    }

    /// Starts a program in the network.
    pub(crate) fn start(&mut self, program: &Path, arguments: &[&str]) -> Result<()> {
        let name = program.file_name().context("a name")?.to_string_lossy().into_owned();
        let log = File::create(self.folder().join(format!("{name}.log")))?;
        let mut command = Command::new("ip");
        command.args(["netns", "exec", &self.name]).arg(program).args(arguments);
        for (name, _) in std::env::vars_os().filter(|(name, _)| name.to_string_lossy().starts_with("LANDFALL_")) {
            command.env_remove(name);
        }
        self.children.push(command.stdin(Stdio::null()).stdout(log.try_clone()?).stderr(log).spawn()?);
        Ok(())
    }

    /// Starts Prometheus, and waits until it has scraped both programs.
    pub(crate) async fn prometheus(&mut self) -> Result<()> {
        let rules = rules(self.folder())?;
        let rules: Vec<String> = rules.iter().map(|path| path.display().to_string()).collect();
        let configuration = format!(
            "global: {{scrape_interval: 1s, evaluation_interval: 1s}}\nrule_files: [{}]\nscrape_configs:\n\
             - {{job_name: ingress, static_configs: [{{targets: [\"{INGRESS}\"]}}]}}\n\
             - {{job_name: announcer, static_configs: [{{targets: [\"{ANNOUNCER}\"]}}]}}\n",
            rules.join(", ")
        );
        let path = self.folder().join("prometheus.yaml");
        std::fs::write(&path, configuration)?;
        let data = self.folder().join("data").display().to_string();
        let (config, data) = (format!("--config.file={}", path.display()), format!("--storage.tsdb.path={data}"));
        self.start(&tool("prometheus")?, &[&config, &data, &format!("--web.listen-address={PROMETHEUS}")])?;
        wait::until(PATIENCE, "Prometheus to have scraped both programs", || async {
            let up = self.query("sum(up)")?;
            ensure!(up[0]["value"][1] == "2", "{up}");
            Ok(())
        })
        .await?;
        Ok(())
    }

    /// What an expression gives now.
    pub(crate) fn query(&self, expression: &str) -> Result<Value> {
        let url = format!("http://{PROMETHEUS}/api/v1/query");
        let said = self.inside("curl", &["-sS", "-G", &url, "--data-urlencode", &format!("query={expression}")])?;
        let answer: Value = serde_json::from_str(&said).with_context(|| said.clone())?;
        ensure!(answer["status"] == "success", "{expression}: {said}");
        Ok(answer["data"]["result"].clone())
    }

    /// The metrics of a program.
    pub(crate) fn metrics(&self, admin: &str) -> Result<String> {
        self.inside("curl", &["-sS", &format!("http://{admin}/metrics")])
    }
}

impl Drop for Scene {
    fn drop(&mut self) {
        for child in &mut self.children {
            let _ = child.kill();
            let _ = child.wait();
        }
        if std::thread::panicking() {
            for name in ["landfall-ingress", "landfall-lb-announcer", "prometheus"] {
                let log = std::fs::read_to_string(self.folder().join(format!("{name}.log"))).unwrap_or_default();
                tools::print_end(name, &log);
            }
        }
        let _ = Command::new("ip").args(["netns", "delete", &self.name]).status();
    }
}
