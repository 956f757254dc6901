//! What a route does with requests beyond choosing a backend: typed values, made when the table is built.
//!
//! Each group is one thing that an Ingress may ask for, and absent where it does not. All text is read before; per
//! request nothing is parsed.

mod affinity;
mod auth;
mod canary;
mod ciphers;
mod client_certificates;
mod compression;
mod cors;
mod errors;
mod forwarding;
mod limit;
mod logging;
mod manner;
mod mirror;
mod redirect;
mod respond;
mod retry;
mod rewrite;
pub mod snippet;
mod template;
mod tracing;
mod upstream_tls;
mod words;

use std::sync::Arc;
use std::time::Duration;

use crate::access::Access;
use crate::backend::Balance;

pub use affinity::{CookieAffinity, HashBy, key_of, name_of, push_hexadecimal};
pub use auth::{Auth, AuthCache, BasicAuth, ExternalAuth, Signin, is_known, verify};
pub use canary::{Canary, CanaryRule};
pub use ciphers::{Ciphers, cipher_name};
pub use client_certificates::{ClientCertificates, Demand};
pub use compression::{Coding, CodingRule, Compression, Encodable};
pub use cors::{Cors, OriginPattern};
pub use errors::Errors;
pub use forwarding::{Forwarding, scheme_of};
pub use limit::{Limit, Limiter, Pace, Permit, Rate, TooMuch, Unlimited};
pub use logging::{LogEscape, LogFormat, LogPiece, LogVariable, Logging};
pub use manner::Manner;
pub use mirror::Mirror;
pub use redirect::{HttpsRedirect, Redirect};
pub use respond::{Hsts, Replace, ResponseRules};
pub use retry::Retry;
pub(crate) use rewrite::path_regex;
pub use rewrite::{Rewrite, RewriteTarget, decoded, escaped};
pub(crate) use template::escaped_argument;
pub use template::{Facts, Template, UnknownVariable, variable_cookie};
pub use tracing::{Collector, Sampler, Sampling, SpanContext, TRACEPARENT, TRACESTATE, Tracing};
pub use upstream_tls::{AskedName, TlsVersions, UpstreamTls, Verify};
pub use words::Words;

/// What a route asks for.
#[derive(Clone, PartialEq, Debug)]
pub struct RoutePolicy {
    /// What it does of itself.
    pub manner: Manner,
    /// Time to connect to an endpoint, TLS included.
    pub connect_timeout: Duration,
    /// Longest pause between two reads from the endpoint.
    pub read_timeout: Duration,
    /// How long an upgraded connection, as a WebSocket is, may pass no byte in either direction.
    pub upgrade_idle: Duration,
    /// Longest pause between two writes to the endpoint.
    pub write_timeout: Duration,
    /// Attempts in all, the first included.
    pub tries: u32,
    /// When another attempt is made, where it isn't as usual.
    pub retry: Option<Arc<Retry>>,
    /// Where copies of requests go.
    pub mirror: Option<Arc<Mirror>>,
    /// `Connection` for the backend, in place of ours.
    pub connection: Option<&'static str>,
    /// Largest request body in bytes; `None` is unlimited.
    pub max_body: Option<u64>,
    /// What a request without TLS gets.
    pub https_redirect: HttpsRedirect,
    /// Which clients it is for; `None`: all.
    pub access: Option<Arc<Access>>,
    /// What else clients need.
    pub auth: Option<Arc<Auth>>,
    /// How much one client may ask.
    pub limit: Option<Arc<Limit>>,
    /// How fast bodies of answers are sent.
    pub pace: Option<Pace>,
    /// The cookie that keeps clients at their endpoints.
    pub affinity: Option<Arc<CookieAffinity>>,
    /// `AUTO_HTTP`: HTTPS is spoken to backends for requests that came by it.
    pub follows_scheme: bool,
    /// What decides about the endpoint, where no cookie does, and not all routes to its Service go by the same.
    pub hash_by: Option<Arc<HashBy>>,
    /// How endpoints are chosen otherwise; `None`: as for all routes to its Service.
    pub balance: Option<Balance>,
    /// Answers every request with a redirect.
    pub redirect: Option<Arc<Redirect>>,
    /// Whether redirects within the host name the path alone.
    pub relative_redirects: bool,
    /// What pages of other origins may do.
    pub cors: Option<Arc<Cors>>,
    /// The path that the backend gets in place of the client's.
    pub rewrite: Option<Arc<Rewrite>>,
    /// The `Host` that the backend gets in place of the client's.
    pub upstream_host: Option<Arc<Template>>,
    /// What the backend is told of the client, in the dialect of ingress-nginx.
    pub forwarding: Option<Arc<Forwarding>>,
    /// Whose answers take the place of others.
    pub errors: Option<Arc<Errors>>,
    /// How TLS is spoken with endpoints.
    pub upstream_tls: Option<Arc<UpstreamTls>>,
    /// Whether requests are left out of the access log.
    pub is_unlogged: bool,
    /// How requests are traced, if they are.
    pub tracing: Option<Arc<Tracing>>,
    /// What is compressed of the answers.
    pub compression: Option<Arc<Compression>>,
    /// Changes to what the backend answers.
    pub respond: Option<Arc<ResponseRules>>,
    /// What runs before anything else is done with a request.
    pub snippet: Option<Arc<snippet::Snippet>>,
}

impl RoutePolicy {
    /// Whether answers get no field for it.
    pub fn is_silent(&self) -> bool {
        self.cors.is_none() && self.respond.is_none()
    }
}

/// The idle limit of upgraded connections in class landfall. Many applications send nothing over a WebSocket until
/// something happens; TCP keep-alive finds dead clients meanwhile.
pub(crate) const UPGRADE_IDLE: Duration = Duration::from_hours(1);

impl Default for RoutePolicy {
    /// ingress-nginx's defaults for the times and tries, since its users' applications are tuned to them.
    fn default() -> Self {
        Self {
            manner: Manner::LANDFALL,
            connect_timeout: Duration::from_secs(5),
            read_timeout: Duration::from_mins(1),
            upgrade_idle: UPGRADE_IDLE,
            write_timeout: Duration::from_mins(1),
            tries: 3,
            retry: None,
            mirror: None,
            connection: None,
            max_body: None,
            https_redirect: HttpsRedirect::Never,
            access: None,
            auth: None,
            limit: None,
            affinity: None,
            hash_by: None,
            follows_scheme: false,
            balance: None,
            redirect: None,
            relative_redirects: false,
            cors: None,
            rewrite: None,
            upstream_host: None,
            forwarding: None,
            errors: None,
            upstream_tls: None,
            pace: None,
            is_unlogged: false,
            tracing: None,
            compression: None,
            respond: None,
            snippet: None,
        }
    }
}
