//! The program on real networks: nodes in network namespaces on one switch, and a client that asks who has an address.

#![allow(clippy::unwrap_used, clippy::panic, reason = "a test fails by panicking")]

mod blocked;
mod choice;
mod scene;
mod silence;
