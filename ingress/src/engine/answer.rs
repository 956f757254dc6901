//! Answers of our own, written without an engine: for requests that are not fit to be handed to one.

use std::fmt::Write;

use http::{HeaderValue, StatusCode};
use landfall_ingress_model::fields::Fields;
use landfall_ingress_model::pipeline::{Answer, error_page};

use super::framing::Violation;

/// The page for a breach of framing, ready to be sent.
pub(crate) fn violation_page(violation: &Violation, request_id: &HeaderValue) -> Answer {
    error_page(violation.status, violation.reason, &Fields::default(), request_id)
}

/// An answer as HTTP/1.1 bytes that say the connection will be closed.
pub(crate) fn render(answer: &Answer) -> Vec<u8> {
    let reason = answer.status.canonical_reason().unwrap_or("Error");
    let mut head = format!("HTTP/1.1 {} {reason}\r\n", answer.status.as_u16());
    let _ = write!(head, "Date: {}\r\n", httpdate(std::time::SystemTime::now()));
    for (name, value) in &answer.headers {
        if let Ok(value) = value.to_str() {
            let _ = write!(head, "{name}: {value}\r\n");
        }
    }
    let _ = write!(head, "Content-Length: {}\r\nConnection: close\r\n\r\n", answer.body.len());
    let mut bytes = head.into_bytes();
    bytes.extend_from_slice(answer.body.as_bytes());
    bytes
}

/// The page for a client that sends plain HTTP to the TLS port.
pub(crate) fn plain_on_tls() -> Vec<u8> {
    let violation = Violation::new(StatusCode::BAD_REQUEST, "a plain HTTP request was sent to the HTTPS port");
    render(&violation_page(&violation, &HeaderValue::from_static("-")))
}

/// Nothing new is begun for want of memory.
pub(super) const SHORT_OF_MEMORY: Violation =
    Violation::new(StatusCode::SERVICE_UNAVAILABLE, "the proxy is short of memory; try again later");

/// The page for a client whose connection is refused for want of memory.
pub(crate) fn short_of_memory() -> Vec<u8> {
    render(&violation_page(&SHORT_OF_MEMORY, &HeaderValue::from_static("-")))
}

/// The time in the form of RFC 9110 section 5.6.7.
fn httpdate(time: std::time::SystemTime) -> String {
    httpdate::fmt_http_date(time)
}
