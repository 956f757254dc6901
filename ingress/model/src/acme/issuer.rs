//! Issuers: who is asked for certificates, and how.

use std::collections::BTreeMap;
use std::net::IpAddr;

use landfall_model::{ObjectKey, ObjectRef, Problem};
use serde::Deserialize;

use super::challenges::ChallengeKind;
use super::dns::{self, Dns};
use super::internal::{self, INTERNAL, Internal, Permitted, Refusal};
use super::trouble::steady;
use crate::reason;

/// The issuer that flags describe, and that is meant where none is named.
pub const DEFAULT: &str = "default";

/// Directories that are known by name.
const KNOWN: [(&str, &str); 2] = [
    ("letsencrypt", "https://acme-v02.api.letsencrypt.org/directory"),
    ("letsencrypt-staging", "https://acme-staging-v02.api.letsencrypt.org/directory"),
];

/// The kind of a certificate's key.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum KeyType {
    /// ECDSA on P-256.
    #[default]
    EcdsaP256,
    /// ECDSA on P-384.
    EcdsaP384,
    /// RSA of 2048 bits, for old clients.
    #[serde(rename = "rsa-2048")]
    Rsa2048,
    /// RSA of 4096 bits.
    #[serde(rename = "rsa-4096")]
    Rsa4096,
}

/// Whether a renewed certificate has another key than the one before.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Rotation {
    /// Always.
    #[default]
    Always,
    /// Only where that one was revoked or is of another kind: for those who publish the key, as in TLSA records.
    Never,
}

/// An account that the CA knows already (RFC 8555 section 7.3.4).
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct ExternalAccount {
    /// The key's name at the CA.
    pub key_id: String,
    /// The Secret whose `key` is the key, in Base64 for URLs, as CAs give it.
    pub secret: ObjectKey,
}

/// An issuer.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Issuer {
    /// What Ingresses call it.
    pub name: String,
    /// A CA of our own; `None`: one that is asked by ACME.
    pub internal: Option<Box<Internal>>,
    /// The URL of its directory.
    pub directory: String,
    /// Addresses that the CA writes to.
    pub contact: Vec<String>,
    /// Whether the CA's terms of service are agreed to.
    pub terms_agreed: bool,
    /// The kind of the certificates' keys.
    pub key_type: KeyType,
    /// An account that the CA knows already.
    pub external_account: Option<ExternalAccount>,
    /// A name for the key of the account. When another one is given, the CA is asked to take another key (RFC 8555
    /// section 7.3.5).
    pub account_key: Option<String>,
    /// Whether each certificate gets a key of its own.
    pub key_rotation: Rotation,
    /// The profile to order by.
    pub profile: Option<String>,
    /// The common name of the authority that the chain should end at.
    pub preferred_chain: Option<String>,
    /// How hosts are proven, the first that can be first.
    pub challenges: Vec<ChallengeKind>,
    /// How hosts are proven by DNS-01, if they can be.
    pub dns: Option<Box<Dns>>,
    /// Authorities that the directory's own TLS is verified by, in PEM; `None`: the public ones.
    pub ca_bundle: Option<String>,
    /// The ports at which the CA asks.
    pub ports: Ports,
}

/// The ports at which a CA asks; others than these only where a test's CA does.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Ports {
    /// For HTTP-01.
    pub http: u16,
    /// For TLS-ALPN-01.
    pub tls: u16,
}

impl Default for Ports {
    fn default() -> Self {
        Self { http: 80, tls: 443 }
    }
}

