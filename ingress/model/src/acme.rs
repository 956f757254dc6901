//! Certificates by ACME (RFC 8555): which are asked for, what is there, and so what is to be ordered, and when.
//!
//! [`World`](world::World) holds what is known: what Ingresses ask for, the Secrets, the issuers, and the
//! [`State`](state::State) of what was tried. [`World::plan`](world::World::plan) is a pure function of that and of the
//! time. The edge carries orders out, and tells the world how they went.

pub mod ask;
pub mod certificate;
pub mod challenges;
pub mod dns;
pub mod internal;
pub mod issuer;
pub mod plan;
pub mod records;
pub mod revocation;
pub mod schedule;
pub mod state;
pub mod trouble;
pub mod view;
pub mod world;
