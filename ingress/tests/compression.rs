//! Answers that are compressed on their way, as clients see them.
#![allow(clippy::unwrap_used, clippy::panic, reason = "a test may panic")]

mod support;

use std::io::{Read, Write};
use std::sync::Arc;
use std::sync::mpsc::channel;

use flate2::read::GzDecoder;
use landfall_ingress_model::policy::{CodingRule, Compression};
use support::backend::Backend;
use support::client::{Client, Response};
use support::plane::{Plane, rule};

fn compressing(backend: &Backend) -> Plane {
    let coding = |level| Some(CodingRule { level, min_length: 100, types: Box::new(["text/event-stream".into()]) });
    let compression = Arc::new(Compression { gzip: coding(5), brotli: coding(4), disabled: None });
    Plane::start(vec![rule("", "/", &[backend.address]).policy(|policy| policy.compression = Some(compression))])
}

fn gunzip(bytes: &[u8]) -> String {
    let mut plain = Vec::new();
    // What was flushed is there, even if the end is not.
    let _ = GzDecoder::new(bytes).read_to_end(&mut plain);
    String::from_utf8(plain).unwrap()
}

fn ask(client: &mut Client, method: &str, accept: &str) -> Response {
    client.send(format!("{method} / HTTP/1.1\r\nHost: a\r\nAccept-Encoding: {accept}\r\n\r\n"));
    client.read_response(method == "HEAD").unwrap()
}

#[test]
fn a_client_gets_the_form_that_it_takes_and_its_connection_goes_on() {
    let body = "all work and no play ".repeat(10_000);
    let whole = body.clone();
    let backend = Backend::start(move |_, stream| {
        write!(
            stream,
            "HTTP/1.1 200 OK\r\nContent-Type: text/html\r\nETag: \"1\"\r\nAccept-Ranges: bytes\r\nContent-Length: {}\r\n\r\n{whole}",
            whole.len()
        )?;
        Ok(true)
    });
    let plane = compressing(&backend);
    let mut client = Client::plain(plane.http());
    for _ in 0..3 {
        let response = ask(&mut client, "GET", "deflate, gzip");
        assert_eq!(response.field("content-encoding"), Some("gzip"));
        assert_eq!(response.field("etag"), Some("W/\"1\""));
        assert_eq!((response.field("accept-ranges"), response.field("content-length")), (None, None));
        assert!(response.body.len() < body.len() / 50 && gunzip(&response.body) == body);

        let response = ask(&mut client, "GET", "gzip, br");
        assert_eq!(response.field("content-encoding"), Some("br"));
        let mut plain = String::new();
        brotli::Decompressor::new(&response.body[..], 4096).read_to_string(&mut plain).unwrap();
        assert!(plain == body);

        let response = ask(&mut client, "GET", "identity");
        assert_eq!((response.field("content-encoding"), response.field("etag")), (None, Some("\"1\"")));
        assert_eq!(response.field("vary"), Some("Accept-Encoding"), "caches are told that there are other forms");
        assert!(response.text() == body);

        let response = ask(&mut client, "HEAD", "gzip");
        assert_eq!(response.field("content-encoding"), None);
    }
}

#[test]
fn an_event_is_not_held_back_for_the_next_one() {
    let (allow, allowed) = channel::<()>();
    let allowed = std::sync::Mutex::new(allowed);
    let backend = Backend::start(move |_, stream| {
        stream.write_all(b"HTTP/1.1 200 OK\r\nContent-Type: text/event-stream\r\n\r\ndata: one\n\n")?;
        // The next one comes only when the client has the first.
        let _ = allowed.lock().unwrap().recv();
        stream.write_all(b"data: two\n\n")?;
        Ok(false)
    });
    let plane = compressing(&backend);
    let mut client = Client::plain(plane.http());
    client.send("GET / HTTP/1.0\r\nHost: a\r\nAccept-Encoding: br\r\n\r\n");
    let mut bytes = Vec::new();
    let mut buffer = [0; 1024];
    let mut plain = Vec::new();
    while !plain.ends_with(b"data: one\n\n") {
        let read = client.wire.read(&mut buffer).unwrap();
        bytes.extend_from_slice(&buffer[..read]);
        let body = bytes.windows(4).position(|window| window == b"\r\n\r\n").map_or(bytes.len(), |at| at + 4);
        plain.clear();
        let _ = brotli::Decompressor::new(&bytes[body..], 4096).read_to_end(&mut plain);
    }
    allow.send(()).unwrap();
    client.wire.read_to_end(&mut bytes).unwrap();
    let body = bytes.windows(4).position(|window| window == b"\r\n\r\n").unwrap() + 4;
    plain.clear();
    brotli::Decompressor::new(&bytes[body..], 4096).read_to_end(&mut plain).unwrap();
    assert_eq!(String::from_utf8(plain).unwrap(), "data: one\n\ndata: two\n\n");
}
