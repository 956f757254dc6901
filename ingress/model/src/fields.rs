//! The fields of a message (RFC 9110 section 5), in the bytes of their sender.
//!
//! Most fields of a message are neither looked at nor changed. So none is copied or parsed before somebody asks for
//! it: a field is a place in the bytes, and a mask says of most names that are absent that they are.

mod edits;
mod write;

use std::borrow::Borrow;
use std::fmt;

use bytes::{Bytes, BytesMut};
use http::{HeaderMap, HeaderName, HeaderValue};

pub use edits::{HeaderEdits, Names};
pub use write::write_field;

/// Where a field line lies within the bytes of its message.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct FieldLine {
    name: u32,
    value: u32,
    value_length: u32,
    name_length: u16,
    mark: u8,
    is_tidy: bool,
}

/// A place that no field line can have: heads are shorter than 4 GiB, and names than 64 KiB.
#[derive(Clone, Copy, PartialEq, Eq, Debug, thiserror::Error)]
#[error("a field is too long")]
pub struct TooLong;

impl FieldLine {
    /// The line whose name begins `start` bytes into the message; its value follows at `value`.
    ///
    /// `is_tidy` is whether the line is written as we would write it: colon and one blank behind the name, and CRLF
    /// behind the value. Such lines are copied as they are.
    pub fn new(start: usize, name: &[u8], value: usize, value_length: usize, is_tidy: bool) -> Result<Self, TooLong> {
        let narrow = |number: usize| u32::try_from(number).map_err(|_| TooLong);
        // The end of the line has to have a place as well.
        narrow(value.saturating_add(value_length).saturating_add(2))?;
        Ok(Self {
            name: narrow(start)?,
            value: narrow(value)?,
            value_length: narrow(value_length)?,
            name_length: u16::try_from(name.len()).map_err(|_| TooLong)?,
            mark: mark(name),
            is_tidy,
        })
    }

    fn name<'a>(&self, raw: &'a [u8]) -> &'a [u8] {
        let start = self.name as usize;
        raw.get(start..start + usize::from(self.name_length)).unwrap_or_default()
    }

    fn value<'a>(&self, raw: &'a [u8]) -> &'a [u8] {
        let start = self.value as usize;
        raw.get(start..start + self.value_length as usize).unwrap_or_default()
    }

    /// From the name to the line feed, where the line is tidy.
    fn whole(&self) -> std::ops::Range<usize> {
        self.name as usize..self.value as usize + self.value_length as usize + 2
    }
}

/// One of 64 numbers, the same for names that are equal but for the case of their letters.
#[expect(clippy::cast_possible_truncation, reason = "it is less than 64")]
fn mark(name: &[u8]) -> u8 {
    let first = name.first().map_or(0, u8::to_ascii_lowercase);
    ((name.len() * 5 + usize::from(first)) % 64) as u8
}

/// The fields of a message, in their order.
#[derive(Clone, Default)]
pub struct Fields {
    raw: Bytes,
    lines: Vec<FieldLine>,
    /// The marks of all names, as bits.
    marks: u64,
}

/// The value of a field: visible characters, blanks and bytes above ASCII.
#[derive(Clone, Copy)]
pub struct FieldValue<'a> {
    raw: &'a Bytes,
    bytes: &'a [u8],
}

/// A value has characters beyond visible ASCII.
#[derive(Clone, Copy, PartialEq, Eq, Debug, thiserror::Error)]
#[error("the value of a field has characters beyond visible ASCII")]
pub struct NotText;

impl Fields {
    /// The fields at `lines` of `raw`, which were checked by whoever has found them.
    pub fn new(raw: Bytes, lines: Vec<FieldLine>) -> Self {
        let marks = lines.iter().fold(0, |all, line| all | 1 << line.mark);
        Self { raw, lines, marks }
    }

    /// How many field lines there are.
    pub fn len(&self) -> usize {
        self.lines.len()
    }

    /// The bytes of the message that the fields came in.
    pub fn size(&self) -> usize {
        self.raw.len()
    }

    /// Bytes of memory that they take: those of the message, and the places of the lines.
    pub fn held(&self) -> usize {
        self.raw.len() + self.lines.capacity() * size_of::<FieldLine>()
    }

    /// Whether there is none.
    pub fn is_empty(&self) -> bool {
        self.lines.is_empty()
    }

