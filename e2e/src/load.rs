//! An open-loop load generator that knows what a client forgives and what it does not.
//!
//! Each [`Class`] of request is sent at a fixed rate, whether earlier ones were answered or not, and a latency counts
//! from the moment at which its request was planned. So a stall shows in every request that it delayed and not only
//! in the few that were under way (no coordinated omission).
//!
//! What a well-behaved client does without telling its user is done here too, and counted apart from failures:
//!
//! | what happens | what is done | counted as |
//! |---|---|---|
//! | a kept HTTP/1.1 connection was closed while idle | another connection | `closed_by_server` |
//! | it closes after an idempotent request was sent and before any byte of an answer (RFC 9112 §9.3.1) | asked again, once, on a new connection | `reopened` |
//! | GOAWAY or `REFUSED_STREAM` for a stream that was not processed (RFC 9113 §8.7) | asked again on a new connection | `reopened` |
//! | a WebSocket is closed with 1001 or 1012 (RFC 6455 §7.4.1) | opened again, unanswered messages are sent again | `reconnected` |
//!
//! Everything else that is not the right answer in time is a failure.

use std::collections::BTreeMap;
use std::fmt;
use std::net::SocketAddr;
use std::str::FromStr;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use anyhow::{Context, Error, Result, bail, ensure};
use serde::{Deserialize, Serialize};
use tokio::sync::watch;
use tokio::task::JoinSet;
use tokio::time::Instant;

use crate::tls::Trust;

mod answer;
mod failure;
mod fresh;
mod http2;
mod kept;
mod pace;
mod report;
mod tally;
mod websocket;

pub use failure::Kind;
pub use report::{ClassReport, Failed, Report};
use tally::Tally;

/// A class of request.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Class {
    /// HTTP/1.1 in the clear on kept connections.
    Http1,
    /// HTTP/1.1 in the clear on a new connection for each request.
    New,
    /// HTTP/2 in the clear with prior knowledge, many streams on few connections.
    H2c,
    /// HTTP/2 over TLS, many streams on few connections.
    H2,
    /// HTTP/1.1 over TLS with a full handshake for each request.
    Tls,
    /// Messages through WebSockets that stay open.
    Websocket,
    /// Unary gRPC calls: over TLS where the plan has a target for it.
    Grpc,
}

impl Class {
    /// All of them, in the order of reports.
    pub const ALL: [Self; 7] = [Self::Http1, Self::New, Self::H2c, Self::H2, Self::Tls, Self::Websocket, Self::Grpc];

    /// How it is written on the command line and in reports.
    pub fn name(self) -> &'static str {
        match self {
            Self::Http1 => "http1",
            Self::New => "new",
            Self::H2c => "h2c",
            Self::H2 => "h2",
            Self::Tls => "tls",
            Self::Websocket => "websocket",
            Self::Grpc => "grpc",
        }
    }
}

impl fmt::Display for Class {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(self.name())
    }
}

impl FromStr for Class {
    type Err = Error;

    fn from_str(text: &str) -> Result<Self> {
        let names = Self::ALL.map(Self::name).join(", ");
        Self::ALL.into_iter().find(|class| class.name() == text).with_context(|| format!("{text}: not one of {names}"))
    }
}

/// What is sent where, and how often.
#[derive(Clone, Debug)]
pub struct Plan {
    /// The host that requests and handshakes name.
    pub host: String,
    /// The path of requests that are neither WebSocket nor gRPC.
    pub path: String,
    /// Where plain connections go, in turn.
    pub http: Vec<SocketAddr>,
    /// Where TLS connections go, in turn.
    pub https: Vec<SocketAddr>,
    /// Whose certificates are trusted; needed with a target for TLS.
    pub trust: Option<Trust>,
    /// How many requests of a class are planned in each second.
    pub rates: BTreeMap<Class, u32>,
    /// How many connections `http1` and `websocket` keep.
    pub kept: usize,
    /// How many connections a class of HTTP/2 shares among its streams.
    pub shared: usize,
    /// How long a request may take, from the moment for which it was planned.
    pub timeout: Duration,
}

