//! The sessions of a port.

use std::collections::{HashMap, VecDeque};
use std::sync::{Arc, Weak};

use tokio::task::AbortHandle;

use super::session::Session;
use super::socket::Origin;

/// Sessions that are looked at for one that can go.
const LOOKS: usize = 64;

/// Sessions by client, and no more than there may be.
pub(super) struct Sessions {
    most: usize,
    by_origin: ByOrigin,
    /// In the order in which they are looked at when one has to go.
    order: VecDeque<Weak<Session>>,
}

impl Sessions {
    pub(super) fn new(most: usize) -> Self {
        Self { most, by_origin: HashMap::default(), order: VecDeque::new() }
    }

    pub(super) fn get(&self, origin: &Origin) -> Option<Arc<Session>> {
        self.by_origin.get(origin).map(|(session, _)| session.clone())
    }

    /// Adds a session; one of the same client ends.
    pub(super) fn insert(&mut self, session: Arc<Session>, task: AbortHandle) {
        self.order.push_back(Arc::downgrade(&session));
        if let Some((_, old)) = self.by_origin.insert(session.origin.clone(), (session, task)) {
            old.abort();
        }
        // Those that are over leave the order only here.
        if self.order.len() > 2 * self.by_origin.len() + LOOKS {
            let current = &self.by_origin;
            self.order.retain(|session| session.upgrade().is_some_and(|session| is_current(current, &session)));
        }
    }

    /// Forgets a session that is over.
    pub(super) fn remove(&mut self, session: &Arc<Session>) {
        if is_current(&self.by_origin, session) {
            self.by_origin.remove(&session.origin);
        }
    }

    /// Ends a session where there are as many as may be: one that was not used since it was looked at last, if one is
    /// soon found.
    pub(super) fn make_room(&mut self) {
        let mut looks = 0;
        while self.by_origin.len() >= self.most {
            let Some(next) = self.order.pop_front() else { return };
            let Some(session) = next.upgrade().filter(|session| is_current(&self.by_origin, session)) else { continue };
            looks += 1;
            if looks < LOOKS && session.was_used() {
                self.order.push_back(next);
                continue;
            }
            if let Some((_, task)) = self.by_origin.remove(&session.origin) {
                task.abort();
            }
        }
    }

    /// Ends all.
    pub(super) fn end_all(&mut self) {
        self.order.clear();
        for (_, (_, task)) in self.by_origin.drain() {
            task.abort();
        }
    }
}

type ByOrigin = HashMap<Origin, (Arc<Session>, AbortHandle), foldhash::fast::RandomState>;

fn is_current(by_origin: &ByOrigin, session: &Arc<Session>) -> bool {
    by_origin.get(&session.origin).is_some_and(|(current, _)| Arc::ptr_eq(current, session))
}
