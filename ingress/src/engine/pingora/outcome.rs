//! What an error of pingora's means for the client, and what is told of an exchange afterwards.

use http::StatusCode;
use pingora_core::{Error, ErrorSource, ErrorType};

/// The answer to a failure.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum Failure {
    /// A page with this status and reason.
    Page(StatusCode, &'static str),
    /// The client is gone, or would not understand a page; logged as 499.
    ClientGone,
}

/// pingora's error where this process has no file descriptor, port or memory left.
pub(super) const EXHAUSTED: ErrorType = ErrorType::CustomCode("exhausted", 503);

/// nginx's word for a client that left before there was an answer.
pub(super) const CLIENT_CLOSED_REQUEST: u16 = 499;

/// Tells the failures apart.
pub(super) fn classify(error: &Error) -> Failure {
    match (error.esource(), error.etype()) {
        (_, ErrorType::HTTPStatus(code)) => {
            let status = StatusCode::from_u16(*code).unwrap_or(StatusCode::BAD_GATEWAY);
            Failure::Page(status, status_reason(status))
        }
        (_, etype) if *etype == EXHAUSTED => {
            Failure::Page(StatusCode::SERVICE_UNAVAILABLE, "the proxy has no connection left for this request")
        }
        (ErrorSource::Downstream, ErrorType::ReadTimedout) => {
            Failure::Page(StatusCode::REQUEST_TIMEOUT, "the request body did not arrive in time")
        }
        (ErrorSource::Downstream, ErrorType::InvalidHTTPHeader) => {
            Failure::Page(StatusCode::BAD_REQUEST, "the request is malformed")
        }
        (ErrorSource::Downstream, _) => Failure::ClientGone,
        (
            _,
            ErrorType::ConnectTimedout
            | ErrorType::TLSHandshakeTimedout
            | ErrorType::ReadTimedout
            | ErrorType::WriteTimedout,
        ) => Failure::Page(StatusCode::GATEWAY_TIMEOUT, "the service did not answer in time"),
        (ErrorSource::Upstream, _) => {
            Failure::Page(StatusCode::BAD_GATEWAY, "the service could not be reached or gave no valid answer")
        }
        (ErrorSource::Internal | ErrorSource::Unset, _) => {
            Failure::Page(StatusCode::BAD_GATEWAY, "the request could not be passed on to the service")
        }
    }
}

/// Reasons of the statuses that the engine gives itself.
fn status_reason(status: StatusCode) -> &'static str {
    match status {
        StatusCode::PAYLOAD_TOO_LARGE => "the request body is larger than allowed",
        StatusCode::SERVICE_UNAVAILABLE => "no endpoint of the service is ready",
        StatusCode::BAD_GATEWAY => "the address of the service could not be found",
        StatusCode::GATEWAY_TIMEOUT => "the service did not answer in time",
        _ => "the request could not be served",
    }
}