/// An issuer as a `ConfigMap` has it.
#[derive(Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
struct Written {
    directory: String,
    #[serde(default)]
    authority: Option<internal::Written>,
    #[serde(default)]
    email: Option<String>,
    #[serde(default)]
    contact: Vec<String>,
    #[serde(default)]
    terms_agreed: bool,
    #[serde(default)]
    key_type: KeyType,
    #[serde(default)]
    external_account: Option<WrittenAccount>,
    #[serde(default)]
    account_key: Option<String>,
    #[serde(default)]
    key_rotation: Rotation,
    #[serde(default)]
    profile: Option<String>,
    #[serde(default)]
    preferred_chain: Option<String>,
    #[serde(default)]
    challenges: Vec<ChallengeKind>,
    #[serde(default)]
    dns: Option<dns::Written>,
    #[serde(default)]
    ca_bundle: Option<String>,
    #[serde(default)]
    http_port: Option<u16>,
    #[serde(default)]
    tls_port: Option<u16>,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
struct WrittenAccount {
    key_id: String,
    secret: String,
}

impl Issuer {
    /// An issuer at `directory`, a URL or a known name, with defaults for everything else.
    pub fn new(name: &str, directory: &str) -> Self {
        let known = KNOWN.iter().find(|(known, _)| *known == directory);
        Self {
            name: name.to_owned(),
            internal: (directory == INTERNAL).then(Box::default),
            directory: known.map_or(directory, |(_, url)| url).to_owned(),
            contact: Vec::new(),
            terms_agreed: false,
            key_type: KeyType::default(),
            external_account: None,
            account_key: None,
            key_rotation: Rotation::default(),
            profile: None,
            preferred_chain: None,
            challenges: vec![ChallengeKind::Http01, ChallengeKind::TlsAlpn01],
            dns: None,
            ca_bundle: None,
            ports: Ports::default(),
        }
    }

    /// What a certificate depends on besides its names. When it changes, the certificate is ordered anew.
    pub fn fingerprint(&self) -> String {
        if let Some(internal) = &self.internal {
            return format!("{INTERNAL} {:?} {}", self.key_type, internal.lifetime);
        }
        let profile = self.profile.as_deref().unwrap_or("-");
        let chain = self.preferred_chain.as_deref().unwrap_or("-");
        format!("{} {:?} {profile} {chain}", self.directory, self.key_type)
    }

    /// Tells two accounts of one issuer apart: another CA, or another external account.
    pub fn account(&self) -> String {
        let external = self.external_account.as_ref().map_or("", |external| external.key_id.as_str());
        format!("{:016x}", steady(self.directory.bytes().chain([0]).chain(external.bytes())))
    }

    /// Whether a host can be proven by one of the challenges, or is one that a CA of our own signs for.
    pub fn proves(&self, host: &str) -> bool {
        self.refusal(host).is_none()
    }

    /// Why nothing is ordered for a host; `None` if it is.
    pub fn refusal(&self, host: &str) -> Option<Refusal> {
        if let Some(internal) = &self.internal {
            return internal.refusal(&self.name, host);
        }
        let is_public = KNOWN.iter().any(|(_, url)| *url == self.directory);
        let is_address = host.parse::<IpAddr>().is_ok();
        let (cause, remedy) = if is_address || (is_public && Permitted::is_private(host)) {
            let cause = format!("issuer {} signs nothing for {host}", self.name);
            (cause, "ask the CA of our own by the annotation landfall.dev/acme: internal")
        } else if host.starts_with("*.") && self.dns.is_none() {
            let cause =
                format!("a certificate for {host} can be ordered by dns-01 only, which issuer {} has not", self.name);
            (cause, "give the issuer dns: with a provider and a Secret (docs/https.md), or name the hosts one by one")
        } else {
            return None;
        };
        Some(Refusal { cause, remedy: remedy.to_owned() })
    }

    /// The challenges that may prove a host, the preferred one first. A wildcard is proven by DNS-01 alone (RFC 8555
    /// section 7.1.3), whatever is preferred for other hosts.
    pub fn kinds(&self, host: &str) -> Vec<ChallengeKind> {
        let is_wildcard = host.starts_with("*.");
        if is_wildcard { self.dns.iter().map(|_| ChallengeKind::Dns01).collect() } else { self.challenges.clone() }
    }

