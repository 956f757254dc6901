//! Which steps a request passed, for whoever asks why it is answered as it is.
//!
//! The steps say so themselves, so that nothing is decided in two places. On the way of a real request nobody listens.

use std::sync::{Mutex, PoisonError};

/// A step, in the order in which requests pass them.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug)]
pub enum Stage {
    /// Clients that the options turn away everywhere.
    Blocked,
    /// The redirect from or to `www.`.
    OtherName,
    /// The certificate that the host asks its clients for.
    HostCertificate,
    /// Snippets of the host.
    ServerSnippet,
    /// The redirect of `/` to the application's place.
    AppRoot,
    /// The search for a rule.
    Route,
    /// The certificate that the rule asks clients for.
    RouteCertificate,
    /// Methods that are never passed on.
    Method,
    /// The announced size of the body.
    BodySize,
    /// The redirect to the path with a slash.
    MissingSlash,
    /// A browser's question whether a page may ask.
    Preflight,
    /// Snippets of the location.
    LocationSnippet,
    /// The redirect of the rule.
    Redirect,
    /// The redirect to HTTPS.
    Https,
    /// The choice of a backend, canaries included.
    Backend,
    /// Whether the backend has an endpoint.
    Endpoints,
    /// How much the client may ask.
    Limit,
    /// Source ranges.
    Access,
    /// What the backend is asked for.
    Rewrite,
    /// Passwords, and services that are asked.
    Authentication,
}

/// The steps that one request has begun; the last one answered it, where it was answered.
#[derive(Debug, Default)]
pub struct Trace(Mutex<Vec<Stage>>);

impl Trace {
    /// A step begins.
    pub(super) fn begin(&self, stage: Stage) {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).push(stage);
    }

    /// All of them, in their order.
    pub fn stages(self) -> Vec<Stage> {
        self.0.into_inner().unwrap_or_else(PoisonError::into_inner)
    }
}

impl super::Live<'_> {
    /// Says that a step begins, to whoever listens.
    #[inline]
    pub(super) fn begin(&self, stage: Stage) {
        if let Some(trace) = self.trace {
            trace.begin(stage);
        }
    }
}
