//! What a host asks of its clients' certificates.

use std::sync::Arc;

use regex::Regex;

use super::template::Template;
use crate::authorities::Authorities;

/// How far certificates are asked for.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub enum Demand {
    /// Not at all.
    Off,
    /// Each request needs one that is trusted.
    #[default]
    Required,
    /// One that is shown must be trusted.
    Optional,
    /// One that is shown may be of anybody; the backend is told.
    OptionalNoCa,
}

/// What a host asks of its clients' certificates.
#[derive(Clone, Debug)]
pub struct ClientCertificates {
    /// How far they are asked for.
    pub demand: Demand,
    /// Who is trusted; the text says why that is not known, and then nobody gets in.
    pub authorities: Result<Arc<Authorities>, Arc<str>>,
    /// Certificates between the client's and the authority's.
    pub depth: u32,
    /// Where clients are sent whose certificate is not trusted, in place of a 400.
    pub error_page: Option<Template>,
    /// Whether the backend gets the certificate itself.
    pub pass: bool,
    /// What the subject must look like.
    pub subject: Option<Regex>,
}

impl ClientCertificates {
    /// Whom a client is asked for a certificate of, if it is asked for one.
    pub fn asks(&self) -> Option<&Arc<Authorities>> {
        self.authorities.as_ref().ok().filter(|_| self.demand != Demand::Off)
    }
}

impl PartialEq for ClientCertificates {
    fn eq(&self, other: &Self) -> bool {
        self.demand == other.demand
            && self.authorities == other.authorities
            && self.depth == other.depth
            && self.error_page == other.error_page
            && self.pass == other.pass
            && self.subject.as_ref().map(Regex::as_str) == other.subject.as_ref().map(Regex::as_str)
    }
}
