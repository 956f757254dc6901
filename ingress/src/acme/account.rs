//! Accounts at CAs: made once, kept in the store, never logged.

use base64::Engine;
use base64::prelude::BASE64_URL_SAFE_NO_PAD;
use instant_acme::{Account, AccountCredentials, ExternalAccountKey, NewAccount};
use landfall_ingress_model::acme::issuer::{ExternalAccount, Issuer};
use landfall_ingress_model::acme::trouble::{Failure, Kind};

use super::edge::Edge;
use super::failure;
use super::https::Https;

/// An account, and the way to its CA.
pub(super) struct Session {
    pub(super) account: Account,
    pub(super) https: Https,
}

impl Session {
    /// Opens the account of an issuer, which is made when there is none.
    pub(super) async fn open(edge: &Edge, issuer: &Issuer) -> Result<Self, Failure> {
        let https = https(edge, issuer)?;
        // Orders that begin together make one account.
        let _turn = edge.accounts.lock().await;
        let id = issuer.account();
        let stored = edge.store.account(&id).await.map_err(|error| unread(&error))?;
        if let Some(credentials) = stored.and_then(|text| serde_json::from_str::<AccountCredentials>(&text).ok()) {
            let opened = Account::builder_with_http(Box::new(https.clone())).from_credentials(credentials).await;
            let account = opened.map_err(|error| failure::of_account(&error, https.retry_after()))?;
            return Ok(Self { account, https });
        }
        let account = create(edge, issuer, &https).await?;
        Ok(Self { account, https })
    }

    /// Opens another account in the place of one that the CA does not know any more.
    pub(super) async fn replace(edge: &Edge, issuer: &Issuer) -> Result<Self, Failure> {
        let https = https(edge, issuer)?;
        let _turn = edge.accounts.lock().await;
        let account = create(edge, issuer, &https).await?;
        Ok(Self { account, https })
    }
}

fn https(edge: &Edge, issuer: &Issuer) -> Result<Https, Failure> {
    let failed = |error| Failure::new(Kind::Account, error, "correct --acme-ca or the issuer's caBundle");
    Https::new(issuer.ca_bundle.as_deref(), edge.names.clone()).map_err(failed)
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
    let contact: Vec<String> = issuer.contact.iter().map(|address| uri(address)).collect();
    let contact: Vec<&str> = contact.iter().map(String::as_str).collect();
    let new = NewAccount { contact: &contact, terms_of_service_agreed: true, only_return_existing: false };
    let builder = Account::builder_with_http(Box::new(https.clone()));
    let created = builder.create(&new, issuer.directory.clone(), external.as_ref()).await;
    let (account, credentials) = created.map_err(|error| failure::of_account(&error, https.retry_after()))?;
    let text = serde_json::to_string(&credentials).map_err(|error| unread(&error))?;
    edge.store.save_account(&issuer.account(), &text).await.map_err(|error| unread(&error))?;
    tracing::info!(issuer = issuer.name, account = account.id(), "ACME account created");
    Ok(account)
}

/// RFC 8555 section 7.3: contacts are URLs.
fn uri(address: &str) -> String {
    if address.contains(':') { address.to_owned() } else { format!("mailto:{address}") }
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
