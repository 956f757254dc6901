//! Who may use a route: passwords, and the word of another service.

use std::collections::HashMap;
use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use http::{HeaderName, HeaderValue, Method};

use super::snippet::Snippet;
use super::template::Template;

mod password;

pub use password::{is_known, verify};

/// Who may use a route.
#[derive(Clone, PartialEq, Debug)]
pub struct Auth {
    /// Whether one of source ranges, password and service is enough; otherwise all are needed.
    pub any: bool,
    /// Names and passwords (RFC 7617).
    pub basic: Option<Arc<BasicAuth>>,
    /// A service that is asked.
    pub external: Option<Arc<ExternalAuth>>,
}

/// Names and passwords.
#[derive(Clone, PartialEq)]
pub struct BasicAuth {
    /// `WWW-Authenticate` of the 401.
    pub challenge: HeaderValue,
    /// Hashes by name.
    pub users: HashMap<Box<str>, Box<str>>,
}

impl fmt::Debug for BasicAuth {
    /// Without the hashes.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "BasicAuth({:?}, {} users)", self.challenge, self.users.len())
    }
}

impl BasicAuth {
    /// Reads lines of `name:hash`, as `htpasswd` writes them. What is no such line counts for nothing.
    pub fn users_of(file: &str) -> HashMap<Box<str>, Box<str>> {
        let lines = file.lines().map(str::trim).filter(|line| !line.starts_with('#'));
        lines.filter_map(|line| line.split_once(':')).map(|(name, hash)| (name.into(), hash.into())).collect()
    }
}

/// A service that is asked about each request.
#[derive(Clone, PartialEq, Debug)]
pub struct ExternalAuth {
    /// Where it is, by HTTP or HTTPS.
    pub url: Template,
    /// The method of the question, where it is not GET.
    pub method: Option<Method>,
    /// Where clients are sent that the service knows nothing of.
    pub signin: Option<Signin>,
    /// Fields of its answer that the backend gets.
    pub response_headers: Box<[HeaderName]>,
    /// `X-Auth-Request-Redirect`, where it is not the target of the request.
    pub request_redirect: Option<Template>,
    /// Further fields of the question.
    pub set_headers: Box<[(HeaderName, Template)]>,
    /// Whether its cookies are sent with errors, too.
    pub always_set_cookie: bool,
    /// What answers are kept by, and for how long.
    pub cache: Option<AuthCache>,
    /// What runs before the question is asked.
    pub snippet: Option<Arc<Snippet>>,
}

/// Where clients are sent to sign in.
#[derive(Clone, PartialEq, Debug)]
pub struct Signin {
    /// The place.
    pub url: Template,
    /// The argument that says where to return to; `None` where the place says so itself.
    pub parameter: Option<Box<str>>,
}

/// How answers of the service are kept.
#[derive(Clone, PartialEq, Debug)]
pub struct AuthCache {
    /// What requests have in common that get the same answer.
    pub key: Template,
    /// How long answers of a status are kept; 0 stands for those that have no entry of their own.
    pub durations: Box<[(u16, Duration)]>,
}

impl AuthCache {
    /// How long an answer is kept.
    pub fn duration(&self, status: u16) -> Option<Duration> {
        let of = |wanted: u16| self.durations.iter().find(|(of, _)| *of == wanted);
        of(status).or_else(|| of(0)).map(|(_, duration)| *duration)
    }
}
