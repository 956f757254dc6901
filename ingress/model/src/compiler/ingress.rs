//! An Ingress in parsed form: what it says, and what is wrong with it by itself.

use std::sync::Arc;

use k8s_openapi::api::networking::v1::{HTTPIngressPath, Ingress, IngressBackend, IngressRule, IngressTLS};
use landfall_model::{ObjectKey, ObjectRef, Problem, Reason};

use super::annotations::Annotations;
use super::class::{CLASS_ANNOTATION, ClassChoice};
use super::store::created;
use super::suggest::nearest;
use crate::acme::ask::Wish;
use crate::backend::PortRef;
use crate::host::HostPattern;
use crate::path::{BadPath, CanonicalPath};
use crate::reason;
use crate::status::Address;
use crate::table::PathRule;

/// Precedence among Ingresses: the older one, then by namespace and name.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Debug)]
pub(crate) struct Age {
    /// Microseconds since the epoch.
    pub(crate) created: i64,
    pub(crate) key: ObjectKey,
}

/// An Ingress as it is stored.
#[derive(PartialEq, Debug)]
pub(crate) struct StoredIngress {
    pub(crate) parsed: Arc<ParsedIngress>,
    /// `status.loadBalancer.ingress` as it was last seen.
    pub(crate) observed: Arc<[Address]>,
}

/// What an Ingress says.
#[derive(PartialEq, Debug)]
pub(crate) struct ParsedIngress {
    pub(crate) age: Age,
    pub(crate) class: ClassChoice,
    pub(crate) annotations: Arc<Annotations>,
    /// Rules with a valid host; a path that can't be used is left out.
    pub(crate) rules: Box<[Rule]>,
    /// Whether it was written without any rule, so that it is about its default backend only.
    pub(crate) is_default_only: bool,
    pub(crate) default: Option<Box<BackendSpec>>,
    pub(crate) tls: Box<[TlsSpec]>,
    /// Whether it asks for certificates.
    pub(crate) wish: Wish,
    /// What is wrong with the Ingress by itself.
    pub(crate) problems: Box<[Problem]>,
}

/// A rule.
#[derive(PartialEq, Debug)]
pub(crate) struct Rule {
    pub(crate) host: HostPattern,
    pub(crate) paths: Box<[PathSpec]>,
}

/// A path of a rule.
#[derive(PartialEq, Debug)]
pub(crate) struct PathSpec {
    pub(crate) rule: PathRule,
    /// As it was written, where that is another text.
    pub(crate) written: Option<Box<str>>,
    /// `ImplementationSpecific`: what the path means is left to us.
    pub(crate) is_free: bool,
    pub(crate) backend: BackendSpec,
}

impl PathSpec {
    /// The path as it was written.
    pub(crate) fn text(&self) -> &str {
        match (&self.written, &self.rule) {
            (Some(text), _) => text,
            (None, PathRule::Exact(path) | PathRule::Prefix(path)) if !path.is_empty() => path,
            (None, _) => "/",
        }
    }
}

/// A backend as an Ingress names it, and where.
#[derive(PartialEq, Debug)]
pub(crate) struct BackendSpec {
    pub(crate) place: Place,
    /// The text says why there is none.
    pub(crate) target: Result<(ObjectKey, PortRef), Arc<str>>,
}

/// Where in an Ingress something stands.
#[derive(Clone, Copy, PartialEq, Debug)]
pub(crate) enum Place {
    /// `spec.defaultBackend`.
    Default,
    /// `spec.rules[rule].http.paths[path]`.
    Path { rule: usize, path: usize },
}

impl Place {
    /// The path of the field `field` of the backend.
    pub(crate) fn backend(self, field: &str) -> String {
        match self {
            Self::Default => format!("spec.defaultBackend.{field}"),
            Self::Path { .. } => format!("{}.backend.{field}", self.path()),
        }
    }

    /// The path of the rule's host.
    pub(crate) fn host(self) -> String {
        match self {
            Self::Default => "spec.rules".into(),
            Self::Path { rule, .. } => format!("spec.rules[{rule}].host"),
        }
    }

    /// The path of the rule's path.
    pub(crate) fn path(self) -> String {
        match self {
            Self::Default => "spec.defaultBackend".into(),
            Self::Path { rule, path } => format!("spec.rules[{rule}].http.paths[{path}]"),
        }
    }
}

/// One of `spec.tls`.
#[derive(PartialEq, Debug)]
pub(crate) struct TlsSpec {
    /// Its place in the list.
    pub(crate) index: usize,
    /// Whether the list of hosts was empty.
    pub(crate) without_hosts: bool,
    pub(crate) hosts: Box<[HostPattern]>,
    pub(crate) secret: Option<ObjectKey>,
}

