//! A chunked body.

use bytes::BytesMut;
use http::HeaderMap;

use crate::ingress::engine::framing::{Body, ChunkScanner, Violation};
use crate::pieces::ways;
use crate::request_head::same;

/// What bytes come to.
#[derive(PartialEq, Debug)]
struct Read {
    body: Vec<u8>,
    /// The trailers and how many bytes are behind the body, once it is whole.
    end: Option<(HeaderMap, usize)>,
}

pub(crate) fn run(bytes: &[u8]) {
    let ways = ways(bytes);
    let whole = decode(&ways[0]);
    for pieces in &ways {
        assert_eq!(decode(pieces), whole, "{} pieces", pieces.len());
        assert_eq!(advance(pieces), whole.as_ref().map(|read| read.end.as_ref().map(|end| end.1)).map_err(|e| *e));
    }
    if let Ok(Read { body, end: Some((trailers, behind)) }) = whole {
        agrees(&bytes[..bytes.len() - behind], &body, &trailers);
    }
}

fn decode(pieces: &[&[u8]]) -> Result<Read, Violation> {
    let mut scanner = Body::Chunked(Box::default());
    let (mut input, mut body) = (BytesMut::new(), Vec::new());
    for piece in pieces {
        input.extend_from_slice(piece);
        while let Some(data) = scanner.decode(&mut input)? {
            assert!(!data.is_empty());
            body.extend_from_slice(&data);
        }
        assert!(input.is_empty() || scanner.is_done(), "bytes are left over");
    }
    let Body::Chunked(mut scanner) = scanner else { unreachable!("it was chunked") };
    let end = scanner.is_done().then(|| (scanner.take_trailers().unwrap_or_default(), input.len()));
    Ok(Read { body, end })
}

/// The same without taking the data out: how many bytes are behind the body.
fn advance(pieces: &[&[u8]]) -> Result<Option<usize>, Violation> {
    let (mut scanner, mut behind) = (ChunkScanner::default(), 0);
    for piece in pieces {
        behind += piece.len() - scanner.advance(piece)?;
    }
    Ok(scanner.is_done().then_some(behind))
}

/// What is accepted here means the same to another parser.
fn agrees(mut rest: &[u8], body: &[u8], trailers: &HeaderMap) {
    let mut other = Vec::new();
    loop {
        let Ok(httparse::Status::Complete((line, size))) = httparse::parse_chunk_size(rest) else {
            panic!("httparse reads the sizes that are accepted here");
        };
        rest = &rest[line..];
        if size == 0 {
            break;
        }
        let (data, behind) = rest.split_at(usize::try_from(size).unwrap());
        other.extend_from_slice(data);
        rest = behind.strip_prefix(b"\r\n").expect("a line end behind the data");
    }
    let mut fields = vec![httparse::EMPTY_HEADER; 4096];
    let Ok(httparse::Status::Complete((length, fields))) = httparse::parse_headers(rest, &mut fields) else {
        panic!("httparse reads the trailers that are accepted here");
    };
    assert_eq!(length, rest.len());
    assert_eq!(other, body);
    same(trailers, fields);
}
