//! The words both Landfall programs share: which object is meant, and what is wrong with it.
//!
//! This crate is pure: no input or output, no clock, no randomness.

mod change;
pub mod checkup;
pub mod finding;
mod key;
mod problem;

pub use change::Change;
pub use finding::{Finding, Findings};
pub use key::{ObjectKey, ObjectRef};
pub use problem::{Location, Problem, Reason, Severity};
