//! "Did you mean": the names nearest to one that does not exist.

/// Looking through more names than this for one message is not worth it.
const LOOK_AT: usize = 200;

/// The names that `wrong` may have been meant to be, nearest first, three at most.
pub(crate) fn nearest<'a>(wrong: &str, names: impl Iterator<Item = &'a str>) -> Vec<&'a str> {
    let allowed = (wrong.len() / 3).clamp(1, 3);
    let mut found: Vec<(usize, &str)> = names
        .take(LOOK_AT)
        .map(|name| (strsim::damerau_levenshtein(wrong, name), name))
        .filter(|(distance, _)| *distance <= allowed)
        .collect();
    found.sort_unstable();
    found.into_iter().take(3).map(|(_, name)| name).collect()
}

/// `"a", "b" or "c"`, or `otherwise` for an empty list.
pub(crate) fn alternatives(names: &[impl AsRef<str>], otherwise: &str) -> String {
    match names {
        [] => otherwise.to_owned(),
        [name] => format!("{:?}", name.as_ref()),
        [first @ .., last] => {
            let first: Vec<String> = first.iter().map(|name| format!("{:?}", name.as_ref())).collect();
            format!("{} or {:?}", first.join(", "), last.as_ref())
        }
    }
}
