//! Certificate authorities that somebody trusts, and what certificates are worth against them.

use std::borrow::Cow;
use std::fmt;
use std::hash::{DefaultHasher, Hash, Hasher};

use rustls::DistinguishedName;
use rustls::crypto::WebPkiSupportedAlgorithms;
use rustls_pki_types::pem::PemObject;
use rustls_pki_types::{CertificateDer, CertificateRevocationListDer, ServerName, TrustAnchor, UnixTime};
use thiserror::Error;
use webpki::{
    CertRevocationList, EndEntityCert, ExpirationPolicy, KeyUsage, OwnedCertRevocationList, RevocationOptionsBuilder,
    anchor_from_trusted_cert,
};
use x509_parser::prelude::{FromDer, GeneralName, X509Certificate};

/// Authorities, with the lists of certificates that they have revoked.
///
/// As with OpenSSL, a chain has to end at a certificate that is signed by itself; the others of `ca.crt` only help to
/// get there.
pub struct Authorities {
    /// `ca.crt` and `ca.crl` as they were written, which tells two of them apart.
    source: [Box<[u8]>; 2],
    digest: u64,
    /// Those that are signed by themselves.
    roots: Vec<CertificateDer<'static>>,
    anchors: Vec<TrustAnchor<'static>>,
    intermediates: Vec<CertificateDer<'static>>,
    revoked: Vec<CertRevocationList<'static>>,
    algorithms: WebPkiSupportedAlgorithms,
}

/// Why a text is no list of authorities.
#[derive(Clone, PartialEq, Eq, Debug, Error)]
pub enum BadAuthorities {
    /// `ca.crt` can't be read.
    #[error("ca.crt can't be read: {0}")]
    Certificates(String),
    /// There is nothing that a chain could end at.
    #[error("ca.crt has no certificate that is signed by itself")]
    NoRoot,
    /// `ca.crl` can't be read.
    #[error("ca.crl can't be read: {0}")]
    Revoked(String),
}

/// What a certificate is for.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Usage {
    /// To be a client.
    Client,
    /// To be a server.
    Server,
}

