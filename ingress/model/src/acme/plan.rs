//! What is to be done now, and when something is to be done next.

use std::collections::BTreeSet;

use landfall_model::{ObjectKey, Problem};

use super::certificate::{Existing, Facts};
use super::issuer::Issuer;
use super::schedule::{is_urgent, renew_at};
use super::state::{CertificateState, OrderState};
use super::view::View;
use super::world::{Desired, World};

/// Orders under way at one time, unless [`World::with_at_once`] says otherwise.
pub const AT_ONCE: usize = 4;
/// Failures of a host in a row after which it holds up no new host of the same certificate.
const GIVEN_UP: u32 = 3;

/// What is to be done.
#[derive(Debug, Default)]
pub struct Plan {
    /// Orders to begin or to go on with.
    pub orders: Vec<Order>,
    /// Certificates for which the CA is to be asked when to renew them.
    pub checks: Vec<Check>,
    /// When there is something to do next, in seconds since the epoch.
    pub next: Option<u64>,
    /// What is told of each certificate that is wanted.
    pub views: Vec<View>,
    /// What is wrong.
    pub problems: Vec<Problem>,
}

/// An order to carry out.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Order {
    /// Where the certificate is to stand.
    pub secret: ObjectKey,
    /// The issuer.
    pub issuer: Issuer,
    /// The hosts, sorted.
    pub hosts: Vec<String>,
    /// Those of them that the certificate which is served covers. Without them it is not replaced.
    pub kept: BTreeSet<String>,
    /// The hosts for whose sake alone it is made; empty where the certificate is needed without them, too.
    pub added: BTreeSet<String>,
    /// The certificate that it is to replace, as the CA calls it.
    pub replaces: Option<String>,
    /// An order that the CA knows already.
    pub resume: Option<OrderState>,
    /// Who asks.
    pub ingresses: Vec<ObjectKey>,
    /// Whether there was a certificate already.
    pub is_renewal: bool,
    /// Whether that was revoked, so that its key is not to be used again.
    pub is_revoked: bool,
}

/// A question to the CA about the renewal of a certificate.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Check {
    /// The Secret.
    pub secret: ObjectKey,
    /// The issuer.
    pub issuer: Issuer,
    /// The certificate as the CA calls it.
    pub id: String,
}

/// Why a certificate is ordered, besides that there is none.
#[derive(Default)]
struct Reasons {
    kept: BTreeSet<String>,
    added: BTreeSet<String>,
    replaces: Option<String>,
}

/// What becomes of one certificate.
pub(super) enum Verdict {
    /// There is nothing to do before this time.
    Wait(Option<u64>),
    /// It is to be ordered.
    Order(Box<Order>),
    /// Somebody else looks after its Secret.
    Foreign,
    /// There is no such issuer.
    NoIssuer,
}

impl World {
    /// What is to be done `now`, in seconds since the epoch, while the orders for `running` are under way.
    pub fn plan(&self, now: u64, running: &BTreeSet<ObjectKey>) -> Plan {
        let mut plan = Plan { problems: self.issuer_problems.clone(), ..Plan::default() };
        let mut free = self.at_once().saturating_sub(running.len());
        for desired in self.desired().values() {
            let verdict =
                if running.contains(&desired.secret) { Verdict::Wait(None) } else { self.judge(desired, now) };
            let mut is_queued = false;
            match &verdict {
                Verdict::Order(order) if free > 0 => {
                    free -= 1;
                    plan.orders.push((**order).clone());
                }
                // A running order that ends makes room and a new plan.
                Verdict::Order(_) => is_queued = true,
                Verdict::Wait(at) => plan.wake(*at),
                Verdict::Foreign | Verdict::NoIssuer => {}
            }
            self.check(desired, now, &mut plan);
            let is_running = running.contains(&desired.secret);
            let view = self.view(desired, &verdict, now, is_running, is_queued);
            plan.problems.extend(self.problems(desired, &verdict));
            plan.views.push(view);
        }
        plan.problems.sort_unstable();
        plan.problems.dedup();
        plan
    }

    pub(super) fn remembered(&self, key: &ObjectKey) -> Option<&CertificateState> {
        self.state.certificates.get(&key.to_string())
    }

    /// Whether the certificate that is there is not to be trusted any more: its CA has revoked it, or somebody here says so.
    pub(super) fn is_revoked(&self, key: &ObjectKey) -> bool {
        self.existing(key).is_some_and(|existing| existing.is_recalled) || self.is_revoked_by_ca(key)
    }

    /// Whether its CA has revoked it.
    pub(super) fn is_revoked_by_ca(&self, key: &ObjectKey) -> bool {
        let facts = self.existing(key).and_then(|existing| existing.certificate.as_ref());
        let renewal = self.remembered(key).and_then(|state| state.renewal.as_ref());
        let id = facts.and_then(|facts| facts.id.as_ref());
        renewal.is_some_and(|renewal| renewal.is_revoked && id == Some(&renewal.id))
    }

    /// When a certificate that is there is to be renewed.
    pub(super) fn renews_at(&self, key: &ObjectKey, facts: &Facts) -> u64 {
        if self.existing(key).is_some_and(|existing| existing.is_recalled) {
            return facts.not_before;
        }
        let state = self.remembered(key);
        let at = renew_at(facts, state.and_then(|state| state.renewal.as_ref()), &key.to_string());
        // A window in the past may be no revocation, and yet come again and again.
        let recalls = state.and_then(|state| state.recalls);
        recalls.map_or(at, |recalls| at.max(recalls.next().min(facts.not_after)))
    }

