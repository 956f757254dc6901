//! What `check` of both programs says of a cluster, whatever they do in it: facts in, findings out.

mod pods;
mod rivals;
mod security;
mod version;

pub use pods::{Workloads, ailing, is_ready, why_not_ready};
pub use rivals::{Product, Role, rivals};
pub use security::pod_security;
pub use version::version;

use crate::Reason;

/// An API server that is older than what the chart supports.
pub const OLD_KUBERNETES: Reason = Reason::new("OldKubernetes");
/// A part of Landfall that doesn't run, or not everywhere it should.
pub const NOT_RUNNING: Reason = Reason::new("NotRunning");
/// A namespace's pod security profile refuses pods that are needed there.
pub const POD_SECURITY: Reason = Reason::new("PodSecurity");
/// Another program does the same work in this cluster.
pub const RIVAL: Reason = Reason::new("Rival");

/// The reason codes of this module.
pub const ALL: &[Reason] = &[OLD_KUBERNETES, NOT_RUNNING, POD_SECURITY, RIVAL];
