//! A CA of our own: what [`landfall_ingress_model::acme::internal`] describes, with keys.
//!
//! ```text
//! root            made once, or brought along; devices trust it; bears the names that it may be used for
//! intermediate    one for each issuer, made by the root, renewed by itself; bears the names of the issuer
//! certificate     what an Ingress asks for; served with the intermediate
//! ```
//!
//! Only the leader signs. All replicas show the root.

mod issue;
mod make;
mod root;
mod show;
mod tend;
#[cfg(test)]
mod tests;

pub(super) use issue::carry_out;
pub(super) use make::key;
pub(crate) use show::Roots;
pub(super) use tend::Tending;

use landfall_ingress_model::acme::trouble::{Failure, Kind};

/// Entries of the Secret, or files of the folder, of the CA.
const ROOT: &str = "ca.crt";
const ROOT_KEY: &str = "ca.key";

fn unusable(error: impl std::fmt::Display) -> Failure {
    let remedy = "correct the Secret of the CA; docs/https.md says what has to be in it";
    Failure::new(Kind::Authority, error.to_string(), remedy)
}