    fn judge(&self, desired: &Desired, now: u64) -> Verdict {
        let existing = self.existing(&desired.secret);
        if existing.is_some_and(|existing| !existing.is_managed) {
            return Verdict::Foreign;
        }
        let Some(issuer) = self.issuers.get(&desired.issuer) else { return Verdict::NoIssuer };
        if let Some(until) = self.settling.get(&desired.secret).filter(|until| **until > now) {
            return Verdict::Wait(Some(*until));
        }
        let state = self.remembered(&desired.secret);
        let waits =
            self.state.issuers.get(&desired.issuer).into_iter().chain(state.and_then(|state| state.trouble.as_ref()));
        if let Some(until) = waits.map(|trouble| trouble.next).filter(|next| *next > now).max() {
            return Verdict::Wait(Some(until));
        }
        self.order(desired, existing, issuer, now)
    }

    /// Whether there is something to order, and for which hosts.
    fn order(&self, desired: &Desired, existing: Option<&Existing>, issuer: &Issuer, now: u64) -> Verdict {
        let state = self.remembered(&desired.secret);
        let provable: BTreeSet<&String> = desired.hosts.iter().filter(|host| issuer.proves(host)).collect();
        let trouble = |host: &str| state.and_then(|state| state.hosts.get(host));
        let waiting = |host: &str| trouble(host).filter(|trouble| trouble.next > now);
        let due: Vec<String> =
            provable.iter().filter(|host| waiting(host).is_none()).map(ToString::to_string).collect();
        // When the first of the hosts that wait may be tried again.
        let retry = provable.iter().filter_map(|host| waiting(host)).map(|trouble| trouble.next).min();
        if due.is_empty() {
            return Verdict::Wait(retry);
        }
        let facts = existing.and_then(|existing| existing.certificate.as_ref());
        let Some(facts) = facts else { return self.make(desired, issuer, due, Reasons::default()) };
        let renews = self.renews_at(&desired.secret, facts);
        let is_other = !existing.is_some_and(|existing| self.is_of(existing, issuer));
        let is_missing = due.iter().any(|host| !facts.covers(host));
        if !is_other && !is_missing && now < renews {
            return Verdict::Wait(Some(retry.map_or(renews, |retry| retry.min(renews))));
        }
        // What is served for a host is not given up because the host can't be proven at the moment: unless time is
        // running out, or other hosts would wait for it in vain.
        let held = provable.iter().filter(|host| facts.covers(host) && now < facts.not_after).copied();
        let is_revoked = self.is_revoked(&desired.secret);
        let is_given_up = |host: &str| {
            let failures = trouble(host).map_or(0, |trouble| trouble.failures);
            is_revoked || is_urgent(facts, now) || (is_missing && failures >= GIVEN_UP)
        };
        let kept: BTreeSet<String> = held.filter(|host| !is_given_up(host)).cloned().collect();
        if let Some(next) = kept.iter().filter_map(|host| waiting(host)).map(|trouble| trouble.next).max() {
            return Verdict::Wait(Some(next));
        }
        let needed = is_other || now >= renews;
        let added = due.iter().filter(|host| !needed && !facts.covers(host)).cloned().collect();
        let replaces = facts.id.clone().filter(|_| !is_other);
        self.make(desired, issuer, due, Reasons { kept, added, replaces })
    }

    fn make(&self, desired: &Desired, issuer: &Issuer, hosts: Vec<String>, reasons: Reasons) -> Verdict {
        let known = self.remembered(&desired.secret).and_then(|state| state.order.as_ref());
        // An order of yesterday has expired at most CAs.
        let resume =
            known.filter(|order| order.issuer == issuer.name && order.hosts.iter().all(|host| hosts.contains(host)));
        let Reasons { kept, added, replaces } = reasons;
        let facts = self.existing(&desired.secret).and_then(|existing| existing.certificate.as_ref());
        Verdict::Order(Box::new(Order {
            secret: desired.secret.clone(),
            issuer: issuer.clone(),
            hosts,
            kept,
            added,
            replaces,
            resume: resume.cloned(),
            ingresses: desired.ingresses.clone(),
            is_renewal: facts.is_some(),
            is_revoked: self.is_revoked(&desired.secret),
        }))
    }

    /// Whether the CA is to be asked when to renew.
    fn check(&self, desired: &Desired, now: u64, plan: &mut Plan) {
        let (Some(existing), Some(issuer)) = (self.existing(&desired.secret), self.issuers.get(&desired.issuer)) else {
            return;
        };
        let id = existing.certificate.as_ref().and_then(|facts| facts.id.as_ref());
        // A CA of our own has nothing to say that is not known here.
        let is_ours =
            existing.is_managed && issuer.internal.is_none() && existing.issuer.as_deref() == Some(&*issuer.name);
        let Some(id) = id.filter(|_| is_ours) else { return };
        let renewal = self.remembered(&desired.secret).and_then(|state| state.renewal.as_ref());
        match renewal.filter(|renewal| renewal.id == *id) {
            Some(renewal) if renewal.check > now => plan.wake(Some(renewal.check)),
            _ => plan.checks.push(Check { secret: desired.secret.clone(), issuer: issuer.clone(), id: id.clone() }),
        }
    }
}

impl Plan {
    fn wake(&mut self, at: Option<u64>) {
        self.next = self.next.into_iter().chain(at).min();
    }
}

#[cfg(test)]
mod tests;
