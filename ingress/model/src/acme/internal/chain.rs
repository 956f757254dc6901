//! The certificate of an authority, and those up to the root.

use rustls_pki_types::CertificateDer;
use rustls_pki_types::pem::PemObject;
use x509_parser::prelude::{FromDer, X509Certificate};

use super::Constraints;

/// What is known of an authority.
#[derive(Clone, Debug)]
pub struct Chain {
    /// Its own certificate first; at least that.
    certificates: Vec<CertificateDer<'static>>,
    /// For which names clients take what it signs.
    pub constraints: Constraints,
    /// When the first of them expires, in seconds since the epoch.
    pub not_after: u64,
    /// Whether it may sign other authorities (RFC 5280 section 4.2.1.9).
    pub has_room_below: bool,
    /// Its public key, in DER (RFC 5280 section 4.1.2.7).
    pub public_key: Vec<u8>,
}

impl Chain {
    /// Reads a chain in PEM form. Fails if the first certificate is not one of an authority.
    pub fn read(pem: &str) -> Result<Self, String> {
        let certificates: Result<Vec<CertificateDer<'static>>, _> =
            CertificateDer::pem_slice_iter(pem.as_bytes()).collect();
        let certificates = certificates.map_err(|error| format!("its certificate can't be read: {error}"))?;
        let unreadable = |error: String| format!("its certificate can't be read: {error}");
        let mut constraints = Constraints::default();
        let mut not_after = u64::MAX;
        for certificate in &certificates {
            constraints.add(certificate).map_err(unreadable)?;
            not_after = not_after.min(expiry(certificate));
        }
        let first = certificates.first().ok_or("it has no certificate in PEM form")?;
        let (_, parsed) = X509Certificate::from_der(first).map_err(|error| unreadable(error.to_string()))?;
        let basic = parsed.basic_constraints().ok().flatten().map(|extension| extension.value);
        let basic = basic.filter(|basic| basic.ca);
        let basic = basic.ok_or("its certificate is not one of an authority (basic constraints)")?;
        let has_room_below = basic.path_len_constraint != Some(0);
        let public_key = parsed.public_key().raw.to_vec();
        Ok(Self { certificates, constraints, not_after, has_room_below, public_key })
    }

    /// Its own certificate.
    pub fn own(&self) -> &CertificateDer<'static> {
        &self.certificates[0]
    }

    /// What devices are to trust: the end of the chain.
    pub fn anchor(&self) -> &CertificateDer<'static> {
        &self.certificates[self.certificates.len() - 1]
    }

    /// What servers send of the chain: all but a root, which whoever trusts it has.
    pub fn sent(&self) -> impl Iterator<Item = &CertificateDer<'static>> {
        self.certificates.iter().filter(|certificate| !is_self_issued(certificate))
    }
}

/// When a certificate in DER expires, in seconds since the epoch; 0 if it can't be read.
fn expiry(certificate: &CertificateDer<'_>) -> u64 {
    let read = X509Certificate::from_der(certificate);
    read.map_or(0, |(_, parsed)| u64::try_from(parsed.validity().not_after.timestamp()).unwrap_or(0))
}

fn is_self_issued(certificate: &CertificateDer<'_>) -> bool {
    X509Certificate::from_der(certificate).is_ok_and(|(_, parsed)| parsed.subject() == parsed.issuer())
}
