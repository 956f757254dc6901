//! The flags about automatic certificates.

use std::net::SocketAddr;
use std::num::NonZeroUsize;
use std::path::PathBuf;

use anyhow::{Context, bail};
use clap::{Args, ValueEnum};
use landfall_ingress_model::acme::ask::Asking;
use landfall_ingress_model::acme::challenges::ChallengeKind;
use landfall_ingress_model::acme::internal::{INTERNAL, Internal, Lifetime, Permitted};
use landfall_ingress_model::acme::issuer::{DEFAULT, ExternalAccount, Issuer, KeyType, Ports, Rotation};
use landfall_ingress_model::acme::plan::AT_ONCE;
use landfall_model::ObjectKey;

const CONCURRENCY: NonZeroUsize = NonZeroUsize::new(AT_ONCE).expect("it is more than none");

/// Automatic certificates (ACME). They are on as soon as one of these is given.
#[derive(Args, Clone, Debug)]
pub struct AcmeArgs {
    /// The CA: letsencrypt, letsencrypt-staging, the URL of an ACME directory, or internal for one of our own.
    #[arg(long, env = "LANDFALL_ACME_DIRECTORY", value_name = "URL")]
    pub acme_directory: Option<String>,
    /// The address that the CA writes to; repeatable.
    #[arg(long, env = "LANDFALL_ACME_EMAIL", value_name = "ADDRESS", value_delimiter = ',')]
    pub acme_email: Vec<String>,
    /// Agree to the CA's terms of service. Nothing is ordered without.
    #[arg(long, env = "LANDFALL_ACME_ACCEPT_TERMS")]
    pub acme_accept_terms: bool,
    /// Verify the CA's directory by the authorities in this PEM file instead of by the public ones.
    #[arg(long, env = "LANDFALL_ACME_CA", value_name = "FILE")]
    pub acme_ca: Option<PathBuf>,
    /// Order certificates for all Ingresses whose spec.tls names hosts and a Secret, from this issuer.
    #[arg(long, env = "LANDFALL_ACME_DEFAULT", value_name = "ISSUER", num_args = 0..=1, default_missing_value = DEFAULT)]
    pub acme_default: Option<String>,
    /// A `ConfigMap` with issuers: each key is a name, each value the issuer in YAML.
    #[arg(long, env = "LANDFALL_ACME_ISSUERS", value_name = "NS/NAME", value_parser = object_key)]
    pub acme_issuers: Option<ObjectKey>,
    /// The kind of the certificates' keys.
    #[arg(long, env = "LANDFALL_ACME_KEY_TYPE", value_enum, default_value_t)]
    pub acme_key_type: Key,
    /// Whether a renewed certificate gets another key.
    #[arg(long, env = "LANDFALL_ACME_KEY_ROTATION", value_enum, default_value_t)]
    pub acme_key_rotation: KeyRotation,
    /// A name for the account's key: when it changes, the CA is asked to take another key.
    #[arg(long, env = "LANDFALL_ACME_ACCOUNT_KEY", value_name = "NAME")]
    pub acme_account_key: Option<String>,
    /// Orders under way at one time, of all issuers.
    #[arg(long, env = "LANDFALL_ACME_CONCURRENCY", value_name = "N", default_value_t = CONCURRENCY)]
    pub acme_concurrency: NonZeroUsize,
    /// How hosts are proven, the preferred way first.
    #[arg(long, env = "LANDFALL_ACME_CHALLENGES", value_enum, value_name = "LIST", value_delimiter = ',',
          default_values_t = [Kind::Http01, Kind::TlsAlpn01])]
    pub acme_challenges: Vec<Kind>,
    /// The profile to order by, where the CA has some.
    #[arg(long, env = "LANDFALL_ACME_PROFILE", value_name = "NAME")]
    pub acme_profile: Option<String>,
    /// The common name of the authority that chains should end at, where the CA offers several.
    #[arg(long, env = "LANDFALL_ACME_PREFERRED_CHAIN", value_name = "NAME")]
    pub acme_preferred_chain: Option<String>,
    /// The name of an external account's key, where the CA asks for one.
    #[arg(long, env = "LANDFALL_ACME_EAB_KEY_ID", value_name = "ID", requires = "acme_eab_secret")]
    pub acme_eab_key_id: Option<String>,
    /// The Secret whose entry `key` is the external account's key, in Base64 for URLs.
    #[arg(long, env = "LANDFALL_ACME_EAB_SECRET", value_name = "NS/NAME", value_parser = object_key,
          requires = "acme_eab_key_id")]
    pub acme_eab_secret: Option<ObjectKey>,
    /// Whether it is tried to reach a challenge before the CA is asked to. Lenient: what can't be told from here, as
    /// behind a router that does not lead back, is left to the CA.
    #[arg(long, env = "LANDFALL_ACME_SELF_CHECK", value_enum, default_value_t)]
    pub acme_self_check: SelfCheck,
    /// The name servers that the check asks, and that find the CA; those of the system by default.
    #[arg(long, env = "LANDFALL_ACME_DNS", value_name = "ADDR:PORT", value_delimiter = ',')]
    pub acme_dns: Vec<SocketAddr>,
    /// The port at which the CA asks for HTTP-01; another than 80 only for a CA of tests.
    #[arg(long, env = "LANDFALL_ACME_HTTP_PORT", value_name = "PORT", default_value_t = 80)]
    pub acme_http_port: u16,
    /// The port at which the CA asks for TLS-ALPN-01; another than 443 only for a CA of tests.
    #[arg(long, env = "LANDFALL_ACME_TLS_PORT", value_name = "PORT", default_value_t = 443)]
    pub acme_tls_port: u16,
    /// What the CA of our own, the issuer internal, signs for: domains and networks; `default` stands for home.arpa,
    /// internal, lan, local and the like, and for private networks. The root that is made bears it.
    #[arg(long, env = "LANDFALL_CA_PERMITTED", value_name = "LIST", value_delimiter = ',')]
    pub ca_permitted: Vec<String>,
    /// How long its certificates are valid, such as 7d or 12h.
    #[arg(long, env = "LANDFALL_CA_LIFETIME", value_name = "TIME", value_parser = Lifetime::parse)]
    pub ca_lifetime: Option<Lifetime>,
    /// A Secret with a root for it in ca.crt and ca.key; without it, one is made.
    #[arg(long, env = "LANDFALL_CA_ROOT", value_name = "NS/NAME", value_parser = object_key)]
    pub ca_root: Option<ObjectKey>,
    /// Where accounts, certificates and what was tried are kept with --manifests; by default `STATE_DIRECTORY`, which
    /// systemd sets. Whoever reads it has the private keys.
    #[arg(long, env = "LANDFALL_STATE_DIR", value_name = "DIR")]
    pub state_dir: Option<PathBuf>,
}

