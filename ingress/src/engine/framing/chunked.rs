//! The chunked transfer coding (RFC 9112 section 7.1), watched byte by byte.

use http::{HeaderMap, HeaderName, HeaderValue};

use super::{Violation, is_value_byte, split_field};

/// Digits of a chunk size: more would not fit into 63 bits.
const MAX_SIZE_DIGITS: usize = 15;
/// Bytes of the extensions of one chunk.
const MAX_EXTENSION: usize = 1024;
/// Bytes of the extensions of all chunks: nothing uses extensions but attacks that make a parser work for nothing.
const MAX_EXTENSIONS: usize = 16 * 1024;
/// Bytes of the trailer section.
const MAX_TRAILERS: usize = 8 * 1024;

/// Finds the end of a chunked body and refuses whatever another parser could read differently.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub struct ChunkScanner {
    state: State,
    /// Bytes of extensions so far.
    extensions: usize,
    /// Bytes of trailers so far.
    trailers: usize,
    /// The trailer line that is being read.
    line: Vec<u8>,
    fields: Option<Box<HeaderMap>>,
}

/// What lies at the front of the bytes of a chunked body: framing, then data.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Piece {
    /// Bytes of framing, to be dropped.
    pub framing: usize,
    /// Bytes of data behind them.
    pub data: usize,
}

#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum State {
    Size { digits: usize, size: u64 },
    Extension { length: usize, size: u64 },
    SizeEnd { size: u64 },
    Data { rest: u64 },
    DataCr,
    DataLf,
    Trailer,
    TrailerEnd,
    Done,
}

impl Default for State {
    fn default() -> Self {
        Self::Size { digits: 0, size: 0 }
    }
}

impl ChunkScanner {
    /// Whether the last chunk and the trailers have passed.
    pub fn is_done(&self) -> bool {
        self.state == State::Done
    }

    /// Whether there are trailer fields.
    pub(super) fn has_trailers(&self) -> bool {
        self.fields.is_some()
    }

    /// The trailer fields, once all have passed.
    pub fn take_trailers(&mut self) -> Option<HeaderMap> {
        self.fields.take().map(|fields| *fields)
    }

    /// Takes what belongs to the body from the front of `bytes` and says how many bytes that is.
    pub fn advance(&mut self, bytes: &[u8]) -> Result<usize, Violation> {
        let mut taken = 0;
        loop {
            let piece = self.split(bytes.get(taken..).unwrap_or_default())?;
            taken += piece.framing + piece.data;
            if piece.data == 0 {
                return Ok(taken);
            }
        }
    }

    /// Takes framing up to the next data, and as much of that as there is. No data: all of `bytes` was framing, or
    /// the body has come to its end.
    pub fn split(&mut self, bytes: &[u8]) -> Result<Piece, Violation> {
        let framing = self.split_framing(bytes)?;
        let State::Data { rest } = self.state else { return Ok(Piece { framing, data: 0 }) };
        let left = bytes.len() - framing;
        let data = usize::try_from(rest).map_or(left, |rest| rest.min(left));
        let rest = rest - data as u64;
        self.state = if rest == 0 { State::DataCr } else { State::Data { rest } };
        Ok(Piece { framing, data })
    }

    /// Takes the framing at the front of `bytes`, up to the next data.
    pub(super) fn split_framing(&mut self, bytes: &[u8]) -> Result<usize, Violation> {
        let mut taken = 0;
        while let Some(&byte) = bytes.get(taken) {
            match self.state {
                State::Done | State::Data { .. } => break,
                state => self.state = self.step(state, byte)?,
            }
            taken += 1;
        }
        Ok(taken)
    }

    fn step(&mut self, state: State, byte: u8) -> Result<State, Violation> {
        match (state, byte) {
            (State::Size { digits, size }, _) => read_size(digits, size, byte),
            (State::Extension { size, .. }, b'\r') => Ok(State::SizeEnd { size }),
            (State::Extension { length, size }, _) => {
                self.extensions += 1;
                if length >= MAX_EXTENSION || self.extensions > MAX_EXTENSIONS {
                    return Err(Violation::bad_request("the chunk extensions are too long"));
                }
                if !is_value_byte(byte) {
                    return Err(Violation::bad_request("a chunk extension has a control character"));
                }
                Ok(State::Extension { length: length + 1, size })
            }
            (State::SizeEnd { size: 0 }, b'\n') => Ok(State::Trailer),
            (State::SizeEnd { size }, b'\n') => Ok(State::Data { rest: size }),
            (State::DataCr, b'\r') => Ok(State::DataLf),
            (State::DataLf, b'\n') => Ok(State::default()),
            (State::Trailer, b'\r') => Ok(State::TrailerEnd),
            (State::Trailer, _) => {
                self.trailers += 1;
                if self.trailers > MAX_TRAILERS {
                    return Err(Violation::bad_request("the trailers are too long"));
                }
                self.line.push(byte);
                // A line feed may only follow a carriage return, and a NUL may be nowhere.
                if is_value_byte(byte) { Ok(State::Trailer) } else { Err(BAD_TRAILER) }
            }
            (State::TrailerEnd, b'\n') if self.line.is_empty() => Ok(State::Done),
            (State::TrailerEnd, b'\n') => {
                let (name, value) = split_field(&self.line)?;
                if let (Ok(name), Ok(value)) = (HeaderName::from_bytes(name), HeaderValue::from_bytes(value)) {
                    self.fields.get_or_insert_default().append(name, value);
                }
                self.line.clear();
                Ok(State::Trailer)
            }
            _ => Err(Violation::bad_request("a chunk does not end where its size says")),
        }
    }
}

/// Another byte of a size line.
fn read_size(digits: usize, size: u64, byte: u8) -> Result<State, Violation> {
    let Some(digit) = char::from(byte).to_digit(16) else {
        return match byte {
            b'\r' if digits > 0 => Ok(State::SizeEnd { size }),
            b';' if digits > 0 => Ok(State::Extension { length: 0, size }),
            _ => Err(Violation::bad_request("a chunk size is not a hexadecimal number")),
        };
    };
    if digits == MAX_SIZE_DIGITS {
        return Err(Violation::bad_request("a chunk size is too large"));
    }
    Ok(State::Size { digits: digits + 1, size: size << 4 | u64::from(digit) })
}

const BAD_TRAILER: Violation = Violation::bad_request("a trailer field has a control character");
