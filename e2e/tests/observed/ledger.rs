//! The cases that are not met yet.

use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::path::PathBuf;

use anyhow::{Context, Result};
use landfall_e2e::tools;

use crate::play::Outcome;

/// What the file begins with.
const HEAD: &str = "# Cases that are not answered as ingress-nginx does, each with the first difference.\n\
                    # LANDFALL_OBSERVED=update writes this file. A `?` after the id: sometimes met.\n";

/// The ids in `unmet.txt`; the value: whether it is only sometimes unmet.
#[derive(Debug, Default)]
pub(crate) struct Ledger(BTreeMap<String, bool>);

impl Ledger {
    pub(crate) fn read() -> Result<Self> {
        let path = path();
        let text = std::fs::read_to_string(&path).with_context(|| path.display().to_string())?;
        Ok(Self::parse(&text))
    }

    fn parse(text: &str) -> Self {
        let ids = text.lines().filter_map(|line| line.split('#').next()).map(str::trim).filter(|id| !id.is_empty());
        Self(ids.map(|id| (id.trim_end_matches('?').to_owned(), id.ends_with('?'))).collect())
    }

    /// Writes the file anew. What is only sometimes unmet stays.
    pub(crate) fn write(outcomes: &[Outcome]) -> Result<()> {
        let old = Self::read().unwrap_or(Self(BTreeMap::new()));
        let mut text = HEAD.to_owned();
        for outcome in outcomes {
            let (mark, difference) = match (&outcome.difference, old.0.get(&outcome.id)) {
                (difference, Some(true)) => ("?", difference.as_deref().unwrap_or("sometimes met")),
                (Some(difference), _) => ("", difference.as_str()),
                (None, _) => continue,
            };
            let _ = writeln!(text, "{}{mark} # {difference}", outcome.id);
        }
        let path = path();
        std::fs::write(&path, text).with_context(|| path.display().to_string())
    }

    /// What is not as the file says. When all were played, entries that name no case are complained of as well.
    pub(crate) fn complaints(&self, outcomes: &[Outcome], all: bool) -> Vec<String> {
        let mut complaints: Vec<String> = Vec::new();
        for Outcome { id, note, difference, .. } in outcomes {
            match (difference, self.0.get(id)) {
                (Some(difference), None) => complaints.push(format!("{id} ({note}): {difference}")),
                (None, Some(false)) => complaints.push(format!("{id} ({note}) is met: remove it from unmet.txt")),
                _ => {}
            }
        }
        let known = |id: &str| outcomes.iter().any(|outcome| outcome.id == id);
        let strangers = self.0.keys().filter(|id| all && !known(id));
        complaints.extend(strangers.map(|id| format!("{id}: there is no such case, remove it from unmet.txt")));
        complaints
    }
}

fn path() -> PathBuf {
    tools::checkout().join("e2e/tests/observed/unmet.txt")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn it_complains_both_ways() {
        let outcome = |id: &str, difference: Option<&str>| Outcome {
            id: id.to_owned(),
            family: "paths".to_owned(),
            note: "a note".to_owned(),
            difference: difference.map(str::to_owned),
        };
        let ledger = Ledger::parse("# head\na # differs\nb # differs\nc? # differs\nd\n");
        let outcomes = [
            outcome("a", Some("x")),
            outcome("b", None),
            outcome("c", None),
            outcome("e", Some("y")),
            outcome("f", None),
        ];
        assert_eq!(
            ledger.complaints(&outcomes, true),
            [
                "b (a note) is met: remove it from unmet.txt",
                "e (a note): y",
                "d: there is no such case, remove it from unmet.txt"
            ]
        );
        assert_eq!(ledger.complaints(&outcomes, false).len(), 2);
    }
}
