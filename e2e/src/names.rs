//! Name servers that take updates, and a web hook in front of one that does not.

use std::net::Ipv4Addr;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use anyhow::{Context, Result, ensure};
use serde_json::{Value, json};
use tempfile::TempDir;
use tokio::io::{AsyncBufReadExt, AsyncReadExt, AsyncWriteExt, BufReader};
use tokio::net::{TcpListener, TcpStream};

use crate::{tools, wait};

const PATIENCE: Duration = Duration::from_secs(20);
/// The zone that the servers have; all names in it are at 127.0.0.1.
pub const ZONE: &str = "home.test";
/// The key that may change it, in Base64.
pub const KEY: &str = "bGFuZGZhbGwtdGVzdC1rZXktb2YtMzItYnl0ZXMtLi4=";

/// Which program.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Kind {
    /// Debian's bind9.
    Bind,
    /// Debian's knot.
    Knot,
}

/// A primary name server of [`ZONE`]; dropping it kills it and its secondary.
#[derive(Debug)]
pub struct NameServer {
    folder: TempDir,
    /// At 127.0.0.1; the secondary has the same at 127.0.0.2.
    pub port: u16,
    children: Vec<Child>,
}

impl NameServer {
    /// Starts one; the key `landfall` may change TXT records, the key `stranger` may change nothing.
    pub async fn start(kind: Kind, has_secondary: bool) -> Result<Self> {
        let folder = TempDir::new()?;
        let mut server = Self { folder, port: tools::free_port()?, children: Vec::new() };
        let second =
            if has_secondary { format!("{ZONE}. NS ns2.{ZONE}.\nns2.{ZONE}. A 127.0.0.2\n") } else { String::new() };
        let zone = format!(
            "$TTL 60\n{ZONE}. SOA ns1.{ZONE}. root.{ZONE}. 1 2 2 3600 1\n{ZONE}. NS ns1.{ZONE}.\n\
             ns1.{ZONE}. A 127.0.0.1\n{ZONE}. A 127.0.0.1\n*.{ZONE}. A 127.0.0.1\n{second}"
        );
        std::fs::create_dir_all(server.path("primary"))?;
        std::fs::write(server.path("primary/zone"), zone)?;
        match kind {
            Kind::Bind => server.bind()?,
            Kind::Knot => server.knot()?,
        }
        if has_secondary {
            server.secondary()?;
        }
        let (at, secondary) = (server.port, if has_secondary { "127.0.0.2" } else { "127.0.0.1" });
        wait::until(PATIENCE, "the name servers", || async move {
            for address in ["127.0.0.1", secondary] {
                TcpStream::connect((address, at)).await?;
            }
            Ok(())
        })
        .await?;
        Ok(server)
    }

    /// What they have logged.
    pub fn log(&self) -> String {
        std::fs::read_to_string(self.path("log")).unwrap_or_default()
    }

    fn path(&self, name: &str) -> PathBuf {
        self.folder.path().join(name)
    }

    /// One of the programs that hack/deps has unpacked, with their libraries.
    fn program(name: &str) -> Result<Command> {
        let tools = tools::cache()?.join("tools");
        let folders = std::fs::read_dir(&tools).into_iter().flatten().flatten().map(|entry| entry.path());
        let is_whole = |folder: &PathBuf| {
            let name = folder.file_name().map(std::ffi::OsStr::to_string_lossy).unwrap_or_default();
            name.starts_with("names-") && folder.extension().is_none_or(|extension| extension != "new")
        };
        let newest = folders.filter(is_whole).max();
        let folder = newest.with_context(|| format!("{} has no {name}: `make deps` fetches it", tools.display()))?;
        let libraries = std::fs::read_dir(folder.join("usr/lib"))?.flatten().map(|entry| entry.path());
        let mut command = Command::new(folder.join("usr/sbin").join(name));
        command.env("LD_LIBRARY_PATH", std::env::join_paths(libraries)?);
        Ok(command)
    }

    fn bind(&mut self) -> Result<()> {
        let keys = ["landfall", "stranger"]
            .map(|name| format!("key \"{name}\" {{ algorithm hmac-sha256; secret \"{KEY}\"; }};"))
            .join("\n");
        let policy =
            format!("grant landfall subdomain _acme-challenge.{ZONE}. TXT; grant landfall wildcard *.{ZONE}. TXT;");
        // No news to the secondary, so that it has to look by itself.
        let zone = format!("type primary; file \"zone\"; notify no; update-policy {{ {policy} }};");
        self.named(&keys, &zone)
    }

    /// Knot whatever the primary is: BIND listens at the addresses that an interface has, of which 127.0.0.2 is none.
    fn secondary(&mut self) -> Result<()> {
        let folder = self.path("secondary");
        std::fs::create_dir_all(&folder)?;
        let text = format!(
            "server:\n  rundir: \"{0}\"\n  listen: 127.0.0.2@{1}\n  udp-workers: 1\n  tcp-workers: 1\n  \
             background-workers: 1\ndatabase:\n  storage: \"{0}\"\nremote:\n  - id: primary\n    \
             address: 127.0.0.1@{1}\nzone:\n  - domain: {ZONE}\n    storage: \"{0}\"\n    master: primary\n    \
             refresh-min-interval: 5\n    refresh-max-interval: 5\n",
            folder.display(),
            self.port
        );
        self.knotd(&folder, text)
    }

