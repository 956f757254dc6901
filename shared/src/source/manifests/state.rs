//! What a folder says now, and what that changes.
//!
//! Objects are not kept: once the consumer has one, the folder is where it can be read again.

use std::collections::btree_map;
use std::collections::{BTreeMap, HashMap, HashSet};
use std::sync::Arc;

use jiff::Timestamp;
use landfall_model::{Location, ObjectRef, Problem};

use super::ages;
use super::document::{DUPLICATE_OBJECT, Entry, Keeps, Reader, Slot};
use super::folder::{Found, Scan, Signature};
use super::held::{Held, Id, Locations};
use crate::source::kind::Kind;
use crate::source::{Erased, Plan};

pub(super) struct State<C> {
    plan: Plan<C>,
    files: BTreeMap<Arc<str>, File>,
    signatures: HashMap<Arc<str>, Signature>,
    /// What the consumer has.
    held: Arc<Locations>,
    duplicates: Vec<Problem>,
    started: bool,
    is_behind: bool,
}

#[derive(Debug, Default)]
struct File {
    entries: Box<[Entry]>,
    problems: Box<[Problem]>,
    /// The file was found empty once; many editors empty a file before they write it.
    emptied: bool,
}

/// What a look at the folder comes to.
struct Outcome {
    held: Locations,
    duplicates: Vec<Problem>,
    /// Objects that the consumer does not have like this.
    new: Vec<(Id, Erased)>,
    /// Files with objects that would be new, too, and were not kept.
    unread: HashSet<Arc<str>>,
}

