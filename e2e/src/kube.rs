//! A Kubernetes API server of the test's own: etcd and kube-apiserver on loopback, with no nodes.

use std::fs::File;
use std::io::Write;
use std::net::{IpAddr, UdpSocket};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::Duration;

use anyhow::{Context, Result, ensure};
use serde_json::Value;
use tempfile::TempDir;

use crate::{tools, wait};

/// How long the API server may take to become ready.
const PATIENCE: Duration = Duration::from_mins(1);

/// The version that is tested against.
const VERSION: &str = include_str!("../testbed/kube/version");

/// Which requests the audit log holds: each write of the status of an Ingress or a Service, once it is answered.
const AUDIT: &str = "apiVersion: audit.k8s.io/v1
kind: Policy
omitStages: [RequestReceived]
rules:
- {level: Metadata, verbs: [update, patch], resources: [{group: networking.k8s.io, resources: [ingresses/status]}]}
- {level: Metadata, verbs: [update, patch], resources: [{group: \"\", resources: [services/status]}]}
- {level: None}
";

/// A control plane; dropping it kills its processes and removes its state.
#[derive(Debug)]
pub struct Cluster {
    folder: TempDir,
    programs: PathBuf,
    ports: Ports,
    /// Where the API server is now.
    reached: u16,
    etcd: Child,
    api: Option<Child>,
}

#[derive(Clone, Copy, Debug)]
struct Ports {
    etcd: u16,
    etcd_peer: u16,
    api: u16,
}

impl Cluster {
    /// Starts one and waits until it is ready.
    pub async fn start() -> Result<Self> {
        let programs = programs()?;
        let folder = TempDir::new()?;
        let pki = tools::checkout().join("e2e/testbed/pki.sh");
        tools::run(Command::new(pki).arg(folder.path()))?;
        let ports = Ports { etcd: tools::free_port()?, etcd_peer: tools::free_port()?, api: tools::free_port()? };
        let etcd = start_etcd(&programs, folder.path(), ports)?;
        let mut cluster = Self { folder, programs, ports, reached: ports.api, etcd, api: None };
        cluster.write_kubeconfig("admin", "client-certificate: admin.crt, client-key: admin.key")?;
        cluster.start_api().await?;
        Ok(cluster)
    }

    /// Starts the API server again on the same port, and waits until it is ready.
    pub async fn start_api(&mut self) -> Result<()> {
        self.reached = self.ports.api;
        self.start_api_here().await
    }

    /// Starts the API server on another port, where only this test knows it, until it is killed.
    pub async fn start_api_elsewhere(&mut self) -> Result<()> {
        self.reached = tools::free_port()?;
        self.start_api_here().await
    }

    async fn start_api_here(&mut self) -> Result<()> {
        self.api = Some(start_api(&self.programs, self.folder.path(), self.ports.etcd, self.reached)?);
        wait::until(PATIENCE, "kube-apiserver to be ready", || async {
            self.kubectl(&["get", "--raw", "/readyz"]).map(drop)
        })
        .await
        .with_context(|| std::fs::read_to_string(self.folder.path().join("kube-apiserver.log")).unwrap_or_default())?;
        Ok(())
    }

    /// Kills the API server as a power failure would.
    pub fn kill_api(&mut self) -> Result<()> {
        let mut api = self.api.take().context("the API server does not run")?;
        api.kill()?;
        api.wait()?;
        Ok(())
    }

    /// The kubeconfig of a cluster administrator.
    pub fn kubeconfig(&self) -> PathBuf {
        self.folder.path().join("admin.kubeconfig")
    }

    /// A kubeconfig with a token of service account `namespace/name`: what a pod of it may do.
    pub fn kubeconfig_of(&self, namespace: &str, name: &str) -> Result<PathBuf> {
        let token = self.kubectl(&["create", "token", "-n", namespace, name])?;
        self.write_kubeconfig(name, &format!("token: {}", token.trim()))
    }

    /// Runs kubectl as the administrator.
    pub fn kubectl(&self, arguments: &[&str]) -> Result<String> {
        tools::run(self.command().args(arguments))
    }

    /// The object or list that `kubectl get` gives for `arguments`.
    pub fn get(&self, arguments: &[&str]) -> Result<Value> {
        Ok(serde_json::from_str(&tools::run(self.command().arg("get").args(arguments).args(["-o", "json"]))?)?)
    }

    /// `kubectl apply -f -` of `yaml`.
    pub fn apply(&self, yaml: &str) -> Result<()> {
        self.pipe(&["apply", "-f", "-"], yaml)
    }

    /// `kubectl create -f -` of `yaml`, for many objects: it reads nothing back.
    pub fn create(&self, yaml: &str) -> Result<()> {
        self.pipe(&["create", "-f", "-"], yaml)
    }

    /// `kubectl delete -f -` of `yaml`, at once.
    pub fn delete(&self, yaml: &str) -> Result<()> {
        self.pipe(&["delete", "-f", "-", "--grace-period=0", "--force"], yaml)
    }

    /// The URI of every write of a status that any API server of this cluster was asked for.
    pub fn audit(&self) -> Result<Vec<String>> {
        let log = std::fs::read_to_string(self.folder.path().join("audit.log"))?;
        let uri = |line: &str| Ok(serde_json::from_str::<Value>(line)?["requestURI"].as_str().map(str::to_owned));
        log.lines().filter_map(|line| uri(line).transpose()).collect()
    }

    fn pipe(&self, arguments: &[&str], yaml: &str) -> Result<()> {
        let mut command = self.command();
        command.args(arguments).stdin(Stdio::piped()).stdout(Stdio::null()).stderr(Stdio::piped());
        let mut child = command.spawn()?;
        child.stdin.take().context("a pipe was asked for")?.write_all(yaml.as_bytes())?;
        let output = child.wait_with_output()?;
        ensure!(output.status.success(), "kubectl {arguments:?}: {}", String::from_utf8_lossy(&output.stderr));
        Ok(())
    }

    fn command(&self) -> Command {
        let mut command = Command::new(self.programs.join("kubectl"));
        // A cache in the home folder would be shared with the user's own clusters.
        command.arg("--kubeconfig").arg(self.kubeconfig()).arg("--cache-dir").arg(self.folder.path().join("cache"));
        command.arg(format!("--server=https://127.0.0.1:{}", self.reached));
        command
    }

    fn write_kubeconfig(&self, name: &str, user: &str) -> Result<PathBuf> {
        let path = self.folder.path().join(format!("{name}.kubeconfig"));
        let yaml = format!(
            "apiVersion: v1\nkind: Config\ncurrent-context: testbed\n\
             clusters: [{{name: testbed, cluster: {{server: \"https://127.0.0.1:{}\", certificate-authority: ca.crt}}}}]\n\
             users: [{{name: testbed, user: {{{user}}}}}]\n\
             contexts: [{{name: testbed, context: {{cluster: testbed, user: testbed}}}}]\n",
            self.ports.api
        );
        std::fs::write(&path, yaml)?;
        Ok(path)
    }
}

impl Drop for Cluster {
    fn drop(&mut self) {
        // The state is thrown away, so nobody needs a clean end; kube-apiserver would take ten seconds for one.
        for child in self.api.iter_mut().chain([&mut self.etcd]) {
            let _ = child.kill();
            let _ = child.wait();
        }
    }
}

/// An address of this machine that is not loopback: the API server takes no loopback endpoint. What is sent to it
/// does not leave the machine.
pub fn own_address() -> Result<IpAddr> {
    // To connect a UDP socket chooses the source address and sends nothing.
    let socket = UdpSocket::bind("0.0.0.0:0")?;
    socket.connect("198.51.100.1:9").context("this machine has no address but loopback, and endpoints need one")?;
    Ok(socket.local_addr()?.ip())
}

fn programs() -> Result<PathBuf> {
    let folder = tools::cache()?.join("kube").join(VERSION.trim());
    ensure!(folder.join("kubectl").exists(), "{} has no kubectl: `make deps` builds it", folder.display());
    Ok(folder)
}

fn start_etcd(programs: &Path, folder: &Path, ports: Ports) -> Result<Child> {
    let url = |port| format!("http://127.0.0.1:{port}");
    let mut command = Command::new(programs.join("etcd"));
    command.args(["--name", "testbed", "--log-level", "warn", "--unsafe-no-fsync"]);
    command.arg("--data-dir").arg(folder.join("etcd"));
    for (flag, value) in [
        ("--listen-client-urls", url(ports.etcd)),
        ("--advertise-client-urls", url(ports.etcd)),
        ("--listen-peer-urls", url(ports.etcd_peer)),
        ("--initial-advertise-peer-urls", url(ports.etcd_peer)),
        ("--initial-cluster", format!("testbed={}", url(ports.etcd_peer))),
    ] {
        command.args([flag, &value]);
    }
    logged(command, folder, "etcd")
}

fn start_api(programs: &Path, folder: &Path, etcd: u16, port: u16) -> Result<Child> {
    std::fs::write(folder.join("audit.yaml"), AUDIT)?;
    let mut command = Command::new(programs.join("kube-apiserver"));
    command.current_dir(folder).args([
        &format!("--etcd-servers=http://127.0.0.1:{etcd}"),
        &format!("--secure-port={port}"),
        "--bind-address=127.0.0.1",
        "--tls-cert-file=apiserver.crt",
        "--tls-private-key-file=apiserver.key",
        "--client-ca-file=ca.crt",
        "--service-account-issuer=https://kubernetes.default.svc",
        "--service-account-key-file=sa.pub",
        "--service-account-signing-key-file=sa.key",
        "--service-cluster-ip-range=10.96.0.0/16",
        "--authorization-mode=RBAC",
        "--audit-policy-file=audit.yaml",
        "--audit-log-path=audit.log",
        // Without a controller manager nobody would make the service account that it insists on.
        "--disable-admission-plugins=ServiceAccount",
    ]);
    logged(command, folder, "kube-apiserver")
}

fn logged(mut command: Command, folder: &Path, name: &str) -> Result<Child> {
    let log = File::options().create(true).append(true).open(folder.join(format!("{name}.log")))?;
    let child = command.stdin(Stdio::null()).stdout(log.try_clone()?).stderr(log).spawn();
    child.with_context(|| format!("{name} is not runnable"))
}
