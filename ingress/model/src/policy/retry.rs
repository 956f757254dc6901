//! When another attempt is made.

use std::time::Duration;

use http::{Method, StatusCode};

/// `proxy-next-upstream`: when another attempt is made. That none is made where a backend may have acted on the request
/// holds as long as `non_idempotent` does not say otherwise.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Retry {
    /// `error`: the connection can't be made, or breaks before a response.
    pub on_error: bool,
    /// `timeout`: no response comes in time.
    pub on_timeout: bool,
    /// Statuses that are as bad as no response.
    pub statuses: Box<[u16]>,
    /// `non_idempotent`: requests may be sent again whatever their method.
    pub any_method: bool,
    /// `proxy-next-upstream-timeout`: no further attempt begins after this time.
    pub within: Option<Duration>,
}

impl Default for Retry {
    fn default() -> Self {
        Self { on_error: true, on_timeout: true, statuses: Box::default(), any_method: false, within: None }
    }
}

impl Retry {
    /// Whether a request may be sent again after an answer with this status.
    pub fn repeats(&self, method: &Method, status: StatusCode) -> bool {
        self.statuses.contains(&status.as_u16()) && self.allows(method)
    }

    /// Whether a request with this method may be sent again.
    pub fn allows(&self, method: &Method) -> bool {
        self.any_method || method.is_idempotent()
    }
}
