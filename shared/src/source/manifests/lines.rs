//! On which line of a document a value stands.
//!
//! Looked up only when there is a Problem to report: a document without one is never read with positions.

use std::fmt;

use serde::de::{Deserialize, Deserializer, IgnoredAny, MapAccess, SeqAccess, Visitor};
use serde_saphyr::Spanned;

use crate::source::strict::{Path, Step};

/// Line within `text`, counted from 1, of the value at `path`, or of the nearest value around it.
pub(super) fn find(text: &str, path: &Path) -> Option<usize> {
    let mut node: Spanned<Tree> = serde_saphyr::from_str(text).ok()?;
    let mut line = node.referenced.line();
    for step in &path.0 {
        let next = match (node.value, step) {
            (Tree::Map(entries), Step::Field(name) | Step::Key(name)) => entries
                .into_iter()
                .find(|(key, _)| key.value == *name)
                .map(|(key, value)| (key.referenced.line(), value)),
            (Tree::List(items), Step::Index(index)) => {
                items.into_iter().nth(*index).map(|item| (item.referenced.line(), item))
            }
            _ => None,
        };
        let Some((at, value)) = next else { break };
        (line, node) = (at, value);
    }
    usize::try_from(line).ok().filter(|line| *line > 0)
}

enum Tree {
    Scalar,
    List(Vec<Spanned<Tree>>),
    Map(Vec<(Spanned<String>, Spanned<Tree>)>),
}

impl<'de> Deserialize<'de> for Tree {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_any(TreeVisitor)
    }
}

struct TreeVisitor;

impl<'de> Visitor<'de> for TreeVisitor {
    type Value = Tree;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("any value")
    }

    fn visit_bool<E>(self, _: bool) -> Result<Tree, E> {
        Ok(Tree::Scalar)
    }

    fn visit_i64<E>(self, _: i64) -> Result<Tree, E> {
        Ok(Tree::Scalar)
    }

    fn visit_u64<E>(self, _: u64) -> Result<Tree, E> {
        Ok(Tree::Scalar)
    }

    fn visit_i128<E>(self, _: i128) -> Result<Tree, E> {
        Ok(Tree::Scalar)
    }

    fn visit_u128<E>(self, _: u128) -> Result<Tree, E> {
        Ok(Tree::Scalar)
    }

    fn visit_f64<E>(self, _: f64) -> Result<Tree, E> {
        Ok(Tree::Scalar)
    }

    fn visit_str<E>(self, _: &str) -> Result<Tree, E> {
        Ok(Tree::Scalar)
    }

    fn visit_bytes<E>(self, _: &[u8]) -> Result<Tree, E> {
        Ok(Tree::Scalar)
    }

    fn visit_unit<E>(self) -> Result<Tree, E> {
        Ok(Tree::Scalar)
    }

    fn visit_none<E>(self) -> Result<Tree, E> {
        Ok(Tree::Scalar)
    }

    fn visit_some<D: Deserializer<'de>>(self, deserializer: D) -> Result<Tree, D::Error> {
        IgnoredAny::deserialize(deserializer).map(|_| Tree::Scalar)
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut sequence: A) -> Result<Tree, A::Error> {
        let mut items = Vec::new();
        while let Some(item) = sequence.next_element()? {
            items.push(item);
        }
        Ok(Tree::List(items))
    }

    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Tree, A::Error> {
        let mut entries = Vec::new();
        while let Some(entry) = map.next_entry()? {
            entries.push(entry);
        }
        Ok(Tree::Map(entries))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_value_is_found_on_the_line_of_its_key() {
        let text =
            "\nkind: Ingress\nspec:\n  rules:\n  - host: a\n    http:\n      paths: [{path: /},\n        {path: 7}]\n";
        let field = |name: &str| Step::Field(name.to_owned());
        let check = |path: Vec<Step>, expected| assert_eq!(find(text, &Path(path.clone())), Some(expected), "{path:?}");
        check(vec![], 2);
        check(vec![field("spec")], 3);
        check(vec![field("spec"), field("rules"), Step::Index(0)], 5);
        check(
            vec![
                field("spec"),
                field("rules"),
                Step::Index(0),
                field("http"),
                field("paths"),
                Step::Index(1),
                field("path"),
            ],
            8,
        );
        check(vec![field("spec"), field("absent")], 3);
    }
}
