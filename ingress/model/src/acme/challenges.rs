//! The challenges that are answered now: what travels to all replicas, and what the data path reads of it.

use std::collections::{BTreeMap, HashMap};
use std::sync::Arc;

use arc_swap::ArcSwap;
use rustls::sign::CertifiedKey;
use serde::{Deserialize, Serialize};

use crate::host::HostName;

/// Where the answer to an HTTP-01 challenge is asked for (RFC 8555 section 8.3).
pub const HTTP_01_PREFIX: &str = "/.well-known/acme-challenge/";

/// How a host is proven to be ours.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug, Serialize, Deserialize)]
pub enum ChallengeKind {
    /// A file over plain HTTP (RFC 8555 section 8.3).
    #[serde(rename = "http-01")]
    Http01,
    /// A certificate in a handshake (RFC 8737).
    #[serde(rename = "tls-alpn-01")]
    TlsAlpn01,
    /// A TXT record (RFC 8555 section 8.4).
    #[serde(rename = "dns-01")]
    Dns01,
}

impl ChallengeKind {
    /// The name in RFC 8555.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Http01 => "http-01",
            Self::TlsAlpn01 => "tls-alpn-01",
            Self::Dns01 => "dns-01",
        }
    }
}

/// A challenge that is answered. Nothing in it is secret: whoever asks gets it.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Challenge {
    /// Which kind.
    pub kind: ChallengeKind,
    /// The host.
    pub host: String,
    /// The token that the CA asks for.
    pub token: String,
    /// What proves the account (RFC 8555 section 8.1).
    pub key_authorization: String,
}

/// All challenges, by the certificate that they are for.
pub type Board = BTreeMap<String, Vec<Challenge>>;

/// What the data path answers now.
#[derive(Debug, Default)]
pub struct Answers {
    /// The bodies of HTTP-01 by token.
    pub tokens: HashMap<Box<str>, Box<str>>,
    /// The certificates of TLS-ALPN-01 by server name.
    pub certificates: HashMap<HostName, Arc<CertifiedKey>>,
}

/// The answers as the data path reads them, swapped whole.
#[derive(Debug, Default)]
pub struct Challenges(ArcSwap<Answers>);

impl Challenges {
    /// Takes other answers from now on.
    pub fn publish(&self, answers: Answers) {
        self.0.store(Arc::new(answers));
    }

    /// The body for this path, if it is that of one of our own challenges.
    pub fn http_01(&self, path: &str) -> Option<String> {
        let token = path.strip_prefix(HTTP_01_PREFIX)?;
        self.0.load().tokens.get(token).map(ToString::to_string)
    }

    /// The certificate that proves this name.
    pub fn tls_alpn_01(&self, name: &HostName) -> Option<Arc<CertifiedKey>> {
        self.0.load().certificates.get(name).cloned()
    }
}
