//! What a folder says now, and what that changes.

use std::collections::{BTreeMap, HashMap, HashSet};
use std::sync::Arc;

use jiff::Timestamp;
use landfall_model::{Location, ObjectKey, ObjectRef, Problem};

use super::ages;
use super::document::{DUPLICATE_OBJECT, Entry, Keeps, Reader, Slot};
use super::folder::{Found, Scan, Signature};
use crate::source::{Erased, Plan};

pub(super) struct State<C> {
    plan: Plan<C>,
    files: BTreeMap<Arc<str>, File>,
    signatures: HashMap<Arc<str>, Signature>,
    /// What the consumer has.
    live: BTreeMap<(usize, ObjectKey), Live>,
    duplicates: Vec<Problem>,
    started: bool,
}

#[derive(Debug, Default)]
struct File {
    slots: Vec<Slot>,
    /// The file was found empty once; many editors empty a file before they write it.
    emptied: bool,
}

impl File {
    fn entries(&self) -> impl Iterator<Item = &Entry> {
        self.slots.iter().flat_map(|slot| &slot.entries)
    }
}

struct Live {
    hash: u64,
    age: Option<Timestamp>,
    object: Erased,
    location: Location,
}

impl<C: Send + 'static> State<C> {
    pub(super) fn new(plan: Plan<C>) -> Self {
        Self {
            plan,
            files: BTreeMap::new(),
            signatures: HashMap::new(),
            live: BTreeMap::new(),
            duplicates: Vec::new(),
            started: false,
        }
    }

    /// The files that need not be read again unless their signature changes.
    pub(super) fn signatures(&self) -> &HashMap<Arc<str>, Signature> {
        &self.signatures
    }

    /// Takes a look at the folder in; returns what it changes for the consumer, or `None` if no file was touched.
    pub(super) fn update(&mut self, scan: Scan) -> Option<Vec<C>> {
        let mut touched = !self.started;
        // If part of the folder could not be read, a file that was not found may still be there.
        if scan.failure.is_none() {
            let before = self.files.len();
            self.files.retain(|path, _| scan.files.contains_key(path));
            self.signatures.retain(|path, _| scan.files.contains_key(path));
            touched |= before != self.files.len();
        }
        for (path, found) in scan.files {
            touched |= self.take(path, found);
        }
        if !touched {
            return None;
        }
        let (chosen, duplicates) = self.compose();
        let now = self.date(chosen);
        self.duplicates = duplicates;
        self.share(&now);
        Some(self.emit(now))
    }

    /// Takes one file in; says whether its content may have changed.
    fn take(&mut self, path: Arc<str>, found: Found) -> bool {
        let reader = Reader { plan: &self.plan, file: &path };
        let slots = match found {
            Found::Unchanged => return false,
            Found::Unreadable(cause) => {
                self.signatures.remove(&path);
                vec![reader.unreadable(&cause)]
            }
            Found::Text(signature, text) => {
                let old =
                    self.files.get_mut(&path).filter(|file| file.slots.iter().any(|slot| !slot.entries.is_empty()));
                if let Some(file) = old.filter(|file| !file.emptied && text.trim().is_empty()) {
                    file.emptied = true;
                    self.signatures.remove(&path);
                    return false;
                }
                if signature.is_settled() {
                    self.signatures.insert(path.clone(), signature);
                } else {
                    self.signatures.remove(&path);
                }
                reader.file(&text)
            }
        };
        let file = self.files.entry(path).or_default();
        let old = std::mem::take(&mut file.slots);
        *file = File { slots: keep_last_good(slots, old), emptied: false };
        true
    }

    /// What the folder says as a whole: the first of each object, and Problems for the others.
    fn compose(&self) -> (Vec<(&Entry, Location)>, Vec<Problem>) {
        let entries = || self.files.iter().flat_map(|(path, file)| file.entries().map(move |entry| (path, entry)));
        let fresh: HashSet<&ObjectRef> =
            entries().filter(|(_, entry)| !entry.carried).map(|(_, entry)| &entry.reference).collect();
        let mut first: HashMap<&ObjectRef, Location> = HashMap::new();
        let (mut chosen, mut duplicates) = (Vec::new(), Vec::new());
        for (file, entry) in entries().filter(|(_, entry)| !(entry.carried && fresh.contains(&entry.reference))) {
            let location = Location { file: file.clone(), line: entry.line };
            if let Some(other) = first.get(&entry.reference) {
                duplicates.push(duplicate(entry.reference.clone(), other, location));
            } else {
                first.insert(&entry.reference, location.clone());
                chosen.push((entry, location));
            }
        }
        (chosen, duplicates)
    }

    /// Lets the files hold the very objects that are live, instead of copies without a creation time.
    fn share(&mut self, now: &BTreeMap<(usize, ObjectKey), Live>) {
        for (path, file) in &mut self.files {
            for entry in file.slots.iter_mut().flat_map(|slot| &mut slot.entries) {
                let live = now.get(&(entry.kind, entry.reference.key.clone()));
                let same = |live: &&Live| live.location.line == entry.line && live.location.file == *path;
                if let Some(live) = live.filter(same) {
                    entry.object = live.object.clone();
                }
            }
        }
    }

    /// Gives creation times to the objects whose manifest gives none.
    fn date(&self, chosen: Vec<(&Entry, Location)>) -> BTreeMap<(usize, ObjectKey), Live> {
        let place = |entry: &Entry| (entry.kind, entry.reference.key.clone());
        let undated = chosen.iter().filter(|(entry, _)| !entry.dated);
        let before: Vec<_> = undated.map(|(entry, _)| self.live.get(&place(entry)).and_then(|live| live.age)).collect();
        let mut ages = ages::assign(&before).into_iter();
        let live = |(entry, location): (&Entry, Location)| {
            let age = if entry.dated { None } else { ages.next() };
            let key = place(entry);
            let object = match (age, self.live.get(&key)) {
                // The same object again: what the consumer has already, rather than another copy of it.
                (age, Some(live)) if live.hash == entry.hash && live.age == age => live.object.clone(),
                (Some(age), _) => self.plan.kinds()[entry.kind].created(entry.object.clone(), age),
                (None, _) => entry.object.clone(),
            };
            (key, Live { hash: entry.hash, age, object, location })
        };
        chosen.into_iter().map(live).collect()
    }

    /// The changes from what the consumer has to `now`.
    fn emit(&mut self, now: BTreeMap<(usize, ObjectKey), Live>) -> Vec<C> {
        let before = std::mem::replace(&mut self.live, now);
        let kinds = self.plan.kinds();
        if !std::mem::replace(&mut self.started, true) {
            let of = |number| self.live.iter().filter(move |((kind, _), _)| *kind == number);
            let all = |number| of(number).map(|(_, live)| live.object.clone()).collect();
            return kinds.iter().enumerate().map(|(number, kind)| kind.replace(all(number))).collect();
        }
        let gone = before.keys().filter(|place| !self.live.contains_key(place));
        let gone = gone.map(|(kind, key)| kinds[*kind].delete(key.clone()));
        let same = |place, live: &Live| {
            before.get(place).is_some_and(|before| before.hash == live.hash && before.age == live.age)
        };
        let new = self.live.iter().filter(|(place, live)| !same(*place, live));
        let new = new.map(|((kind, _), live)| kinds[*kind].apply(live.object.clone()));
        gone.chain(new).collect()
    }

    /// Everything that is wrong with the folder, by file and line.
    pub(super) fn problems(&self) -> Vec<Problem> {
        let slots = self.files.values().flat_map(|file| &file.slots);
        let of = |slot: &'_ Slot| {
            let fresh = slot.entries.iter().filter(|entry| !entry.carried);
            slot.problem.iter().chain(fresh.flat_map(|entry| &entry.warnings)).cloned().collect::<Vec<_>>()
        };
        let mut problems: Vec<_> = slots.flat_map(of).chain(self.duplicates.iter().cloned()).collect();
        problems.sort_by(|one, other| one.location.cmp(&other.location).then_with(|| one.cmp(other)));
        problems
    }

    /// Where each object stands.
    pub(super) fn locations(&self) -> HashMap<ObjectRef, Location> {
        let kinds = self.plan.kinds();
        let of = |((kind, key), live): (&(usize, ObjectKey), &Live)| {
            (ObjectRef::new(kinds[*kind].names().kind.as_str(), key.clone()), live.location.clone())
        };
        self.live.iter().map(of).collect()
    }

    /// How many objects of each kind there are.
    pub(super) fn counts(&self) -> Vec<(String, usize)> {
        let count = |number| self.live.keys().filter(|(kind, _)| *kind == number).count();
        self.plan.kinds().iter().enumerate().map(|(number, kind)| (kind.names().resource(), count(number))).collect()
    }
}

/// Gives broken documents what their file said before.
fn keep_last_good(mut slots: Vec<Slot>, old: Vec<Slot>) -> Vec<Slot> {
    let fresh: HashSet<ObjectRef> =
        slots.iter().flat_map(|slot| &slot.entries).map(|entry| entry.reference.clone()).collect();
    let mut old: Vec<Entry> = old.into_iter().flat_map(|slot| slot.entries).collect();
    old.retain(|entry| !fresh.contains(&entry.reference));
    for entry in &mut old {
        entry.carried = true;
    }
    for slot in &mut slots {
        if let Keeps::Object(reference) = &slot.keeps {
            slot.entries.extend(old.extract_if(.., |entry| entry.reference == *reference));
        }
    }
    if let Some(slot) = slots.iter_mut().find(|slot| slot.keeps == Keeps::Everything) {
        slot.entries.append(&mut old);
    }
    slots
}

fn duplicate(object: ObjectRef, first: &Location, second: Location) -> Problem {
    let cause = format!("stands in {first} and again in {second}; the first is in force");
    Problem::new(object, DUPLICATE_OBJECT, cause).remedy("remove one of the two").in_file(second)
}
