//! Certificates of hosts, clients and backends.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::{Arc, Mutex, PoisonError};

use anyhow::Result;
use rcgen::{BasicConstraints, CertificateParams, DistinguishedName, DnType, IsCa, Issuer, KeyPair};
use rustls::ServerConfig;
use rustls_pki_types::{CertificateDer, PrivateKeyDer, PrivatePkcs8KeyDer};
use x509_parser::extensions::GeneralName;
use x509_parser::prelude::{FromDer, X509Certificate};

/// A certificate and its key.
#[derive(Debug)]
pub(crate) struct Pair {
    pub(crate) certificate: rcgen::Certificate,
    pub(crate) key: KeyPair,
}

/// All certificates of one world.
#[derive(Debug, Default)]
pub(crate) struct Pki {
    authorities: Mutex<BTreeMap<String, Arc<Authority>>>,
    /// Those that hosts have, to tell them from the default one.
    issued: Mutex<BTreeSet<Vec<u8>>>,
}

#[derive(Debug)]
struct Authority {
    certificate: String,
    issuer: Issuer<'static, KeyPair>,
}

impl Pair {
    pub(crate) fn der(&self) -> (Vec<CertificateDer<'static>>, PrivateKeyDer<'static>) {
        (vec![self.certificate.der().clone()], PrivatePkcs8KeyDer::from(self.key.serialize_der()).into())
    }

    /// How a server uses it that asks its clients for none.
    pub(crate) fn server(&self) -> Result<Arc<ServerConfig>> {
        let (chain, key) = self.der();
        let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
        let config = ServerConfig::builder_with_provider(provider).with_safe_default_protocol_versions()?;
        Ok(Arc::new(config.with_no_client_auth().with_single_cert(chain, key)?))
    }
}

impl Pki {
    /// A certificate of a host, signed by itself.
    pub(crate) fn host(&self, names: &[String]) -> Result<Pair> {
        let pair = own(names)?;
        let mut issued = self.issued.lock().unwrap_or_else(PoisonError::into_inner);
        issued.insert(pair.certificate.der().to_vec());
        Ok(pair)
    }

    /// Whether a host's certificate is this one.
    pub(crate) fn has_issued(&self, certificate: &CertificateDer<'_>) -> bool {
        self.issued.lock().unwrap_or_else(PoisonError::into_inner).contains(certificate.as_ref())
    }

    /// The certificate of an authority for clients, in PEM form.
    pub(crate) fn authority(&self, name: &str) -> Result<String> {
        Ok(self.find(name)?.certificate.clone())
    }

    /// A client's certificate.
    pub(crate) fn client(&self, common_name: &str, authority: &str) -> Result<Pair> {
        let mut params = CertificateParams::new(Vec::new())?;
        params.distinguished_name = named(common_name);
        let key = KeyPair::generate()?;
        let certificate = params.signed_by(&key, &self.find(authority)?.issuer)?;
        Ok(Pair { certificate, key })
    }

    fn find(&self, name: &str) -> Result<Arc<Authority>> {
        let mut authorities = self.authorities.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(authority) = authorities.get(name) {
            return Ok(Arc::clone(authority));
        }
        let mut params = CertificateParams::new(Vec::new())?;
        params.distinguished_name = named(&format!("bar CA {name}"));
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        let key = KeyPair::generate()?;
        let certificate = params.self_signed(&key)?.pem();
        let authority = Arc::new(Authority { certificate, issuer: Issuer::new(params, key) });
        authorities.insert(name.to_owned(), Arc::clone(&authority));
        Ok(authority)
    }
}

/// A certificate that is signed by itself.
pub(crate) fn own(names: &[String]) -> Result<Pair> {
    let mut params = CertificateParams::new(names)?;
    params.distinguished_name = named(names.first().map_or("nobody", String::as_str));
    let key = KeyPair::generate()?;
    Ok(Pair { certificate: params.self_signed(&key)?, key })
}

fn named(common_name: &str) -> DistinguishedName {
    let mut name = DistinguishedName::new();
    name.push(DnType::CommonName, common_name);
    name
}

/// The DNS names of a certificate.
pub(crate) fn dns_names(certificate: &CertificateDer<'_>) -> BTreeSet<String> {
    let Ok((_, parsed)) = X509Certificate::from_der(certificate) else { return BTreeSet::new() };
    let Ok(Some(names)) = parsed.subject_alternative_name() else { return BTreeSet::new() };
    let names = names.value.general_names.iter();
    names
        .filter_map(|name| if let GeneralName::DNSName(name) = name { Some((*name).to_owned()) } else { None })
        .collect()
}

/// The common name of its subject.
pub(crate) fn common_name(certificate: &CertificateDer<'_>) -> String {
    let Ok((_, parsed)) = X509Certificate::from_der(certificate) else { return String::new() };
    let name = parsed.subject().iter_common_name().next().and_then(|name| name.as_str().ok());
    name.unwrap_or_default().to_owned()
}
