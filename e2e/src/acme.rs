//! Let's Encrypt's ACME server for tests, with a DNS server of its own, and a router in front of replicas.

use std::net::{Ipv4Addr, SocketAddr};
use std::path::PathBuf;
use std::process::{Child, Command, Stdio};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use anyhow::{Context, Result, ensure};
use serde_json::{Value, json};
use tempfile::TempDir;
use tokio::io::copy_bidirectional;
use tokio::net::{TcpListener, TcpStream};

use crate::tls::Trust;
use crate::{tools, wait};

/// The version that is tested with; hack/deps builds it.
pub const VERSION: &str = "2.10.3";
const PATIENCE: Duration = Duration::from_secs(30);

/// The ACME server; dropping it kills both processes.
#[derive(Debug)]
pub struct Pebble {
    folder: TempDir,
    programs: PathBuf,
    settings: Value,
    environment: Vec<(String, String)>,
    /// Where the directory is.
    pub port: u16,
    management: u16,
    dns: u16,
    dns_management: u16,
    acme: Option<Child>,
    names: Option<Child>,
    /// Whether names are asked of somebody else's server.
    has_other_names: bool,
    /// What stands in front of it.
    front: Option<u16>,
}

impl Pebble {
    /// A server, not started yet, that asks for challenges at these ports. `more` is merged into its settings.
    pub fn new(http: u16, tls: u16, more: &Value) -> Result<Self> {
        let programs = tools::cache()?.join(format!("tools/pebble-{VERSION}"));
        ensure!(programs.join("pebble").exists(), "{} has no pebble: `make deps` builds it", programs.display());
        let folder = TempDir::new()?;
        let (key, certificate) = (folder.path().join("acme.key"), folder.path().join("acme.crt"));
        let mut make = Command::new("openssl");
        make.args(["req", "-x509", "-nodes", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256", "-days", "2"]);
        make.args(["-subj", "/CN=acme", "-addext", "subjectAltName=IP:127.0.0.1"]);
        // An authority is taken for no server, as RFC 5280 has it.
        make.args(["-addext", "basicConstraints=critical,CA:FALSE", "-keyout"]);
        tools::run(make.arg(&key).arg("-out").arg(&certificate))?;
        let [port, management, dns, dns_management] =
            [tools::free_port()?, tools::free_port()?, tools::free_port()?, tools::free_port()?];
        let mut settings = json!({
            "listenAddress": format!("127.0.0.1:{port}"), "managementListenAddress": format!("127.0.0.1:{management}"),
            "certificate": certificate, "privateKey": key, "httpPort": http, "tlsPort": tls,
            "keyAlgorithm": "ecdsa", "retryAfter": {"authz": 1, "order": 1},
            "profiles": {
                "default": {"description": "as ever", "validityPeriod": 7_776_000},
                "shortlived": {"description": "six days", "validityPeriod": 518_400},
            },
        });
        for (name, value) in more.as_object().into_iter().flatten() {
            settings[name] = value.clone();
        }
        let environment = vec![("PEBBLE_VA_NOSLEEP".into(), "1".into())];
        Ok(Self {
            folder,
            programs,
            settings,
            environment,
            port,
            management,
            dns,
            dns_management,
            acme: None,
            names: None,
            has_other_names: false,
            front: None,
        })
    }

    /// Sets one of its variables, such as the share of nonces that it refuses.
    #[must_use]
    pub fn env(mut self, name: &str, value: &str) -> Self {
        self.environment.push((name.to_owned(), value.to_owned()));
        self
    }

    /// Asks this server for names instead of its own.
    #[must_use]
    pub fn names_at(mut self, port: u16) -> Self {
        (self.dns, self.has_other_names) = (port, true);
        self
    }

    /// Is asked by way of this port from now on.
    #[must_use]
    pub fn behind(mut self, front: u16) -> Self {
        self.front = Some(front);
        self
    }

    /// The port of the DNS server, and the one that tells it what to answer.
    pub fn name_ports(&self) -> (u16, u16) {
        (self.dns, self.dns_management)
    }

    /// The arguments of an ingress that is to order from it.
    pub fn arguments(&self, http: u16, tls: u16) -> Vec<String> {
        let pairs = [
            ("--acme-directory", self.directory()),
            ("--acme-email", "me@example.com".to_owned()),
            ("--acme-ca", self.authority().display().to_string()),
            ("--acme-dns", format!("127.0.0.1:{}", self.dns)),
            ("--acme-http-port", http.to_string()),
            ("--acme-tls-port", tls.to_string()),
        ];
        let pairs = pairs.into_iter().flat_map(|(flag, value)| [flag.to_owned(), value]);
        pairs.chain(["--acme-accept-terms".to_owned()]).collect()
    }

    /// The URL of the directory.
    pub fn directory(&self) -> String {
        format!("https://127.0.0.1:{}/dir", self.front.unwrap_or(self.port))
    }

    /// The certificate that the directory's own TLS is verified by.
    pub fn authority(&self) -> PathBuf {
        self.folder.path().join("acme.crt")
    }

    /// Starts the DNS server, in which no name has an address yet.
    pub async fn start_names(&mut self) -> Result<()> {
        let mut command = Command::new(self.programs.join("pebble-challtestsrv"));
        command.args(["-dnsserver", &format!("127.0.0.1:{}", self.dns), "-defaultIPv4", "", "-defaultIPv6", ""]);
        command.args(["-management", &format!("127.0.0.1:{}", self.dns_management)]);
        command.args(["-http01", "", "-https01", "", "-tlsalpn01", "", "-doh", ""]);
        self.names = Some(self.spawn(command)?);
        let clear = json!({"host": "nobody.test"});
        wait::until(PATIENCE, "the DNS server", || async { self.post_names("clear-a", &clear) }).await?;
        Ok(())
    }

    /// Starts the server and waits until it answers.
    pub async fn start(&mut self) -> Result<()> {
        if self.names.is_none() && !self.has_other_names {
            self.start_names().await?;
        }
        let path = self.folder.path().join("pebble.json");
        std::fs::write(&path, json!({ "pebble": self.settings }).to_string())?;
        let mut command = Command::new(self.programs.join("pebble"));
        command.arg("-config").arg(path).args(["-dnsserver", &format!("127.0.0.1:{}", self.dns)]);
        command.envs(self.environment.iter().map(|(name, value)| (name, value)));
        self.acme = Some(self.spawn(command)?);
        wait::until(PATIENCE, "the ACME server", || async { self.root(0) }).await?;
        Ok(())
    }

    /// Kills it; its memory of accounts, orders and keys goes with it.
    pub fn stop(&mut self) {
        if let Some(mut child) = self.acme.take() {
            let _ = child.kill();
            let _ = child.wait();
        }
    }

    /// Gives these names the address 127.0.0.1.
    pub fn lead_here(&self, hosts: &[&str]) -> Result<()> {
        hosts.iter().try_for_each(|host| self.post_names("add-a", &json!({"host": host, "addresses": ["127.0.0.1"]})))
    }

    /// Says when a certificate is to be renewed.
    pub fn set_renewal(&self, certificate: &str, start: &str, end: &str) -> Result<()> {
        let answer = json!({"suggestedWindow": {"start": start, "end": end}}).to_string();
        let body = json!({"certificate": certificate, "ariResponse": answer}).to_string();
        let url = format!("https://127.0.0.1:{}/set-renewal-info/", self.management);
        tools::run(Command::new("curl").args(["-fsSk", "-d", &body, &url])).map(drop)
    }

    /// Gives every name that has no address of its own the address 127.0.0.1.
    pub fn lead_all_here(&self) -> Result<()> {
        self.post_names("set-default-ipv4", &json!({"ip": "127.0.0.1"}))
    }

    /// Trust in the authority that it issues by, which is another one after each start.
    pub fn trust(&self) -> Result<Trust> {
        self.trust_in(0)
    }

    /// The same for one of the alternate roots, which are counted from 1.
    pub fn trust_in(&self, root: usize) -> Result<Trust> {
        let path = self.folder.path().join(format!("root{root}.pem"));
        std::fs::write(&path, self.root(root)?)?;
        Trust::from_file(&path)
    }

    /// How many orders were under way at one time, at most: each is from when it was taken to its certificate.
    pub fn most_at_once(&self) -> usize {
        let (mut now, mut most) = (0_usize, 0);
        for line in self.log().lines() {
            if line.contains("Added order") {
                now += 1;
            } else if line.contains("Issued certificate serial") {
                now = now.saturating_sub(1);
            }
            most = most.max(now);
        }
        most
    }

    /// How often it was asked for something, such as `POST /order-plz`.
    pub fn asked(&self, what: &str) -> usize {
        self.log().lines().filter(|line| line.contains(what) && line.contains("calling handler()")).count()
    }

    /// How many orders it was asked for.
    pub fn orders(&self) -> usize {
        self.log().matches("Added order").count()
    }

    /// What both have logged.
    pub fn log(&self) -> String {
        std::fs::read_to_string(self.log_path()).unwrap_or_default()
    }

    /// One of the roots, in PEM.
    pub fn root(&self, number: usize) -> Result<String> {
        let url = format!("https://127.0.0.1:{}/roots/{number}", self.management);
        tools::run(Command::new("curl").args(["-fsSk", &url]))
    }

    /// Tells the DNS server what to answer.
    pub fn post_names(&self, what: &str, body: &Value) -> Result<()> {
        let url = format!("http://127.0.0.1:{}/{what}", self.dns_management);
        tools::run(Command::new("curl").args(["-fsS", "-d", &body.to_string(), &url])).map(drop)
    }

    fn log_path(&self) -> PathBuf {
        self.folder.path().join("acme.log")
    }

    fn spawn(&self, mut command: Command) -> Result<Child> {
        let log = std::fs::File::options().create(true).append(true).open(self.log_path())?;
        let child = command.stdin(Stdio::null()).stdout(log.try_clone()?).stderr(log).spawn();
        child.context("not runnable; `make deps` builds pebble")
    }
}

impl Drop for Pebble {
    fn drop(&mut self) {
        self.stop();
        if let Some(mut child) = self.names.take() {
            let _ = child.kill();
            let _ = child.wait();
        }
        if std::thread::panicking() {
            tools::print_end("pebble", &self.log());
        }
    }
}

/// Connects whoever comes to one of several replicas in turn, as a router in front of them does.
#[derive(Debug)]
pub struct Router {
    /// Where it listens.
    pub port: u16,
    targets: Arc<Mutex<Vec<SocketAddr>>>,
    taken: Arc<AtomicUsize>,
}

impl Router {
    /// One that leads nowhere yet.
    pub async fn start() -> Result<Self> {
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).await?;
        let port = listener.local_addr()?.port();
        let targets = Arc::<Mutex<Vec<SocketAddr>>>::default();
        let taken = Arc::new(AtomicUsize::new(0));
        let (known, turn) = (targets.clone(), taken.clone());
        tokio::spawn(async move {
            while let Ok((mut client, _)) = listener.accept().await {
                let all = known.lock().unwrap_or_else(PoisonError::into_inner).clone();
                let first = turn.fetch_add(1, Ordering::Relaxed);
                tokio::spawn(async move {
                    for index in 0..all.len() {
                        if let Ok(mut server) = TcpStream::connect(all[(first + index) % all.len()]).await {
                            let _ = copy_bidirectional(&mut client, &mut server).await;
                            return;
                        }
                    }
                });
            }
        });
        Ok(Self { port, targets, taken })
    }

    /// How many connections came so far, wherever they were led.
    pub fn connections(&self) -> usize {
        self.taken.load(Ordering::Relaxed)
    }

    /// Leads to these replicas from now on.
    pub fn lead_to(&self, targets: &[SocketAddr]) {
        *self.targets.lock().unwrap_or_else(PoisonError::into_inner) = targets.to_vec();
    }
}
