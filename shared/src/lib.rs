//! What both programs need around their models, and nothing else.
//!
//! - [`source`]: objects from an API server or from a folder of YAML
//! - [`readiness`], [`drain`]: when to be sent traffic, and how to leave
//! - [`admin`], [`telemetry`]: health, metrics, status; the log

pub mod admin;
pub mod drain;
pub mod readiness;
pub mod source;
pub mod telemetry;
