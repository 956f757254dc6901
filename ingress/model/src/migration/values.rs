//! What ingress-nginx does with a value that can't be used. It has more ways than its owners know.

use std::collections::BTreeMap;

use regex::Regex;

use super::annotations::value_of;
use crate::compiler::annotations::value::boolean;

/// What becomes of an Ingress of ingress-nginx by a value that can't be used here.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum Fate {
    /// The annotation counts as if it were not there.
    Ignored,
    /// The routes of the Ingress answer 503.
    Denied,
    /// The whole Ingress is left out, and its host may not exist.
    Dropped,
    /// nginx refuses the configuration, and no change of any Ingress takes effect any more.
    Frozen,
    /// What it should protect is open, and how.
    Open(&'static str),
    /// It works there.
    Works,
}

const NO_ASKING: &str = "ingress-nginx leaves external authentication out as a whole, so everybody is let in";
const NO_CERTIFICATE: &str = "ingress-nginx asks nobody for a certificate without auth-tls-secret";

/// Looked for in regular expressions: what is there in PCRE and not here.
const LOOKS: [&str; 5] = ["(?=", "(?!", "(?<=", "(?<!", "\\1"];

/// What ingress-nginx makes of a value that can't be used here.
pub(super) fn fate(name: &str, value: &str, all: &BTreeMap<String, String>) -> Fate {
    let has = |name: &str| value_of(all, name).is_some();
    match name {
        // nginx runs what is not run here.
        _ if name.ends_with("-snippet") => Fate::Works,
        "auth-request-redirect" | "auth-always-set-cookie" => Fate::Open(NO_ASKING),
        "auth-secret" if !has("auth-type") => {
            Fate::Open("ingress-nginx asks nobody for a password without auth-type, so everybody is let in")
        }
        "cors-allow-origin" => Fate::Open("ingress-nginx discards the whole list and allows the pages of every origin"),
        "auth-tls-verify-client" | "auth-tls-match-cn" if !has("auth-tls-secret") => Fate::Open(NO_CERTIFICATE),
        "proxy-ssl-verify" if !has("proxy-ssl-secret") => {
            Fate::Open("ingress-nginx verifies no backend without proxy-ssl-secret")
        }
        "auth-type" if value == "digest" => Fate::Works,
        "backend-protocol" if ["FCGI", "AUTO_HTTP"].iter().any(|known| value.eq_ignore_ascii_case(known)) => {
            Fate::Works
        }
        // No backend answers in no time, there as here.
        "proxy-read-timeout" if value == "0" => Fate::Denied,
        "proxy-connect-timeout" | "proxy-send-timeout" if value == "0" => Fate::Works,
        "proxy-read-timeout" | "proxy-connect-timeout" | "proxy-send-timeout" if is_negative(value) => Fate::Frozen,
        "limit-burst-multiplier" if value.parse::<i64>().is_ok() => Fate::Frozen,
        "auth-signin" | "auth-tls-error-page" if value.contains(' ') => Fate::Frozen,
        "auth-url" | "upstream-vhost" | "mirror-target" if unknown_variable(value) => Fate::Works,
        "canary-by-header-pattern" | "server-alias" | "auth-tls-match-cn"
            if LOOKS.iter().any(|look| value.contains(look)) =>
        {
            Fate::Works
        }
        "auth-url" if !value.contains("://") || value.contains(' ') => Fate::Denied,
        "temporal-redirect" if !value.starts_with("http://") && !value.starts_with("https://") => Fate::Ignored,
        "auth-secret"
        | "allowlist-source-range"
        | "whitelist-source-range"
        | "denylist-source-range"
        | "custom-headers"
        | "auth-method"
        | "auth-response-headers"
        | "auth-cache-duration"
        | "auth-proxy-set-headers"
        | "proxy-ssl-secret"
        | "proxy-ssl-verify"
        | "auth-tls-secret" => Fate::Denied,
        "server-alias"
        | "auth-type"
        | "auth-secret-type"
        | "auth-realm"
        | "auth-url"
        | "auth-tls-error-page"
        | "auth-tls-pass-certificate-to-upstream"
        | "auth-tls-match-cn"
        | "client-body-buffer-size"
        | "connection-proxy-header"
        | "custom-http-errors"
        | "default-backend"
        | "load-balance"
        | "limit-rps"
        | "limit-rpm"
        | "limit-connections"
        | "limit-allowlist"
        | "limit-whitelist"
        | "permanent-redirect"
        | "permanent-redirect-code"
        | "temporal-redirect"
        | "temporal-redirect-code"
        | "http2-push-preload"
        | "ssl-ciphers"
        | "ssl-passthrough"
        | "upstream-hash-by"
        | "upstream-hash-by-subset"
        | "upstream-hash-by-subset-size"
        | "upstream-vhost"
        | "x-forwarded-prefix"
        | "opentelemetry-operation-name" => Fate::Dropped,
        _ => Fate::Ignored,
    }
}