    fn named(&mut self, keys: &str, zone: &str) -> Result<()> {
        let folder = self.path("primary");
        let port = self.port;
        let text = format!(
            "options {{ directory \"{0}\"; pid-file none; listen-on port {port} {{ 127.0.0.1; }}; listen-on-v6 {{ none; }}; \
             recursion no; session-keyfile none; dnssec-validation no; allow-transfer {{ any; }}; }};\ncontrols {{ }};\n\
             {keys}\nzone \"{ZONE}\" {{ {zone} }};\n",
            folder.display()
        );
        let path = folder.join("named.conf");
        std::fs::write(&path, text)?;
        let mut command = Self::program("named")?;
        command.arg("-g").arg("-c").arg(path).args(["-n", "1"]);
        self.spawn(command, "named")
    }

    fn knot(&mut self) -> Result<()> {
        let folder = self.path("primary");
        std::fs::copy(folder.join("zone"), folder.join(format!("{ZONE}.zone")))?;
        let text = format!(
            "server:\n  rundir: \"{0}\"\n  listen: 127.0.0.1@{1}\n  udp-workers: 1\n  tcp-workers: 1\n  \
             background-workers: 1\ndatabase:\n  storage: \"{0}\"\nkey:\n  - id: landfall\n    algorithm: hmac-sha256\n    \
             secret: {KEY}\n  - id: stranger\n    algorithm: hmac-sha256\n    secret: {KEY}\nacl:\n  - id: update\n    \
             key: landfall\n    action: update\n  - id: transfer\n    address: 127.0.0.0/8\n    action: transfer\n\
             zone:\n  - domain: {ZONE}\n    storage: \"{0}\"\n    acl: [update, transfer]\n",
            folder.display(),
            self.port
        );
        self.knotd(&folder, text)
    }

    fn knotd(&mut self, folder: &Path, text: String) -> Result<()> {
        let path = folder.join("knot.conf");
        std::fs::write(&path, text)?;
        let mut command = Self::program("knotd")?;
        command.arg("-c").arg(path);
        self.spawn(command, "knotd")
    }

    fn spawn(&mut self, mut command: Command, what: &'static str) -> Result<()> {
        let log = std::fs::File::options().create(true).append(true).open(self.path("log"))?;
        let child = command.stdin(Stdio::null()).stdout(log.try_clone()?).stderr(log).spawn();
        self.children.push(child.context(what)?);
        Ok(())
    }
}

impl Drop for NameServer {
    fn drop(&mut self) {
        for child in &mut self.children {
            let _ = child.kill();
            let _ = child.wait();
        }
        if std::thread::panicking() {
            tools::print_end("name servers", &self.log());
        }
    }
}

/// What a web hook was asked for.
#[derive(Clone, Debug, Default)]
pub struct Asked {
    /// What stands there now: name and value.
    pub there: Vec<(String, String)>,
    /// The most values that one name has had at a time.
    pub most: usize,
    /// How often it was asked to set one.
    pub presented: usize,
}

/// A web hook that tells pebble's DNS server.
#[derive(Debug)]
pub struct Hook {
    /// Its URL.
    pub url: String,
    asked: Arc<Mutex<Asked>>,
}

impl Hook {
    /// Starts one that tells the server with this port for its management; without one, nothing is ever seen.
    pub async fn start(management: Option<u16>) -> Result<Self> {
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).await?;
        let url = format!("http://{}/hook", listener.local_addr()?);
        let asked = Arc::<Mutex<Asked>>::default();
        let noted = asked.clone();
        tokio::spawn(async move {
            while let Ok((stream, _)) = listener.accept().await {
                if let Err(error) = serve(stream, &noted, management).await {
                    tools::print_end("web hook", &format!("{error:#}"));
                }
            }
        });
        Ok(Self { url, asked })
    }

    /// What it was asked for.
    pub fn asked(&self) -> Asked {
        self.asked.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }
}

async fn serve(stream: TcpStream, asked: &Mutex<Asked>, management: Option<u16>) -> Result<()> {
    let mut stream = BufReader::new(stream);
    let (mut first, mut length) = (String::new(), 0);
    stream.read_line(&mut first).await?;
    loop {
        let mut line = String::new();
        stream.read_line(&mut line).await?;
        let Some((name, value)) = line.trim().split_once(": ") else { break };
        if name.eq_ignore_ascii_case("content-length") {
            length = value.parse()?;
        }
    }
    let mut body = vec![0; length];
    stream.read_exact(&mut body).await?;
    let body: Value = serde_json::from_slice(&body)?;
    let text = |field: &str| body[field].as_str().unwrap_or_default().to_owned();
    let (name, value) = (text("fqdn"), text("value"));
    let values: Vec<String> = {
        let mut asked = asked.lock().unwrap_or_else(PoisonError::into_inner);
        asked.there.retain(|known| *known != (name.clone(), value.clone()));
        if first.starts_with("POST /hook/present ") {
            asked.there.push((name.clone(), value));
            asked.presented += 1;
        }
        let values: Vec<String> =
            asked.there.iter().filter(|(known, _)| *known == name).map(|(_, value)| value.clone()).collect();
        asked.most = asked.most.max(values.len());
        values
    };
    if let Some(port) = management {
        tell(port, "clear-txt", &json!({"host": name}))?;
        for value in values {
            tell(port, "set-txt", &json!({"host": name, "value": value}))?;
        }
    }
    stream.write_all(b"HTTP/1.1 200 OK\r\ncontent-length: 0\r\n\r\n").await?;
    Ok(())
}

fn tell(port: u16, what: &str, body: &Value) -> Result<()> {
    let url = format!("http://127.0.0.1:{port}/{what}");
    let said = tools::run(Command::new("curl").args(["-sS", "-d", &body.to_string(), &url]))?;
    ensure!(!said.contains("rror"), "{said}");
    Ok(())
}
