//! Landfall beside nginx and, where it is installed, `HAProxy`: one run, one machine, one core for each of them.
//!
//! The proxies take turns under the same load. What is compared is processor time for each request, which the load
//! generator can't distort as it does requests per second, latencies at one rate for all, and resident memory.

mod clients;
mod idle;
mod load;
mod process;
mod proxy;
mod report;

use std::time::Duration;

use anyhow::{Context, Result, ensure};
use clap::Parser;
use landfall_e2e::tls::Trust;

use crate::idle::Held;
use crate::load::{Kind, Load, Round, Upload};
use crate::proxy::{Bench, GRPC_PATH, Proxy, SOCKET_PATH};
use crate::report::{Cell, Row};

/// Compares the ingress with its elders, side by side.
#[derive(Parser)]
#[command(name = "landfall-bench", version)]
struct Arguments {
    /// How many times each proxy has its turn under each load; the medians are shown.
    #[arg(long, default_value_t = 3)]
    rounds: usize,
    /// How long each turn lasts.
    #[arg(long, value_name = "SECONDS", default_value_t = 1)]
    seconds: u64,
    /// How many idle connections are held of each kind; 0 leaves memory out.
    #[arg(long, value_name = "N", value_delimiter = ',', default_values_t = [10_000])]
    connections: Vec<usize>,
    /// Measures latencies, too: at 70 % of what nginx can do.
    #[arg(long)]
    latencies: bool,
    /// Writes the report here as well, as Markdown with a picture.
    #[arg(long, value_name = "FOLDER")]
    report: Option<std::path::PathBuf>,
    /// Only loads whose name contains this.
    #[arg(long, value_name = "TEXT", default_value = "")]
    only: String,
    /// Runs the ingress once more, with pingora as its engine.
    #[arg(long)]
    pingora: bool,
    /// Compares routes of ingress-nginx's class instead: a plain one, one with ten annotations, and one whose
    /// authentication service has been asked.
    #[arg(long)]
    routes: bool,
    /// Runs another build of the ingress as well, to compare with.
    #[arg(long, value_name = "PROGRAM")]
    before: Option<std::path::PathBuf>,
}

/// The loads, with the most that the ingress may take of what nginx takes.
const LOADS: &[Load] = &[
    Load { name: "HTTP/1.1 keep-alive", kind: Kind::Http1, path: "/", clients: 64, budget: Some(1.10) },
    Load { name: "HTTP/1.1 over TLS", kind: Kind::Tls1, path: "/", clients: 64, budget: Some(0.90) },
    Load { name: "HTTP/2 over TLS", kind: Kind::Tls2, path: "/", clients: 16, budget: Some(1.25) },
    Load { name: "full TLS handshake", kind: Kind::Handshakes, path: "/", clients: 400, budget: Some(0.60) },
    Load { name: "resumed TLS handshake", kind: Kind::Resumed, path: "/", clients: 4, budget: None },
    Load { name: "WebSocket message", kind: Kind::Messages, path: SOCKET_PATH, clients: 64, budget: Some(1.0) },
    Load { name: "1 MiB body", kind: Kind::Http1, path: "/mib", clients: 16, budget: Some(0.80) },
    Load { name: "1 MiB upload", kind: Kind::Post(Upload::Large), path: "/upload", clients: 16, budget: Some(0.80) },
    Load { name: "64 KiB upload", kind: Kind::Post(Upload::Small), path: "/upload", clients: 16, budget: None },
    Load { name: "gRPC unary", kind: Kind::Grpc(10), path: GRPC_PATH, clients: 16, budget: Some(1.20) },
    Load { name: "gRPC unary, in turn", kind: Kind::Grpc(1), path: GRPC_PATH, clients: 1, budget: None },
    Load { name: "1 MiB body over TLS", kind: Kind::Tls1, path: "/mib", clients: 16, budget: None },
];

/// What routes are compared under.
const ROUTES: &[Load] =
    &[Load { name: "route, HTTP/1.1", kind: Kind::Http1, path: "/app/cart", clients: 64, budget: None }];

/// Loads whose latencies are measured.
const TIMED: [&str; 2] = ["HTTP/1.1 keep-alive", "HTTP/2 over TLS"];
/// The part of nginx's rate at which latencies are measured.
const TIMED_RATE: f64 = 0.7;

/// Budgets of resident memory, in bytes: idle, and with this many idle connections. The latter is measured after the
/// loads, since a proxy that has worked is the one that users have.
const IDLE_BUDGET: f64 = 15e6;
const MANY: usize = 10_000;

