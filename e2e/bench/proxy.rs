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
/// A call that the echo backend answers with its own message.
pub(crate) const GRPC_PATH: &str = "/landfall.Echo/Say";
/// Where WebSockets are taken, whose messages come back.
pub(crate) const SOCKET_PATH: &str = "/socket";
/// Routes of ingress-nginx's class that are compared, with their annotations; `@BACKEND@` is the backend's port.
const ROUTES: [(&str, &str, &[&str]); 3] = [
    ("plain", "/", &[]),
    (
        "ten annotations",
        "/app(/|$)(.*)",
        &[
            r#"ssl-redirect: "true""#,
            r#"force-ssl-redirect: "false""#,
            r#"use-regex: "true""#,
            "rewrite-target: /$2",
            "backend-protocol: HTTP",
            "proxy-body-size: 8m",
            r#"proxy-connect-timeout: "10""#,
            r#"proxy-read-timeout: "120""#,
            r#"proxy-send-timeout: "120""#,
            "whitelist-source-range: 10.0.0.0/8,127.0.0.0/8",
        ],
    ),
    (
        "asked once",
        "/",
        &[
            "auth-url: http://127.0.0.1:@BACKEND@/auth",
            "auth-cache-key: $http_user_agent",
            "auth-cache-duration: 200 10m",
        ],
    ),
];
/// How long is waited for a program to answer.
const PATIENCE: Duration = Duration::from_secs(20);

/// A running proxy.
pub(crate) struct Proxy {
    pub(crate) name: &'static str,
    pub(crate) http: SocketAddr,
    pub(crate) https: SocketAddr,
    /// Where it takes HTTP/2 in the clear.
    pub(crate) grpc: SocketAddr,
    folder: PathBuf,
    process: Process,
}

