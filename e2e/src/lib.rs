//! What the scenarios in `tests/` stand on: a small backend, the ingress as a child process, clients that keep
//! their connection, and a Kubernetes API server of their own.
//!
//! Nothing here waits by sleeping: every wait is for a condition, with a deadline ([`wait`]).

pub mod acme;
pub mod browser;
pub mod client;
pub mod echo;
pub mod figures;
pub mod ingress;
pub mod kube;
pub mod load;
pub mod manifests;
pub mod names;
pub mod pages;
pub mod testbed;
pub mod tls;
pub mod tools;
pub mod wait;
pub mod ws;
