//! Cloudflare, by version 4 of its API. The token needs the permissions Zone:Read and DNS:Edit.

use async_trait::async_trait;
use http::Method;
use serde_json::{Value, json};

use super::api::{Answer, Api};
use super::{DnsError, Provider, TTL, Txt, domains};

pub(super) const URL: &str = "https://api.cloudflare.com/client/v4";
/// "An identical record already exists."
const IDENTICAL: u64 = 81_058;

/// An account at Cloudflare.
pub(super) struct Cloudflare {
    pub(super) api: Api,
}

impl Cloudflare {
    async fn zone(&self, name: &str) -> Result<String, DnsError> {
        for domain in domains(name) {
            let answer = self.api.call(Method::GET, &format!("/zones?name={domain}"), None).await?;
            let answer = self.done(answer)?;
            if let Some(id) = answer.body["result"][0]["id"].as_str() {
                return Ok(id.to_owned());
            }
        }
        Err(self.api.no_zone(name))
    }

    /// A malformed token is answered with 400 instead of 401.
    fn done(&self, answer: Answer) -> Result<Answer, DnsError> {
        if answer.status.as_u16() == 400 && answer.text.contains("Invalid request headers") {
            let remedy = "put an API token, not the global key, into entry token of the issuer's Secret";
            return Err(DnsError::Refused("Cloudflare says that the token is malformed".to_owned(), remedy));
        }
        self.api.done(answer)
    }

    async fn records(&self, zone: &str, record: Txt<'_>) -> Result<Vec<String>, DnsError> {
        let path = format!("/zones/{zone}/dns_records?type=TXT&name={}&per_page=100", record.name);
        let answer = self.api.call(Method::GET, &path, None).await?;
        let answer = self.done(answer)?;
        let says_it = |one: &&Value| one["content"].as_str().is_some_and(|text| text.trim_matches('"') == record.value);
        let all = answer.body["result"].as_array().into_iter().flatten().filter(says_it);
        Ok(all.filter_map(|one| one["id"].as_str().map(str::to_owned)).collect())
    }
}

#[async_trait]
impl Provider for Cloudflare {
    async fn check(&self, record: Txt<'_>) -> Result<(), DnsError> {
        let zone = self.zone(record.name).await?;
        self.records(&zone, record).await.map(drop)
    }

    async fn set(&self, record: Txt<'_>) -> Result<(), DnsError> {
        let zone = self.zone(record.name).await?;
        let content = format!("\"{}\"", record.value);
        let body = json!({"type": "TXT", "name": record.name, "content": content, "ttl": TTL});
        let answer = self.api.call(Method::POST, &format!("/zones/{zone}/dns_records"), Some(&body)).await?;
        if answer.body["errors"][0]["code"] == IDENTICAL {
            return Ok(());
        }
        self.done(answer).map(drop)
    }

    async fn remove(&self, record: Txt<'_>) -> Result<(), DnsError> {
        let zone = self.zone(record.name).await?;
        for id in self.records(&zone, record).await? {
            let answer = self.api.call(Method::DELETE, &format!("/zones/{zone}/dns_records/{id}"), None).await?;
            if answer.status.as_u16() != 404 {
                self.done(answer)?;
            }
        }
        Ok(())
    }
}
