//! The head of a request and where its body ends.

use bytes::{Bytes, BytesMut};
use http::HeaderMap;
use http::header::{CONTENT_LENGTH, TRANSFER_ENCODING};
use landfall_ingress_model::fields::HeaderEdits;

use crate::ingress::engine::framing::{Head, Limits, RequestScanner, Violation};
use crate::pieces::ways;

/// What bytes come to: the head, once it is there, and what there is of the body.
#[derive(PartialEq, Debug)]
struct Read {
    head: Head,
    body: Vec<u8>,
    /// Whether the body is whole, and if so how many bytes are behind it.
    behind: Option<usize>,
}

pub(crate) fn run(bytes: &[u8]) {
    let ways = ways(bytes);
    let whole = read(&ways[0]);
    for pieces in &ways[1..] {
        assert_eq!(read(pieces), whole, "{} pieces", pieces.len());
    }
    if let Ok(Some(read)) = whole {
        assert!(read.head.length <= bytes.len());
        agrees(bytes, &read.head);
        passes_on(bytes, read.head);
    }
}

fn read(pieces: &[&[u8]]) -> Result<Option<Read>, Violation> {
    let (mut scanner, limits) = (RequestScanner::default(), Limits::default());
    let mut input = BytesMut::new();
    let mut found: Option<(Head, Vec<u8>)> = None;
    // How the body is delimited is part of the head; where it has got to is not.
    let mut body = None;
    for piece in pieces {
        input.extend_from_slice(piece);
        if found.is_none()
            && let Some(head) = scanner.scan(&input, &limits)?
        {
            let _ = input.split_to(head.length);
            body = Some(head.body.clone());
            found = Some((head, Vec::new()));
        }
        if let (Some((_, data)), Some(body)) = (&mut found, &mut body) {
            while let Some(part) = body.decode(&mut input)? {
                data.extend_from_slice(&part);
            }
        }
    }
    let done = body.is_some_and(|body| body.is_done());
    Ok(found.map(|(head, body)| Read { head, body, behind: done.then_some(input.len()) }))
}

/// What is accepted here means the same to another parser.
fn agrees(bytes: &[u8], head: &Head) {
    let mut fields = [httparse::EMPTY_HEADER; 128];
    let mut other = httparse::Request::new(&mut fields);
    let status = other.parse(bytes).expect("httparse reads what is accepted here");
    assert_eq!(status, httparse::Status::Complete(head.length));
    assert_eq!(other.method, Some(head.method.as_str()));
    assert_eq!(other.version, Some(u8::from(head.version == http::Version::HTTP_11)));
    let target = other.path.unwrap_or_default();
    match &head.authority {
        None => assert_eq!(target, head.target),
        Some(authority) => assert!(target.contains(authority.as_str()), "{target:?} is not of {authority:?}"),
    }
    let ours = request_fields(&mut head.clone(), Bytes::copy_from_slice(&bytes[..head.length])).0;
    same(&ours, other.headers);
}

/// The fields, and the field lines as they would be passed on without an edit.
fn request_fields(head: &mut Head, bytes: Bytes) -> (HeaderMap, Bytes) {
    let fields = head.fields(bytes);
    let mut written = BytesMut::new();
    fields.write(&HeaderEdits::default(), &mut written);
    (fields.to_map(), written.freeze())
}

/// Whether both have the same fields in the same order.
pub(crate) fn same(ours: &HeaderMap, theirs: &[httparse::Header<'_>]) {
    let mut map = HeaderMap::new();
    for field in theirs {
        let name = http::HeaderName::from_bytes(field.name.as_bytes()).expect("a name");
        map.append(name, http::HeaderValue::from_bytes(field.value.trim_ascii()).expect("a value"));
    }
    assert_eq!(*ours, map);
}

/// What is passed on is read again as the same fields, without those that frame the body.
fn passes_on(bytes: &[u8], mut head: Head) {
    let own = Bytes::copy_from_slice(&bytes[..head.length]);
    let (mut fields, written) = request_fields(&mut head, own);
    fields.remove(CONTENT_LENGTH);
    fields.remove(TRANSFER_ENCODING);
    let again = [b"GET / HTTP/1.0\r\n", &written[..], b"\r\n"].concat();
    // A space behind each colon may take it over the limit.
    let limits = Limits { head: usize::MAX, ..Limits::default() };
    let mut read = RequestScanner::default().scan(&again, &limits).expect("a head").expect("all of it");
    assert_eq!(read.length, again.len());
    assert_eq!(request_fields(&mut read, again.into()).0, fields);
}
