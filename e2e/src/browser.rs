//! Chromium without a window, with a profile and a store of trusted roots of its own.

use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::Duration;

use anyhow::{Context, Result, bail, ensure};
use tempfile::TempDir;
use tokio::time::timeout;

use crate::tools;

/// How long a page may take, on machines under load.
const PATIENCE: Duration = Duration::from_secs(90);
/// Where Debian's Chromium reads policies.
const POLICIES: &str = "/etc/chromium/policies/managed";
/// What the program is called by Debian, by others and by Google.
const NAMES: [&str; 3] = ["chromium", "chromium-browser", "google-chrome"];

/// A browser that nobody has used before.
#[derive(Debug)]
pub struct Browser {
    home: TempDir,
    /// Which names lead where, as `--host-resolver-rules` has it.
    names: String,
    /// What is said to every browser of this machine, for as long as this one is there.
    policy: Option<Policy>,
}

/// A file that Chromium reads its policies from.
#[derive(Debug)]
struct Policy(PathBuf);

impl Drop for Policy {
    fn drop(&mut self) {
        let _ = std::fs::remove_file(&self.0);
    }
}

impl Browser {
    /// One to which these names, such as `*.home.arpa`, lead to loopback.
    pub fn new(names: &[&str]) -> Result<Self> {
        let names: Vec<String> = names.iter().map(|name| format!("MAP {name} 127.0.0.1")).collect();
        Ok(Self { home: TempDir::new()?, names: names.join(","), policy: None })
    }

    /// Has it trust a root, in the way that `landfall-ingress ca install` says.
    pub fn trust(&self, root: &Path) -> Result<()> {
        let folder = self.home.path().join(".pki/nssdb");
        std::fs::create_dir_all(&folder)?;
        let store = self.store();
        let certutil = || Command::new("certutil");
        tools::run(certutil().args(["-d", &store, "-N", "--empty-password"]))?;
        tools::run(certutil().args(["-d", &store, "-A", "-t", "C,,", "-n", "landfall", "-i"]).arg(root))?;
        Ok(())
    }

    /// Has it show a certificate of its own, a PKCS #12 file without a password, to `origin`. It must trust a root
    /// already. Without a person to choose one, only a policy makes it show any, and policies are the machine's, so
    /// this needs root.
    pub fn identify(&mut self, file: &Path, origin: &str) -> Result<()> {
        tools::run(Command::new("pk12util").args(["-d", &self.store(), "-W", "", "-i"]).arg(file))?;
        let folder = Path::new(POLICIES);
        let name = folder.join(format!("landfall-e2e-{}.json", std::process::id()));
        let choice = serde_json::json!({"pattern": origin, "filter": {}}).to_string();
        let policy = serde_json::json!({"AutoSelectCertificateForUrls": [choice]}).to_string();
        let written = std::fs::create_dir_all(folder).and_then(|()| std::fs::write(&name, policy));
        written.with_context(|| format!("{}: only root may write policies for Chromium", name.display()))?;
        self.policy = Some(Policy(name));
        Ok(())
    }

    fn store(&self) -> String {
        format!("sql:{}", self.home.path().join(".pki/nssdb").display())
    }

    /// The document at a URL once it was loaded; where the connection is not trusted, a page that says so.
    pub async fn document(&self, url: &str) -> Result<String> {
        let program = NAMES.into_iter().find(|name| is_there(name));
        let program = program.context("chromium: not runnable; `hack/deps browser` installs it")?;
        let mut command = tokio::process::Command::new(program);
        // In a container, and as root, there is no sandbox.
        command.args(["--headless", "--no-sandbox", "--disable-gpu", "--disable-dev-shm-usage", "--no-first-run"]);
        command.arg(format!("--user-data-dir={}", self.home.path().join("profile").display()));
        command.arg(format!("--host-resolver-rules={}", self.names)).args(["--dump-dom", url]);
        command.env("HOME", self.home.path()).stderr(Stdio::null()).kill_on_drop(true);
        let Ok(output) = timeout(PATIENCE, command.output()).await else {
            bail!("{program} has not loaded {url} in time")
        };
        let output = output?;
        ensure!(output.status.success(), "{program} {url}: {}", output.status);
        Ok(String::from_utf8_lossy(&output.stdout).into_owned())
    }
}

fn is_there(program: &str) -> bool {
    let asked = Command::new(program).arg("--version").stdout(Stdio::null()).stderr(Stdio::null()).status();
    asked.is_ok_and(|status| status.success())
}
