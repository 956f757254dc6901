//! What a look at a cluster found: what is as it should be, what is wrong, and what can't be told.

use std::fmt;

use serde::ser::SerializeMap;
use serde::{Serialize, Serializer};

use crate::{Problem, Severity};

/// The page that explains topics and reasons; each has an anchor there.
pub const PAGE: &str = "docs/troubleshooting.md";

/// The place in the documentation that explains a topic or a reason code.
pub fn anchor(word: &str) -> String {
    format!("{PAGE}#{}", word.to_ascii_lowercase())
}

/// One line of a check.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Finding {
    /// Something is as it should be.
    Good {
        /// The topic: a word with an anchor in the documentation.
        topic: &'static str,
        /// What was looked at, and what it is.
        says: String,
    },
    /// Something could not be looked at.
    Unknown {
        /// The topic: a word with an anchor in the documentation.
        topic: &'static str,
        /// What could not be looked at, and why.
        says: String,
    },
    /// Something is wrong.
    Bad {
        /// The topic: a word with an anchor in the documentation.
        topic: &'static str,
        /// What is wrong, with which object, and what to do.
        problem: Problem,
    },
}

/// The lines of a check, in the order in which they were found.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub struct Findings(Vec<Finding>);

impl Findings {
    /// Nothing was looked at yet.
    pub fn new() -> Self {
        Self::default()
    }

    /// Adds that something is as it should be.
    pub fn good(&mut self, topic: &'static str, says: impl Into<String>) {
        self.0.push(Finding::Good { topic, says: says.into() });
    }

    /// Adds that something could not be looked at.
    pub fn unknown(&mut self, topic: &'static str, says: impl Into<String>) {
        self.0.push(Finding::Unknown { topic, says: says.into() });
    }

    /// Adds a problem, unless it is there already.
    pub fn bad(&mut self, topic: &'static str, problem: Problem) {
        if !self.problems().any(|known| *known == problem) {
            self.0.push(Finding::Bad { topic, problem });
        }
    }

    /// Adds the problems; where there are none, that all is as it should be.
    pub fn all(&mut self, topic: &'static str, problems: impl IntoIterator<Item = Problem>, good: impl Into<String>) {
        let mut problems = problems.into_iter().peekable();
        if problems.peek().is_none() {
            return self.good(topic, good);
        }
        problems.for_each(|problem| self.bad(topic, problem));
    }

    /// Adds all of `other`.
    pub fn extend(&mut self, other: Self) {
        self.0.extend(other.0);
    }

    /// The lines.
    pub fn iter(&self) -> impl Iterator<Item = &Finding> {
        self.0.iter()
    }

    /// What is wrong.
    pub fn problems(&self) -> impl Iterator<Item = &Problem> {
        self.0.iter().filter_map(|finding| match finding {
            Finding::Bad { problem, .. } => Some(problem),
            _ => None,
        })
    }

    /// Whether something does not work.
    pub fn fails(&self) -> bool {
        self.problems().any(|problem| problem.severity == Severity::Error)
    }
}

impl Finding {
    /// The topic.
    pub fn topic(&self) -> &'static str {
        match self {
            Self::Good { topic, .. } | Self::Unknown { topic, .. } | Self::Bad { topic, .. } => topic,
        }
    }

    /// The word whose anchor explains the line: the reason code of a problem, else the topic.
    pub fn word(&self) -> &'static str {
        match self {
            Self::Bad { problem, .. } => problem.reason.as_str(),
            Self::Good { topic, .. } | Self::Unknown { topic, .. } => topic,
        }
    }
}

impl fmt::Display for Finding {
    /// `✓ what is well [topic]`, `✗ what is wrong [Reason]`, `! what is worth a look [Reason]`, `? what is not known`.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Good { says, .. } => write!(f, "✓ {says}")?,
            Self::Unknown { says, .. } => write!(f, "? {says}")?,
            Self::Bad { problem, .. } => {
                let sign = if problem.severity == Severity::Error { '✗' } else { '!' };
                write!(f, "{sign} {problem}")?;
            }
        }
        write!(f, " [{}]", self.word())
    }
}

impl fmt::Display for Findings {
    /// One line each, what is well first, and where the words in brackets are explained.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let rank = |finding: &&Finding| match finding {
            Finding::Good { .. } => 0,
            Finding::Unknown { .. } => 1,
            Finding::Bad { problem, .. } if problem.severity == Severity::Warning => 2,
            Finding::Bad { .. } => 3,
        };
        let mut lines: Vec<&Finding> = self.0.iter().collect();
        lines.sort_by_key(rank);
        for line in &lines {
            writeln!(f, "{line}")?;
        }
        let (errors, warnings) = self.problems().fold((0, 0), |(errors, warnings), problem| match problem.severity {
            Severity::Error => (errors + 1, warnings),
            Severity::Warning => (errors, warnings + 1),
        });
        writeln!(f, "{errors} to mend, {warnings} to know; words in brackets are explained under {PAGE}#WORD")
    }
}

impl Serialize for Finding {
    /// `{"topic","result":"good"|"unknown"|"warning"|"error","says","anchor"}`.
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let (result, says) = match self {
            Self::Good { says, .. } => ("good", says.clone()),
            Self::Unknown { says, .. } => ("unknown", says.clone()),
            Self::Bad { problem, .. } if problem.severity == Severity::Warning => ("warning", problem.message()),
            Self::Bad { problem, .. } => ("error", problem.message()),
        };
        let mut map = serializer.serialize_map(Some(4))?;
        map.serialize_entry("topic", self.topic())?;
        map.serialize_entry("result", result)?;
        map.serialize_entry("says", &says)?;
        map.serialize_entry("anchor", &anchor(self.word()))?;
        map.end()
    }
}

impl Serialize for Findings {
    /// `{"checks":[every line],"problems":[what is wrong, as everywhere]}`.
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let mut map = serializer.serialize_map(Some(2))?;
        map.serialize_entry("checks", &self.0)?;
        map.serialize_entry("problems", &self.problems().collect::<Vec<_>>())?;
        map.end()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{ObjectKey, ObjectRef, Reason};

    #[test]
    fn lines_say_how_it_stands_and_where_that_is_explained() {
        let mut findings = Findings::new();
        let about = || ObjectRef::new("Node", ObjectKey::cluster("n1"));
        let wrong = Problem::new(about(), Reason::new("NotRunning"), "is down").remedy("start it");
        findings.bad("nodes", wrong.clone());
        findings.bad("nodes", wrong);
        findings.bad("nodes", Problem::new(about(), Reason::new("Odd"), "is odd").warning());
        findings.unknown("dns", "no name was looked up");
        findings.good("kubernetes", "Kubernetes 1.33");
        assert_eq!(
            findings.to_string(),
            "✓ Kubernetes 1.33 [kubernetes]\n? no name was looked up [dns]\n! node n1: is odd [Odd]\n\
             ✗ node n1: is down; start it [NotRunning]\n\
             1 to mend, 1 to know; words in brackets are explained under docs/troubleshooting.md#WORD\n"
        );
        assert!(findings.fails());
        let json = serde_json::to_value(&findings).expect("findings are plain data");
        assert_eq!(json["checks"][0]["anchor"], "docs/troubleshooting.md#notrunning");
        assert_eq!(json["problems"].as_array().map(Vec::len), Some(2));
    }

    #[test]
    fn no_problem_is_a_good_sign() {
        let mut findings = Findings::new();
        findings.all("nodes", [], "3 nodes");
        assert!(!findings.fails());
        assert_eq!(findings.iter().next().map(ToString::to_string), Some("✓ 3 nodes [nodes]".to_owned()));
    }
}