#[tokio::main(flavor = "current_thread")]
async fn main() -> Result<()> {
    let arguments = Arguments::parse();
    ensure!(arguments.rounds > 0, "--rounds must be at least 1");
    process::pin_this()?;
    let bench = Bench::new()?;
    let (proxies, loads) = if arguments.routes {
        (bench.start_routes().await?, ROUTES)
    } else {
        (bench.start_all(arguments.pingora, arguments.before.as_deref()).await?, LOADS)
    };
    println!("{}", report::machine());
    let mut rows = Vec::new();
    let idle = proxies.iter().map(Proxy::memory).collect::<Result<Vec<_>>>()?;
    for load in loads.iter().filter(|load| load.name.contains(&arguments.only)) {
        let rounds = under_load(load, &proxies, &bench.trust, &arguments).await?;
        rows.extend(load_rows(load, &rounds));
        if arguments.latencies && TIMED.contains(&load.name) {
            let nginx = report::median(rounds.first().into_iter().flatten().map(|round| round.per_second).collect());
            rows.extend(latency_rows(load, &proxies, nginx * TIMED_RATE, &arguments)?);
        }
    }
    let counts: Vec<usize> = arguments.connections.iter().copied().filter(|count| *count > 0).collect();
    if !counts.is_empty() {
        rows.push(memory_row("memory, idle", &idle, Some(IDLE_BUDGET)));
    }
    for (held, count) in counts.iter().flat_map(|count| Held::ALL.map(|held| (held, *count))) {
        let mut memory = Vec::new();
        for proxy in &proxies {
            memory.push(idle::hold(proxy, &bench.trust, held, count).await.with_context(|| proxy.name)?);
        }
        rows.push(memory_row(&format!("{count} {}", held.name()), &memory, (count == MANY).then_some(held.budget())));
    }
    let names: Vec<_> = proxies.iter().map(|proxy| proxy.name).collect();
    print!("{}", report::table(&names, &rows));
    if let Some(folder) = &arguments.report {
        std::fs::create_dir_all(folder)?;
        std::fs::write(folder.join("bench.md"), report::markdown(&names, &rows))?;
        std::fs::write(folder.join("bench.svg"), report::picture(&names, &rows))?;
    }
    Ok(())
}

/// One load for each proxy in turn, again and again, so that whatever else the machine does meets them all.
async fn under_load(load: &Load, proxies: &[Proxy], trust: &Trust, arguments: &Arguments) -> Result<Vec<Vec<Round>>> {
    let length = Duration::from_secs(arguments.seconds);
    let mut rounds: Vec<Vec<Round>> = vec![Vec::new(); proxies.len()];
    for round in 0..=arguments.rounds {
        for (proxy, rounds) in proxies.iter().zip(&mut rounds) {
            // The first turn only warms up.
            let length = if round == 0 { Duration::from_secs(1) } else { length };
            let measured = load.run(proxy, trust, length).await;
            let measured = measured.with_context(|| format!("{}: {}", proxy.name, load.name))?;
            if round > 0 {
                rounds.push(measured);
            }
        }
    }
    Ok(rounds)
}

/// What the turns came to.
fn load_rows(load: &Load, rounds: &[Vec<Round>]) -> [Row; 2] {
    let median = |of: fn(&Round) -> f64| -> Vec<f64> {
        rounds.iter().map(|rounds| report::median(rounds.iter().map(of).collect())).collect()
    };
    let cells = |values: Vec<f64>, decimals| values.into_iter().map(|value| Cell { value, decimals }).collect();
    let cpu = cells(median(|round| round.cpu_micros), 1);
    [
        Row::new(load.name, "CPU us/request", cpu).budget_ratio(load.budget).spread(spread(rounds)),
        Row::new("", "requests/s", cells(median(|round| round.per_second), 0)),
    ]
}

/// The least and the greatest ratio of the last proxy to the first one, each in the same round.
fn spread(rounds: &[Vec<Round>]) -> Option<(f64, f64)> {
    let (reference, ours) = (rounds.first()?, rounds.last()?);
    let ratios = reference.iter().zip(ours).map(|(reference, ours)| ours.cpu_micros / reference.cpu_micros);
    ratios.fold(None, |all, ratio| {
        let (least, greatest) = all.unwrap_or((ratio, ratio));
        Some((ratio.min(least), ratio.max(greatest)))
    })
}

/// The median over the rounds of each percentile, at the same rate for all.
fn latency_rows(load: &Load, proxies: &[Proxy], rate: f64, arguments: &Arguments) -> Result<Vec<Row>> {
    let length = Duration::from_secs(arguments.seconds);
    let percentiles = [("p50 ms", 0.5), ("p99 ms", 0.99), ("p99.9 ms", 0.999)];
    let mut seen = vec![vec![Vec::new(); proxies.len()]; percentiles.len()];
    for _ in 0..arguments.rounds {
        for (index, proxy) in proxies.iter().enumerate() {
            let latencies = load.latencies(proxy, rate, length).with_context(|| proxy.name)?;
            for ((_, part), seen) in percentiles.iter().zip(&mut seen) {
                seen[index].push(report::percentile(&latencies, *part) as f64 / 1e3);
            }
        }
    }
    let rows = percentiles.into_iter().zip(seen).map(|((name, _), seen)| {
        let cells = seen.into_iter().map(|values| Cell { value: report::median(values), decimals: 2 }).collect();
        Row::new(&format!("  at {rate:.0}/s"), name, cells)
    });
    Ok(rows.collect())
}

fn memory_row(name: &str, bytes: &[u64], budget: Option<f64>) -> Row {
    let cells = bytes.iter().map(|bytes| Cell { value: *bytes as f64 / 1e6, decimals: 1 }).collect();
    Row::new(name, "MB", cells).budget_value(budget.map(|bytes| bytes / 1e6))
}
