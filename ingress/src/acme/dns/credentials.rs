//! What an issuer's Secret holds.

use base64::Engine;
use base64::prelude::{BASE64_STANDARD, BASE64_URL_SAFE_NO_PAD};
use landfall_ingress_model::acme::dns::Dns;

use super::DnsError;
use crate::acme::store::Store;

/// The Secret that an issuer names.
pub(super) struct Credentials<'a> {
    pub(super) store: &'a Store,
    pub(super) dns: &'a Dns,
}

impl Credentials<'_> {
    /// An entry that has to be there, without space around it.
    pub(super) async fn text(&self, entry: &str) -> Result<String, DnsError> {
        let found = self.find(entry).await?;
        found.ok_or_else(|| self.wrong(entry, &format!("has no entry {entry}")))
    }

    /// An entry in Base64.
    pub(super) async fn key(&self, entry: &str) -> Result<Vec<u8>, DnsError> {
        let text = self.text(entry).await?;
        BASE64_STANDARD
            .decode(&text)
            .or_else(|_| BASE64_URL_SAFE_NO_PAD.decode(text.trim_end_matches('=')))
            .map_err(|_| self.wrong(entry, &format!("has an entry {entry} that is not Base64")))
    }

    /// The value of the header `Authorization`, if the Secret has a token, or a name and a password.
    pub(super) async fn any(&self) -> Result<Option<String>, DnsError> {
        if self.dns.secret.is_none() {
            return Ok(None);
        }
        if let Some(token) = self.find("token").await? {
            return Ok(Some(format!("Bearer {token}")));
        }
        match (self.find("username").await?, self.find("password").await?) {
            (Some(name), Some(password)) => {
                Ok(Some(format!("Basic {}", BASE64_STANDARD.encode(format!("{name}:{password}")))))
            }
            _ => Err(self.wrong("token", "has neither an entry token nor entries username and password")),
        }
    }

    async fn find(&self, entry: &str) -> Result<Option<String>, DnsError> {
        let Some(secret) = &self.dns.secret else { return Ok(None) };
        let found = self.store.entry(secret, entry).await.map_err(|error| {
            let remedy = format!("create Secret {secret} and let this program read it (docs/https.md)");
            DnsError::Credentials { cause: error.to_string(), remedy }
        })?;
        let text = found.map(|bytes| String::from_utf8_lossy(&bytes).trim().to_owned());
        Ok(text.filter(|text| !text.is_empty()))
    }

    fn wrong(&self, entry: &str, what: &str) -> DnsError {
        let secret = self.dns.secret.as_ref().map(ToString::to_string).unwrap_or_default();
        let cause = format!("Secret {secret} is not there or {what}");
        DnsError::Credentials {
            cause,
            remedy: format!("put the provider's credentials into entry {entry} of Secret {secret}"),
        }
    }
}
