//! What is known of a certificate that is there.

use std::collections::BTreeSet;

use base64::Engine;
use base64::prelude::BASE64_URL_SAFE_NO_PAD;
use k8s_openapi::api::core::v1::Secret;
use rustls_pki_types::CertificateDer;
use rustls_pki_types::pem::PemObject;
use x509_parser::prelude::{FromDer, GeneralName, ParsedExtension, X509Certificate};

use crate::compiler::certificates::address;

/// Marks the Secrets that are ours to write.
pub const LABEL: &str = "landfall.dev/acme";
/// The value of [`LABEL`].
pub const MANAGED: &str = "managed";
/// The issuer of the certificate in a Secret.
pub const ISSUER: &str = "landfall.dev/acme-issuer";
/// What the issuer was asked for besides the names: see [`Issuer::fingerprint`](super::issuer::Issuer::fingerprint).
pub const FINGERPRINT: &str = "landfall.dev/acme-fingerprint";

/// Has the certificate in a Secret replaced at once, as if its CA had revoked it: `"true"`.
pub const REPLACE: &str = "landfall.dev/acme-replace";

/// A Secret that may hold a certificate.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Existing {
    /// Whether it is ours to write.
    pub is_managed: bool,
    /// The issuer that is noted on it.
    pub issuer: Option<String>,
    /// What the issuer was asked for.
    pub fingerprint: Option<String>,
    /// Whether somebody wants it to be replaced at once.
    pub is_recalled: bool,
    /// The certificate; `None` if there is none that can be read.
    pub certificate: Option<Facts>,
}

/// What a certificate says of itself.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Facts {
    /// Its DNS names in lower case, and its addresses.
    pub names: BTreeSet<String>,
    /// Beginning of its validity, in seconds since the epoch.
    pub not_before: u64,
    /// End of its validity.
    pub not_after: u64,
    /// How the CA calls it when it says when to renew it (RFC 9773 section 4.1); `None` without a key identifier.
    pub id: Option<String>,
    /// The common names of the authority at the end of its chain, and of the one above that: where the chain ends for
    /// clients.
    pub ends_at: Vec<String>,
}

impl Existing {
    /// Reads a Secret.
    pub fn read(secret: &Secret) -> Self {
        let labels = secret.metadata.labels.as_ref();
        let annotation = |name: &str| secret.metadata.annotations.as_ref()?.get(name).cloned();
        let text = secret.data.as_ref().and_then(|data| data.get("tls.crt")).map(|bytes| bytes.0.as_slice());
        let text = text.or_else(|| Some(secret.string_data.as_ref()?.get("tls.crt")?.as_bytes()));
        Self {
            is_managed: labels.and_then(|labels| labels.get(LABEL)).is_some_and(|value| value == MANAGED),
            issuer: annotation(ISSUER),
            fingerprint: annotation(FINGERPRINT),
            is_recalled: annotation(REPLACE).is_some_and(|value| value.trim() == "true"),
            certificate: text.and_then(Facts::read),
        }
    }
}

impl Facts {
    /// Reads the first certificate of a chain in PEM form.
    pub fn read(pem: &[u8]) -> Option<Self> {
        let der = CertificateDer::pem_slice_iter(pem).next()?.ok()?;
        let (_, certificate) = X509Certificate::from_der(&der).ok()?;
        let alternative = certificate.subject_alternative_name().ok().flatten();
        let names = alternative.iter().flat_map(|extension| &extension.value.general_names);
        let names = names.filter_map(|name| match name {
            GeneralName::DNSName(name) => Some(name.to_ascii_lowercase()),
            GeneralName::IPAddress(bytes) => address(bytes).map(|address| address.to_string()),
            _ => None,
        });
        let key_id = certificate.iter_extensions().find_map(|extension| match extension.parsed_extension() {
            ParsedExtension::AuthorityKeyIdentifier(id) => Some(id.key_identifier.as_ref()?.0),
            _ => None,
        });
        let encode = |bytes: &[u8]| BASE64_URL_SAFE_NO_PAD.encode(bytes);
        let serial = encode(certificate.tbs_certificate.raw_serial());
        let seconds = |timestamp: i64| u64::try_from(timestamp).unwrap_or(0);
        Some(Self {
            names: names.collect(),
            not_before: seconds(certificate.validity().not_before.timestamp()),
            // The last second still counts.
            not_after: seconds(certificate.validity().not_after.timestamp()).saturating_add(1),
            id: key_id.map(|key_id| format!("{}.{serial}", encode(key_id))),
            ends_at: ends(pem),
        })
    }

    /// Whether one of its names stands for the host.
    pub fn covers(&self, host: &str) -> bool {
        let by_wildcard =
            || host.split_once('.').is_some_and(|(_, parent)| self.names.contains(&format!("*.{parent}")));
        self.names.contains(host) || (!host.starts_with("*.") && by_wildcard())
    }
}

/// Whether a chain in PEM form ends at the authority of this common name, or below it.
pub fn ends_at(chain: &[u8], name: &str) -> bool {
    ends(chain).iter().any(|end| end == name)
}

/// The common names where a chain in PEM form ends: of the issuer of its last certificate, and of that itself.
pub fn ends(chain: &[u8]) -> Vec<String> {
    let Some(Ok(last)) = CertificateDer::pem_slice_iter(chain).last() else { return Vec::new() };
    let Ok((_, last)) = X509Certificate::from_der(&last) else { return Vec::new() };
    let names = last.issuer().iter_common_name().chain(last.subject().iter_common_name());
    names.filter_map(|name| name.as_str().ok().map(str::to_owned)).collect()
}
