//! How an issuer proves hosts by DNS-01: who keeps their zones, and what a TXT record has to say.

use std::net::SocketAddr;

use landfall_model::ObjectKey;
use serde::Deserialize;

/// What a name is put in front of a host (RFC 8555 section 8.4).
const PREFIX: &str = "_acme-challenge";
/// How long name servers may take to show a record, in seconds: the default and the longest. An order may take ten
/// minutes, and the CA needs some of them.
const PROPAGATION: u64 = 120;
const LONGEST_PROPAGATION: u64 = 480;

/// How hosts are proven by DNS-01.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Dns {
    /// Who is asked to set records.
    pub provider: Provider,
    /// The Secret with the credentials; `None` where a web hook asks for none.
    pub secret: Option<ObjectKey>,
    /// The URL that the provider is asked at, where it is not its own.
    pub url: Option<String>,
    /// Authorities that this URL's TLS is verified by, in PEM; `None`: the public ones.
    pub ca_bundle: Option<String>,
    /// The name servers that have to show a record; empty: all those of the zone.
    pub nameservers: Vec<SocketAddr>,
    /// The port of the zone's name servers; another than 53 only in tests.
    pub port: u16,
    /// How long, in seconds, they may take to show a record.
    pub propagation: u64,
}

/// Who is asked to set records.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Provider {
    /// A name server, by dynamic updates (RFC 2136).
    Rfc2136(Rfc2136),
    /// acme-dns, which the hosts' `_acme-challenge` names are delegated to.
    AcmeDns,
    /// A web hook.
    Webhook,
    /// Cloudflare.
    Cloudflare,
    /// deSEC.
    Desec,
    /// `DuckDNS`.
    DuckDns,
    /// Hetzner, by the API of its Cloud.
    Hetzner,
}

impl Provider {
    /// Whether a name can have only one value at a time, so that a wildcard and its domain are proven one after the
    /// other.
    pub fn holds_one(&self) -> bool {
        *self == Self::DuckDns
    }
}

/// A name server that takes dynamic updates.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Rfc2136 {
    /// Where it is: a name or an address, with a port where it is not 53.
    pub server: String,
    /// The name of the key (TSIG, RFC 8945).
    pub key_name: String,
    /// What the key is used with.
    pub algorithm: Algorithm,
    /// The zone; `None`: the one that the name is in.
    pub zone: Option<String>,
}

/// What a TSIG key is used with (RFC 8945 section 6).
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Algorithm {
    /// HMAC with SHA-256.
    #[default]
    HmacSha256,
    /// HMAC with SHA-384.
    HmacSha384,
    /// HMAC with SHA-512.
    HmacSha512,
}

#[derive(Clone, Copy, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "kebab-case")]
enum Kind {
    Rfc2136,
    AcmeDns,
    Webhook,
    Cloudflare,
    Desec,
    Duckdns,
    Hetzner,
}

/// As a `ConfigMap` has it.
#[derive(Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub(super) struct Written {
    provider: Kind,
    #[serde(default)]
    secret: Option<String>,
    #[serde(default)]
    url: Option<String>,
    #[serde(default)]
    ca_bundle: Option<String>,
    #[serde(default)]
    server: Option<String>,
    #[serde(default)]
    key_name: Option<String>,
    #[serde(default)]
    algorithm: Algorithm,
    #[serde(default)]
    zone: Option<String>,
    #[serde(default)]
    nameservers: Vec<SocketAddr>,
    #[serde(default)]
    port: Option<u16>,
    /// Seconds.
    #[serde(default)]
    propagation: Option<u64>,
}

impl Dns {
    /// Reads it; a Secret is one beside the `ConfigMap`, in `namespace`.
    pub(super) fn parse(written: Written, namespace: &str) -> Result<Self, String> {
        let secret = match &written.secret {
            Some(name) if name.is_empty() || name.contains('/') => {
                return Err(format!("dns.secret {name:?} is not the name of a Secret in namespace {namespace}"));
            }
            Some(name) => Some(ObjectKey::new(namespace, name.as_str())),
            None if written.provider == Kind::Webhook => None,
            None => return Err("dns.secret is missing: the name of the Secret with the credentials".to_owned()),
        };
        if let Some(url) = &written.url
            && !url.starts_with("https://")
            && !url.starts_with("http://")
        {
            return Err(format!("dns.url {url:?} is neither https://… nor http://…"));
        }
        let propagation = written.propagation.unwrap_or(PROPAGATION);
        if !(1..=LONGEST_PROPAGATION).contains(&propagation) {
            return Err(format!("dns.propagation {propagation} is not between 1 and {LONGEST_PROPAGATION} seconds"));
        }
        let provider = provider(&written)?;
        if matches!(provider, Provider::AcmeDns | Provider::Webhook) && written.url.is_none() {
            return Err("dns.url is missing: where to set records".to_owned());
        }
        Ok(Self {
            provider,
            secret,
            url: written.url,
            ca_bundle: written.ca_bundle,
            nameservers: written.nameservers,
            port: written.port.unwrap_or(53),
            propagation,
        })
    }
}

