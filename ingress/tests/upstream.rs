//! Towards the endpoints: balancing, retries, ejection, failures, bodies of any size.
#![allow(clippy::unwrap_used, clippy::panic, reason = "a test may panic")]

mod support;

use std::io::{Read, Write};
use std::net::{SocketAddr, TcpListener};
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use landfall_ingress::balance::Balancers;
use landfall_ingress::resolve::Resolver;
use landfall_ingress_model::authorities::Authorities;
use landfall_ingress_model::backend::{Protocol, Target};
use landfall_ingress_model::policy::{Mirror, Template, UpstreamTls, Verify};
use landfall_ingress_model::settings::Origin;
use landfall_ingress_model::tls::CertificateTable;
use rustls::sign::{CertifiedKey, SingleCertAndKey};
use rustls::{ServerConfig, ServerConnection, StreamOwned};
use rustls_pki_types::{PrivateKeyDer, PrivatePkcs8KeyDer};
use support::backend::{Backend, respond};
use support::client::Client;
use support::dns::{NameServer, Zone};
use support::plane::{Plane, certificate, rule, table, wait_for};

#[test]
fn requests_spread_evenly_from_the_first_on() {
    let backends = [Backend::echo(), Backend::echo(), Backend::echo()];
    let addresses: Vec<_> = backends.iter().map(|backend| backend.address).collect();
    let plane = Plane::start(vec![rule("", "/", &addresses)]);
    let mut client = Client::plain(plane.http());
    for _ in 0..30 {
        assert_eq!(client.get("a", "/").status, 200);
    }
    assert_eq!(backends.each_ref().map(Backend::requests), [10, 10, 10]);
}

#[test]
fn an_endpoint_that_refuses_is_left_out_and_nobody_notices() {
    let (good, refusing) = (Backend::echo(), Backend::refusing());
    let plane = Plane::start(vec![rule("", "/", &[good.address, refusing])]);
    let mut client = Client::plain(plane.http());
    // Nothing was sent to the one that refuses, so any method goes to another.
    for method in ["GET", "POST", "PATCH", "GET", "POST"] {
        let request = format!("{method} / HTTP/1.1\r\nHost: a\r\nContent-Length: 3\r\n\r\nabc");
        let response = client.ask(request);
        assert_eq!(response.status, 200);
        assert!(response.text().ends_with("body 3: abc"));
    }
    assert_eq!(good.requests(), 5);
    let ejected = plane.heard.ejected.lock().unwrap().clone();
    assert_eq!(ejected, [refusing], "it is tried once and then left alone for a while");
    let tries: Vec<u32> = (0..5).map(|index| plane.exchange(index).tries).collect();
    assert_eq!(tries.iter().sum::<u32>(), 6);
}

/// An address that doesn't answer: the queue of its listener is full.
fn silent() -> (SocketAddr, impl Sized) {
    let full = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = full.local_addr().unwrap();
    socket2::SockRef::from(&full).listen(0).unwrap();
    let queue: Vec<_> = (0..4)
        .filter_map(|_| std::net::TcpStream::connect_timeout(&address, Duration::from_millis(100)).ok())
        .collect();
    (address, (full, queue))
}

#[test]
fn an_endpoint_that_is_silent_costs_a_moment_where_there_is_another() {
    let (good, (silent, _full)) = (Backend::echo(), silent());
    let plane = Plane::start(vec![rule("", "/", &[good.address, silent])]);
    let mut client = Client::plain(plane.http());
    let begun = Instant::now();
    for _ in 0..4 {
        assert_eq!(client.get("a", "/").status, 200);
    }
    let took = begun.elapsed();
    assert!(took < Duration::from_secs(4), "{took:?}, although a connection may take five seconds");
    assert_eq!(*plane.heard.ejected.lock().unwrap(), [silent]);
}

#[test]
fn failures_are_told_apart() {
    let backend = Backend::echo();
    let (full_address, _full) = silent();
    let quick = |policy: &mut landfall_ingress_model::table::RoutePolicy| {
        policy.connect_timeout = Duration::from_millis(300);
        policy.read_timeout = Duration::from_millis(300);
    };
    let plane = Plane::start(vec![
        rule("", "/", &[backend.address]).policy(quick),
        rule("none.example", "/", &[]),
        rule("refused.example", "/", &[Backend::refusing()]).policy(quick),
        rule("full.example", "/", &[full_address]).policy(quick),
    ]);
    let cases = [
        ("none.example", "/", 503),
        ("refused.example", "/", 502),
        ("full.example", "/", 504),
        ("a", "/sleep/1000", 504),
        ("a", "/close", 502),
        ("a", "/garbage", 502),
    ];
    for (host, path, status) in cases {
        for mut client in [Client::plain(plane.http()), Client::tls(plane.https(), "a")] {
            let response = client.get(host, path);
            assert_eq!(response.status, status, "{host}{path}");
            let id = response.field("x-request-id").unwrap();
            assert!(response.text().contains(id));
            assert_eq!(client.get("a", "/").status, 200, "the connection goes on after {host}{path}");
        }
    }
}

