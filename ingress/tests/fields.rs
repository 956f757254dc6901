//! Fields that cross the ingress, as backends and clients see them on the wire: forwarding headers, cookies, framing.
#![allow(clippy::unwrap_used, clippy::panic, reason = "a test may panic")]

mod support;

use std::io::Write;

use http::{HeaderMap, HeaderValue, Request, StatusCode};
use landfall_ingress_model::tls::CertificateTable;
use support::backend::Backend;
use support::client::Client;
use support::plane::{Plane, rule};
use tokio::net::TcpStream;

/// What the echo backend saw, in lower case and without what the client chose.
fn seen(text: &str) -> Vec<String> {
    let fields = text.lines().skip(1).take_while(|line| !line.is_empty()).map(str::to_lowercase);
    let mut fields: Vec<_> = fields.filter(|line| !line.starts_with("x-request-id: ")).collect();
    fields.sort();
    fields
}

async fn over_h2(plane: &Plane, request: Request<()>) -> (StatusCode, HeaderMap, String) {
    let tcp = TcpStream::connect(plane.http()).await.unwrap();
    let (send, connection) = h2::client::handshake(tcp).await.unwrap();
    tokio::spawn(connection);
    let (response, _) = send.ready().await.unwrap().send_request(request, true).unwrap();
    let (parts, mut body) = response.await.unwrap().into_parts();
    let mut text = Vec::new();
    while let Some(chunk) = body.data().await {
        text.extend_from_slice(&chunk.unwrap());
    }
    (parts.status, parts.headers, String::from_utf8(text).unwrap())
}

fn crumbs(authority: &str, count: usize) -> Request<()> {
    let mut request = Request::get(format!("http://{authority}/")).body(()).unwrap();
    for number in 0..count {
        let value = HeaderValue::from_str(&format!("c{number}=v")).unwrap();
        request.headers_mut().append("cookie", value);
    }
    request
}

/// The ports that the plane listens on are the kernel's choice, and no client wrote them.
#[test]
fn a_backend_sees_the_port_that_the_client_used() {
    let backend = Backend::echo();
    let plane = Plane::start(vec![rule("", "/", &[backend.address])]);
    for (host, http, https) in [("a.example", "80", "443"), ("a.example:8443", "8443", "8443")] {
        let request = format!("GET / HTTP/1.1\r\nHost: {host}\r\n\r\n");
        let expected = |scheme: &str, port: &str| {
            let fields = [("host", host), ("x-forwarded-for", "127.0.0.1"), ("x-forwarded-host", host)];
            let more = [("x-forwarded-port", port), ("x-forwarded-proto", scheme), ("x-real-ip", "127.0.0.1")];
            fields.iter().chain(&more).map(|(name, value)| format!("{name}: {value}")).collect::<Vec<_>>()
        };
        let text = Client::plain(plane.http()).ask(&request).text();
        assert_eq!(seen(&text), expected("http", http));
        let text = Client::tls(plane.https(), "a.example").ask(&request).text();
        assert_eq!(seen(&text), expected("https", https));
    }
}

#[test]
fn a_proxy_headers_destination_is_the_port_that_the_client_used() {
    let backend = Backend::echo();
    let table = support::plane::table(vec![rule("", "/", &[backend.address])], CertificateTable::default());
    let plane = Plane::with(table, |config| config.proxy_protocol = vec!["127.0.0.0/8".parse().unwrap()]);
    let mut client = Client::plain(plane.http());
    client.send("PROXY TCP4 203.0.113.9 192.0.2.1 4711 8081\r\n");
    let text = client.ask("GET / HTTP/1.1\r\nHost: a\r\n\r\n").text().to_lowercase();
    assert!(text.contains("x-forwarded-port: 8081\n") && text.contains("x-forwarded-for: 203.0.113.9\n"), "{text}");
    let text = client.ask("GET / HTTP/1.1\r\nHost: a:82\r\n\r\n").text().to_lowercase();
    assert!(text.contains("x-forwarded-port: 82\n") && text.contains("x-forwarded-host: a:82\n"), "{text}");
}

