//! Hosts in the DNS.

use std::collections::{BTreeMap, BTreeSet};
use std::net::IpAddr;
use std::sync::Arc;

use k8s_openapi::api::networking::v1::Ingress;
use landfall_model::{Findings, ObjectKey, ObjectRef, Problem};

use super::{DNS_ELSEWHERE, DNS_MISSING, Facts, Lookup};
use crate::compiler::Built;

/// The hosts of the Ingresses of ours that have an address.
pub(super) fn hosts(facts: &Facts, built: &Built) -> Vec<String> {
    let all: BTreeSet<String> = ours(facts, built).flat_map(|(_, _, hosts)| hosts).collect();
    all.into_iter().collect()
}

fn ours<'a>(facts: &'a Facts, built: &'a Built) -> impl Iterator<Item = (&'a Ingress, Vec<IpAddr>, Vec<String>)> {
    facts.ingresses.iter().filter_map(|ingress: &Arc<Ingress>| {
        let key = ObjectKey::of(&ingress.metadata);
        built.ingresses.get(&key)?;
        let status = ingress.status.as_ref()?.load_balancer.as_ref()?.ingress.as_ref()?;
        let addresses: Vec<IpAddr> = status.iter().filter_map(|entry| entry.ip.as_deref()?.parse().ok()).collect();
        let rules = ingress.spec.as_ref()?.rules.iter().flatten().filter_map(|rule| rule.host.clone());
        // What stands for any name can't be looked up.
        let hosts: Vec<String> = rules.filter(|host| !host.is_empty() && !host.starts_with('*')).collect();
        (!addresses.is_empty()).then_some((&**ingress, addresses, hosts))
    })
}

/// Judges what was found.
pub(super) fn judge(facts: &Facts, built: &Built, lookups: &BTreeMap<String, Lookup>) -> Findings {
    let mut problems = Vec::new();
    let mut failed = BTreeSet::new();
    let mut right = 0;
    for (ingress, published, hosts) in ours(facts, built) {
        let list = |ips: &[IpAddr]| ips.iter().map(IpAddr::to_string).collect::<Vec<_>>().join(", ");
        let about = || ObjectRef::new("Ingress", ObjectKey::of(&ingress.metadata));
        for host in hosts {
            let (reason, cause, remedy) = match lookups.get(&host) {
                Some(Lookup::Addresses(found)) if found.iter().any(|ip| published.contains(ip)) => {
                    right += 1;
                    continue;
                }
                Some(Lookup::Addresses(found)) => (
                    DNS_ELSEWHERE,
                    format!("the DNS says {}, and the ingress is at {}", list(found), list(&published)),
                    "correct the record; where a router forwards ports 80 and 443 to the ingress, all is well",
                ),
                Some(Lookup::Missing) => (
                    DNS_MISSING,
                    format!("the DNS has no address of this host; the ingress is at {}", list(&published)),
                    "add a record at your DNS server or router, or a line to /etc/hosts",
                ),
                Some(Lookup::Failed(why)) => {
                    failed.insert(why.clone());
                    continue;
                }
                None => continue,
            };
            problems.push(Problem::new(about(), reason, cause).at("spec.rules.host", host).remedy(remedy).warning());
        }
    }
    let mut findings = Findings::new();
    if !failed.is_empty() {
        let why: Vec<String> = failed.into_iter().collect();
        findings.unknown("dns", format!("some hosts could not be looked up: {}", why.join("; ")));
    }
    if right > 0 || !problems.is_empty() {
        findings.all("dns", problems, format!("{right} hosts have the address of the ingress in the DNS"));
    }
    findings
}
