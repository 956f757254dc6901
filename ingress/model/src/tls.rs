//! Certificates by server name.

use std::collections::{BTreeSet, HashSet};
use std::net::IpAddr;
use std::sync::Arc;

use landfall_model::ObjectKey;
use rustls::sign::CertifiedKey;
use rustls_pki_types::UnixTime;
use x509_parser::prelude::{FromDer, X509Certificate};

use crate::host::HostName;
use crate::table::HostMap;

/// A usable certificate from a Secret of type `kubernetes.io/tls`.
#[derive(Debug)]
pub struct Certificate {
    /// The Secret.
    pub secret: ObjectKey,
    /// Chain and key, checked to belong together.
    pub key: Arc<CertifiedKey>,
    /// DNS names (subject alternative names, else the common name) in lower case; wildcards with their `*.`; addresses
    /// as hosts.
    pub names: Vec<Box<str>>,
    /// Seconds since the epoch after which it is invalid.
    pub not_after: UnixTime,
}

impl Certificate {
    /// Whether it is for a name.
    pub fn is_for(&self, name: &HostName) -> bool {
        let parent = name.parent();
        let below = |wildcard: &str| wildcard.strip_prefix("*.").is_some_and(|domain| Some(domain) == parent);
        self.names.iter().any(|known| **known == *name.as_str() || below(known))
    }

    /// Who signed it: the common name of the issuer, else its organization, else all of its name.
    pub fn issuer(&self) -> Option<String> {
        let (_, parsed) = X509Certificate::from_der(self.key.cert.first()?).ok()?;
        let issuer = parsed.issuer();
        let named = issuer.iter_common_name().chain(issuer.iter_organization()).find_map(|name| name.as_str().ok());
        Some(named.map_or_else(|| issuer.to_string(), str::to_owned))
    }
}

/// Which certificate answers which server name.
#[derive(Debug, Default)]
pub struct CertificateTable {
    /// By exact name.
    pub exact: HostMap<Arc<Certificate>>,
    /// By the domain behind the `*.`.
    pub wildcard: HostMap<Arc<Certificate>>,
    /// Names that get the default certificate, whatever their wildcard has: its certificate is of another namespace
    /// than the rules of the name, or the oldest Ingress has none in class nginx.
    pub closed: HashSet<HostName>,
    /// Those of the exact names that are addresses.
    pub addresses: BTreeSet<HostName>,
    /// The one of `--default-ssl-certificate`.
    pub default: Option<Arc<Certificate>>,
}

impl CertificateTable {
    /// The certificate for a server name: exact, then wildcard, then the default.
    ///
    /// `None`: the listener's self-signed certificate.
    pub fn find(&self, name: Option<&HostName>) -> Option<&Arc<Certificate>> {
        name.and_then(|name| {
            self.exact.get(name).or_else(|| {
                let domain = name.parent().filter(|_| self.closed.is_empty() || !self.closed.contains(name))?;
                self.wildcard.get(domain)
            })
        })
        .or(self.default.as_ref())
    }

    /// The certificate for a client that names no server, as one does that was given an address (RFC 6066 section 3):
    /// that of the address which it connected to, then the default, then the first one that is for an address, since
    /// the address may have been translated on the way.
    pub fn find_unnamed(&self, local: IpAddr) -> Option<&Arc<Certificate>> {
        if self.addresses.is_empty() {
            return self.default.as_ref();
        }
        let first = || self.exact.get(self.addresses.first()?);
        self.exact.get(&HostName::from_address(local)).or(self.default.as_ref()).or_else(first)
    }
}
