//! One order, from the check of its hosts to the Secret.

mod check;
mod keep;
mod key;
mod prove;

use std::sync::Arc;
use std::time::Duration;

use instant_acme::{Account, CertificateIdentifier, Error, Identifier, NewOrder, OrderStatus, RetryPolicy};
use landfall_ingress_model::acme::certificate::Existing;
use landfall_ingress_model::acme::plan::Order;
use landfall_ingress_model::acme::state::OrderState;
use landfall_ingress_model::acme::trouble::{Failure, Kind};
use landfall_ingress_model::acme::world::Outcome;
use rcgen::KeyPair;
use tokio::time::timeout;

use super::account::Session;
use super::authority;
use super::dns;
use super::edge::{Edge, PROBE};
use super::failure;
use crate::control::unix_now;
use keep::request;

pub(super) use keep::secret;

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
    /// Whether the CA does not know the account.
    has_lost_account: bool,
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
        Self { hosts, whole, is_over, has_lost_account: failure::is_unknown_account(error) }
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
    let mut run = Run { edge: &edge, order: &order, unproven: Vec::new(), lost_account: None };
    let mut outcome = match timeout(ORDER, run.all()).await {
        Ok(Ok(issued)) => Outcome { issued, is_over: true, ..Outcome::default() },
        Ok(Err(Ended { hosts, whole, is_over, .. })) => Outcome { hosts, whole, is_over, ..Outcome::default() },
        Err(_) => {
            let failure = Failure::new(
                Kind::Unreachable,
                "the CA has not finished the order in time",
                "wait; it is gone on with",
            );
            Outcome { whole: Some(failure), ..Outcome::default() }
        }
    };
    outcome.hosts.append(&mut run.unproven);
    outcome.lost_account = run.lost_account;
    edge.withdraw(&format!("{name}{PROBE}"));
    dns::clean(&edge, &order.secret).await;
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
    /// An account that the CA did not know any more, once another one was opened.
    lost_account: Option<String>,
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
        let session = Session::open(self.edge, issuer).await?;
        match self.with(&session, &hosts).await {
            // Its orders have gone with it, so that everything begins once more.
            Err(Ended { has_lost_account: true, .. }) => {
                let lost = session.account.id().to_owned();
                tracing::warn!(issuer = issuer.name, account = lost, "the CA does not know the account any more");
                let session = session.replace(self.edge, issuer).await?;
                self.lost_account = Some(lost);
                self.with(&session, &hosts).await
            }
            outcome => outcome,
        }
    }

    /// The order as a whole, with one account.
    async fn with(&self, session: &Session, hosts: &[String]) -> Result<Option<Existing>, Ended> {
        let began = self.begin(session, hosts).await;
        let order = began.map_err(|error| Ended::refused(&error, session, hosts))?;
        self.edge.memory().world.reached(&self.order.issuer.name);
        self.complete(session, order, hosts).await
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
                Err(Error::Api(problem)) if !failure::is_passing(&problem) => {}
                Err(error) => return Err(error),
            }
        }
        let identifiers: Vec<Identifier> = hosts.iter().map(|host| Identifier::Dns(host.clone())).collect();
        let order = match self.new_order(&session.account, &identifiers, true).await {
            // Another order has replaced that certificate, or the CA does not replace any.
            Err(Error::Unsupported(_)) => self.new_order(&session.account, &identifiers, false).await?,
            Err(Error::Api(problem)) if self.order.replaces.is_some() && may_be_about_replacing(&problem) => {
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
                let key = self.next_key().await?;
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
}

/// The certificate that an order replaces, from the form that the CA knows it in (RFC 9773 section 4.1).
pub(super) fn identifier(id: &str) -> Option<CertificateIdentifier<'_>> {
    let (authority, serial) = id.split_once('.')?;
    Some(CertificateIdentifier { authority_key_identifier: authority.into(), serial: serial.into() })
}

/// Whether an order may have been refused for the certificate that it says it replaces. To say so is a courtesy, so that
/// the order is made without it unless the CA's words are surely about something else. RFC 9773 section 5 has
/// `alreadyReplaced`; a CA with another key than it had says malformed, one with another account unauthorized.
fn may_be_about_replacing(problem: &instant_acme::Problem) -> bool {
    let name = problem.r#type.as_deref().and_then(|urn| urn.rsplit(':').next()).unwrap_or_default();
    let is_other = matches!(
        name,
        "accountDoesNotExist"
            | "badNonce"
            | "caa"
            | "externalAccountRequired"
            | "rateLimited"
            | "rejectedIdentifier"
            | "unsupportedIdentifier"
            | "userActionRequired"
    );
    !is_other && problem.subproblems.is_empty() && !matches!(problem.status, Some(429 | 503))
}
