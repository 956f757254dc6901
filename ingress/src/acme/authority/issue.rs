//! A certificate of a CA of our own, from the order to the Secret.

use std::sync::Arc;

use landfall_ingress_model::acme::certificate::{Existing, Facts};
use landfall_ingress_model::acme::internal::Internal;
use landfall_ingress_model::acme::issuer::Issuer;
use landfall_ingress_model::acme::plan::Order;
use landfall_ingress_model::acme::schedule::renew_at;
use landfall_ingress_model::acme::trouble::{Failure, Kind};
use landfall_ingress_model::acme::world::Outcome;
use rcgen::KeyPair;
use rustls::client::WebPkiServerVerifier;
use rustls::client::danger::ServerCertVerifier;
use rustls::{CertificateError, RootCertStore};
use rustls_pki_types::pem::PemObject;
use rustls_pki_types::{CertificateDer, ServerName, UnixTime};

use super::make::{self, Validity};
use super::root::{Entries, Root, pem};
use super::unusable;
use crate::acme::edge::Edge;
use crate::acme::order::secret;
use crate::control::unix_now;

/// What signs certificates.
pub(super) struct Signer {
    /// Its certificate, and those up to the root, as servers send them.
    pub(super) sent: Vec<CertificateDer<'static>>,
    pub(super) certificate: CertificateDer<'static>,
    pub(super) key: KeyPair,
    pub(super) not_after: u64,
}

/// Carries out an order.
pub(in crate::acme) async fn carry_out(edge: Arc<Edge>, order: Order) -> Outcome {
    match run(&edge, &order).await {
        Ok(outcome) => outcome,
        Err(failure) => Outcome { whole: Some(failure), is_over: true, ..Outcome::default() },
    }
}

async fn run(edge: &Edge, order: &Order) -> Result<Outcome, Failure> {
    let issuer = &order.issuer;
    let Some(internal) = issuer.internal.as_deref() else {
        return Err(unusable("the issuer has no CA of its own"));
    };
    let now = unix_now().as_secs();
    edge.store.check(&order.secret).await.map_err(|error| storing(&error))?;
    // Orders that begin together make one root and one intermediate.
    let turn = edge.authorities.lock().await;
    let root = Root::open(edge, internal, issuer, now).await?;
    if root.chain.not_after <= now {
        return Err(unusable("its root has expired; make or bring another one, and have devices trust that"));
    }
    let signer = Signer::open(edge, internal, issuer, &root, now).await?;
    drop(turn);
    super::tend::show(edge, issuer, &root).await;

    let (hosts, refused): (Vec<String>, Vec<String>) =
        order.hosts.iter().cloned().partition(|host| root.chain.constraints.allow(host));
    let outside = |host: String| {
        let error = format!("the root of the CA does not permit {host}, so that no device would trust the certificate");
        let remedy = "make another root, by deleting the one of before (docs/https.md), or ask another issuer";
        (host, Failure::new(Kind::NotPermitted, error, remedy))
    };
    let refused: Vec<(String, Failure)> = refused.into_iter().map(outside).collect();
    if hosts.is_empty() || refused.iter().any(|(host, _)| order.kept.contains(host)) {
        return Ok(Outcome { hosts: refused, is_over: true, ..Outcome::default() });
    }
    let key = make::key(issuer.key_type).map_err(unusable)?;
    let chain = signer.sign(&key, &hosts, internal, now)?;
    check(&chain, &root, &hosts)?;
    let text: String = chain.iter().map(pem).collect();
    let fingerprint = format!("{} {}", issuer.fingerprint(), root.id());
    let mut secret = secret(order, &text, &key.serialize_pem(), fingerprint);
    let anchor = k8s_openapi::ByteString(root.anchor().into_bytes());
    secret.data.get_or_insert_default().insert(super::ROOT.to_owned(), anchor);
    edge.store.put(&order.secret, &secret).await.map_err(|error| storing(&error))?;
    Ok(Outcome { hosts: refused, issued: Some(Existing::read(&secret)), is_over: true, ..Outcome::default() })
}

fn storing(error: &dyn std::fmt::Display) -> Failure {
    Failure::new(Kind::Storing, error.to_string(), "see what keeps it from being written")
}

