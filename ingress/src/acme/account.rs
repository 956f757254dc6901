//! Accounts at CAs: each is opened once, and kept.

mod rollover;

use std::collections::{BTreeSet, HashMap};
use std::sync::{Arc, Mutex, PoisonError};

use base64::Engine;
use base64::prelude::BASE64_URL_SAFE_NO_PAD;
use instant_acme::{Account, AccountCredentials, ExternalAccountKey, NewAccount};
use landfall_ingress_model::acme::issuer::{ExternalAccount, Issuer};
use landfall_ingress_model::acme::trouble::{Failure, Kind};
use serde::{Deserialize, Serialize};
use tokio::sync::{Mutex as Turn, OwnedRwLockReadGuard, RwLock};

use super::edge::Edge;
use super::failure;
use super::https::Https;

pub(super) use rollover::{Rolled, roll_over};

/// An account, and the way to its CA.
pub(super) struct Session {
    pub(super) account: Account,
    pub(super) https: Https,
    /// Its key is not changed while this is held.
    in_use: OwnedRwLockReadGuard<()>,
}

/// An account as it is kept.
#[derive(Serialize, Deserialize)]
struct Kept {
    #[serde(flatten)]
    credentials: AccountCredentials,
    /// What the issuer has called this key and those before it. A name counts once, so that two issuers that share an
    /// account and disagree about the name don't change its key by turns.
    #[serde(default, rename = "keys", skip_serializing_if = "BTreeSet::is_empty")]
    names: BTreeSet<String>,
    /// Whether the CA was asked to take another key, and it is not known whether it has.
    #[serde(default, rename = "isRolling", skip_serializing_if = "std::ops::Not::not")]
    is_rolling: bool,
}

/// Who uses which account.
#[derive(Default)]
pub(super) struct Accounts(Mutex<HashMap<String, Arc<Uses>>>);

/// Who uses an account.
#[derive(Default)]
struct Uses {
    /// Held while it is opened or its key is changed, so that orders that begin together open one account.
    turn: Turn<()>,
    /// Shared by those who use it.
    sessions: Arc<RwLock<()>>,
}

impl Accounts {
    fn of(&self, id: &str) -> Arc<Uses> {
        let mut all = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        all.entry(id.to_owned()).or_default().clone()
    }
}

impl Session {
    /// Opens the account of an issuer, which is made when there is none.
    pub(super) async fn open(edge: &Edge, issuer: &Issuer) -> Result<Self, Failure> {
        let https = https(edge, issuer)?;
        let uses = edge.accounts.of(&issuer.account());
        let _turn = uses.turn.lock().await;
        let account = match kept(edge, issuer).await? {
            Some(kept) if kept.is_rolling => rollover::recover(edge, issuer, &https, kept).await?,
            Some(kept) => load(&https, kept.credentials).await?,
            None => create(edge, issuer, &https).await?,
        };
        Ok(Self { account, https, in_use: uses.sessions.clone().read_owned().await })
    }

    /// Opens another account in the place of this one, which the CA does not know any more. Whoever comes second takes
    /// the one that the first has opened.
    pub(super) async fn replace(self, edge: &Edge, issuer: &Issuer) -> Result<Self, Failure> {
        let Self { account: lost, https, in_use } = self;
        let uses = edge.accounts.of(&issuer.account());
        let _turn = uses.turn.lock().await;
        let account = match kept(edge, issuer).await? {
            Some(kept) if !kept.is_rolling => Some(load(&https, kept.credentials).await?),
            _ => None,
        };
        let account = match account.filter(|account| account.id() != lost.id()) {
            Some(account) => account,
            None => create(edge, issuer, &https).await?,
        };
        Ok(Self { account, https, in_use })
    }
}

fn https(edge: &Edge, issuer: &Issuer) -> Result<Https, Failure> {
    let failed = |error| Failure::new(Kind::Account, error, "correct --acme-ca or the issuer's caBundle");
    Https::new(issuer.ca_bundle.as_deref(), edge.names.clone()).map_err(failed)
}

/// The account of an issuer as it is kept; `None` where there is none that can be read.
async fn kept(edge: &Edge, issuer: &Issuer) -> Result<Option<Kept>, Failure> {
    let stored = edge.store.account(&issuer.account()).await.map_err(|error| unread(&error))?;
    Ok(stored.and_then(|text| serde_json::from_str(&text).ok()))
}

async fn keep(edge: &Edge, issuer: &Issuer, kept: &Kept) -> Result<(), Failure> {
    let text = serde_json::to_string(kept).map_err(|error| unread(&error))?;
    edge.store.save_account(&issuer.account(), &text).await.map_err(|error| unread(&error))
}

async fn load(https: &Https, credentials: AccountCredentials) -> Result<Account, Failure> {
    let opened = Account::builder_with_http(Box::new(https.clone())).from_credentials(credentials).await;
    opened.map_err(|error| failure::of_account(&error, https.retry_after()))
}

async fn create(edge: &Edge, issuer: &Issuer, https: &Https) -> Result<Account, Failure> {
    if !issuer.terms_agreed {
        let error = "the terms of service of this CA are not agreed to";
        return Err(Failure::new(Kind::Account, error, "read them and set --acme-accept-terms (termsAgreed: true)"));
    }
    let external = match &issuer.external_account {
        Some(account) => Some(external(edge, account).await?),
        None => None,
    };
    let contact = contact(issuer);
    let contact: Vec<&str> = contact.iter().map(String::as_str).collect();
    let new = NewAccount { contact: &contact, terms_of_service_agreed: true, only_return_existing: false };
    let builder = Account::builder_with_http(Box::new(https.clone()));
    let created = builder.create(&new, issuer.directory.clone(), external.as_ref()).await;
    let (account, credentials) = created.map_err(|error| failure::of_account(&error, https.retry_after()))?;
    let names = issuer.account_key.iter().cloned().collect();
    keep(edge, issuer, &Kept { credentials, names, is_rolling: false }).await?;
    tracing::info!(issuer = issuer.name, account = account.id(), "ACME account created");
    Ok(account)
}

/// RFC 8555 section 7.3: contacts are URLs.
fn contact(issuer: &Issuer) -> Vec<String> {
    let uri = |address: &String| if address.contains(':') { address.clone() } else { format!("mailto:{address}") };
    issuer.contact.iter().map(uri).collect()
}

async fn external(edge: &Edge, account: &ExternalAccount) -> Result<ExternalAccountKey, Failure> {
    let remedy = format!("put the key that the CA gave into entry key of Secret {}", account.secret);
    let failed = |error: String| Failure::new(Kind::Account, error, remedy.clone());
    let entry = edge.store.entry(&account.secret, "key").await.map_err(|error| failed(error.to_string()))?;
    let entry = entry.ok_or_else(|| failed(format!("Secret {} has no entry key", account.secret)))?;
    // Some CAs show it with padding, some in the alphabet that is not for URLs.
    let text: String = String::from_utf8_lossy(&entry).trim().trim_end_matches('=').replace('+', "-").replace('/', "_");
    let key = BASE64_URL_SAFE_NO_PAD.decode(text);
    let key = key.map_err(|_| failed(format!("entry key of Secret {} is not Base64", account.secret)))?;
    Ok(ExternalAccountKey::new(account.key_id.clone(), &key))
}

fn unread(error: &dyn std::fmt::Display) -> Failure {
    Failure::new(Kind::Storing, format!("the account can't be kept: {error}"), "see what keeps it from being written")
}
