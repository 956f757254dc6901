//! What a host asks of its clients' certificates: `auth-tls-*`.
//!
//! Nothing here fails open: what can't be read shuts the host, or is read as the stricter choice.

use landfall_model::ObjectKey;
use regex::Regex;

use super::fault::Fault;
use super::value::{boolean, is_of};
use super::{Annotations, PREFIX, Read};
use crate::policy::{Demand, Template, UnknownVariable};

/// What places may be written with, besides letters and digits.
const PLACE: &[u8] = b"-._~/:?&=,$";
/// `ssl_verify_depth` of nginx.
const DEPTH: u32 = 1;

/// The annotations of this family.
#[derive(Clone, Debug, Default)]
pub(crate) struct ClientCertificateAnnotations {
    /// The Secret; `Err` is a text that is no NAMESPACE/NAME.
    pub(crate) secret: Option<Result<ObjectKey, Box<str>>>,
    demand: Option<Demand>,
    depth: Option<u32>,
    pub(crate) error_page: Option<Template>,
    pub(crate) pass: bool,
    pub(crate) subject: Option<Regex>,
    /// Why nobody gets in.
    pub(crate) closed: Option<&'static str>,
}

impl ClientCertificateAnnotations {
    pub(super) fn read_in(all: &mut Annotations, name: &str, value: &str) -> Result<Read, Fault> {
        all.client_certificates.read(name, value)
    }

    fn read(&mut self, name: &str, value: &str) -> Result<Read, Fault> {
        match name {
            "auth-tls-secret" => self.secret = Some(secret_key(value).ok_or_else(|| value.into())),
            "auth-tls-verify-client" => {
                // What can't be read is `on` to ingress-nginx, too.
                self.demand = Some(Demand::Required);
                self.demand = Some(match value {
                    "on" => Demand::Required,
                    "off" => Demand::Off,
                    "optional" => Demand::Optional,
                    "optional_no_ca" => Demand::OptionalNoCa,
                    _ => return Err(Fault::Value("use on, off, optional or optional_no_ca")),
                });
            }
            "auth-tls-verify-depth" => {
                self.depth = Some(value.parse().map_err(|_| Fault::Value("give a whole number"))?);
            }
            "auth-tls-error-page" => {
                if !is_of(value, PLACE) || !(value.starts_with("http://") || value.starts_with("https://")) {
                    return Err(Fault::Value("give a URL with http:// or https://"));
                }
                let page = Template::of_variables(value);
                self.error_page = Some(page.map_err(|UnknownVariable(name)| Fault::Variable(name))?);
            }
            "auth-tls-pass-certificate-to-upstream" => self.pass = boolean(value)?,
            "auth-tls-match-cn" => {
                let pattern = value.strip_prefix("CN=").and_then(|_| Regex::new(value).ok());
                if pattern.is_none() {
                    self.closed = Some("annotation auth-tls-match-cn can't be read");
                    return Err(Fault::Shut("write CN= and a regular expression, such as CN=(alice|bob)"));
                }
                self.subject = pattern;
            }
            _ => return Ok(Read::Foreign),
        }
        Ok(Read::Taken)
    }

    /// What becomes of these annotations together.
    pub(super) fn finish(all: &mut Annotations) -> Option<(&'static str, Fault)> {
        let this = &all.client_certificates;
        if this.secret.is_some() {
            return None;
        }
        let name = match (&this.subject, this.closed, this.demand) {
            (Some(_), ..) | (None, Some(_), _) => "auth-tls-match-cn",
            (None, None, Some(Demand::Required)) => "auth-tls-verify-client",
            _ => return None,
        };
        all.refused.get_or_insert_with(|| format!("annotation {PREFIX}{name} needs auth-tls-secret").into());
        Some((name, Fault::Closed("name the Secret with the authorities by auth-tls-secret")))
    }

    pub(crate) fn demand(&self) -> Demand {
        self.demand.unwrap_or_default()
    }

    pub(crate) fn depth(&self) -> u32 {
        self.depth.unwrap_or(DEPTH)
    }
}

impl PartialEq for ClientCertificateAnnotations {
    fn eq(&self, other: &Self) -> bool {
        self.secret == other.secret
            && self.demand == other.demand
            && self.depth == other.depth
            && self.error_page == other.error_page
            && self.pass == other.pass
            && self.subject.as_ref().map(Regex::as_str) == other.subject.as_ref().map(Regex::as_str)
            && self.closed == other.closed
    }
}

/// NAMESPACE/NAME.
pub(super) fn secret_key(value: &str) -> Option<ObjectKey> {
    let (namespace, name) = value.split_once('/')?;
    let usable = !namespace.is_empty() && !name.is_empty() && !name.contains('/');
    usable.then(|| ObjectKey::new(namespace, name))
}