#[test]
fn an_answer_that_breaks_off_is_not_made_to_look_whole() {
    let backend = Backend::echo();
    let plane = Plane::start(vec![rule("", "/", &[backend.address])]);
    let mut client = Client::plain(plane.http());
    client.send("GET /short HTTP/1.1\r\nHost: a\r\n\r\n");
    client.send("");
    let mut bytes = Vec::new();
    std::io::Read::read_to_end(&mut client.wire, &mut bytes).unwrap();
    let text = String::from_utf8_lossy(&bytes);
    assert!(text.contains("Content-Length: 100") && text.ends_with("only this"), "{text}");
    assert!(plane.exchange(0).error.is_some());
}

/// A backend that answers once on each connection and then closes without saying so.
fn forgetful() -> Backend {
    Backend::start(|request, stream| {
        if request.path() == "/" {
            respond(stream, "once")?;
        }
        Ok(false)
    })
}

#[test]
fn a_kept_connection_that_died_is_replaced() {
    let backend = forgetful();
    let plane = Plane::start(vec![rule("", "/", &[backend.address])]);
    let mut client = Client::plain(plane.http());
    for _ in 0..20 {
        assert_eq!(client.get("a", "/").text(), "once");
    }
    assert!(plane.heard.ejected.lock().unwrap().is_empty());
}

#[test]
fn only_what_may_be_repeated_is() {
    // The second request on a connection is read and not answered.
    static SEEN: AtomicUsize = AtomicUsize::new(0);
    let backend =
        Backend::start(
            |_, stream| {
                if SEEN.fetch_add(1, Ordering::SeqCst) == 1 { Ok(false) } else { respond(stream, "ok") }
            },
        );
    let plane = Plane::start(vec![rule("", "/", &[backend.address])]);
    let mut client = Client::plain(plane.http());
    assert_eq!(client.get("a", "/").status, 200);
    assert_eq!(client.ask("POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 1\r\n\r\nx").status, 502);
    assert_eq!(backend.requests(), 2, "a POST is not sent twice");
    SEEN.store(0, Ordering::SeqCst);
    assert_eq!(client.get("a", "/").status, 200);
    assert_eq!(client.get("a", "/").status, 200, "a GET is");
    assert_eq!(backend.requests(), 5);
}

#[test]
fn a_body_beyond_the_limit_is_refused_early_and_late() {
    let backend = Backend::echo();
    let plane = Plane::start(vec![rule("", "/", &[backend.address]).policy(|policy| policy.max_body = Some(10))]);
    let long = "POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 11\r\n\r\n12345678901";
    assert_eq!(Client::plain(plane.http()).ask(long).status, 413);
    let chunked =
        "POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n6\r\nabcdef\r\n6\r\nabcdef\r\n0\r\n\r\n";
    assert_eq!(Client::plain(plane.http()).ask(chunked).status, 413);
    assert_eq!(backend.requests(), 0);
    let short = "POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 10\r\n\r\n1234567890";
    assert_eq!(Client::plain(plane.http()).ask(short).status, 200);
}

#[test]
fn a_backend_that_does_not_read_holds_the_client_back() {
    let backend = Backend::start(|_, _| Ok(true));
    // A backend that never reads: the listener's queue takes the connection.
    let deaf = TcpListener::bind("127.0.0.1:0").unwrap();
    let plane = Plane::start(vec![rule("", "/", &[deaf.local_addr().unwrap()])]);
    let mut client = Client::plain(plane.http());
    client.send("POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 1000000000\r\n\r\n");
    client.wire.tcp().set_write_timeout(Some(Duration::from_millis(500))).unwrap();
    let block = vec![0; 1024 * 1024];
    let mut taken = 0;
    while taken < 200 && client.wire.write_all(&block).is_ok() {
        taken += 1;
    }
    assert!(taken < 64, "{taken} MiB were taken for a backend that reads nothing");
    drop(backend);
}

