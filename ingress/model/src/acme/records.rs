//! TXT records that were set for orders, until they are removed again.
//!
//! A record is noted before it is set, so that whoever leads after a crash knows of it.

use std::collections::BTreeSet;

use landfall_model::ObjectKey;
use serde::{Deserialize, Serialize};

use super::world::World;

/// Pauses, in seconds, before a record is tried to be removed once more; the last one stays.
const PAUSES: [u64; 5] = [30, 120, 600, 3_600, 6 * 3_600];
/// How often it is tried. A record that stays is a nuisance and proves nothing any more.
const TRIES: u32 = 20;

/// A TXT record.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Debug, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct TxtRecord {
    /// The `namespace/name` of the Secret whose order it was set for.
    pub secret: String,
    /// The issuer whose credentials set it.
    pub issuer: String,
    /// The host that it proves.
    pub host: String,
    /// Its name, behind all delegations.
    pub name: String,
    /// What it says.
    pub value: String,
    /// How often it was tried in vain to remove it.
    #[serde(default, skip_serializing_if = "is_zero")]
    pub failures: u32,
    /// When it is tried again, in seconds since the epoch.
    #[serde(default, skip_serializing_if = "is_nothing")]
    pub next: u64,
}

#[expect(clippy::trivially_copy_pass_by_ref, reason = "serde asks for it")]
const fn is_zero(number: &u32) -> bool {
    *number == 0
}

#[expect(clippy::trivially_copy_pass_by_ref, reason = "serde asks for it")]
const fn is_nothing(number: &u64) -> bool {
    *number == 0
}

impl TxtRecord {
    fn is(&self, other: &Self) -> bool {
        (&self.secret, &self.name, &self.value) == (&other.secret, &other.name, &other.value)
    }
}

impl World {
    /// A record is about to be set.
    pub fn record_set(&mut self, record: TxtRecord) {
        self.state.records.retain(|known| !known.is(&record));
        self.state.records.push(record);
    }

    /// A record is gone.
    pub fn record_removed(&mut self, record: &TxtRecord) {
        self.state.records.retain(|known| !known.is(record));
    }

    /// A record could not be removed; says whether it is tried again.
    pub fn record_stays(&mut self, record: &TxtRecord, now: u64) -> bool {
        let Some(known) = self.state.records.iter_mut().find(|known| known.is(record)) else { return false };
        let index = usize::try_from(known.failures).unwrap_or(usize::MAX).min(PAUSES.len() - 1);
        known.failures += 1;
        known.next = now + PAUSES.get(index).copied().unwrap_or_default();
        let again = known.failures < TRIES;
        if !again {
            self.record_removed(record);
        }
        again
    }

    /// The records that were set for the order of a Secret.
    pub fn records_of(&self, secret: &ObjectKey) -> Vec<TxtRecord> {
        let name = secret.to_string();
        self.state.records.iter().filter(|record| record.secret == name).cloned().collect()
    }

    /// The records of orders that are not under way, and when the next one is due if none of them is.
    pub fn leftovers(&self, running: &BTreeSet<ObjectKey>, now: u64) -> (Vec<TxtRecord>, Option<u64>) {
        let is_running =
            |record: &&TxtRecord| ObjectKey::parse(&record.secret).is_some_and(|secret| running.contains(&secret));
        let left = self.state.records.iter().filter(|record| !is_running(record));
        let (due, later): (Vec<_>, Vec<_>) = left.cloned().partition(|record| record.next <= now);
        (due, later.iter().map(|record| record.next).min())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::acme::world::Place;

    fn record(value: &str) -> TxtRecord {
        TxtRecord {
            secret: "shop/web".into(),
            issuer: "home".into(),
            host: "a.example".into(),
            name: "_acme-challenge.a.example".into(),
            value: value.into(),
            failures: 0,
            next: 0,
        }
    }

    #[test]
    fn a_record_is_known_until_it_is_gone_also_to_a_successor() {
        let mut world = World::new(None, Place::Watched);
        world.record_set(record("one"));
        world.record_set(record("two"));
        world.record_set(record("two"));
        let text = serde_json::to_string(world.state()).unwrap();
        let mut next = World::new(None, Place::Watched);
        next.load(serde_json::from_str(&text).unwrap());
        let running = BTreeSet::from([ObjectKey::new("shop", "web")]);
        assert_eq!(next.leftovers(&running, 5), (vec![], None), "its order removes it itself");
        assert_eq!(next.leftovers(&BTreeSet::new(), 5), (vec![record("one"), record("two")], None));
        next.tidy(&BTreeSet::new());
        next.record_removed(&record("one"));
        assert_eq!(next.records_of(&ObjectKey::new("shop", "web")), [record("two")]);
    }

    #[test]
    fn one_that_stays_is_tried_again_and_given_up_in_the_end() {
        let mut world = World::new(None, Place::Watched);
        world.record_set(record("one"));
        let (mut now, mut tries) = (0, 0);
        loop {
            let (due, next) = world.leftovers(&BTreeSet::new(), now);
            if due.is_empty() {
                let Some(next) = next else { break };
                now = next;
                continue;
            }
            tries += 1;
            world.record_stays(&due[0], now);
        }
        assert_eq!(tries, TRIES);
        assert!(now > 3 * 24 * 3_600, "{now}");
        assert!(world.state().records.is_empty());
    }
}
