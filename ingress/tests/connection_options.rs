//! Options about connections: they hold from the next connection on, without a restart, and open ones go on.
#![allow(clippy::unwrap_used, clippy::panic, reason = "a test may panic")]

mod support;

use std::sync::Arc;
use std::time::{Duration, Instant};

use landfall_ingress_model::policy::{Ciphers, TlsVersions};
use landfall_ingress_model::table::{ConnectionLimits, ConnectionRules, HostRoutes, HostTls, TlsRules};
use landfall_ingress_model::tls::CertificateTable;
use support::backend::Backend;
use support::client::{Client, client_config, client_of_versions};
use support::frames::{Ends, Frames, Outcome};
use support::plane::{Plane, rule, table};

const GET: &str = "GET / HTTP/1.1\r\nHost: a\r\n\r\n";

/// A plane with one backend, and what sets its options.
fn plane(backend: &Backend) -> (Plane, impl Fn(ConnectionRules) + use<>) {
    let address = backend.address;
    let plane = Plane::start(vec![rule("", "/", &[address])]);
    let shared = plane.table.clone();
    let set = move |rules| {
        let mut table = table(vec![rule("", "/", &[address])], CertificateTable::default());
        table.connections = Arc::new(rules);
        shared.store(Arc::new(table));
    };
    (plane, set)
}

fn limits(limits: ConnectionLimits) -> ConnectionRules {
    ConnectionRules { limits, ..ConnectionRules::default() }
}

#[test]
fn a_clients_connection_ends_after_its_requests_and_after_its_time() {
    let backend = Backend::echo();
    let (plane, set) = plane(&backend);
    let mut before = Client::plain(plane.http());
    assert_eq!(before.ask(GET).status, 200);

    set(limits(ConnectionLimits { requests: Some(2), ..ConnectionLimits::default() }));
    let mut client = Client::plain(plane.http());
    assert_eq!(client.ask(GET).field("connection"), None);
    assert_eq!(client.ask(GET).field("connection"), Some("close"));
    assert!(client.closed());

    set(limits(ConnectionLimits { idle: Some(Duration::ZERO), ..ConnectionLimits::default() }));
    let mut client = Client::plain(plane.http());
    assert_eq!(client.ask(GET).field("connection"), Some("close"));
    assert!(client.closed());

    set(limits(ConnectionLimits { idle: Some(Duration::from_secs(1)), ..ConnectionLimits::default() }));
    let mut client = Client::plain(plane.http());
    assert_eq!(client.ask(GET).status, 200);
    let since = Instant::now();
    assert!(client.closed());
    assert!(since.elapsed() >= Duration::from_millis(900), "{:?}", since.elapsed());

    for _ in 0..3 {
        assert_eq!(before.ask(GET).field("connection"), None, "a connection that is open stays as it is");
    }
}

#[test]
fn http2_ends_after_its_requests_too_and_can_be_off() {
    let backend = Backend::echo();
    let (plane, set) = plane(&backend);
    let fields = [(":method", "GET"), (":path", "/"), (":scheme", "http"), (":authority", "a")];
    set(limits(ConnectionLimits { requests: Some(2), ..ConnectionLimits::default() }));
    let mut client = Frames::connect(plane.http());
    for stream in [1, 3] {
        client.head(stream, &fields, Ends::Yes);
        assert!(matches!(client.outcome(stream), Outcome::Answer(_)), "{stream}");
    }
    // Streams that are on their way meanwhile are still answered.
    let mut ended = |stream| {
        client.head(stream, &fields, Ends::Yes);
        client.outcome(stream) == Outcome::Reset
    };
    assert!([5, 7, 9].into_iter().any(&mut ended), "it is told to leave");

    let rules = ConnectionLimits { without_http2: true, ..ConnectionLimits::default() };
    let tls = TlsRules { without_http2: true, ..TlsRules::default() };
    set(ConnectionRules { tls, ..limits(rules) });
    let mut client = Frames::connect(plane.http());
    client.head(1, &fields, Ends::Yes);
    assert_eq!(client.outcome(1), Outcome::Reset);
    let mut client = Client::with_config(plane.https(), "a", client_config(&[b"h2", b"http/1.1"]));
    assert_eq!(client.ask(GET).status, 200, "HTTP/1.1 was agreed on");
}

