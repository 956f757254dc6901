//! Requests with JSON, to those whose zones are changed that way.

use std::time::Duration;

use bytes::Bytes;
use http::header::{ACCEPT, AUTHORIZATION, CONTENT_TYPE, RETRY_AFTER};
use http::{HeaderValue, Method, Request, StatusCode};
use instant_acme::BodyWrapper;
use landfall_ingress_model::acme::dns::Dns;
use serde_json::Value;

use super::DnsError;
use crate::acme::https::Https;
use crate::acme::names::Names;

/// Seconds that are waited for a provider that has been asked too often; longer ones are a failure.
const LONGEST_WAIT: u64 = 60;
/// How often that is done.
const WAITS: u32 = 3;
/// The beginning of an answer that is shown.
const SHOWN: usize = 200;
const WRONG: &str = "correct the credentials in the issuer's Secret, or give them the right to change this zone";

/// Where requests are sent, and as whom.
pub(super) struct Api {
    https: Https,
    base: String,
    authorization: Option<HeaderValue>,
}

/// An answer.
pub(super) struct Answer {
    pub(super) status: StatusCode,
    /// `null` where it is no JSON.
    pub(super) body: Value,
    pub(super) text: String,
}

impl Api {
    /// At the issuer's URL, else at the provider's own.
    pub(super) fn new(names: &Names, dns: &Dns, standard: &str) -> Result<Self, DnsError> {
        let https = Https::new(dns.ca_bundle.as_deref(), names.clone())
            .map_err(|cause| DnsError::Credentials { cause, remedy: "correct the issuer's dns.caBundle".to_owned() })?;
        let base = dns.url.as_deref().unwrap_or(standard).trim_end_matches('/').to_owned();
        Ok(Self { https, base, authorization: None })
    }

    /// With this header.
    pub(super) fn authorized(mut self, value: Option<String>) -> Result<Self, DnsError> {
        let value = value.map(|text| HeaderValue::from_str(&text)).transpose().map_err(|_| DnsError::Credentials {
            cause: "the credentials have a character that no header may have".to_owned(),
            remedy: WRONG.to_owned(),
        })?;
        self.authorization = value.map(|mut value| {
            value.set_sensitive(true);
            value
        });
        Ok(self)
    }

    /// Sends a request; answers of any status are returned, but those that say that credentials are wrong or that the
    /// provider is away.
    pub(super) async fn call(&self, method: Method, path: &str, body: Option<&Value>) -> Result<Answer, DnsError> {
        self.call_with(method, path, body, &[]).await
    }

    /// As [`Self::call`], with further headers.
    pub(super) async fn call_with(
        &self,
        method: Method,
        path: &str,
        body: Option<&Value>,
        headers: &[(&'static str, &str)],
    ) -> Result<Answer, DnsError> {
        let mut waits = 0;
        loop {
            let (answer, pause) = self.once(&method, path, body, headers).await?;
            match answer.status.as_u16() {
                429 => {
                    let wait = pause.filter(|pause| *pause <= LONGEST_WAIT && waits < WAITS);
                    let Some(wait) = wait else { return Err(self.away(&answer)) };
                    waits += 1;
                    tokio::time::sleep(Duration::from_secs(wait.max(1))).await;
                }
                401 | 403 => return Err(DnsError::Refused(self.words(&answer), WRONG)),
                500.. => return Err(self.away(&answer)),
                _ => return Ok(answer),
            }
        }
    }

    async fn once(
        &self,
        method: &Method,
        path: &str,
        body: Option<&Value>,
        headers: &[(&'static str, &str)],
    ) -> Result<(Answer, Option<u64>), DnsError> {
        let uri = format!("{}{path}", self.base);
        let bad = |error: &dyn std::fmt::Display| DnsError::Credentials {
            cause: format!("no request can be sent to {}: {error}", self.base),
            remedy: "correct the issuer's dns.url and its Secret".to_owned(),
        };
        let mut request = Request::builder().method(method).uri(uri).header(ACCEPT, "application/json");
        if let Some(value) = &self.authorization {
            request = request.header(AUTHORIZATION, value);
        }
        for (name, value) in headers {
            request = request.header(*name, *value);
        }
        let body = match body {
            Some(body) => {
                request = request.header(CONTENT_TYPE, "application/json");
                BodyWrapper::<Bytes>::from(body.to_string().into_bytes())
            }
            None => BodyWrapper::default(),
        };
        let request = request.body(body).map_err(|error| bad(&error))?;
        let answer = self.https.send(request).await.map_err(|error| DnsError::Away(error.to_string()))?;
        let pause = answer.headers().get(RETRY_AFTER).and_then(|value| value.to_str().ok()?.trim().parse().ok());
        let text = String::from_utf8_lossy(answer.body()).into_owned();
        let body = serde_json::from_str(&text).unwrap_or_default();
        Ok((Answer { status: answer.status(), body, text }, pause))
    }

    fn away(&self, answer: &Answer) -> DnsError {
        DnsError::Away(self.words(answer))
    }

    /// What the provider has said.
    fn words(&self, answer: &Answer) -> String {
        let text: String = answer.text.split_whitespace().collect::<Vec<_>>().join(" ").chars().take(SHOWN).collect();
        // The path may hold a token.
        format!("{} answers {}: {text}", self.base, answer.status.as_u16())
    }

    /// The answer, if it is one of success.
    pub(super) fn done(&self, answer: Answer) -> Result<Answer, DnsError> {
        if answer.status.is_success() {
            return Ok(answer);
        }
        Err(DnsError::Refused(self.words(&answer), "correct the issuer's dns as the provider says"))
    }

    /// That there is no zone for a name.
    pub(super) fn no_zone(&self, name: &str) -> DnsError {
        DnsError::Zone(
            format!("{} keeps no zone for {name} that these credentials may see", self.base),
            format!("add the zone there, or delegate {name} by a CNAME record to a name in one of its zones"),
        )
    }
}
