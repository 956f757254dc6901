//! A web hook, as lego's `httpreq` has it: `POST URL/present` and `POST URL/cleanup` with `{"fqdn": …, "value": …}`.

use async_trait::async_trait;
use http::Method;
use serde_json::json;

use super::api::Api;
use super::{DnsError, Provider, Txt};

/// A web hook.
pub(super) struct Webhook {
    pub(super) api: Api,
}

impl Webhook {
    async fn send(&self, path: &str, record: Txt<'_>) -> Result<(), DnsError> {
        let body = json!({"fqdn": format!("{}.", record.name), "value": record.value});
        let answer = self.api.call(Method::POST, path, Some(&body)).await?;
        self.api.done(answer).map(drop)
    }
}

#[async_trait]
impl Provider for Webhook {
    async fn check(&self, _: Txt<'_>) -> Result<(), DnsError> {
        Ok(())
    }

    async fn set(&self, record: Txt<'_>) -> Result<(), DnsError> {
        self.send("/present", record).await
    }

    async fn remove(&self, record: Txt<'_>) -> Result<(), DnsError> {
        self.send("/cleanup", record).await
    }
}
