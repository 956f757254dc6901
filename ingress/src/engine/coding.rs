//! Bodies of answers that are compressed on their way.

use std::collections::VecDeque;
use std::io::Write;

use brotli::CompressorWriter;
use bytes::buf::Writer;
use bytes::{BufMut, BytesMut};
use flate2::Compression;
use flate2::write::GzEncoder;
use landfall_ingress_model::policy::Coding;

use super::body::Part;

/// The logarithm of brotli's window, so that a body on its way takes no more memory than one in gzip.
const BROTLI_WINDOW: u32 = 18;
/// Bytes that brotli takes in at once.
const BROTLI_INPUT: usize = 16 * 1024;

const MEMORY: &str = "memory takes whatever is written";

/// One body.
pub(super) struct Encoder {
    format: Format,
    /// Whether something was taken in since the last flush.
    holds: bool,
    ready: VecDeque<Part>,
}

enum Format {
    Gzip(GzEncoder<Writer<BytesMut>>),
    Brotli(Box<CompressorWriter<Writer<BytesMut>>>),
}

impl Encoder {
    pub(super) fn new(coding: Coding) -> Self {
        let out = BytesMut::new().writer();
        let format = match coding {
            Coding::Gzip(level) => Format::Gzip(GzEncoder::new(out, Compression::new(level))),
            Coding::Brotli(level) => {
                Format::Brotli(Box::new(CompressorWriter::new(out, BROTLI_INPUT, level, BROTLI_WINDOW)))
            }
        };
        Self { format, holds: false, ready: VecDeque::new() }
    }

    /// What is ready to be sent.
    pub(super) fn next(&mut self) -> Option<Part> {
        self.ready.pop_front()
    }

    /// Whether all that was taken in was given out.
    pub(super) fn is_empty(&self) -> bool {
        self.ready.is_empty()
    }

    /// Takes a part of the body in.
    pub(super) fn take(&mut self, part: Part) {
        let (data, end) = match part {
            Part::Data(data) => (data, None),
            Part::Last(data) => (data, Some(Part::End)),
            end @ (Part::Trailers(_) | Part::End) => (bytes::Bytes::new(), Some(end)),
        };
        self.holds |= !data.is_empty();
        match &mut self.format {
            Format::Gzip(encoder) => encoder.write_all(&data),
            Format::Brotli(encoder) => encoder.write_all(&data),
        }
        .expect(MEMORY);
        if let Some(end) = end {
            match &mut self.format {
                Format::Gzip(encoder) => encoder.try_finish().expect(MEMORY),
                Format::Brotli(encoder) => {
                    let empty = CompressorWriter::new(BytesMut::new().writer(), 1, 0, BROTLI_WINDOW);
                    let rest = std::mem::replace(&mut **encoder, empty).into_inner();
                    encoder.get_mut().get_mut().extend_from_slice(rest.get_ref());
                }
            }
            self.give();
            self.ready.push_back(end);
        } else {
            self.give();
        }
    }

    /// Gives out all that was taken in, since nothing else comes for now; says whether there was something.
    pub(super) fn flush(&mut self) -> bool {
        if !std::mem::take(&mut self.holds) {
            return false;
        }
        match &mut self.format {
            Format::Gzip(encoder) => encoder.flush(),
            Format::Brotli(encoder) => encoder.flush(),
        }
        .expect(MEMORY);
        self.give();
        !self.is_empty()
    }

    fn give(&mut self) {
        let out = match &mut self.format {
            Format::Gzip(encoder) => encoder.get_mut().get_mut(),
            Format::Brotli(encoder) => encoder.get_mut().get_mut(),
        };
        if !out.is_empty() {
            self.ready.push_back(Part::Data(out.split().freeze()));
        }
    }
}

#[cfg(test)]
mod tests {
    use std::io::Read;

    use bytes::Bytes;

    use super::*;

    fn sent(encoder: &mut Encoder) -> Vec<u8> {
        let parts = std::iter::from_fn(|| encoder.next());
        parts.filter_map(|part| if let Part::Data(data) = part { Some(data) } else { None }).flatten().collect()
    }

    fn plain(coding: Coding, bytes: &[u8]) -> Vec<u8> {
        let mut plain = Vec::new();
        match coding {
            // What was flushed can be read before the end is there.
            Coding::Gzip(_) => drop(flate2::read::GzDecoder::new(bytes).read_to_end(&mut plain)),
            Coding::Brotli(_) => drop(brotli::Decompressor::new(bytes, 4096).read_to_end(&mut plain)),
        }
        plain
    }

    #[test]
    fn what_was_taken_in_can_be_read_when_nothing_else_comes() {
        for coding in [Coding::Gzip(1), Coding::Gzip(9), Coding::Brotli(4)] {
            let mut encoder = Encoder::new(coding);
            let mut all = Vec::new();
            for piece in ["event: one\n\n", "event: two\n\n"] {
                encoder.take(Part::Data(Bytes::from_static(piece.as_bytes())));
                encoder.flush();
                all.extend(sent(&mut encoder));
                assert!(plain(coding, &all).ends_with(piece.as_bytes()), "{coding:?}");
            }
            assert!(!encoder.flush(), "nothing is sent for nothing");
            encoder.take(Part::Last(Bytes::from_static(b"end")));
            assert!(!encoder.is_empty());
            all.extend(sent(&mut encoder));
            assert_eq!(plain(coding, &all), b"event: one\n\nevent: two\n\nend", "{coding:?}");
        }
    }

    #[test]
    fn trailers_follow_the_last_of_the_body() {
        let mut encoder = Encoder::new(Coding::Gzip(1));
        encoder.take(Part::Data(Bytes::from(vec![b'a'; 100_000])));
        encoder.take(Part::Trailers(http::HeaderMap::new()));
        let parts: Vec<_> = std::iter::from_fn(|| encoder.next()).collect();
        assert!(matches!(parts.last(), Some(Part::Trailers(_))));
        assert_eq!(parts.iter().filter(|part| part.is_final()).count(), 1);
    }
}
