//! Secrets and the certificates in them: of type `kubernetes.io/tls`, in class nginx of any type.

use std::collections::{BTreeMap, BTreeSet};
use std::hash::{DefaultHasher, Hash, Hasher};
use std::net::IpAddr;
use std::sync::Arc;

use k8s_openapi::api::core::v1::Secret;
use landfall_model::{Change, ObjectKey, Reason};
use rustls::crypto::CryptoProvider;
use rustls::sign::CertifiedKey;
use rustls_pki_types::pem::PemObject;
use rustls_pki_types::{CertificateDer, PrivateKeyDer, UnixTime};
use x509_parser::prelude::{FromDer, GeneralName, X509Certificate};

mod keys;
mod pem;

use super::store::Store;
use super::users::Users;
use crate::authorities::{Authorities, BadAuthorities};
use crate::host::{HostName, HostPattern};
use crate::reason;
use crate::settings::Settings;
use crate::table::Dialect;
use crate::tls::Certificate;

const TLS_TYPE: &str = "kubernetes.io/tls";
const CERTIFICATE: &str = "tls.crt";
const KEY: &str = "tls.key";
/// Authorities, and what they have revoked.
const AUTHORITIES: &str = "ca.crt";
const REVOKED: &str = "ca.crl";
/// Bytes of a chain as TLS sends it. OpenSSL takes 100 KiB by default, rustls and older Go 64 KiB.
const LONGEST_CHAIN: usize = 64 << 10;
/// Bytes of one certificate's length and extensions in that message (RFC 8446 section 4.4.2).
const CHAIN_ENTRY: usize = 5;

/// Why a Secret can't be used; becomes a Problem of each Ingress that names it.
#[derive(Clone, PartialEq, Debug)]
pub(crate) struct SecretFault {
    pub(crate) reason: Reason,
    pub(crate) cause: String,
    pub(crate) remedy: String,
}

/// What is held of a Secret. Its text is dropped once it was read.
#[derive(Debug)]
struct StoredSecret {
    /// Tells whether the Secret has changed after its text was dropped.
    digest: u64,
    /// Its type, if that is another than `kubernetes.io/tls`.
    other_type: Option<Box<str>>,
    /// All that is in it, if its type is another one; else the authorities.
    data: BTreeMap<Box<str>, Box<[u8]>>,
    content: Content,
    /// The authorities in it, once they were read.
    authorities: Option<Result<Arc<Authorities>, BadAuthorities>>,
}

#[derive(Debug)]
enum Content {
    Unread(Result<Pem, SecretFault>),
    Read(Result<Pair, SecretFault>),
}

/// `tls.crt` and `tls.key`.
#[derive(Debug)]
struct Pem {
    certificate: Box<[u8]>,
    key: Box<[u8]>,
}

/// A certificate with its key, and the time it is valid.
#[derive(Clone, Debug)]
struct Pair {
    certificate: Arc<Certificate>,
    not_before: u64,
    not_after: u64,
}

impl PartialEq for StoredSecret {
    fn eq(&self, other: &Self) -> bool {
        self.digest == other.digest
    }
}

impl StoredSecret {
    /// Its certificate and key, which are read once.
    fn pair(&mut self, key: &ObjectKey, crypto: &CryptoProvider) -> Result<Pair, SecretFault> {
        match &self.content {
            Content::Read(read) => read.clone(),
            Content::Unread(pem) => {
                let read = pem.as_ref().map_err(Clone::clone).and_then(|pem| read(key, pem, crypto));
                self.content = Content::Read(read.clone());
                read
            }
        }
    }
}

/// All Secrets, and who uses which.
#[derive(Debug)]
pub(crate) struct Secrets {
    crypto: Arc<CryptoProvider>,
    store: Store<StoredSecret>,
    /// Those that were asked for by name.
    named: Store<StoredSecret>,
    users: Users,
    /// Those of the users whose class takes a Secret of any type.
    lenient: Users,
    /// Those of the users that show it as a certificate, for whom its validity counts.
    showing: Users,
    missing: BTreeSet<ObjectKey>,
    last_missing: Arc<BTreeSet<ObjectKey>>,
    /// The namespaces that are read; empty: all.
    namespaces: Vec<String>,
    now: u64,
    /// Used without an Ingress: the default certificate.
    pinned: Option<ObjectKey>,
    /// When each used certificate begins or ceases to be valid.
    deadlines: BTreeSet<(u64, ObjectKey)>,
    deadline_of: BTreeMap<ObjectKey, u64>,
}

