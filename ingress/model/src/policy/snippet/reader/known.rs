//! Directives of nginx that are not run, and what to write instead.

use super::{Wrong, wrong};
use crate::compiler::annotations::{KNOWN, Support};

/// Directives whose absence makes no difference here.
const WITHOUT_EFFECT: &[(&str, &str)] = &[
    ("chunked_transfer_encoding", "framing is decided for each message"),
    ("client_body_buffer_size", "bodies are streamed"),
    ("gzip_proxied", "compression is an option of the ConfigMap"),
    ("gzip_vary", "compression is an option of the ConfigMap"),
    ("keepalive_requests", "connections are kept as long as they can be"),
    ("keepalive_timeout", "connections are kept as long as they can be"),
    ("large_client_header_buffers", "heads of up to 64 KiB are taken"),
    ("log_not_found", "there is no error log"),
    ("proxy_buffer_size", "response heads of up to 64 KiB are taken"),
    ("proxy_buffering", "bodies are streamed"),
    ("proxy_buffers", "bodies are streamed"),
    ("proxy_busy_buffers_size", "bodies are streamed"),
    ("proxy_http_version", "backends are spoken to in HTTP/1.1 or HTTP/2"),
    ("proxy_max_temp_file_size", "nothing is written to disk"),
    ("proxy_request_buffering", "bodies are streamed as they come"),
    ("proxy_socket_keepalive", "connections are kept alive"),
    ("rewrite_log", "explain shows what a request is rewritten to"),
    ("server_tokens", "no version is sent"),
    ("tcp_nodelay", "nothing is held back"),
];

/// Directives that are asked for often, and what does the same.
const INSTEAD: &[(&str, &str)] = &[
    ("access_log", "use the annotation enable-access-log"),
    ("auth_basic", "use the annotations auth-type, auth-secret and auth-realm"),
    ("auth_basic_user_file", "use the annotation auth-secret"),
    ("auth_request", "use the annotation auth-url"),
    ("client_max_body_size", "use the annotation proxy-body-size"),
    ("error_page", "use the annotations custom-http-errors and default-backend"),
    ("grpc_pass", "use the annotation backend-protocol"),
    ("gzip", "use use-gzip of the ConfigMap"),
    ("gzip_types", "use gzip-types of the ConfigMap"),
    ("limit_conn", "use the annotation limit-connections"),
    ("limit_rate", "use the annotation limit-rate"),
    ("limit_rate_after", "use the annotation limit-rate-after"),
    ("limit_req", "use the annotation limit-rps"),
    ("map", "set a variable in a chain of if"),
    ("mirror", "use the annotation mirror-target"),
    ("proxy_intercept_errors", "use the annotation custom-http-errors"),
    ("proxy_pass", "give an Ingress a rule whose backend is that Service"),
    ("proxy_redirect", "use the annotations proxy-redirect-from and proxy-redirect-to"),
    ("real_ip_header", "use forwarded-for-header of the ConfigMap"),
    ("real_ip_recursive", "use proxy-real-ip-cidr of the ConfigMap"),
    ("set_real_ip_from", "use proxy-real-ip-cidr of the ConfigMap"),
    ("ssl_protocols", "TLS 1.2 and 1.3 are served; remove it"),
    ("ssl_verify_client", "use the annotation auth-tls-verify-client"),
    ("underscores_in_headers", "use enable-underscores-in-headers of the ConfigMap"),
];

pub(super) fn has_no_effect(name: &str) -> bool {
    WITHOUT_EFFECT.iter().any(|(known, _)| *known == name)
}

pub(super) fn why_without_effect(name: &str) -> &'static str {
    WITHOUT_EFFECT.iter().find(|(known, _)| *known == name).map_or("", |(_, why)| why)
}

/// A directive that has no meaning here.
pub(super) fn unsupported(name: &str) -> Wrong {
    let shown: String = name.chars().take(64).collect();
    let cause = format!("{shown} is no directive that a snippet may hold here");
    if let Some((_, remedy)) = INSTEAD.iter().find(|(known, _)| *known == name) {
        return wrong(cause, *remedy);
    }
    let annotation = name.replace('_', "-");
    let served = |(known, support): &&(&str, Support)| *known == annotation && *support == Support::Served;
    if let Some((annotation, _)) = KNOWN.iter().find(served) {
        return wrong(cause, format!("use the annotation {annotation}"));
    }
    if name.contains("_by_lua") {
        return wrong(cause, "there is no Lua; do this in the application, or in a service that auth-url asks");
    }
    if name.starts_with("modsecurity") {
        return wrong(cause, "there is no web application firewall; run one behind the ingress");
    }
    wrong(cause, "remove it; docs/annotations.md lists the directives that are run")
}
