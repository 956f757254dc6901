//! `landfall-ingress serve` as a child process.

use std::fs::File;
use std::net::{Ipv4Addr, SocketAddr};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitStatus};
use std::time::Duration;

use anyhow::{Context, Result, bail, ensure};
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use serde_json::Value;
use tempfile::TempDir;

use crate::client::{self, Answer};
use crate::{tools, wait};

/// How long a start may take before a test gives up; far above every budget, for machines under load.
const PATIENCE: Duration = Duration::from_secs(30);

/// A running ingress; dropping it kills it, and shows the end of its log when the test failed.
#[derive(Debug)]
pub struct Ingress {
    /// Where it takes HTTP.
    pub http: SocketAddr,
    /// Where it takes HTTPS.
    pub https: SocketAddr,
    /// Its admin port.
    pub admin: SocketAddr,
    child: Child,
    log: PathBuf,
    _folder: TempDir,
}

/// How to start one.
#[derive(Debug)]
pub struct Launch {
    arguments: Vec<String>,
    environment: Vec<(String, String)>,
    /// The limit of open files.
    files: Option<usize>,
}

impl Launch {
    /// From a folder of manifests.
    pub fn manifests(folder: &Path) -> Self {
        Self {
            arguments: vec!["--manifests".into(), folder.display().to_string()],
            environment: Vec::new(),
            files: None,
        }
    }

    /// From the API server that a kubeconfig names.
    pub fn kubeconfig(path: &Path) -> Self {
        Self {
            arguments: Vec::new(),
            environment: vec![("KUBECONFIG".into(), path.display().to_string())],
            files: None,
        }
    }

    /// Adds arguments.
    #[must_use]
    pub fn args(mut self, arguments: &[&str]) -> Self {
        self.arguments.extend(arguments.iter().map(ToString::to_string));
        self
    }

    /// Adds an environment variable.
    #[must_use]
    pub fn env(mut self, name: &str, value: &str) -> Self {
        self.environment.push((name.to_owned(), value.to_owned()));
        self
    }

    /// Limits its open files.
    #[must_use]
    pub fn files(mut self, most: usize) -> Self {
        self.files = Some(most);
        self
    }

    /// Starts it without waiting.
    pub fn spawn(self) -> Result<Ingress> {
        let folder = TempDir::new()?;
        let log = folder.path().join("log");
        let [http, https, admin] = [free()?, free()?, free()?];
        let out = File::create(&log)?;
        let program = tools::program("landfall-ingress")?;
        let mut command = match self.files {
            Some(most) => {
                // A shell sets the limit and becomes the program.
                let mut shell = Command::new("sh");
                shell.args(["-c", &format!("ulimit -n {most} && exec \"$0\" \"$@\"")]).arg(program);
                shell
            }
            None => Command::new(program),
        };
        // The environment of whoever runs the tests must not change what they test.
        for (name, _) in std::env::vars_os().filter(|(name, _)| name.to_string_lossy().starts_with("LANDFALL_")) {
            command.env_remove(name);
        }
        command.arg("serve").args(self.arguments).envs(self.environment);
        for (flag, addr) in [("--http", http), ("--https", https), ("--admin", admin)] {
            command.args([flag, &addr.to_string()]);
        }
        let child = command.stdout(out.try_clone()?).stderr(out).spawn()?;
        Ok(Ingress { http, https, admin, child, log, _folder: folder })
    }

    /// Starts it and waits until it is ready.
    pub async fn start(self) -> Result<Ingress> {
        let mut ingress = self.spawn()?;
        ingress.ready(PATIENCE).await?;
        Ok(ingress)
    }
}

impl Ingress {
    /// Waits until `/readyz` says 200; returns how long that took.
    pub async fn ready(&mut self, limit: Duration) -> Result<Duration> {
        let (admin, child) = (self.admin, &mut self.child);
        let ((), took) = wait::until(limit, "/readyz", || {
            // One that has ended will never be ready: say so at once.
            let ended = child.try_wait().ok().flatten();
            async move {
                if let Some(status) = ended {
                    return Ok(Err(status));
                }
                let answer = client::get(admin, "admin", "/readyz").await?;
                ensure!(answer.status == 200, "{}", answer.text());
                Ok(Ok(()))
            }
        })
        .await
        .and_then(|(outcome, took)| match outcome {
            Ok(()) => Ok(((), took)),
            Err(status) => bail!("landfall-ingress ended with {status}"),
        })?;
        Ok(took)
    }

    /// One GET on a connection of its own.
    pub async fn get(&self, host: &str, path: &str) -> Result<Answer> {
        client::get(self.http, host, path).await
    }

    /// `GET /status` of the admin port.
    pub async fn status(&self) -> Result<Value> {
        Ok(serde_json::from_slice(&client::get(self.admin, "admin", "/status").await?.body)?)
    }

    /// Waits until a GET answers with `status` and, unless `backend` is empty, from that echo backend.
    pub async fn answers(&self, host: &str, path: &str, status: u16, backend: &str) -> Result<Duration> {
        let ((), took) = wait::until(PATIENCE, &format!("{host}{path} to answer {status} {backend}"), || async {
            let answer = self.get(host, path).await?;
            let right = answer.status == status && (backend.is_empty() || answer.backend() == backend);
            ensure!(right, "{answer}");
            Ok(())
        })
        .await?;
        Ok(took)
    }

    /// The id of the process.
    pub fn pid(&self) -> u32 {
        self.child.id()
    }

    /// What it has logged so far.
    pub fn log(&self) -> String {
        std::fs::read_to_string(&self.log).unwrap_or_default()
    }

    /// Sends a signal.
    pub fn signal(&self, signal: Signal) -> Result<()> {
        Ok(kill(Pid::from_raw(i32::try_from(self.child.id())?), signal)?)
    }

    /// Waits until the process has ended.
    pub async fn ended(&mut self, limit: Duration) -> Result<(ExitStatus, Duration)> {
        let child = &mut self.child;
        wait::until(limit, "the process to end", || {
            let status = child.try_wait();
            async move { status?.context("it still runs") }
        })
        .await
    }
}

impl Drop for Ingress {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
        if std::thread::panicking() {
            tools::print_end("landfall-ingress", &self.log());
        }
    }
}

fn free() -> Result<SocketAddr> {
    Ok((Ipv4Addr::LOCALHOST, tools::free_port()?).into())
}