impl Secrets {
    pub(crate) fn new(settings: &Settings) -> Self {
        let pinned = settings.default_certificate.clone();
        Self {
            crypto: settings.crypto.clone(),
            store: Store::default(),
            named: Store::default(),
            users: Users::default(),
            lenient: Users::default(),
            showing: Users::default(),
            missing: pinned.iter().cloned().collect(),
            last_missing: Arc::default(),
            namespaces: settings.secret_namespaces.clone(),
            now: 0,
            pinned,
            deadlines: BTreeSet::new(),
            deadline_of: BTreeMap::new(),
        }
    }

    /// Applies a change and returns the Secrets that changed.
    pub(crate) fn apply(&mut self, change: Change<Secret>) -> Vec<ObjectKey> {
        let changed = self.store.apply(change, |secret| &secret.metadata, parse);
        let changed: Vec<ObjectKey> = changed.into_iter().map(|(key, _)| key).collect();
        for key in &changed {
            self.set_deadline(key, None);
            self.look_for(key);
        }
        changed
    }

    /// As [`Secrets::apply`], for Secrets that were asked for by name.
    pub(crate) fn apply_named(&mut self, change: Change<Secret>) -> Vec<ObjectKey> {
        let changed = self.named.apply(change, |secret| &secret.metadata, parse);
        let changed: Vec<ObjectKey> = changed.into_iter().map(|(key, _)| key).collect();
        for key in &changed {
            self.set_deadline(key, None);
        }
        changed
    }

    /// The Secrets to ask for by name.
    pub(crate) fn missing(&mut self) -> Arc<BTreeSet<ObjectKey>> {
        if *self.last_missing != self.missing {
            self.last_missing = Arc::new(self.missing.clone());
        }
        self.last_missing.clone()
    }

    /// Decides whether a Secret is to be asked for by name.
    fn look_for(&mut self, key: &ObjectKey) {
        let wanted = self.lenient.has(key) || self.pinned.as_ref() == Some(key);
        if wanted && self.is_read(key) && self.store.get(key).is_none() {
            self.missing.insert(key.clone());
        } else {
            self.missing.remove(key);
        }
    }

    /// Whether the Secrets of its namespace are read.
    pub(crate) fn is_read(&self, key: &ObjectKey) -> bool {
        self.namespaces.is_empty() || self.namespaces.iter().any(|namespace| namespace == key.namespace())
    }

    /// Moves the time on and returns the Secrets whose validity begins or ends with that.
    pub(crate) fn pass_time(&mut self, now: UnixTime) -> Vec<ObjectKey> {
        self.now = now.as_secs();
        let later = self.deadlines.split_off(&(self.now + 1, ObjectKey::cluster("")));
        let passed = std::mem::replace(&mut self.deadlines, later);
        let passed: Vec<ObjectKey> = passed.into_iter().map(|(_, key)| key).collect();
        for key in &passed {
            self.deadline_of.remove(key);
        }
        passed
    }

    fn set_deadline(&mut self, key: &ObjectKey, deadline: Option<u64>) {
        if let Some(old) = self.deadline_of.remove(key) {
            self.deadlines.remove(&(old, key.clone()));
        }
        if let Some(new) = deadline {
            self.deadline_of.insert(key.clone(), new);
            self.deadlines.insert((new, key.clone()));
        }
    }

    /// When [`Secrets::pass_time`] has something to say next.
    pub(crate) fn next_deadline(&self) -> Option<UnixTime> {
        let (deadline, _) = self.deadlines.first()?;
        Some(UnixTime::since_unix_epoch(std::time::Duration::from_secs(*deadline)))
    }

    pub(crate) fn add_user(&mut self, secret: &ObjectKey, user: &ObjectKey, dialect: Dialect) {
        self.users.add(secret, user);
        if dialect == Dialect::IngressNginx {
            self.lenient.add(secret, user);
            self.look_for(secret);
        }
    }

    /// Notes that a user shows a Secret as a certificate.
    pub(crate) fn add_shown(&mut self, secret: &ObjectKey, user: &ObjectKey) {
        self.showing.add(secret, user);
    }

    /// What is in a Secret that is no certificate.
    pub(crate) fn data(&self, secret: &ObjectKey) -> Option<&BTreeMap<Box<str>, Box<[u8]>>> {
        let stored = self.store.get(secret).or_else(|| self.named.get(secret))?;
        stored.other_type.as_ref().map(|_| &stored.data)
    }

