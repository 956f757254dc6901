//! The time as HTTP writes it, made once a second.

use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, SystemTime};

use bytes::BytesMut;
use http::HeaderValue;

/// The date of answers (RFC 9110 section 6.6.1).
#[derive(Clone, Debug, Default)]
pub(super) struct Clock {
    now: Arc<Mutex<(u64, String)>>,
}

impl Clock {
    /// Writes the date, as in `Sun, 06 Nov 1994 08:49:37 GMT`.
    pub(super) fn date(&self, out: &mut BytesMut) {
        self.with(|date| out.extend_from_slice(date.as_bytes()));
    }

    /// The date as the value of a field.
    pub(super) fn value(&self) -> Option<HeaderValue> {
        self.with(|date| HeaderValue::from_str(date).ok())
    }

    fn with<T>(&self, take: impl FnOnce(&str) -> T) -> T {
        let seconds = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).unwrap_or(Duration::ZERO).as_secs();
        let mut now = self.now.lock().unwrap_or_else(PoisonError::into_inner);
        if now.0 != seconds {
            *now = (seconds, httpdate::fmt_http_date(SystemTime::UNIX_EPOCH + Duration::from_secs(seconds)));
        }
        take(&now.1)
    }
}
