//! Label queries, compiled once.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use crate::crd::LabelSelector;

/// An object's labels.
pub type Labels = BTreeMap<Arc<str>, Arc<str>>;

/// Takes over labels as Kubernetes objects carry them.
pub fn labels_of(labels: Option<&BTreeMap<String, String>>) -> Labels {
    labels.into_iter().flatten().map(|(k, v)| (Arc::from(k.as_str()), Arc::from(v.as_str()))).collect()
}

/// A label query that can be asked without failing.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Debug, Default)]
pub struct Selector {
    rules: Vec<Rule>,
}

#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Debug)]
enum Rule {
    In(Arc<str>, BTreeSet<Arc<str>>),
    NotIn(Arc<str>, BTreeSet<Arc<str>>),
    Exists(Arc<str>),
    DoesNotExist(Arc<str>),
}

/// Why a label query can't be evaluated.
#[derive(Clone, PartialEq, Eq, Debug, thiserror::Error)]
pub enum SelectorError {
    /// No such operator.
    #[error("{0:?} is not an operator; there are In, NotIn, Exists and DoesNotExist")]
    Operator(String),
    /// `In` and `NotIn` without values.
    #[error("the operator {0} needs at least one value")]
    NeedsValues(String),
    /// `Exists` and `DoesNotExist` with values.
    #[error("the operator {0} takes no values")]
    TakesNoValues(String),
    /// No key.
    #[error("the key is empty")]
    NoKey,
}

impl Selector {
    /// Reads a query.
    pub fn compile(query: &LabelSelector) -> Result<Self, SelectorError> {
        let mut rules = Vec::new();
        for (key, value) in &query.match_labels {
            rules.push(Rule::In(key.as_str().into(), BTreeSet::from([value.as_str().into()])));
        }
        for expression in &query.match_expressions {
            let key: Arc<str> = expression.key.as_str().into();
            let values: BTreeSet<Arc<str>> = expression.values.iter().map(|v| v.as_str().into()).collect();
            let operator = expression.operator.as_str();
            if key.is_empty() {
                return Err(SelectorError::NoKey);
            }
            rules.push(match (operator, values.is_empty()) {
                ("In", false) => Rule::In(key, values),
                ("NotIn", false) => Rule::NotIn(key, values),
                ("In" | "NotIn", true) => return Err(SelectorError::NeedsValues(operator.to_owned())),
                ("Exists", true) => Rule::Exists(key),
                ("DoesNotExist", true) => Rule::DoesNotExist(key),
                ("Exists" | "DoesNotExist", false) => return Err(SelectorError::TakesNoValues(operator.to_owned())),
                _ => return Err(SelectorError::Operator(operator.to_owned())),
            });
        }
        rules.sort();
        Ok(Self { rules })
    }

    /// Whether the labels satisfy the whole query; an empty one is satisfied by anything.
    pub fn matches(&self, labels: &Labels) -> bool {
        self.rules.iter().all(|rule| match rule {
            Rule::In(key, values) => labels.get(key).is_some_and(|v| values.contains(v)),
            Rule::NotIn(key, values) => labels.get(key).is_none_or(|v| !values.contains(v)),
            Rule::Exists(key) => labels.contains_key(key),
            Rule::DoesNotExist(key) => !labels.contains_key(key),
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check(query: &str, labels: &[(&str, &str)], expected: Result<bool, &str>) {
        let query: LabelSelector = serde_saphyr::from_str(query).unwrap();
        let labels: Labels = labels.iter().map(|(k, v)| (Arc::from(*k), Arc::from(*v))).collect();
        let found = Selector::compile(&query).map(|s| s.matches(&labels)).map_err(|e| e.to_string());
        assert_eq!(found, expected.map_err(str::to_owned));
    }

    #[test]
    fn queries_answer_as_kubernetes_does() {
        check("{}", &[], Ok(true));
        check("matchLabels: {a: b}", &[("a", "b"), ("c", "d")], Ok(true));
        check("matchLabels: {a: b}", &[("a", "c")], Ok(false));
        check("matchExpressions: [{key: a, operator: In, values: [b, c]}]", &[("a", "c")], Ok(true));
        check("matchExpressions: [{key: a, operator: In, values: [b, c]}]", &[], Ok(false));
        check("matchExpressions: [{key: a, operator: NotIn, values: [b]}]", &[], Ok(true));
        check("matchExpressions: [{key: a, operator: NotIn, values: [b]}]", &[("a", "b")], Ok(false));
        check("matchExpressions: [{key: a, operator: Exists}]", &[("a", "")], Ok(true));
        check("matchExpressions: [{key: a, operator: DoesNotExist}]", &[("a", "")], Ok(false));
    }

    #[test]
    fn queries_that_cannot_be_asked_say_why() {
        let one = |e: &str| format!("matchExpressions: [{e}]");
        check(
            &one("{key: a, operator: Is, values: [b]}"),
            &[],
            Err("\"Is\" is not an operator; there are In, NotIn, Exists and DoesNotExist"),
        );
        check(&one("{key: a, operator: In}"), &[], Err("the operator In needs at least one value"));
        check(&one("{key: a, operator: Exists, values: [b]}"), &[], Err("the operator Exists takes no values"));
        check(&one("{key: '', operator: Exists}"), &[], Err("the key is empty"));
    }
}