impl Proxy {
    /// A file that all loads share: `message` of a gRPC call, bodies by their size.
    pub(crate) fn file(&self, name: &str) -> PathBuf {
        self.folder.join(name)
    }

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
    calls: SocketAddr,
    manifests: Folder,
    folder: TempDir,
    _backends: [Process; 2],
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
        std::fs::write(folder.path().join("64k"), vec![b'x'; 64 << 10])?;
        // Not compressed, and 16 bytes long (gRPC over HTTP/2, "Length-Prefixed-Message").
        std::fs::write(folder.path().join("message"), [&[0, 0, 0, 0, 16], &[7; 16][..]].concat())?;
        let (backend, calls) = (free()?, free()?);
        let text = include_str!("backend.conf")
            .replace("@DIR@", &folder.path().display().to_string())
            .replace("@BACKEND@", &backend.port().to_string())
            .replace("@BODY@", &"x".repeat(1024));
        let pages = nginx(folder.path(), "backend", &text, Core::Backend)?;
        let mut echo = Command::new(tools::program("landfall-echo")?);
        echo.arg("serve").arg(format!("calls={calls}"));
        let echo = Process::start(&echo, Core::Backend, &folder.path().join("echo.out"))?;
        let trust = Trust::from_file(&folder.path().join("ca.crt"))?;
        Ok(Self { trust, backend, calls, manifests, folder, _backends: [pages, echo] })
    }

    /// Starts every proxy and waits until each answers.
    pub(crate) async fn start_all(&self, pingora: bool, before: Option<&Path>) -> Result<Vec<Proxy>> {
        let mut proxies = vec![self.nginx()?];
        if on_path("haproxy") {
            proxies.push(self.haproxy()?);
        }
        if on_path("caddy") {
            proxies.push(self.caddy()?);
        }
        let program = tools::program("landfall-ingress")?;
        if let Some(before) = before {
            proxies.push(self.landfall("before", before, &["--no-access-log"])?);
        }
        if pingora {
            proxies.push(self.landfall("pingora", &program, &["--no-access-log", "--engine", "pingora"])?);
        }
        proxies.push(self.landfall("with its log", &program, &[])?);
        proxies.push(self.landfall("landfall", &program, &["--no-access-log"])?);
        answering(&proxies, "/").await?;
        Ok(proxies)
    }

    /// The ingress with one route each.
    pub(crate) async fn start_routes(&self) -> Result<Vec<Proxy>> {
        let program = tools::program("landfall-ingress")?;
        let class = "---\napiVersion: networking.k8s.io/v1\nkind: IngressClass\nmetadata: {name: nginx}\n\
                     spec: {controller: k8s.io/ingress-nginx}\n";
        let mut proxies = Vec::new();
        for (name, path, annotations) in ROUTES {
            let prefix = "nginx.ingress.kubernetes.io/";
            let port = self.backend.port().to_string();
            let lines = annotations.iter().map(|one| format!("    {prefix}{}\n", one.replace("@BACKEND@", &port)));
            let annotations: String = lines.collect();
            let ingress = format!(
                "---\napiVersion: networking.k8s.io/v1\nkind: Ingress\nmetadata:\n  name: shop\n  annotations:\n{annotations}    example.com/a: b\n\
                 spec:\n  ingressClassName: nginx\n  rules:\n  - host: {HOST}\n    http: {{paths: [{{path: \"{path}\", \
                 pathType: ImplementationSpecific, backend: {{service: {{name: web, port: {{number: 80}}}}}}}}]}}\n"
            );
            let folder = self.file(&name.replace(' ', "-"));
            std::fs::create_dir(&folder)?;
            std::fs::write(
                folder.join("shop.yaml"),
                [class, &ingress, "---\n", &manifests::service("web", &[self.backend])].concat(),
            )?;
            proxies.push(self.serve(name, &program, &["--no-access-log"], &folder)?);
        }
        answering(&proxies, "/app/cart").await?;
        Ok(proxies)
    }

    fn nginx(&self) -> Result<Proxy> {
        let (http, https, grpc) = (free()?, free()?, free()?);
        let text = self.fill(include_str!("nginx.conf"), http, https, grpc);
        let process = nginx(self.folder.path(), "nginx", &text, Core::Proxy)?;
        Ok(Proxy { name: "nginx", http, https, grpc, folder: self.folder.path().to_owned(), process })
    }

    fn haproxy(&self) -> Result<Proxy> {
        let (http, https, grpc) = (free()?, free()?, free()?);
        let config = self.file("haproxy.cfg");
        std::fs::write(&config, self.fill(include_str!("haproxy.cfg"), http, https, grpc))?;
        let mut command = Command::new("haproxy");
        command.arg("-db").arg("-f").arg(config);
        let process = Process::start(&command, Core::Proxy, &self.file("haproxy.out"))?;
        Ok(Proxy { name: "haproxy", http, https, grpc, folder: self.folder.path().to_owned(), process })
    }

    fn caddy(&self) -> Result<Proxy> {
        let (http, https, grpc) = (free()?, free()?, free()?);
        let config = self.file("Caddyfile");
        std::fs::write(&config, self.fill(include_str!("Caddyfile"), http, https, grpc))?;
        let mut command = Command::new("caddy");
        command.args(["run", "--adapter", "caddyfile", "--config"]).arg(config);
        // One core, as the others have; its files stay with the rest.
        command.env("GOMAXPROCS", "1").env("HOME", self.folder.path()).env("XDG_DATA_HOME", self.folder.path());
        let process = Process::start(&command, Core::Proxy, &self.file("caddy.out"))?;
        Ok(Proxy { name: "caddy", http, https, grpc, folder: self.folder.path().to_owned(), process })
    }

    fn landfall(&self, name: &'static str, program: &Path, arguments: &[&str]) -> Result<Proxy> {
        let paths = [("/", "web"), ("/landfall.Echo", "calls"), (SOCKET_PATH, "sockets")];
        let ingress = manifests::ingress("shop", HOST, &paths)
            .replace("  rules:", &format!("  tls: [{{hosts: [{HOST}], secretName: shop-tls}}]\n  rules:"));
        let h2c = "port: 80, appProtocol: kubernetes.io/h2c}]}";
        let calls = manifests::service("calls", &[self.calls]).replace("port: 80}]}", h2c);
        let [web, sockets] =
            [("web", self.backend), ("sockets", self.calls)].map(|(name, addr)| manifests::service(name, &[addr]));
        self.manifests.write("shop.yaml", &(ingress + &web + &sockets + &calls))?;
        self.serve(name, program, arguments, self.manifests.path())
    }

    fn serve(&self, name: &'static str, program: &Path, arguments: &[&str], manifests: &Path) -> Result<Proxy> {
        let (http, https, admin) = (free()?, free()?, free()?);
        let mut command = Command::new(program);
        command.args(["serve", "--workers", "1"]).args(arguments).arg("--manifests").arg(manifests);
        for (flag, addr) in [("--http", http), ("--https", https), ("--admin", admin)] {
            command.args([flag, &addr.to_string()]);
        }
        // There is nobody to be told of its leaving.
        command.env("LANDFALL_LAME_DUCK", "0").env("LANDFALL_DRAIN_TIMEOUT", "0");
        let process = Process::start(&command, Core::Proxy, &self.file(&format!("{name}.out")))?;
        Ok(Proxy { name, http, https, grpc: http, folder: self.folder.path().to_owned(), process })
    }

    fn fill(&self, template: &str, http: SocketAddr, https: SocketAddr, grpc: SocketAddr) -> String {
        let path = |name: &str| self.file(name).display().to_string();
        template
            .replace("@DIR@", &self.folder.path().display().to_string())
            .replace("@BACKEND@", &self.backend.port().to_string())
            .replace("@HTTP@", &http.port().to_string())
            .replace("@HTTPS@", &https.port().to_string())
            .replace("@GRPC@", &grpc.port().to_string())
            .replace("@CALLS@", &self.calls.port().to_string())
            .replace("@CERTIFICATE@", &path("tls.crt"))
            .replace("@KEY@", &path("tls.key"))
            .replace("@PEM@", &path("tls.pem"))
    }

    fn file(&self, name: &str) -> PathBuf {
        self.folder.path().join(name)
    }
}

/// Waits until each answers.
async fn answering(proxies: &[Proxy], path: &str) -> Result<()> {
    for Proxy { name, http, process, .. } in proxies {
        wait::until(PATIENCE, &format!("{name} to answer"), || async {
            let answer = client::get(*http, HOST, path).await?;
            ensure!(answer.status == 200 && answer.body.len() == 1024, "{answer}");
            Ok(())
        })
        .await
        .with_context(|| process.log())?;
    }
    Ok(())
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
