//! A backend that answers in the place of another one.

use std::sync::Arc;

use http::StatusCode;

use crate::backend::Backend;

/// Whose answers take the place of others.
#[derive(Clone, Debug)]
pub struct Errors {
    /// Statuses whose answers are replaced, sorted.
    pub statuses: Box<[u16]>,
    /// The backend; `None`: the default backend of all.
    pub backend: Option<Arc<Backend>>,
    /// Whether it also takes the requests of a backend without endpoints.
    pub takes_over: bool,
    /// Whether answers of the backend are replaced, and not only our own.
    pub intercepts: bool,
}

impl Errors {
    /// Whether an answer with this status is replaced.
    pub fn replaces(&self, status: StatusCode) -> bool {
        self.statuses.binary_search(&status.as_u16()).is_ok()
    }
}

impl PartialEq for Errors {
    fn eq(&self, other: &Self) -> bool {
        let same = match (&self.backend, &other.backend) {
            (Some(a), Some(b)) => Arc::ptr_eq(a, b),
            (None, None) => true,
            _ => false,
        };
        same && self.statuses == other.statuses
            && self.takes_over == other.takes_over
            && self.intercepts == other.intercepts
    }
}
