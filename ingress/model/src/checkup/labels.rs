//! Labels and what selects by them.

use std::collections::BTreeMap;

use k8s_openapi::apimachinery::pkg::apis::meta::v1::{LabelSelector, ObjectMeta};

/// Whether the object has all of these labels.
pub(super) fn has_all(meta: &ObjectMeta, wanted: &BTreeMap<String, String>) -> bool {
    wanted.iter().all(|(name, value)| label(meta, name) == Some(value))
}

/// Whether the selector selects the object; an empty one selects everything.
pub(super) fn selects(selector: &LabelSelector, meta: &ObjectMeta) -> bool {
    let expressions = selector.match_expressions.iter().flatten().all(|expression| {
        let found = label(meta, &expression.key);
        let among = || expression.values.iter().flatten().any(|value| found == Some(value.as_str()));
        match expression.operator.as_str() {
            "In" => among(),
            "NotIn" => !among(),
            "Exists" => found.is_some(),
            "DoesNotExist" => found.is_none(),
            _ => false,
        }
    });
    expressions && selector.match_labels.as_ref().is_none_or(|wanted| has_all(meta, wanted))
}

/// `app=web,tier=front`.
pub(super) fn text(labels: &BTreeMap<String, String>) -> String {
    labels.iter().map(|(name, value)| format!("{name}={value}")).collect::<Vec<_>>().join(",")
}

fn label<'a>(meta: &'a ObjectMeta, name: &str) -> Option<&'a str> {
    meta.labels.as_ref()?.get(name).map(String::as_str)
}
