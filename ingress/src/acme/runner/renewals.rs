//! Asking CAs when to renew.

use landfall_ingress_model::acme::plan::Check;
use landfall_ingress_model::acme::state::Renewal;

use super::Runner;
use crate::acme::account::Session;
use crate::acme::order;

/// When the CA is asked again about a renewal when it says nothing (RFC 9773 section 4.3.3: six hours).
const ASK_AGAIN: u64 = 6 * 3600;
/// Bounds of when the CA may want to be asked again.
const SOONEST: u64 = 60;
const LATEST: u64 = 24 * 3600;

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
            let asked = match (Session::open(&edge, &issuer).await, order::identifier(&id)) {
                (Ok(session), Some(identifier)) => {
                    session.account.renewal_info(&identifier).await.map_err(|error| error.to_string())
                }
                (Err(failure), _) => Err(failure.error),
                (_, None) => Err("the certificate has no identifier".to_owned()),
            };
            let renewal = match asked {
                Ok((info, pause)) => {
                    let seconds = |time: i64| u64::try_from(time).unwrap_or(0);
                    let window = &info.suggested_window;
                    let window = (seconds(window.start.unix_timestamp()), seconds(window.end.unix_timestamp()));
                    let check = now + pause.as_secs().clamp(SOONEST, LATEST);
                    let explanation = info.explanation_url;
                    tracing::debug!(%secret, start = window.0, end = window.1, explanation, "renewal window");
                    Renewal { id, window: Some(window), check, explanation }
                }
                Err(error) => {
                    tracing::debug!(%secret, error, "the CA says nothing of renewing");
                    // What it said before still counts.
                    let window = former.filter(|former| former.id == id).and_then(|former| former.window);
                    Renewal { id, window, check: now + ASK_AGAIN, explanation: None }
                }
            };
            (secret, renewal)
        });
    }
}
