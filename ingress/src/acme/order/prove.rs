//! Proving hosts to the CA.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use instant_acme::{AuthorizationStatus, ChallengeType, Error, OrderStatus};
use landfall_ingress_model::acme::challenges::{Challenge, ChallengeKind};
use landfall_ingress_model::acme::trouble::{Failure, Kind};
use tokio::time::{Instant, sleep};

use super::{Ended, POLL, Run, storing};
use crate::acme::account::Session;
use crate::acme::dns::{self, Proof};
use crate::acme::failure;

/// Pause before the CA is asked again for a host, and how often it is.
const PAUSE: Duration = Duration::from_secs(1);
const LONGEST: Duration = Duration::from_mins(3);

impl Run<'_> {
    /// Shows the challenges and waits until the CA has seen them.
    pub(super) async fn prove(&self, session: &Session, order: &mut instant_acme::Order) -> Result<(), Ended> {
        let refused = |error: &Error| Ended::refused(error, session, &self.order.hosts);
        let challenges = self.challenges(session, order).await?;
        let (by_dns, others): (Vec<_>, Vec<_>) =
            challenges.into_iter().partition(|challenge| challenge.kind == ChallengeKind::Dns01);
        if others.is_empty() {
            self.edge.save().await.map_err(|error| storing(&error))?;
        } else {
            let hosts = others.iter().map(|challenge| challenge.host.clone()).collect();
            self.edge.show(&self.order.secret.to_string(), others).await.map_err(|error| storing(&error))?;
            self.set_ready(session, order, &hosts).await?;
        }
        let proofs: Vec<Proof> = by_dns.into_iter().map(Proof::from).collect();
        let holds_one = self.order.issuer.dns.as_ref().is_some_and(|dns| dns.provider.holds_one());
        if holds_one {
            self.prove_in_turn(session, order, &proofs).await?;
        } else if !proofs.is_empty() {
            self.prove_by_dns(session, order, &proofs).await?;
        }
        match order.poll_ready(&POLL).await {
            Ok(OrderStatus::Ready) => Ok(()),
            Err(Error::Api(problem)) if is_of_the_account(&problem) => Err(refused(&Error::Api(problem))),
            Ok(_) | Err(Error::Api(_)) => Err(self.unproven(session, order.url()).await),
            Err(error) => Err(refused(&error)),
        }
    }

    /// A challenge for each host that is yet to be proven.
    async fn challenges(&self, session: &Session, order: &mut instant_acme::Order) -> Result<Vec<Challenge>, Ended> {
        let mut challenges = Vec::new();
        let mut authorizations = order.authorizations();
        while let Some(authorization) = authorizations.next().await {
            let mut authorization =
                authorization.map_err(|error| Ended::refused(&error, session, &self.order.hosts))?;
            if authorization.status != AuthorizationStatus::Pending {
                continue;
            }
            let host = authorization.identifier().to_string();
            let Some((kind, wanted)) = self.choose(&host, &authorization.challenges) else {
                let error = format!("the CA offers no challenge for {host} that the issuer allows");
                let failure = Failure::new(Kind::Refused, error, "allow another challenge for the issuer");
                return Err(Ended { hosts: vec![(host, failure)], is_over: true, ..Ended::default() });
            };
            let Some(challenge) = authorization.challenge(wanted) else { continue };
            let key_authorization = challenge.key_authorization().as_str().to_owned();
            challenges.push(Challenge { kind, host, token: challenge.token.clone(), key_authorization });
        }
        Ok(challenges)
    }

    async fn prove_by_dns(
        &self,
        session: &Session,
        order: &mut instant_acme::Order,
        proofs: &[Proof],
    ) -> Result<(), Ended> {
        // The order stays as it is at the CA, and is gone on with.
        let failed = |hosts| Ended { hosts, ..Ended::default() };
        dns::set(self.edge, self.order, proofs).await.map_err(failed)?;
        let hosts = proofs.iter().map(|proof| proof.host.clone()).collect();
        self.set_ready(session, order, &hosts).await
    }

    /// Proves one host after the other, where there can be only one record at a time.
    async fn prove_in_turn(
        &self,
        session: &Session,
        order: &mut instant_acme::Order,
        proofs: &[Proof],
    ) -> Result<(), Ended> {
        for proof in proofs {
            let _turn = self.edge.turns.lock().await;
            let proven = async {
                self.prove_by_dns(session, order, std::slice::from_ref(proof)).await?;
                self.decided(session, order, &proof.host).await
            };
            let proven = proven.await;
            dns::clean(self.edge, &self.order.secret).await;
            proven?;
        }
        Ok(())
    }

    /// Has the CA look at the challenges of these hosts.
    async fn set_ready(
        &self,
        session: &Session,
        order: &mut instant_acme::Order,
        hosts: &BTreeSet<String>,
    ) -> Result<(), Ended> {
        let refused = |error: &Error| Ended::refused(error, session, &self.order.hosts);
        let mut authorizations = order.authorizations();
        while let Some(authorization) = authorizations.next().await {
            let mut authorization = authorization.map_err(|error| refused(&error))?;
            let host = authorization.identifier().to_string();
            if authorization.status != AuthorizationStatus::Pending || !hosts.contains(&host) {
                continue;
            }
            let Some((_, wanted)) = self.choose(&host, &authorization.challenges) else { continue };
            if let Some(mut challenge) = authorization.challenge(wanted) {
                match challenge.set_ready().await {
                    Ok(()) => {}
                    // One that was asked for by our predecessor may have failed; the order says so below.
                    Err(Error::Api(problem)) if !is_of_the_account(&problem) => {}
                    Err(error) => return Err(refused(&error)),
                }
            }
        }
        Ok(())
    }

    /// Waits until the CA has decided about a host. What it has decided, the order says.
    async fn decided(&self, session: &Session, order: &mut instant_acme::Order, host: &str) -> Result<(), Ended> {
        let refused = |error: &Error| Ended::refused(error, session, &self.order.hosts);
        let until = Instant::now() + LONGEST;
        while Instant::now() < until {
            let mut authorizations = order.authorizations();
            while let Some(authorization) = authorizations.next().await {
                let mut authorization = authorization.map_err(|error| refused(&error))?;
                if authorization.identifier().to_string() != host {
                    continue;
                }
                let state = authorization.refresh().await.map_err(|error| refused(&error))?;
                if state.status != AuthorizationStatus::Pending {
                    return Ok(());
                }
            }
            sleep(PAUSE).await;
        }
        Ok(())
    }

    /// The first of the challenges for a host that the CA offers.
    fn choose(&self, host: &str, offered: &[instant_acme::Challenge]) -> Option<(ChallengeKind, ChallengeType)> {
        let as_acme = |kind: ChallengeKind| match kind {
            ChallengeKind::Http01 => ChallengeType::Http01,
            ChallengeKind::TlsAlpn01 => ChallengeType::TlsAlpn01,
            ChallengeKind::Dns01 => ChallengeType::Dns01,
        };
        let mut kinds = self.order.issuer.kinds(host).into_iter().map(|kind| (kind, as_acme(kind)));
        kinds.find(|(_, wanted)| offered.iter().any(|challenge| challenge.r#type == *wanted))
    }

    /// Which hosts an order has failed because of.
    async fn unproven(&self, session: &Session, url: &str) -> Ended {
        let mut failed = BTreeMap::new();
        let mut order = match session.account.order(url.to_owned()).await {
            Ok(order) => order,
            Err(error) => return Ended::refused(&error, session, &self.order.hosts),
        };
        if order.state().status == OrderStatus::Pending {
            let failure =
                Failure::new(Kind::Unreachable, "the CA has not decided about the order", "wait; it is gone on with");
            return failure.into();
        }
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
        Ended { hosts: failed.into_iter().collect(), is_over: true, ..Ended::default() }
    }
}

/// Whether an answer is about whoever asks, or about the moment, rather than about what is asked for.
fn is_of_the_account(problem: &instant_acme::Problem) -> bool {
    failure::is_passing(problem) || problem.r#type.as_deref().is_some_and(|kind| kind.ends_with(":accountDoesNotExist"))
}
