//! What operators see of the traffic and of the control work: metrics and the access log.

mod access;
mod acme;
mod control;
mod kept;
mod labels;
mod latency;
mod limited;
mod live;
mod memory;
mod nginx;
mod recent;
mod series;
mod streams;
mod traffic;

pub use access::AccessLog;
pub use acme::AcmeMetrics;
pub use control::ControlMetrics;
pub use live::{Filter, Live, Queries};
pub(crate) use memory::register as register_memory;
pub use nginx::Identity;
pub use recent::{HostSummary, Recent, Summary, TICK, Traffic as RecentTraffic};
pub(crate) use series::routes;
pub use traffic::Traffic;
