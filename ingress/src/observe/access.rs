//! The access log: one event for each request.

use http::Version;

use crate::engine::Exchange;

/// Writes the access line; its target is `access`, so that `--log access=off` silences it.
pub fn log_exchange(exchange: &Exchange<'_>) {
    let upstream = exchange.upstream;
    let millis = |duration: std::time::Duration| (duration.as_secs_f64() * 1e6).round() / 1e3;
    tracing::info!(
        target: "access",
        {
            client.addr = %exchange.client,
            method = &*exchange.method,
            scheme = exchange.scheme.as_str(),
            host = &*exchange.host,
            path = &*exchange.target,
            protocol = protocol(exchange.version),
            status = exchange.status,
            duration_ms = millis(exchange.duration),
            received = exchange.received,
            sent = exchange.sent,
            namespace = exchange.route.as_ref().map(|route| route.id.ingress.namespace()),
            ingress = exchange.route.as_ref().map(|route| route.id.ingress.name()),
            backend = exchange.backend().map(tracing::field::display),
            upstream.addr = upstream.map(|upstream| tracing::field::display(upstream.address)),
            upstream.duration_ms = upstream.and_then(|upstream| upstream.first_byte).map(millis),
            tries = exchange.tries,
            request_id = &*exchange.request_id,
            user_agent = exchange.user_agent.as_deref(),
            referer = exchange.referer.as_deref(),
            error = exchange.error.as_deref()
        },
        "request"
    );
}

fn protocol(version: Version) -> &'static str {
    match version {
        Version::HTTP_09 => "HTTP/0.9",
        Version::HTTP_10 => "HTTP/1.0",
        Version::HTTP_2 => "HTTP/2.0",
        Version::HTTP_3 => "HTTP/3.0",
        _ => "HTTP/1.1",
    }
}
