//! One order, from the check of its hosts to the Secret.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use futures::future::join_all;
use instant_acme::{
    Account, AuthorizationStatus, CertificateIdentifier, ChallengeType, Error, Identifier, NewOrder, OrderStatus,
    RetryPolicy,
};
use k8s_openapi::ByteString;
use k8s_openapi::api::core::v1::Secret;
use landfall_ingress_model::acme::certificate::{self, Existing, FINGERPRINT, Facts, ISSUER, LABEL, MANAGED};
use landfall_ingress_model::acme::challenges::{Challenge, ChallengeKind};
use landfall_ingress_model::acme::plan::Order;
use landfall_ingress_model::acme::state::OrderState;
use landfall_ingress_model::acme::trouble::{Failure, Kind};
use landfall_ingress_model::acme::world::Outcome;
use rcgen::{CertificateParams, DistinguishedName, KeyPair};
use rustls_pki_types::CertificateDer;
use rustls_pki_types::pem::PemObject;
use tokio::time::timeout;

use super::account::Session;
use super::authority;
use super::edge::{Edge, PROBE};
use super::failure;
use super::probe;
use super::settings::SelfCheck;
use crate::control::unix_now;

/// How long a whole order may take. What the CA has by then is gone on with later.
const ORDER: Duration = Duration::from_mins(10);
/// How the CA is asked whether it is ready.
const POLL: RetryPolicy =
    RetryPolicy::new().initial_delay(Duration::from_millis(250)).backoff(1.5).timeout(Duration::from_mins(3));

/// Why an order has ended without a certificate.
#[derive(Debug, Default)]
struct Ended {
    hosts: Vec<(String, Failure)>,
    whole: Option<Failure>,
    /// Whether the CA's order is of no use any more.
    is_over: bool,
}

impl From<Failure> for Ended {
    fn from(failure: Failure) -> Self {
        Self { whole: Some(failure), ..Self::default() }
    }
}

impl Ended {
    /// An answer of the CA's that ends the order.
    fn refused(error: &Error, session: &Session, ordered: &[String]) -> Self {
        let (hosts, whole) = failure::of(error, ordered, session.https.retry_after());
        // What could not be asked at all can be asked again.
        let is_over =
            matches!(error, Error::Api(_)) && whole.as_ref().is_none_or(|failure| failure.kind != Kind::Unreachable);
        Self { hosts, whole, is_over }
    }
}

fn storing(error: &dyn std::fmt::Display) -> Failure {
    Failure::new(Kind::Storing, error.to_string(), "see what keeps it from being written")
}

/// Carries out an order.
pub(super) async fn carry_out(edge: Arc<Edge>, order: Order) -> Outcome {
    if order.issuer.internal.is_some() {
        return authority::carry_out(edge, order).await;
    }
    let name = order.secret.to_string();
    let mut run = Run { edge: &edge, order: &order, unproven: Vec::new() };
    let outcome = match timeout(ORDER, run.all()).await {
        Ok(Ok(issued)) => Outcome { hosts: run.unproven, whole: None, issued, is_over: true },
        Ok(Err(Ended { mut hosts, whole, is_over })) => {
            hosts.append(&mut run.unproven);
            Outcome { hosts, whole, issued: None, is_over }
        }
        Err(_) => {
            let failure = Failure::new(
                Kind::Unreachable,
                "the CA has not finished the order in time",
                "wait; it is gone on with",
            );
            Outcome { hosts: run.unproven, whole: Some(failure), issued: None, is_over: false }
        }
    };
    edge.withdraw(&format!("{name}{PROBE}"));
    if outcome.is_over {
        edge.withdraw(&name);
        if let Err(error) = edge.store.save_key(&order.secret, None).await {
            tracing::warn!(secret = name, %error, "the key of an order that is over can't be removed");
        }
    }
    outcome
}

struct Run<'a> {
    edge: &'a Edge,
    order: &'a Order,
    /// Hosts that were left out.
    unproven: Vec<(String, Failure)>,
}

