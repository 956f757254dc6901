//! The load-balancer announcer's decisions.
//!
//! Everything here is pure: no input or output, no clock, no randomness.
//!
//! - [`crd`]: the custom resources.
//! - [`address`], [`selector`], [`pool`], [`service`]: what users write, parsed once.
//! - [`plan`]: which Service has which address.
//! - [`speakers`], [`subnet`]: which nodes announce, and what their own networks keep from being given.
//! - [`node`], [`advert`], [`election`], [`duty`]: which nodes are to announce an address, in which order.
//! - [`world`]: all facts together.
//! - [`checkup`], [`whereabouts`]: what `check` and `who-has` say of a cluster.
//! - [`wire`]: packet formats.
//! - [`announcer`]: liveness, takeover, hand-over and announcing.

pub mod address;
pub mod advert;
pub mod announcer;
mod blocked;
pub mod checkup;
pub mod crd;
pub mod duty;
pub mod election;
mod metallb;
pub mod moved;
pub mod node;
pub mod plan;
pub mod pool;
pub mod reason;
pub mod selector;
pub mod service;
pub mod silence;
pub mod speakers;
pub mod subnet;
pub mod whereabouts;
pub mod wire;
pub mod world;
