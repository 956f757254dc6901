//! Bytes on a bare socket, on both HTTP/1 listeners: smuggling, framing, limits. The table is
//! `raw_socket/cases.yaml`.
#![allow(clippy::unwrap_used, clippy::panic, reason = "a test may panic")]

mod support;

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::time::Duration;

use landfall_ingress_model::tls::CertificateTable;
use serde::Deserialize;
use support::backend::Backend;
use support::client::Client;
use support::plane::{Plane, rule, table};

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Case {
    name: String,
    send: String,
    answers: Vec<u16>,
    #[serde(default = "yes")]
    closed: bool,
    reaches: Option<usize>,
    /// `~` stands for so many characters.
    stretch: Option<usize>,
    /// `#` stands for so many fields.
    repeat: Option<usize>,
}

fn yes() -> bool {
    true
}

impl Case {
    fn bytes(&self) -> Vec<u8> {
        let stretched = match self.stretch {
            Some(count) => self.send.replace('~', &"x".repeat(count)),
            None => self.send.clone(),
        };
        let repeated = match self.repeat {
            Some(count) => stretched.replace('#', &"X: y\r\n".repeat(count)),
            None => stretched,
        };
        // The table holds bytes as the characters of the same number.
        repeated.chars().map(|character| u8::try_from(u32::from(character)).unwrap()).collect()
    }
}

fn run(cases: &[Case], plane: &Plane, backend: &Backend, connect: impl Fn(&Plane) -> Client) -> Vec<String> {
    let mut wrong = Vec::new();
    for case in cases {
        let before = backend.requests();
        let mut client = connect(plane);
        client.send(case.bytes());
        let mut answers = Vec::new();
        for _ in &case.answers {
            let answer = catch_unwind(AssertUnwindSafe(|| client.read_response(false)));
            let Ok(answer) = answer else { break };
            answers.extend(answer.map(|response| response.status));
        }
        let closed = if case.closed {
            catch_unwind(AssertUnwindSafe(|| client.closed())).unwrap_or(false)
        } else {
            !client.stays_open()
        };
        let reached = backend.requests() - before;
        let expected = case.reaches.unwrap_or_else(|| case.answers.iter().filter(|status| **status == 200).count());
        if answers != case.answers || closed != case.closed || reached != expected {
            wrong.push(format!("{}: answers {answers:?}, closed {closed}, reached {reached}", case.name));
        }
    }
    wrong
}

#[test]
fn each_case_gets_its_answers_on_both_listeners() {
    let cases: Vec<Case> = serde_saphyr::from_str(include_str!("raw_socket/cases.yaml")).unwrap();
    let backend = Backend::echo();
    let plane = Plane::start(vec![rule("a", "/", &[backend.address])]);
    let wrong = run(&cases, &plane, &backend, |plane| Client::plain(plane.http()));
    assert!(wrong.is_empty(), "in the clear:\n{}", wrong.join("\n"));
    let wrong = run(&cases, &plane, &backend, |plane| Client::tls(plane.https(), "a"));
    assert!(wrong.is_empty(), "by TLS:\n{}", wrong.join("\n"));
}

#[test]
fn a_page_of_our_own_has_the_request_id_and_says_who_answers() {
    let plane = Plane::start(vec![]);
    for request in ["GET / HTTP/1.1\r\nHost: a\r\n\r\n", "GET / HTTP/1.1\r\n\r\n"] {
        let response = Client::plain(plane.http()).ask(request);
        let id = response.field("x-request-id").unwrap().to_owned();
        assert!(response.text().contains(&id), "{}", response.text());
        assert_eq!(response.field("server"), Some("landfall"));
        assert!(response.field("date").is_some());
    }
    let mut client = Client::plain(plane.http());
    client.send("HEAD / HTTP/1.1\r\nHost: a\r\n\r\n");
    assert_eq!(client.read_response(true).unwrap().status, 404);
    assert!(client.stays_open());
}

/// The same head in one piece, in two at every place, and byte by byte.
#[test]
fn a_request_may_come_in_pieces() {
    let backend = Backend::echo();
    let plane = Plane::start(vec![rule("a", "/", &[backend.address])]);
    let request = b"POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n3\r\nabc\r\n0\r\n\r\n";
    let mut client = Client::plain(plane.http());
    for cut in 1..request.len() {
        client.send(&request[..cut]);
        std::thread::sleep(Duration::from_millis(1));
        client.send(&request[cut..]);
        assert!(client.response().text().ends_with("body 3: abc"), "{cut}");
    }
    for byte in request {
        client.send([*byte]);
    }
    assert!(client.response().text().ends_with("body 3: abc"));
}

#[test]
fn a_head_that_does_not_come_is_not_waited_for() {
    let plane = Plane::with(table(vec![], CertificateTable::default()), |config| {
        config.limits.head_timeout = Duration::from_millis(300);
        config.limits.idle_timeout = Duration::from_millis(600);
    });
    let mut slow = Client::plain(plane.http());
    slow.send("GET / HTTP/1.1\r\nHost");
    assert_eq!(slow.response().status, 408);
    assert!(slow.closed());
    // Whoever asked for nothing gets nothing.
    assert!(Client::plain(plane.http()).closed());
}
