//! The running testbed: a real cluster of network namespaces, started by `make cluster`.
//!
//! Its hosts are three nodes, a client and a router on one switch; see `e2e/testbed/cluster.sh`.

use std::fmt;
use std::fs::File;
use std::future::Future;
use std::io::Write;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::Duration;

use anyhow::{Context, Result, anyhow, ensure};
use nix::sched::{CloneFlags, setns};
use serde_json::Value;

use crate::{tools, wait};

/// How long anything in the cluster may take that is not measured.
pub const PATIENCE: Duration = Duration::from_secs(90);

/// What is shown of every object of a namespace in which a scenario failed.
const DUMPED: &str = "all,ingress,endpointslices,events,servicel2status.metallb.io";

/// A host of the testbed.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Host {
    /// The client, which is no part of the cluster.
    Client,
    /// The router, which is no part of it either.
    Router,
    /// The switch between all of them.
    Switch,
    /// Node `n1`, `n2` or `n3`.
    Node(u8),
}

impl fmt::Display for Host {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Client => f.write_str("c"),
            Self::Router => f.write_str("r"),
            Self::Switch => f.write_str("sw"),
            Self::Node(number) => write!(f, "n{number}"),
        }
    }
}

/// The cluster that runs on this machine.
#[derive(Clone, Debug)]
pub struct Testbed {
    state: PathBuf,
    programs: PathBuf,
    script: PathBuf,
}

impl Testbed {
    /// The one that runs; an error if there is none.
    pub fn running() -> Result<Self> {
        let state = std::env::var_os("LANDFALL_CLUSTER_STATE");
        let state = state.map_or_else(|| PathBuf::from("/var/tmp/landfall-cluster"), PathBuf::from);
        let settings = state.join("settings");
        let settings =
            std::fs::read_to_string(&settings).with_context(|| "no cluster runs here: start it by `make cluster`")?;
        let version = settings.lines().find_map(|line| line.strip_prefix("version="));
        let programs = tools::cache()?.join("kube").join(version.context("the settings name no version")?);
        Ok(Self { state, programs, script: tools::checkout().join("e2e/testbed/cluster.sh") })
    }

    /// The kubeconfig of a cluster administrator.
    pub fn kubeconfig(&self) -> PathBuf {
        self.state.join("admin.kubeconfig")
    }

    /// Runs kubectl as the administrator.
    pub fn kubectl(&self, arguments: &[&str]) -> Result<String> {
        tools::run(self.kubectl_command().args(arguments))
    }

    /// The object or list that `kubectl get` gives for `arguments`.
    pub fn get(&self, arguments: &[&str]) -> Result<Value> {
        Ok(serde_json::from_str(&tools::run(self.kubectl_command().arg("get").args(arguments).args(["-o", "json"]))?)?)
    }

    /// `kubectl apply -f -` of `yaml`, for what names no namespace in `namespace`.
    pub fn apply(&self, namespace: &str, yaml: &str) -> Result<()> {
        self.pipe(&["apply", "--namespace", namespace, "-f", "-"], yaml)
    }

    /// `kubectl apply -f -` of `yaml`, whose objects name their namespaces.
    pub fn create(&self, yaml: &str) -> Result<()> {
        self.pipe(&["apply", "-f", "-"], yaml)
    }

    /// `kubectl delete -f -` of `yaml`, whose objects name their namespaces; waits until they are gone.
    pub fn delete(&self, yaml: &str) -> Result<()> {
        self.pipe(&["delete", "--ignore-not-found", "--wait=true", "-f", "-"], yaml)
    }

    /// Runs kubectl with `yaml` as its input.
    fn pipe(&self, arguments: &[&str], yaml: &str) -> Result<()> {
        let mut command = self.kubectl_command();
        command.args(arguments);
        let mut child = command.stdin(Stdio::piped()).stdout(Stdio::null()).stderr(Stdio::piped()).spawn()?;
        child.stdin.take().context("a pipe was asked for")?.write_all(yaml.as_bytes())?;
        let output = child.wait_with_output()?;
        ensure!(output.status.success(), "kubectl {arguments:?}: {}\n{yaml}", String::from_utf8_lossy(&output.stderr));
        Ok(())
    }

