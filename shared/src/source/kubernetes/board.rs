//! Problems of all feeds, gathered into the view.

use std::collections::BTreeMap;
use std::sync::{Mutex, PoisonError};

use landfall_model::{ObjectKey, Problem};
use tokio::sync::Notify;

use crate::source::SourceView;

/// Problems by part of the source and, within it, by object; the part's own stand under `None`.
type Problems = BTreeMap<(String, Option<ObjectKey>), Problem>;

pub(crate) struct Board {
    problems: Mutex<Problems>,
    /// Rings when a part works again: the others need not wait out their pauses.
    pub(crate) recovered: Notify,
    pub(crate) view: SourceView,
}

impl Board {
    pub(crate) fn new(view: SourceView) -> Self {
        Self { problems: Mutex::default(), recovered: Notify::new(), view }
    }

    /// Sets what is wrong with an object of `part`, or with the part itself.
    pub(crate) fn set(&self, part: &str, key: Option<ObjectKey>, problem: Option<Problem>) {
        self.change(|problems| {
            let place = (part.to_owned(), key);
            match problem {
                Some(problem) => problems.insert(place, problem.clone()).as_ref() != Some(&problem),
                None => problems.remove(&place).is_some(),
            }
        });
    }

    /// Sets everything that is wrong with the objects of `part` after a list.
    pub(crate) fn set_all(&self, part: &str, found: Vec<(ObjectKey, Problem)>) {
        self.change(|problems| {
            let before = problems.len();
            problems.retain(|(of, _), _| of != part);
            let changed = before != problems.len() || !found.is_empty();
            problems.extend(found.into_iter().map(|(key, problem)| ((part.to_owned(), Some(key)), problem)));
            changed
        });
    }

    fn change(&self, change: impl FnOnce(&mut Problems) -> bool) {
        let mut problems = self.problems.lock().unwrap_or_else(PoisonError::into_inner);
        if change(&mut problems) {
            self.view.set_problems(problems.values().cloned().collect());
        }
    }
}