#[test]
fn heads_and_bodies_have_the_time_and_the_room_that_options_say() {
    let backend = Backend::echo();
    let (plane, set) = plane(&backend);
    set(limits(ConnectionLimits {
        head: Some(Duration::from_secs(1)),
        body: Some(Duration::from_secs(1)),
        head_size: Some((1024, 2048)),
        ..ConnectionLimits::default()
    }));
    let timed = |request: &str, status: u16| {
        let mut client = Client::plain(plane.http());
        let since = Instant::now();
        assert_eq!(client.ask(request).status, status);
        assert!(since.elapsed() >= Duration::from_millis(900), "{:?}", since.elapsed());
    };
    timed("GET / HTTP/1.1\r\nHo", 408);
    timed("POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 10\r\n\r\nabc", 408);
    let asked = |path: usize, field: usize| {
        let (path, field) = ("p".repeat(path), "f".repeat(field));
        Client::plain(plane.http()).ask(format!("GET /{path} HTTP/1.1\r\nHost: a\r\nF: {field}\r\n\r\n")).status
    };
    assert_eq!(asked(500, 800), 200);
    assert_eq!(asked(1500, 1), 414);
    assert_eq!(asked(1, 2100), 431);
}

#[test]
fn connections_to_endpoints_are_kept_as_options_say() {
    let backend = Backend::echo();
    let (plane, set) = plane(&backend);
    let connections = |requests: usize| {
        let before = backend.connections();
        let mut client = Client::plain(plane.http());
        for _ in 0..requests {
            assert_eq!(client.ask(GET).status, 200);
        }
        backend.connections() - before
    };
    assert_eq!(connections(6), 1);
    set(limits(ConnectionLimits { upstream_idle: Some(0), ..ConnectionLimits::default() }));
    // The first request takes the connection that waits.
    assert_eq!(connections(4), 3);
    set(limits(ConnectionLimits { upstream_requests: Some(2), ..ConnectionLimits::default() }));
    assert_eq!(connections(6), 3);
    set(limits(ConnectionLimits { upstream_age: Some(Duration::ZERO), ..ConnectionLimits::default() }));
    assert_eq!(connections(3), 3);
    set(limits(ConnectionLimits::default()));
    assert_eq!(connections(6), 1);
}

#[test]
fn versions_and_cipher_suites_of_tls_are_those_of_the_options_and_of_the_host() {
    let backend = Backend::echo();
    let (plane, set) = plane(&backend);
    let (old, new) = (&[&rustls::version::TLS12][..], &[&rustls::version::TLS13][..]);
    let client = |versions| Client::with_config(plane.https(), "a", client_of_versions(&[b"http/1.1"], versions));
    let works = |versions| {
        let attempt = std::panic::AssertUnwindSafe(|| client(versions).ask(GET).status);
        std::panic::catch_unwind(attempt).is_ok_and(|status| status == 200)
    };
    assert!(works(old) && works(new));
    let tls = |tls| ConnectionRules { tls, ..ConnectionRules::default() };
    set(tls(TlsRules { versions: TlsVersions::Tls13, ..TlsRules::default() }));
    assert!(!works(old) && works(new));
    set(tls(TlsRules { versions: TlsVersions::Tls12, ..TlsRules::default() }));
    assert!(works(old) && !works(new));
    // The certificate is one of ECDSA, so a list of RSA alone agrees with nobody.
    let rsa = Ciphers::parse("ECDHE-RSA-AES128-GCM-SHA256");
    set(tls(TlsRules { ciphers: rsa.clone(), ..TlsRules::default() }));
    assert!(!works(old) && works(new), "TLS 1.3 has suites of its own");
    set(ConnectionRules::default());
    assert!(works(old));

    let mut table = table(vec![rule("a", "/", &[backend.address])], CertificateTable::default());
    let name = landfall_ingress_model::host::HostName::from_authority("a").unwrap();
    let routes = table.exact.get(&name).unwrap();
    let (prefix, tls) = (routes.prefix.clone(), Some(HostTls { ciphers: rsa, prefers_ours: None }));
    table.exact.insert(name, Arc::new(HostRoutes { prefix, tls, ..HostRoutes::default() }));
    plane.table.store(Arc::new(table));
    assert!(!works(old) && works(new), "what a host says holds for it");
}
