//! Strict HTTP/1 framing without input or output: where a request's head ends, and where its body does.
//!
//! Request smuggling needs two programs that see different boundaries in the same bytes. So whatever RFC 9112 calls
//! malformed or lets a recipient guess is refused here, before the engine sees a byte of it, and the engine only
//! ever gets the bytes of one request.

mod chunked;
mod fields;
mod head;
mod response;

use bytes::{Bytes, BytesMut};
use http::header::CONNECTION;
use http::{HeaderMap, StatusCode, Version};
use landfall_ingress_model::fields::Fields;
use landfall_ingress_model::pipeline::has_token;
use memchr::memchr;

pub use chunked::ChunkScanner;
pub use head::{Head, Limits, RequestScanner};

pub(crate) use head::parse_length;
pub(crate) use response::{Malformed, ResponseScanner};

/// Fields that a message usually has no more of.
const USUAL_FIELDS: usize = 16;

/// A breach of the framing rules: the answer it gets; the connection is closed after it.
#[derive(Clone, Copy, PartialEq, Eq, Debug, thiserror::Error)]
#[error("{reason}")]
pub struct Violation {
    /// The status of the answer.
    pub status: StatusCode,
    /// What is wrong, for the page and the log.
    pub reason: &'static str,
}

impl Violation {
    /// A 400.
    pub(crate) const fn bad_request(reason: &'static str) -> Self {
        Self { status: StatusCode::BAD_REQUEST, reason }
    }

    /// Another status.
    pub(crate) const fn new(status: StatusCode, reason: &'static str) -> Self {
        Self { status, reason }
    }
}

/// How the body of a message is delimited (RFC 9112 section 6.3).
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Body {
    /// This many bytes are still to come; 0 for a message without a body.
    Length(u64),
    /// Chunked; the scanner knows where it ends.
    Chunked(Box<ChunkScanner>),
    /// A response that ends with its connection.
    UntilEnd,
}

impl Body {
    /// Whether the body has come to its end.
    pub fn is_done(&self) -> bool {
        match self {
            Self::Length(rest) => *rest == 0,
            Self::Chunked(scanner) => scanner.is_done(),
            Self::UntilEnd => false,
        }
    }

    /// The trailer fields of a body that has come to its end.
    pub(crate) fn take_trailers(&mut self) -> Option<HeaderMap> {
        match self {
            Self::Chunked(scanner) => scanner.take_trailers(),
            Self::Length(_) | Self::UntilEnd => None,
        }
    }

    /// Whether a body that has come to its end has trailer fields.
    pub(crate) fn has_trailers(&self) -> bool {
        matches!(self, Self::Chunked(scanner) if scanner.has_trailers())
    }

    /// Takes the next data off the front of `input`, and any framing around it. `None`: more bytes are needed, or the
    /// body has come to its end.
    pub(crate) fn decode(&mut self, input: &mut BytesMut) -> Result<Option<Bytes>, Violation> {
        let data = match self {
            Self::Length(rest) => {
                let taken = usize::try_from(*rest).map_or(input.len(), |rest| rest.min(input.len()));
                *rest -= taken as u64;
                input.split_to(taken)
            }
            Self::Chunked(scanner) => {
                let piece = scanner.split(input)?;
                let _ = input.split_to(piece.framing);
                let data = input.split_to(piece.data);
                // Behind the data its end may be known already, which saves a look of its own.
                if !data.is_empty() {
                    let framing = scanner.split_framing(input)?;
                    let _ = input.split_to(framing);
                }
                data
            }
            Self::UntilEnd => input.split(),
        };
        Ok((!data.is_empty()).then(|| data.freeze()))
    }

    /// Takes what belongs to the body from the front of `bytes` and says how many bytes that is.
    ///
    /// What is not taken belongs to the next request.
    pub fn advance(&mut self, bytes: &[u8]) -> Result<usize, Violation> {
        match self {
            Self::Length(rest) => {
                let taken = usize::try_from(*rest).map_or(bytes.len(), |rest| rest.min(bytes.len()));
                *rest -= taken as u64;
                Ok(taken)
            }
            Self::Chunked(scanner) => scanner.advance(bytes),
            Self::UntilEnd => Ok(bytes.len()),
        }
    }
}

/// Whether the sender of a message takes or sends another one on its connection (RFC 9112 section 9.3).
pub(crate) fn keeps_alive(version: Version, headers: &Fields) -> bool {
    let closes = has_token(headers, CONNECTION, "close");
    !closes && (version != Version::HTTP_10 || has_token(headers, CONNECTION, "keep-alive"))
}

/// `tchar` of RFC 9110 section 5.6.2: what methods and field names are made of.
pub(crate) const fn is_token_byte(byte: u8) -> bool {
    matches!(byte,
        b'a'..=b'z' | b'A'..=b'Z' | b'0'..=b'9' | b'!' | b'#' | b'$' | b'%' | b'&' | b'\'' | b'*' | b'+' | b'-'
        | b'.' | b'^' | b'_' | b'`' | b'|' | b'~')
}

const TOKEN_BYTES: [bool; 256] = {
    let mut bytes = [false; 256];
    let mut byte = 0;
    while byte < 128 {
        bytes[byte as usize] = is_token_byte(byte);
        byte += 1;
    }
    bytes
};

/// What a field value may have: visible characters, spaces, tabs and bytes above ASCII (RFC 9110 section 5.5).
pub(crate) const fn is_value_byte(byte: u8) -> bool {
    matches!(byte, b'\t' | b' '..=b'~' | 0x80..)
}

/// Splits a field line into name and value, both checked; the value without the space around it.
pub(crate) fn split_field(line: &[u8]) -> Result<(&[u8], &[u8]), Violation> {
    let length = line.iter().take_while(|byte| TOKEN_BYTES[usize::from(**byte)]).count();
    let (name, rest) = line.split_at(length);
    let value = match rest.split_first() {
        Some((b':', value)) if !name.is_empty() => value,
        _ => return Err(Violation::bad_request(name_fault(line))),
    };
    if !is_value(value) {
        return Err(Violation::bad_request("the value of a header field has a control character"));
    }
    Ok((name, value.trim_ascii()))
}

/// Why a line does not begin with a name and a colon.
fn name_fault(line: &[u8]) -> &'static str {
    let Some(colon) = memchr(b':', line).filter(|_| !matches!(line.first(), Some(b' ' | b'\t'))) else {
        return match line.first() {
            Some(b' ' | b'\t') => "a header field is folded over two lines",
            _ => "a header field has no colon",
        };
    };
    match line[..colon].last() {
        Some(b' ' | b'\t') => "there is white space before the colon of a header field",
        _ => "the name of a header field has a character that no name has",
    }
}

/// Whether all bytes may stand in a value; eight at a time, since most values have no byte that needs a second look.
fn is_value(value: &[u8]) -> bool {
    const ONES: u64 = u64::from_ne_bytes([1; 8]);
    const HIGH: u64 = ONES << 7;
    let (words, rest) = value.as_chunks::<8>();
    let is_plain = |word: &[u8; 8]| {
        let word = u64::from_ne_bytes(*word);
        let delete = word ^ (ONES * 0x7f);
        // A borrow can only make a plain byte look suspicious, never the other way round.
        let suspicious = (word.wrapping_sub(ONES * 0x20) & !word) | (delete.wrapping_sub(ONES) & !delete);
        suspicious & HIGH == 0
    };
    let fine = |bytes: &[u8]| bytes.iter().all(|byte| is_value_byte(*byte));
    words.iter().all(|word| is_plain(word) || fine(word)) && fine(rest)
}

#[cfg(test)]
mod tests;
