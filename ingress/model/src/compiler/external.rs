//! Services of type ExternalName: which names may be used.

use landfall_model::{ObjectKey, ObjectRef, Problem, Reason};

use crate::host::{BadHost, HostPattern};
use crate::reason;
use crate::settings::{ExternalNames, Origin, Settings};
use crate::table::Dialect;

/// What is allowed of names.
#[derive(Clone, Debug)]
pub(crate) struct NameRules {
    allowed: ExternalNames,
    /// Without a dot at either end, in lower case.
    cluster_domain: Box<str>,
    origin: Origin,
}

/// Why a name is not used.
pub(crate) struct Refusal {
    reason: Reason,
    pub(crate) cause: String,
    remedy: String,
}

impl Refusal {
    fn invalid(cause: &str) -> Self {
        let remedy = "name a host by its DNS name; for addresses, create an EndpointSlice";
        Self { reason: reason::INVALID_EXTERNAL_NAME, cause: cause.into(), remedy: remedy.into() }
    }

    /// The Problem of the Service.
    pub(crate) fn problem(&self, service: &ObjectKey, name: &str) -> Problem {
        let cause = format!("{}, so what is sent to this Service is answered with 503", self.cause);
        let problem = Problem::new(ObjectRef::new("Service", service.clone()), self.reason, cause);
        problem.at("spec.externalName", name).remedy(self.remedy.clone())
    }
}

impl NameRules {
    pub(crate) fn new(settings: &Settings) -> Self {
        let domain = settings.cluster_domain.trim_matches('.').to_ascii_lowercase();
        Self { allowed: settings.external_names, cluster_domain: domain.into(), origin: settings.origin }
    }

    /// Why the `externalName` of a Service is not used. The name is in lower case, without a final dot.
    ///
    /// > ExternalName ... must be a lowercase RFC-1123 hostname (Kubernetes: Service, "type: ExternalName")
    ///
    /// Resolved by the proxy, a name must not lead to the proxy's own host, nor to what its Service's namespace could
    /// not reach by an Ingress of its own: other namespaces' Services and the API server.
    pub(crate) fn refusal(&self, service: &ObjectKey, name: &str, dialect: Dialect) -> Option<Refusal> {
        if self.allowed == ExternalNames::None {
            return Some(Refusal {
                reason: reason::EXTERNAL_NAME_REFUSED,
                cause: "Services of type ExternalName are switched off by --external-names none".into(),
                remedy: "use a Service with endpoints, or set --external-names outside".into(),
            });
        }
        if name.is_empty() {
            return Some(Refusal::invalid("externalName is empty"));
        }
        // Names with underscores are served by DNS, though they are no host names.
        match HostPattern::parse(&name.replace('_', "-")) {
            Ok(HostPattern::Exact(_)) => {}
            Err(BadHost::Address) => {
                return Some(Refusal::invalid("externalName must be a DNS name, not an IP address"));
            }
            _ => return Some(Refusal::invalid("externalName is not a DNS name")),
        }
        let local = name == "localhost" || name.ends_with(".localhost");
        if local && (self.origin == Origin::Cluster || dialect == Dialect::IngressNginx) {
            return Some(Refusal::invalid("externalName stands for the proxy's own host"));
        }
        if self.allowed == ExternalNames::All {
            return None;
        }
        let domain = &self.cluster_domain;
        let cause = match self.position(name) {
            Position::Outside => return None,
            Position::Namespace(namespace) if namespace == service.namespace() => return None,
            Position::Namespace(namespace) => format!("the name is in namespace {namespace:?} of this cluster"),
            Position::NoNamespace => format!("the name is under the cluster's domain {domain} and in no namespace"),
        };
        Some(Refusal {
            reason: reason::EXTERNAL_NAME_REFUSED,
            cause,
            remedy: format!(
                "name a Service of namespace {:?}, or set --external-names all to allow every name under {domain}",
                service.namespace()
            ),
        })
    }

    /// Kubernetes, "DNS for Services and Pods": `SERVICE.NAMESPACE.svc.DOMAIN`, `ADDRESS.NAMESPACE.pod.DOMAIN`, and
    /// more labels before those.
    fn position<'a>(&self, name: &'a str) -> Position<'a> {
        let Some(rest) = name.strip_suffix(&*self.cluster_domain) else { return Position::Outside };
        if !rest.is_empty() && !rest.ends_with('.') {
            return Position::Outside;
        }
        let mut labels = rest.trim_end_matches('.').rsplit('.');
        match (labels.next(), labels.next()) {
            (Some("svc" | "pod"), Some(namespace)) => Position::Namespace(namespace),
            _ => Position::NoNamespace,
        }
    }
}

/// Where a name is.
enum Position<'a> {
    Outside,
    Namespace(&'a str),
    /// Under the cluster's domain, but in none of its namespaces.
    NoNamespace,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_of_other_namespaces_are_refused_unless_all_are_allowed() {
        let cases = [
            ("www.example.com", true),
            ("api.shop.svc.cluster.local", true),
            ("pod-1.api.shop.svc.cluster.local", true),
            ("10-0-0-1.shop.pod.cluster.local", true),
            ("api.other.svc.cluster.local", false),
            ("kubernetes.default.svc.cluster.local", false),
            // The label before "svc" is the namespace, whatever stands before it.
            ("shop.other.svc.cluster.local", false),
            ("api.shop.svc.other.svc.cluster.local", false),
            ("shop.svc.cluster.local", true),
            ("svc.cluster.local", false),
            ("cluster.local", false),
            ("api.shop.cluster.local", false),
            ("notcluster.local", true),
            ("api.other.svc.cluster.local.example.com", true),
        ];
        let rules = |allowed| NameRules { allowed, cluster_domain: "cluster.local".into(), origin: Origin::Cluster };
        let service = ObjectKey::new("shop", "ext");
        for (name, allowed) in cases {
            assert_eq!(
                rules(ExternalNames::Outside).refusal(&service, name, Dialect::Kubernetes).is_none(),
                allowed,
                "{name}"
            );
            assert!(rules(ExternalNames::All).refusal(&service, name, Dialect::Kubernetes).is_none(), "{name}");
            assert!(rules(ExternalNames::None).refusal(&service, name, Dialect::Kubernetes).is_some(), "{name}");
        }
        for name in ["localhost", "a.localhost", "10.0.0.1", "-a.example", ""] {
            assert!(rules(ExternalNames::All).refusal(&service, name, Dialect::Kubernetes).is_some(), "{name}");
        }
    }
}
