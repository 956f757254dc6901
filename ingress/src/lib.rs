//! The Ingress controller as a program: sources in, traffic through, status out.
//!
//! What an Ingress means is decided in `landfall_ingress_model`; here are the edges around it.

use std::sync::Arc;

use landfall_ingress_model::policy::{Ciphers, TlsVersions};
use rustls::crypto::CryptoProvider;
use rustls::version::{TLS12, TLS13};
use rustls::{SupportedCipherSuite, SupportedProtocolVersion};

pub mod acme;
mod anybody;
pub mod balance;
pub mod ca;
pub mod certs;
pub mod check;
pub mod cli;
pub mod completions;
pub mod control;
mod debug;
pub mod echo;
pub mod engine;
pub mod explain;
mod inputs;
mod lack;
mod limits;
pub mod listener;
pub mod memory;
pub mod migrate;
mod named;
pub mod observe;
pub mod overview;
mod page;
mod publish;
pub mod replicas;
pub mod resolve;
pub mod serve;
pub mod status;
mod stream;
pub mod tail;
pub mod traces;
pub mod trial;
mod uids;

/// The provider with the cipher suites of a list alone, in its order; those of TLS 1.3 stay.
pub(crate) fn within(provider: &Arc<CryptoProvider>, ciphers: Option<&Ciphers>) -> Arc<CryptoProvider> {
    let Some(ciphers) = ciphers else { return provider.clone() };
    let mut limited = CryptoProvider::clone(provider);
    let place = |suite: &SupportedCipherSuite| match suite {
        // Before all others, as they are without a list.
        SupportedCipherSuite::Tls13(_) => Some(0),
        SupportedCipherSuite::Tls12(_) => ciphers.place(suite.suite().into()).map(|place| place + 1),
    };
    limited.cipher_suites.retain(|suite| place(suite).is_some());
    limited.cipher_suites.sort_by_key(place);
    Arc::new(limited)
}

/// The versions of TLS that are spoken.
pub(crate) fn protocol_versions(versions: TlsVersions) -> Vec<&'static SupportedProtocolVersion> {
    match versions {
        TlsVersions::All => vec![&TLS13, &TLS12],
        TlsVersions::Tls12 => vec![&TLS12],
        TlsVersions::Tls13 => vec![&TLS13],
    }
}

/// Runs a command that asks an API server or an admin port, prints something and ends.
pub(crate) fn once<T>(work: impl Future<Output = anyhow::Result<T>>) -> anyhow::Result<T> {
    // Fails only if somebody was faster, which is then the same provider.
    let _ = CryptoProvider::install_default((*crypto_provider()).clone());
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    let outcome = runtime.block_on(work);
    runtime.shutdown_background();
    outcome
}

/// The one TLS provider of this program: aws-lc-rs, with post-quantum key exchange preferred.
pub fn crypto_provider() -> Arc<CryptoProvider> {
    Arc::new(rustls::crypto::aws_lc_rs::default_provider())
}
