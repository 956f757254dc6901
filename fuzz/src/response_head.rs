//! The head of a response and how its body is delimited.

use bytes::{Bytes, BytesMut};
use http::header::{CONTENT_LENGTH, TRANSFER_ENCODING};
use http::{HeaderMap, Method, StatusCode, Version};
use landfall_ingress_model::fields::HeaderEdits;

use crate::ingress::engine::framing::{Body, Malformed, ResponseScanner};
use crate::pieces::ways;
use crate::request_head::same;

/// A head, taken apart.
#[derive(PartialEq, Debug)]
struct Read {
    status: StatusCode,
    version: Version,
    fields: HeaderMap,
    length: Option<u64>,
    body: Body,
    keeps_alive: bool,
    /// The field lines as they would be passed on without an edit.
    written: Bytes,
    /// Bytes behind the head.
    behind: usize,
}

pub(crate) fn run(bytes: &[u8]) {
    for method in [Method::GET, Method::HEAD] {
        let ways = ways(bytes);
        let whole = read(&ways[0], &method);
        for pieces in &ways[1..] {
            assert_eq!(read(pieces, &method), whole, "{} pieces", pieces.len());
        }
        if let Ok(Some(head)) = whole {
            agrees(&bytes[..bytes.len() - head.behind], &head);
            passes_on(&head, &method);
        }
    }
}

fn read(pieces: &[&[u8]], method: &Method) -> Result<Option<Read>, Malformed> {
    let (mut scanner, mut input, mut found) = (ResponseScanner::default(), BytesMut::new(), None);
    for piece in pieces {
        input.extend_from_slice(piece);
        if found.is_none() {
            found = scanner.scan(&mut input, method)?;
        }
    }
    Ok(found.map(|head| {
        let keeps_alive = head.keeps_alive();
        let mut written = BytesMut::new();
        head.fields.write(&HeaderEdits::default(), &mut written);
        let (status, version, length, body) = (head.status, head.version, head.length, head.body);
        let (fields, written, behind) = (head.fields.to_map(), written.freeze(), input.len());
        Read { status, version, fields, length, body, keeps_alive, written, behind }
    }))
}

/// What is accepted here means the same to another parser; nobody is to look at the reason phrase (RFC 9112 section 4).
fn agrees(bytes: &[u8], head: &Read) {
    let line = bytes.iter().position(|byte| *byte == b'\n').expect("a status line");
    let bytes = &[&bytes[..12], &bytes[line..]].concat();
    let mut fields = [httparse::EMPTY_HEADER; 256];
    let mut other = httparse::Response::new(&mut fields);
    let status = other.parse(bytes).expect("httparse reads what is accepted here");
    assert_eq!(status, httparse::Status::Complete(bytes.len()));
    assert_eq!(other.code, Some(head.status.as_u16()));
    assert_eq!(other.version, Some(u8::from(head.version == Version::HTTP_11)));
    same(&head.fields, other.headers);
}

/// What is passed on is read again as the same fields, without those that frame the body.
fn passes_on(head: &Read, method: &Method) {
    let mut fields = head.fields.clone();
    fields.remove(CONTENT_LENGTH);
    fields.remove(TRANSFER_ENCODING);
    let again = [b"HTTP/1.1 200 OK\r\n", &head.written[..], b"\r\n"].concat();
    let read = read(&[&again], method).expect("a head").expect("all of it");
    assert_eq!(read.fields, fields);
    assert_eq!(read.behind, 0);
}
