//! Snippets of nginx configuration, as clients and backends see on the wire what they do.
#![allow(clippy::unwrap_used, clippy::panic, reason = "a test may panic")]

mod support;

use std::io::Write;
use std::sync::Arc;

use landfall_ingress_model::policy::snippet::{Kind, Snippet, names_of, read};
use support::backend::Backend;
use support::client::Client;
use support::plane::{Plane, Rule, rule};

fn snippet(text: &str) -> Arc<Snippet> {
    let (snippet, _) = read(Kind::Configuration, text, &names_of(text)).unwrap();
    Arc::new(snippet)
}

fn with(host: &'static str, backend: &Backend, text: &str) -> Rule {
    rule(host, "/", &[backend.address]).policy(|policy| policy.snippet = Some(snippet(text)))
}

/// All values of a field, in their order.
fn all<'r>(head: &'r str, name: &str) -> Vec<&'r str> {
    let fields = head.lines().skip(1).filter_map(|line| line.split_once(':'));
    fields.filter(|(found, _)| found.eq_ignore_ascii_case(name)).map(|(_, value)| value.trim()).collect()
}

#[test]
fn a_backend_gets_what_a_snippet_makes_of_a_request() {
    let backend = Backend::echo();
    let plane = Plane::start(vec![with(
        "a",
        &backend,
        "set $id \"$http_x_tenant/$arg_n\";
         rewrite ^/old/(.*)$ /new/$1 break;
         proxy_set_header X-Id $id;
         proxy_set_header Accept-Encoding '';
         proxy_set_header Host inner.test;
         more_set_input_headers 'X-In: $host' 'X-List: one';
         more_clear_input_headers 'X-Internal-*';",
    )]);
    let request = "GET /old/a%20b?n=1 HTTP/1.1\r\nHost: a\r\nX-Tenant: acme\r\nAccept-Encoding: gzip\r\n\
                   X-List: 1\r\nX-List: 2\r\nX-Internal-Role: admin\r\n\r\n";
    let response = Client::plain(plane.http()).ask(request);
    let (text, lower) = (response.text(), response.text().to_lowercase());
    assert!(text.starts_with("GET /new/a%20b?n=1 HTTP/1.1"), "{text}");
    for line in ["x-id: acme/1", "host: inner.test", "x-in: a", "x-list: one"] {
        assert_eq!(lower.lines().filter(|found| *found == line).count(), 1, "{line} in {text}");
    }
    for name in ["accept-encoding", "x-internal-role", "x-list: 1", "x-list: 2"] {
        assert!(!lower.contains(&format!("\n{name}")), "{name} in {text}");
    }
}

#[test]
fn a_client_gets_what_a_snippet_makes_of_a_response() {
    let backend = Backend::start(|_, stream| {
        stream.write_all(
            b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\nServer: own\r\nX-A: 0\r\nX-Secret: s\r\nCache-Control: private\r\n\r\nok",
        )?;
        Ok(true)
    });
    let plane = Plane::start(vec![with(
        "a",
        &backend,
        "add_header X-A 1; add_header X-A 2;
         more_set_headers 'X-Copy: $upstream_http_x_secret' 'Server: other';
         proxy_hide_header X-Secret;
         expires 1h;",
    )]);
    let response = Client::plain(plane.http()).get("a", "/");
    assert_eq!((response.status, response.text().as_str()), (200, "ok"));
    assert_eq!(all(&response.head, "x-a"), ["0", "1", "2"]);
    assert_eq!(all(&response.head, "x-copy"), ["s"]);
    assert_eq!(all(&response.head, "server"), ["other"]);
    assert_eq!(all(&response.head, "cache-control"), ["max-age=3600"]);
    assert_eq!(all(&response.head, "expires").len(), 1);
    assert_eq!(all(&response.head, "x-secret"), [""; 0]);
}

#[test]
fn a_page_of_our_own_gets_the_fields_that_are_for_its_status() {
    let text = "add_header X-Good 1; add_header X-Always 1 always; more_set_headers -s '502 503' \"X-Bad: $status\";";
    let mut dead = with("dead", &Backend::echo(), text);
    dead.endpoints = vec![Backend::refusing()];
    let mut none = with("none", &Backend::echo(), text);
    none.endpoints = Vec::new();
    let plane = Plane::start(vec![dead, none]);
    for (host, status) in [("dead", 502), ("none", 503)] {
        let response = Client::plain(plane.http()).get(host, "/");
        assert_eq!(response.status, status);
        assert_eq!(response.field("x-always"), Some("1"), "{}", response.head);
        assert_eq!(response.field("x-bad"), Some(&*status.to_string()), "{}", response.head);
        assert_eq!(response.field("x-good"), None);
    }
}

#[test]
fn an_answer_of_a_snippet_reaches_the_client_and_no_backend() {
    let backend = Backend::echo();
    let plane = Plane::start(vec![with(
        "a",
        &backend,
        "if ($request_method = POST) { return 405; }
         if ($uri = /text) { return 200 'hi $remote_addr'; }
         if ($uri = /away) { return 301 /new$is_args$args; }
         if ($uri = /split) { return 302 https://n.test/$arg_to; }
         if ($uri ~ ^/raw/([^x]*)) { return 302 https://n.test/$1; }
         if ($uri = /empty) { return 204; }
         if ($uri = /close) { return 444; }",
    )]);
    let mut client = Client::plain(plane.http());
    let response = client.get("a", "/text");
    assert_eq!((response.status, response.text().as_str()), (200, "hi 127.0.0.1"));
    assert_eq!(response.field("content-type"), Some("text/html"));
    assert_eq!(client.get("a", "/away?x=1").field("location"), Some("http://a/new?x=1"));
    assert_eq!(client.get("a", "/empty").status, 204);
    assert_eq!(client.ask("POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 0\r\n\r\n").status, 405);
    // Nothing that a client sends becomes a line of its own.
    let response = client.get("a", "/raw/a%0d%0aSet-Cookie:%20y=1");
    assert_eq!(response.field("location"), Some("https://n.test/a%0D%0ASet-Cookie:%20y=1"), "{}", response.head);
    assert_eq!(response.field("set-cookie"), None);
    assert_eq!(client.get("a", "/split?to=a%0d%0ab").field("location"), Some("https://n.test/a%0d%0ab"));
    assert_eq!(backend.requests(), 0);
    assert_eq!(client.get("a", "/else").status, 200);
    client.send("GET /close HTTP/1.1\r\nHost: a\r\n\r\n");
    assert!(client.read_response(false).is_none(), "the connection is closed without an answer");
    assert_eq!(plane.exchange(7).status, 444);
}
