//! From a Service over its pool and address to the node that announces it.

use std::collections::{BTreeMap, BTreeSet};
use std::net::IpAddr;

use k8s_openapi::api::core::v1::Service;
use landfall_model::{Findings, ObjectKey, ObjectRef, Problem};

use super::{Facts, NO_POOL, NOT_ALLOCATED, OTHER_CLASS, reach};
use crate::plan::{Grant, Plan};
use crate::silence;
use crate::world::World;

/// Judges pools, Services and what is announced.
pub(super) fn judge(facts: &Facts, world: &mut World, namespaces: &[String]) -> Findings {
    world.settle();
    let held: BTreeMap<ObjectKey, Vec<IpAddr>> =
        world.services().iter().map(|(key, service)| (key.clone(), service.status.clone())).collect();
    let mut taken = world.reserved();
    taken.extend(world.reported_taken().into_iter().map(|(ip, (by, _))| (ip, by)));
    let plan = world.plan(&held, &taken, 0);
    let runs = facts.controller().exists();
    let mut findings = pools(facts, world, namespaces);
    let mut problems = plan.problems.clone();
    problems.extend(world.problems().into_iter().filter(|problem| &*problem.object.kind == "Service"));
    problems.extend(facts.services.iter().filter_map(|service| foreign(service, world)));
    problems.extend(if runs { unallocated(&plan, &held) } else { Vec::new() });
    problems.sort();
    let has = |key: &&ObjectKey| held.get(*key).is_some_and(|ips| !ips.is_empty());
    let count = world.services().keys().filter(has).count();
    findings.all("services", problems, format!("{count} Services of type LoadBalancer have an address each"));
    let mut problems = world.hindrances(plan.grants());
    if facts.speakers().exists() {
        let hindered: BTreeSet<ObjectKey> = problems.iter().map(|problem| problem.object.key.clone()).collect();
        problems.extend(silent(facts, world, &plan, &hindered));
    }
    findings.all("announcing", problems, "a node announces every address that a Service has");
    findings
}

fn pools(facts: &Facts, world: &World, namespaces: &[String]) -> Findings {
    let mut problems: Vec<Problem> =
        world.problems().into_iter().filter(|problem| &*problem.object.kind != "Service").collect();
    problems.extend(world.review(namespaces));
    problems.extend(reach::outside(facts, world));
    problems.extend(reach::interfaces(facts, world));
    if world.pools().is_empty() {
        let namespace = namespaces.first().map(String::as_str).unwrap_or_default();
        let about = ObjectRef::new("Namespace", ObjectKey::cluster(namespace));
        let cause = "there is no IPAddressPool, so no Service gets an address";
        let remedy = "create one with free addresses of your LAN, and an L2Advertisement: docs/install.md";
        let problem = Problem::new(about, NO_POOL, cause).remedy(remedy);
        problems.push(if facts.controller().exists() { problem } else { problem.warning() });
    }
    problems.sort();
    problems.dedup();
    let names: Vec<&str> = world.pools().iter().map(crate::pool::Pool::name).collect();
    let mut findings = Findings::new();
    findings.all("pools", problems, format!("pools that can be given from: {}", names.join(", ")));
    findings
}

/// A Service that asks for an address and that somebody else would have to give it.
fn foreign(service: &Service, world: &World) -> Option<Problem> {
    let spec = service.spec.as_ref()?;
    let status = service.status.as_ref().and_then(|s| s.load_balancer.as_ref()?.ingress.as_ref());
    let waits = spec.type_.as_deref() == Some("LoadBalancer") && status.is_none_or(Vec::is_empty);
    let meta = &service.metadata;
    let key = ObjectKey::of(meta);
    if !waits || world.services().contains_key(&key) {
        return None;
    }
    let class = spec.load_balancer_class.as_deref().unwrap_or_default();
    let cause = "has no address, and the announcer leaves Services of this class alone";
    let problem = Problem::new(ObjectRef::new("Service", key), OTHER_CLASS, cause).at("spec.loadBalancerClass", class);
    let remedy = "make the Service again with the class that the announcer serves (--lb-class), or without one";
    Some(problem.remedy(remedy).warning())
}

/// Services that the plan gives an address and that have none: nobody carries the plan out.
fn unallocated(plan: &Plan, held: &BTreeMap<ObjectKey, Vec<IpAddr>>) -> Vec<Problem> {
    let lacks = |key: &&ObjectKey| held.get(*key).is_none_or(Vec::is_empty);
    let problem = |(key, grant): (&ObjectKey, &Grant)| {
        let cause = format!("has no address, though pool {} has one for it", grant.pool);
        let problem = Problem::new(ObjectRef::new("Service", key.clone()), NOT_ALLOCATED, cause);
        problem.remedy("see whether the controller runs and is Ready; it gives addresses within a second")
    };
    plan.assign.iter().filter(|(key, _)| lacks(key)).map(problem).collect()
}

/// Addresses that some node could announce and none does, by what the speakers say of them.
fn silent(facts: &Facts, world: &World, plan: &Plan, hindered: &BTreeSet<ObjectKey>) -> Vec<Problem> {
    let announced: BTreeSet<ObjectKey> = facts
        .statuses
        .iter()
        .filter_map(|state| state.status.as_ref())
        .map(|status| ObjectKey::new(status.service_namespace.as_str(), status.service_name.as_str()))
        .collect();
    let open = |(key, grant): &(&ObjectKey, &Grant)| {
        !hindered.contains(*key) && !announced.contains(*key) && plan.keep.contains_key(*key) && !grant.ips.is_empty()
    };
    let problem = |(key, grant): (&ObjectKey, &Grant)| {
        let ip = *grant.ips.first()?;
        let said = world.speakers().silent().iter();
        let said = said.filter_map(|(node, said)| Some((&**node, said.get(&ip)?)));
        Some(silence::problem(key, ip, said))
    };
    plan.grants().filter(open).filter_map(problem).collect()
}
