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

    /// The field's whole line, where it is written as we would write it.
    fn line(&self, head: &[u8]) -> Option<(usize, usize)> {
        let (name_end, value, end) = (self.name.1 as usize, self.value.0 as usize, self.value.1 as usize);
        let plain = head.get(name_end..value)? == b": " && head.get(end..end + 2)? == b"\r\n";
        plain.then_some((self.name.0 as usize, end + 2))
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
        // Lines that follow each other are copied together.
        let mut run = 0..0;
        for span in &self.spans {
            let name = span.name(&self.raw);
            if edited.has(name) {
                continue;
            }
            match span.line(&self.raw) {
                Some((start, end)) if start == run.end => run.end = end,
                Some((start, end)) => {
                    out.extend_from_slice(self.raw.get(std::mem::replace(&mut run, start..end)).unwrap_or_default());
                }
                None => {
                    out.extend_from_slice(self.raw.get(std::mem::take(&mut run)).unwrap_or_default());
                    line(name, span.value(&self.raw), out);
                }
            }
        }
        out.extend_from_slice(self.raw.get(run).unwrap_or_default());
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

/// The names that an edit touches, to be compared quickly: most names differ from all of them by their length or their
/// first letter.
struct Edited<'a> {
    edits: &'a HeaderEdits,
    marks: u64,
}

impl<'a> Edited<'a> {
    fn new(edits: &'a HeaderEdits) -> Self {
        let names = edits.removed().chain(edits.set.iter().map(|(name, _)| name));
        let framing = mark(CONTENT_LENGTH.as_str().as_bytes()) | mark(TRANSFER_ENCODING.as_str().as_bytes());
        let marks = names.fold(framing, |all, name| all | mark(name.as_str().as_bytes()));
        Self { edits, marks }
    }

    fn has(&self, name: &[u8]) -> bool {
        if self.marks & mark(name) == 0 {
            return false;
        }
        let same = |other: &HeaderName| name.eq_ignore_ascii_case(other.as_str().as_bytes());
        same(&CONTENT_LENGTH)
            || same(&TRANSFER_ENCODING)
            || self.edits.set.iter().any(|(other, _)| same(other))
            || self.edits.removed().any(same)
    }
}

/// One of 64 bits, the same for names that are equal but for the case of their letters.
fn mark(name: &[u8]) -> u64 {
    let first = name.first().map_or(0, u8::to_ascii_lowercase);
    1 << ((name.len() * 5 + usize::from(first)) % 64)
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

#[cfg(test)]
mod tests {
    use super::*;

    /// What becomes of these lines when `edits` are made.
    fn written(head: &'static str, edits: &HeaderEdits) -> String {
        let (mut spans, mut start) = (Vec::new(), 0);
        for line in head.split_inclusive('\n') {
            let bare = line.strip_suffix('\n').unwrap();
            let bare = bare.strip_suffix('\r').unwrap_or(bare);
            spans.push(FieldSpan::of(bare.as_bytes(), start).unwrap().0);
            start += line.len();
        }
        let mut out = BytesMut::new();
        Fields::of_head(Bytes::from_static(head.as_bytes()), spans).write(edits, &mut out);
        String::from_utf8(out.to_vec()).unwrap()
    }

    #[test]
    fn lines_are_ours_however_they_were_written() {
        let head = "A: 1\r\nB:2\r\nC: \t 3 \r\nD: 4\r\nX-Gone: 5\r\nE:\r\nF: 6 \nG:\t7\r\nH: 8\n";
        let mut edits = HeaderEdits { remove: vec![HeaderName::from_static("x-gone")], ..HeaderEdits::default() };
        let plain = "A: 1\r\nB: 2\r\nC: 3\r\nD: 4\r\nE: \r\nF: 6\r\nG: 7\r\nH: 8\r\n";
        assert_eq!(written(head, &edits), plain);
        edits.set.push((HeaderName::from_static("d"), HeaderValue::from_static("x")));
        assert_eq!(written(head, &edits), plain.replace("D: 4\r\n", "") + "D: x\r\n");
    }

    #[test]
    fn what_was_edited_is_left_out_in_every_spelling() {
        let mut edits = HeaderEdits::default();
        edits.set.push((HeaderName::from_static("user-agent"), HeaderValue::from_static("me")));
        edits.remove.push(HeaderName::from_static("x-one"));
        let head =
            "Content-Length: 5\r\nuser-agent: a\r\nKEEP: 1\r\nX-ONE: 2\r\nTransfer-encoding: x\r\nUser-Agent: b\r\n";
        assert_eq!(written(head, &edits), "KEEP: 1\r\nUser-Agent: me\r\n");
    }
}
