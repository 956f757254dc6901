//! The load generator as a program, so that it can run in the network namespace of a client.

use std::io::Read;
use std::net::{IpAddr, SocketAddr};
use std::path::PathBuf;
use std::time::Duration;

use anyhow::{Context, Result, bail};
use clap::Parser;
use landfall_e2e::load::{self, Class, Plan};
use landfall_e2e::tls::Trust;
use nix::sys::resource::{Resource, getrlimit, setrlimit};
use tokio::signal::unix::{SignalKind, signal};

/// Sends requests at fixed rates and reports what became of each, as JSON.
///
/// Without a duration it ends when its standard input closes, or on SIGTERM.
#[derive(Parser)]
#[command(name = "landfall-load", version)]
struct Arguments {
    /// Where to connect, by turns; an address alone is ports 80 and 443 of it.
    #[arg(long = "target", required = true, value_name = "[http://|https://]ADDR[:PORT]", value_delimiter = ',')]
    targets: Vec<String>,
    /// The host that requests and handshakes name.
    #[arg(long, value_name = "NAME")]
    host: String,
    /// The path of requests that are neither WebSocket nor gRPC.
    #[arg(long, value_name = "PATH", default_value = "/load")]
    path: String,
    /// Trust the certificates in this PEM file; needed for classes over TLS.
    #[arg(long, value_name = "FILE")]
    ca: Option<PathBuf>,
    /// Requests in each second of a class (http1, new, h2c, h2, tls, websocket, grpc); repeatable.
    #[arg(long = "rate", required = true, value_name = "CLASS=N", value_delimiter = ',', value_parser = rate)]
    rates: Vec<(Class, u32)>,
    /// How many connections http1 and websocket keep.
    #[arg(long, value_name = "N", default_value_t = 8)]
    kept: usize,
    /// How many connections h2c, h2 and grpc share each.
    #[arg(long, value_name = "N", default_value_t = 2)]
    shared: usize,
    /// How long a request may take.
    #[arg(long, value_name = "SECONDS", default_value_t = 10.0)]
    timeout: f64,
    /// How long to plan requests for.
    #[arg(long, value_name = "SECONDS")]
    duration: Option<f64>,
    /// Write the report to this file instead of the standard output.
    #[arg(long, value_name = "FILE")]
    report: Option<PathBuf>,
}

fn rate(text: &str) -> Result<(Class, u32)> {
    let (class, rate) = text.split_once('=').context("write CLASS=N")?;
    Ok((class.parse()?, rate.parse()?))
}

// One thread: a few hundred requests a second need no more, and the machine has other things to do.
#[tokio::main(flavor = "current_thread")]
async fn main() -> Result<()> {
    let arguments = Arguments::parse();
    // Each request of a stalled second holds a connection.
    let (_, most) = getrlimit(Resource::RLIMIT_NOFILE)?;
    setrlimit(Resource::RLIMIT_NOFILE, most, most)?;
    let plan = plan(&arguments)?;
    let report = load::run(plan, stop(arguments.duration)?).await?;
    let text = serde_json::to_string_pretty(&report)?;
    if let Some(path) = &arguments.report {
        return std::fs::write(path, text + "\n").with_context(|| path.display().to_string());
    }
    println!("{text}");
    Ok(())
}

fn plan(arguments: &Arguments) -> Result<Plan> {
    let mut plan = Plan::new(&arguments.host, []);
    for target in &arguments.targets {
        let (http, https) = parse_target(target).with_context(|| format!("--target {target}"))?;
        plan.http.extend(http);
        plan.https.extend(https);
    }
    plan.path.clone_from(&arguments.path);
    plan.rates.extend(arguments.rates.iter().copied());
    plan.kept = arguments.kept;
    plan.shared = arguments.shared;
    plan.timeout = Duration::try_from_secs_f64(arguments.timeout).context("--timeout")?;
    match &arguments.ca {
        Some(path) => plan.trust = Some(Trust::from_file(path)?),
        // An address alone means both; without an authority only one of them can be meant.
        None if arguments.targets.iter().all(|target| !target.starts_with("https://")) => plan.https.clear(),
        None => bail!("a target for https needs --ca"),
    }
    Ok(plan)
}

/// Where plain and where TLS connections go.
fn parse_target(text: &str) -> Result<(Option<SocketAddr>, Option<SocketAddr>)> {
    if let Some(rest) = text.strip_prefix("http://") {
        return Ok((Some(address(rest, 80)?), None));
    }
    if let Some(rest) = text.strip_prefix("https://") {
        return Ok((None, Some(address(rest, 443)?)));
    }
    let ip: IpAddr = text.parse().context("with a port, say whether it is http:// or https://")?;
    Ok((Some((ip, 80).into()), Some((ip, 443).into())))
}

fn address(text: &str, port: u16) -> Result<SocketAddr> {
    if let Ok(address) = text.parse() {
        return Ok(address);
    }
    let ip: IpAddr = text.trim_start_matches('[').trim_end_matches(']').parse().context("not an address")?;
    Ok((ip, port).into())
}

/// Returns when the load is to end.
fn stop(duration: Option<f64>) -> Result<impl Future<Output = ()>> {
    let mut terminated = signal(SignalKind::terminate())?;
    let mut interrupted = signal(SignalKind::interrupt())?;
    let duration = duration.map(Duration::try_from_secs_f64).transpose().context("--duration")?;
    let (closing, closed) = tokio::sync::oneshot::channel();
    if duration.is_none() {
        // A thread of its own, since reading can't be broken off; it ends with the program.
        std::thread::spawn(move || {
            let _ = std::io::copy(&mut std::io::stdin().lock().by_ref(), &mut std::io::sink());
            let _ = closing.send(());
        });
    }
    Ok(async move {
        let over = async {
            match duration {
                Some(duration) => tokio::time::sleep(duration).await,
                None => drop(closed.await),
            }
        };
        tokio::select! {
            () = over => {}
            _ = terminated.recv() => {}
            _ = interrupted.recv() => {}
        }
    })
}