impl Run<'_> {
    async fn all(&mut self) -> Result<Option<Existing>, Ended> {
        self.edge.store.check(&self.order.secret).await.map_err(|error| storing(&error))?;
        let hosts = match &self.order.resume {
            Some(known) => known.hosts.clone(),
            None => self.reachable().await?,
        };
        if hosts.is_empty() {
            return Err(Ended::default());
        }
        let issuer = &self.order.issuer;
        let mut session = Session::open(self.edge, issuer).await?;
        let began = match self.begin(&session, &hosts).await {
            Err(error) if is_unknown_account(&error) => {
                tracing::warn!(issuer = issuer.name, "the CA does not know the account any more");
                session = Session::replace(self.edge, issuer).await?;
                self.begin(&session, &hosts).await
            }
            began => began,
        };
        let order = began.map_err(|error| Ended::refused(&error, &session, &hosts))?;
        self.edge.memory().world.reached(&issuer.name);
        self.complete(&session, order, &hosts).await
    }

    /// The hosts at which our own check finds a challenge. The others are left out of the order, unless what is served
    /// is for them.
    async fn reachable(&mut self) -> Result<Vec<String>, Ended> {
        let hosts = &self.order.hosts;
        let issuer = &self.order.issuer;
        let kind = self.kind_for_check();
        if self.edge.self_check == SelfCheck::Off || kind == ChallengeKind::Dns01 {
            return Ok(hosts.clone());
        }
        let probe = |host: &String| Challenge {
            kind,
            host: host.clone(),
            token: format!("landfall-{:032x}", rand::random::<u128>()),
            key_authorization: format!("landfall-{:032x}", rand::random::<u128>()),
        };
        let checked = hosts.iter().filter(|host| !host.starts_with("*."));
        let challenges: Vec<Challenge> = checked.map(probe).collect();
        let name = format!("{}{PROBE}", self.order.secret);
        self.edge.show(&name, challenges.clone()).await.map_err(|error| storing(&error))?;
        let checks = challenges.iter().map(async |challenge| {
            let found = probe::check(&self.edge.names, challenge, issuer.ports, self.edge.self_check).await;
            (challenge.host.clone(), found)
        });
        let found = join_all(checks).await;
        self.edge.withdraw(&name);
        self.unproven = found.into_iter().filter_map(|(host, found)| Some((host, found.err()?))).collect();
        let is_unproven = |host: &String| self.unproven.iter().any(|(unproven, _)| unproven == host);
        if self.order.kept.iter().any(is_unproven) {
            return Err(Ended::default());
        }
        // The same certificate once more would be of no use, and CAs count them.
        let added = &self.order.added;
        if !added.is_empty() && added.iter().all(is_unproven) {
            return Err(Ended::default());
        }
        Ok(hosts.iter().filter(|host| !is_unproven(host)).cloned().collect())
    }

    fn kind_for_check(&self) -> ChallengeKind {
        self.order.issuer.challenges.first().copied().unwrap_or(ChallengeKind::Http01)
    }

    /// Goes on with the order that the CA knows, else begins one.
    async fn begin(&self, session: &Session, hosts: &[String]) -> Result<instant_acme::Order, Error> {
        if let Some(known) = &self.order.resume {
            match session.account.order(known.url.clone()).await {
                Ok(mut order) => {
                    if order.state().status != OrderStatus::Invalid {
                        return Ok(order);
                    }
                }
                // It has expired, or belongs to an account of before.
                Err(Error::Api(_)) => {}
                Err(error) => return Err(error),
            }
        }
        let identifiers: Vec<Identifier> = hosts.iter().map(|host| Identifier::Dns(host.clone())).collect();
        let order = match self.new_order(&session.account, &identifiers, true).await {
            // Another order has replaced that certificate, or the CA does not replace any.
            Err(Error::Unsupported(_)) => self.new_order(&session.account, &identifiers, false).await?,
            Err(Error::Api(problem)) if self.order.replaces.is_some() && is_about_replacing(&problem) => {
                self.new_order(&session.account, &identifiers, false).await?
            }
            order => order?,
        };
        let since = unix_now().as_secs();
        let issuer = self.order.issuer.name.clone();
        let state = OrderState { url: order.url().to_owned(), issuer, hosts: hosts.to_vec(), since };
        self.edge.memory().world.began(&self.order.secret, state);
        Ok(order)
    }

    async fn new_order(
        &self,
        account: &Account,
        identifiers: &[Identifier],
        replacing: bool,
    ) -> Result<instant_acme::Order, Error> {
        let mut new = NewOrder::new(identifiers);
        if let Some(profile) = &self.order.issuer.profile {
            new = new.profile(profile);
        }
        let replaces = self.order.replaces.as_deref().filter(|_| replacing).and_then(identifier);
        if let Some(replaces) = replaces {
            new = new.replaces(replaces);
        }
        account.new_order(&new).await
    }

    async fn complete(
        &self,
        session: &Session,
        mut order: instant_acme::Order,
        hosts: &[String],
    ) -> Result<Option<Existing>, Ended> {
        let refused = |error: &Error| Ended::refused(error, session, &self.order.hosts);
        if order.state().status == OrderStatus::Pending {
            self.prove(session, &mut order).await?;
        }
        let stored = self.edge.store.key(&self.order.secret).await.map_err(|error| storing(&error))?;
        let key = match (order.state().status, stored.and_then(|pem| KeyPair::from_pem(&pem).ok())) {
            (OrderStatus::Ready, _) => {
                let key = authority::key(self.order.issuer.key_type).map_err(|error| storing(&error))?;
                let kept = self.edge.store.save_key(&self.order.secret, Some(&key.serialize_pem())).await;
                kept.map_err(|error| storing(&error))?;
                order
                    .finalize_csr(&request(hosts, &key).map_err(|error| storing(&error))?)
                    .await
                    .map_err(|error| refused(&error))?;
                key
            }
            (OrderStatus::Processing | OrderStatus::Valid, Some(key)) => key,
            // Whoever had the key has not kept it, so that the certificate is of no use.
            _ => return Err(Ended { is_over: true, ..Ended::default() }),
        };
        let chain = order.poll_certificate(&POLL).await.map_err(|error| refused(&error))?;
        let chain = self.preferred(session, chain).await;
        self.keep(&chain, &key).await
    }

    /// Shows the challenges and waits until the CA has seen them.
    async fn prove(&self, session: &Session, order: &mut instant_acme::Order) -> Result<(), Ended> {
        let refused = |error: &Error| Ended::refused(error, session, &self.order.hosts);
        let mut challenges = Vec::new();
        let mut authorizations = order.authorizations();
        while let Some(authorization) = authorizations.next().await {
            let mut authorization = authorization.map_err(|error| refused(&error))?;
            if authorization.status != AuthorizationStatus::Pending {
                continue;
            }
            let host = authorization.identifier().to_string();
            let Some((kind, wanted)) = self.choose(&authorization.challenges) else {
                let error = format!("the CA offers no challenge for {host} that the issuer allows");
                let failure = Failure::new(Kind::Refused, error, "allow another challenge for the issuer");
                return Err(Ended { hosts: vec![(host, failure)], whole: None, is_over: true });
            };
            let Some(challenge) = authorization.challenge(wanted) else { continue };
            let key_authorization = challenge.key_authorization().as_str().to_owned();
            challenges.push(Challenge { kind, host, token: challenge.token.clone(), key_authorization });
        }
        if challenges.is_empty() {
            self.edge.save().await.map_err(|error| storing(&error))?;
        } else {
            self.edge.show(&self.order.secret.to_string(), challenges).await.map_err(|error| storing(&error))?;
        }
        let mut authorizations = order.authorizations();
        while let Some(authorization) = authorizations.next().await {
            let mut authorization = authorization.map_err(|error| refused(&error))?;
            let is_pending = authorization.status == AuthorizationStatus::Pending;
            let Some((_, wanted)) = self.choose(&authorization.challenges).filter(|_| is_pending) else { continue };
            if let Some(mut challenge) = authorization.challenge(wanted) {
                match challenge.set_ready().await {
                    // One that was asked for by our predecessor may have failed; the order says so below.
                    Ok(()) | Err(Error::Api(_)) => {}
                    Err(error) => return Err(refused(&error)),
                }
            }
        }
        match order.poll_ready(&POLL).await {
            Ok(OrderStatus::Ready) => Ok(()),
            Ok(_) | Err(Error::Api(_)) => Err(self.unproven(session, order.url()).await),
            Err(error) => Err(refused(&error)),
        }
    }

    /// The first of the issuer's challenges that the CA offers.
    fn choose(&self, offered: &[instant_acme::Challenge]) -> Option<(ChallengeKind, ChallengeType)> {
        let as_acme = |kind: &ChallengeKind| match kind {
            ChallengeKind::Http01 => ChallengeType::Http01,
            ChallengeKind::TlsAlpn01 => ChallengeType::TlsAlpn01,
            ChallengeKind::Dns01 => ChallengeType::Dns01,
        };
        let mut kinds = self.order.issuer.challenges.iter().map(|kind| (*kind, as_acme(kind)));
        kinds.find(|(_, wanted)| offered.iter().any(|challenge| challenge.r#type == *wanted))
    }

    /// Which hosts an order has failed because of.
    async fn unproven(&self, session: &Session, url: &str) -> Ended {
        let mut failed = BTreeMap::new();
        let mut order = match session.account.order(url.to_owned()).await {
            Ok(order) => order,
            Err(error) => return Ended::refused(&error, session, &self.order.hosts),
        };
        let mut authorizations = order.authorizations();
        while let Some(authorization) = authorizations.next().await {
            let Ok(authorization) = authorization else { continue };
            let host = authorization.identifier().to_string();
            if let Some(problem) = authorization.challenges.iter().find_map(|challenge| challenge.error.as_ref()) {
                failed.insert(host.clone(), failure::of_host(problem, &host));
            }
        }
        if failed.is_empty() {
            let error = order.state().error.clone().map(Error::Api);
            let error = error.unwrap_or(Error::Str("the order is invalid, and the CA does not say why"));
            return Ended { is_over: true, ..Ended::refused(&error, session, &self.order.hosts) };
        }
        Ended { hosts: failed.into_iter().collect(), whole: None, is_over: true }
    }

    /// The chain that ends where the issuer prefers it to; the first one, if none does.
    async fn preferred(&self, session: &Session, first: String) -> String {
        let Some(name) = &self.order.issuer.preferred_chain else { return first };
        if certificate::ends_at(first.as_bytes(), name) {
            return first;
        }
        for url in session.https.alternates() {
            // The crate has no call for another chain. It fetches the URL as an order, which fails, and the client has
            // the chain.
            let _ = session.account.order(url).await;
            if let Some(chain) = session.https.take_chain().filter(|chain| certificate::ends_at(chain.as_bytes(), name))
            {
                return chain;
            }
        }
        tracing::warn!(issuer = self.order.issuer.name, preferred = name, "the CA offers no chain that ends there");
        first
    }

    /// Keeps the certificate, once it is sure that it belongs to the key.
    async fn keep(&self, chain: &str, key: &KeyPair) -> Result<Option<Existing>, Ended> {
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

/// The Secret that an order makes of chain and key.
pub(super) fn secret(order: &Order, chain: &str, key: &str, fingerprint: String) -> Secret {
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

/// The certificate that an order replaces, from the form that the CA knows it in (RFC 9773 section 4.1).
pub(super) fn identifier(id: &str) -> Option<CertificateIdentifier<'_>> {
    let (authority, serial) = id.split_once('.')?;
    Some(CertificateIdentifier { authority_key_identifier: authority.into(), serial: serial.into() })
}

fn is_unknown_account(error: &Error) -> bool {
    matches!(error, Error::Api(problem) if problem.r#type.as_deref().is_some_and(|kind| kind.ends_with(":accountDoesNotExist")))
}

/// RFC 9773 section 5 has `alreadyReplaced`; others call it malformed or a conflict.
fn is_about_replacing(problem: &instant_acme::Problem) -> bool {
    let kind = problem.r#type.as_deref().unwrap_or_default();
    let says_so = problem.detail.as_deref().is_some_and(|detail| detail.contains("replace"));
    kind.ends_with(":alreadyReplaced") || problem.status == Some(409) || says_so
}

/// What the CA signs: the names and the key, nothing else.
fn request(hosts: &[String], key: &KeyPair) -> Result<Vec<u8>, rcgen::Error> {
    let mut params = CertificateParams::new(hosts.to_vec())?;
    params.distinguished_name = DistinguishedName::new();
    Ok(params.serialize_request(key)?.der().to_vec())
}