    fn parse(name: &str, text: &str, namespace: &str) -> Result<Self, String> {
        let written: Written = serde_saphyr::from_str(text).map_err(|error| error.to_string())?;
        let mut issuer = Self::new(name, &written.directory);
        match (&mut issuer.internal, written.authority) {
            (Some(internal), Some(written)) => **internal = Internal::parse(&written)?,
            (None, Some(_)) => return Err(format!("authority is for directory: {INTERNAL} only")),
            (_, None) => {}
        }
        if issuer.internal.is_some() {
            issuer.key_type = written.key_type;
            return Ok(issuer);
        }
        if !issuer.directory.starts_with("https://") {
            return Err(format!(
                "directory {:?} is neither https://… nor letsencrypt, letsencrypt-staging or internal",
                written.directory
            ));
        }
        issuer.contact = written.email.into_iter().chain(written.contact).collect();
        issuer.terms_agreed = written.terms_agreed;
        issuer.key_type = written.key_type;
        if let Some(account) = written.external_account {
            let secret = ObjectKey::parse(&account.secret)
                .ok_or_else(|| format!("externalAccount.secret {:?} is not namespace/name", account.secret))?;
            issuer.external_account = Some(ExternalAccount { key_id: account.key_id, secret });
        }
        issuer.account_key = written.account_key;
        issuer.key_rotation = written.key_rotation;
        issuer.profile = written.profile;
        issuer.preferred_chain = written.preferred_chain;
        issuer.dns = written.dns.map(|written| Dns::parse(written, namespace)).transpose()?.map(Box::new);
        if issuer.dns.is_some() {
            // Whoever has it does so because the CA can't reach the hosts.
            issuer.challenges.insert(0, ChallengeKind::Dns01);
        } else if written.challenges.contains(&ChallengeKind::Dns01) {
            return Err("challenges: dns-01 needs dns: with a provider and a Secret".to_owned());
        }
        if !written.challenges.is_empty() {
            issuer.challenges = written.challenges;
        }
        issuer.ca_bundle = written.ca_bundle;
        issuer.ports = Ports { http: written.http_port.unwrap_or(80), tls: written.tls_port.unwrap_or(443) };
        Ok(issuer)
    }
}

/// Reads the issuers in a `ConfigMap`: each key is a name, each value the issuer in YAML. A bad one is left out.
pub fn read(map: &ObjectKey, data: &BTreeMap<String, String>) -> (BTreeMap<String, Issuer>, Vec<Problem>) {
    let (mut issuers, mut problems) = (BTreeMap::new(), Vec::new());
    for (name, text) in data {
        match Issuer::parse(name, text, map.namespace()) {
            Ok(issuer) => {
                issuers.insert(name.clone(), issuer);
            }
            Err(error) => {
                let cause = format!("the issuer can't be read, so nothing is ordered from it: {}", first_line(&error));
                let object = ObjectRef::new("ConfigMap", map.clone());
                let problem = Problem::new(object, reason::ACME_INVALID_ISSUER, cause);
                let remedy = "give directory, email and termsAgreed: true; docs/https.md lists the fields";
                problems.push(problem.at(format!("data[{name}]"), "").remedy(remedy));
            }
        }
    }
    (issuers, problems)
}

fn first_line(text: &str) -> &str {
    text.lines().next().unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parse(text: &str) -> (BTreeMap<String, Issuer>, Vec<Problem>) {
        read(&ObjectKey::new("ns", "issuers"), &[("le".to_owned(), text.to_owned())].into())
    }

    #[test]
    fn every_field_is_read() {
        let text = "directory: letsencrypt\nemail: me@example.com\ntermsAgreed: true\nkeyType: rsa-2048\n\
                    externalAccount: {keyId: k1, secret: ns/eab}\nprofile: shortlived\npreferredChain: ISRG Root X1\n\
                    challenges: [tls-alpn-01]\nhttpPort: 8080\ncaBundle: pem\naccountKey: '2'\nkeyRotation: never\n";
        let (issuers, problems) = parse(text);
        assert!(problems.is_empty(), "{problems:?}");
        let issuer = &issuers["le"];
        assert_eq!(issuer.directory, "https://acme-v02.api.letsencrypt.org/directory");
        assert_eq!((issuer.contact.as_slice(), issuer.terms_agreed), (&["me@example.com".to_owned()][..], true));
        assert_eq!(
            (issuer.key_type, issuer.challenges.as_slice()),
            (KeyType::Rsa2048, &[ChallengeKind::TlsAlpn01][..])
        );
        assert_eq!(issuer.external_account.as_ref().map(|account| account.key_id.as_str()), Some("k1"));
        assert_eq!(issuer.ports, Ports { http: 8080, tls: 443 });
        assert_eq!((issuer.account_key.as_deref(), issuer.key_rotation), (Some("2"), Rotation::Never));
    }

    #[test]
    fn wildcards_are_proven_by_dns_alone_and_other_hosts_as_is_preferred() {
        use ChallengeKind::{Dns01, Http01, TlsAlpn01};
        let dns = "directory: letsencrypt\ndns: {provider: desec, secret: token}\n";
        let issuer = parse(dns).0.remove("le").unwrap();
        assert_eq!(issuer.kinds("a.example"), [Dns01, Http01, TlsAlpn01]);
        assert_eq!(issuer.kinds("*.a.example"), [Dns01]);
        assert!(issuer.proves("*.a.example"));
        assert_eq!(issuer.dns.as_ref().unwrap().secret, Some(ObjectKey::new("ns", "token")));
        let issuer = parse(&format!("{dns}challenges: [http-01]\n")).0.remove("le").unwrap();
        assert_eq!((issuer.kinds("a.example"), issuer.kinds("*.a.example")), (vec![Http01], vec![Dns01]));
        let refusal = Issuer::new("a", "letsencrypt").refusal("*.a.example").unwrap();
        assert!(refusal.remedy.contains("give the issuer dns:"), "{refusal:?}");
    }

    #[test]
    fn a_ca_of_our_own_is_an_issuer_too() {
        let text = "directory: internal\nkeyType: ecdsa-p384\nauthority:\n  permitted: [lan, 10.0.0.0/8]\n  lifetime: \
                    12h\n  intermediateLifetime: 30d\n  root: ns/root\n";
        let (issuers, problems) = parse(text);
        assert!(problems.is_empty(), "{problems:?}");
        let issuer = &issuers["le"];
        let internal = issuer.internal.as_deref().unwrap();
        assert_eq!(issuer.fingerprint(), "internal EcdsaP384 12h");
        assert_eq!(internal.root, Some(ObjectKey::new("ns", "root")));
        assert_eq!(internal.intermediate_lifetime.to_string(), "30d");
        assert!(issuer.proves("*.a.lan") && !issuer.proves("*.lan"));
        assert!(issuer.proves("10.0.0.1") && !issuer.proves("a.internal"));
        assert!(issuer.refusal("a.example").is_some_and(|refusal| refusal.remedy.contains("landfall.dev/acme")));
        let (issuers, _) = parse("directory: internal");
        assert_eq!(issuers["le"].internal.as_deref(), Some(&Internal::default()));
    }

    #[test]
    fn a_public_ca_is_not_asked_for_what_it_can_not_sign() {
        let issuer = Issuer::new("a", "letsencrypt");
        for host in ["nas.home.arpa", "192.168.1.1", "8.8.8.8", "*.example.com"] {
            assert!(!issuer.proves(host), "{host}");
        }
        assert!(issuer.proves("example.com"));
        // One's own ACME server may.
        assert!(Issuer::new("a", "https://ca.home.arpa/directory").proves("nas.home.arpa"));
    }

    #[test]
    fn a_bad_one_is_left_out_and_named() {
        for text in [
            "directory: [",
            "email: a@b.example",
            "directory: http://plain.example",
            "directory: letsencrypt\nmail: x",
            "directory: letsencrypt\nauthority: {}",
            "directory: letsencrypt\nchallenges: [dns-01]",
            "directory: letsencrypt\ndns: {provider: desec}",
            "directory: internal\nauthority: {permitted: ['a b']}",
            "directory: internal\nauthority: {lifetime: 7}",
            "directory: internal\nauthority: {lifetime: 200d}",
            "directory: internal\nauthority: {lifetime: 400d, intermediateLifetime: 1000d}",
            "directory: internal\nauthority: {root: name}",
        ] {
            let (issuers, problems) = parse(text);
            assert!(issuers.is_empty() && problems.len() == 1, "{text}");
            assert_eq!(problems[0].field, "data[le]");
        }
    }

    #[test]
    fn what_a_certificate_depends_on_is_in_the_fingerprint() {
        let issuer = Issuer::new("a", "letsencrypt");
        let same = Issuer { contact: vec!["x@y.example".into()], ..issuer.clone() };
        assert_eq!(issuer.fingerprint(), same.fingerprint());
        assert_eq!(issuer.account(), same.account());
        assert_ne!(issuer.account(), Issuer::new("a", "letsencrypt-staging").account());
        for other in [
            Issuer { profile: Some("short".into()), ..issuer.clone() },
            Issuer { key_type: KeyType::EcdsaP384, ..issuer.clone() },
            Issuer::new("a", "letsencrypt-staging"),
        ] {
            assert_ne!(issuer.fingerprint(), other.fingerprint());
        }
    }
}
