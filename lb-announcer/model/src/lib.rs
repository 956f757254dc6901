//! The load-balancer announcer's decisions.
//!
//! Everything here is pure: no input or output, no clock, no randomness.
//!
//! - [`crd`]: the custom resources.
//! - [`address`], [`selector`], [`pool`], [`service`]: what users write, parsed once.
//! - [`plan`]: which Service has which address.

pub mod address;
mod blocked;
pub mod crd;
pub mod plan;
pub mod pool;
pub mod reason;
pub mod selector;
pub mod service;