impl Plan {
    /// No requests yet, to `host` at `http`.
    pub fn new(host: &str, http: impl IntoIterator<Item = SocketAddr>) -> Self {
        Self {
            host: host.to_owned(),
            path: "/load".to_owned(),
            http: http.into_iter().collect(),
            https: Vec::new(),
            trust: None,
            rates: BTreeMap::new(),
            kept: 8,
            shared: 2,
            timeout: Duration::from_secs(10),
        }
    }

    /// With TLS at `https`.
    #[must_use]
    pub fn tls(mut self, https: impl IntoIterator<Item = SocketAddr>, trust: Trust) -> Self {
        self.https = https.into_iter().collect();
        self.trust = Some(trust);
        self
    }

    /// With `rate` requests of `class` in each second.
    #[must_use]
    pub fn rate(mut self, class: Class, rate: u32) -> Self {
        self.rates.insert(class, rate);
        self
    }

    /// Refuses a plan that can't be carried out.
    fn check(&self) -> Result<()> {
        ensure!(!self.rates.is_empty(), "no class of request has a rate");
        ensure!(self.kept > 0 && self.shared > 0, "no connections to send on");
        for (class, rate) in &self.rates {
            ensure!(*rate > 0, "{class}: a rate of 0");
            let (targets, scheme) = match self.scheme(*class) {
                Scheme::Http => (&self.http, "http"),
                Scheme::Https => (&self.https, "https"),
            };
            ensure!(!targets.is_empty(), "{class}: no target for {scheme}");
        }
        if !self.https.is_empty() && self.trust.is_none() {
            bail!("a target for https, but no certificate authority to trust");
        }
        Ok(())
    }

    fn scheme(&self, class: Class) -> Scheme {
        match class {
            Class::Http1 | Class::New | Class::H2c | Class::Websocket => Scheme::Http,
            Class::Grpc if self.https.is_empty() => Scheme::Http,
            Class::H2 | Class::Tls | Class::Grpc => Scheme::Https,
        }
    }
}

#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum Scheme {
    Http,
    Https,
}

/// One class of a plan that is being carried out.
struct Load {
    plan: Arc<Plan>,
    class: Class,
    scheme: Scheme,
    rate: u32,
    tally: Tally,
    turn: AtomicUsize,
}

impl Load {
    /// Where the next connection goes.
    fn target(&self) -> Option<SocketAddr> {
        let targets = match self.scheme {
            Scheme::Http => &self.plan.http,
            Scheme::Https => &self.plan.https,
        };
        let turn = self.turn.fetch_add(1, Ordering::Relaxed);
        targets.get(turn.checked_rem(targets.len())?).copied()
    }

    /// When a request that was planned for `planned` has taken too long.
    fn deadline(&self, planned: Instant) -> Instant {
        planned + self.plan.timeout
    }
}

/// Carries out `plan` until `stop` returns, then waits for what is under way.
pub async fn run(plan: Plan, stop: impl Future<Output = ()>) -> Result<Report> {
    plan.check()?;
    let plan = Arc::new(plan);
    let (stopping, stopped) = watch::channel(false);
    let mut report = Report::begin();
    let begun = Instant::now();
    let mut classes = JoinSet::new();
    for (class, rate) in plan.rates.clone() {
        let scheme = plan.scheme(class);
        let tally = Tally::new(begun);
        let load = Arc::new(Load { plan: Arc::clone(&plan), class, scheme, rate, tally, turn: AtomicUsize::new(0) });
        let stopped = stopped.clone();
        classes.spawn(async move {
            match class {
                Class::Http1 => pace::open_loop(&load, kept::Kept::open(&load).await, stopped).await,
                Class::New | Class::Tls => pace::open_loop(&load, fresh::Fresh(Arc::clone(&load)), stopped).await,
                Class::H2c | Class::H2 | Class::Grpc => {
                    pace::open_loop(&load, http2::Multiplexed::new(&load), stopped).await;
                }
                Class::Websocket => websocket::run(&load, stopped).await,
            }
            (class, load.tally.report())
        });
    }
    stop.await;
    stopping.send_replace(true);
    report.seconds = begun.elapsed().as_secs_f64();
    while let Some(ended) = classes.join_next().await {
        let (class, counted) = ended.context("a class of requests ended early")?;
        report.classes.insert(class, counted);
    }
    Ok(report)
}
