//! The head of an HTTP/1 response: status line and fields (RFC 9112 sections 4 to 6).
//!
//! A line may end in a line feed alone, as many small servers have it: the head is written anew for the client, so
//! nobody else reads these bytes.

use bytes::BytesMut;
use http::{Method, StatusCode, Version, header};
use landfall_ingress_model::fields::{FieldLine, FieldValue, Fields};
use landfall_ingress_model::pipeline::{BadFraming, declared_length};
use memchr::memchr;

use super::fields::field_line;
use super::{Body, USUAL_FIELDS, keeps_alive};

/// Bytes of the head of a response.
const MAX_HEAD: usize = 256 * 1024;
/// Fields of a response.
const MAX_FIELDS: usize = 256;

/// What a response says that no response may say.
#[derive(Clone, Copy, PartialEq, Eq, Debug, thiserror::Error)]
#[error("{0}")]
pub(crate) struct Malformed(pub(crate) &'static str);

impl From<BadFraming> for Malformed {
    fn from(error: BadFraming) -> Self {
        Self(match error {
            BadFraming::Lengths => "the response has two different Content-Lengths",
            BadFraming::NotALength => "the Content-Length is not a number of bytes",
            BadFraming::Coding => "the response has a transfer coding other than chunked",
            BadFraming::Both => "the response has both a Content-Length and a Transfer-Encoding",
        })
    }
}

/// A complete and sound head.
#[derive(Debug)]
pub(crate) struct ResponseHead {
    pub(crate) status: StatusCode,
    pub(crate) version: Version,
    pub(crate) fields: Fields,
    /// The declared length, where there is one; also of a response without a body, as one to HEAD.
    pub(crate) length: Option<u64>,
    /// How the body is delimited.
    pub(crate) body: Body,
}

impl ResponseHead {
    /// Whether the server would take another request on the connection.
    pub(crate) fn keeps_alive(&self) -> bool {
        self.body != Body::UntilEnd && keeps_alive(self.version, &self.fields)
    }
}

/// Finds a head in bytes that come in pieces.
#[derive(Debug, Default)]
pub(crate) struct ResponseScanner {
    /// Start of the line that is being read.
    line_start: usize,
    /// Up to here there is no line feed behind `line_start`.
    searched: usize,
    line: Option<(Version, StatusCode)>,
    lines: Vec<FieldLine>,
}

impl ResponseScanner {
    /// Looks at all bytes read so far and takes the head off them when it is whole. `None`: more bytes are needed.
    pub(crate) fn scan(&mut self, input: &mut BytesMut, method: &Method) -> Result<Option<ResponseHead>, Malformed> {
        loop {
            let unseen = input.get(self.searched..).unwrap_or_default();
            let found = memchr(b'\n', unseen).map(|at| self.searched + at);
            let end = found.map_or(input.len(), |at| at + 1);
            if end > MAX_HEAD {
                return Err(Malformed("the head of the response is too large"));
            }
            let Some(line_feed) = found else {
                self.searched = input.len();
                // What is no response need not be waited for.
                let start = input.get(..input.len().min(5)).unwrap_or_default();
                return if b"HTTP/".starts_with(start) || self.line.is_some() { Ok(None) } else { Err(NO_STATUS_LINE) };
            };
            let start = self.line_start;
            self.line_start = end;
            self.searched = end;
            let line = input.get(start..line_feed).unwrap_or_default();
            let (line, crlf) = line.strip_suffix(b"\r").map_or((line, false), |line| (line, true));
            let Some((version, status)) = self.line else {
                self.line = Some(status_line(line)?);
                continue;
            };
            if line.is_empty() {
                let lines = std::mem::take(&mut self.lines);
                *self = Self::default();
                let fields = Fields::new(input.split_to(end).freeze(), lines);
                return head(version, status, fields, method).map(Some);
            }
            let place = field_line(line, start, crlf).map_err(|violation| Malformed(violation.reason))?.0;
            if self.lines.is_empty() {
                self.lines.reserve(USUAL_FIELDS);
            }
            self.lines.push(place);
            if self.lines.len() > MAX_FIELDS {
                return Err(Malformed("the response has too many header fields"));
            }
        }
    }
}

const NO_STATUS_LINE: Malformed = Malformed("the response does not begin with a status line");

fn status_line(line: &[u8]) -> Result<(Version, StatusCode), Malformed> {
    let version = match line.get(..9) {
        Some(b"HTTP/1.1 ") => Version::HTTP_11,
        Some(b"HTTP/1.0 ") => Version::HTTP_10,
        _ => return Err(NO_STATUS_LINE),
    };
    let code = line.get(9..12).unwrap_or_default();
    let ends = matches!(line.get(12), None | Some(b' '));
    let status = StatusCode::from_bytes(code).ok().filter(|status| ends && status.as_u16() < 600);
    Ok((version, status.ok_or(Malformed("the status of the response is not a number from 100 to 599"))?))
}

/// How the body is delimited (RFC 9112 section 6.3), and the framing fields reduced to one of each.
fn head(version: Version, status: StatusCode, fields: Fields, method: &Method) -> Result<ResponseHead, Malformed> {
    let bodiless = status.is_informational() || matches!(status.as_u16(), 204 | 304) || method == Method::HEAD;
    // Where there is no body, nothing that is said of one can lead anybody astray.
    let length = match declared_length(&fields) {
        Err(error) if !bodiless => return Err(Malformed::from(error)),
        declared => declared.unwrap_or_default(),
    };
    let chunked = !bodiless && is_chunked(&fields)?;
    if chunked && length.is_some() {
        return Err(Malformed("the response has both a Content-Length and a Transfer-Encoding"));
    }
    let body = match length {
        _ if bodiless => Body::Length(0),
        Some(length) => Body::Length(length),
        None if chunked => Body::Chunked(Box::default()),
        None => Body::UntilEnd,
    };
    let framed = !status.is_informational() && status != StatusCode::NO_CONTENT;
    Ok(ResponseHead { status, version, fields, length: length.filter(|_| framed), body })
}

fn is_chunked(fields: &Fields) -> Result<bool, Malformed> {
    let mut chunked = false;
    for value in fields.get_all(header::TRANSFER_ENCODING) {
        if !is_word(value, b"chunked") {
            return Err(Malformed("the response has a transfer coding other than chunked"));
        }
        chunked = true;
    }
    Ok(chunked)
}

fn is_word(value: FieldValue<'_>, word: &[u8]) -> bool {
    value.as_bytes().trim_ascii().eq_ignore_ascii_case(word)
}

#[cfg(test)]
mod tests;