/// Whether a renewed certificate gets another key.
#[derive(ValueEnum, Clone, Copy, PartialEq, Eq, Debug, Default)]
pub enum KeyRotation {
    /// It does.
    #[default]
    Always,
    /// Only after a revocation, or for another kind of key.
    Never,
}

/// Whether a challenge is looked for before the CA is asked to.
#[derive(ValueEnum, Clone, Copy, PartialEq, Eq, Debug, Default)]
pub enum SelfCheck {
    /// What can't be reached is not ordered.
    Strict,
    /// What is seen to lead elsewhere is not ordered.
    #[default]
    Lenient,
    /// Nothing is checked.
    Off,
}

/// How hosts are proven.
#[derive(ValueEnum, Clone, Copy, PartialEq, Eq, Debug)]
pub enum Kind {
    /// By a file over plain HTTP.
    #[value(name = "http-01")]
    Http01,
    /// By a certificate in a handshake.
    #[value(name = "tls-alpn-01")]
    TlsAlpn01,
}

/// The kind of a certificate's key.
#[derive(ValueEnum, Clone, Copy, PartialEq, Eq, Debug, Default)]
pub enum Key {
    /// ECDSA on P-256.
    #[default]
    #[value(name = "ecdsa-p256")]
    EcdsaP256,
    /// ECDSA on P-384.
    #[value(name = "ecdsa-p384")]
    EcdsaP384,
    /// RSA of 2048 bits.
    #[value(name = "rsa-2048")]
    Rsa2048,
    /// RSA of 4096 bits.
    #[value(name = "rsa-4096")]
    Rsa4096,
}

impl AcmeArgs {
    /// Whether automatic certificates are on.
    pub fn is_on(&self) -> bool {
        self.acme_directory.is_some()
            || !self.acme_email.is_empty()
            || self.acme_accept_terms
            || self.acme_default.is_some()
            || self.acme_issuers.is_some()
            || !self.ca_permitted.is_empty()
            || self.ca_lifetime.is_some()
            || self.ca_root.is_some()
    }