    /// The first value of a field.
    pub fn get(&self, name: impl Borrow<HeaderName>) -> Option<FieldValue<'_>> {
        self.get_all(name).next()
    }

    /// All values of a field, in their order.
    pub fn get_all<N: Borrow<HeaderName>>(&self, name: N) -> Values<'_, N> {
        let mark = mark(name.borrow().as_str().as_bytes());
        let lines = if self.marks & 1 << mark == 0 { &[] } else { self.lines.as_slice() };
        Values { raw: &self.raw, lines: lines.iter(), name, mark }
    }

    /// Whether there is a field of this name.
    pub fn contains(&self, name: impl Borrow<HeaderName>) -> bool {
        self.get(name).is_some()
    }

    /// The names of all fields as they were written.
    pub fn names(&self) -> impl Iterator<Item = &[u8]> {
        self.lines.iter().map(|line| line.name(&self.raw))
    }

    /// All fields: name as it was written, and value.
    pub fn iter(&self) -> impl Iterator<Item = (&[u8], FieldValue<'_>)> {
        self.lines
            .iter()
            .map(|line| (line.name(&self.raw), FieldValue { raw: &self.raw, bytes: line.value(&self.raw) }))
    }

    /// The same fields as a map. What is no name for `http` is left out; the scanners let none of it pass.
    pub fn to_map(&self) -> HeaderMap {
        let mut map = HeaderMap::with_capacity(self.len());
        for (name, value) in self.iter() {
            if let Ok(name) = HeaderName::from_bytes(name) {
                map.append(name, value.to_value());
            }
        }
        map
    }
}

impl<'a> FieldValue<'a> {
    /// Its bytes.
    pub fn as_bytes(&self) -> &'a [u8] {
        self.bytes
    }

    /// Its text.
    ///
    /// # Errors
    ///
    /// [`NotText`] where it has bytes above ASCII.
    pub fn to_str(&self) -> Result<&'a str, NotText> {
        if self.bytes.is_ascii() { std::str::from_utf8(self.bytes).map_err(|_| NotText) } else { Err(NotText) }
    }

    /// How many bytes it has.
    pub fn len(&self) -> usize {
        self.bytes.len()
    }

    /// Whether it is empty.
    pub fn is_empty(&self) -> bool {
        self.bytes.is_empty()
    }

    /// The value by itself; its bytes are shared with the message.
    pub fn to_value(&self) -> HeaderValue {
        // Whoever found the field has checked its value.
        HeaderValue::from_maybe_shared(self.raw.slice_ref(self.bytes)).unwrap_or(HeaderValue::from_static(""))
    }
}

impl fmt::Debug for FieldValue<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:?}", String::from_utf8_lossy(self.bytes))
    }
}

impl fmt::Debug for Fields {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let fields = self.iter().map(|(name, value)| (String::from_utf8_lossy(name), value));
        f.debug_map().entries(fields).finish()
    }
}

/// All values of one field.
#[derive(Clone, Debug)]
pub struct Values<'a, N> {
    raw: &'a Bytes,
    lines: std::slice::Iter<'a, FieldLine>,
    name: N,
    mark: u8,
}

impl<'a, N: Borrow<HeaderName>> Values<'a, N> {
    /// The value of a line whose name has the right mark, if it is the right name.
    fn value(&self, line: &FieldLine) -> Option<FieldValue<'a>> {
        let name = self.name.borrow().as_str().as_bytes();
        let same = line.name(self.raw).eq_ignore_ascii_case(name);
        same.then(|| FieldValue { raw: self.raw, bytes: line.value(self.raw) })
    }
}

impl<'a, N: Borrow<HeaderName>> Iterator for Values<'a, N> {
    type Item = FieldValue<'a>;

    fn next(&mut self) -> Option<Self::Item> {
        while let Some(line) = self.lines.next() {
            if line.mark == self.mark
                && let Some(value) = self.value(line)
            {
                return Some(value);
            }
        }
        None
    }
}

impl<N: Borrow<HeaderName>> DoubleEndedIterator for Values<'_, N> {
    fn next_back(&mut self) -> Option<Self::Item> {
        while let Some(line) = self.lines.next_back() {
            if line.mark == self.mark
                && let Some(value) = self.value(line)
            {
                return Some(value);
            }
        }
        None
    }
}

impl<'a> FromIterator<(&'a HeaderName, &'a HeaderValue)> for Fields {
    fn from_iter<I: IntoIterator<Item = (&'a HeaderName, &'a HeaderValue)>>(fields: I) -> Self {
        let (mut raw, mut lines) = (BytesMut::new(), Vec::new());
        for (name, value) in fields {
            let start = raw.len();
            write_field(name, value, &mut raw);
            let name = name.as_str().as_bytes();
            lines.extend(FieldLine::new(start, name, start + name.len() + 2, value.len(), true));
        }
        Self::new(raw.freeze(), lines)
    }
}

impl FromIterator<(HeaderName, HeaderValue)> for Fields {
    fn from_iter<I: IntoIterator<Item = (HeaderName, HeaderValue)>>(fields: I) -> Self {
        let fields: Vec<_> = fields.into_iter().collect();
        fields.iter().map(|(name, value)| (name, value)).collect()
    }
}

/// Fields that came over HTTP/2, or that are made here.
impl From<&HeaderMap> for Fields {
    fn from(map: &HeaderMap) -> Self {
        map.iter().collect()
    }
}

#[cfg(test)]
mod tests;
