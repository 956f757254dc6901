//! Which endpoint takes the next request.

use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;
use std::time::{Duration, Instant};

/// How the next endpoint is chosen.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug, Default)]
pub enum Balance {
    /// Each in turn, evenly from the first request.
    #[default]
    RoundRobin,
    /// The one with the fewest requests in flight; ties in turn.
    LeastConnections,
    /// The one that a consistent hash of the request's key points to.
    ConsistentHash,
}
