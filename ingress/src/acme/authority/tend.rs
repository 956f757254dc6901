//! Sees to it that every CA in use has a root before a certificate is asked for, and that a root which somebody
//! replaces is noticed.

use std::collections::BTreeSet;

use landfall_ingress_model::acme::issuer::Issuer;

use super::root::Root;
use crate::acme::edge::Edge;

/// How often roots are looked at. A Secret that is no certificate is not watched.
const AGAIN: u64 = 10 * 60;
/// The same after a failure.
const RETRY: u64 = 30;

/// What was looked at, and when it is time again.
#[derive(Default)]
pub(in crate::acme) struct Tending {
    issuers: BTreeSet<String>,
    next: u64,
}

impl Tending {
    /// Looks at the roots if it is time; returns when it is so next, in seconds since the epoch. `None`: there is no CA
    /// of our own.
    pub(in crate::acme) async fn tend(&mut self, edge: &Edge, default: Option<&str>, now: u64) -> Option<u64> {
        let in_use = edge.memory().world.authorities_in_use(default);
        if in_use.is_empty() {
            return None;
        }
        let names: BTreeSet<String> = in_use.iter().map(|issuer| issuer.name.clone()).collect();
        if names == self.issuers && now < self.next {
            return Some(self.next);
        }
        self.next = now + AGAIN;
        for issuer in &in_use {
            let Some(internal) = issuer.internal.as_deref() else { continue };
            let opened = {
                let _turn = edge.authorities.lock().await;
                Root::open(edge, internal, issuer, now).await
            };
            match opened {
                Ok(root) => show(edge, issuer, &root).await,
                Err(failure) => {
                    tracing::warn!(issuer = issuer.name, error = failure.error, "the CA of an issuer can't be used");
                    self.next = now + RETRY;
                }
            }
        }
        self.issuers = names;
        Some(self.next)
    }
}

/// Tells everybody which root the certificates of an issuer end at.
pub(super) async fn show(edge: &Edge, issuer: &Issuer, root: &Root) {
    edge.memory().world.rooted(&issuer.name, &root.id());
    if let Some(text) = edge.roots.set(&issuer.name, root.anchor()) {
        match edge.store.publish_roots(&text).await {
            Ok(()) => edge.roots.written(&text),
            Err(error) => tracing::warn!(%error, "the root of the CA can't be shown to other replicas"),
        }
    }
}
