//! A Service in parsed form.

use std::net::IpAddr;
use std::sync::Arc;
use std::time::Duration;

use k8s_openapi::api::core::v1::{Service, ServicePort};
use k8s_openapi::apimachinery::pkg::util::intstr::IntOrString;
use landfall_model::{ObjectKey, ObjectRef, Problem};

use crate::backend::{Affinity, PortRef, Protocol, Transport};
use crate::reason;

/// Kubernetes: `sessionAffinityConfig.clientIP.timeoutSeconds`, "Default value is 10800(for 3 hours)".
const AFFINITY_TIMEOUT: i32 = 10_800;

/// What is read of a Service.
#[derive(PartialEq, Debug)]
pub(crate) struct ParsedService {
    /// The name behind a Service of type ExternalName.
    pub(crate) external_name: Option<Arc<str>>,
    /// The address of the Service itself; a headless one has none.
    pub(crate) cluster_ip: Option<IpAddr>,
    pub(crate) ports: Box<[Port]>,
    /// The selector as `key=value,...`; empty if there is none.
    pub(crate) selector: Box<str>,
    pub(crate) affinity: Affinity,
    /// What is wrong with the Service by itself.
    pub(crate) problems: Box<[Problem]>,
}

/// A port of a Service.
#[derive(PartialEq, Debug)]
pub(crate) struct Port {
    /// Empty for the only port of a Service, which needs no name.
    pub(crate) name: Box<str>,
    pub(crate) number: u16,
    pub(crate) target: Option<u16>,
    pub(crate) protocol: Box<str>,
    pub(crate) app_protocol: Option<Box<str>>,
}

impl ParsedService {
    /// The port that `wanted` means, those of this transport first: a Service may have one number for TCP and UDP.
    pub(crate) fn port(&self, wanted: &PortRef, transport: Transport) -> Option<&Port> {
        let meant = |port: &&Port| match wanted {
            PortRef::Number(number) => port.number == *number,
            PortRef::Name(name) => *port.name == **name,
        };
        let mut found = self.ports.iter().filter(meant);
        found.clone().find(|port| port.is(transport)).or_else(|| found.next())
    }

    /// The ports as a message lists them.
    pub(crate) fn port_list(&self) -> String {
        let list: Vec<String> = self.ports.iter().map(Port::to_string).collect();
        if list.is_empty() { "none".into() } else { list.join(", ") }
    }
}

impl Port {
    pub(crate) fn is(&self, transport: Transport) -> bool {
        Transport::parse(&self.protocol) == Some(transport)
    }

    pub(crate) fn is_tcp(&self) -> bool {
        self.is(Transport::Tcp)
    }

    /// The protocol to the endpoints, from `appProtocol`, or `None` where the word is not known.
    ///
    /// > The application protocol for this port. ... Un-prefixed protocol names - reserved for IANA standard service
    /// > names. Kubernetes-defined prefixed names: 'kubernetes.io/h2c', 'kubernetes.io/ws', 'kubernetes.io/wss'
    ///
    /// `grpc`, `h2c` and `http2` are what service meshes write for HTTP/2 in the clear.
    pub(crate) fn app_protocol(&self) -> Option<Protocol> {
        match self.app_protocol.as_deref().unwrap_or_default().to_ascii_lowercase().as_str() {
            "" | "http" | "kubernetes.io/ws" => Some(Protocol::Http),
            "https" | "kubernetes.io/wss" => Some(Protocol::Https),
            "kubernetes.io/h2c" | "h2c" | "grpc" | "http2" => Some(Protocol::H2c),
            _ => None,
        }
    }
}

impl std::fmt::Display for Port {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        if self.name.is_empty() { write!(f, "{}", self.number) } else { write!(f, "{} ({})", self.number, self.name) }
    }
}

/// Reads a Service.
pub(crate) fn parse(service: &Service, key: &ObjectKey) -> ParsedService {
    let object = ObjectRef::new("Service", key.clone());
    let mut problems = Vec::new();
    let spec = service.spec.as_ref();
    let is_external = spec.and_then(|spec| spec.type_.as_deref()) == Some("ExternalName");
    let external = spec.and_then(|spec| spec.external_name.as_deref()).unwrap_or_default();
    let selector = spec.and_then(|spec| spec.selector.as_ref());
    let selector: Vec<String> = selector.into_iter().flatten().map(|(key, value)| format!("{key}={value}")).collect();
    ParsedService {
        external_name: is_external.then(|| external.strip_suffix('.').unwrap_or(external).to_ascii_lowercase().into()),
        // "None" is no address.
        cluster_ip: spec.and_then(|spec| spec.cluster_ip.as_deref()?.parse().ok()),
        ports: spec.and_then(|spec| spec.ports.as_deref()).unwrap_or_default().iter().filter_map(port).collect(),
        selector: selector.join(",").into(),
        affinity: affinity(service, &object, &mut problems),
        problems: problems.into(),
    }
}

/// A port, or `None` if its number is none; the API server admits no such Service.
fn port(port: &ServicePort) -> Option<Port> {
    Some(Port {
        name: port.name.as_deref().unwrap_or_default().into(),
        number: u16::try_from(port.port).ok().filter(|number| *number > 0)?,
        target: match &port.target_port {
            Some(IntOrString::Int(number)) => u16::try_from(*number).ok(),
            Some(IntOrString::String(_)) | None => None,
        },
        protocol: port.protocol.as_deref().unwrap_or_default().into(),
        app_protocol: port.app_protocol.as_deref().map(Into::into),
    })
}

fn affinity(service: &Service, object: &ObjectRef, problems: &mut Vec<Problem>) -> Affinity {
    let spec = service.spec.as_ref();
    let report = |cause: &str, field: &str, value: &str, remedy: &str| {
        let problem = Problem::new(object.clone(), reason::INVALID_AFFINITY, cause);
        problem.at(field, value).remedy(remedy).warning()
    };
    match spec.and_then(|spec| spec.session_affinity.as_deref()) {
        None | Some("" | "None") => return Affinity::None,
        Some("ClientIP") => {}
        Some(other) => {
            let cause = "there is no such affinity, so there is none";
            problems.push(report(cause, "spec.sessionAffinity", other, "use ClientIP or None"));
            return Affinity::None;
        }
    }
    let config = spec.and_then(|spec| spec.session_affinity_config.as_ref());
    let seconds = config.and_then(|config| config.client_ip.as_ref()).and_then(|client| client.timeout_seconds);
    let seconds = seconds.unwrap_or(AFFINITY_TIMEOUT);
    // > The value must be >0 && <=86400(for 1 day) if ServiceAffinity == "ClientIP".
    let valid = u64::try_from(seconds).ok().filter(|seconds| (1..=86_400).contains(seconds));
    if valid.is_none() {
        let field = "spec.sessionAffinityConfig.clientIP.timeoutSeconds";
        let cause = "the time-out is out of range, so it is 10800";
        problems.push(report(cause, field, &seconds.to_string(), "use 1 to 86400 seconds"));
    }
    Affinity::ClientIp(Duration::from_secs(valid.unwrap_or(AFFINITY_TIMEOUT.unsigned_abs().into())))
}
