//! A set of addresses as coalesced runs, so that the next free address is found without walking.

use std::collections::BTreeMap;
use std::net::IpAddr;

use crate::address::{Family, Span, number};

/// The addresses that can't be given; each operation costs O(log n) in the number of runs.
#[derive(Clone, Debug, Default)]
pub(crate) struct Blocked {
    v4: BTreeMap<u128, u128>,
    v6: BTreeMap<u128, u128>,
}

impl Blocked {
    /// Adds one address.
    pub(crate) fn insert(&mut self, ip: IpAddr) {
        let runs = self.runs_mut(Family::of(ip));
        let (mut first, mut last) = (number(ip), number(ip));
        if let Some((&start, &end)) = runs.range(..=first).next_back() {
            if end >= last {
                return;
            }
            if end.checked_add(1) == Some(first) {
                first = start;
            }
        }
        if let Some(next) = last.checked_add(1)
            && let Some(end) = runs.remove(&next)
        {
            last = end;
        }
        runs.insert(first, last);
    }

    /// The lowest address of `span` at or after `from` that isn't in the set.
    pub(crate) fn next_free(&self, span: Span, from: u128) -> Option<u128> {
        let mut at = from.max(span.first());
        if let Some((_, &end)) = self.runs(span.family()).range(..=at).next_back()
            && end >= at
        {
            at = end.checked_add(1)?;
        }
        (at <= span.last()).then_some(at)
    }

    fn runs(&self, family: Family) -> &BTreeMap<u128, u128> {
        match family {
            Family::V4 => &self.v4,
            Family::V6 => &self.v6,
        }
    }

    fn runs_mut(&mut self, family: Family) -> &mut BTreeMap<u128, u128> {
        match family {
            Family::V4 => &mut self.v4,
            Family::V6 => &mut self.v6,
        }
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use proptest::prelude::*;

    use super::*;

    proptest! {
        #[test]
        fn it_answers_as_a_plain_set_does(added in proptest::collection::vec(0u8..40, 0..60), from in 0u8..40) {
            let mut blocked = Blocked::default();
            let mut plain = BTreeSet::new();
            for ip in added {
                blocked.insert(IpAddr::from([10, 0, 0, ip]));
                plain.insert(ip);
            }
            let base = number(IpAddr::from([10, 0, 0, 0]));
            let span = Span::new(Family::V4, base + 5, base + 30).unwrap();
            let expected = (from.max(5)..=30).find(|ip| !plain.contains(ip)).map(|ip| base + u128::from(ip));
            prop_assert_eq!(blocked.next_free(span, base + u128::from(from)), expected);
        }
    }
}