    /// The authorities in a Secret of any type; `None` if it has no `ca.crt`.
    pub(crate) fn authorities(&mut self, key: &ObjectKey) -> Option<Result<Arc<Authorities>, BadAuthorities>> {
        let algorithms = self.crypto.signature_verification_algorithms;
        let secret = self.store.get_mut(key).or_else(|| self.named.get_mut(key))?;
        let StoredSecret { data, authorities, .. } = secret;
        let certificates = data.get(AUTHORITIES).filter(|text| !text.trim_ascii().is_empty())?;
        let read = authorities.get_or_insert_with(|| {
            let revoked = data.get(REVOKED).filter(|text| !text.trim_ascii().is_empty());
            let revoked = revoked.map(|text| pem::trimmed(text));
            Authorities::parse(&pem::trimmed(certificates), revoked.as_deref(), algorithms).map(Arc::new)
        });
        Some(read.clone())
    }

    /// The certificate in a Secret of any type, valid or not; `None` if it has neither certificate nor key.
    pub(crate) fn pair(&mut self, key: &ObjectKey) -> Option<Result<Arc<CertifiedKey>, SecretFault>> {
        let secret = self.store.get_mut(key).or_else(|| self.named.get_mut(key))?;
        let is_incomplete = match &secret.content {
            Content::Unread(pem) => pem.is_err(),
            Content::Read(read) => read.as_ref().is_err_and(|fault| fault.reason == reason::INCOMPLETE_SECRET),
        };
        if is_incomplete && !secret.data.contains_key(CERTIFICATE) {
            return None;
        }
        Some(secret.pair(key, &self.crypto).map(|pair| pair.certificate.key.clone()))
    }

    /// Whether there is such a Secret.
    pub(crate) fn contains(&self, key: &ObjectKey) -> bool {
        self.store.get(key).or_else(|| self.named.get(key)).is_some()
    }

    pub(crate) fn remove_user(&mut self, secret: &ObjectKey, user: &ObjectKey) {
        self.users.remove(secret, user);
        if self.lenient.remove(secret, user) {
            self.look_for(secret);
        }
        if self.showing.remove(secret, user) && self.pinned.as_ref() != Some(secret) {
            self.set_deadline(secret, None);
        }
    }

    pub(crate) fn users(&self, secret: &ObjectKey) -> impl Iterator<Item = &ObjectKey> {
        self.users.of(secret)
    }

    /// The certificate in a Secret if it can be used now. ingress-nginx asks for no type.
    pub(crate) fn certificate(&mut self, key: &ObjectKey, dialect: Dialect) -> Result<Arc<Certificate>, SecretFault> {
        let is_read = self.is_read(key);
        let Some(secret) = self.store.get_mut(key).or_else(|| self.named.get_mut(key)) else {
            let (namespace, name) = (key.namespace(), key.name());
            if !is_read {
                return Err(fault(
                    reason::UNKNOWN_SECRET,
                    format!(
                        "Secrets of namespace {namespace} are not read; clients get the default certificate instead"
                    ),
                    format!("add {namespace} to --secret-namespace (ingress.secretNamespaces in the chart)"),
                ));
            }
            return Err(fault(
                reason::UNKNOWN_SECRET,
                format!("there is no Secret {key} of type {TLS_TYPE}; clients get the default certificate instead"),
                format!("kubectl -n {namespace} create secret tls {name} --cert=FILE --key=FILE"),
            ));
        };
        if let (Some(kind), Dialect::Kubernetes) = (&secret.other_type, dialect) {
            let cause = format!("the Secret is of type {kind:?}; clients get the default certificate instead");
            return Err(fault(reason::INVALID_SECRET_TYPE, cause, format!("recreate it as type {TLS_TYPE}")));
        }
        let pair = secret.pair(key, &self.crypto)?;
        let deadline = if self.now < pair.not_before { pair.not_before } else { pair.not_after };
        self.set_deadline(key, (self.now < deadline).then_some(deadline));
        if self.now < pair.not_before {
            let cause = "the certificate is not valid yet; clients get the default certificate instead";
            let remedy = format!("wait until {}, or correct the clock", date(pair.not_before));
            return Err(fault(reason::CERTIFICATE_NOT_YET_VALID, cause, remedy));
        }
        if self.now >= pair.not_after {
            let cause = format!(
                "the certificate expired at {}; clients get the default certificate instead",
                date(pair.not_after)
            );
            return Err(fault(reason::CERTIFICATE_EXPIRED, cause, "renew the certificate"));
        }
        Ok(pair.certificate.clone())
    }
}

