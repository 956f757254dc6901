//! Landfall beside nginx and, where it is installed, `HAProxy`: one run, one machine, one core for each of them.
//!
//! The proxies take turns under the same load. What is compared is processor time for each request, which the load
//! generator can't distort as it does requests per second, and resident memory.

mod idle;
mod load;
mod process;
mod proxy;
mod report;

use std::time::Duration;

use anyhow::{Context, Result, ensure};
use clap::Parser;

use crate::load::{Kind, Load, Round};
use crate::proxy::{Bench, GRPC_PATH, Proxy};
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
    /// How many idle TLS connections are held, one row for each number; 0 leaves memory out.
    #[arg(long, value_name = "N", value_delimiter = ',', default_values_t = [10_000])]
    connections: Vec<usize>,
    /// Only loads whose name contains this.
    #[arg(long, value_name = "TEXT", default_value = "")]
    only: String,
    /// Runs the ingress once more, with pingora as its engine.
    #[arg(long)]
    pingora: bool,
    /// Runs another build of the ingress as well, to compare with.
    #[arg(long, value_name = "PROGRAM")]
    before: Option<std::path::PathBuf>,
}

/// The loads, with the most that the ingress may take of what nginx takes.
const LOADS: &[Load] = &[
    Load { name: "HTTP/1.1 keep-alive", kind: Kind::Http1, path: "/", clients: 64, budget: Some(1.10) },
    Load { name: "HTTP/1.1 over TLS", kind: Kind::Tls1, path: "/", clients: 64, budget: None },
    Load { name: "HTTP/2 over TLS", kind: Kind::Tls2, path: "/", clients: 16, budget: None },
    Load { name: "full TLS handshake", kind: Kind::Handshakes, path: "/", clients: 400, budget: Some(0.60) },
    Load { name: "1 MiB body", kind: Kind::Http1, path: "/mib", clients: 16, budget: None },
    Load { name: "gRPC unary", kind: Kind::Grpc(10), path: GRPC_PATH, clients: 16, budget: Some(1.20) },
    Load { name: "gRPC unary, in turn", kind: Kind::Grpc(1), path: GRPC_PATH, clients: 1, budget: None },
    Load { name: "1 MiB body over TLS", kind: Kind::Tls1, path: "/mib", clients: 16, budget: None },
];

/// Budgets of resident memory, in bytes: idle, and with this many idle TLS connections. The latter is measured after
/// the loads, since a proxy that has worked is the one that users have.
const IDLE_BUDGET: f64 = 12e6;
const CONNECTIONS_BUDGET: (usize, f64) = (10_000, 150e6);

#[tokio::main(flavor = "current_thread")]
async fn main() -> Result<()> {
    let arguments = Arguments::parse();
    ensure!(arguments.rounds > 0, "--rounds must be at least 1");
    process::pin_this()?;
    let bench = Bench::new()?;
    let proxies = bench.start_all(arguments.pingora, arguments.before.as_deref()).await?;
    println!("{}", report::machine());
    let mut rows = Vec::new();
    let idle = proxies.iter().map(Proxy::memory).collect::<Result<Vec<_>>>()?;
    for load in LOADS.iter().filter(|load| load.name.contains(&arguments.only)) {
        rows.extend(under_load(load, &proxies, &arguments)?);
    }
    let held = arguments.connections.iter().filter(|count| **count > 0);
    if arguments.connections.iter().any(|count| *count > 0) {
        rows.push(memory_row("memory, idle", &idle, Some(IDLE_BUDGET)));
    }
    for count in held {
        let mut memory = Vec::new();
        for proxy in &proxies {
            memory.push(idle::hold(proxy, &bench.trust, *count).await.with_context(|| proxy.name)?);
        }
        let budget = (*count == CONNECTIONS_BUDGET.0).then_some(CONNECTIONS_BUDGET.1);
        rows.push(memory_row(&format!("memory, {count} idle TLS"), &memory, budget));
    }
    let names: Vec<_> = proxies.iter().map(|proxy| proxy.name).collect();
    print!("{}", report::table(&names, &rows));
    Ok(())
}

/// One load for each proxy in turn, again and again, so that whatever else the machine does meets them all.
fn under_load(load: &Load, proxies: &[Proxy], arguments: &Arguments) -> Result<[Row; 2]> {
    let length = Duration::from_secs(arguments.seconds);
    let mut rounds: Vec<Vec<Round>> = vec![Vec::new(); proxies.len()];
    for round in 0..=arguments.rounds {
        for (proxy, rounds) in proxies.iter().zip(&mut rounds) {
            // The first turn only warms up.
            let length = if round == 0 { Duration::from_secs(1) } else { length };
            let measured = load.run(proxy, length).with_context(|| format!("{}: {}", proxy.name, load.name))?;
            if round > 0 {
                rounds.push(measured);
            }
        }
    }
    let median = |of: fn(&Round) -> f64| -> Vec<f64> {
        rounds.iter().map(|rounds| report::median(rounds.iter().map(of).collect())).collect()
    };
    let cells = |values: Vec<f64>, decimals| values.into_iter().map(|value| Cell { value, decimals }).collect();
    Ok([
        Row::new(load.name, "CPU us/request", cells(median(|round| round.cpu_micros), 1)).budget_ratio(load.budget),
        Row::new("", "requests/s", cells(median(|round| round.per_second), 0)),
    ])
}

fn memory_row(name: &str, bytes: &[u64], budget: Option<f64>) -> Row {
    let cells = bytes.iter().map(|bytes| Cell { value: *bytes as f64 / 1e6, decimals: 1 }).collect();
    Row::new(name, "MB", cells).budget_value(budget.map(|bytes| bytes / 1e6))
}