fn provider(written: &Written) -> Result<Provider, String> {
    let is_update = written.provider == Kind::Rfc2136;
    if !is_update && (written.server.is_some() || written.key_name.is_some() || written.zone.is_some()) {
        return Err("dns.server, dns.keyName and dns.zone are for provider: rfc2136 only".to_owned());
    }
    Ok(match written.provider {
        Kind::Rfc2136 => Provider::Rfc2136(Rfc2136 {
            server: written.server.clone().ok_or("dns.server is missing: the name server that takes updates")?,
            key_name: written.key_name.clone().ok_or("dns.keyName is missing: the name of the TSIG key")?,
            algorithm: written.algorithm,
            zone: written.zone.clone(),
        }),
        Kind::AcmeDns => Provider::AcmeDns,
        Kind::Webhook => Provider::Webhook,
        Kind::Cloudflare => Provider::Cloudflare,
        Kind::Desec => Provider::Desec,
        Kind::Duckdns => Provider::DuckDns,
        Kind::Hetzner => Provider::Hetzner,
    })
}

/// The name at which a host is proven; that of a wildcard is that of the domain.
pub fn challenge_name(host: &str) -> String {
    format!("{PREFIX}.{}", host.strip_prefix("*.").unwrap_or(host))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parse(text: &str) -> Result<Dns, String> {
        let written: Written = serde_saphyr::from_str(text).map_err(|error| error.to_string())?;
        Dns::parse(written, "system")
    }

    #[test]
    fn every_field_is_read() {
        let dns = parse(
            "{provider: rfc2136, server: 'ns1.example.com:5353', keyName: acme, algorithm: hmac-sha512, zone: \
             example.com, secret: tsig, nameservers: ['192.0.2.1:53'], propagation: 30, port: 54}",
        )
        .unwrap();
        let Provider::Rfc2136(server) = &dns.provider else { panic!("{dns:?}") };
        assert_eq!((server.server.as_str(), server.key_name.as_str()), ("ns1.example.com:5353", "acme"));
        assert_eq!((server.algorithm, server.zone.as_deref()), (Algorithm::HmacSha512, Some("example.com")));
        assert_eq!(dns.secret, Some(ObjectKey::new("system", "tsig")));
        assert_eq!((dns.nameservers.len(), dns.propagation, dns.port), (1, 30, 54));
        let hook = parse("{provider: webhook, url: 'http://hook.system/dns'}").unwrap();
        assert_eq!((hook.secret, hook.url.as_deref()), (None, Some("http://hook.system/dns")));
        for name in ["cloudflare", "desec", "duckdns", "hetzner"] {
            assert!(parse(&format!("{{provider: {name}, secret: token}}")).is_ok(), "{name}");
        }
    }

    #[test]
    fn what_is_missing_or_wrong_is_named() {
        for (text, part) in [
            ("{provider: route53, secret: a}", "route53"),
            ("{provider: cloudflare}", "dns.secret"),
            ("{provider: cloudflare, secret: other/token}", "namespace system"),
            ("{provider: cloudflare, secret: a, keyName: k}", "rfc2136 only"),
            ("{provider: rfc2136, secret: a, keyName: k}", "dns.server"),
            ("{provider: rfc2136, secret: a, server: s}", "dns.keyName"),
            ("{provider: acme-dns, secret: a}", "dns.url"),
            ("{provider: webhook, url: 'ftp://a'}", "dns.url"),
            ("{provider: webhook, url: 'http://a', propagation: 900}", "dns.propagation"),
        ] {
            let error = parse(text).unwrap_err();
            assert!(error.contains(part), "{text}: {error}");
        }
    }

    #[test]
    fn a_wildcard_is_proven_at_the_name_of_its_domain() {
        assert_eq!(challenge_name("*.example.com"), "_acme-challenge.example.com");
        assert_eq!(challenge_name("www.example.com"), "_acme-challenge.www.example.com");
    }
}
