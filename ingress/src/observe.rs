//! What operators see of the traffic and of the control work: metrics and the access log.

mod access;
mod control;
mod kept;
mod labels;
mod limited;
mod series;
mod traffic;

pub use access::log_exchange;
pub use control::ControlMetrics;
pub use traffic::{AccessLog, Traffic};
