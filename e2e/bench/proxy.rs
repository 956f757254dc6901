//! The proxies and the backend behind them.

use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;

use anyhow::{Context, Result, ensure};
use landfall_e2e::client;
use landfall_e2e::manifests::{self, Folder};
use landfall_e2e::tls::Trust;
use landfall_e2e::{tools, wait};
use tempfile::TempDir;

use crate::process::{Core, Process};

/// The host of the certificate that `hack/quickstart-pki` makes.
pub(crate) const HOST: &str = "shop.localhost";
/// How long is waited for a program to answer.
const PATIENCE: Duration = Duration::from_secs(20);

/// A running proxy.
pub(crate) struct Proxy {
    pub(crate) name: &'static str,
    pub(crate) http: SocketAddr,
    pub(crate) https: SocketAddr,
    process: Process,
}

impl Proxy {
    /// Processor time used so far, in microseconds.
    pub(crate) fn cpu_micros(&self) -> Result<f64> {
        self.process.cpu_micros()
    }

    /// Resident memory in bytes.
    pub(crate) fn memory(&self) -> Result<u64> {
        self.process.memory()
    }
}

/// What all proxies share: the backend, the certificate and a folder for their files.
pub(crate) struct Bench {
    pub(crate) trust: Trust,
    backend: SocketAddr,
    manifests: Folder,
    folder: TempDir,
    _backend: Process,
}

impl Bench {
    /// Starts the backend and makes the certificate.
    pub(crate) fn new() -> Result<Self> {
        let (folder, manifests) = (TempDir::new()?, Folder::new()?);
        let script = tools::checkout().join("hack/quickstart-pki");
        tools::run(Command::new(script).arg(folder.path()).arg(manifests.path()))?;
        let [certificate, key] = ["tls.crt", "tls.key"].map(|name| std::fs::read_to_string(folder.path().join(name)));
        std::fs::write(folder.path().join("tls.pem"), certificate? + &key?)?;
        std::fs::write(folder.path().join("mib"), vec![b'x'; 1 << 20])?;
        let backend = free()?;
        let text = include_str!("backend.conf")
            .replace("@DIR@", &folder.path().display().to_string())
            .replace("@BACKEND@", &backend.port().to_string())
            .replace("@BODY@", &"x".repeat(1024));
        let process = nginx(folder.path(), "backend", &text, Core::Backend)?;
        let trust = Trust::from_file(&folder.path().join("ca.crt"))?;
        Ok(Self { trust, backend, manifests, folder, _backend: process })
    }

    /// Starts every proxy and waits until each answers.
    pub(crate) async fn start_all(&self) -> Result<Vec<Proxy>> {
        let mut proxies = vec![self.nginx()?];
        if on_path("haproxy") {
            proxies.push(self.haproxy()?);
        }
        proxies.push(self.landfall()?);
        for Proxy { name, http, process, .. } in &proxies {
            wait::until(PATIENCE, &format!("{name} to answer"), || async {
                let answer = client::get(*http, HOST, "/").await?;
                ensure!(answer.status == 200 && answer.body.len() == 1024, "{answer}");
                Ok(())
            })
            .await
            .with_context(|| process.log())?;
        }
        Ok(proxies)
    }

    fn nginx(&self) -> Result<Proxy> {
        let (http, https) = (free()?, free()?);
        let text = self.fill(include_str!("nginx.conf"), http, https);
        let process = nginx(self.folder.path(), "nginx", &text, Core::Proxy)?;
        Ok(Proxy { name: "nginx", http, https, process })
    }

    fn haproxy(&self) -> Result<Proxy> {
        let (http, https) = (free()?, free()?);
        let config = self.file("haproxy.cfg");
        std::fs::write(&config, self.fill(include_str!("haproxy.cfg"), http, https))?;
        let mut command = Command::new("haproxy");
        command.arg("-db").arg("-f").arg(config);
        let process = Process::start(&command, Core::Proxy, &self.file("haproxy.out"))?;
        Ok(Proxy { name: "haproxy", http, https, process })
    }

    fn landfall(&self) -> Result<Proxy> {
        let (http, https, admin) = (free()?, free()?, free()?);
        let ingress = manifests::ingress("shop", HOST, &[("/", "web")])
            .replace("  rules:", &format!("  tls: [{{hosts: [{HOST}], secretName: shop-tls}}]\n  rules:"));
        self.manifests.write("shop.yaml", &(ingress + &manifests::service("web", &[self.backend])))?;
        let mut command = Command::new(tools::program("landfall-ingress")?);
        // The others keep no access log either.
        command.args(["serve", "--workers", "1", "--no-access-log", "--manifests"]).arg(self.manifests.path());
        for (flag, addr) in [("--http", http), ("--https", https), ("--admin", admin)] {
            command.args([flag, &addr.to_string()]);
        }
        // There is nobody to be told of its leaving.
        command.env("LANDFALL_LAME_DUCK", "0").env("LANDFALL_DRAIN_TIMEOUT", "0");
        let process = Process::start(&command, Core::Proxy, &self.file("landfall.out"))?;
        Ok(Proxy { name: "landfall", http, https, process })
    }

    fn fill(&self, template: &str, http: SocketAddr, https: SocketAddr) -> String {
        let path = |name: &str| self.file(name).display().to_string();
        template
            .replace("@DIR@", &self.folder.path().display().to_string())
            .replace("@BACKEND@", &self.backend.port().to_string())
            .replace("@HTTP@", &http.port().to_string())
            .replace("@HTTPS@", &https.port().to_string())
            .replace("@CERTIFICATE@", &path("tls.crt"))
            .replace("@KEY@", &path("tls.key"))
            .replace("@PEM@", &path("tls.pem"))
    }

    fn file(&self, name: &str) -> PathBuf {
        self.folder.path().join(name)
    }
}

fn nginx(folder: &Path, name: &str, config: &str, core: Core) -> Result<Process> {
    let path = folder.join(format!("{name}.conf"));
    std::fs::write(&path, config)?;
    let mut command = Command::new("nginx");
    command.arg("-e").arg(folder.join(format!("{name}.log"))).arg("-p").arg(folder).arg("-c").arg(path);
    Process::start(&command, core, &folder.join(format!("{name}.out")))
}

fn on_path(program: &str) -> bool {
    let path = std::env::var_os("PATH").unwrap_or_default();
    std::env::split_paths(&path).any(|folder| folder.join(program).is_file())
}

fn free() -> Result<SocketAddr> {
    Ok(([127, 0, 0, 1], tools::free_port()?).into())
}
