//! Pieces of a body on their way, and how HTTP/1.1 writes them.

use bytes::{Bytes, BytesMut};
use http::HeaderMap;
use landfall_ingress_model::fields::write_field;
use landfall_ingress_model::pipeline::may_trail;
use tokio::io::{AsyncRead, AsyncWrite};

use super::wire::Wire;

/// What comes next of a body.
#[derive(Clone, Debug)]
pub(super) enum Part {
    /// Some of it.
    Data(Bytes),
    /// The last of it; no trailers follow.
    Last(Bytes),
    /// The trailer fields, which end it.
    Trailers(HeaderMap),
    /// The end.
    End,
}

impl Part {
    /// Bytes of the body in it.
    pub(super) fn len(&self) -> usize {
        match self {
            Self::Data(data) | Self::Last(data) => data.len(),
            Self::Trailers(_) | Self::End => 0,
        }
    }

    /// Whether nothing comes behind it.
    pub(super) fn is_final(&self) -> bool {
        !matches!(self, Self::Data(_))
    }
}

/// How long a body is, as far as its head says so.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum Length {
    /// There is none.
    None,
    /// This many bytes.
    Known(u64),
    /// Only its end says so.
    Unknown,
}

/// Writes a body as HTTP/1.1 frames it.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum BodyWriter {
    /// So many bytes are still to come.
    Length(u64),
    /// In chunks.
    Chunked,
    /// The end of the connection is the end of the body.
    UntilEnd,
}

/// A body is longer or shorter than its head said.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) struct WrongLength;

impl BodyWriter {
    /// Writes a part, for which there must be room in `wire`.
    pub(super) fn write<S>(&mut self, part: Part, wire: &mut Wire<S>) -> Result<(), WrongLength>
    where
        S: AsyncRead + AsyncWrite + Unpin,
    {
        let last = part.is_final();
        let (data, trailers) = match part {
            Part::Data(data) | Part::Last(data) => (data, None),
            Part::Trailers(trailers) => (Bytes::new(), Some(trailers)),
            Part::End => (Bytes::new(), None),
        };
        match self {
            Self::Length(rest) => {
                let length = data.len() as u64;
                *rest = rest.checked_sub(length).filter(|rest| *rest == 0 || !last).ok_or(WrongLength)?;
                wire.push(data, b"");
            }
            Self::Chunked => write_chunk(data, last, trailers.as_ref(), wire),
            Self::UntilEnd => wire.push(data, b""),
        }
        Ok(())
    }
}

/// An empty chunk would be the end of the body, so only the end is written as one.
fn write_chunk<S>(data: Bytes, last: bool, trailers: Option<&HeaderMap>, wire: &mut Wire<S>)
where
    S: AsyncRead + AsyncWrite + Unpin,
{
    if !data.is_empty() {
        let out = wire.output();
        hexadecimal(data.len(), out);
        out.extend_from_slice(b"\r\n");
        wire.push(data, if last { b"\r\n0\r\n\r\n" } else { b"\r\n" });
        return;
    }
    if !last {
        return;
    }
    let out = wire.output();
    out.extend_from_slice(b"0\r\n");
    for (name, value) in trailers.into_iter().flatten() {
        if may_trail(name) {
            write_field(name, value, out);
        }
    }
    out.extend_from_slice(b"\r\n");
}

/// Writes a number in decimal digits.
pub(super) fn decimal(number: u64, out: &mut BytesMut) {
    // 2^64 has 20 digits.
    let mut digits = [0; 20];
    let (mut at, mut rest) = (digits.len(), number);
    while at > 0 {
        at -= 1;
        digits[at] = b"0123456789"[usize::try_from(rest % 10).unwrap_or_default()];
        rest /= 10;
        if rest == 0 {
            break;
        }
    }
    out.extend_from_slice(&digits[at..]);
}

fn hexadecimal(number: usize, out: &mut BytesMut) {
    let digits = (usize::BITS - number.leading_zeros()).div_ceil(4).max(1);
    for digit in (0..digits).rev() {
        let value = (number >> (digit * 4)) & 0xf;
        out.extend_from_slice(&[b"0123456789abcdef"[value]]);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sizes_are_hexadecimal() {
        for number in [0, 1, 9, 10, 15, 16, 255, 4096, 32 * 1024, usize::MAX] {
            let mut out = BytesMut::new();
            hexadecimal(number, &mut out);
            assert_eq!(out, format!("{number:x}"));
        }
    }

    #[test]
    fn lengths_are_decimal() {
        for number in [0, 1, 9, 10, 99, 100, 1024, u64::MAX] {
            let mut out = BytesMut::new();
            decimal(number, &mut out);
            assert_eq!(out, number.to_string());
        }
    }
}
