//! The announcer as a child process.

use std::fs::File;
use std::net::{Ipv4Addr, SocketAddr};
use std::process::{Child, Command};

use anyhow::{Context, Result, ensure};
use landfall_e2e::kube::Cluster;
use landfall_e2e::{client, tools, wait};
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use tempfile::TempDir;

use crate::scene::{NAMESPACE, PATIENCE};

/// A running controller or speaker; dropping it kills it, and shows the end of its log when the test failed.
pub(crate) struct Program {
    pub(crate) child: Child,
    pub(crate) admin: SocketAddr,
    log: TempDir,
}

impl Program {
    pub(crate) fn start(cluster: &Cluster, role: &str, name: &str, arguments: &[&str]) -> Result<Self> {
        let log = TempDir::new()?;
        let out = File::create(log.path().join("log"))?;
        let admin = SocketAddr::from((Ipv4Addr::LOCALHOST, tools::free_port()?));
        let mut command = Command::new(tools::program("landfall-lb-announcer")?);
        // The environment of whoever runs the tests must not change what they test.
        for (name, _) in std::env::vars_os() {
            let text = name.to_string_lossy();
            if text.starts_with("LANDFALL_") || text == "RUST_LOG" {
                command.env_remove(&name);
            }
        }
        command.arg(role).args(["--namespace", NAMESPACE, "--pod-name", name, "--admin", &admin.to_string()]);
        command.args(arguments).env("KUBECONFIG", cluster.kubeconfig_of(NAMESPACE, role)?);
        let child = command.stdout(out.try_clone()?).stderr(out).spawn()?;
        Ok(Self { child, admin, log })
    }

    /// Waits until `/readyz` says 200.
    pub(crate) async fn ready(self) -> Result<Self> {
        wait::until(PATIENCE, "/readyz", || async {
            let answer = client::get(self.admin, "admin", "/readyz").await?;
            ensure!(answer.status == 200, "{}", answer.text());
            Ok(())
        })
        .await?;
        Ok(self)
    }

    pub(crate) fn signal(&self, signal: Signal) -> Result<()> {
        Ok(kill(Pid::from_raw(i32::try_from(self.child.id())?), signal)?)
    }

    pub(crate) async fn ended(&mut self) -> Result<()> {
        let child = &mut self.child;
        wait::until(PATIENCE, "the program to end", || {
            let status = child.try_wait();
            async move { status?.context("it still runs") }
        })
        .await?;
        Ok(())
    }

    pub(crate) fn log(&self) -> String {
        std::fs::read_to_string(self.log.path().join("log")).unwrap_or_default()
    }

    pub(crate) async fn metrics(&self) -> Result<String> {
        Ok(client::get(self.admin, "admin", "/metrics").await?.text())
    }
}

impl Drop for Program {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
        if std::thread::panicking() {
            tools::print_end("a program", &self.log());
        }
    }
}

pub(crate) async fn controller(cluster: &Cluster, name: &str, arguments: &[&str]) -> Result<Program> {
    Program::start(cluster, "controller", name, arguments)?.ready().await
}
