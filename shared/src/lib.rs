//! What both programs need around their models, and nothing else.
//!
//! - [`source`]: objects from an API server or from a folder of YAML
//! - [`readiness`], [`drain`]: when to be sent traffic, and how to leave
//! - [`admin`], [`telemetry`]: health, metrics, status; the log
//! - [`memory`]: giving it back
//! - [`lease`], [`publish`], [`events`]: who writes to the API server, and how

pub mod admin;
mod api_error;
mod backoff;
pub mod drain;
pub mod events;
pub mod lease;
pub mod look;
pub mod memory;
pub mod publish;
pub mod readiness;
pub mod source;
pub mod telemetry;
#[cfg(test)]
mod testing;
