//! How a backend is spoken to: time limits, attempts, size of the body, protocol, host.

use std::sync::Arc;
use std::time::Duration;

use http::HeaderValue;

use super::fault::Fault;
use super::value::{BodyLimit, body_size, boolean, is_of, seconds};
use super::{Annotations, Read};
use crate::backend::Protocol;
use crate::compiler::options::Options;
use crate::policy::{Mirror, Retry, RoutePolicy, Template, UnknownVariable};
use crate::table::Dialect;

/// "0 = unlimited" of `proxy-next-upstream-tries`, bounded because each try is a connection.
const MOST_TRIES: u32 = 32;

/// The annotations of this family.
#[derive(Clone, PartialEq, Debug, Default)]
pub(super) struct UpstreamAnnotations {
    connect_timeout: Option<Duration>,
    follows_scheme: bool,
    read_timeout: Option<Duration>,
    write_timeout: Option<Duration>,
    tries: Option<u32>,
    max_body: Option<BodyLimit>,
    pub(super) protocol: Option<Protocol>,
    host: Option<Arc<Template>>,
    connection: Option<&'static str>,
    pub(super) via_service: Option<bool>,
    retry: Option<Retry>,
    /// Zero is no limit.
    retry_within: Option<Duration>,
    mirror_url: Option<Arc<Template>>,
    mirror_adds_query: bool,
    mirror_without_body: bool,
    mirror_host: Option<HeaderValue>,
}

impl UpstreamAnnotations {
    pub(super) fn read_in(all: &mut Annotations, name: &str, value: &str) -> Result<Read, Fault> {
        let this = &mut all.upstream;
        match name {
            "proxy-connect-timeout" => this.connect_timeout = Some(seconds(value)?),
            "proxy-read-timeout" if value == "0" => {
                this.read_timeout = Some(Duration::ZERO);
                return Err(Fault::Hasty);
            }
            "proxy-read-timeout" => this.read_timeout = Some(seconds(value)?),
            "proxy-send-timeout" => this.write_timeout = Some(seconds(value)?),
            "proxy-body-size" => this.max_body = Some(body_size(value)?),
            "proxy-next-upstream-tries" => this.tries = Some(tries(value)?),
            "backend-protocol" if value.eq_ignore_ascii_case("FCGI") => {
                let why = "FastCGI is not spoken with backends";
                all.refused.get_or_insert_with(|| why.into());
                return Err(Fault::Refused(why));
            }
            "backend-protocol" => {
                this.protocol = Some(protocol(value)?);
                this.follows_scheme = value.eq_ignore_ascii_case("AUTO_HTTP");
            }
            "service-upstream" => this.via_service = Some(boolean(value)?),
            "upstream-vhost" => this.host = Some(Arc::new(host(value)?)),
            "connection-proxy-header" => match value {
                "close" => this.connection = Some("close"),
                "keep-alive" => this.connection = Some("keep-alive"),
                _ => return Err(Fault::Value("use close or keep-alive")),
            },
            "proxy-next-upstream" => this.retry = Some(retry(value)?),
            "proxy-next-upstream-timeout" => this.retry_within = Some(within(value)?),
            "mirror-target" => {
                let place = value.strip_prefix("http://").or_else(|| value.strip_prefix("https://"));
                if place.is_none_or(str::is_empty) || !is_of(value, b"-._~/:?&=,$") {
                    return Err(Fault::Value("give a URL with http:// or https:// in front"));
                }
                let template = Template::of_variables(value);
                this.mirror_url = Some(Arc::new(template.map_err(|UnknownVariable(name)| Fault::Variable(name))?));
                this.mirror_adds_query = !value.contains("$request_uri");
            }
            "mirror-request-body" => match value {
                "on" => this.mirror_without_body = false,
                "off" => this.mirror_without_body = true,
                _ => return Err(Fault::Value("use on or off")),
            },
            "mirror-host" => {
                let value = HeaderValue::from_str(value);
                this.mirror_host = Some(value.map_err(|_| Fault::Value("give a host"))?);
            }
            _ => return Ok(Read::Foreign),
        }
        Ok(Read::Taken)
    }

