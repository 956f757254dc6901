//! Whether a CA has revoked a certificate, by the list that the certificate itself names (RFC 5280 section 5).

use rustls_pki_types::pem::PemObject;
use rustls_pki_types::{CertificateDer, SignatureVerificationAlgorithm, UnixTime};
use thiserror::Error;
use webpki::{
    CertRevocationList, EndEntityCert, KeyUsage, OwnedCertRevocationList, RevocationCheckDepth,
    RevocationOptionsBuilder, UnknownStatusPolicy,
};
use x509_parser::extensions::DistributionPointName;
use x509_parser::prelude::{FromDer, GeneralName, ParsedExtension, X509Certificate};

/// Why a list says nothing of a certificate.
#[derive(Clone, PartialEq, Eq, Debug, Error)]
pub enum UnusableList {
    /// The chain has no certificate of the authority that signed the first one.
    #[error("the chain has no certificate of its issuer")]
    NoIssuer,
    /// The list, or a certificate, can't be read, or is signed by somebody else.
    #[error("{0}")]
    Invalid(webpki::Error),
}

/// Where the first certificate of a chain in PEM form says that lists of revoked certificates are: URLs.
pub fn lists(chain: &[u8]) -> Vec<String> {
    let Some(Ok(der)) = CertificateDer::pem_slice_iter(chain).next() else { return Vec::new() };
    let Ok((_, certificate)) = X509Certificate::from_der(&der) else { return Vec::new() };
    let mut urls = Vec::new();
    for extension in certificate.iter_extensions() {
        let ParsedExtension::CRLDistributionPoints(points) = extension.parsed_extension() else { continue };
        for point in points.iter() {
            let Some(DistributionPointName::FullName(names)) = &point.distribution_point else { continue };
            urls.extend(names.iter().filter_map(|name| match name {
                GeneralName::URI(url) if url.starts_with("http") => Some((*url).to_owned()),
                _ => None,
            }));
        }
    }
    urls
}

/// Whether `list`, in DER form, says that the first certificate of `chain` is revoked.
///
/// The list counts if the next certificate of the chain has signed it, however old it is: what was revoked once stays
/// so. A certificate that has expired is not said to be revoked.
///
/// # Errors
///
/// If the list is no word of the certificate's issuer.
pub fn is_revoked(
    chain: &[u8],
    list: &[u8],
    algorithms: &[&dyn SignatureVerificationAlgorithm],
    now: UnixTime,
) -> Result<bool, UnusableList> {
    let mut chain = CertificateDer::pem_slice_iter(chain).filter_map(Result::ok);
    let (Some(leaf), Some(issuer)) = (chain.next(), chain.next()) else { return Err(UnusableList::NoIssuer) };
    let list = CertRevocationList::from(OwnedCertRevocationList::from_der(list).map_err(UnusableList::Invalid)?);
    let anchor = webpki::anchor_from_trusted_cert(&issuer).map_err(UnusableList::Invalid)?;
    let end_entity = EndEntityCert::try_from(&leaf).map_err(UnusableList::Invalid)?;
    let all = [&list];
    let Ok(options) = RevocationOptionsBuilder::new(&all) else { return Ok(false) };
    // A list for other certificates of the issuer says nothing of this one.
    let options = options.with_depth(RevocationCheckDepth::EndEntity).with_status_policy(UnknownStatusPolicy::Allow);
    let usage = KeyUsage::server_auth();
    match end_entity.verify_for_usage(algorithms, &[anchor], &[], now, usage, Some(options.build()), None) {
        Err(webpki::Error::CertRevoked) => Ok(true),
        Ok(_) | Err(webpki::Error::CertExpired { .. }) => Ok(false),
        Err(error) => Err(UnusableList::Invalid(error)),
    }
}

#[cfg(test)]
mod tests;