#[test]
fn a_websocket_ends_when_both_sides_are_silent_and_only_then() {
    let backend = Backend::echo();
    let limit = Duration::from_secs(1);
    let plane = Plane::start(vec![rule("", "/", &[backend.address]).policy(|policy| {
        policy.read_timeout = limit / 2;
        policy.upgrade_idle = limit;
    })]);
    let mut client = Client::plain(plane.http());
    let upgrade = "GET /ws HTTP/1.1\r\nHost: a\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n\r\n";
    assert_eq!(client.ask(upgrade).status, 101);
    let begun = Instant::now();
    while begun.elapsed() < 3 * limit {
        client.send("x");
        assert_eq!(client.take(1), b"x");
    }
    let begun = Instant::now();
    assert!(client.closed());
    assert!(begun.elapsed() >= limit * 9 / 10, "{:?}", begun.elapsed());
    // A backend that never answers the upgrade is timed out as any other.
    let mut client = Client::plain(plane.http());
    assert_eq!(client.ask(upgrade.replace("/ws", "/sleep/2000")).status, 504);
}

#[test]
fn a_head_does_not_wait_for_its_body() {
    let (heard, told) = std::sync::mpsc::channel();
    let told = std::sync::Mutex::new(told);
    let backend = Backend::start(move |_, stream| {
        stream.write_all(b"HTTP/1.1 200 OK\r\nContent-Length: 4\r\n\r\n")?;
        // Nothing of the body is sent before the client has the head.
        told.lock().unwrap().recv_timeout(Duration::from_secs(10)).map_err(std::io::Error::other)?;
        stream.write_all(b"slow")?;
        Ok(true)
    });
    let plane = Plane::start(vec![rule("", "/", &[backend.address])]);
    let mut client = Client::plain(plane.http());
    client.send("GET / HTTP/1.1\r\nHost: a\r\n\r\n");
    assert_eq!(client.read_response(true).unwrap().status, 200);
    heard.send(()).unwrap();
    assert_eq!(client.take(4), b"slow");
}

#[test]
fn a_client_that_takes_nothing_is_given_up() {
    let backend = Backend::echo();
    let table = table(vec![rule("", "/", &[backend.address])], CertificateTable::default());
    let plane = Plane::with(table, |config| config.limits.client_timeout = Duration::from_millis(300));
    let mut client = Client::plain(plane.http());
    client.send("GET /download/100000000 HTTP/1.1\r\nHost: a\r\n\r\n");
    assert!(plane.exchange(0).error.is_some());
    wait_for(|| (plane.data.connections() == 0).then_some(()));
}

/// A backend that speaks TLS with a certificate that nobody trusts; it answers with the server name it was asked for.
fn tls_backend() -> SocketAddr {
    tls_backend_with((*certificate("somebody.else").0.key).clone())
}

fn tls_backend_with(certificate: CertifiedKey) -> SocketAddr {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = listener.local_addr().unwrap();
    let config = ServerConfig::builder_with_provider(landfall_ingress::crypto_provider())
        .with_safe_default_protocol_versions()
        .unwrap()
        .with_no_client_auth()
        .with_cert_resolver(Arc::new(SingleCertAndKey::from(certificate)));
    let config = Arc::new(config);
    std::thread::spawn(move || {
        for tcp in listener.incoming().flatten() {
            let mut stream = StreamOwned::new(ServerConnection::new(config.clone()).unwrap(), tcp);
            std::thread::spawn(move || {
                let mut buffer = [0; 4096];
                while stream.read(&mut buffer).is_ok_and(|length| length > 0) {
                    let name = stream.conn.server_name().unwrap_or("none").to_owned();
                    let _ = write!(stream, "HTTP/1.1 200 OK\r\nContent-Length: {}\r\n\r\n{name}", name.len());
                }
            });
        }
    });
    address
}

#[test]
fn a_backend_may_speak_tls_with_any_certificate() {
    let address = tls_backend();
    let plane = Plane::start(vec![rule("", "/", &[address]).protocol(Protocol::Https)]);
    let mut client = Client::plain(plane.http());
    for (host, name) in [("a.example:8443", "a.example"), ("10.0.0.1", "none"), ("[::1]:80", "none"), ("a!b", "none")] {
        let response = client.get(host, "/");
        assert_eq!((response.status, response.text().as_str()), (200, name), "{host}");
    }
}

#[test]
fn changes_of_the_table_are_seen_at_once_and_close_nothing() {
    let backends = [Backend::echo(), Backend::echo()];
    let plane = Plane::start(vec![rule("", "/", &[backends[0].address])]);
    let mut clients = [Client::plain(plane.http()), Client::tls(plane.https(), "a")];
    for round in 1..=200 {
        let backend = &backends[round % 2];
        let before = backend.requests();
        let rules = vec![rule("", "/", &[backend.address])];
        plane.table.store(Arc::new(table(rules, CertificateTable::default())));
        for client in &mut clients {
            assert_eq!(client.get("a", "/").status, 200, "round {round}");
        }
        assert_eq!(backend.requests(), before + 2, "round {round}");
    }
}