    /// For which Ingresses certificates are ordered.
    pub fn asking(&self) -> Asking {
        match &self.acme_default {
            _ if !self.is_on() => Asking::Off,
            Some(issuer) => Asking::All(issuer.as_str().into()),
            None => Asking::Annotated,
        }
    }

    /// The issuers that the flags describe: the one called `internal`, and the one called `default` unless all others
    /// are in a `ConfigMap`.
    pub(super) fn issuers(&self) -> anyhow::Result<Vec<Issuer>> {
        let internal = self.internal()?;
        let own = |name: &str| Issuer {
            internal: Some(internal.clone().into()),
            key_type: self.key_type(),
            ..Issuer::new(name, INTERNAL)
        };
        let is_described = self.acme_directory.is_some() || !self.acme_email.is_empty() || self.acme_accept_terms;
        let is_internal = self.acme_default.as_deref() == Some(INTERNAL);
        let mut issuers = vec![own(INTERNAL)];
        if self.acme_directory.as_deref() == Some(INTERNAL) {
            issuers.push(own(DEFAULT));
        } else if is_described || (self.acme_issuers.is_none() && !is_internal) {
            issuers.push(self.public()?);
        }
        Ok(issuers)
    }

    fn internal(&self) -> anyhow::Result<Internal> {
        let mut internal = Internal { root: self.ca_root.clone(), ..Internal::default() };
        if !self.ca_permitted.is_empty() {
            let permitted = Permitted::parse(&self.ca_permitted);
            internal.permitted = permitted.map_err(|error| anyhow::anyhow!("--ca-permitted: {error}"))?;
        }
        internal.lifetime = self.ca_lifetime.unwrap_or(internal.lifetime);
        internal.checked().map_err(|error| anyhow::anyhow!("--ca-lifetime: {error}"))
    }

    fn key_type(&self) -> KeyType {
        match self.acme_key_type {
            Key::EcdsaP256 => KeyType::EcdsaP256,
            Key::EcdsaP384 => KeyType::EcdsaP384,
            Key::Rsa2048 => KeyType::Rsa2048,
            Key::Rsa4096 => KeyType::Rsa4096,
        }
    }

    /// The issuer that orders by ACME.
    fn public(&self) -> anyhow::Result<Issuer> {
        let mut issuer = Issuer::new(DEFAULT, self.acme_directory.as_deref().unwrap_or("letsencrypt"));
        if !issuer.directory.starts_with("https://") {
            bail!(
                "--acme-directory {:?}: use letsencrypt, letsencrypt-staging, internal or an https URL",
                issuer.directory
            );
        }
        if let Some(path) = &self.acme_ca {
            let text = std::fs::read_to_string(path).with_context(|| format!("--acme-ca {}", path.display()))?;
            issuer.ca_bundle = Some(text);
        }
        issuer.contact.clone_from(&self.acme_email);
        issuer.terms_agreed = self.acme_accept_terms;
        issuer.key_type = self.key_type();
        issuer.key_rotation = match self.acme_key_rotation {
            KeyRotation::Always => Rotation::Always,
            KeyRotation::Never => Rotation::Never,
        };
        issuer.account_key.clone_from(&self.acme_account_key);
        let kind = |kind: &Kind| match kind {
            Kind::Http01 => ChallengeKind::Http01,
            Kind::TlsAlpn01 => ChallengeKind::TlsAlpn01,
        };
        issuer.challenges = self.acme_challenges.iter().map(kind).collect();
        issuer.profile.clone_from(&self.acme_profile);
        issuer.preferred_chain.clone_from(&self.acme_preferred_chain);
        issuer.external_account = match (&self.acme_eab_key_id, &self.acme_eab_secret) {
            (Some(key_id), Some(secret)) => Some(ExternalAccount { key_id: key_id.clone(), secret: secret.clone() }),
            _ => None,
        };
        issuer.ports = Ports { http: self.acme_http_port, tls: self.acme_tls_port };
        Ok(issuer)
    }

    /// The folder for state.
    pub(super) fn folder(&self) -> anyhow::Result<PathBuf> {
        let given = self.state_dir.clone().or_else(|| std::env::var_os("STATE_DIRECTORY").map(PathBuf::from));
        given.context("automatic certificates from a folder of manifests need --state-dir, where they are kept")
    }
}

fn object_key(text: &str) -> Result<ObjectKey, String> {
    ObjectKey::parse(text).ok_or_else(|| "not of the form namespace/name".into())
}
