//! One field line (RFC 9112 section 5): where it lies, and whether it is sound.

use landfall_ingress_model::fields::FieldLine;

use super::{Violation, split_field};

/// The field in `line`, which starts `start` bytes into the message and ends in CRLF if `crlf`: its place, its name
/// and its value, both checked.
pub(super) fn field_line(line: &[u8], start: usize, crlf: bool) -> Result<(FieldLine, &[u8], &[u8]), Violation> {
    let (name, value) = split_field(line)?;
    // Both are parts of the line, so their places follow from their lengths: only blanks surround the value.
    let behind_colon = line.get(name.len() + 1..).unwrap_or_default();
    let blanks =
        if value.is_empty() { behind_colon.len() } else { behind_colon.len() - behind_colon.trim_ascii_start().len() };
    let tidy = crlf && behind_colon.first() == Some(&b' ') && behind_colon.len() == value.len() + 1;
    let place = FieldLine::new(start, name, start + name.len() + 1 + blanks, value.len(), tidy);
    let place = place.map_err(|_| Violation::bad_request("a header field is too long"))?;
    Ok((place, name, value))
}
