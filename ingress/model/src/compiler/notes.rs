//! Problems that Ingresses get from competing with others, by what they compete for.

use std::collections::{BTreeMap, BTreeSet};

use landfall_model::{ObjectKey, Problem};

use crate::backend::BackendKey;
use crate::host::HostPattern;

/// What is competed for.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Debug)]
pub(crate) enum Contest {
    /// The paths of a host.
    Host(HostPattern),
    /// The certificate of a name.
    Name(HostPattern),
    /// The default backend of everything.
    Default,
    /// What the rules of a host leave to those of a wildcard or without a host.
    Leftovers(HostPattern),
    /// How an endpoint of a Service is chosen.
    Choice(BackendKey),
    /// What an Ingress takes of other namespaces' hosts that way.
    Taken(ObjectKey),
}

/// The outcomes of all contests.
#[derive(Debug, Default)]
pub(crate) struct Notes {
    by_contest: BTreeMap<Contest, BTreeMap<ObjectKey, Vec<Problem>>>,
    by_ingress: BTreeMap<ObjectKey, BTreeSet<Contest>>,
}

impl Notes {
    /// Replaces the outcome of a contest; `tell` hears of each Ingress for which something changed.
    pub(crate) fn set(&mut self, contest: &Contest, problems: Vec<Problem>, mut tell: impl FnMut(&ObjectKey)) {
        let mut new: BTreeMap<ObjectKey, Vec<Problem>> = BTreeMap::new();
        for problem in problems {
            new.entry(problem.object.key.clone()).or_default().push(problem);
        }
        let old = self.by_contest.remove(contest).unwrap_or_default();
        for (key, problems) in &old {
            if new.get(key) != Some(problems) {
                tell(key);
            }
            if !new.contains_key(key)
                && let Some(contests) = self.by_ingress.get_mut(key)
            {
                contests.remove(contest);
                if contests.is_empty() {
                    self.by_ingress.remove(key);
                }
            }
        }
        for key in new.keys().filter(|key| !old.contains_key(*key)) {
            tell(key);
            self.by_ingress.entry(key.clone()).or_default().insert(contest.clone());
        }
        if !new.is_empty() {
            self.by_contest.insert(contest.clone(), new);
        }
    }

    /// What came out for one Ingress.
    pub(crate) fn of(&self, ingress: &ObjectKey) -> impl Iterator<Item = &Problem> {
        let contests = self.by_ingress.get(ingress).into_iter().flatten();
        contests.filter_map(|contest| self.by_contest.get(contest)?.get(ingress)).flatten()
    }
}
