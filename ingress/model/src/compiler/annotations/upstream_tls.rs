//! How TLS is spoken with endpoints: `proxy-ssl-*`.

use landfall_model::ObjectKey;

use super::client_certificates::secret_key;
use super::fault::Fault;
use super::names::CIPHERS;
use super::value::is_of;
use super::{Annotations, PREFIX, Read};
use crate::policy::{AskedName, Ciphers, TlsVersions};

/// `proxy_ssl_verify_depth` of nginx.
const DEPTH: u32 = 1;

/// The annotations of this family.
#[derive(Clone, PartialEq, Debug, Default)]
pub(crate) struct UpstreamTlsAnnotations {
    /// The Secret; `Err` is a text that is no NAMESPACE/NAME.
    pub(crate) secret: Option<Result<ObjectKey, Box<str>>>,
    pub(crate) verify: bool,
    pub(crate) name: Option<Box<str>>,
    depth: Option<u32>,
    asks: Option<bool>,
    pub(crate) versions: TlsVersions,
    pub(crate) ciphers: Option<Ciphers>,
}

impl UpstreamTlsAnnotations {
    pub(super) fn read_in(all: &mut Annotations, name: &str, value: &str) -> Result<Read, Fault> {
        let this = &mut all.upstream_tls;
        match name {
            "proxy-ssl-secret" => this.secret = Some(secret_key(value).ok_or_else(|| value.into())),
            "proxy-ssl-verify" => {
                let Ok(verify) = flag(value) else {
                    all.refused.get_or_insert_with(|| format!("annotation {PREFIX}{name} can't be read").into());
                    return Err(Fault::Closed("use on or off"));
                };
                this.verify = verify;
            }
            "proxy-ssl-name" => {
                if !is_of(value, b"-._:*") {
                    return Err(Fault::Value("give the name in the certificate of the backend"));
                }
                this.name = Some(value.into());
            }
            "proxy-ssl-server-name" => this.asks = Some(flag(value)?),
            "proxy-ssl-verify-depth" => {
                this.depth = Some(value.parse().map_err(|_| Fault::Value("give a whole number"))?);
            }
            "proxy-ssl-ciphers" => this.ciphers = Some(Ciphers::parse(value).ok_or(Fault::Value(CIPHERS))?),
            "proxy-ssl-protocols" => this.versions = versions(value)?,
            _ => return Ok(Read::Foreign),
        }
        Ok(Read::Taken)
    }

    /// What becomes of these annotations together.
    pub(super) fn finish(all: &mut Annotations) -> Option<(&'static str, Fault)> {
        let this = &all.upstream_tls;
        if !this.verify {
            return None;
        }
        if this.secret.is_none() {
            let name = "proxy-ssl-verify";
            all.refused.get_or_insert_with(|| format!("annotation {PREFIX}{name} needs proxy-ssl-secret").into());
            return Some((name, Fault::Closed("name the Secret with the authorities by proxy-ssl-secret")));
        }
        this.name.is_none().then_some(("proxy-ssl-verify", Fault::Nameless))
    }

    /// Whether nothing is asked for.
    pub(crate) fn is_empty(&self) -> bool {
        *self == Self::default()
    }

    pub(crate) fn depth(&self) -> u32 {
        self.depth.unwrap_or(DEPTH)
    }

    /// The name that an endpoint is asked for. In ingress-nginx none unless one is wanted; who names no Secret and
    /// does not say gets what there is without annotations.
    pub(crate) fn asked(&self) -> AskedName {
        match (self.asks, &self.name) {
            (Some(false), _) => AskedName::Nothing,
            (None, _) if self.secret.is_some() => AskedName::Nothing,
            (_, Some(name)) => AskedName::Name(name.clone()),
            (_, None) => AskedName::Host,
        }
    }
}

fn flag(value: &str) -> Result<bool, Fault> {
    match value {
        "on" => Ok(true),
        "off" => Ok(false),
        _ => Err(Fault::Value("use on or off")),
    }
}

/// Those of the versions that are spoken here.
pub(crate) fn versions(value: &str) -> Result<TlsVersions, Fault> {
    let words: Vec<&str> = value.split_whitespace().collect();
    match (words.contains(&"TLSv1.2"), words.contains(&"TLSv1.3")) {
        (true, true) => Ok(TlsVersions::All),
        (true, false) => Ok(TlsVersions::Tls12),
        (false, true) => Ok(TlsVersions::Tls13),
        (false, false) => Err(Fault::Value("give TLSv1.2 or TLSv1.3, or both")),
    }
}
