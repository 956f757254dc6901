//! A root: the one of our own, which is made where there is none, or one that somebody brings along.

use std::collections::BTreeMap;

use base64::Engine as _;
use landfall_ingress_model::acme::internal::{Chain, Internal, Lifetime};
use landfall_ingress_model::acme::issuer::Issuer;
use landfall_ingress_model::acme::trouble::Failure;
use landfall_model::ObjectKey;
use rcgen::{KeyPair, PublicKeyData as _};
use rustls_pki_types::CertificateDer;
use sha2::{Digest, Sha256};

use super::make::{self, Validity};
use super::{ROOT, ROOT_KEY, unusable};
use crate::acme::edge::Edge;

/// Entries of a Secret, as text.
pub(super) type Entries = BTreeMap<String, String>;

/// What signs intermediates: a root, or a CA below one with the certificates up to it.
pub(super) struct Root {
    pub(super) chain: Chain,
    pub(super) key: KeyPair,
}

impl Root {
    /// The root of an issuer. Where there is none and none is brought along, one is made.
    pub(super) async fn open(edge: &Edge, internal: &Internal, issuer: &Issuer, now: u64) -> Result<Self, Failure> {
        if let Some(found) = Self::find(edge, internal).await? {
            return Ok(found);
        }
        let key = make::key(issuer.key_type).map_err(unusable)?;
        let validity = Validity::of(Lifetime::ROOT, now, u64::MAX);
        let certificate = make::root(&key, &internal.permitted, validity).map_err(unusable)?;
        let entries = Entries::from([(ROOT.to_owned(), certificate.pem()), (ROOT_KEY.to_owned(), key.serialize_pem())]);
        // Whoever was faster has made the one that counts.
        if edge.store.create_authority(&entries).await.map_err(unusable)? {
            tracing::info!(issuer = issuer.name, "root of a CA of our own created");
        }
        let found = Self::find(edge, internal).await?;
        found.ok_or_else(|| unusable("the root that was made has gone"))
    }

    /// The root of an issuer, if it is there.
    pub(super) async fn find(edge: &Edge, internal: &Internal) -> Result<Option<Self>, Failure> {
        if let Some(secret) = &internal.root {
            return Self::brought(edge, secret).await.map(Some);
        }
        let entries = edge.store.authority().await.map_err(unusable)?;
        match (entries.get(ROOT), entries.get(ROOT_KEY)) {
            (None, None) => Ok(None),
            (Some(certificate), Some(key)) => Self::read(certificate, key).map(Some),
            (None, _) => Err(unusable(format!("it has a {ROOT_KEY} and no {ROOT}"))),
            (_, None) => Err(unusable(format!("it has a {ROOT} and no {ROOT_KEY}"))),
        }
    }

    /// The root in a Secret of somebody's; one of type `kubernetes.io/tls` will do, as cert-manager's CA issuers have.
    async fn brought(edge: &Edge, secret: &ObjectKey) -> Result<Self, Failure> {
        let entry = async |name: &str| {
            let found = edge.store.entry(secret, name).await.map_err(unusable)?;
            Ok::<_, Failure>(found.map(|bytes| String::from_utf8_lossy(&bytes).into_owned()))
        };
        let key = entry(ROOT_KEY).await?;
        let (key, name) = if key.is_some() { (key, ROOT) } else { (entry("tls.key").await?, "tls.crt") };
        match (entry(name).await?, key) {
            (Some(certificate), Some(key)) => Self::read(&certificate, &key)
                .map_err(|failure| Failure { error: format!("Secret {secret}: {}", failure.error), ..failure }),
            _ => Err(unusable(format!("Secret {secret} is not there or has no {ROOT} and {ROOT_KEY}"))),
        }
    }

    /// Reads chain and key in PEM form, and checks that they can be used.
    pub(super) fn read(chain: &str, key: &str) -> Result<Self, Failure> {
        let chain = Chain::read(chain).map_err(unusable)?;
        let key = KeyPair::from_pem(key).map_err(|error| unusable(format!("its key can't be read: {error}")))?;
        if chain.public_key != key.subject_public_key_info() {
            return Err(unusable("its key does not belong to its certificate"));
        }
        Ok(Self { chain, key })
    }

    /// Tells one root from another.
    pub(super) fn id(&self) -> String {
        let digest = Sha256::digest(self.chain.own());
        let (first, _) = digest.split_at(8);
        format!("{:016x}", first.iter().fold(0_u64, |id, byte| id << 8 | u64::from(*byte)))
    }

    /// What devices are to trust, in PEM form.
    pub(super) fn anchor(&self) -> String {
        pem(self.chain.anchor())
    }
}

/// A certificate in PEM form (RFC 7468).
pub(super) fn pem(der: &CertificateDer<'_>) -> String {
    let text = base64::prelude::BASE64_STANDARD.encode(der);
    let mut pem = "-----BEGIN CERTIFICATE-----\n".to_owned();
    let mut rest = text.as_str();
    while !rest.is_empty() {
        let (line, after) = rest.split_at(rest.len().min(64));
        pem.push_str(line);
        pem.push('\n');
        rest = after;
    }
    pem + "-----END CERTIFICATE-----\n"
}
