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
        let check = |before: &[Option<f64>], expected: &[f64]| {
            let time = |seconds: f64| Timestamp::from_nanosecond((seconds * 1e9) as i128).unwrap();
            let before: Vec<_> = before.iter().map(|seconds| seconds.map(time)).collect();
            let expected: Vec<_> = expected.iter().copied().map(time).collect();
            assert_eq!(assign(&before), expected, "{before:?}");
        };
        check(&[None, None, None], &[1., 2., 3.]);
        check(&[Some(1.), None, Some(2.), None], &[1., 1.5, 2., 3.]);
        check(&[None, Some(1.), Some(2.)], &[0.5, 1., 2.]);
        check(&[Some(2.), Some(3.)], &[2., 3.]);
        check(&[Some(3.), Some(1.), Some(2.)], &[3., 4., 5.]);
        check(&[None, Some(1e-9)], &[1., 2.]);
    }
}
