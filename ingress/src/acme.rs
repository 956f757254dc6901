//! Certificates by ACME: carries out what [`landfall_ingress_model::acme`] plans.
//!
//! All replicas answer challenges and know how every certificate stands; only the leader orders. What they share stands
//! in the `store::Store`: objects of the API server, or the files of a state folder.

mod account;
mod authority;
mod dns;
mod edge;
mod failure;
mod https;
mod link;
mod look;
mod names;
mod order;
mod probe;
mod proofs;
mod runner;
pub mod settings;
mod store;

pub(crate) use authority::Roots;
pub(crate) use link::Link;
pub(crate) use look::problems;
pub(crate) use runner::{InCluster, Parts, start};
pub(crate) use store::ROOTS;
