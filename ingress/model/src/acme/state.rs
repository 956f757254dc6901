//! What was tried and what is under way: it survives restarts and changes of the leader.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use super::records::TxtRecord;
use super::trouble::Trouble;

/// Everything that is remembered.
#[derive(Clone, PartialEq, Eq, Debug, Default, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct State {
    /// By `namespace/name` of the Secret.
    pub certificates: BTreeMap<String, CertificateState>,
    /// By the name of the issuer.
    pub issuers: BTreeMap<String, Trouble>,
    /// What is wrong with changing the key of an issuer's account, by the name of the issuer. Orders go on meanwhile.
    #[serde(skip_serializing_if = "BTreeMap::is_empty")]
    pub account_keys: BTreeMap<String, Trouble>,
    /// TXT records that were set and are yet to be removed.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub records: Vec<TxtRecord>,
}

/// What is remembered of one certificate.
#[derive(Clone, PartialEq, Eq, Debug, Default, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct CertificateState {
    /// The order under way.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub order: Option<OrderState>,
    /// What is wrong with the order as a whole.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub trouble: Option<Trouble>,
    /// What is wrong with single hosts.
    #[serde(skip_serializing_if = "BTreeMap::is_empty")]
    pub hosts: BTreeMap<String, Trouble>,
    /// What the CA says of renewing (RFC 9773).
    #[serde(skip_serializing_if = "Option::is_none")]
    pub renewal: Option<Renewal>,
    /// Certificates in a row that were replaced at once.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub recalls: Option<Recalls>,
}

/// Certificates in a row that were replaced at once, since they were revoked.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Recalls {
    /// How many.
    pub count: u32,
    /// When the last one was.
    pub at: u64,
}

/// Pauses before another certificate is replaced at once, after the first one, the second and so on, in seconds. A CA
/// that wants everything replaced, or a clock that is wrong, must not use up the limits of an account.
const PAUSES: [u64; 3] = [3600, 6 * 3600, 24 * 3600];

impl Recalls {
    /// After another one.
    pub(super) fn after(before: Option<Self>, now: u64) -> Self {
        let before = before.filter(|before| now < before.at + 2 * PAUSES[2]);
        Self { count: before.map_or(0, |before| before.count).saturating_add(1), at: now }
    }

    /// When the next one may be replaced at once.
    pub(super) fn next(self) -> u64 {
        let step = usize::try_from(self.count.saturating_sub(1)).unwrap_or(usize::MAX).min(PAUSES.len() - 1);
        self.at + PAUSES[step]
    }
}

impl CertificateState {
    /// Whether there is nothing to remember.
    pub fn is_empty(&self) -> bool {
        *self == Self::default()
    }
}

/// An order that the CA knows.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct OrderState {
    /// Its URL.
    pub url: String,
    /// The issuer.
    pub issuer: String,
    /// The hosts, sorted.
    pub hosts: Vec<String>,
    /// When it began, in seconds since the epoch.
    pub since: u64,
}

/// When the CA wants a certificate to be renewed (RFC 9773 section 4.2).
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Renewal {
    /// The certificate that this is about.
    pub id: String,
    /// Beginning and end of the time to renew it in; `None` where the CA says nothing.
    pub window: Option<(u64, u64)>,
    /// When to ask again.
    pub check: u64,
    /// A page that says why.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub explanation: Option<String>,
    /// Whether the CA has revoked it or is about to: it stands on the CA's list, or its window has moved into the past
    /// (RFC 9773 section 4.2).
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub is_revoked: bool,
}

impl Renewal {
    /// Whether the CA has moved the window into the past since `former`. A window that was known and has passed since is
    /// a renewal that is late, and nothing else.
    pub fn moves_into_the_past(&self, former: Option<&Self>, now: u64) -> bool {
        let known = former.filter(|former| former.id == self.id).and_then(|former| former.window);
        self.window.is_some_and(|(_, end)| end <= now) && known != self.window
    }
}
