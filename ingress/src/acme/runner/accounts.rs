//! Changing the keys of accounts where issuers ask for it.

use std::collections::BTreeMap;

use landfall_ingress_model::acme::issuer::Issuer;
use landfall_ingress_model::acme::trouble::Failure;
use tokio::task::JoinSet;

use super::Runner;
use crate::acme::account::{Rolled, roll_over};
use crate::control::unix_now;

/// Seconds until it is looked again whether an account is in use.
const BUSY: u64 = 2;

/// Which accounts have the keys that their issuers name.
#[derive(Default)]
pub(super) struct AccountKeys {
    /// What was settled, by issuer: not looked at again.
    settled: BTreeMap<String, Issuer>,
    /// Until when accounts in use are not looked at again.
    busy_until: Option<u64>,
    pub(super) running: JoinSet<(Issuer, Result<Rolled, Failure>)>,
}

impl Runner {
    /// Begins to change the keys that are to be changed; says when to look again.
    pub(super) fn tend_account_keys(&mut self, now: u64) -> Option<u64> {
        if !self.account_keys.running.is_empty() {
            return None;
        }
        if let Some(until) = self.account_keys.busy_until.filter(|until| *until > now) {
            return Some(until);
        }
        let (due, next) = self.edge.memory().world.account_keys_wanted(now);
        let settled = &self.account_keys.settled;
        let due: Vec<Issuer> = due.into_iter().filter(|issuer| settled.get(&issuer.name) != Some(issuer)).collect();
        for issuer in due {
            let edge = self.edge.clone();
            self.account_keys.running.spawn(async move {
                let outcome = roll_over(&edge, &issuer).await;
                (issuer, outcome)
            });
        }
        next
    }

    /// Takes in how changing a key has gone.
    pub(super) fn account_key_changed(&mut self, issuer: Issuer, outcome: Result<Rolled, Failure>) {
        let now = unix_now().as_secs();
        let mut memory = self.edge.memory();
        match outcome {
            Ok(Rolled::Settled) => {
                memory.world.account_key_changed(&issuer.name, None, now);
                self.account_keys.settled.insert(issuer.name.clone(), issuer);
            }
            Ok(Rolled::Busy) => self.account_keys.busy_until = Some(now + BUSY),
            Err(failure) => {
                let reason = failure.kind.reason().as_str();
                let (issuer, error) = (issuer.name.as_str(), failure.error.as_str());
                tracing::warn!(issuer, reason, error, "the key of the ACME account can't be changed");
                memory.world.account_key_changed(issuer, Some(failure), now);
            }
        }
    }
}