/// Why a certificate is not trusted, in the words of OpenSSL where it has some.
#[derive(Clone, PartialEq, Eq, Debug, Error)]
pub enum Flaw {
    /// Its issuer is none of the authorities.
    #[error("{0}")]
    Foreign(&'static str),
    /// Something else.
    #[error("{0}")]
    Other(Cow<'static, str>),
}

impl Flaw {
    fn of(error: &webpki::Error, chain: &[CertificateDer<'_>]) -> Self {
        Self::Other(match error {
            webpki::Error::UnknownIssuer => return Self::Foreign(foreign(chain)),
            webpki::Error::CertExpired { .. } => "certificate has expired".into(),
            webpki::Error::CertNotValidYet { .. } => "certificate is not yet valid".into(),
            webpki::Error::CertRevoked => "certificate revoked".into(),
            webpki::Error::CrlExpired { .. } => "CRL has expired".into(),
            webpki::Error::UnknownRevocationStatus => "unable to get certificate CRL".into(),
            webpki::Error::MaximumPathDepthExceeded => "certificate chain too long".into(),
            webpki::Error::RequiredEkuNotFoundContext(_) => "unsuitable certificate purpose".into(),
            webpki::Error::InvalidSignatureForPublicKey => "certificate signature failure".into(),
            other => other.to_string().into(),
        })
    }
}

/// How a chain is foreign.
fn foreign(chain: &[CertificateDer<'_>]) -> &'static str {
    let own = |certificate: &CertificateDer<'_>| is_self_issued(certificate);
    match chain {
        [only] if own(only) => "self-signed certificate",
        [.., last] if own(last) => "self-signed certificate in certificate chain",
        [_] => "unable to verify the first certificate",
        _ => "unable to get local issuer certificate",
    }
}

impl Authorities {
    /// Reads the certificates and the lists, both in PEM form.
    pub fn parse(
        certificates: &[u8],
        revoked: Option<&[u8]>,
        algorithms: WebPkiSupportedAlgorithms,
    ) -> Result<Self, BadAuthorities> {
        let bad = |cause: String| BadAuthorities::Certificates(cause);
        let all: Result<Vec<CertificateDer<'static>>, _> = CertificateDer::pem_slice_iter(certificates).collect();
        let all = all.map_err(|error| bad(error.to_string()))?;
        if all.is_empty() {
            return Err(bad("it has no certificate".into()));
        }
        let (roots, intermediates): (Vec<_>, Vec<_>) = all.into_iter().partition(is_self_issued);
        let anchors: Result<Vec<TrustAnchor<'static>>, _> =
            roots.iter().map(|root| anchor_from_trusted_cert(root).map(|anchor| anchor.to_owned())).collect();
        let anchors = anchors.map_err(|error| bad(error.to_string()))?;
        if anchors.is_empty() {
            return Err(BadAuthorities::NoRoot);
        }
        let mut lists = Vec::new();
        for list in CertificateRevocationListDer::pem_slice_iter(revoked.unwrap_or_default()) {
            let list = list.map_err(|error| BadAuthorities::Revoked(error.to_string()))?;
            let list = OwnedCertRevocationList::from_der(&list);
            lists.push(list.map_err(|error| BadAuthorities::Revoked(error.to_string()))?.into());
        }
        if revoked.is_some() && lists.is_empty() {
            return Err(BadAuthorities::Revoked("it has no list".into()));
        }
        let source = [certificates.into(), revoked.unwrap_or_default().into()];
        let mut hasher = DefaultHasher::new();
        source.hash(&mut hasher);
        let digest = hasher.finish();
        Ok(Self { source, digest, roots, anchors, intermediates, revoked: lists, algorithms })
    }

    /// Their names, by which a client finds out which of its certificates to show.
    pub fn names(&self) -> Vec<DistinguishedName> {
        self.anchors.iter().map(|anchor| DistinguishedName::in_sequence(&anchor.subject)).collect()
    }

    /// Whether a chain, with the certificate itself first, leads to one of the authorities over at most `depth`
    /// others, at this time.
    pub fn verify(&self, chain: &[CertificateDer<'_>], usage: Usage, depth: u32, now: UnixTime) -> Result<(), Flaw> {
        let Some((first, others)) = chain.split_first() else { return Err(Flaw::Other("no certificate".into())) };
        // A certificate that is named itself needs no authority, and may be one, as `openssl req -x509` makes them.
        if self.revoked.is_empty() && self.roots.iter().any(|root| root.as_ref() == first.as_ref()) {
            return fits(first, usage, now);
        }
        let flaw = |error: &webpki::Error| Flaw::of(error, chain);
        let certificate = EndEntityCert::try_from(first).map_err(|error| flaw(&error))?;
        let lists: Vec<&CertRevocationList<'_>> = self.revoked.iter().collect();
        let revocation = RevocationOptionsBuilder::new(&lists)
            .ok()
            .map(|options| options.with_expiration_policy(ExpirationPolicy::Enforce).build());
        let intermediates: Vec<CertificateDer<'_>> = others.iter().chain(&self.intermediates).cloned().collect();
        let limit = usize::try_from(depth).unwrap_or(usize::MAX);
        let usage = match usage {
            Usage::Client => KeyUsage::client_auth(),
            Usage::Server => KeyUsage::server_auth(),
        };
        let verified = certificate.verify_for_usage(
            self.algorithms.all,
            &self.anchors,
            &intermediates,
            now,
            usage,
            revocation,
            Some(&|path| {
                let is_near = path.intermediate_certificates().count() <= limit;
                if is_near { Ok(()) } else { Err(webpki::Error::MaximumPathDepthExceeded) }
            }),
        );
        verified.map(drop).map_err(|error| flaw(&error))
    }
}

/// Whether a certificate that is trusted by itself may be used for this now.
fn fits(certificate: &CertificateDer<'_>, usage: Usage, now: UnixTime) -> Result<(), Flaw> {
    let other = |text: &'static str| Err(Flaw::Other(text.into()));
    let Ok((_, parsed)) = X509Certificate::from_der(certificate) else { return other("bad certificate") };
    let now = i64::try_from(now.as_secs()).unwrap_or(i64::MAX);
    let validity = parsed.validity();
    if now < validity.not_before.timestamp() {
        return other("certificate is not yet valid");
    }
    if now > validity.not_after.timestamp() {
        return other("certificate has expired");
    }
    let Ok(extended) = parsed.extended_key_usage() else { return other("bad certificate") };
    let suits = extended.is_none_or(|extension| match usage {
        _ if extension.value.any => true,
        Usage::Client => extension.value.client_auth,
        Usage::Server => extension.value.server_auth,
    });
    if suits { Ok(()) } else { other("unsuitable certificate purpose") }
}

/// Whether a certificate is for a name: one of its alternative names, or where it has none for hosts its common name,
/// as OpenSSL takes it.
pub fn is_for(certificate: &CertificateDer<'_>, name: &str) -> bool {
    let Ok(server) = ServerName::try_from(name) else { return false };
    let by_alternative = EndEntityCert::try_from(certificate)
        .is_ok_and(|parsed| parsed.verify_is_valid_for_subject_name(&server).is_ok());
    if by_alternative {
        return true;
    }
    let Ok((_, parsed)) = X509Certificate::from_der(certificate) else { return false };
    let Ok(alternative) = parsed.subject_alternative_name() else { return false };
    let has_hosts = alternative.is_some_and(|extension| {
        extension.value.general_names.iter().any(|name| matches!(name, GeneralName::DNSName(_)))
    });
    if has_hosts || !matches!(server, ServerName::DnsName(_)) {
        return false;
    }
    let wanted = name.to_ascii_lowercase();
    parsed.subject().iter_common_name().filter_map(|name| name.as_str().ok()).any(|common| {
        let common = common.to_ascii_lowercase();
        match (common.strip_prefix("*."), wanted.split_once('.')) {
            (Some(domain), Some((_, parent))) => domain.contains('.') && domain == parent,
            _ => common == wanted,
        }
    })
}

fn is_self_issued(certificate: &CertificateDer<'_>) -> bool {
    let parsed = X509Certificate::from_der(certificate);
    parsed.is_ok_and(|(_, parsed)| parsed.subject().as_raw() == parsed.issuer().as_raw())
}

impl PartialEq for Authorities {
    fn eq(&self, other: &Self) -> bool {
        self.digest == other.digest && self.source == other.source
    }
}

impl Eq for Authorities {}

impl Hash for Authorities {
    fn hash<H: Hasher>(&self, state: &mut H) {
        self.digest.hash(state);
    }
}

impl fmt::Debug for Authorities {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Authorities({} roots, {:016x})", self.roots.len(), self.digest)
    }
}

#[cfg(test)]
mod tests;
