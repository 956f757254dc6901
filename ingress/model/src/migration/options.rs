//! The keys of ingress-nginx's `ConfigMap` that have no effect here, and what that means.
//!
//! Which ones have an effect is decided by reading them: this list is about the others.

use std::collections::BTreeMap;

use landfall_model::ObjectKey;

use super::report::{Effect, Setting};
use crate::compiler::options::Options;
use crate::compiler::suggest::{alternatives, nearest};
use crate::reason;

enum Support {
    /// It needs no counterpart, and why.
    Needless(&'static str),
    /// What it asks for is not there: what is done, and what to do instead.
    Missing(&'static str, &'static str),
}

use Support::{Missing, Needless};

const BUFFER: Support = Needless("bodies are streamed, and heads of up to 32 KiB are taken");
const GEOIP: Support = Missing("there is no GeoIP", "look countries up where the log is evaluated");
const HASH: Support = Needless("tables grow by themselves");
const IDLE: Support = Needless("idle connections are kept with limits of their own, see docs/ingress.md");
const LOG: Support = Missing("the access log goes to standard output alone", "have it collected from there");
const SNIPPET: Support = Missing(
    "nginx configuration of the whole server is not run",
    "use the options and annotations that say the same, such as add-headers, hide-headers and proxy-set-headers",
);
const STREAM: Support = Missing(
    "lines of TCP and UDP services in the access log have a form of their own",
    "read --log-format json, see docs/ingress.md",
);
const TLS: Support = Needless("keys are exchanged by X25519MLKEM768, X25519, P-256 and P-384, never by a DH group");
/// What `ssl-protocols` asks for beside what there is.
const OLD_TLS: Support =
    Missing("versions of TLS before 1.2 are not spoken", "make sure that the oldest client speaks TLS 1.2");
const WAF: Support = Missing(
    "there is no web application firewall, so requests are not inspected",
    "put one before the Services that need it, or leave their Ingresses with ingress-nginx",
);
const WORKER: Support = Needless("there are no worker processes; --workers and --max-connections bound the work");

const KNOWN: &[(&str, Support)] = &[
    ("access-log-params", LOG),
    ("access-log-path", Needless("the access log is on standard output")),
    ("allow-backend-server-header", Needless("a backend's Server is always kept")),
    (
        "allow-cross-namespace-resources",
        Missing("Secrets and ConfigMaps of other namespaces are never used", "copy them into the Ingress's namespace"),
    ),
    ("annotation-value-word-blocklist", Needless("no text of an annotation becomes configuration")),
    ("bind-address", Missing("every address is listened on", "give addresses by --http and --https")),
    ("client-body-buffer-size", BUFFER),
    ("client-header-buffer-size", BUFFER),
    ("debug-connections", Needless("--log sets what is logged")),
    ("default-type", Needless("a backend's Content-Type is kept")),
    ("disable-ipv6", Missing("IPv6 is listened on", "give IPv4 addresses by --http and --https")),
    ("disable-ipv6-dns", Needless("addresses of both families are tried")),
    ("enable-access-log-for-default-backend", Needless("every request is logged")),
    ("enable-aio-write", BUFFER),
    ("enable-modsecurity", WAF),
    ("enable-multi-accept", WORKER),
    ("enable-ocsp", Missing("OCSP responses are not stapled", "nothing: browsers have given up on OCSP")),
    ("enable-opentracing", Needless("tracing by OpenTracing has ended")),
    ("enable-owasp-modsecurity-crs", WAF),
    ("enable-syslog", LOG),
    ("error-log-level", Needless("--log sets what is logged")),
    ("error-log-path", Needless("the log is on standard output")),
    ("geoip2-autoreload-in-minutes", GEOIP),
    ("grpc-buffer-size-kb", BUFFER),
    ("http-access-log-path", Needless("the access log is on standard output")),
    ("http-snippet", SNIPPET),
    ("http2-max-field-size", BUFFER),
    ("http2-max-header-size", BUFFER),
    ("http2-max-requests", IDLE),
    ("limit-conn-zone-variable", Missing("clients are told apart by their addresses", "limit by address")),
    ("log-format-stream", STREAM),
    ("lua-shared-dicts", HASH),
    ("main-snippet", SNIPPET),
    ("map-hash-bucket-size", HASH),
    ("max-worker-connections", WORKER),
    ("max-worker-open-files", WORKER),
    ("modsecurity-snippet", WAF),
    ("nginx-status-ipv4-whitelist", Needless("/nginx_status is not there; see /status of the admin port")),
    ("nginx-status-ipv6-whitelist", Needless("/nginx_status is not there; see /status of the admin port")),
    ("opentelemetry-config", Needless("the other keys say all that is needed")),
    ("otel-max-queuesize", Needless("2,048 spans wait at most, as in ingress-nginx by default")),
    ("plugins", SNIPPET),
    ("proxy-buffer-size", BUFFER),
    ("proxy-buffering", BUFFER),
    ("proxy-buffers-number", BUFFER),
    ("proxy-busy-buffers-size", BUFFER),
    ("proxy-headers-hash-bucket-size", HASH),
    ("proxy-headers-hash-max-size", HASH),
    ("proxy-http-version", Needless("backends are spoken to in HTTP/1.1 or HTTP/2")),
    ("proxy-max-temp-file-size", BUFFER),
    ("proxy-request-buffering", BUFFER),
    (
        "proxy-ssl-location-only",
        Missing("proxy-ssl-* of the oldest Ingress hold for its host", "set them on each Ingress"),
    ),
    ("reuse-port", Needless("each worker has sockets of its own")),
    ("server-name-hash-bucket-size", HASH),
    ("server-name-hash-max-size", HASH),
    ("server-tokens", Needless("no version is sent")),
    ("ssl-buffer-size", BUFFER),
    ("ssl-dh-param", TLS),
    ("ssl-early-data", Needless("early data is never taken, since it can be replayed")),
    ("ssl-ecdh-curve", TLS),
    ("ssl-session-cache", Needless("sessions are resumed")),
    ("ssl-session-cache-size", Needless("sessions are resumed")),
    ("ssl-session-ticket-key", Needless("sessions are resumed")),
    ("ssl-session-tickets", Needless("sessions are resumed")),
    ("ssl-session-timeout", Needless("sessions are resumed")),
    ("stream-access-log-path", STREAM),
    ("stream-snippet", SNIPPET),
    ("strict-validate-path-type", Needless("a path is a regular expression only where an Ingress says so")),
    ("syslog-host", LOG),
    ("syslog-port", LOG),
    ("use-geoip", GEOIP),
    ("use-geoip2", GEOIP),
    ("variables-hash-bucket-size", HASH),
    ("variables-hash-max-size", HASH),
    ("worker-cpu-affinity", WORKER),
    ("worker-processes", WORKER),
    ("worker-serial-reloads", Needless("nothing is reloaded")),
    ("worker-shutdown-timeout", Needless("no worker is ever replaced; see --drain-timeout")),
];

/// Values that ask for what there is without the key.
fn is_default(name: &str, value: &str) -> bool {
    match name {
        "limit-conn-zone-variable" => value == "$binary_remote_addr",
        "ssl-ecdh-curve" => value == "auto",
        _ => value == "false",
    }
}

/// What becomes of each key of the `ConfigMap`.
pub(super) fn judge(
    data: &BTreeMap<String, String>,
    all: &BTreeMap<ObjectKey, BTreeMap<String, String>>,
) -> Vec<Setting> {
    data.iter().map(|(name, value)| judge_one(name, value.trim(), all)).collect()
}

fn judge_one(name: &str, value: &str, all: &BTreeMap<ObjectKey, BTreeMap<String, String>>) -> Setting {
    let setting = |effect, text: &str, remedy: &str| Setting {
        name: name.to_owned(),
        value: value.to_owned(),
        effect,
        text: text.to_owned(),
        remedy: remedy.to_owned(),
    };
    if value.is_empty() {
        return setting(Effect::Needless, "an empty value is the default", "");
    }
    let alone = BTreeMap::from([(name.to_owned(), value.to_owned())]);
    let other = |map: &str| all.get(&ObjectKey::parse(map)?);
    let (_, problems) = Options::parse(&alone, &ObjectKey::cluster(""), other);
    let Some(problem) = problems.first() else {
        let is_old = |word| !matches!(word, "TLSv1.2" | "TLSv1.3");
        return match OLD_TLS {
            Missing(what, instead) if name == "ssl-protocols" && value.split_whitespace().any(is_old) => {
                setting(Effect::Differs, what, instead)
            }
            _ => setting(Effect::Served, "", ""),
        };
    };
    debug_assert_eq!(problem.reason, reason::INVALID_CONFIG_MAP);
    let known = KNOWN.binary_search_by_key(&name, |(name, _)| name).ok().map(|index| &KNOWN[index].1);
    match known {
        // The value of a key that has an effect can't be used.
        None if problem.remedy != UNKNOWN_REMEDY => setting(Effect::Invalid, &problem.cause, &problem.remedy),
        None => {
            let near = nearest(name, KNOWN.iter().map(|(name, _)| *name).chain(USUAL.iter().copied()));
            let remedy =
                if near.is_empty() { "remove it".to_owned() } else { format!("write {}", alternatives(&near, "")) };
            setting(Effect::Unknown, "no key of ingress-nginx 1.15, which ignores it, too", &remedy)
        }
        Some(Missing(..)) if is_default(name, value) => setting(Effect::Needless, "the default", ""),
        Some(Needless(why)) => setting(Effect::Needless, why, ""),
        Some(Missing(what, instead)) => setting(Effect::Differs, what, instead),
    }
}

/// What is said of a key that nothing reads.
const UNKNOWN_REMEDY: &str = "remove it to silence this warning";

/// Keys that are served and often misspelt.
const USUAL: &[&str] = &[
    "add-headers",
    "allow-snippet-annotations",
    "annotations-risk-level",
    "client-body-timeout",
    "client-header-timeout",
    "custom-http-errors",
    "disable-access-log",
    "disable-proxy-intercept-errors",
    "enable-brotli",
    "enable-opentelemetry",
    "enable-real-ip",
    "force-ssl-redirect",
    "global-auth-snippet",
    "hide-headers",
    "hsts",
    "hsts-include-subdomains",
    "hsts-max-age",
    "hsts-preload",
    "http-redirect-code",
    "http2-max-concurrent-streams",
    "ignore-invalid-headers",
    "keep-alive",
    "keep-alive-requests",
    "large-client-header-buffers",
    "limit-conn-status-code",
    "load-balance",
    "location-snippet",
    "log-format-escape-json",
    "log-format-escape-none",
    "log-format-upstream",
    "opentelemetry-operation-name",
    "opentelemetry-trust-incoming-span",
    "otel-max-export-batch-size",
    "otel-sampler",
    "otel-sampler-parent-based",
    "otel-sampler-ratio",
    "otel-schedule-delay-millis",
    "otel-service-name",
    "otlp-collector-host",
    "otlp-collector-port",
    "proxy-body-size",
    "proxy-connect-timeout",
    "proxy-cookie-domain",
    "proxy-cookie-path",
    "proxy-next-upstream",
    "proxy-next-upstream-timeout",
    "proxy-protocol-header-timeout",
    "proxy-read-timeout",
    "proxy-real-ip-cidr",
    "proxy-redirect-from",
    "proxy-redirect-to",
    "proxy-send-timeout",
    "proxy-set-headers",
    "proxy-stream-next-upstream",
    "proxy-stream-next-upstream-timeout",
    "proxy-stream-next-upstream-tries",
    "proxy-stream-responses",
    "proxy-stream-timeout",
    "retry-non-idempotent",
    "server-snippet",
    "skip-access-log-urls",
    "ssl-ciphers",
    "ssl-protocols",
    "ssl-redirect",
    "upstream-keepalive-connections",
    "upstream-keepalive-requests",
    "upstream-keepalive-time",
    "upstream-keepalive-timeout",
    "use-forwarded-headers",
    "use-gzip",
    "use-http2",
    "use-port-in-redirects",
    "use-proxy-protocol",
    "whitelist-source-range",
];

#[cfg(test)]
mod tests {
    use super::*;

