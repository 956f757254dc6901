//! The Ingress controller as a program: sources in, traffic through, status out.
//!
//! What an Ingress means is decided in `landfall_ingress_model`; here are the edges around it.

use std::sync::Arc;

use rustls::crypto::CryptoProvider;

pub mod acme;
mod anybody;
pub mod certs;
pub mod check;
pub mod cli;
pub mod control;
mod debug;
pub mod engine;
pub mod explain;
mod inputs;
mod lack;
mod limits;
pub mod listener;
pub mod migrate;
mod named;
pub mod observe;
mod publish;
pub mod resolve;
pub mod serve;
pub mod status;
mod stream;
mod uids;

/// The one TLS provider of this program: aws-lc-rs, with post-quantum key exchange preferred.
pub fn crypto_provider() -> Arc<CryptoProvider> {
    Arc::new(rustls::crypto::aws_lc_rs::default_provider())
}
