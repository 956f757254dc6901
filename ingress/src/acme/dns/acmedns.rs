//! acme-dns: a name server for nothing but challenges, which `_acme-challenge` names are delegated to by CNAME.
//!
//! It keeps the last two values of an account and removes none.

use async_trait::async_trait;
use http::Method;
use serde::Deserialize;
use serde_json::json;
use std::collections::BTreeMap;

use super::api::Api;
use super::{DnsError, Provider, Txt, domains};

/// An acme-dns server.
pub(super) struct AcmeDns {
    pub(super) api: Api,
    /// Accounts by domain, in JSON as `/register` answers them.
    pub(super) accounts: String,
}

#[derive(Deserialize)]
struct Account {
    username: String,
    password: String,
    fulldomain: String,
    subdomain: String,
}

impl AcmeDns {
    /// The account of a host, else that of a domain that it is in.
    fn account(&self, host: &str) -> Result<Account, DnsError> {
        let wrong = |cause: String| DnsError::Credentials {
            cause,
            remedy: "put into entry acmedns.json, by domain, what acme-dns answered to /register".to_owned(),
        };
        let mut all: BTreeMap<String, Account> = serde_json::from_str(&self.accounts)
            .map_err(|error| wrong(format!("entry acmedns.json of the issuer's Secret can't be read: {error}")))?;
        let found = domains(host).find_map(|domain| all.remove(domain));
        found.ok_or_else(|| wrong(format!("entry acmedns.json of the issuer's Secret has no account for {host}")))
    }

    fn led_here(&self, record: Txt<'_>) -> Result<Account, DnsError> {
        let account = self.account(record.host)?;
        let target = account.fulldomain.trim_end_matches('.').to_ascii_lowercase();
        if target != record.name {
            let cause = format!("_acme-challenge.{} does not lead to acme-dns", record.host);
            let remedy = format!("create _acme-challenge.{} as a CNAME record to {target}", record.host);
            return Err(DnsError::Zone(cause, remedy));
        }
        Ok(account)
    }
}

#[async_trait]
impl Provider for AcmeDns {
    async fn check(&self, record: Txt<'_>) -> Result<(), DnsError> {
        self.led_here(record).map(drop)
    }

    async fn set(&self, record: Txt<'_>) -> Result<(), DnsError> {
        let account = self.led_here(record)?;
        let body = json!({"subdomain": account.subdomain, "txt": record.value});
        let headers = [("x-api-user", account.username.as_str()), ("x-api-key", account.password.as_str())];
        let answer = self.api.call_with(Method::POST, "/update", Some(&body), &headers).await?;
        self.api.done(answer).map(drop)
    }

    async fn remove(&self, _: Txt<'_>) -> Result<(), DnsError> {
        Ok(())
    }
}
