//! How a backend is spoken to: time limits, attempts, size of the body, protocol, host.

use std::sync::Arc;
use std::time::Duration;

use super::fault::Fault;
use super::value::{body_size, seconds};
use super::{Annotations, Read};
use crate::backend::Protocol;
use crate::compiler::options::Options;
use crate::policy::{RoutePolicy, Template, UnknownVariable};
use crate::table::Dialect;

/// "0 = unlimited" of `proxy-next-upstream-tries`, bounded because each try is a connection.
const MOST_TRIES: u32 = 32;

/// The annotations of this family.
#[derive(Clone, PartialEq, Debug, Default)]
pub(super) struct UpstreamAnnotations {
    connect_timeout: Option<Duration>,
    read_timeout: Option<Duration>,
    write_timeout: Option<Duration>,
    tries: Option<u32>,
    /// The inner `None` is no limit.
    max_body: Option<Option<u64>>,
    pub(super) protocol: Option<Protocol>,
    host: Option<Arc<Template>>,
}

impl UpstreamAnnotations {
    pub(super) fn read_in(all: &mut Annotations, name: &str, value: &str) -> Result<Read, Fault> {
        let this = &mut all.upstream;
        match name {
            "proxy-connect-timeout" => this.connect_timeout = Some(seconds(value)?),
            "proxy-read-timeout" => this.read_timeout = Some(seconds(value)?),
            "proxy-send-timeout" => this.write_timeout = Some(seconds(value)?),
            "proxy-body-size" => this.max_body = Some(body_size(value)?),
            "proxy-next-upstream-tries" => this.tries = Some(tries(value)?),
            "backend-protocol" => this.protocol = Some(protocol(value)?),
            "upstream-vhost" => this.host = Some(Arc::new(host(value)?)),
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
        policy.max_body = self.max_body.or(options.max_body).unwrap_or(policy.max_body);
        policy.upstream_host = self.host.clone();
    }
}

pub(crate) fn tries(value: &str) -> Result<u32, Fault> {
    match value.parse::<u32>() {
        Ok(0) => Ok(MOST_TRIES),
        Ok(tries) => Ok(tries.min(MOST_TRIES)),
        Err(_) => Err(Fault::Value("give the number of attempts in all, or 0 for as many as are allowed, which is 32")),
    }
}

fn protocol(value: &str) -> Result<Protocol, Fault> {
    match value.to_ascii_uppercase().as_str() {
        "HTTP" => Ok(Protocol::Http),
        "HTTPS" | "GRPCS" => Ok(Protocol::Https),
        "GRPC" => Ok(Protocol::H2c),
        _ => Err(Fault::Value("use HTTP, HTTPS, GRPC or GRPCS")),
    }
}

fn host(value: &str) -> Result<Template, Fault> {
    let known = |byte: u8| byte.is_ascii_graphic() && !b"%#,;@!'\"<>/\\`".contains(&byte);
    if !value.bytes().all(known) {
        return Err(Fault::Value("give a host name, with variables such as $service_name if need be"));
    }
    Template::of_variables(value).map_err(|UnknownVariable(name)| Fault::Variable(name))
}

#[cfg(test)]
pub(super) const MAXIMUM: u32 = MOST_TRIES;
