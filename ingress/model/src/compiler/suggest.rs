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
    found.dedup();
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_suggested_once_and_only_if_they_are_near() {
        let names = ["web", "web", "api", "wbe-backend", "weeb"];
        assert_eq!(nearest("wbe", names.into_iter()), ["web"]);
        assert_eq!(nearest("webs", names.into_iter()), ["web"]);
        assert_eq!(nearest("checkout", names.into_iter()), <[&str; 0]>::default());
        assert_eq!(nearest("", names.into_iter()), <[&str; 0]>::default());
    }

    #[test]
    fn alternatives_read_as_a_sentence() {
        assert_eq!(alternatives(&["a", "b", "c"], ""), "\"a\", \"b\" or \"c\"");
        assert_eq!(alternatives(&["a"], ""), "\"a\"");
        assert_eq!(alternatives(&[] as &[&str], "none"), "none");
    }
}
