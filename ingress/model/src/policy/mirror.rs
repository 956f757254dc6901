//! A second copy of each request.

use std::sync::Arc;

use http::HeaderValue;

use super::template::Template;

/// Where copies of requests go. What comes back is nobody's.
#[derive(Clone, PartialEq, Debug)]
pub struct Mirror {
    /// The place, by HTTP or HTTPS.
    pub url: Arc<Template>,
    /// Whether the query of the request is added, since the place says nothing of it.
    pub adds_query: bool,
    /// Whether bodies go along.
    pub with_body: bool,
    /// The `Host`, where it is not that of the place.
    pub host: Option<HeaderValue>,
}