    /// Waits until every pod that `workload` (for example `deployment/echo`) wants is up to date and ready.
    pub fn rolled_out(&self, namespace: &str, workload: &str) -> Result<()> {
        let limit = format!("{}s", PATIENCE.as_secs());
        self.kubectl(&["rollout", "status", "--namespace", namespace, workload, "--timeout", &limit]).map(drop)
    }

    /// Waits until the Service has an address, and returns all it has.
    pub async fn addresses(&self, namespace: &str, service: &str) -> Result<Vec<String>> {
        let what = format!("service {namespace}/{service} to get an address");
        let (addresses, _) = wait::until(PATIENCE, &what, || async {
            let object = self.get(&["service", "--namespace", namespace, service])?;
            let ingress = object.pointer("/status/loadBalancer/ingress").and_then(Value::as_array);
            let addresses = ingress.into_iter().flatten().filter_map(|entry| entry["ip"].as_str());
            let addresses: Vec<_> = addresses.map(str::to_owned).collect();
            ensure!(!addresses.is_empty(), "{}", object["status"]);
            Ok(addresses)
        })
        .await?;
        Ok(addresses)
    }

    /// Runs helm.
    pub fn helm(&self, arguments: &[&str]) -> Result<String> {
        let mut command = Command::new(tools::helm()?);
        command.env("KUBECONFIG", self.kubeconfig()).args(arguments);
        for (variable, folder) in
            [("HELM_CACHE_HOME", "cache"), ("HELM_CONFIG_HOME", "config"), ("HELM_DATA_HOME", "data")]
        {
            command.env(variable, self.state.join("helm").join(folder));
        }
        tools::run(&mut command)
    }

    /// A command that runs on `host`.
    pub fn on(&self, host: Host, program: &str) -> Command {
        let mut command = Command::new("nsenter");
        command.arg(format!("--net={}", namespace_of(host).display())).arg(program);
        command
    }

    /// Runs `work` on `host`, in a thread and a runtime of its own.
    pub async fn run_on<T, F, Fut>(&self, host: Host, work: F) -> Result<T>
    where
        T: Send + 'static,
        F: FnOnce() -> Fut + Send + 'static,
        Fut: Future<Output = Result<T>>,
    {
        let (sender, receiver) = tokio::sync::oneshot::channel();
        std::thread::Builder::new().name(format!("on {host}")).spawn(move || {
            let work = || {
                setns(File::open(namespace_of(host))?, CloneFlags::CLONE_NEWNET)?;
                tokio::runtime::Builder::new_current_thread().enable_all().build()?.block_on(work())
            };
            // Nobody waits for it any more if the scenario was given up.
            drop(sender.send(work()));
        })?;
        receiver.await.map_err(|_| anyhow!("the work on {host} panicked"))?
    }

    /// Imports the image archive at `path` into every node.
    pub fn import_image(&self, path: &Path) -> Result<()> {
        self.script(&["image", &path.to_string_lossy()])
    }

    /// Cuts the power of a node: its link and every process are gone at once.
    pub fn power_off(&self, node: Host) -> Result<()> {
        self.script(&["off", &node.to_string()])
    }

    /// Starts a node anew after its power was cut, and waits until it is ready.
    pub async fn power_on(&self, node: Host) -> Result<()> {
        let name = node.to_string();
        let heard = |object: &Value| -> Option<String> {
            let ready = object["status"]["conditions"].as_array()?.iter().find(|c| c["type"] == "Ready")?;
            (ready["status"] == "True").then(|| object["status"]["nodeInfo"]["bootID"].to_string())
        };
        self.script(&["on-again", &name])?;
        // The API server may not have noticed that it was away; its lease is renewed when it is back. A node whose object
        // was deleted has none.
        let renewed =
            || Some(self.get(&["lease", "--namespace", "kube-node-lease", &name]).ok()?["spec"]["renewTime"].clone());
        let before = renewed();
        wait::until(PATIENCE, &format!("node {name} to be ready"), || async {
            let lease = renewed();
            ensure!(lease.is_some() && lease != before, "its lease was not renewed");
            heard(&self.get(&["node", &name])?).context("it is not ready")
        })
        .await?;
        Ok(())
    }

    /// Ends a program of the control plane with SIGKILL.
    pub fn kill(&self, program: &str) -> Result<()> {
        self.script(&["kill", program])
    }