impl Secrets {
    /// The certificate in a Secret, if nothing is wrong with it but that it has expired.
    pub(crate) fn expired(&mut self, key: &ObjectKey) -> Option<Arc<Certificate>> {
        let secret = self.store.get_mut(key).or_else(|| self.named.get_mut(key))?;
        let pair = secret.pair(key, &self.crypto).ok()?;
        (self.now >= pair.not_after).then_some(pair.certificate)
    }
}

/// Whether one of the certificate's names stands for the host (RFC 6125 section 6.4: a wildcard is one label).
pub(crate) fn covers(certificate: &Certificate, host: &HostPattern) -> bool {
    let named = |name: &str| certificate.names.iter().any(|covered| **covered == *name);
    match host {
        HostPattern::Exact(host) => {
            named(host.as_str()) || host.parent().is_some_and(|domain| named(&format!("*.{domain}")))
        }
        HostPattern::Wildcard(domain) => named(&format!("*.{domain}")),
        HostPattern::Any => false,
    }
}

fn fault(reason: Reason, cause: impl Into<String>, remedy: impl Into<String>) -> SecretFault {
    SecretFault { reason, cause: cause.into(), remedy: remedy.into() }
}

/// A time as `2026-11-21T04:38:30Z`.
fn date(seconds: u64) -> String {
    let seconds = i64::try_from(seconds).unwrap_or(i64::MAX);
    k8s_openapi::jiff::Timestamp::from_second(seconds).map_or_else(|_| seconds.to_string(), |time| time.to_string())
}

fn parse(secret: &Secret, _: &ObjectKey) -> StoredSecret {
    let mut hasher = DefaultHasher::new();
    let kind = secret.type_.as_deref().unwrap_or_default();
    kind.hash(&mut hasher);
    let mut part = |name: &str| {
        // A manifest may have plain text; it wins, as it does at the API server.
        let text = secret.string_data.as_ref().and_then(|data| data.get(name)).map(String::as_bytes);
        let bytes = secret.data.as_ref().and_then(|data| data.get(name)).map(|bytes| bytes.0.as_slice());
        let found: Option<&[u8]> = text.or(bytes).filter(|bytes| !bytes.is_empty());
        found.hash(&mut hasher);
        found.map(Box::<[u8]>::from)
    };
    let (certificate, key) = (part(CERTIFICATE), part(KEY));
    let content = match (certificate, key) {
        (Some(certificate), Some(key)) => Ok(Pem { certificate, key }),
        (None, _) => Err(incomplete(CERTIFICATE)),
        (_, None) => Err(incomplete(KEY)),
    };
    let other_type: Option<Box<str>> = (kind != TLS_TYPE).then(|| kind.into());
    let mut data = data_of(secret);
    if other_type.is_none() {
        data.retain(|name, _| [AUTHORITIES, REVOKED].contains(&&**name));
    }
    data.hash(&mut hasher);
    StoredSecret { digest: hasher.finish(), other_type, data, content: Content::Unread(content), authorities: None }
}

/// All of a Secret; plain text wins, as it does at the API server.
fn data_of(secret: &Secret) -> BTreeMap<Box<str>, Box<[u8]>> {
    let encoded = secret.data.iter().flatten().map(|(name, bytes)| (name, bytes.0.as_slice()));
    let plain = secret.string_data.iter().flatten().map(|(name, text)| (name, text.as_bytes()));
    encoded.chain(plain).map(|(name, bytes)| (name.as_str().into(), bytes.into())).collect()
}

fn incomplete(part: &str) -> SecretFault {
    let cause = format!("the Secret has no {part}; clients get the default certificate instead");
    fault(reason::INCOMPLETE_SECRET, cause, format!("add data[{part}] in PEM form"))
}

