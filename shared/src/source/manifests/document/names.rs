//! Names as the API server takes them.
//!
//! <https://kubernetes.io/docs/concepts/overview/working-with-objects/names/>

/// What is wrong with an object's name, as `cause; remedy`.
pub(super) fn name(kind: &str, name: &str) -> Option<&'static str> {
    match kind {
        _ if name.is_empty() => Some("is empty; give the object a name"),
        "Service" if !is_service_label(name) => Some(
            "is not a DNS label (RFC 1035); use at most 63 lower-case letters, digits and \"-\", beginning with a letter",
        ),
        "Service" => None,
        _ if !is_subdomain(name) => Some(
            "is not a DNS subdomain (RFC 1123); use at most 253 lower-case letters, digits, \"-\" and \".\", beginning and ending with a letter or digit",
        ),
        _ => None,
    }
}

/// What is wrong with an object's namespace. An empty one is the default namespace.
pub(super) fn namespace(_kind: &str, name: &str) -> Option<&'static str> {
    (!name.is_empty() && !is_label(name)).then_some(
        "is not a DNS label (RFC 1123); use at most 63 lower-case letters, digits and \"-\", beginning and ending with a letter or digit",
    )
}

fn is_label(text: &str) -> bool {
    let inner = |byte: u8| byte.is_ascii_lowercase() || byte.is_ascii_digit() || byte == b'-';
    (1..=63).contains(&text.len()) && text.bytes().all(inner) && !text.starts_with('-') && !text.ends_with('-')
}

fn is_service_label(text: &str) -> bool {
    is_label(text) && text.starts_with(|first: char| first.is_ascii_lowercase())
}

fn is_subdomain(text: &str) -> bool {
    // Unlike a label of a host name, one of an object's name may be longer than 63 octets.
    let label = |label: &str| {
        let inner = |byte: u8| byte.is_ascii_lowercase() || byte.is_ascii_digit() || byte == b'-';
        !label.is_empty() && label.bytes().all(inner) && !label.starts_with('-') && !label.ends_with('-')
    };
    text.len() <= 253 && text.split('.').all(label)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_those_the_api_server_takes() {
        let check = |kind: &str, text: &str, good| assert_eq!(name(kind, text).is_none(), good, "{kind} {text:?}");
        check("Ingress", "web", true);
        check("Ingress", "web.v2-1", true);
        check("Ingress", "1", true);
        check("Ingress", &"a".repeat(253), true);
        check("Ingress", &"a".repeat(254), false);
        for wrong in ["", "Web", "a_b", "-a", "a-", "a..b", ".a", "a b", "ä"] {
            check("Ingress", wrong, false);
        }
        check("Service", "api", true);
        check("Service", "1api", false);
        check("Service", "a.b", false);
        assert_eq!(namespace("Ingress", ""), None);
        assert!(namespace("Ingress", "a.b").is_some());
    }
}