#[test]
fn names_that_a_backend_would_take_for_ours_stop_here() {
    let backend = Backend::echo();
    let plane = Plane::start(vec![rule("", "/", &[backend.address])]);
    let request = "GET / HTTP/1.1\r\nHost: a\r\nX_Forwarded_For: 6.6.6.6\r\nX-Forwarded_Proto: https\r\n\
                   X.Real.IP: 6.6.6.6\r\nX_Api_Key: kept\r\n\r\n";
    let text = Client::plain(plane.http()).ask(request).text();
    assert!(!text.contains("6.6.6.6") && !text.to_lowercase().contains("x-forwarded_proto"), "{text}");
    assert!(text.contains("X_Api_Key: kept\n"), "{text}");
}

#[tokio::test(flavor = "multi_thread")]
async fn cookie_crumbs_are_one_field_and_count_once() {
    let backend = Backend::echo();
    let plane = Plane::start(vec![rule("", "/", &[backend.address])]);
    let (status, _, text) = over_h2(&plane, crumbs("a.example", 3)).await;
    assert_eq!(status, 200);
    let lines: Vec<_> = text.lines().filter(|line| line.to_lowercase().starts_with("cookie: ")).collect();
    assert_eq!(lines.len(), 1, "{text}");
    assert!(lines[0].ends_with(": c0=v; c1=v; c2=v"), "{text}");
    assert_eq!(over_h2(&plane, crumbs("a.example", 101)).await.0, 200);
    let text =
        Client::plain(plane.http()).ask("GET / HTTP/1.1\r\nHost: a\r\nCookie: a=1\r\nCookie: b=2\r\n\r\n").text();
    assert!(text.to_lowercase().contains("cookie: a=1; b=2\n"), "{text}");
}

/// A backend that answers with these bytes.
fn backend(bytes: &'static str) -> Backend {
    Backend::start(move |_, stream| {
        stream.write_all(bytes.as_bytes())?;
        Ok(true)
    })
}

#[test]
fn framing_fields_of_a_response_are_sent_once_and_only_where_they_may_be() {
    let cases: &[(&str, u16, &[&str], &[&str])] = &[
        ("204 No Content\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n", 204, &[], &["transfer-encoding"]),
        ("204 No Content\r\nContent-Length: 5\r\n\r\n", 204, &[], &["content-length"]),
        ("304 Not Modified\r\nContent-Length: 5\r\n\r\n", 304, &["content-length: 5"], &["transfer-encoding"]),
        ("304 Not Modified\r\nTransfer-Encoding: chunked\r\n\r\n", 304, &[], &["transfer-encoding"]),
        ("200 OK\r\nContent-Length: 5\r\nContent-Length: 5\r\n\r\nhello", 200, &["content-length: 5"], &[]),
        ("200 OK\r\nContent-Length: 5, 5\r\n\r\nhello", 200, &["content-length: 5"], &[]),
        (
            "200 OK\r\nTransfer-Encoding: chunked\r\nX-A: 1\r\ntransfer-encoding: chunked\r\n\r\n5\r\nhello\r\n0\r\n\r\n",
            200,
            &["transfer-encoding: chunked"],
            &[],
        ),
        ("200 OK\r\nContent-Length: 5\r\nContent-Length: 6\r\n\r\nhello", 502, &[], &[]),
        ("200 OK\r\nTransfer-Encoding: gzip, chunked\r\n\r\n5\r\nhello\r\n0\r\n\r\n", 502, &[], &[]),
    ];
    for (bytes, status, there, absent) in cases {
        let backend = backend(Box::leak(format!("HTTP/1.1 {bytes}").into_boxed_str()));
        let plane = Plane::start(vec![rule("", "/", &[backend.address])]);
        let response = Client::plain(plane.http()).get("a", "/");
        assert_eq!(response.status, *status, "{bytes}");
        let head = response.head.to_lowercase();
        for field in *there {
            assert_eq!(head.matches(field).count(), 1, "{field} of {bytes}: {head}");
        }
        for name in *absent {
            assert!(!head.contains(name), "{name} of {bytes}: {head}");
        }
        assert!(head.contains("server: landfall"), "{bytes}: {head}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn equal_lengths_reach_http2_as_one() {
    let backend = backend("HTTP/1.1 200 OK\r\nContent-Length: 2\r\nContent-Length: 2\r\n\r\nok");
    let plane = Plane::start(vec![rule("", "/", &[backend.address])]);
    let (status, headers, text) = over_h2(&plane, crumbs("a.example", 0)).await;
    assert_eq!((status.as_u16(), text.as_str()), (200, "ok"));
    assert_eq!(headers.get_all("content-length").iter().count(), 1);
    assert_eq!(headers.get("server").unwrap(), "landfall");
}
