//! `DuckDNS`: one TXT value for a domain and all names below it, set by a GET.

use async_trait::async_trait;
use http::Method;

use super::api::Api;
use super::{DnsError, Provider, Txt};

pub(super) const URL: &str = "https://www.duckdns.org";
const SUFFIX: &str = ".duckdns.org";

/// An account at `DuckDNS`.
pub(super) struct DuckDns {
    pub(super) api: Api,
    pub(super) token: String,
}

impl DuckDns {
    /// The account's part of a name: `home` of `_acme-challenge.www.home.duckdns.org`.
    fn domain(name: &str) -> Result<&str, DnsError> {
        let labels = name.strip_suffix(SUFFIX).filter(|rest| !rest.is_empty());
        labels.and_then(|labels| labels.rsplit('.').next()).ok_or_else(|| {
            let remedy = format!("delegate {name} by a CNAME record to _acme-challenge.YOURS{SUFFIX}");
            DnsError::Zone(format!("{name} is no name below duckdns.org"), remedy)
        })
    }

    async fn update(&self, name: &str, rest: &str) -> Result<(), DnsError> {
        let domain = Self::domain(name)?;
        let path = format!("/update?domains={domain}&token={}&{rest}", self.token);
        let answer = self.api.call(Method::GET, &path, None).await?;
        let answer = self.api.done(answer)?;
        // It answers OK or KO, both with status 200.
        if answer.text.trim_start().starts_with("OK") {
            return Ok(());
        }
        let remedy = "put the token of the account that has this domain into entry token of the issuer's Secret";
        Err(DnsError::Refused(format!("DuckDNS refuses to change {domain}{SUFFIX} with this token"), remedy))
    }
}

#[async_trait]
impl Provider for DuckDns {
    /// There is nothing to ask that would change nothing.
    async fn check(&self, record: Txt<'_>) -> Result<(), DnsError> {
        Self::domain(record.name).map(drop)
    }

    async fn set(&self, record: Txt<'_>) -> Result<(), DnsError> {
        self.update(record.name, &format!("txt={}", record.value)).await
    }

    async fn remove(&self, record: Txt<'_>) -> Result<(), DnsError> {
        self.update(record.name, &format!("txt={}&clear=true", record.value)).await
    }
}
