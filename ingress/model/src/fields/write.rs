//! Fields on their way out, after edits: as lines of HTTP/1.1, or as a map for HTTP/2.

use bytes::BytesMut;
use http::header::{CONNECTION, CONTENT_LENGTH, HOST, TRANSFER_ENCODING, UPGRADE};
use http::{HeaderMap, HeaderName, HeaderValue};

use super::edits::Edited;
use super::{FieldValue, Fields, HeaderEdits};

impl Fields {
    /// Writes the fields as lines of HTTP/1.1, after `edits`, without those that frame the body.
    ///
    /// What is not edited is copied as its sender wrote it.
    pub fn write(&self, edits: &HeaderEdits, out: &mut BytesMut) {
        if let Some((name, value)) = edits.set.iter().find(|(name, _)| name == HOST) {
            write_field(name, value, out);
        }
        let edited = Edited::new(edits);
        // Lines that follow each other are copied together.
        let mut run = 0..0;
        for line in &self.lines {
            if edited.has(line, &self.raw) {
                continue;
            }
            if line.is_tidy {
                let whole = line.whole();
                if whole.start == run.end {
                    run.end = whole.end;
                } else {
                    out.extend_from_slice(self.raw.get(std::mem::replace(&mut run, whole)).unwrap_or_default());
                }
            } else {
                out.extend_from_slice(self.raw.get(std::mem::take(&mut run)).unwrap_or_default());
                write_line(line.name(&self.raw), line.value(&self.raw), out);
            }
        }
        out.extend_from_slice(self.raw.get(run).unwrap_or_default());
        for (name, value) in edits.set.iter().chain(&edits.add) {
            if name != HOST && name != CONTENT_LENGTH && name != TRANSFER_ENCODING {
                write_field(name, value, out);
            }
        }
    }

    /// The fields after `edits` as a map, for HTTP/2: without those that frame the body of HTTP/1.1, and those of one
    /// connection.
    pub fn edited(&self, edits: &HeaderEdits) -> HeaderMap {
        let edited = Edited::new(edits);
        let mut map = HeaderMap::with_capacity(self.len() + edits.set.len() + edits.add.len());
        let kept = self.lines.iter().filter(|line| !edited.has(line, &self.raw));
        for line in kept {
            if let Ok(name) = HeaderName::from_bytes(line.name(&self.raw)) {
                map.append(name, FieldValue { raw: &self.raw, bytes: line.value(&self.raw) }.to_value());
            }
        }
        for (name, value) in &edits.set {
            map.insert(name.clone(), value.clone());
        }
        for (name, value) in &edits.add {
            map.append(name.clone(), value.clone());
        }
        for name in [TRANSFER_ENCODING, CONNECTION, UPGRADE] {
            map.remove(name);
        }
        map
    }
}

/// Writes one field, a registered name in the spelling that is usual in HTTP/1.1: `Content-Type`.
pub fn write_field(name: &HeaderName, value: &HeaderValue, out: &mut BytesMut) {
    let name = name.as_str().as_bytes();
    let start = out.len();
    write_line(name, value.as_bytes(), out);
    if name.starts_with(b"x-") {
        return;
    }
    let Some(written) = out.get_mut(start..start + name.len()) else { return };
    if let Some(first) = written.first_mut() {
        first.make_ascii_uppercase();
    }
    for (dash, _) in name.iter().enumerate().filter(|(_, byte)| **byte == b'-') {
        if let Some(letter) = written.get_mut(dash + 1) {
            letter.make_ascii_uppercase();
        }
    }
}

fn write_line(name: &[u8], value: &[u8], out: &mut BytesMut) {
    out.reserve(name.len() + value.len() + 4);
    out.extend_from_slice(name);
    out.extend_from_slice(b": ");
    out.extend_from_slice(value);
    out.extend_from_slice(b"\r\n");
}
