//! Creation times for objects whose manifest gives none: the order of files and documents decides age.

use jiff::Timestamp;

const SECOND: i128 = 1_000_000_000;

/// Gives each of a sequence of objects a creation time, each later than the one before.
///
/// At first these are whole seconds after the Unix epoch: 1, 2, 3, … On later looks an object keeps what it had, as
/// long as the order allows, and a new one gets a time between its neighbours: adding a file at the front must not
/// make every other object a changed one.
pub(super) fn assign(before: &[Option<Timestamp>]) -> Vec<Timestamp> {
    let known: Vec<Option<i128>> = before.iter().map(|time| time.map(Timestamp::as_nanosecond)).collect();
    between(&known)
        .unwrap_or_else(|| (1..).take(known.len()).map(|number: i128| number * SECOND).collect())
        .into_iter()
        .map(|time| Timestamp::from_nanosecond(time).unwrap_or(Timestamp::MAX))
        .collect()
}

/// Keeps what is in order and fills the rest in; `None` when there is no room left between two.
fn between(known: &[Option<i128>]) -> Option<Vec<i128>> {
    let mut given = Vec::with_capacity(known.len());
    let mut last = 0;
    for (place, own) in known.iter().enumerate() {
        let time = match own {
            Some(own) if *own > last => *own,
            _ => match known[place..].iter().flatten().find(|next| **next > last) {
                Some(next) => {
                    let middle = last + (next - last) / 2;
                    (middle > last).then_some(middle)?
                }
                None => (last / SECOND + 1) * SECOND,
            },
        };
        given.push(time);
        last = time;
    }
    Some(given)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ages_follow_the_order_and_stay_where_they_can() {
        let check = |before: &[Option<i64>], expected: &[i64]| {
            let time = |milliseconds: i64| Timestamp::from_millisecond(milliseconds).unwrap();
            let before: Vec<_> = before.iter().map(|milliseconds| milliseconds.map(time)).collect();
            let expected: Vec<_> = expected.iter().copied().map(time).collect();
            assert_eq!(assign(&before), expected, "{before:?}");
        };
        check(&[None, None, None], &[1000, 2000, 3000]);
        check(&[Some(1000), None, Some(2000), None], &[1000, 1500, 2000, 3000]);
        check(&[None, Some(1000), Some(2000)], &[500, 1000, 2000]);
        check(&[Some(2000), Some(3000)], &[2000, 3000]);
        check(&[Some(3000), Some(1000), Some(2000)], &[3000, 4000, 5000]);
    }

    #[test]
    fn everything_is_dated_anew_where_no_room_is_left() {
        let tight = [None, Some(Timestamp::from_nanosecond(1).unwrap())];
        assert_eq!(assign(&tight), [1, 2].map(|second| Timestamp::from_second(second).unwrap()));
    }
}
