//! What a plan says of Services that have an address, and of pools.

use landfall_model::{ObjectRef, Problem};

use crate::address::Family;
use crate::plan::{Grant, Planner, TakenBy, about};
use crate::pool::Pool;
use crate::reason;
use crate::service::{Families, ServiceFacts};

impl Planner<'_> {
    /// Prefer means prefer: that one family isn't to be had is no problem.
    pub(super) fn remark(&mut self, service: &ServiceFacts, grant: &Grant) {
        if let (Families::Prefer(_), [only], []) = (service.families, &*grant.ips, &*service.wanted) {
            let family = Family::of(*only).other();
            let remark = format!(
                "without an {family} address, which ipFamilyPolicy PreferDualStack asks for where there is one: the pool has none free"
            );
            self.plan.remarks.insert(service.key.clone(), remark);
        }
    }

    pub(super) fn report_contest(&mut self, service: &ServiceFacts, grant: &Grant) {
        for ip in &grant.ips {
            let Some(by) = self.ledger.taken_by(*ip) else { continue };
            let (cause, remedy) = match by {
                TakenBy::ForeignHost(mac) => (
                    format!("a host with MAC address {mac} answers for {ip} too; the Service keeps the address"),
                    "give that host another address, or the Service".to_owned(),
                ),
                TakenBy::Node(node) => (
                    format!("{ip} is also an address of node {node}; the Service keeps it"),
                    format!(
                        "remove the address from the node, or give the Service another one and exclude it with \"!{ip}\""
                    ),
                ),
                _ => continue,
            };
            let problem = Problem::new(about(service), reason::ADDRESS_CONFLICT, cause);
            let problem = problem.at("status.loadBalancer.ingress", ip.to_string()).remedy(remedy).warning();
            self.plan.problems.push(problem.clone());
            self.plan.contested.entry(service.key.clone()).or_insert(problem);
        }
    }

    pub(super) fn report_impostor(&mut self, pool: &Pool) {
        for family in [Family::V4, Family::V6] {
            let Some(mac) = self.ledger.impostor(pool, family) else { continue };
            let cause = format!(
                "a host with MAC address {mac} answers for every {family} address that is left; that looks like proxy ARP, \
                 as some access points have it, so the addresses are given all the same"
            );
            let object = ObjectRef::new("IPAddressPool", pool.key.clone());
            let problem = Problem::new(object, reason::PROXY_ARP, cause).at("spec.addresses", "");
            let remedy = "turn proxy ARP off on that device; if it really has these addresses, use others in the pool";
            self.plan.problems.push(problem.remedy(remedy).warning());
        }
    }
}