    /// Keys of which it is said why they have no effect.
    const SNIPPETS: [&str; 3] = ["http-snippet", "main-snippet", "stream-snippet"];

    fn one(name: &str, value: &str) -> Setting {
        judge_one(name, value, &BTreeMap::new())
    }

    #[test]
    fn the_names_are_in_order() {
        assert!(KNOWN.is_sorted_by_key(|(name, _)| *name));
        assert!(USUAL.is_sorted());
        for (name, _) in KNOWN {
            let alone = BTreeMap::from([((*name).to_owned(), "?".to_owned())]);
            let (_, problems) = Options::parse(&alone, &ObjectKey::cluster(""), |_| None);
            let is_read = problems.first().is_none_or(|problem| problem.remedy != UNKNOWN_REMEDY);
            assert!(!is_read || SNIPPETS.contains(name), "{name} is read, so it is no longer one without effect");
        }
        assert!(USUAL.iter().all(|name| one(name, "?").effect != Effect::Unknown));
    }

    #[test]
    fn each_key_is_served_or_explained() {
        for (name, value, effect) in [
            ("proxy-body-size", "8m", Effect::Served),
            ("proxy-body-size", "8 apples", Effect::Invalid),
            ("proxy-buffer-size", "16k", Effect::Needless),
            ("enable-modsecurity", "true", Effect::Differs),
            ("enable-modsecurity", "false", Effect::Needless),
            ("ssl-protocols", "TLSv1 TLSv1.2", Effect::Differs),
            ("ssl-protocols", "TLSv1.2 TLSv1.3", Effect::Served),
            ("ssl-protocols", "SSLv3", Effect::Invalid),
            ("keep-alive", "30", Effect::Served),
            ("http-snippet", "x;", Effect::Differs),
            ("proxy-bodysize", "8m", Effect::Unknown),
        ] {
            assert_eq!(one(name, value).effect, effect, "{name}: {value}");
        }
        assert_eq!(one("proxy-bodysize", "8m").remedy, "write \"proxy-body-size\"");
    }
}
