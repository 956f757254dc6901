//! PEM as people paste it, and what is wrong with it in words.

use std::borrow::Cow;

use rustls_pki_types::pem::Error;

/// The text without blanks at the ends of its lines.
///
/// RFC 7468 section 2: "Parsers SHOULD ignore whitespace and other non-base64 characters" there; the reader that is
/// used here takes spaces only.
pub(super) fn trimmed(pem: &[u8]) -> Cow<'_, [u8]> {
    let is_clean = |line: &[u8]| line.last().is_none_or(|last| !last.is_ascii_whitespace());
    if pem.split(|byte| *byte == b'\n').all(is_clean) {
        return Cow::Borrowed(pem);
    }
    let mut clean = Vec::with_capacity(pem.len());
    for line in pem.split(|byte| *byte == b'\n') {
        clean.extend_from_slice(line.trim_ascii_end());
        clean.push(b'\n');
    }
    Cow::Owned(clean)
}

/// What is wrong, without the bytes of a key.
pub(super) fn cause(error: &Error, pem: &[u8]) -> String {
    match error {
        Error::MissingSectionEnd { end_marker } => {
            format!("the line -----END {}----- is missing", String::from_utf8_lossy(end_marker))
        }
        Error::IllegalSectionStart { line } => {
            let number = pem.split(|byte| matches!(byte, b'\n' | b'\r')).position(|found| found == line);
            let number = number.map_or(1, |number| number + 1);
            format!("line {number} begins with -----BEGIN but does not end in -----")
        }
        Error::Base64Decode(_) => "what stands between its lines -----BEGIN and -----END is not Base64".to_owned(),
        Error::NoItemsFound if is_encrypted(pem) => "it is encrypted".to_owned(),
        Error::NoItemsFound => "it has no line -----BEGIN PRIVATE KEY-----".to_owned(),
        other => other.to_string(),
    }
}

fn is_encrypted(pem: &[u8]) -> bool {
    let marker = b"-----BEGIN ENCRYPTED PRIVATE KEY-----";
    pem.windows(marker.len()).any(|window| window == marker)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn blanks_at_the_ends_of_lines_are_ignored() {
        for (text, expected) in [
            ("a\nb\n", "a\nb\n"),
            ("a\t\nb \t\r\n", "a\nb\n\n"),
            ("", ""),
            ("a\r\nb", "a\nb\n"),
            ("\ta b\nc", "\ta b\nc"),
        ] {
            assert_eq!(trimmed(text.as_bytes()), expected.as_bytes(), "{text:?}");
        }
    }

    #[test]
    fn a_cause_names_the_line_and_holds_nothing_of_the_key() {
        let line = b"-----BEGIN PRIVATE KEY----".to_vec();
        let error = Error::IllegalSectionStart { line };
        assert_eq!(
            cause(&error, b"# mine\n-----BEGIN PRIVATE KEY----\nabc"),
            "line 2 begins with -----BEGIN but does not end in -----"
        );
        let encrypted = b"-----BEGIN ENCRYPTED PRIVATE KEY-----\nabc";
        assert_eq!(cause(&Error::NoItemsFound, encrypted), "it is encrypted");
    }
}