impl<C: Send + 'static> State<C> {
    pub(super) fn new(plan: Plan<C>) -> Self {
        let kinds = plan.kinds().iter().map(|kind| kind.names().kind.as_str().into()).collect();
        Self {
            plan,
            files: BTreeMap::new(),
            signatures: HashMap::new(),
            held: Arc::new(Locations::new(kinds)),
            duplicates: Vec::new(),
            started: false,
            is_behind: false,
        }
    }

    /// The files that need not be read again unless their signature changes.
    pub(super) fn signatures(&self) -> &HashMap<Arc<str>, Signature> {
        &self.signatures
    }

    /// Whether a file has to be read again before the consumer has all that the folder says.
    pub(super) fn is_behind(&self) -> bool {
        self.is_behind
    }

    /// Takes a look at the folder in; returns what it changes for the consumer, or `None` if no file was touched.
    pub(super) fn update(&mut self, scan: Scan) -> Option<Vec<C>> {
        self.is_behind = false;
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
        let outcome = self.compose();
        self.is_behind = !outcome.unread.is_empty();
        self.signatures.retain(|path, _| !outcome.unread.contains(path));
        self.duplicates = outcome.duplicates;
        Some(self.emit(outcome.held, outcome.new))
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
                let old = self.files.get_mut(&path).filter(|file| !file.entries.is_empty());
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
        let old = std::mem::take(&mut file.entries).into_vec();
        let (mut entries, mut problems) = (Vec::new(), Vec::new());
        for mut slot in keep_last_good(slots, old) {
            entries.append(&mut slot.entries);
            problems.append(&mut slot.problems);
        }
        *file = File { entries: entries.into(), problems: problems.into(), emptied: false };
        true
    }

    /// What the folder says as a whole: the first of each object, and Problems for the others.
    fn compose(&mut self) -> Outcome {
        let replaced = self.replaced();
        let kinds = self.plan.kinds();
        let (mut held, mut duplicates) = (BTreeMap::new(), Vec::new());
        let mut chosen: Vec<(&Arc<str>, &mut Entry)> = Vec::new();
        for (file, content) in &mut self.files {
            for entry in content.entries.iter_mut().filter(|entry| !(entry.carried && replaced.contains(&entry.id))) {
                let location = Location { file: file.clone(), line: entry.line };
                match held.entry(entry.id.clone()) {
                    btree_map::Entry::Occupied(first) => {
                        let first: &Held = first.get();
                        duplicates.push(duplicate(self.held.reference(&entry.id), &first.location, location));
                    }
                    btree_map::Entry::Vacant(place) => {
                        place.insert(Held { hash: entry.hash, age: None, location });
                        chosen.push((file, entry));
                    }
                }
            }
        }
        let undated = chosen.iter().filter(|(_, entry)| !entry.dated);
        let ages: Vec<_> = undated.map(|(_, entry)| self.held.held(&entry.id).and_then(|held| held.age)).collect();
        let mut ages = ages::assign(&ages).into_iter();
        let (mut new, mut unread) = (Vec::new(), HashSet::new());
        for (file, entry) in chosen {
            let age = if entry.dated { None } else { ages.next() };
            let object = entry.object.take();
            let Some(now) = held.get_mut(&entry.id) else { continue };
            let old = self.held.held(&entry.id);
            now.age = age;
            match (object, old) {
                // The consumer has it already.
                (_, Some(old)) if old.hash == now.hash && old.age == age => {}
                (Some(object), _) => new.push((entry.id.clone(), dated(&*kinds[entry.id.kind], object, age))),
                // Until it is read again, if it can be, the consumer keeps what it has.
                (None, Some(old)) => {
                    now.clone_from(old);
                    unread.extend((!entry.carried).then(|| file.clone()));
                }
                (None, None) => {
                    held.remove(&entry.id);
                    unread.extend((!entry.carried).then(|| file.clone()));
                }
            }
        }
        Outcome { held: self.held.with(held), duplicates, new, unread }
    }

    /// The objects that a broken document had and another one gives now. Nothing to look for where nothing is broken.
    fn replaced(&self) -> HashSet<Id> {
        let entries = || self.files.values().flat_map(|file| &file.entries);
        if !entries().any(|entry| entry.carried) {
            return HashSet::new();
        }
        entries().filter(|entry| !entry.carried).map(|entry| entry.id.clone()).collect()
    }

    /// The changes from what the consumer has to `held`.
    fn emit(&mut self, held: Locations, mut new: Vec<(Id, Erased)>) -> Vec<C> {
        let before = std::mem::replace(&mut self.held, Arc::new(held));
        let kinds = self.plan.kinds();
        new.sort_unstable_by(|(one, _), (other, _)| one.cmp(other));
        if !std::mem::replace(&mut self.started, true) {
            let mut all = vec![Vec::new(); kinds.len()];
            for (id, object) in new {
                all[id.kind].push(object);
            }
            return kinds.iter().zip(all).map(|(kind, objects)| kind.replace(objects)).collect();
        }
        let gone = before.ids().filter(|id| self.held.held(id).is_none());
        let gone = gone.map(|id| kinds[id.kind].delete(id.key.clone()));
        gone.chain(new.into_iter().map(|(id, object)| kinds[id.kind].apply(object))).collect()
    }

    /// Everything that is wrong with the folder, by file and line.
    pub(super) fn problems(&self) -> Vec<Problem> {
        let files = self.files.values().flat_map(|file| &file.problems);
        let mut problems: Vec<_> = files.chain(&self.duplicates).cloned().collect();
        problems.sort_by(|one, other| one.location.cmp(&other.location).then_with(|| one.cmp(other)));
        problems
    }

    /// Where each object stands.
    pub(super) fn locations(&self) -> Arc<Locations> {
        self.held.clone()
    }

    /// How many objects of each kind there are.
    pub(super) fn counts(&self) -> Vec<(String, usize)> {
        let mut counts = vec![0; self.plan.kinds().len()];
        for id in self.held.ids() {
            counts[id.kind] += 1;
        }
        self.plan.kinds().iter().map(|kind| kind.names().resource()).zip(counts).collect()
    }
}

/// The object with the creation time that its manifest doesn't give.
fn dated<C>(kind: &dyn Kind<C>, object: Erased, age: Option<Timestamp>) -> Erased {
    match age {
        Some(age) => kind.created(object, age),
        None => object,
    }
}

/// Gives broken documents what their file said before.
fn keep_last_good(mut slots: Vec<Slot>, mut old: Vec<Entry>) -> Vec<Slot> {
    let fresh: HashSet<&Id> = slots.iter().flat_map(|slot| &slot.entries).map(|entry| &entry.id).collect();
    old.retain(|entry| !fresh.contains(&entry.id));
    for entry in &mut old {
        entry.carried = true;
    }
    for slot in &mut slots {
        if let Keeps::Object(id) = &slot.keeps {
            slot.entries.extend(old.extract_if(.., |entry| entry.id == *id));
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
