//! What an order ends with: the chain, the key and the Secret.

use k8s_openapi::ByteString;
use k8s_openapi::api::core::v1::Secret;
use landfall_ingress_model::acme::certificate::{self, Existing, FINGERPRINT, Facts, ISSUER, LABEL, MANAGED};
use landfall_ingress_model::acme::plan::Order;
use landfall_ingress_model::acme::trouble::{Failure, Kind};
use rcgen::{CertificateParams, DistinguishedName, KeyPair};
use rustls_pki_types::CertificateDer;
use rustls_pki_types::pem::PemObject;

use super::{Ended, Run, storing};
use crate::acme::account::Session;

/// How often another chain is asked for until it comes.
const ALTERNATE_TRIES: usize = 3;

impl Run<'_> {
    /// The chain that ends where the issuer prefers it to; the first one, if none does.
    pub(super) async fn preferred(&self, session: &Session, first: String) -> String {
        let Some(name) = &self.order.issuer.preferred_chain else { return first };
        if certificate::ends_at(first.as_bytes(), name) {
            return first;
        }
        for url in session.https.alternates() {
            let chain = alternate(session, &url).await;
            if let Some(chain) = chain.filter(|chain| certificate::ends_at(chain.as_bytes(), name)) {
                return chain;
            }
        }
        let issuer = self.order.issuer.name.as_str();
        let ends = certificate::ends(first.as_bytes()).join(", ");
        tracing::warn!(issuer, preferred = name, ends, "the CA offers no chain that ends where it is preferred to");
        first
    }

    /// Keeps the certificate, once it is sure that it belongs to the key.
    pub(super) async fn keep(&self, chain: &str, key: &KeyPair) -> Result<Option<Existing>, Ended> {
        let bad = |error: String| {
            let failure = Failure::new(Kind::Refused, error, "see whether the CA works for others");
            Ended { whole: Some(failure), is_over: true, ..Ended::default() }
        };
        let der: Result<Vec<_>, _> = CertificateDer::pem_slice_iter(chain.as_bytes()).collect();
        let der = der.map_err(|error| bad(format!("the CA's certificate can't be read: {error}")))?;
        let private = rustls_pki_types::PrivatePkcs8KeyDer::from(key.serialize_der());
        rustls::sign::CertifiedKey::from_der(der, private.into(), &crate::crypto_provider())
            .map_err(|error| bad(format!("the CA's certificate does not belong to its key: {error}")))?;
        if Facts::read(chain.as_bytes()).is_none() {
            return Err(bad("the CA's certificate can't be read".to_owned()));
        }
        let secret = secret(self.order, chain, &key.serialize_pem(), self.order.issuer.fingerprint());
        self.edge.store.put(&self.order.secret, &secret).await.map_err(|error| storing(&error))?;
        Ok(Some(Existing::read(&secret)))
    }
}

/// A chain that the CA offers besides the first one.
async fn alternate(session: &Session, url: &str) -> Option<String> {
    session.https.take_chain();
    for _ in 0..ALTERNATE_TRIES {
        // The crate has no call for another chain. It fetches the URL as an order, which fails, and the client has the
        // chain: unless the CA was not content with a nonce, or is away for a moment.
        let _ = session.account.order(url.to_owned()).await;
        if let Some(chain) = session.https.take_chain() {
            return Some(chain);
        }
    }
    None
}

/// The Secret that an order makes of chain and key.
pub(in crate::acme) fn secret(order: &Order, chain: &str, key: &str, fingerprint: String) -> Secret {
    let bytes = |text: &str| ByteString(text.as_bytes().to_vec());
    let mut secret = Secret {
        type_: Some("kubernetes.io/tls".to_owned()),
        data: Some([("tls.crt".to_owned(), bytes(chain)), ("tls.key".to_owned(), bytes(key))].into()),
        ..Secret::default()
    };
    secret.metadata.name = Some(order.secret.name().to_owned());
    secret.metadata.namespace = Some(order.secret.namespace().to_owned());
    secret.metadata.labels = Some([(LABEL.to_owned(), MANAGED.to_owned())].into());
    let annotations = [(ISSUER.to_owned(), order.issuer.name.clone()), (FINGERPRINT.to_owned(), fingerprint)];
    secret.metadata.annotations = Some(annotations.into());
    secret
}

/// What the CA signs: the names and the key, nothing else.
pub(super) fn request(hosts: &[String], key: &KeyPair) -> Result<Vec<u8>, rcgen::Error> {
    let mut params = CertificateParams::new(hosts.to_vec())?;
    params.distinguished_name = DistinguishedName::new();
    Ok(params.serialize_request(key)?.der().to_vec())
}
