//! The certificate that a client has shown in the handshake.

use std::borrow::Cow;
use std::fmt;
use std::sync::{Arc, OnceLock};

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use http::{HeaderName, HeaderValue};
use rustls_pki_types::{CertificateDer, UnixTime};
use x509_parser::prelude::{FromDer, X509Certificate};

use super::distinguished_name;
use crate::authorities::{Authorities, Flaw, Usage};
use crate::policy::ClientCertificates;

const CERTIFICATE: HeaderName = HeaderName::from_static("ssl-client-cert");
const ISSUER: HeaderName = HeaderName::from_static("ssl-client-issuer-dn");
const SUBJECT: HeaderName = HeaderName::from_static("ssl-client-subject-dn");
const VERIFY: HeaderName = HeaderName::from_static("ssl-client-verify");

/// A certificate that belongs to the client: it has signed the handshake with its key. Whether it is trusted depends
/// on who asks.
pub struct ClientCertificate {
    /// The certificate itself first.
    chain: Vec<CertificateDer<'static>>,
    /// When it was shown.
    time: UnixTime,
    subject: String,
    issuer: String,
    /// The certificate in PEM form, escaped.
    escaped: OnceLock<Option<HeaderValue>>,
    /// What it is worth to those who are asked about first.
    known: Option<(Arc<Authorities>, u32, Result<(), Flaw>)>,
}

impl ClientCertificate {
    /// A chain that was shown, by the time of its handshake, and who will ask for it most likely.
    pub fn new(
        chain: Vec<CertificateDer<'static>>,
        time: UnixTime,
        policy: Option<&ClientCertificates>,
    ) -> Option<Self> {
        let (_, parsed) = X509Certificate::from_der(chain.first()?).ok()?;
        let subject = distinguished_name::text(parsed.subject());
        let issuer = distinguished_name::text(parsed.issuer());
        let known = policy.and_then(|policy| {
            let authorities = policy.authorities.as_ref().ok()?;
            let verdict = authorities.verify(&chain, Usage::Client, policy.depth, time);
            Some((authorities.clone(), policy.depth, verdict))
        });
        Some(Self { chain, time, subject, issuer, escaped: OnceLock::new(), known })
    }

    /// Its subject as nginx writes it (RFC 2253).
    pub fn subject(&self) -> &str {
        &self.subject
    }

    /// Its issuer as nginx writes it (RFC 2253).
    pub fn issuer(&self) -> &str {
        &self.issuer
    }

    /// When it was shown.
    pub(super) fn time(&self) -> UnixTime {
        self.time
    }

    /// The certificate itself.
    pub(super) fn der(&self) -> Option<&[u8]> {
        self.chain.first().map(AsRef::as_ref)
    }

    /// `$ssl_client_verify`: what it is worth to those who were asked about first.
    pub(super) fn verified(&self) -> String {
        match &self.known {
            Some((_, _, Ok(()))) => "SUCCESS".to_owned(),
            Some((_, _, Err(flaw))) => format!("FAILED:{flaw}"),
            None => "NONE".to_owned(),
        }
    }

    /// What it is worth, as of the handshake. The authorities may have changed since then, or be those of another host.
    pub(super) fn verdict(&self, authorities: &Arc<Authorities>, depth: u32) -> Cow<'_, Result<(), Flaw>> {
        match &self.known {
            Some((known, of, verdict)) if *of == depth && known == authorities => Cow::Borrowed(verdict),
            _ => Cow::Owned(authorities.verify(&self.chain, Usage::Client, depth, self.time)),
        }
    }

    fn escaped(&self) -> Option<&HeaderValue> {
        let made = self.escaped.get_or_init(|| {
            let first = self.chain.first()?;
            HeaderValue::try_from(escaped_pem(first)).ok()
        });
        made.as_ref()
    }
}

/// The fields by which a backend hears of a client's certificate.
pub(super) fn fields(
    policy: &ClientCertificates,
    certificate: Option<&ClientCertificate>,
) -> Vec<(HeaderName, HeaderValue)> {
    let Some(authorities) = policy.asks() else { return vec![(VERIFY, HeaderValue::from_static("NONE"))] };
    let Some(certificate) = certificate else { return vec![(VERIFY, HeaderValue::from_static("NONE"))] };
    let verify = match &*certificate.verdict(authorities, policy.depth) {
        Ok(()) => HeaderValue::from_static("SUCCESS"),
        Err(flaw) => {
            HeaderValue::try_from(format!("FAILED:{flaw}")).unwrap_or(HeaderValue::from_static("FAILED:unknown"))
        }
    };
    let mut fields = vec![(VERIFY, verify)];
    for (name, text) in [(SUBJECT, &certificate.subject), (ISSUER, &certificate.issuer)] {
        fields.extend(HeaderValue::from_str(text).ok().filter(|value| !value.is_empty()).map(|value| (name, value)));
    }
    if policy.pass {
        fields.extend(certificate.escaped().map(|escaped| (CERTIFICATE, escaped.clone())));
    }
    fields
}

/// PEM (RFC 7468) with everything escaped that has a meaning in a URI, as `$ssl_client_escaped_cert` of nginx.
pub(super) fn escaped_pem(certificate: &[u8]) -> String {
    let encoded = STANDARD.encode(certificate);
    let mut text = String::with_capacity(encoded.len() * 5 / 4 + 80);
    text.push_str("-----BEGIN%20CERTIFICATE-----%0A");
    for line in encoded.as_bytes().chunks(64) {
        for byte in line {
            match byte {
                b'+' => text.push_str("%2B"),
                b'/' => text.push_str("%2F"),
                b'=' => text.push_str("%3D"),
                byte => text.push(char::from(*byte)),
            }
        }
        text.push_str("%0A");
    }
    text.push_str("-----END%20CERTIFICATE-----%0A");
    text
}

impl PartialEq for ClientCertificate {
    fn eq(&self, other: &Self) -> bool {
        self.chain == other.chain && self.time == other.time
    }
}

impl Eq for ClientCertificate {}

impl fmt::Debug for ClientCertificate {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "ClientCertificate({})", self.subject)
    }
}
