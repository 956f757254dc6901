//! The load-balancer announcer's decisions.
//!
//! Everything here is pure: no input or output, no clock, no randomness.

pub mod crd;
