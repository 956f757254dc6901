//! A file as separate documents, so that a broken one doesn't take the others with it.

/// One document of a file.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(super) struct Part<'a> {
    pub(super) text: &'a str,
    /// Line of the file, counted from 1, on which the text begins.
    pub(super) line: usize,
}

/// Splits YAML at its document markers.
///
/// A line that begins with `---` and then has white space or ends is a marker wherever it stands, also within a
/// block scalar (YAML 1.2.2 §9.1.2), so lines are all there is to look at.
pub(super) fn yaml(text: &str) -> Vec<Part<'_>> {
    let text = text.strip_prefix('\u{feff}').unwrap_or(text);
    let mut parts = Vec::new();
    let (mut start, mut first, mut offset) = (0, 1, 0);
    for (number, line) in text.split_inclusive('\n').enumerate() {
        let marker =
            line.strip_prefix("---").is_some_and(|rest| rest.is_empty() || rest.starts_with(char::is_whitespace));
        let end = line.strip_prefix("...").is_some_and(|rest| rest.trim().is_empty());
        if marker || end {
            parts.push(Part { text: &text[start..offset], line: first });
            // What follows the marker on its line belongs to the document.
            start = offset + 3;
            first = number + 1;
        }
        offset += line.len();
    }
    parts.push(Part { text: &text[start..], line: first });
    parts.retain(|part| {
        part.text.lines().any(|line| !matches!(line.trim_start().chars().next(), None | Some('#' | '%')))
    });
    parts
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn documents_are_split_at_markers_and_keep_their_lines() {
        let check = |text: &str, expected: &[(&str, usize)]| {
            let found: Vec<_> = yaml(text).iter().map(|part| (part.text.trim(), part.line)).collect();
            assert_eq!(found, expected, "{text:?}");
        };
        check("", &[]);
        check("a: 1", &[("a: 1", 1)]);
        check("---\na: 1\n---\nb: 2\n", &[("a: 1", 1), ("b: 2", 3)]);
        check("---\n---\n# only a comment\n---\n\nb: 2", &[("b: 2", 4)]);
        check("a: |\n  ---\n  text\n--- # next\nb: 1", &[("a: |\n  ---\n  text", 1), ("# next\nb: 1", 4)]);
        check("a: 1\r\n---\r\nb: 2\r\n", &[("a: 1", 1), ("b: 2", 2)]);
        check("a: ---x\n---x: 1", &[("a: ---x\n---x: 1", 1)]);
        check("%YAML 1.2\n---\na: 1\n...\n---\nb: 1", &[("a: 1", 2), ("b: 1", 5)]);
        check("\u{feff}a: 1", &[("a: 1", 1)]);
    }
}