    pub(super) fn apply(&self, dialect: Dialect, options: &Options, policy: &mut RoutePolicy) {
        let options = options.of(dialect);
        let read_timeout = self.read_timeout.or(options.read_timeout);
        policy.connect_timeout = self.connect_timeout.or(options.connect_timeout).unwrap_or(policy.connect_timeout);
        policy.write_timeout = self.write_timeout.or(options.write_timeout).unwrap_or(policy.write_timeout);
        policy.upgrade_idle = match dialect {
            Dialect::Kubernetes => read_timeout.unwrap_or(policy.upgrade_idle),
            Dialect::IngressNginx => read_timeout.unwrap_or(policy.read_timeout),
        };
        policy.read_timeout = read_timeout.unwrap_or(policy.read_timeout);
        policy.tries = self.tries.or(options.tries).unwrap_or(policy.tries);
        policy.max_body = self.max_body.or(options.max_body).map_or(policy.max_body, |limit| limit.0);
        policy.upstream_host.clone_from(&self.host);
        policy.connection = self.connection;
        policy.follows_scheme = self.follows_scheme;
        let mut retry = self.retry.as_ref().or(options.retry.as_ref()).cloned().unwrap_or_default();
        retry.within = self.retry_within.or(options.retry_within).filter(|within| !within.is_zero());
        retry.any_method |= options.any_method;
        policy.retry = (retry != Retry::default()).then(|| Arc::new(retry));
        policy.mirror = self.mirror_url.clone().map(|url| {
            let (adds_query, with_body) = (self.mirror_adds_query, !self.mirror_without_body);
            Arc::new(Mirror { url, adds_query, with_body, host: self.mirror_host.clone() })
        });
    }
}

pub(crate) fn tries(value: &str) -> Result<u32, Fault> {
    match value.parse::<u32>() {
        Ok(0) => Ok(MOST_TRIES),
        Ok(tries) => Ok(tries.min(MOST_TRIES)),
        Err(_) => Err(Fault::Value("give the number of attempts in all, or 0 for as many as are allowed, which is 32")),
    }
}

/// For how long another attempt may begin; zero is no limit.
pub(crate) fn within(value: &str) -> Result<Duration, Fault> {
    let seconds = value.parse::<u32>().map_err(|_| Fault::Value("give whole seconds, or 0 for no limit"))?;
    Ok(Duration::from_secs(seconds.into()))
}

/// Words that say when another attempt is made; `off` is never.
pub(crate) fn retry(value: &str) -> Result<Retry, Fault> {
    let mut retry = Retry { on_error: false, on_timeout: false, ..Retry::default() };
    let (mut statuses, mut is_off) = (Vec::new(), false);
    for word in value.split_whitespace() {
        match word {
            "error" => retry.on_error = true,
            "timeout" => retry.on_timeout = true,
            "non_idempotent" => retry.any_method = true,
            "invalid_header" => {}
            "off" => is_off = true,
            _ => {
                let status = word.strip_prefix("http_").and_then(|status| status.parse().ok());
                let known = status.filter(|status| [403, 404, 429, 500, 502, 503, 504].contains(status));
                statuses.push(known.ok_or(Fault::Value("use words such as error, timeout, http_502 and off"))?);
            }
        }
    }
    if is_off {
        // Whatever else stands there.
        return Ok(Retry { on_error: false, on_timeout: false, ..Retry::default() });
    }
    retry.statuses = statuses.into();
    Ok(retry)
}

fn protocol(value: &str) -> Result<Protocol, Fault> {
    match value.to_ascii_uppercase().as_str() {
        "HTTP" | "AUTO_HTTP" => Ok(Protocol::Http),
        "HTTPS" | "GRPCS" => Ok(Protocol::Https),
        "GRPC" => Ok(Protocol::H2c),
        _ => Err(Fault::Value("use HTTP, HTTPS, AUTO_HTTP, GRPC or GRPCS")),
    }
}

fn host(value: &str) -> Result<Template, Fault> {
    let known = |byte: u8| byte.is_ascii_graphic() && !b"%#,;@!'\"<>\\`".contains(&byte);
    if !value.bytes().all(known) {
        return Err(Fault::Value("give a host name, with variables such as $service_name if need be"));
    }
    Template::of_variables(value).map_err(|UnknownVariable(name)| Fault::Variable(name))
}

#[cfg(test)]
pub(super) const MAXIMUM: u32 = MOST_TRIES;
