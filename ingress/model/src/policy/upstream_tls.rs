//! How TLS is spoken with endpoints, where an Ingress says something of it.

use std::hash::{Hash, Hasher};
use std::sync::Arc;

use rustls::sign::CertifiedKey;
use rustls_pki_types::{CertificateDer, UnixTime};

use super::ciphers::Ciphers;
use crate::authorities::{Authorities, Flaw, Usage, is_for};

/// Versions of TLS.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug, Default)]
pub enum TlsVersions {
    /// 1.2 and 1.3.
    #[default]
    All,
    /// 1.2.
    Tls12,
    /// 1.3.
    Tls13,
}

/// Which name an endpoint is asked for.
#[derive(Clone, PartialEq, Eq, Hash, Debug, Default)]
pub enum AskedName {
    /// The host of the request.
    #[default]
    Host,
    /// This one.
    Name(Box<str>),
    /// None.
    Nothing,
}

/// How TLS is spoken with endpoints.
///
/// **Invariant:** connections that were made by one of these serve requests of equal ones only.
#[derive(Clone, Debug, Default)]
pub struct UpstreamTls {
    /// What the endpoint's certificate must be; `None`: anything.
    pub verify: Option<Verify>,
    /// The certificate that is shown to an endpoint that asks for one.
    pub certificate: Option<Arc<CertifiedKey>>,
    /// The name that is asked for.
    pub asked: AskedName,
    /// The versions that are offered.
    pub versions: TlsVersions,
    /// The cipher suites of TLS 1.2 that are offered; `None`: all that are spoken.
    pub ciphers: Option<Ciphers>,
}

/// What an endpoint's certificate must be.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Verify {
    /// Who must have signed it.
    pub authorities: Arc<Authorities>,
    /// Certificates in between.
    pub depth: u32,
    /// Whom it must be for; without a name no certificate is right.
    pub name: Option<Box<str>>,
}

impl Verify {
    /// Whether a chain is right, with the endpoint's own certificate first.
    pub fn verify(&self, chain: &[CertificateDer<'_>], now: UnixTime) -> Result<(), Flaw> {
        self.authorities.verify(chain, Usage::Server, self.depth, now)?;
        let is_right = chain.first().zip(self.name.as_deref()).is_some_and(|(first, name)| is_for(first, name));
        if is_right { Ok(()) } else { Err(Flaw::Other("hostname mismatch".into())) }
    }
}

impl UpstreamTls {
    fn chain(&self) -> Option<&[CertificateDer<'static>]> {
        self.certificate.as_ref().map(|certificate| &*certificate.cert)
    }
}

impl PartialEq for UpstreamTls {
    /// Certificates are told apart by themselves, which a key belongs to.
    fn eq(&self, other: &Self) -> bool {
        self.verify == other.verify
            && self.asked == other.asked
            && self.versions == other.versions
            && self.ciphers == other.ciphers
            && self.chain() == other.chain()
    }
}

impl Eq for UpstreamTls {}

impl Hash for UpstreamTls {
    fn hash<H: Hasher>(&self, state: &mut H) {
        self.asked.hash(state);
        self.versions.hash(state);
        self.ciphers.hash(state);
        if let Some(verify) = &self.verify {
            verify.authorities.hash(state);
            verify.name.hash(state);
        }
    }
}
