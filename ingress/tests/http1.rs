//! HTTP/1 through the data plane: keep-alive, pipelining, framing of answers, upgrades, failures.
#![allow(clippy::unwrap_used, clippy::panic, reason = "a test may panic")]

mod support;

use support::backend::Backend;
use support::client::Client;
use support::plane::{Plane, rule, wait_for};

fn echo_plane() -> (Plane, Backend) {
    let backend = Backend::echo();
    (Plane::start(vec![rule("", "/", &[backend.address])]), backend)
}

#[test]
fn a_connection_carries_one_request_after_the_other() {
    let (plane, backend) = echo_plane();
    for mut client in [Client::plain(plane.http()), Client::tls(plane.https(), "a.example")] {
        for number in 0..3 {
            let response = client.get("a.example", &format!("/{number}?q=1"));
            assert_eq!(response.status, 200, "{}", response.head);
            assert!(response.text().starts_with(&format!("GET /{number}?q=1 HTTP/1.1\n")), "{}", response.text());
        }
    }
    assert_eq!(backend.connections(), 1, "the connection to the backend is kept");
    let exchange = plane.exchange(5);
    assert_eq!((exchange.status, &*exchange.method, exchange.tries), (200, "GET", 1));
    assert!(exchange.upstream.unwrap().reused);
}

#[test]
fn pipelined_requests_are_answered_in_their_order() {
    let (plane, _backend) = echo_plane();
    let mut client = Client::plain(plane.http());
    let post = "POST /1 HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n3\r\nabc\r\n0\r\n\r\n";
    client.send(format!("GET /sleep/50 HTTP/1.1\r\nHost: a\r\n\r\n{post}GET /2 HTTP/1.1\r\nHost: a\r\n\r\n"));
    assert!(client.response().text().starts_with("GET /sleep/50 "));
    let second = client.response().text();
    assert!(second.starts_with("POST /1 ") && second.ends_with("body 3: abc"), "{second}");
    assert!(client.response().text().starts_with("GET /2 "));
    assert!(client.stays_open());
}

#[test]
fn answers_of_every_framing_come_through() {
    let (plane, _backend) = echo_plane();
    let mut client = Client::plain(plane.http());
    assert_eq!(client.get("a", "/chunked").text(), "hello world");
    assert_eq!(client.get("a", "/download/300000").body.len(), 300_000);
    assert_eq!(client.get("a", "/until-close").text(), "until the end");
    client.send("HEAD /x HTTP/1.1\r\nHost: a\r\n\r\n");
    let head = client.read_response(true).unwrap();
    assert!(head.field("content-length").is_some_and(|length| length != "0"), "{}", head.head);
    let hints = client.get("a", "/hints");
    assert_eq!(hints.status, 103);
    assert_eq!(hints.field("link"), Some("</a.css>; rel=preload"));
    assert_eq!(client.response().status, 200);
    assert!(client.stays_open());
}

#[test]
fn http_1_0_clients_get_what_they_understand() {
    let (plane, _backend) = echo_plane();
    let mut client = Client::plain(plane.http());
    let response = client.ask("GET /chunked HTTP/1.0\r\n\r\n");
    assert_eq!(response.text(), "hello world");
    assert_eq!(response.field("transfer-encoding"), None, "{}", response.head);
    assert!(client.closed());
    let mut client = Client::plain(plane.http());
    let response = client.ask("GET /x HTTP/1.0\r\nConnection: keep-alive\r\n\r\n");
    assert_eq!(response.field("connection"), Some("keep-alive"));
    let response = client.ask("GET /hints HTTP/1.0\r\n\r\n");
    assert_eq!(response.status, 200);
    assert!(client.closed());
}

#[test]
fn a_client_that_asks_first_is_told_to_go_on() {
    let (plane, _backend) = echo_plane();
    let mut client = Client::plain(plane.http());
    let head = "POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 5\r\nExpect: 100-continue\r\n\r\n";
    assert_eq!(client.ask(head).status, 100);
    assert!(client.ask("hello").text().ends_with("body 5: hello"));
    assert!(client.stays_open());
}