fn is_negative(value: &str) -> bool {
    value.parse::<i64>().is_ok_and(|number| number < 0)
}

/// Whether a value is one only by a variable that is not known here; nginx has more of them.
fn unknown_variable(value: &str) -> bool {
    value.contains('$') && value.starts_with(|letter: char| letter.is_ascii_alphanumeric() || letter == '$')
}

/// Whether ingress-nginx drops an Ingress for the value of an annotation that has no effect here.
pub(super) fn is_dropped(name: &str, value: &str) -> bool {
    match name {
        "client-body-buffer-size" => {
            let size = Regex::new("^(?i)[0-9]+[bkmg]?$").expect("a constant pattern");
            !size.is_match(value)
        }
        "load-balance" => {
            !matches!(value, "round_robin" | "ewma" | "chash" | "chashsubset" | "sticky_balanced" | "sticky_persistent")
        }
        "http2-push-preload" | "upstream-hash-by-subset" => boolean(value).is_err(),
        "upstream-hash-by-subset-size" => value.parse::<i64>().is_err(),
        _ => false,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ingress_nginx_has_many_ways_with_bad_values() {
        let none = BTreeMap::new();
        let with = |name: &str| BTreeMap::from([(format!("nginx.ingress.kubernetes.io/{name}"), "x".to_owned())]);
        for (name, value, all, expected) in [
            ("proxy-read-timeout", "30s", &none, Fate::Ignored),
            ("proxy-read-timeout", "-1", &none, Fate::Frozen),
            ("proxy-read-timeout", "0", &none, Fate::Denied),
            ("proxy-send-timeout", "0", &none, Fate::Works),
            ("whitelist-source-range", "abc", &none, Fate::Denied),
            ("limit-rps", "abc", &none, Fate::Dropped),
            ("limit-burst-multiplier", "abc", &none, Fate::Ignored),
            ("limit-burst-multiplier", "0", &none, Fate::Frozen),
            ("auth-url", "no url", &none, Fate::Denied),
            ("auth-url", "https://x/<y>", &none, Fate::Dropped),
            ("auth-secret", "users", &with("auth-type"), Fate::Denied),
            ("backend-protocol", "FCGI", &none, Fate::Works),
            ("backend-protocol", "SPDY", &none, Fate::Ignored),
            ("temporal-redirect", "/here", &none, Fate::Ignored),
            ("temporal-redirect", "https://x/$y", &none, Fate::Dropped),
        ] {
            assert_eq!(fate(name, value, all), expected, "{name}: {value}");
        }
        assert!(matches!(fate("auth-secret", "users", &none), Fate::Open(_)));
        assert!(matches!(fate("cors-allow-origin", "https://*", &none), Fate::Open(_)));
        assert!(matches!(fate("proxy-ssl-verify", "on", &none), Fate::Open(_)));
        assert_eq!(fate("proxy-ssl-verify", "on", &with("proxy-ssl-secret")), Fate::Denied);
        assert!(is_dropped("client-body-buffer-size", "8 k") && !is_dropped("client-body-buffer-size", "8k"));
    }
}
