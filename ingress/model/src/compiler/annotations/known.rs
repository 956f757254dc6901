//! The names of ingress-nginx's annotations, and what becomes of each.

/// What becomes of an annotation.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Support {
    /// It has its effect.
    Served,
    /// It has none, for this reason, and the Ingress is served without it.
    Accepted(&'static str),
    /// It has none, for this reason, and the routes of the Ingress answer 503.
    Refused(&'static str),
    /// It restricts access in a way that is not supported, so the routes of the Ingress answer 503.
    Restricting,
}

/// Every annotation that is known, without its prefix, by name.
pub const KNOWN: &[(&str, Support)] = &[
    ("affinity", Support::Served),
    ("affinity-canary-behavior", Support::Served),
    ("affinity-mode", Support::Served),
    ("allowlist-source-range", Support::Served),
    ("app-root", Support::Served),
    ("auth-always-set-cookie", Support::Served),
    ("auth-cache-duration", Support::Served),
    ("auth-cache-key", Support::Served),
    ("auth-keepalive", Support::Accepted("connections are always kept")),
    ("auth-keepalive-requests", Support::Accepted("connections are always kept")),
    ("auth-keepalive-share-vars", Support::Accepted("connections are always kept")),
    ("auth-keepalive-timeout", Support::Accepted("connections are always kept")),
    ("auth-method", Support::Served),
    ("auth-proxy-set-headers", Support::Served),
    ("auth-realm", Support::Served),
    ("auth-request-redirect", Support::Served),
    ("auth-response-headers", Support::Served),
    ("auth-secret", Support::Served),
    ("auth-secret-type", Support::Served),
    ("auth-signin", Support::Served),
    ("auth-signin-redirect-param", Support::Served),
    ("auth-snippet", Support::Refused("snippets of nginx configuration are not run")),
    ("auth-tls-match-cn", Support::Restricting),
    ("auth-tls-secret", Support::Restricting),
    ("auth-tls-verify-client", Support::Restricting),
    ("auth-type", Support::Served),
    ("auth-url", Support::Served),
    ("backend-protocol", Support::Served),
    ("canary", Support::Served),
    ("canary-by-cookie", Support::Served),
    ("canary-by-header", Support::Served),
    ("canary-by-header-pattern", Support::Served),
    ("canary-by-header-value", Support::Served),
    ("canary-weight", Support::Served),
    ("canary-weight-total", Support::Served),
    ("client-body-buffer-size", Support::Accepted("bodies are streamed")),
    ("configuration-snippet", Support::Refused("snippets of nginx configuration are not run")),
    ("cors-allow-credentials", Support::Served),
    ("cors-allow-headers", Support::Served),
    ("cors-allow-methods", Support::Served),
    ("cors-allow-origin", Support::Served),
    ("cors-expose-headers", Support::Served),
    ("cors-max-age", Support::Served),
    ("custom-http-errors", Support::Served),
    ("default-backend", Support::Served),
    ("denylist-source-range", Support::Served),
    ("disable-proxy-intercept-errors", Support::Served),
    ("enable-cors", Support::Served),
    ("enable-global-auth", Support::Served),
    ("enable-modsecurity", Support::Accepted("there is no web application firewall")),
    ("enable-opentracing", Support::Accepted("tracing by OpenTracing has ended")),
    ("enable-owasp-core-rules", Support::Accepted("there is no web application firewall")),
    ("enable-rewrite-log", Support::Accepted("explain shows what a request is rewritten to")),
    ("fastcgi-index", Support::Accepted("FastCGI is not spoken")),
    ("fastcgi-params-configmap", Support::Accepted("FastCGI is not spoken")),
    ("force-ssl-redirect", Support::Served),
    ("from-to-www-redirect", Support::Served),
    ("http2-push-preload", Support::Accepted("browsers have given up on server push")),
    ("limit-allowlist", Support::Served),
    ("limit-burst-multiplier", Support::Served),
    ("limit-connections", Support::Served),
    ("limit-rate", Support::Accepted("responses are sent as fast as the client takes them")),
    ("limit-rate-after", Support::Accepted("responses are sent as fast as the client takes them")),
    ("limit-rpm", Support::Served),
    ("limit-rps", Support::Served),
    ("limit-whitelist", Support::Served),
    ("load-balance", Support::Accepted("endpoints are used in turn")),
    ("modsecurity-snippet", Support::Refused("snippets of nginx configuration are not run")),
    ("modsecurity-transaction-id", Support::Accepted("there is no web application firewall")),
    ("permanent-redirect", Support::Served),
    ("permanent-redirect-code", Support::Served),
    ("preserve-trailing-slash", Support::Served),
    ("proxy-body-size", Support::Served),
    ("proxy-buffer-size", Support::Accepted("response heads of up to 64 KiB are taken")),
    ("proxy-buffering", Support::Accepted("bodies are streamed, and at most 64 KiB of one are on the way")),
    ("proxy-buffers-number", Support::Accepted("bodies are streamed")),
    ("proxy-busy-buffers-size", Support::Accepted("bodies are streamed")),
    ("proxy-connect-timeout", Support::Served),
    ("proxy-cookie-domain", Support::Served),
    ("proxy-cookie-path", Support::Served),
    ("proxy-http-version", Support::Accepted("backends are spoken to in HTTP/1.1 or HTTP/2")),
    ("proxy-max-temp-file-size", Support::Accepted("nothing is written to disk")),
    ("proxy-next-upstream-tries", Support::Served),
    ("proxy-read-timeout", Support::Served),
    ("proxy-redirect-from", Support::Served),
    ("proxy-redirect-to", Support::Served),
    ("proxy-request-buffering", Support::Accepted("bodies are streamed as they come")),
    ("proxy-send-timeout", Support::Served),
    ("relative-redirects", Support::Served),
    ("rewrite-target", Support::Served),
    ("satisfy", Support::Served),
    ("server-alias", Support::Served),
    ("server-snippet", Support::Refused("snippets of nginx configuration are not run")),
    ("session-cookie-change-on-failure", Support::Served),
    ("session-cookie-conditional-samesite-none", Support::Served),
    ("session-cookie-domain", Support::Served),
    ("session-cookie-expires", Support::Served),
    ("session-cookie-max-age", Support::Served),
    ("session-cookie-name", Support::Served),
    ("session-cookie-path", Support::Served),
    ("session-cookie-samesite", Support::Served),
    ("session-cookie-secure", Support::Served),
    ("ssl-ciphers", Support::Accepted("the cipher suites are those of rustls, all of them AEAD")),
    ("ssl-prefer-server-ciphers", Support::Accepted("the cipher suites are those of rustls")),
    ("ssl-redirect", Support::Served),
    ("stream-snippet", Support::Refused("snippets of nginx configuration are not run")),
    ("temporal-redirect", Support::Served),
    ("temporal-redirect-code", Support::Served),
    ("upstream-hash-by", Support::Served),
    ("upstream-hash-by-subset", Support::Accepted("subsets of endpoints are not made")),
    ("upstream-hash-by-subset-size", Support::Accepted("subsets of endpoints are not made")),
    ("upstream-vhost", Support::Served),
    ("use-port-in-redirects", Support::Served),
    ("use-regex", Support::Served),
    ("whitelist-source-range", Support::Served),
    ("x-forwarded-prefix", Support::Served),
];

/// What becomes of an annotation; `None` if it is unknown.
pub(super) fn support(name: &str) -> Option<Support> {
    KNOWN.binary_search_by_key(&name, |(name, _)| name).ok().map(|index| KNOWN[index].1)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_names_are_in_order() {
        assert!(KNOWN.is_sorted_by_key(|(name, _)| *name));
    }
}
