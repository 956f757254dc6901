//! How endpoints of a Service are chosen: in the dialect of ingress-nginx one Ingress decides for all of them.

use landfall_model::{ObjectRef, Problem};

use super::annotations::PREFIX;
use super::backends::{PoolKey, Preference};
use super::link::Linked;
use super::notes::Contest;
use super::{Compiler, Effects};
use crate::backend::{BackendKey, Transport};
use crate::reason;
use crate::table::Dialect;

impl Linked {
    /// How the Ingress wants the endpoints of its Services to be chosen.
    fn preference(&self) -> Preference {
        let (hash_by, balance) = self.parsed.annotations.preference();
        Preference { balance, hash_by, cookie: None }
    }
}

impl Compiler {
    /// Finds out anew how the endpoints of backends are chosen that Ingresses have come to use or use no longer.
    ///
    /// ingress-nginx has one upstream for each port of a Service, and the oldest Ingress that names it decides, even
    /// by saying nothing. Only the cookie of a session is that of the youngest one.
    pub(super) fn prefer(&mut self, effects: &mut Effects) {
        let common = self.options.limits.balance.unwrap_or_default();
        let is_other = std::mem::replace(&mut self.backends.balance, common) != common;
        for key in std::mem::take(&mut effects.used) {
            if key.dialect == Dialect::IngressNginx && key.transport == Transport::Tcp {
                self.prefer_for(&key, is_other, effects);
            }
        }
    }

    fn prefer_for(&mut self, pool: &PoolKey, is_other: bool, effects: &mut Effects) {
        let Some((before, users)) = self.backends.preference(pool) else { return };
        let linked = || users.iter().filter_map(|user| self.linked.get(user));
        let mut wanting = linked().filter(|linked| linked.preference() != Preference::default());
        let is_plain = wanting.next().is_none();
        let contest = Contest::Choice(pool.key.clone());
        let (preference, problems) = if is_plain {
            (Preference::default(), Vec::new())
        } else {
            let Some(first) = linked().min_by_key(|linked| &linked.parsed.age) else { return };
            let preference = first.preference();
            let others = linked()
                .filter(|linked| linked.preference() != Preference::default() && linked.preference() != preference);
            (preference.clone(), others.map(|other| ignored(other, first, &pool.key)).collect())
        };
        // The cookie is that of the youngest one that asks for some.
        let asking = linked().filter_map(|linked| Some((&linked.parsed.age, linked.parsed.annotations.cookie()?)));
        let cookie = asking.max_by(|(one, _), (other, _)| one.cmp(other)).map(|(_, cookie)| cookie);
        let preference = Preference { cookie, ..preference };
        if *before != preference || is_other {
            effects.published.extend(self.backends.prefer(pool, preference).publish);
        }
        self.note(&contest, problems, effects);
    }
}

/// What an Ingress wants of a Service for which an older one decides.
fn ignored(other: &Linked, first: &Linked, key: &BackendKey) -> Problem {
    let (hash_by, _) = other.parsed.annotations.preference();
    let name = if hash_by.is_some() { "upstream-hash-by" } else { "load-balance" };
    let cause = format!(
        "ingress {} is older and decides how an endpoint of {key} is chosen, so this has no effect there",
        first.parsed.age.key
    );
    let object = ObjectRef::new("Ingress", other.parsed.age.key.clone());
    let problem = Problem::new(object, reason::SHARED_SERVICE, cause);
    let problem = problem.at(format!("metadata.annotations[{PREFIX}{name}]"), "");
    problem.remedy(format!("put the annotation on {}, too", first.parsed.age.key)).warning()
}
