//! Sets that have one element most of the time.

/// A sorted list without spare room: thousands of these are held, nearly all of one element, and a tree would
/// take room for eleven in each.
#[derive(Clone, PartialEq, Debug)]
pub(crate) struct SmallSet<T>(Vec<T>);

impl<T> Default for SmallSet<T> {
    fn default() -> Self {
        Self(Vec::new())
    }
}

impl<T: Ord> SmallSet<T> {
    pub(crate) fn insert(&mut self, item: T) {
        if let Err(place) = self.0.binary_search(&item) {
            if self.0.len() < 4 {
                self.0.reserve_exact(1);
            }
            self.0.insert(place, item);
        }
    }

    pub(crate) fn remove(&mut self, item: &T) {
        if let Ok(place) = self.0.binary_search(item) {
            self.0.remove(place);
        }
    }

    pub(crate) fn contains(&self, item: &T) -> bool {
        self.0.binary_search(item).is_ok()
    }

    pub(crate) fn first(&self) -> Option<&T> {
        self.0.first()
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    pub(crate) fn iter(&self) -> std::slice::Iter<'_, T> {
        self.0.iter()
    }
}

impl<'a, T> IntoIterator for &'a SmallSet<T> {
    type Item = &'a T;
    type IntoIter = std::slice::Iter<'a, T>;

    fn into_iter(self) -> Self::IntoIter {
        self.0.iter()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn it_is_sorted_and_has_each_element_once() {
        let mut set = SmallSet::default();
        for item in [3, 1, 2, 3, 5, 1, 4, 0] {
            set.insert(item);
        }
        set.remove(&2);
        set.remove(&9);
        assert_eq!(set.iter().copied().collect::<Vec<_>>(), [0, 1, 3, 4, 5]);
        assert!(set.contains(&3) && !set.contains(&2) && !set.is_empty());
    }
}