fn read(secret: &ObjectKey, pem: &Pem, crypto: &CryptoProvider) -> Result<Pair, SecretFault> {
    let bad_certificate = |cause: String| {
        let cause =
            format!("{CERTIFICATE} of the Secret can't be read: {cause}; clients get the default certificate instead");
        fault(reason::INVALID_CERTIFICATE, cause, "put the certificate, then its intermediates, in PEM form")
    };
    let chain = chain(&pem.certificate).map_err(bad_certificate)?;
    let first = chain.first().ok_or_else(|| bad_certificate("it has no certificate".into()))?;
    let (_, parsed) = X509Certificate::from_der(first).map_err(|error| bad_certificate(error.to_string()))?;
    let names = names(&parsed);
    let time = |time: x509_parser::time::ASN1Time| u64::try_from(time.timestamp()).unwrap_or(0);
    let (not_before, not_after) = (time(parsed.validity().not_before), time(parsed.validity().not_after));
    let bad_key = |cause: String| {
        let cause = format!("{KEY} of the Secret can't be read: {cause}; clients get the default certificate instead");
        fault(reason::INVALID_KEY, cause, "put the unencrypted private key in PEM form")
    };
    let text = pem::trimmed(&pem.key);
    let key = PrivateKeyDer::from_pem_slice(&text).map_err(|error| bad_key(pem::cause(&error, &text)))?;
    let key = crypto.key_provider.load_private_key(key).map_err(|error| match keys::unusable(&parsed) {
        Some(what) => {
            let cause =
                format!("the certificate has {what}, which can't be used; clients get the default certificate instead");
            fault(reason::INVALID_KEY, cause, format!("issue it for another key: {}", keys::USABLE))
        }
        None => bad_key(error.to_string()),
    })?;
    let key = CertifiedKey::new(chain, key);
    match key.keys_match() {
        Ok(()) | Err(rustls::Error::InconsistentKeys(rustls::InconsistentKeys::Unknown)) => {}
        Err(rustls::Error::InconsistentKeys(_)) => {
            let cause = format!(
                "{KEY} of the Secret does not belong to {CERTIFICATE}; clients get the default certificate instead"
            );
            return Err(fault(reason::KEY_MISMATCH, cause, "put the key that the certificate was made for"));
        }
        Err(error) => return Err(bad_certificate(error.to_string())),
    }
    let until = UnixTime::since_unix_epoch(std::time::Duration::from_secs(not_after));
    let certificate = Certificate { secret: secret.clone(), key: Arc::new(key), names, not_after: until };
    Ok(Pair { certificate: Arc::new(certificate), not_before, not_after })
}

/// The certificates of `tls.crt`.
fn chain(text: &[u8]) -> Result<Vec<CertificateDer<'static>>, String> {
    let text = pem::trimmed(text);
    let mut chain = Vec::new();
    let mut length = 0;
    for certificate in CertificateDer::pem_slice_iter(&text) {
        let certificate: CertificateDer<'static> = certificate.map_err(|error| pem::cause(&error, &text))?;
        length += certificate.len() + CHAIN_ENTRY;
        if length > LONGEST_CHAIN {
            return Err(format!("the chain is longer than {} KiB, which clients refuse", LONGEST_CHAIN >> 10));
        }
        chain.push(certificate);
    }
    Ok(chain)
}

/// The DNS names, else the common name, in lower case (RFC 6125 section 6.4.4); and the addresses, as hosts.
fn names(certificate: &X509Certificate<'_>) -> Vec<Box<str>> {
    let alternative = certificate.subject_alternative_name().ok().flatten();
    let alternative: Vec<_> = alternative.iter().flat_map(|extension| &extension.value.general_names).collect();
    let mut names: Vec<Box<str>> = alternative
        .iter()
        .filter_map(|name| match name {
            GeneralName::DNSName(name) => Some(name.to_ascii_lowercase().into()),
            _ => None,
        })
        .collect();
    if names.is_empty() {
        let common = certificate.subject().iter_common_name().filter_map(|name| name.as_str().ok());
        names.extend(common.map(|name| name.to_ascii_lowercase().into()));
    }
    let address = |name: &&GeneralName<'_>| match name {
        GeneralName::IPAddress(bytes) => address(bytes),
        _ => None,
    };
    names.extend(alternative.iter().filter_map(address).map(|address| HostName::from_address(address).as_str().into()));
    names.sort_unstable();
    names.dedup();
    names
}

/// An address of 4 or 16 octets (RFC 5280 section 4.2.1.6).
pub(crate) fn address(bytes: &[u8]) -> Option<IpAddr> {
    let four = <[u8; 4]>::try_from(bytes).map(IpAddr::from);
    four.or_else(|_| <[u8; 16]>::try_from(bytes).map(IpAddr::from)).ok()
}
