//! The edges against a real kernel: two network namespaces of our own, `node` and `client`, joined by a veth pair.
//!
//! Needs root and the `ip` command; says so when either is missing.
// Helpers of tests are outside of what clippy takes for tests.
#![allow(clippy::unwrap_used, clippy::panic)]

#[path = "edge/arp.rs"]
mod arp;
#[path = "edge/links.rs"]
mod links;
#[path = "edge/namespaces.rs"]
mod namespaces;
#[path = "edge/ndp.rs"]
mod ndp;
#[path = "edge/traffic.rs"]
mod traffic;
