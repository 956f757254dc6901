//! Answers that send the client elsewhere.

use http::{HeaderValue, StatusCode};

/// Whether a plain request is sent to HTTPS; resolved when the table is built.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug, Default)]
pub enum HttpsRedirect {
    /// It is served as it is.
    #[default]
    Never,
    /// It is answered with 308 to the canonical target.
    Always,
    /// As ingress-nginx does it: to the target as it was sent.
    IngressNginx {
        /// `http-redirect-code`.
        status: StatusCode,
        /// `preserve-trailing-slash`; otherwise one slash at the very end is dropped, that of a query included.
        keeps_slash: bool,
        /// `use-port-in-redirects`: the port is named though it is the well-known one.
        with_port: bool,
        /// `force-ssl-redirect`: whether there is a certificate or not.
        forced: bool,
    },
}

/// A redirect of every request of a route.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Redirect {
    /// 301, 302 and their like.
    pub status: StatusCode,
    /// The place. One that is relative to the host gets scheme and host of the request before it.
    pub location: HeaderValue,
}
