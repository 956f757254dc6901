//! What nginx' variables say of TLS with a client: `$ssl_protocol` and its like.

use std::fmt::Write;

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use sha1::{Digest, Sha1};
use x509_parser::prelude::{ASN1Time, FromDer, X509Certificate};

use super::Tls;
use super::client_certificate::ClientCertificate;

/// A variable of `ngx_http_ssl_module`. Without TLS each is empty, without a client's certificate those of it are.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum TlsVariable {
    /// `TLSv1.3`.
    Protocol,
    /// The cipher suite, as OpenSSL names it.
    Cipher,
    /// The name in the handshake.
    ServerName,
    /// `r` for a session that goes on, `.` for a new one.
    SessionReused,
    /// `NONE`, `SUCCESS` or `FAILED:` and why.
    ClientVerify,
    /// The subject by RFC 2253.
    ClientSubject,
    /// The issuer by RFC 2253.
    ClientIssuer,
    /// The serial number in hexadecimal digits.
    ClientSerial,
    /// The SHA-1 of the certificate in hexadecimal digits.
    ClientFingerprint,
    /// When it begins to be valid.
    ClientBegin,
    /// When it ceases to be valid.
    ClientEnd,
    /// The days until then.
    ClientDaysLeft,
    /// The certificate as PEM, escaped for a URI.
    ClientEscaped,
    /// The certificate as PEM, each line but the first with a tab in front.
    ClientTabbed,
}

impl TlsVariable {
    /// That of a name, if there is one.
    pub fn of(name: &str) -> Option<Self> {
        Some(match name.strip_prefix("ssl_")? {
            "protocol" => Self::Protocol,
            "cipher" => Self::Cipher,
            "server_name" => Self::ServerName,
            "session_reused" => Self::SessionReused,
            "client_verify" => Self::ClientVerify,
            "client_s_dn" => Self::ClientSubject,
            "client_i_dn" => Self::ClientIssuer,
            "client_serial" => Self::ClientSerial,
            "client_fingerprint" => Self::ClientFingerprint,
            "client_v_start" => Self::ClientBegin,
            "client_v_end" => Self::ClientEnd,
            "client_v_remain" => Self::ClientDaysLeft,
            "client_escaped_cert" => Self::ClientEscaped,
            "client_cert" => Self::ClientTabbed,
            _ => return None,
        })
    }

    /// What it stands for on a connection by TLS.
    pub fn text(self, tls: &Tls) -> String {
        let client = tls.client.as_deref();
        let found = match self {
            Self::Protocol => Some(tls.session.protocol.to_owned()),
            Self::Cipher => Some(tls.session.cipher.to_owned()),
            Self::ServerName => tls.server_name.as_ref().map(ToString::to_string),
            Self::SessionReused => Some(if tls.session.is_resumed { "r" } else { "." }.to_owned()),
            Self::ClientVerify => Some(client.map_or_else(|| "NONE".to_owned(), ClientCertificate::verified)),
            Self::ClientSubject => client.map(|client| client.subject().to_owned()),
            Self::ClientIssuer => client.map(|client| client.issuer().to_owned()),
            _ => client.and_then(|client| self.of_certificate(client)),
        };
        found.unwrap_or_default()
    }

    fn of_certificate(self, client: &ClientCertificate) -> Option<String> {
        let der = client.der()?;
        let (_, parsed) = X509Certificate::from_der(der).ok()?;
        let validity = parsed.validity();
        Some(match self {
            Self::ClientSerial => {
                let serial = parsed.raw_serial();
                hexadecimal(serial.strip_prefix(&[0]).filter(|rest| !rest.is_empty()).unwrap_or(serial)).to_uppercase()
            }
            Self::ClientFingerprint => hexadecimal(&Sha1::digest(der)),
            Self::ClientBegin => openssl_time(validity.not_before),
            Self::ClientEnd => openssl_time(validity.not_after),
            Self::ClientDaysLeft => {
                let end = u64::try_from(validity.not_after.timestamp()).unwrap_or_default();
                (end.saturating_sub(client.time().as_secs()) / 86_400).to_string()
            }
            Self::ClientEscaped => super::client_certificate::escaped_pem(der),
            Self::ClientTabbed => pem(der).trim_end().replace('\n', "\n\t"),
            _ => return None,
        })
    }
}

/// `Nov 28 21:20:00 2026 GMT`, as OpenSSL prints a time.
fn openssl_time(time: ASN1Time) -> String {
    let time = k8s_openapi::jiff::Timestamp::from_second(time.timestamp()).unwrap_or_default();
    time.strftime("%b %e %H:%M:%S %Y GMT").to_string()
}

fn hexadecimal(bytes: &[u8]) -> String {
    let mut text = String::with_capacity(bytes.len() * 2);
    for byte in bytes {
        // Writing to a text can't fail.
        let _ = write!(text, "{byte:02x}");
    }
    text
}

/// A certificate by RFC 7468.
fn pem(der: &[u8]) -> String {
    let encoded = STANDARD.encode(der);
    let mut text = String::from("-----BEGIN CERTIFICATE-----\n");
    for line in encoded.as_bytes().chunks(64) {
        text.push_str(&String::from_utf8_lossy(line));
        text.push('\n');
    }
    text.push_str("-----END CERTIFICATE-----\n");
    text
}
