//! Why a request failed.

use std::error::Error;
use std::fmt;

use serde::{Deserialize, Serialize};

/// What failed, coarsely enough to be counted.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Kind {
    /// No TCP connection.
    Connect,
    /// A TCP connection, but no TLS, HTTP/2 or WebSocket on it.
    Handshake,
    /// The connection or the stream broke with the request on it.
    Lost,
    /// No answer in time.
    Timeout,
    /// An answer with another status than success.
    Status,
    /// An answer that isn't what a backend says to this request.
    Answer,
}

impl fmt::Display for Kind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Connect => "connect",
            Self::Handshake => "handshake",
            Self::Lost => "lost",
            Self::Timeout => "timeout",
            Self::Status => "status",
            Self::Answer => "answer",
        })
    }
}

/// One failure.
#[derive(Clone, Debug)]
pub(super) struct Failure {
    pub(super) kind: Kind,
    pub(super) text: String,
}

impl Failure {
    pub(super) fn new(kind: Kind, text: impl Into<String>) -> Self {
        Self { kind, text: text.into() }
    }

    /// With everything that caused `error`: the outermost text often says nothing.
    pub(super) fn of(kind: Kind, error: &(dyn Error + 'static)) -> Self {
        let mut text = error.to_string();
        let mut cause = error.source();
        while let Some(error) = cause {
            let said = error.to_string();
            if !text.contains(&said) {
                text = format!("{text}: {said}");
            }
            cause = error.source();
        }
        Self { kind, text }
    }

    /// With where it happened, so that it can be found in a capture.
    pub(super) fn on(mut self, connection: &str) -> Self {
        self.text = format!("{} ({connection})", self.text);
        self
    }
}
