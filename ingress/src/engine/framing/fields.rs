//! The fields of a message: as a map to decide by, and in the bytes of their sender to be passed on unchanged.

use bytes::{Bytes, BytesMut};
use http::header::{CONTENT_LENGTH, HOST, TRANSFER_ENCODING};
use http::{HeaderMap, HeaderName, HeaderValue};
use landfall_ingress_model::pipeline::HeaderEdits;

use super::{Violation, split_field};

/// Where a field lies within the bytes of its head.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct FieldSpan {
    name: (u32, u32),
    value: (u32, u32),
}

impl FieldSpan {
    /// The field in `line`, which starts `start` bytes into the head; name and value are checked.
    pub(super) fn of(line: &[u8], start: usize) -> Result<(Self, &[u8], &[u8]), Violation> {
        let (name, value) = split_field(line)?;
        // Both are parts of the line, so their places follow from their lengths: only blanks surround the value.
        let behind_colon = line.get(name.len() + 1..).unwrap_or_default();
        let blanks = behind_colon.len() - behind_colon.trim_ascii_start().len();
        let value_start = start + name.len() + 1 + if value.is_empty() { 0 } else { blanks };
        let span = Self { name: place(start, name.len()), value: place(value_start, value.len()) };
        Ok((span, name, value))
    }

    fn name<'a>(&self, head: &'a [u8]) -> &'a [u8] {
        head.get(self.name.0 as usize..self.name.1 as usize).unwrap_or_default()
    }

    fn value<'a>(&self, head: &'a [u8]) -> &'a [u8] {
        head.get(self.value.0 as usize..self.value.1 as usize).unwrap_or_default()
    }
}

/// Heads are far shorter than 4 GiB.
fn place(start: usize, length: usize) -> (u32, u32) {
    let narrow = |at: usize| u32::try_from(at).unwrap_or(u32::MAX);
    (narrow(start), narrow(start + length))
}

/// The fields of a message.
#[derive(Clone, Default, Debug)]
pub(crate) struct Fields {
    /// The fields to decide by.
    pub(crate) map: HeaderMap,
    /// The head that the fields came in, and where they are in it. Without any, the map is all there is.
    raw: Bytes,
    spans: Vec<FieldSpan>,
}

impl Fields {
    /// The fields at `spans` of `head`.
    pub(super) fn of_head(head: Bytes, spans: Vec<FieldSpan>) -> Self {
        let mut map = HeaderMap::with_capacity(spans.len());
        for span in &spans {
            let value = head.slice(span.value.0 as usize..span.value.1 as usize);
            // The scanner has checked both, so nothing is lost here.
            if let (Ok(name), Ok(value)) =
                (HeaderName::from_bytes(span.name(&head)), HeaderValue::from_maybe_shared(value))
            {
                map.append(name, value);
            }
        }
        Self { map, raw: head, spans }
    }

    /// Fields that came over HTTP/2.
    pub(crate) fn of_map(map: HeaderMap) -> Self {
        Self { map, raw: Bytes::new(), spans: Vec::new() }
    }

    /// Writes the fields as lines of HTTP/1.1, after `edits`, without those that frame the body.
    ///
    /// What is not edited is copied as its sender wrote it.
    pub(crate) fn write(&self, edits: &HeaderEdits, out: &mut BytesMut) {
        if let Some((name, value)) = edits.set.iter().find(|(name, _)| name == HOST) {
            write_field(name, value, out);
        }
        let edited = Edited::new(edits);
        if self.spans.is_empty() {
            for (name, value) in &self.map {
                if !edited.has(name.as_str().as_bytes()) {
                    write_field(name, value, out);
                }
            }
        }
        for span in &self.spans {
            let name = span.name(&self.raw);
            if !edited.has(name) {
                line(name, span.value(&self.raw), out);
            }
        }
        for (name, value) in edits.set.iter().chain(&edits.add) {
            if name != HOST && name != CONTENT_LENGTH && name != TRANSFER_ENCODING {
                write_field(name, value, out);
            }
        }
    }

    /// The fields after `edits` as a map, for HTTP/2: without those that frame the body of HTTP/1.1.
    pub(crate) fn edited(&self, edits: &HeaderEdits) -> HeaderMap {
        let mut map = self.map.clone();
        edits.apply(&mut map);
        map.remove(TRANSFER_ENCODING);
        map.remove(http::header::CONNECTION);
        map.remove(http::header::UPGRADE);
        map
    }
}

/// The names that an edit touches, to be compared quickly: most names differ from all of them by their length.
struct Edited<'a> {
    edits: &'a HeaderEdits,
    lengths: u64,
}

impl<'a> Edited<'a> {
    fn new(edits: &'a HeaderEdits) -> Self {
        let names = edits.removed().chain(edits.set.iter().map(|(name, _)| name));
        let lengths = names
            .fold(bit(CONTENT_LENGTH.as_str().len()) | bit(TRANSFER_ENCODING.as_str().len()), |all, name| {
                all | bit(name.as_str().len())
            });
        Self { edits, lengths }
    }

    fn has(&self, name: &[u8]) -> bool {
        if self.lengths & bit(name.len()) == 0 {
            return false;
        }
        let same = |other: &HeaderName| name.eq_ignore_ascii_case(other.as_str().as_bytes());
        same(&CONTENT_LENGTH)
            || same(&TRANSFER_ENCODING)
            || self.edits.set.iter().any(|(other, _)| same(other))
            || self.edits.removed().any(same)
    }
}

const fn bit(length: usize) -> u64 {
    1 << if length > 63 { 63 } else { length }
}

/// Writes one field, a registered name in the spelling that is usual in HTTP/1.1: `Content-Type`.
pub(crate) fn write_field(name: &HeaderName, value: &HeaderValue, out: &mut BytesMut) {
    if name.as_str().starts_with("x-") {
        return line(name.as_str().as_bytes(), value.as_bytes(), out);
    }
    let start = out.len();
    line(name.as_str().as_bytes(), value.as_bytes(), out);
    let mut upper = true;
    for byte in out.iter_mut().skip(start).take(name.as_str().len()) {
        if upper {
            byte.make_ascii_uppercase();
        }
        upper = *byte == b'-';
    }
}

fn line(name: &[u8], value: &[u8], out: &mut BytesMut) {
    out.reserve(name.len() + value.len() + 4);
    out.extend_from_slice(name);
    out.extend_from_slice(b": ");
    out.extend_from_slice(value);
    out.extend_from_slice(b"\r\n");
}
