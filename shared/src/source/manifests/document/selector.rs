//! Label and field selectors, applied here because no API server does.

use serde_json::Value;

use crate::source::Scope;

/// Whether `scope` selects the object.
pub(super) fn selects(scope: &Scope, value: &Value) -> bool {
    let label = |name: &str| value["metadata"]["labels"].get(name);
    let field = |path: &str| path.split('.').try_fold(value, |value, step| value.get(step));
    matches(scope.labels.as_deref(), label) && matches(scope.fields.as_deref(), field)
}

/// Equality-based terms: `a=b`, `a==b`, `a!=b`, `a`, `!a`.
fn matches<'a>(selector: Option<&str>, get: impl Fn(&str) -> Option<&'a Value>) -> bool {
    let text = |name: &str| get(name.trim()).and_then(Value::as_str);
    selector.into_iter().flat_map(|selector| selector.split(',')).filter(|term| !term.trim().is_empty()).all(|term| {
        if let Some((name, value)) = term.split_once("!=") {
            text(name) != Some(value.trim())
        } else if let Some((name, value)) = term.split_once('=') {
            // An absent field is an empty one; an absent label matches no value.
            text(name) == Some(value.trim_start_matches('=').trim())
        } else if let Some(name) = term.trim().strip_prefix('!') {
            text(name).is_none()
        } else {
            text(term).is_some()
        }
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn selectors_choose_as_the_api_server_does() {
        let object = json!({"type": "kubernetes.io/tls", "metadata": {"name": "a", "labels": {"app": "web"}}});
        let check = |scope: Scope, expected| assert_eq!(selects(&scope, &object), expected, "{scope:?}");
        check(Scope::all(), true);
        check(Scope::all().fields("type=kubernetes.io/tls"), true);
        check(Scope::all().fields("type!=kubernetes.io/tls"), false);
        check(Scope::all().fields("metadata.name=b"), false);
        check(Scope::all().labels("app=web,tier!=test,!old"), true);
        check(Scope::all().labels("app==web,tier"), false);
    }
}
