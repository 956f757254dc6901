//! Hetzner, by version 1 of the API of its Cloud, which has kept zones since 2025. The token has to be one for reading
//! and writing.

use async_trait::async_trait;
use http::Method;
use serde_json::json;

use super::api::Api;
use super::{DnsError, Provider, TTL, Txt, domains, within};

pub(super) const URL: &str = "https://api.hetzner.cloud/v1";

/// A project at Hetzner.
pub(super) struct Hetzner {
    pub(super) api: Api,
}

impl Hetzner {
    async fn zone(&self, name: &str) -> Result<String, DnsError> {
        for domain in domains(name) {
            let answer = self.api.call(Method::GET, &format!("/zones/{domain}"), None).await?;
            if answer.status.as_u16() == 404 {
                continue;
            }
            self.api.done(answer)?;
            return Ok(domain.to_owned());
        }
        Err(self.api.no_zone(name))
    }

    async fn act(&self, zone: &str, record: Txt<'_>, action: &str) -> Result<u16, DnsError> {
        let sub = within(record.name, zone, "@");
        let mut body = json!({"records": [{"value": format!("\"{}\"", record.value)}]});
        if action == "add_records" {
            body["ttl"] = TTL.into();
        }
        let path = format!("/zones/{zone}/rrsets/{sub}/TXT/actions/{action}");
        let answer = self.api.call(Method::POST, &path, Some(&body)).await?;
        let status = answer.status.as_u16();
        if matches!(status, 404 | 409 | 422) {
            // The caller sees whether it was there, or not there, already.
            return Ok(status);
        }
        self.api.done(answer).map(|answer| answer.status.as_u16())
    }

    async fn has(&self, zone: &str, record: Txt<'_>) -> Result<bool, DnsError> {
        let sub = within(record.name, zone, "@");
        let answer = self.api.call(Method::GET, &format!("/zones/{zone}/rrsets/{sub}/TXT"), None).await?;
        if answer.status.as_u16() == 404 {
            return Ok(false);
        }
        let answer = self.api.done(answer)?;
        let mut all = answer.body["rrset"]["records"].as_array().into_iter().flatten();
        Ok(all.any(|one| one["value"].as_str().is_some_and(|text| text.trim_matches('"') == record.value)))
    }
}

#[async_trait]
impl Provider for Hetzner {
    async fn check(&self, record: Txt<'_>) -> Result<(), DnsError> {
        let zone = self.zone(record.name).await?;
        self.has(&zone, record).await.map(drop)
    }

    async fn set(&self, record: Txt<'_>) -> Result<(), DnsError> {
        let zone = self.zone(record.name).await?;
        if self.has(&zone, record).await? {
            return Ok(());
        }
        match self.act(&zone, record, "add_records").await? {
            status @ (404 | 409 | 422) => {
                let cause = format!("Hetzner refuses a TXT record at {} ({status})", record.name);
                Err(DnsError::Refused(cause, "see whether the zone is locked or the name has a CNAME record"))
            }
            _ => Ok(()),
        }
    }

    async fn remove(&self, record: Txt<'_>) -> Result<(), DnsError> {
        let zone = self.zone(record.name).await?;
        if !self.has(&zone, record).await? {
            return Ok(());
        }
        match self.act(&zone, record, "remove_records").await? {
            status @ (409 | 422) => {
                Err(DnsError::Away(format!("Hetzner does not remove the TXT record at {} now ({status})", record.name)))
            }
            _ => Ok(()),
        }
    }
}