impl Signer {
    /// The intermediate of an issuer, which is made anew when its time comes; the root itself, where that may have
    /// nothing below it.
    pub(super) async fn open(
        edge: &Edge,
        internal: &Internal,
        issuer: &Issuer,
        root: &Root,
        now: u64,
    ) -> Result<Self, Failure> {
        let sent: Vec<_> = root.chain.sent().cloned().collect();
        if !root.chain.has_room_below {
            let key = KeyPair::from_pem(&root.key.serialize_pem()).map_err(unusable)?;
            return Ok(Self { certificate: root.chain.own().clone(), sent, key, not_after: root.chain.not_after });
        }
        let name = |part: &str| format!("intermediate.{}.{part}", issuer.name);
        // What it was made for; for anything else another one is made.
        let made_for =
            format!("{} {:?} {} {}", root.id(), issuer.key_type, internal.intermediate_lifetime, internal.permitted);
        let entries = edge.store.authority().await.map_err(unusable)?;
        if entries.get(&name("for")) == Some(&made_for)
            && let (Some(certificate), Some(key)) = (entries.get(&name("crt")), entries.get(&name("key")))
            && let Some(signer) = Self::read(certificate, key, &sent, &issuer.name, internal, root.chain.not_after, now)
        {
            return Ok(signer);
        }
        let key = make::key(issuer.key_type).map_err(unusable)?;
        let validity = Validity::of(internal.intermediate_lifetime, now, root.chain.not_after);
        let by = rcgen::Issuer::from_ca_cert_der(root.chain.own(), &root.key).map_err(unusable)?;
        let certificate = make::intermediate(&key, &internal.permitted, validity, &by).map_err(unusable)?;
        let changed = Entries::from([
            (name("crt"), certificate.pem()),
            (name("key"), key.serialize_pem()),
            (name("for"), made_for),
        ]);
        edge.store.save_authority(&changed).await.map_err(unusable)?;
        tracing::info!(issuer = issuer.name, expires = validity.end, "intermediate of a CA of our own created");
        let certificate = certificate.der().clone();
        let sent = std::iter::once(certificate.clone()).chain(sent).collect();
        Ok(Self { sent, certificate, key, not_after: validity.end })
    }

    /// The one that is kept, unless it is time for another.
    fn read(
        certificate: &str,
        key: &str,
        sent: &[CertificateDer<'static>],
        name: &str,
        internal: &Internal,
        limit: u64,
        now: u64,
    ) -> Option<Self> {
        let facts = Facts::read(certificate.as_bytes())?;
        let remaining = facts.not_after.saturating_sub(now);
        // Towards the end of the root's life there is nothing longer to be had.
        let is_last = facts.not_after >= limit && facts.not_after > now;
        let is_long_enough = now < renew_at(&facts, None, name) && remaining > internal.lifetime.seconds();
        if !is_long_enough && !is_last {
            return None;
        }
        let certificate = CertificateDer::from_pem_slice(certificate.as_bytes()).ok()?;
        let sent = std::iter::once(certificate.clone()).chain(sent.iter().cloned()).collect();
        Some(Self {
            sent,
            key: KeyPair::from_pem(key).ok()?,
            not_after: facts.not_after.saturating_sub(1),
            certificate,
        })
    }

    /// A certificate for these hosts, with what servers send besides.
    pub(super) fn sign(
        &self,
        key: &KeyPair,
        hosts: &[String],
        internal: &Internal,
        now: u64,
    ) -> Result<Vec<CertificateDer<'static>>, Failure> {
        let validity = Validity::of(internal.lifetime, now, self.not_after);
        let by = rcgen::Issuer::from_ca_cert_der(&self.certificate, &self.key).map_err(unusable)?;
        let leaf = make::leaf(key, hosts, validity, &by).map_err(unusable)?;
        Ok(std::iter::once(leaf.der().clone()).chain(self.sent.iter().cloned()).collect())
    }
}

/// Looks at a certificate as a client would who trusts the root. One that nobody takes is worse than the one of before.
pub(super) fn check(chain: &[CertificateDer<'_>], root: &Root, hosts: &[String]) -> Result<(), Failure> {
    let refused = |host: &str, error: &dyn std::fmt::Display| {
        unusable(format!("clients would refuse a certificate that it signs for {host}: {error}"))
    };
    let mut roots = RootCertStore::empty();
    roots.add(root.chain.anchor().clone()).map_err(|error| unusable(format!("its root can't be trusted: {error}")))?;
    let verifier = WebPkiServerVerifier::builder_with_provider(roots.into(), crate::crypto_provider());
    let verifier = verifier.build().map_err(unusable)?;
    let (leaf, sent) = chain.split_first().ok_or_else(|| unusable("it signs nothing"))?;
    for host in hosts {
        let asked = host.strip_prefix('*').map_or_else(|| host.clone(), |domain| format!("any{domain}"));
        let name = ServerName::try_from(asked).map_err(|error| refused(host, &error))?;
        match verifier.verify_server_cert(leaf, sent, &name, &[], UnixTime::now()) {
            Ok(_) => {}
            Err(rustls::Error::InvalidCertificate(CertificateError::NotValidForNameContext { .. })) => {
                return Err(refused(host, &"the name is not in it"));
            }
            Err(error) => return Err(refused(host, &error)),
        }
    }
    Ok(())
}
