//! The load-balancer announcer: what surrounds the model.
//!
//! - [`cli`]: the command line.
//! - [`controller`], [`speaker`], [`standalone`], [`check`], [`who_has`], [`crds`], [`completions`]: the
//!   subcommands.
//! - [`edge`]: sockets, interfaces and clocks.
//! - [`wire`]: the thread that the protocol core runs on.
//! - [`inputs`]: which objects are read.
//! - [`report`], [`page`], [`metrics`]: what people see.
//! - `probe`: asking the LAN by ARP.
//! - `cluster`: what only the API server's users need.

pub mod check;
pub mod cli;
mod cluster;
pub mod completions;
pub mod controller;
pub mod crds;
pub mod edge;
pub mod inputs;
pub mod metrics;
mod moves;
pub mod page;
mod probe;
pub mod report;
pub mod speaker;
pub mod standalone;
mod subnets;
pub mod who_has;
pub mod wire;

use std::sync::Arc;

/// Makes the TLS provider that the client of the API server uses the one of the process.
pub(crate) fn install_crypto() {
    // A second installation finds the first one in place, which is the same.
    let _ = rustls::crypto::CryptoProvider::install_default(rustls::crypto::aws_lc_rs::default_provider());
}

/// The runtime of everything that isn't the protocol: one thread is plenty.
pub(crate) fn runtime() -> std::io::Result<tokio::runtime::Runtime> {
    tokio::runtime::Builder::new_current_thread().enable_all().build()
}

/// A text that many hold.
pub(crate) type Name = Arc<str>;

/// What reads from the API server logs each resource that it can't read, and this program says it once for all.
pub(crate) const QUIET: &str = "landfall_shared::source::kubernetes=off";
