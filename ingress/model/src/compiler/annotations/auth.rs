//! Who may use the routes of an Ingress.
//!
//! Nothing here fails open: what can't be read makes the routes answer 503.

use std::sync::Arc;
use std::time::Duration;

use http::{HeaderName, HeaderValue, Method};
use landfall_model::ObjectKey;

use super::fault::Fault;
use super::value::{boolean, is_of};
use super::{Annotations, PREFIX, Read};
use crate::policy::{AuthCache, ExternalAuth, Signin, Template, UnknownVariable};

/// What places may be written with, besides letters and digits.
const PLACE: &[u8] = b"-._~/:?&=,$";
/// How long answers are kept where only a key is given.
const CACHED: &str = "200 202 401 5m";

/// The annotations of this family.
#[derive(Clone, PartialEq, Debug, Default)]
#[expect(clippy::struct_excessive_bools, reason = "each is an annotation")]
pub(crate) struct AuthAnnotations {
    pub(crate) is_basic: bool,
    pub(crate) secret: Option<Box<str>>,
    /// Whether each key of the Secret is a name, rather than `auth` a file of them.
    pub(crate) is_map: bool,
    pub(crate) realm: Box<str>,
    pub(crate) any: bool,
    /// `enable-global-auth: "false"`.
    pub(crate) without_global: bool,
    /// The `ConfigMap` with further fields of the question.
    pub(crate) set_headers: Option<ObjectKey>,
    url: Option<Template>,
    method: Option<Method>,
    signin: Option<Template>,
    signin_text: Box<str>,
    signin_parameter: Option<Box<str>>,
    response_headers: Vec<HeaderName>,
    request_redirect: Option<Template>,
    always_set_cookie: bool,
    cache_key: Option<Template>,
    cache_durations: Option<Vec<(u16, Duration)>>,
}

impl AuthAnnotations {
    pub(super) fn read_in(all: &mut Annotations, name: &str, value: &str) -> Result<Read, Fault> {
        match all.auth.read(name, value) {
            Err(Fault::Value(remedy)) if fails_closed(name) => {
                all.refused.get_or_insert_with(|| format!("annotation {PREFIX}{name} can't be read").into());
                Err(Fault::Closed(remedy))
            }
            Err(Fault::Variable(name_of)) if fails_closed(name) => {
                all.refused.get_or_insert_with(|| format!("annotation {PREFIX}{name} can't be read").into());
                Err(Fault::Variable(name_of))
            }
            read => read,
        }
    }

    /// Reads a value by the name of its annotation.
    pub(crate) fn read(&mut self, name: &str, value: &str) -> Result<Read, Fault> {
        match name {
            "auth-type" => match value {
                "basic" => self.is_basic = true,
                _ => return Err(Fault::Value("use basic; digest is not supported")),
            },
            "auth-secret" => self.secret = Some(value.into()),
            "auth-secret-type" => {
                self.is_map = match value {
                    "auth-file" => false,
                    "auth-map" => true,
                    _ => return Err(Fault::Value("use auth-file or auth-map")),
                }
            }
            "auth-realm" => {
                if !is_of(value, b" -._~:/@!?,()[]*'") {
                    return Err(Fault::Value("give letters, digits and spaces, without quotes"));
                }
                self.realm = value.into();
            }
            "satisfy" => {
                self.any = match value {
                    "any" => true,
                    "all" => false,
                    _ => return Err(Fault::Value("use any or all")),
                }
            }
            "auth-url" => {
                let place = value.strip_prefix("http://").or_else(|| value.strip_prefix("https://"));
                let host = place.map(|place| place.split(['/', '?']).next().unwrap_or_default());
                if !is_of(value, PLACE) || host.is_none_or(str::is_empty) {
                    return Err(Fault::Value("give a URL with http:// or https:// and a host"));
                }
                self.url = Some(variables(value)?);
            }
            "auth-method" => {
                const METHODS: [&str; 9] =
                    ["GET", "HEAD", "POST", "PUT", "PATCH", "DELETE", "CONNECT", "OPTIONS", "TRACE"];
                let known = METHODS.contains(&value);
                let method = value.parse().ok().filter(|_| known);
                self.method = Some(method.ok_or(Fault::Value("give a method in capitals, such as GET"))?);
            }
            "auth-signin" => {
                if !is_of(value, PLACE) {
                    return Err(Fault::Value("give a URL"));
                }
                self.signin = Some(variables(value)?);
                self.signin_text = value.into();
            }
            "auth-signin-redirect-param" => {
                if !is_of(value, b"-._~") {
                    return Err(Fault::Value("give the name of an argument"));
                }
                self.signin_parameter = Some(value.into());
            }
            "auth-response-headers" => {
                let names = value.split(',').map(str::trim).filter(|name| !name.is_empty());
                let names: Option<Vec<HeaderName>> =
                    names.map(|name| name.parse().ok().filter(|_| is_of(name, b"-_"))).collect();
                self.response_headers = names.ok_or(Fault::Value("give names of fields separated by commas"))?;
            }
            "auth-request-redirect" => {
                if !is_of(value, PLACE) {
                    return Err(Fault::Value("give a URL"));
                }
                self.request_redirect = Some(variables(value)?);
            }
            "auth-always-set-cookie" => self.always_set_cookie = boolean(value)?,
            "auth-proxy-set-headers" => {
                let key = value.split_once('/').filter(|(namespace, name)| !namespace.is_empty() && !name.is_empty());
                let (namespace, name) = key.ok_or(Fault::Value("give NAMESPACE/NAME of a ConfigMap"))?;
                self.set_headers = Some(ObjectKey::new(namespace, name));
            }
            "auth-cache-key" => self.cache_key = Some(lenient(value)),
            "auth-cache-duration" => self.cache_durations = Some(durations(value)?),
            "enable-global-auth" => self.without_global = !boolean(value)?,
            _ => return Ok(Read::Foreign),
        }
        Ok(Read::Taken)
    }

