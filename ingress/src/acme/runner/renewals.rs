//! Asking CAs when to renew, and whether they have revoked what they issued.

use std::time::Duration;

use bytes::Bytes;
use http::{Request, StatusCode};
use instant_acme::BodyWrapper;
use landfall_ingress_model::acme::issuer::Issuer;
use landfall_ingress_model::acme::plan::Check;
use landfall_ingress_model::acme::revocation;
use landfall_ingress_model::acme::state::Renewal;
use landfall_ingress_model::reason;
use landfall_model::ObjectKey;
use rustls_pki_types::UnixTime;

use super::Runner;
use crate::acme::account::Session;
use crate::acme::edge::Edge;
use crate::acme::https::Https;
use crate::acme::order;
use crate::control::unix_now;

/// When the CA is asked again about a renewal when it says nothing (RFC 9773 section 4.3.3: six hours).
const ASK_AGAIN: u64 = 6 * 3600;
/// Bounds of when the CA may want to be asked again.
const SOONEST: u64 = 60;
const LATEST: u64 = 24 * 3600;
/// Bytes of a list of revoked certificates. Those of big CAs are split, and have some hundred thousand.
const LARGEST_LIST: usize = 16 << 20;

impl Runner {
    pub(super) fn ask_about_renewal(&mut self, check: Check, now: u64) {
        let edge = self.edge.clone();
        let former = edge
            .memory()
            .world
            .state()
            .certificates
            .get(&check.secret.to_string())
            .and_then(|state| state.renewal.clone());
        self.checks.spawn(async move {
            let Check { secret, issuer, id } = check;
            let former = former.filter(|former| former.id == id);
            let asked = match (Session::open(&edge, &issuer).await, order::identifier(&id)) {
                (Ok(session), Some(identifier)) => {
                    session.account.renewal_info(&identifier).await.map_err(|error| error.to_string())
                }
                (Err(failure), _) => Err(failure.error),
                (_, None) => Err("the certificate has no identifier".to_owned()),
            };
            let mut renewal = match asked {
                Ok((info, pause)) => {
                    let seconds = |time: i64| u64::try_from(time).unwrap_or(0);
                    let window = &info.suggested_window;
                    let window = (seconds(window.start.unix_timestamp()), seconds(window.end.unix_timestamp()));
                    let check = now + pause.as_secs().clamp(SOONEST, LATEST);
                    let explanation = info.explanation_url;
                    tracing::debug!(%secret, start = window.0, end = window.1, explanation, "renewal window");
                    Renewal { id, window: Some(window), check, explanation, is_revoked: false }
                }
                Err(error) => {
                    tracing::debug!(%secret, error, "the CA says nothing of renewing");
                    // What it said before still counts.
                    let window = former.as_ref().and_then(|former| former.window);
                    Renewal { id, window, check: now + ASK_AGAIN, explanation: None, is_revoked: false }
                }
            };
            // What was revoked once stays so.
            renewal.is_revoked = former.as_ref().is_some_and(|former| former.is_revoked)
                || renewal.moves_into_the_past(former.as_ref(), now)
                || is_revoked(&edge, &issuer, &secret, now).await;
            (secret, renewal)
        });
    }

    /// Takes in what a CA has said of renewing; what is to be replaced at once is told once.
    pub(super) fn asked_about_renewal(&mut self, secret: &ObjectKey, renewal: Renewal) {
        let mut memory = self.edge.memory();
        let states = &memory.world.state().certificates;
        let former = states.get(&secret.to_string()).and_then(|state| state.renewal.as_ref());
        let was_told = former.is_some_and(|former| former.id == renewal.id && former.is_revoked);
        let is_news = renewal.is_revoked && !was_told;
        let is_past = renewal.window.is_some_and(|(_, end)| end <= unix_now().as_secs());
        let explanation = renewal.explanation.clone();
        memory.world.renewal(secret, renewal);
        let desired = memory.world.desired().remove(secret);
        drop(memory);
        let Some(desired) = desired.filter(|_| is_news) else { return };
        let why = if is_past {
            "its time for renewal has moved into the past"
        } else {
            "it stands on its list of revoked certificates"
        };
        let more = explanation.map(|url| format!("; see {url}")).unwrap_or_default();
        let issuer = &desired.issuer;
        tracing::warn!(%secret, issuer, why, explanation = more, "the CA has a certificate replaced");
        let note = format!(
            "issuer {issuer} has the certificate in Secret {} replaced at once: {why}{more}; another one is ordered",
            secret.name()
        );
        self.happened(&desired.ingresses, reason::CERTIFICATE_RECALLED, &note);
    }
}

/// Whether a certificate stands on one of the lists that it names. A list that can't be had says nothing.
async fn is_revoked(edge: &Edge, issuer: &Issuer, secret: &ObjectKey, now: u64) -> bool {
    let Ok(Some(chain)) = edge.store.certificate_entry(secret, "tls.crt").await else { return false };
    let lists = revocation::lists(&chain);
    if lists.is_empty() {
        return false;
    }
    let Ok(https) = Https::new(issuer.ca_bundle.as_deref(), edge.names.clone()) else { return false };
    let https = https.taking(LARGEST_LIST);
    let algorithms = crate::crypto_provider().signature_verification_algorithms;
    for url in lists {
        let found = match fetch(&https, &url).await {
            Ok(list) => {
                let now = UnixTime::since_unix_epoch(Duration::from_secs(now));
                revocation::is_revoked(&chain, &list, algorithms.all, now).map_err(|error| error.to_string())
            }
            Err(error) => Err(error),
        };
        match found {
            Ok(true) => return true,
            Ok(false) => {}
            Err(error) => tracing::debug!(%secret, url, error, "a list of revoked certificates can't be used"),
        }
    }
    false
}

async fn fetch(https: &Https, url: &str) -> Result<Bytes, String> {
    let request = Request::get(url).body(BodyWrapper::default()).map_err(|error| error.to_string())?;
    let response = https.send(request).await.map_err(|error| error.to_string())?;
    match response.status() {
        StatusCode::OK => Ok(response.into_body()),
        status => Err(format!("the answer is {status}")),
    }
}