/// Reads an Ingress.
pub(crate) fn parse(ingress: &Ingress, key: &ObjectKey) -> StoredIngress {
    let mut parser = Parser { object: ObjectRef::new("Ingress", key.clone()), problems: Vec::new() };
    let annotations = ingress.metadata.annotations.as_ref();
    let (plan, mut annotation_problems) = Annotations::parse(annotations, &parser.object);
    parser.problems.append(&mut annotation_problems);
    let spec = ingress.spec.as_ref();
    let rules = spec.and_then(|spec| spec.rules.as_deref()).unwrap_or_default();
    let backend = spec.and_then(|spec| spec.default_backend.as_ref());
    let default = backend.map(|backend| Box::new(parser.backend(backend, Place::Default)));
    if rules.is_empty() && default.is_none() {
        let problem =
            Problem::new(parser.object.clone(), reason::EMPTY_INGRESS, "it has neither rules nor a default backend");
        parser.problems.push(problem.at("spec.rules", "").remedy("give rules or spec.defaultBackend"));
    }
    let is_default_only = rules.is_empty();
    let rules =
        rules.iter().enumerate().filter_map(|(index, rule)| parser.rule(index, rule, default.is_some())).collect();
    let tls = spec.and_then(|spec| spec.tls.as_deref()).unwrap_or_default();
    let tls = tls.iter().enumerate().map(|(index, entry)| parser.tls(index, entry)).collect();
    let class = ClassChoice {
        name: spec.and_then(|spec| spec.ingress_class_name.as_deref()).map(Into::into),
        annotation: annotations.and_then(|all| all.get(CLASS_ANNOTATION)).map(|value| value.as_str().into()),
    };
    let parsed = ParsedIngress {
        age: Age { created: created(&ingress.metadata), key: key.clone() },
        class,
        annotations: plan.shared(),
        rules,
        is_default_only,
        default,
        tls,
        wish: Wish::parse(annotations),
        problems: parser.problems.into(),
    };
    StoredIngress { parsed: Arc::new(parsed), observed: Address::observed(ingress) }
}

struct Parser {
    object: ObjectRef,
    problems: Vec<Problem>,
}

impl Parser {
    fn report(
        &mut self,
        reason: Reason,
        cause: impl Into<String>,
        field: String,
        value: &str,
        remedy: impl Into<String>,
    ) {
        self.problems.push(Problem::new(self.object.clone(), reason, cause).at(field, value).remedy(remedy));
    }

    fn rule(&mut self, index: usize, rule: &IngressRule, has_default: bool) -> Option<Rule> {
        let written = rule.host.as_deref().unwrap_or_default();
        let host = match HostPattern::parse(written) {
            Ok(host) => host,
            Err(error) => {
                let remedy = "use a name such as www.example.com or *.example.com, without scheme, port and path";
                self.report(
                    reason::INVALID_HOST,
                    error.to_string(),
                    format!("spec.rules[{index}].host"),
                    written,
                    remedy,
                );
                return None;
            }
        };
        let paths = rule.http.as_ref().map(|http| http.paths.as_slice()).unwrap_or_default();
        if paths.is_empty() && !has_default {
            let cause = "the rule has no paths and the Ingress no default backend, so it takes no request";
            self.report(
                reason::EMPTY_RULE,
                cause,
                format!("spec.rules[{index}].http.paths"),
                "",
                "give the rule a path, or the Ingress a defaultBackend",
            );
        }
        let paths = paths
            .iter()
            .enumerate()
            .filter_map(|(path, entry)| self.path(Place::Path { rule: index, path }, entry))
            .collect();
        Some(Rule { host, paths })
    }

    fn path(&mut self, place: Place, entry: &HTTPIngressPath) -> Option<PathSpec> {
        let exact = self.path_type(place, &entry.path_type)?;
        // An empty path means all paths, as it does in ingress-nginx; the API server asks for a slash.
        let written = entry.path.as_deref().filter(|path| !path.is_empty()).unwrap_or("/");
        let canonical = match CanonicalPath::parse(written) {
            Ok(path) => path,
            Err(error) => {
                let remedy = match error {
                    BadPath::NoLeadingSlash => format!("write \"/{written}\""),
                    _ => "write the path as a client sends it".to_owned(),
                };
                let field = format!("{}.path", place.path());
                self.report(reason::INVALID_PATH, error.to_string(), field, written, remedy);
                return None;
            }
        };
        let path = canonical.as_str();
        let rule = if exact {
            PathRule::Exact(path.into())
        } else {
            // > A path of /foo/ matches /foo and /foo/ ("/foo/", Prefix, in the table of examples)
            PathRule::Prefix(path.strip_suffix('/').unwrap_or(path).into())
        };
        let (PathRule::Exact(text) | PathRule::Prefix(text)) = &rule;
        let differs = *written != **text && !(text.is_empty() && written == "/");
        let written = differs.then(|| written.into());
        let is_free = entry.path_type == "ImplementationSpecific";
        Some(PathSpec { rule, written, is_free, backend: self.backend(&entry.backend, place) })
    }