    /// The service that is asked; `set_headers` are the further fields of its question.
    pub(crate) fn external(&self, set_headers: Box<[(HeaderName, Template)]>) -> Option<ExternalAuth> {
        let url = self.url.clone()?;
        let parameter = self.signin_parameter.as_deref().unwrap_or("rd");
        let query = self.signin_text.split_once('?').map_or("", |(_, query)| query);
        // An argument without a value counts for nothing.
        let says = query.split('&').filter_map(|pair| pair.split_once('=')).find(|(name, _)| *name == parameter);
        let says = says.is_some_and(|(_, value)| !value.is_empty());
        let signin = self.signin.clone().map(|url| Signin { url, parameter: (!says).then(|| parameter.into()) });
        let durations = || durations(CACHED).unwrap_or_default();
        let cache = self
            .cache_key
            .clone()
            .map(|key| AuthCache { key, durations: self.cache_durations.clone().unwrap_or_else(durations).into() });
        Some(ExternalAuth {
            url,
            method: self.method.clone(),
            signin,
            response_headers: self.response_headers.clone().into(),
            request_redirect: self.request_redirect.clone(),
            set_headers,
            always_set_cookie: self.always_set_cookie,
            cache,
            snippet: None,
        })
    }

    /// `WWW-Authenticate` of a 401.
    pub(crate) fn challenge(&self) -> HeaderValue {
        let text = format!("Basic realm=\"{}\"", self.realm);
        HeaderValue::from_str(&text).unwrap_or(HeaderValue::from_static("Basic realm=\"\""))
    }
}

/// Whether a value that can't be read would open what is meant to be closed. The others only concern what happens to
/// those who are refused.
fn fails_closed(name: &str) -> bool {
    !matches!(name, "auth-signin" | "auth-signin-redirect-param" | "satisfy" | "enable-global-auth" | "auth-cache-key")
}

fn variables(value: &str) -> Result<Template, Fault> {
    Template::of_variables(value).map_err(|UnknownVariable(name)| Fault::Variable(name))
}

/// A text whose unknown variables are empty.
fn lenient(value: &str) -> Template {
    Template::parse(value).unwrap_or_else(|_| Template::verbatim(value))
}

/// `200 202 10m, 401 5m`: statuses, and how long their answers are kept. Status 0 stands for `any`.
fn durations(value: &str) -> Result<Vec<(u16, Duration)>, Fault> {
    let fault = || Fault::Value("give statuses and a time, such as 200 202 401 5m");
    let mut durations = Vec::new();
    for part in value.split(',').filter(|part| !part.trim().is_empty()) {
        let words: Vec<&str> = part.split_whitespace().collect();
        let (time, statuses) = words.split_last().ok_or_else(fault)?;
        let digits = time.trim_end_matches(|letter: char| letter.is_ascii_alphabetic());
        let unit = match &time[digits.len()..] {
            "ms" => 0,
            "s" => 1,
            "m" => 60,
            "h" => 3600,
            "d" => 86_400,
            "w" => 604_800,
            "M" => 30 * 86_400,
            "y" => 365 * 86_400,
            _ => return Err(fault()),
        };
        let seconds = digits.parse::<u64>().map_err(|_| fault())?.checked_mul(unit).ok_or_else(fault)?;
        let status = |status: &&str| if *status == "any" { Ok(0) } else { status.parse::<u16>() };
        let statuses: Result<Vec<u16>, _> = statuses.iter().map(status).collect();
        let statuses = statuses.map_err(|_| fault())?;
        if statuses.is_empty() {
            durations.extend([200, 301, 302].map(|status| (status, Duration::from_secs(seconds))));
        }
        durations.extend(statuses.into_iter().map(|status| (status, Duration::from_secs(seconds))));
    }
    Ok(durations)
}

/// A further field of the question, out of a `ConfigMap`.
pub(crate) fn set_header(name: &str, value: &str) -> Option<(HeaderName, Template)> {
    Some((name.parse().ok()?, Arc::unwrap_or_clone(Arc::new(lenient(value)))))
}
