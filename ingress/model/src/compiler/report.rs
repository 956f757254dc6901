//! What is told of each Ingress: view, status and Problems.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use landfall_model::{ObjectKey, ObjectRef, Problem};

use super::backends::Fault;
use super::ingress::BackendSpec;
use super::link::Linked;
use super::{Compiler, Effects};
use crate::backend::BackendKey;
use crate::status::{Address, IngressStatus, IngressView, Views};

/// What was told last.
#[derive(Debug, Default)]
pub(super) struct Reports {
    pub(super) views: Views,
    pub(super) problems: Arc<[Problem]>,
    /// The Ingresses with problems.
    troubled: BTreeSet<ObjectKey>,
    statuses: BTreeMap<ObjectKey, IngressStatus>,
    /// What was published for Ingresses that have left, until it is seen to be gone.
    clearing: BTreeMap<ObjectKey, Clearing>,
}

/// How far the clearing of a status has come.
#[derive(Debug)]
struct Clearing {
    published: Arc<[Address]>,
    /// Whether what we published was seen and its removal asked for.
    asked: bool,
}

impl Reports {
    /// Takes the view of an Ingress, or that it is none of ours; says whether that is news.
    fn show(&mut self, key: &ObjectKey, view: Option<IngressView>) -> bool {
        let Some(view) = view else {
            self.troubled.remove(key);
            return self.views.remove(key).is_some();
        };
        if self.views.get(key).is_some_and(|old| **old == view) {
            return false;
        }
        if view.problems.is_empty() {
            self.troubled.remove(key);
        } else {
            self.troubled.insert(key.clone());
        }
        self.views.insert(key.clone(), Arc::new(view));
        true
    }
}

impl Compiler {
    /// Brings the views and the list of Problems up to date; returns the statuses with news.
    pub(super) fn report(&mut self, observed: &BTreeSet<ObjectKey>, effects: &Effects) -> Vec<IngressStatus> {
        let mut any_view = false;
        for key in &effects.views {
            let new = self.linked.get(key).map(|linked| self.view(key, linked));
            any_view |= self.reports.show(key, new);
        }
        if any_view || effects.problems {
            let problems = self.all_problems();
            if *self.reports.problems != *problems {
                self.reports.problems = problems.into();
            }
        }
        let keys: BTreeSet<&ObjectKey> = effects.views.iter().chain(observed).collect();
        keys.into_iter().filter_map(|key| self.status(key)).collect()
    }

    fn view(&self, key: &ObjectKey, linked: &Linked) -> IngressView {
        let mut problems: Vec<Problem> = linked.parsed.problems.to_vec();
        problems.extend(self.class_problems.get(key).cloned());
        problems.extend(linked.problems.iter().cloned());
        problems.extend(self.notes.of(key).cloned());
        let rules = linked.parsed.rules.iter().flat_map(|rule| &rule.paths).map(|path| &path.backend);
        let backends = rules.chain(linked.parsed.default.as_deref());
        for backend in backends {
            problems.extend(self.fault(linked, backend).map(|fault| place(fault, key, backend)));
        }
        for pool in linked.pools.iter().filter_map(|pool| self.backends.get(pool)) {
            problems.extend(pool.problems.iter().cloned());
        }
        problems.sort_unstable();
        problems.dedup();
        IngressView {
            ingress: key.clone(),
            addresses: self.publisher.addresses().cloned().unwrap_or_default(),
            problems: problems.into(),
        }
    }

    fn fault(&self, linked: &Linked, backend: &BackendSpec) -> Option<&Fault> {
        let (service, port) = backend.target.as_ref().ok()?;
        let key = BackendKey { service: service.clone(), port: port.clone() };
        let pool = self.pool_of(linked, key);
        // A default backend that no host leads to is not used, and nobody looks after it.
        self.backends.get(&pool).filter(|_| linked.pools.contains(&pool))?.fault.as_deref()
    }

    fn all_problems(&self) -> Vec<Problem> {
        let mut problems = self.classes.problems(&self.settings);
        problems.extend(self.class_problems.values().cloned());
        problems.extend(self.default_certificate_problem.clone());
        problems.extend(self.publisher.problem());
        problems.extend(self.option_problems.iter().cloned());
        problems.extend(self.flag_problems());
        problems.extend(self.stream_problems());
        let views = self.reports.troubled.iter().filter_map(|key| self.reports.views.get(key));
        problems.extend(views.flat_map(|view| view.problems.iter().cloned()));
        problems.sort_unstable();
        problems.dedup();
        problems
    }

    /// The status of an Ingress if there is news about it.
    fn status(&mut self, key: &ObjectKey) -> Option<IngressStatus> {
        let stored = self.ingresses.get(key);
        let observed = stored.map(|stored| stored.observed.clone()).unwrap_or_default();
        let was_ours = self.reports.statuses.get(key).and_then(|status| status.desired.clone());
        let desired = if self.linked.contains_key(key) {
            self.reports.clearing.remove(key);
            self.publisher.addresses().cloned()
        } else {
            self.clear(key, was_ours, &observed)
        };
        let status = IngressStatus { ingress: key.clone(), desired, observed };
        let old = self.reports.statuses.get(key);
        let is_news = match old {
            Some(old) => *old != status,
            None => status.desired.is_some(),
        };
        if status.desired.is_none() {
            self.reports.statuses.remove(key);
        } else if is_news {
            self.reports.statuses.insert(key.clone(), status.clone());
        }
        is_news.then_some(status)
    }

    /// Decides about the status of an Ingress that is not ours, or no longer. Only what we have published is
    /// cleared: another controller may have written meanwhile.
    fn clear(
        &mut self,
        key: &ObjectKey,
        was_ours: Option<Arc<[Address]>>,
        observed: &Arc<[Address]>,
    ) -> Option<Arc<[Address]>> {
        if self.ingresses.get(key).is_none() {
            self.reports.clearing.remove(key);
            return None;
        }
        if let Some(published) = was_ours.filter(|published| !published.is_empty()) {
            self.reports.clearing.entry(key.clone()).or_insert(Clearing { published, asked: false });
        }
        let clearing = self.reports.clearing.get_mut(key)?;
        if clearing.published == *observed {
            clearing.asked = true;
            return Some(Arc::default());
        }
        // Our last write may still be under way; once it was undone, or another has written, there is no more to do.
        if clearing.asked || !observed.is_empty() {
            self.reports.clearing.remove(key);
        }
        None
    }
}

fn place(fault: &Fault, ingress: &ObjectKey, backend: &BackendSpec) -> Problem {
    let object = ObjectRef::new("Ingress", ingress.clone());
    let cause = if backend.place.is_default() {
        fault.cause.replace("so this path answers 503", "so the default backend answers 503")
    } else {
        fault.cause.clone()
    };
    let problem = Problem::new(object, fault.reason, cause);
    problem.at(backend.place.backend(fault.field), &*fault.value).remedy(fault.remedy.clone())
}
