//! What the entries of pools said last, so that a slip of the pen takes no address away.

use std::collections::{BTreeMap, BTreeSet};

use landfall_model::ObjectKey;

use crate::address::{Entry, EntryError};

/// What each pool's entries meant when they could last be read.
#[derive(Clone, Debug, Default)]
pub struct Memory {
    pools: BTreeMap<ObjectKey, Vec<Remembered>>,
}

/// One entry: the text that stands there now, and what it means.
#[derive(Clone, Debug)]
struct Remembered {
    text: String,
    entry: Option<Entry>,
}

/// An entry of a pool's list as it is to be taken.
#[derive(Clone, Debug)]
pub(crate) enum Recalled {
    /// It can be read.
    Read(Entry),
    /// It can't, and means what it meant before.
    Kept(Entry, EntryError),
    /// It can't, and nothing is known of an earlier meaning.
    Lost(EntryError),
}

impl Memory {
    /// Whether there is an entry that can't be read and of which nothing is known.
    pub fn has_gaps(&self) -> bool {
        self.pools.values().flatten().any(|r| r.entry.is_none())
    }

    /// Forgets pools that aren't there any more.
    pub(crate) fn retain(&mut self, keys: &BTreeSet<ObjectKey>) {
        self.pools.retain(|key, _| keys.contains(key));
    }

    /// Reads the entries of a pool, and remembers them.
    ///
    /// An entry that can't be read stands for the one that stood in its place, or else for one that is missing now.
    pub(crate) fn recall(&mut self, key: &ObjectKey, addresses: &[String]) -> Vec<Recalled> {
        let before = self.pools.remove(key).unwrap_or_default();
        let mut spare: Vec<bool> = before.iter().map(|r| r.entry.is_some() && !addresses.contains(&r.text)).collect();
        let mut recalled: Vec<Recalled> = Vec::new();
        for (index, text) in addresses.iter().enumerate() {
            recalled.push(match Entry::parse(text) {
                Ok(entry) => Recalled::Read(entry),
                Err(error) => {
                    let same = before.iter().find(|r| r.text == *text && r.entry.is_some()).and_then(|r| r.entry);
                    let in_place = before.get(index).filter(|_| spare.get(index) == Some(&true)).and_then(|r| r.entry);
                    match same.or(in_place) {
                        Some(entry) => {
                            if same.is_none() {
                                spare[index] = false;
                            }
                            Recalled::Kept(entry, error)
                        }
                        None => Recalled::Lost(error),
                    }
                }
            });
        }
        for one in &mut recalled {
            let Recalled::Lost(error) = one else { continue };
            let Some(index) = spare.iter().position(|free| *free) else { break };
            spare[index] = false;
            if let Some(entry) = before[index].entry {
                *one = Recalled::Kept(entry, error.clone());
            }
        }
        let meaning = |one: &Recalled| match one {
            Recalled::Read(entry) | Recalled::Kept(entry, _) => Some(*entry),
            Recalled::Lost(_) => None,
        };
        let now = addresses.iter().zip(&recalled);
        let now = now.map(|(text, one)| Remembered { text: text.clone(), entry: meaning(one) }).collect();
        self.pools.insert(key.clone(), now);
        recalled
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// What the entries of the last list mean, after the lists before it.
    fn check(lists: &[&[&str]], expected: &[&str]) {
        let mut memory = Memory::default();
        let key = ObjectKey::new("metallb-system", "lan");
        let mut found = Vec::new();
        for list in lists {
            let list: Vec<String> = list.iter().map(|&text| text.to_owned()).collect();
            let recalled = memory.recall(&key, &list);
            found = recalled
                .iter()
                .map(|one| match one {
                    Recalled::Read(entry) => entry.span.to_string(),
                    Recalled::Kept(entry, _) => format!("kept {}", entry.span),
                    Recalled::Lost(_) => "lost".to_owned(),
                })
                .collect();
        }
        assert_eq!(found, expected, "{lists:?}");
    }

    #[test]
    fn an_entry_that_cannot_be_read_means_what_it_meant() {
        check(&[&["10.0.0.1-10.0.0.9"], &["10.0.0.1-10.0.0.0"]], &["kept 10.0.0.1-10.0.0.9"]);
        check(&[&["10.0.0.1", "10.0.0.2"], &["10.0.0.1", "10.0.0.256"]], &["10.0.0.1", "kept 10.0.0.2"]);
        check(&[&["10.0.0.1-10.0.0.0"]], &["lost"]);
    }

    #[test]
    fn it_goes_on_doing_so_through_further_edits() {
        check(&[&["10.0.0.1"], &["10.0.0.x"], &["10.0.0.y"], &["10.0.0.y"]], &["kept 10.0.0.1"]);
        check(&[&["10.0.0.1"], &["10.0.0.x"], &["10.0.9.9", "10.0.0.x"]], &["10.0.9.9", "kept 10.0.0.1"]);
        check(&[&["10.0.0.1"], &["10.0.0.x"], &["10.0.0.5"]], &["10.0.0.5"]);
    }

    #[test]
    fn an_entry_that_is_still_there_is_nobody_elses() {
        check(&[&["10.0.0.1", "10.0.0.2"], &["10.0.0.2", "10.0.0.x"]], &["10.0.0.2", "kept 10.0.0.1"]);
        check(&[&["10.0.0.1"], &["10.0.0.1", "10.0.0.x"]], &["10.0.0.1", "lost"]);
    }
}