    /// Whether the type is `Exact`.
    ///
    /// > ImplementationSpecific: With this path type, matching is up to the IngressClass. Implementations can treat
    /// > this as a separate pathType or treat it identically to Prefix or Exact path types.
    fn path_type(&mut self, place: Place, written: &str) -> Option<bool> {
        const TYPES: [&str; 3] = ["Exact", "Prefix", "ImplementationSpecific"];
        let field = format!("{}.pathType", place.path());
        match written {
            "Exact" => Some(true),
            "Prefix" | "ImplementationSpecific" => Some(false),
            "" => {
                let cause = "the path has no pathType and is taken as Prefix";
                let problem = Problem::new(self.object.clone(), reason::MISSING_PATH_TYPE, cause);
                let remedy = "write pathType: Prefix or pathType: Exact; the API server refuses a path without it";
                self.problems.push(problem.at(field, "").remedy(remedy).warning());
                Some(false)
            }
            _ => {
                let folded = TYPES.iter().copied().find(|name| name.eq_ignore_ascii_case(written));
                let near = folded.or_else(|| nearest(written, TYPES.into_iter()).first().copied());
                let remedy = match near {
                    Some(name) => format!("write {name}"),
                    None => "use Exact, Prefix or ImplementationSpecific".to_owned(),
                };
                let cause = "there is no such pathType, so this path is left out";
                self.report(reason::INVALID_PATH_TYPE, cause, field, written, remedy);
                None
            }
        }
    }

    fn backend(&mut self, backend: &IngressBackend, place: Place) -> BackendSpec {
        let target = self.target(backend, place).map_err(Into::into);
        BackendSpec { place, target }
    }

    fn target(&mut self, backend: &IngressBackend, place: Place) -> Result<(ObjectKey, PortRef), &'static str> {
        if let Some(resource) = &backend.resource {
            let value = format!("{}/{}", resource.kind, resource.name);
            let cause = "backends that are no Service are not supported, so this path answers 503";
            let field = place.backend("resource");
            self.report(reason::RESOURCE_BACKEND, cause, field, &value, "name a Service");
            return Err("the backend is a resource, which is not supported");
        }
        let Some(service) = backend.service.as_ref().filter(|service| !service.name.is_empty()) else {
            let field = place.backend("service.name");
            self.report(reason::INVALID_BACKEND, "the backend names no Service", field, "", "name a Service");
            return Err("the backend names no service");
        };
        let port = service.port.as_ref();
        let name = port.and_then(|port| port.name.as_deref()).filter(|name| !name.is_empty());
        let number = port.and_then(|port| port.number).filter(|number| *number != 0);
        let port = match (name, number) {
            (Some(name), None) => PortRef::Name(name.into()),
            (None, Some(number)) => {
                let Ok(number) = u16::try_from(number) else {
                    let field = place.backend("service.port.number");
                    let remedy = "use a number from 1 to 65535";
                    self.report(reason::INVALID_BACKEND, "not a port", field, &number.to_string(), remedy);
                    return Err("the backend's port is not a port number");
                };
                PortRef::Number(number)
            }
            (None, None) => {
                let field = place.backend("service.port");
                let remedy = "give the port's number or its name in the Service";
                self.report(reason::INVALID_BACKEND, "the backend names no port", field, "", remedy);
                return Err("the backend names no port");
            }
            (Some(name), Some(number)) => {
                let cause = format!("the port has a name and the number {number}");
                let field = place.backend("service.port.name");
                self.report(reason::INVALID_BACKEND, cause, field, name, "keep one of the two");
                return Err("the backend's port has a name and a number");
            }
        };
        Ok((ObjectKey::new(self.object.key.namespace(), service.name.as_str()), port))
    }

    fn tls(&mut self, index: usize, entry: &IngressTLS) -> TlsSpec {
        let written = entry.hosts.as_deref().unwrap_or_default();
        let mut hosts = Vec::with_capacity(written.len());
        for (number, host) in written.iter().enumerate() {
            match HostPattern::parse_tls(host) {
                Ok(pattern) if pattern != HostPattern::Any => hosts.push(pattern),
                parsed => {
                    let cause = parsed.err().map_or("the host is empty".to_owned(), |error| error.to_string());
                    let field = format!("spec.tls[{index}].hosts[{number}]");
                    let remedy = "use a name such as www.example.com or *.example.com";
                    self.report(reason::INVALID_HOST, cause, field, host, remedy);
                }
            }
        }
        let secret = entry.secret_name.as_deref().filter(|name| !name.is_empty());
        TlsSpec {
            index,
            without_hosts: written.is_empty(),
            hosts: hosts.into(),
            secret: secret.map(|name| ObjectKey::new(self.object.key.namespace(), name)),
        }
    }
}
