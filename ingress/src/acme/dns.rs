//! DNS-01 (RFC 8555 section 8.4): TXT records are set, waited for at the zone's own name servers, and removed.

mod acmedns;
mod api;
mod ask;
mod cloudflare;
mod credentials;
mod desec;
mod duckdns;
mod hetzner;
mod propagation;
mod records;
mod rfc2136;
mod tsig;
mod webhook;
mod zones;

use async_trait::async_trait;
use base64::Engine;
use base64::prelude::BASE64_URL_SAFE_NO_PAD;
use landfall_ingress_model::acme::dns::{Dns, Provider as Kind};
use landfall_ingress_model::acme::issuer::Issuer;
use landfall_ingress_model::acme::trouble::{self, Failure};
use thiserror::Error;

use super::edge::Edge;
use super::names::Names;
use super::proofs::digest;
use credentials::Credentials;

pub(super) use records::{Proof, check, clean, clean_up, set};

/// Seconds that others may keep a record for. It is asked for once.
const TTL: u32 = 60;

/// A record that proves a host.
#[derive(Clone, Copy, Debug)]
pub(super) struct Txt<'a> {
    /// The host, without `*.`.
    host: &'a str,
    /// The name that its `_acme-challenge` leads to, in lower case and without the last dot.
    name: &'a str,
    /// What it has to say.
    value: &'a str,
}

/// Whoever keeps zones.
#[async_trait]
pub(super) trait Provider: Send + Sync {
    /// Fails as far as setting this record would fail, and changes nothing.
    async fn check(&self, record: Txt<'_>) -> Result<(), DnsError>;

    /// Adds a value to those of the name; one that is there already is no error.
    async fn set(&self, record: Txt<'_>) -> Result<(), DnsError>;

    /// Removes a value; one that is not there is no error.
    async fn remove(&self, record: Txt<'_>) -> Result<(), DnsError>;
}

/// Why a record can't be set or is not seen.
#[derive(Clone, PartialEq, Eq, Debug, Error)]
pub(super) enum DnsError {
    /// The Secret, or what stands in it.
    #[error("{cause}")]
    Credentials { cause: String, remedy: String },
    /// Whoever keeps the zone does not take them.
    #[error("{0}")]
    Refused(String, &'static str),
    /// There is no zone for the name.
    #[error("{0}")]
    Zone(String, String),
    /// Whoever keeps the zone can't be asked.
    #[error("{0}")]
    Away(String),
    /// Name servers do not show the record.
    #[error("{0}")]
    Hidden(String),
}

impl From<DnsError> for Failure {
    fn from(error: DnsError) -> Self {
        let cause = error.to_string();
        let remedy = match error {
            DnsError::Credentials { remedy, .. } | DnsError::Zone(_, remedy) => remedy,
            DnsError::Refused(_, remedy) => remedy.to_owned(),
            DnsError::Away(_) => "wait, or see whether the provider can be reached from here".to_owned(),
            DnsError::Hidden(_) => {
                "see why these name servers do not have it, or give the issuer a longer dns.propagation".to_owned()
            }
        };
        Self::new(trouble::Kind::Dns, cause, remedy)
    }
}

/// Whoever keeps the zones of an issuer's hosts, with the credentials that the issuer names.
async fn open(edge: &Edge, issuer: &Issuer) -> Result<Box<dyn Provider>, DnsError> {
    let dns = issuer.dns.as_deref().ok_or_else(|| {
        let remedy = "give it dns: with a provider and a Secret, or remove dns-01 from its challenges";
        DnsError::Credentials { cause: format!("issuer {} has no dns", issuer.name), remedy: remedy.to_owned() }
    })?;
    let credentials = Credentials { store: &edge.store, dns };
    provider(&edge.names, dns, &credentials).await
}

async fn provider(names: &Names, dns: &Dns, credentials: &Credentials<'_>) -> Result<Box<dyn Provider>, DnsError> {
    let api = |standard: &str| api::Api::new(names, dns, standard);
    Ok(match &dns.provider {
        Kind::Rfc2136(server) => {
            let secret = credentials.key("key").await?;
            Box::new(rfc2136::Rfc2136::new(names.clone(), server.clone(), &secret)?)
        }
        Kind::AcmeDns => {
            Box::new(acmedns::AcmeDns { api: api("")?, accounts: credentials.text("acmedns.json").await? })
        }
        Kind::Webhook => Box::new(webhook::Webhook { api: api("")?.authorized(credentials.any().await?)? }),
        Kind::Cloudflare => {
            let token = format!("Bearer {}", credentials.text("token").await?);
            Box::new(cloudflare::Cloudflare { api: api(cloudflare::URL)?.authorized(Some(token))? })
        }
        Kind::Desec => {
            let token = format!("Token {}", credentials.text("token").await?);
            Box::new(desec::Desec { api: api(desec::URL)?.authorized(Some(token))? })
        }
        Kind::DuckDns => {
            Box::new(duckdns::DuckDns { api: api(duckdns::URL)?, token: credentials.text("token").await? })
        }
        Kind::Hetzner => {
            let token = format!("Bearer {}", credentials.text("token").await?);
            Box::new(hetzner::Hetzner { api: api(hetzner::URL)?.authorized(Some(token))? })
        }
    })
}

/// What a record has to say (RFC 8555 section 8.4).
fn value(key_authorization: &str) -> String {
    BASE64_URL_SAFE_NO_PAD.encode(digest(key_authorization))
}

/// The domains that a name may be in the zone of, the longest first; top-level domains are left out.
fn domains(name: &str) -> impl Iterator<Item = &str> {
    std::iter::successors(Some(name), |name| name.split_once('.').map(|(_, parent)| parent))
        .filter(|name| name.contains('.'))
}

/// The part of a name in front of its zone, as providers want it; `apex` for the zone itself.
fn within<'a>(name: &'a str, zone: &str, apex: &'a str) -> &'a str {
    name.strip_suffix(zone).map_or(name, |rest| if rest.is_empty() { apex } else { rest.trim_end_matches('.') })
}

#[cfg(test)]
mod tests;
