//! The address that clients use.

use k8s_openapi::api::core::v1::LoadBalancerIngress;
use landfall_model::{Findings, ObjectRef, Problem};

use super::{Facts, NO_ADDRESS};

/// Judges whether the ingress has an address.
pub(super) fn judge(facts: &Facts) -> Findings {
    let mut findings = Findings::new();
    let Some(key) = facts.publish_service.as_ref().filter(|_| facts.workloads().exists()) else { return findings };
    let about = || ObjectRef::new("Service", key.clone());
    let Some(service) = facts.service(key) else {
        let cause = "does not exist, so the ingress publishes no address";
        let problem = Problem::new(about(), NO_ADDRESS, cause).at("--publish-service", key.to_string());
        findings.bad("address", problem.remedy("name the Service of the ingress, or install the chart again"));
        return findings;
    };
    let kind = service.spec.as_ref().and_then(|spec| spec.type_.as_deref()).unwrap_or("ClusterIP");
    let status = service.status.as_ref().and_then(|status| status.load_balancer.as_ref()?.ingress.as_ref());
    let entry = |entry: &LoadBalancerIngress| entry.ip.clone().or_else(|| entry.hostname.clone());
    let addresses: Vec<String> = status.into_iter().flatten().filter_map(entry).collect();
    if kind == "LoadBalancer" && addresses.is_empty() {
        let why = service.status.iter().flat_map(|status| status.conditions.iter().flatten());
        let why = why.filter(|c| c.type_ == "landfall.dev/AddressAllocated" && c.status == "False");
        let why = why.map(|c| format!(": {}", c.message)).next().unwrap_or_default();
        let problem = Problem::new(about(), NO_ADDRESS, format!("the ingress has no address yet{why}"));
        findings.bad("address", problem.remedy("landfall-lb-announcer check says what keeps it from getting one"));
    } else if kind == "LoadBalancer" {
        findings.good("address", format!("the ingress is at {}", addresses.join(", ")));
    } else {
        findings.good("address", format!("the ingress is reached by service {key} of type {kind}"));
    }
    findings
}
