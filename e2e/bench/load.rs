//! Load by h2load, and what it cost the proxy.

use std::process::Command;
use std::time::Duration;

use anyhow::{Context, Result, ensure};
use landfall_e2e::tls::Trust;
use landfall_e2e::tools;

use crate::clients;
use crate::process::{Core, on_core};
use crate::proxy::{HOST, Proxy};

/// What clients do.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(crate) enum Kind {
    /// HTTP/1.1 in the clear on kept connections.
    Http1,
    /// HTTP/1.1 over TLS on kept connections.
    Tls1,
    /// HTTP/2 over TLS with ten requests under way on each connection.
    Tls2,
    /// A new TLS connection, never resumed, for each request.
    Handshakes,
    /// Unary gRPC calls in the clear, so many under way on each connection.
    Grpc(u32),
    /// Uploads over HTTP/1.1 in the clear on kept connections.
    Post(Upload),
    /// A new TLS connection for each request, which resumes a session.
    Resumed,
    /// Messages on WebSockets in the clear, each of which comes back.
    Messages,
}

/// What is sent.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(crate) enum Upload {
    /// 64 KiB.
    Small,
    /// 1 MiB.
    Large,
}

/// One kind of load.
pub(crate) struct Load {
    pub(crate) name: &'static str,
    pub(crate) kind: Kind,
    /// What is asked for: `/` is 1 KiB, `/mib` 1 MiB.
    pub(crate) path: &'static str,
    /// Connections at one time.
    pub(crate) clients: u32,
    /// The most that the ingress may use, as a ratio to nginx.
    pub(crate) budget: Option<f64>,
}

/// What one turn came to.
#[derive(Clone, Copy)]
pub(crate) struct Round {
    /// Processor time for each request.
    pub(crate) cpu_micros: f64,
    /// As fast as load generator, backend and proxy could do together.
    pub(crate) per_second: f64,
}

impl Load {
    /// Latencies in microseconds, from the fastest to the slowest, at `rate` requests a second for `length`.
    pub(crate) fn latencies(&self, proxy: &Proxy, rate: f64, length: Duration) -> Result<Vec<u64>> {
        let log = proxy.file("latencies");
        let mut command = self.command(proxy);
        // h2load takes the rate of one client, and no fractions.
        let each = (rate / f64::from(self.clients)).max(1.0).floor();
        command.arg(format!("--rps={each}")).arg("-D").arg(length.as_secs().to_string());
        command.arg(format!("--log-file={}", log.display())).args(self.target(proxy));
        let said = tools::run(&mut on_core(&command, Core::Load))?;
        answered(&said).with_context(|| said.clone())?;
        let lines = std::fs::read_to_string(&log)?;
        std::fs::remove_file(&log)?;
        let mut latencies = lines
            .lines()
            .map(|line| line.split('\t').nth(2).context("h2load's log has no duration")?.parse().map_err(Into::into))
            .collect::<Result<Vec<u64>>>()?;
        latencies.sort_unstable();
        ensure!(!latencies.is_empty(), "h2load's log is empty");
        Ok(latencies)
    }

    /// One turn of `length` for `proxy`. A request that fails is an error.
    pub(crate) async fn run(&self, proxy: &Proxy, trust: &Trust, length: Duration) -> Result<Round> {
        let begun = std::time::Instant::now();
        let before = proxy.cpu_micros()?;
        let mut requests = match self.kind {
            Kind::Resumed => clients::resumed(proxy, trust, self, length).await?,
            Kind::Messages => clients::messages(proxy, self, length).await?,
            _ => self.once(proxy, length)?,
        };
        // Handshakes come in batches, since h2load keeps its connections as long as it runs.
        while self.kind == Kind::Handshakes && begun.elapsed() < length {
            requests += self.once(proxy, length)?;
        }
        let used = proxy.cpu_micros()? - before;
        let requests = requests as f64;
        Ok(Round { cpu_micros: used / requests, per_second: requests / begun.elapsed().as_secs_f64() })
    }

    /// Runs h2load once; returns how many requests were answered.
    fn once(&self, proxy: &Proxy, length: Duration) -> Result<u64> {
        let mut command = self.command(proxy);
        match self.kind {
            Kind::Handshakes => command.args(["-n", &self.clients.to_string()]),
            _ => command.args(["-D", &length.as_secs().to_string()]),
        };
        command.args(self.target(proxy));
        let said = tools::run(&mut on_core(&command, Core::Load))?;
        answered(&said).with_context(|| said.clone())
    }

    /// h2load with the clients of this load.
    fn command(&self, proxy: &Proxy) -> Command {
        let mut command = Command::new("h2load");
        command.args(["-c", &self.clients.to_string()]);
        match self.kind {
            Kind::Tls2 => command.args(["-m", "10"]),
            Kind::Grpc(streams) => {
                command.args([
                    "-m",
                    &streams.to_string(),
                    "-H",
                    "content-type: application/grpc",
                    "-H",
                    "te: trailers",
                ]);
                command.arg("-d").arg(proxy.file("message"))
            }
            Kind::Post(Upload::Small) => command.arg("--h1").arg("-d").arg(proxy.file("64k")),
            Kind::Post(Upload::Large) => command.arg("--h1").arg("-d").arg(proxy.file("mib")),
            _ => command.arg("--h1"),
        };
        command
    }

    /// Where h2load is sent.
    fn target(&self, proxy: &Proxy) -> [String; 2] {
        let (scheme, addr) = match self.kind {
            Kind::Http1 | Kind::Post(_) => ("http", proxy.http),
            Kind::Grpc(_) => ("http", proxy.grpc),
            _ => ("https", proxy.https),
        };
        [format!("--connect-to={addr}"), format!("{scheme}://{HOST}{}", self.path)]
    }
}

/// The number of good answers in what h2load says, if all were good.
fn answered(said: &str) -> Result<u64> {
    let number = |start: &str, what: &str| -> Result<u64> {
        let line = said.lines().find_map(|line| line.strip_prefix(start)).context("h2load gave no counts")?;
        let part = line.split(',').find_map(|part| part.trim().strip_suffix(what));
        Ok(part.with_context(|| format!("no count of {what}"))?.trim().parse()?)
    };
    for what in ["failed", "errored", "timeout"] {
        ensure!(number("requests:", what)? == 0, "a request {what}");
    }
    for what in ["3xx", "4xx", "5xx"] {
        ensure!(number("status codes:", what)? == 0, "an answer was {what}");
    }
    let good = number("requests:", "succeeded")?;
    ensure!(good > 0, "nothing was answered");
    Ok(good)
}
