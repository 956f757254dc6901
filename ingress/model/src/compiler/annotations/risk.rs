//! How much harm an annotation can do, as ingress-nginx judges it. An administrator can refuse what is above a level.

/// A level of risk.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug, Default)]
pub(crate) enum Risk {
    /// It concerns the routes of its Ingress alone.
    #[default]
    Low,
    /// It sends requests elsewhere, or decides who may ask.
    Medium,
    /// It reaches beyond its Ingress.
    High,
    /// It is configuration of nginx itself.
    Critical,
}

const MEDIUM: &[&str] = &[
    "affinity-mode",
    "allowlist-source-range",
    "app-root",
    "auth-cache-duration",
    "auth-cache-key",
    "auth-proxy-set-headers",
    "auth-realm",
    "auth-request-redirect",
    "auth-response-headers",
    "auth-secret",
    "auth-signin-redirect-param",
    "auth-tls-secret",
    "auth-tls-verify-client",
    "canary-by-cookie",
    "canary-by-header",
    "canary-by-header-pattern",
    "canary-by-header-value",
    "cors-allow-headers",
    "cors-allow-methods",
    "cors-allow-origin",
    "cors-expose-headers",
    "custom-headers",
    "denylist-source-range",
    "fastcgi-index",
    "fastcgi-params-configmap",
    "force-ssl-redirect",
    "opentelemetry-operation-name",
    "permanent-redirect",
    "preserve-trailing-slash",
    "proxy-body-size",
    "proxy-cookie-domain",
    "proxy-cookie-path",
    "proxy-next-upstream",
    "proxy-redirect-from",
    "proxy-redirect-to",
    "proxy-ssl-ciphers",
    "proxy-ssl-secret",
    "rewrite-target",
    "session-cookie-domain",
    "session-cookie-expires",
    "session-cookie-max-age",
    "session-cookie-name",
    "session-cookie-path",
    "temporal-redirect",
    "whitelist-source-range",
    "x-forwarded-prefix",
];

const HIGH: &[&str] = &[
    "auth-signin",
    "auth-tls-error-page",
    "auth-tls-match-cn",
    "auth-url",
    "mirror-host",
    "mirror-target",
    "modsecurity-transaction-id",
    "proxy-ssl-name",
    "server-alias",
    "upstream-hash-by",
];

/// The risk of an annotation.
pub(super) fn risk_of(name: &str) -> Risk {
    if name.ends_with("-snippet") {
        Risk::Critical
    } else if HIGH.binary_search(&name).is_ok() {
        Risk::High
    } else if MEDIUM.binary_search(&name).is_ok() {
        Risk::Medium
    } else {
        Risk::Low
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_names_are_in_order() {
        assert!(MEDIUM.is_sorted() && HIGH.is_sorted());
        assert_eq!(risk_of("rewrite-target"), Risk::Medium);
        assert_eq!(risk_of("ssl-redirect"), Risk::Low);
    }
}
