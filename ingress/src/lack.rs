//! What this process lacks itself, which is never an endpoint's or a client's fault.

use std::io;

/// Whether an operation failed because this process has no file descriptor, local port or memory left.
pub(crate) fn is_lack(error: &io::Error) -> bool {
    // EMFILE, ENFILE, ENOBUFS, ENOMEM and EADDRNOTAVAIL (no local port is free).
    matches!(error.raw_os_error(), Some(24 | 23 | 105 | 12 | 99))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_refusal_is_no_lack() {
        assert!(is_lack(&io::Error::from_raw_os_error(24)));
        assert!(!is_lack(&io::Error::from_raw_os_error(111)));
        assert!(!is_lack(&io::ErrorKind::TimedOut.into()));
    }
}