#[test]
fn an_empty_body_that_was_to_be_asked_for_is_no_reason_to_close() {
    let (plane, _backend) = echo_plane();
    let mut client = Client::plain(plane.http());
    let head = "POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\nExpect: 100-continue\r\n\r\n";
    client.send(format!("{head}0\r\n\r\n"));
    let mut response = client.response();
    if response.status == 100 {
        response = client.response();
    }
    assert_eq!((response.status, response.field("connection")), (200, None), "{}", response.head);
    assert_eq!(client.get("a", "/").status, 200);
}

#[test]
fn hop_by_hop_fields_stop_here() {
    let (plane, _backend) = echo_plane();
    let mut client = Client::plain(plane.http());
    let response = client.get("a", "/hop");
    assert_eq!(response.field("server"), Some("own"));
    assert_eq!(response.field("x-one"), None);
    assert_eq!(response.field("keep-alive"), None);
    let text = client
        .ask("GET / HTTP/1.1\r\nHost: a.example:81\r\nConnection: X-Two\r\nX-Two: 2\r\nX-Three: 3\r\nX-Forwarded-For: 1.2.3.4\r\n\r\n")
        .text();
    assert!(!text.contains("X-Two") && text.contains("X-Three: 3\n"), "{text}");
    assert!(text.to_lowercase().contains("x-forwarded-for: 127.0.0.1\n"), "{text}");
    assert!(text.contains("Host: a.example:81\n"), "{text}");
}

#[test]
fn what_is_matched_is_what_is_forwarded() {
    let (plane, _backend) = echo_plane();
    let mut client = Client::plain(plane.http());
    let cases = [
        ("/a/../b/%2e%2e/c%7e?x=%7e&y={|}", "/c~?x=%7e&y={|}"),
        ("http://other/p", "/p"),
        ("/a%2fb", "/a%2Fb"),
        ("//x", "//x"),
        ("/?<caf\u{e9}>", "/?%3Ccaf%C3%A9%3E"),
    ];
    for (asked, forwarded) in cases {
        let text = client.get("a", asked).text();
        assert!(text.starts_with(&format!("GET {forwarded} HTTP/1.1\n")), "{asked}: {text}");
    }
}

#[test]
fn a_websocket_passes_large_frames_both_ways() {
    let (plane, _backend) = echo_plane();
    for mut client in [Client::plain(plane.http()), Client::tls(plane.https(), "a.example")] {
        let head = "GET /ws HTTP/1.1\r\nHost: a\r\nConnection: keep-alive, Upgrade\r\nUpgrade: websocket\r\n\r\n";
        let response = client.ask(head);
        assert_eq!(response.status, 101, "{}", response.head);
        assert!(response.field("upgrade").is_some() && response.field("connection").is_some());
        for size in [1, 100, 300_000] {
            let frame: Vec<u8> = (0..=250).cycle().take(size).collect();
            client.send(&frame);
            assert_eq!(client.take(size), frame);
        }
    }
}

#[test]
fn a_client_that_only_closes_its_sending_side_gets_its_answer() {
    let (plane, _backend) = echo_plane();
    let mut client = Client::plain(plane.http());
    client.send("GET /sleep/200 HTTP/1.1\r\nHost: a\r\n\r\n");
    client.wire.tcp().shutdown(std::net::Shutdown::Write).unwrap();
    assert_eq!(client.response().status, 200);
    assert!(client.closed());
}

#[test]
fn a_client_that_leaves_is_logged_as_such() {
    let backend = Backend::echo();
    let plane = Plane::start(vec![rule("", "/", &[backend.address])]);
    let mut client = Client::plain(plane.http());
    client.send("GET /sleep/3000 HTTP/1.1\r\nHost: a\r\n\r\n");
    wait_for(|| (backend.requests() == 1).then_some(()));
    drop(client);
    assert_eq!(plane.exchange(0).status, 499);
}
