//! Pod security admission.

use k8s_openapi::api::core::v1::Namespace;

use super::POD_SECURITY;
use crate::{Findings, ObjectKey, ObjectRef, Problem};

const ENFORCE: &str = "pod-security.kubernetes.io/enforce";

/// Judges whether the namespace takes pods in the node's network; `None`: there is no such namespace yet.
pub fn pod_security(name: &str, namespace: Option<&Namespace>) -> Findings {
    let mut findings = Findings::new();
    let Some(namespace) = namespace else {
        findings.good("pod-security", format!("namespace {name} does not exist yet, so nothing in it refuses pods"));
        return findings;
    };
    let level = namespace.metadata.labels.as_ref().and_then(|labels| labels.get(ENFORCE)).map(String::as_str);
    if let Some(level @ ("baseline" | "restricted")) = level {
        let about = ObjectRef::new("Namespace", ObjectKey::cluster(name));
        let cause = format!("the pod security profile {level} allows no pod in the node's network");
        let problem = Problem::new(about, POD_SECURITY, cause).at(format!("metadata.labels[{ENFORCE}]"), level);
        let remedy = format!("kubectl label namespace {name} --overwrite {ENFORCE}=privileged");
        findings.bad("pod-security", problem.remedy(remedy));
    } else {
        findings.good("pod-security", format!("namespace {name} takes pods in the node's network"));
    }
    findings
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use super::*;

    #[test]
    fn only_privileged_namespaces_take_pods_of_the_nodes_network() {
        for (level, fails) in [(None, false), (Some("privileged"), false), (Some("baseline"), true)] {
            let mut namespace = Namespace::default();
            namespace.metadata.labels = level.map(|level| BTreeMap::from([(ENFORCE.to_owned(), level.to_owned())]));
            assert_eq!(pod_security("landfall-system", Some(&namespace)).fails(), fails, "{level:?}");
        }
        assert!(!pod_security("landfall-system", None).fails());
    }
}