#[test]
fn a_service_may_be_a_name() {
    let backend = Backend::echo();
    let port = backend.address.port();
    let target = |name: &str| Target::Dns { name: name.into(), port };
    let plane = Plane::start(vec![
        rule("name.example", "/", &[]).target(target("127.0.0.1")),
        rule("gone.example", "/", &[]).target(target("0.0.0.0")),
    ]);
    let mut client = Client::plain(plane.http());
    assert_eq!(client.get("name.example", "/").status, 200);
    assert_eq!(client.get("gone.example", "/").status, 503);
}

#[test]
fn all_addresses_of_a_name_are_used_in_turn_and_a_dead_one_is_left_out() {
    let backend = Backend::echo();
    let port = backend.address.port();
    let server = NameServer::start(Duration::ZERO);
    // Nobody listens at the second address.
    server.set("two.example", Zone::of(&["127.0.0.1", "127.0.0.2"], 60));
    let target = Target::Dns { name: "two.example".into(), port };
    let rules = table(vec![rule("", "/", &[]).target(target)], CertificateTable::default());
    let plane = Plane::with(rules, |config| {
        config.balancers = Balancers::new(Arc::new(Resolver::with_name_servers(Origin::Folder, &[server.address])));
    });
    let mut client = Client::plain(plane.http());
    for _ in 0..6 {
        assert_eq!(client.get("a", "/").status, 200);
    }
    let dead: SocketAddr = format!("127.0.0.2:{port}").parse().unwrap();
    assert_eq!(*plane.heard.ejected.lock().unwrap(), [dead], "it is tried once and then left alone for a while");
    let tries: Vec<u32> = (0..6).map(|index| plane.exchange(index).tries).collect();
    assert_eq!(tries.iter().sum::<u32>(), 7);
    assert_eq!(server.queries(), 1);
}

#[test]
fn a_copy_goes_to_another_address_of_its_name_where_one_refuses() {
    let (main, copies) = (Backend::echo(), Backend::echo());
    let port = copies.address.port();
    let server = NameServer::start(Duration::ZERO);
    // Nobody listens at the second address, which is tried first for half of them.
    server.set("two.example", Zone::of(&["127.0.0.1", "127.0.0.2"], 60));
    let url = Arc::new(Template::verbatim(&format!("http://two.example:{port}/copy")));
    let mirror = Arc::new(Mirror { url, adds_query: false, with_body: false, host: None });
    let rule = rule("", "/", &[main.address]).policy(|policy| policy.mirror = Some(mirror));
    let plane = Plane::with(table(vec![rule], CertificateTable::default()), |config| {
        config.balancers = Balancers::new(Arc::new(Resolver::with_name_servers(Origin::Folder, &[server.address])));
    });
    let mut client = Client::plain(plane.http());
    for _ in 0..20 {
        assert_eq!(client.get("a", "/").status, 200);
    }
    wait_for(|| (copies.requests() == 20).then_some(()));
}

#[test]
fn a_kept_connection_spares_no_other_rule_the_check_of_a_certificate() {
    let issued = rcgen::generate_simple_self_signed(vec!["backend.test".to_owned()]).unwrap();
    let pem = issued.cert.pem();
    let key = PrivateKeyDer::Pkcs8(PrivatePkcs8KeyDer::from(issued.signing_key.serialize_der()));
    let signer = landfall_ingress::crypto_provider().key_provider.load_private_key(key).unwrap();
    let backend = tls_backend_with(CertifiedKey::new(vec![issued.cert.der().clone()], signer));
    let verifying = |name: &str| {
        let algorithms = landfall_ingress::crypto_provider().signature_verification_algorithms;
        let authorities = Arc::new(Authorities::parse(pem.as_bytes(), None, algorithms).unwrap());
        let verify = Some(Verify { authorities, depth: 1, name: Some(name.into()) });
        Some(Arc::new(UpstreamTls { verify, ..UpstreamTls::default() }))
    };
    let of = |host: &'static str, tls: Option<Arc<UpstreamTls>>| {
        rule(host, "/", &[backend]).protocol(Protocol::Https).policy(|policy| policy.upstream_tls = tls)
    };
    let plane = Plane::start(vec![
        of("any.example", None),
        of("right.example", verifying("backend.test")),
        of("wrong.example", verifying("other.test")),
    ]);
    let mut client = Client::plain(plane.http());
    for _ in 0..2 {
        for (host, status) in [("any.example", 200), ("right.example", 200), ("wrong.example", 502)] {
            assert_eq!(client.get(host, "/").status, status, "{host}");
        }
    }
    assert!(plane.heard.ejected.lock().unwrap().is_empty(), "the endpoint is not to blame");
}
