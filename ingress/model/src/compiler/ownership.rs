//! Who may speak for a host.
//!
//! By default, whoever has a rule for it. With `--host-ownership namespace`, the namespace of the oldest Ingress that
//! names it: then nobody else's rules, certificates or catch-alls touch what is asked of that host.

use std::collections::BTreeSet;

use super::Compiler;
use super::ingress::{Age, ParsedIngress};
use super::set::SmallSet;
use crate::host::HostPattern;
use crate::settings::HostOwnership;

/// For whose routes of a host there is a TLS entry, so that plain requests can be sent to HTTPS.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub(super) struct Covered {
    /// For those of everybody who may speak for the host.
    entitled: bool,
    /// The namespace of those, where a host belongs to one.
    owner: Option<Box<str>>,
    /// For those that take what hosts of their own namespace leave to a wildcard of somebody else: the namespaces.
    others: BTreeSet<Box<str>>,
}

impl Compiler {
    /// The Ingress by which a host belongs to a namespace; `None` where hosts belong to nobody or nobody names it.
    ///
    /// A wildcard names the hosts below it too, so that a host that is served already is not taken away by a rule that
    /// is more specific.
    pub(crate) fn owner(&self, host: &HostPattern) -> Option<&Age> {
        if self.settings.host_ownership == HostOwnership::None {
            return None;
        }
        let first = |host: &HostPattern| self.hosts.get(host).and_then(SmallSet::first);
        let wider = match host {
            HostPattern::Exact(name) => name.wildcard().as_ref().and_then(first),
            HostPattern::Wildcard(_) => None,
            // An Ingress without rules is for all hosts too.
            HostPattern::Any => self.defaults.first(),
        };
        first(host).into_iter().chain(wider).min()
    }

    /// Whether the host belongs to another namespace than that of this Ingress.
    pub(crate) fn is_refused(&self, age: &Age, host: &HostPattern) -> bool {
        self.owner(host).is_some_and(|owner| owner.key.namespace() != age.key.namespace())
    }

    /// Whether a certificate that this Ingress names may be used for the host: a rule of its namespace is for it, or
    /// nobody's is.
    pub(super) fn is_entitled(&self, age: &Age, host: &HostPattern) -> bool {
        if self.settings.host_ownership == HostOwnership::Namespace {
            return !self.is_refused(age, host);
        }
        self.ruling(host).is_none_or(|ages| {
            ages.contains(age) || ages.iter().any(|other| other.key.namespace() == age.key.namespace())
        })
    }

    /// The Ingresses whose rules answer for a host: those that name it, else those of the wildcard over it.
    pub(super) fn ruling(&self, host: &HostPattern) -> Option<&SmallSet<Age>> {
        self.hosts.get(host).or_else(|| match host {
            HostPattern::Exact(name) => self.hosts.get(&name.wildcard()?),
            HostPattern::Wildcard(_) | HostPattern::Any => None,
        })
    }

    /// Whether a TLS entry is for the routes that an Ingress has for a host.
    pub(super) fn is_covered(&self, age: &Age, host: &HostPattern) -> bool {
        let Some(covered) = self.covered.get(host) else { return false };
        if self.is_refused(age, host) { covered.others.contains(age.key.namespace()) } else { covered.entitled }
    }

    /// For whose routes of a host there is a TLS entry.
    pub(super) fn covered_now(&self, host: &HostPattern) -> Covered {
        if !self.hosts.contains_key(host) {
            return Covered::default();
        }
        let claims = self.names.get(host).into_iter().flatten().filter(|age| self.is_refused(age, host));
        let others = claims.map(|age| age.key.namespace().into()).collect();
        let entitled = self.has_entry(host);
        let owner = self.owner(host).filter(|_| entitled).map(|owner| owner.key.namespace().into());
        Covered { entitled, owner, others }
    }

    fn has_entry(&self, host: &HostPattern) -> bool {
        let wider = match host {
            HostPattern::Exact(name) => name.wildcard(),
            HostPattern::Wildcard(_) | HostPattern::Any => None,
        };
        [Some(host), wider.as_ref()]
            .into_iter()
            .flatten()
            .filter_map(|name| self.names.get(name))
            .any(|claims| claims.iter().any(|age| self.is_entitled(age, host)))
    }

    /// Adds the hosts that depend on the wildcards among `hosts`.
    pub(super) fn with_hosts_below(&self, hosts: &mut BTreeSet<HostPattern>) {
        let is_below = |host: &HostPattern| match host {
            HostPattern::Exact(name) => name.wildcard().is_some_and(|wildcard| hosts.contains(&wildcard)),
            HostPattern::Wildcard(_) | HostPattern::Any => false,
        };
        if hosts.iter().any(|host| matches!(host, HostPattern::Wildcard(_))) {
            let known = self.hosts.keys().chain(self.names.keys()).chain(self.canaries.keys());
            let below: Vec<HostPattern> = known.filter(|host| is_below(host)).cloned().collect();
            hosts.extend(below);
        }
    }
}

/// The hosts that an Ingress has routes for.
pub(super) fn hosts_of(parsed: &ParsedIngress) -> BTreeSet<&HostPattern> {
    // A canary has routes only beside those of another Ingress, which is not supported.
    let rules = parsed.rules.iter().filter(|_| !parsed.annotations.is_canary());
    rules.filter(|rule| !rule.paths.is_empty() || parsed.default.is_some()).map(|rule| &rule.host).collect()
}
