//! deSEC, by version 1 of its API. A set of records is replaced whole, so one change at a time is made.

use async_trait::async_trait;
use http::Method;
use serde_json::{Value, json};

use super::api::Api;
use super::{DnsError, Provider, Txt, within};

pub(super) const URL: &str = "https://desec.io/api/v1";
/// What domains have that have no shorter one.
const MINIMUM_TTL: u64 = 3600;

/// An account at deSEC.
pub(super) struct Desec {
    pub(super) api: Api,
}

struct Zone {
    name: String,
    ttl: u64,
}

impl Desec {
    async fn zone(&self, name: &str) -> Result<Zone, DnsError> {
        let answer = self.api.call(Method::GET, &format!("/domains/?owns_qname={name}"), None).await?;
        let answer = self.api.done(answer)?;
        let found = &answer.body[0];
        let zone = found["name"].as_str().ok_or_else(|| self.api.no_zone(name))?.to_owned();
        Ok(Zone { name: zone, ttl: found["minimum_ttl"].as_u64().unwrap_or(MINIMUM_TTL) })
    }

    async fn values(&self, zone: &Zone, record: Txt<'_>) -> Result<Vec<String>, DnsError> {
        let sub = within(record.name, &zone.name, "@");
        let answer = self.api.call(Method::GET, &format!("/domains/{}/rrsets/{sub}/TXT/", zone.name), None).await?;
        if answer.status.as_u16() == 404 {
            return Ok(Vec::new());
        }
        let answer = self.api.done(answer)?;
        let all = answer.body["records"].as_array().into_iter().flatten();
        Ok(all.filter_map(Value::as_str).map(str::to_owned).collect())
    }

    /// No values remove the set.
    async fn replace(&self, zone: &Zone, record: Txt<'_>, values: &[String]) -> Result<(), DnsError> {
        let sub = within(record.name, &zone.name, "");
        let body = json!([{"subname": sub, "type": "TXT", "ttl": zone.ttl, "records": values}]);
        let answer = self.api.call(Method::PUT, &format!("/domains/{}/rrsets/", zone.name), Some(&body)).await?;
        self.api.done(answer).map(drop)
    }
}

#[async_trait]
impl Provider for Desec {
    async fn check(&self, record: Txt<'_>) -> Result<(), DnsError> {
        let zone = self.zone(record.name).await?;
        self.values(&zone, record).await.map(drop)
    }

    async fn set(&self, record: Txt<'_>) -> Result<(), DnsError> {
        let zone = self.zone(record.name).await?;
        let mut values = self.values(&zone, record).await?;
        let value = format!("\"{}\"", record.value);
        if values.contains(&value) {
            return Ok(());
        }
        values.push(value);
        self.replace(&zone, record, &values).await
    }

    async fn remove(&self, record: Txt<'_>) -> Result<(), DnsError> {
        let zone = self.zone(record.name).await?;
        let mut values = self.values(&zone, record).await?;
        let before = values.len();
        values.retain(|value| value.trim_matches('"') != record.value);
        if values.len() == before {
            return Ok(());
        }
        self.replace(&zone, record, &values).await
    }
}
