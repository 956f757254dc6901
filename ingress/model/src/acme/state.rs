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
}