    /// Starts a program of the control plane again.
    pub fn start(&self, program: &str) -> Result<()> {
        self.script(&["start", program])
    }

    /// Starts the API server again after it was killed, and waits until the cluster works on as before.
    ///
    /// Controllers and scheduler wait up to a minute before they ask a server again that was away for long. That is no
    /// part of any scenario, so they are started anew.
    pub async fn revive_api_server(&self) -> Result<()> {
        self.start("kube-apiserver")?;
        wait::until(PATIENCE, "the API server to be back", || async { self.kubectl(&["get", "--raw", "/readyz"]) })
            .await?;
        for program in ["kube-controller-manager", "kube-scheduler"] {
            self.kill(program)?;
            self.start(program)?;
        }
        Ok(())
    }

    /// A namespace for one scenario.
    pub fn namespace(&self, name: &str) -> Result<Namespace<'_>> {
        // What an earlier failure left for somebody to look at is not wanted any more.
        self.kubectl(&["delete", "namespace", name, "--ignore-not-found"])?;
        self.kubectl(&["create", "namespace", name])?;
        Ok(Namespace { testbed: self, name: name.to_owned() })
    }

    /// Everything that helps to understand a failure in `namespace`: objects, Events, logs.
    pub fn dump(&self, namespace: &str) -> String {
        let say = |arguments: &[&str]| self.kubectl(arguments).unwrap_or_else(|error| format!("{error:#}\n"));
        let mut text = say(&["get", DUMPED, "--namespace", namespace, "-o", "wide", "--ignore-not-found"]);
        text += &say(&["describe", "services,ingresses,pods", "--namespace", namespace]);
        let pods = say(&["get", "pods", "--namespace", namespace, "-o", "name"]);
        for pod in pods.lines() {
            for part in ["--- log of ", pod, " in ", namespace, "\n"] {
                text += part;
            }
            text += &say(&["logs", "--namespace", namespace, pod, "--all-containers", "--tail", "100"]);
        }
        text
    }

    fn script(&self, arguments: &[&str]) -> Result<()> {
        let mut command = Command::new(&self.script);
        // What the script starts lives on and would hold a pipe open.
        let log = File::options().create(true).append(true).open(self.state.join("log/script.log"))?;
        command.args(arguments).stdin(Stdio::null()).stdout(log.try_clone()?).stderr(log);
        let status = command.env("LANDFALL_CLUSTER_STATE", &self.state).status()?;
        ensure!(status.success(), "cluster.sh {arguments:?}: {status}; see log/script.log of the cluster");
        Ok(())
    }

    /// kubectl as the administrator, for what runs on.
    pub fn kubectl_command(&self) -> Command {
        let mut command = Command::new(self.programs.join("kubectl"));
        // A cache in the home folder would be shared with the user's own clusters.
        command.arg("--kubeconfig").arg(self.kubeconfig()).arg("--cache-dir").arg(self.state.join("kubectl"));
        command
    }
}

fn namespace_of(host: Host) -> PathBuf {
    Path::new("/run/netns").join(format!("lc-{host}"))
}

/// A namespace that goes when its scenario has passed, and stays, described, when it has failed.
#[derive(Debug)]
pub struct Namespace<'a> {
    testbed: &'a Testbed,
    name: String,
}

impl Namespace<'_> {
    /// Its name.
    pub fn name(&self) -> &str {
        &self.name
    }

    /// `kubectl apply -f -` of `yaml` in it.
    pub fn apply(&self, yaml: &str) -> Result<()> {
        self.testbed.apply(&self.name, yaml)
    }

    /// Takes the outcome of the scenario: removes the namespace, or prints what is in it.
    pub fn conclude<T>(self, outcome: Result<T>) -> Result<T> {
        match &outcome {
            Ok(_) => drop(self.testbed.kubectl(&["delete", "namespace", &self.name, "--wait=false"])?),
            Err(error) => {
                println!("namespace {} is kept: {error:#}\n{}", self.name, self.testbed.dump(&self.name));
                println!("{}", self.testbed.dump(LANDFALL));
            }
        }
        outcome
    }
}

/// The namespace that the scenarios install Landfall into.
pub const LANDFALL: &str = "landfall-system";
