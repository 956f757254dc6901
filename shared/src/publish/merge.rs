//! JSON merge patches (RFC 7396).

use serde_json::Value;

/// Whether applying `patch` to `observed` would leave it as it is.
pub(super) fn changes_nothing(patch: &Value, observed: &Value) -> bool {
    match (patch, observed) {
        (Value::Object(patch), Value::Object(observed)) => patch.iter().all(|(name, patch)| match observed.get(name) {
            Some(observed) => changes_nothing(patch, observed),
            None => is_nothing(patch),
        }),
        (patch, observed) => patch == observed,
    }
}

/// Whether a patch of an absent field asks for nothing that an API server would store: null, or an object of that.
fn is_nothing(patch: &Value) -> bool {
    match patch {
        Value::Null => true,
        Value::Object(fields) => fields.values().all(is_nothing),
        _ => false,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn a_patch_that_is_already_there_changes_nothing() {
        let check = |patch: Value, observed: Value, expected| {
            assert_eq!(changes_nothing(&patch, &observed), expected, "{patch} on {observed}");
        };
        check(json!({"status": {"a": 1}}), json!({"status": {"a": 1, "b": 2}}), true);
        check(json!({"status": {"a": 2}}), json!({"status": {"a": 1}}), false);
        check(json!({"status": {"a": null}}), json!({"status": {"b": 2}}), true);
        check(json!({"status": {"a": null}}), json!({"status": {"a": 1}}), false);
        check(json!({"status": {"loadBalancer": {"ingress": null}}}), json!({}), true);
        check(json!({"status": {"list": [1]}}), json!({"status": {"list": [1, 2]}}), false);
    }
}
