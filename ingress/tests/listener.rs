//! TLS, the PROXY protocol, limits and drain.
#![allow(clippy::unwrap_used, clippy::panic, reason = "a test may panic")]

mod support;

use std::io::Write;
use std::net::{IpAddr, SocketAddr, TcpStream};
use std::sync::Arc;
use std::time::{Duration, Instant};

use landfall_ingress::engine::Rejected;
use landfall_ingress_model::authorities::Authorities;
use landfall_ingress_model::host::HostName;
use landfall_ingress_model::policy::{ClientCertificates, Demand};
use landfall_ingress_model::tls::{Certificate, CertificateTable};
use rustls::sign::{CertifiedKey, SingleCertAndKey};
use rustls::version::{TLS12, TLS13};
use rustls::{ClientConnection, HandshakeKind, StreamOwned};
use rustls_pki_types::{CertificateDer, PrivateKeyDer, PrivatePkcs8KeyDer, ServerName};
use support::backend::Backend;
use support::client::{Client, client_config, client_of_versions};
use support::plane::{Plane, certificate, rule, table, wait_for};

fn host(name: &str) -> HostName {
    HostName::from_authority(name).unwrap()
}

/// A handshake, and the certificate that answered it.
fn handshake(
    address: SocketAddr,
    name: &str,
    config: &Arc<rustls::ClientConfig>,
) -> (CertificateDer<'static>, StreamOwned<ClientConnection, TcpStream>) {
    let tcp = TcpStream::connect(address).unwrap();
    let name = ServerName::try_from(name.to_owned()).unwrap();
    let connection = ClientConnection::new(config.clone(), name).unwrap();
    let mut stream = StreamOwned::new(connection, tcp);
    stream.write_all(b"GET / HTTP/1.1\r\nHost: a\r\n\r\n").unwrap();
    // Session tickets come with the answer.
    std::io::Read::read(&mut stream, &mut [0; 64]).unwrap();
    let certificate = stream.conn.peer_certificates().unwrap()[0].clone().into_owned();
    (certificate, stream)
}

fn certificates(exact: &[(&str, Arc<Certificate>)], wildcard: &[(&str, Arc<Certificate>)]) -> CertificateTable {
    CertificateTable {
        exact: exact.iter().map(|(name, certificate)| (host(name), certificate.clone())).collect(),
        wildcard: wildcard.iter().map(|(name, certificate)| (host(name), certificate.clone())).collect(),
        ..CertificateTable::default()
    }
}

#[test]
fn the_server_name_chooses_the_certificate() {
    let ((exact, exact_der), (wild, wild_der), (default, default_der)) =
        (certificate("a.example"), certificate("*.example"), certificate("default.example"));
    let mut names = certificates(&[("a.example", exact)], &[("example", wild)]);
    let plane = Plane::with(table(vec![], names), |_| {});
    // A new client each time, since a resumed session shows the certificate of its first handshake.
    let answering = |name: &str| handshake(plane.https(), name, &client_config(&[b"http/1.1"])).0;
    assert_eq!(answering("a.example"), exact_der);
    assert_eq!(answering("A.EXAMPLE"), exact_der);
    assert_eq!(answering("b.example"), wild_der);
    // Neither a deeper name nor an address nor another name has one, so the self-signed one answers.
    let fallback = answering("c.b.example");
    assert!(fallback != exact_der && fallback != wild_der);
    assert_eq!(answering("127.0.0.1"), fallback);
    names = certificates(&[], &[]);
    names.default = Some(default);
    plane.table.store(Arc::new(table(vec![], names)));
    assert_eq!(answering("c.b.example"), default_der);
}

#[test]
fn a_client_without_a_server_name_gets_the_certificate_of_the_address() {
    let ((here, here_der), (other, other_der), (default, default_der)) =
        (certificate("here.example"), certificate("other.example"), certificate("default.example"));
    let with = |all: &[(&str, &Arc<Certificate>)]| {
        let all: Vec<_> = all.iter().map(|(name, certificate)| (*name, (*certificate).clone())).collect();
        CertificateTable { addresses: all.iter().map(|(name, _)| host(name)).collect(), ..certificates(&all, &[]) }
    };
    let plane = Plane::with(table(vec![], with(&[("10.0.0.1", &other), ("127.0.0.1", &here)])), |_| {});
    let answering = |name: &str| handshake(plane.https(), name, &client_config(&[b"http/1.1"])).0;
    assert_eq!(answering("127.0.0.1"), here_der);
    // As behind a translation of addresses: the first one is better than none, but not than the default.
    plane.table.store(Arc::new(table(vec![], with(&[("10.0.0.1", &other)]))));
    assert_eq!(answering("127.0.0.1"), other_der);
    assert_ne!(answering("a.example"), other_der);
    let mut names = with(&[("10.0.0.1", &other)]);
    names.default = Some(default);
    plane.table.store(Arc::new(table(vec![], names)));
    assert_eq!(answering("127.0.0.1"), default_der);
}

#[test]
fn a_new_certificate_counts_at_once_and_open_connections_stay() {
    let backend = Backend::echo();
    let rules = || vec![rule("", "/", &[backend.address])];
    let ((old, old_der), (new, new_der)) = (certificate("a.example"), certificate("a.example"));
    let plane = Plane::with(table(rules(), certificates(&[("a.example", old)], &[])), |_| {});
    let mut client = Client::tls(plane.https(), "a.example");
    assert_eq!(client.get("a.example", "/").status, 200);
    assert_eq!(handshake(plane.https(), "a.example", &client_config(&[])).0, old_der);
    plane.table.store(Arc::new(table(rules(), certificates(&[("a.example", new)], &[]))));
    assert_eq!(handshake(plane.https(), "a.example", &client_config(&[])).0, new_der);
    assert_eq!(client.get("a.example", "/").status, 200);
}

#[test]
fn sessions_are_resumed_also_after_a_change_but_not_for_another_name() {
    let (first, _) = certificate("a.example");
    let plane = Plane::with(table(vec![], certificates(&[("a.example", first)], &[])), |config| config.workers = 2);
    for version in [&TLS12, &TLS13] {
        let config = client_of_versions(&[b"http/1.1"], &[version]);
        let kind = |name: &str| handshake(plane.https(), name, &config).1.conn.handshake_kind().unwrap();
        assert_ne!(kind("a.example"), HandshakeKind::Resumed);
        assert_eq!(kind("a.example"), HandshakeKind::Resumed, "{version:?}");
        let (next, _) = certificate("a.example");
        plane.table.store(Arc::new(table(vec![], certificates(&[("a.example", next)], &[]))));
        assert_eq!(kind("a.example"), HandshakeKind::Resumed, "{version:?}");
        assert_ne!(kind("b.example"), HandshakeKind::Resumed);
    }
    let heard = plane.heard.handshakes.lock().unwrap();
    assert!(heard.iter().any(|one| one.version == "TLSv1.2") && heard.iter().any(|one| one.version == "TLSv1.3"));
    assert_eq!(heard.iter().filter(|one| one.resumed).count(), 4);
}

#[test]
fn the_key_exchange_is_post_quantum_for_those_who_can() {
    let plane = Plane::start(vec![]);
    let (_, stream) = handshake(plane.https(), "a.example", &client_config(&[]));
    let group = stream.conn.negotiated_key_exchange_group().unwrap().name();
    assert_eq!(group, rustls::NamedGroup::X25519MLKEM768);
}

#[test]
fn plain_http_on_the_tls_port_is_told_so() {
    let plane = Plane::start(vec![]);
    let response = Client::plain(plane.https()).get("a", "/");
    assert_eq!(response.status, 400);
    assert!(response.text().contains("HTTPS port"), "{}", response.text());
    wait_for(|| plane.heard.rejected.lock().unwrap().contains(&Rejected::PlainOnTls).then_some(()));
}

fn with_proxy(cidr: &str) -> (Plane, Backend) {
    let backend = Backend::echo();
    let table = table(vec![rule("", "/", &[backend.address])], CertificateTable::default());
    let plane = Plane::with(table, |config| config.proxy_protocol = vec![cidr.parse().unwrap()]);
    (plane, backend)
}

#[test]
fn a_proxy_header_says_who_the_client_is() {
    let (plane, _backend) = with_proxy("127.0.0.0/8");
    let request = "GET / HTTP/1.1\r\nHost: a\r\n\r\n";
    let line = "PROXY TCP4 192.0.2.7 198.51.100.2 1234 8443\r\n";
    let text = Client::plain(plane.http()).ask(format!("{line}{request}")).text();
    assert!(text.contains("x-forwarded-for: 192.0.2.7\n") && text.contains("x-forwarded-port: 8443\n"), "{text}");
    assert_eq!(plane.exchange(0).client, IpAddr::from([192, 0, 2, 7]));
    // Version 2, byte by byte, and for a connection of the load balancer's own.
    let mut binary = b"\r\n\r\n\0\r\nQUIT\n\x21\x11\0\x0c\xc0\0\x02\x08\xc6\x33\x64\x02\0\x01\x01\xbb".to_vec();
    binary.extend_from_slice(request.as_bytes());
    let mut client = Client::plain(plane.http());
    for byte in binary {
        client.send([byte]);
    }
    assert!(client.response().text().contains("x-forwarded-for: 192.0.2.8\n"));
    let local = [&b"\r\n\r\n\0\r\nQUIT\n\x20\0\0\0"[..], request.as_bytes()].concat();
    assert!(Client::plain(plane.http()).ask(local).text().contains("x-forwarded-for: 127.0.0.1\n"));
}

#[test]
fn a_proxy_header_comes_before_the_tls_handshake() {
    let (plane, _backend) = with_proxy("127.0.0.1/32");
    let mut tcp = TcpStream::connect(plane.https()).unwrap();
    tcp.write_all(b"PROXY TCP6 2001:db8::7 2001:db8::1 1234 443\r\n").unwrap();
    let name = ServerName::try_from("a.example").unwrap();
    let connection = ClientConnection::new(client_config(&[b"http/1.1"]), name).unwrap();
    let mut stream = StreamOwned::new(connection, tcp);
    stream.write_all(b"GET / HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n").unwrap();
    let mut text = String::new();
    std::io::Read::read_to_string(&mut stream, &mut text).unwrap();
    assert!(text.contains("x-forwarded-for: 2001:db8::7\n"), "{text}");
}

#[test]
fn a_peer_that_has_to_send_a_proxy_header_is_refused_without_one() {
    let (plane, backend) = with_proxy("127.0.0.0/8");
    let mut client = Client::plain(plane.http());
    client.send("GET / HTTP/1.1\r\nHost: a\r\n\r\n");
    assert!(client.closed());
    wait_for(|| plane.heard.rejected.lock().unwrap().contains(&Rejected::ProxyProtocol).then_some(()));
    assert_eq!(backend.requests(), 0);
}

#[test]
fn a_proxy_header_of_anybody_else_is_no_request() {
    let (plane, backend) = with_proxy("192.0.2.0/24");
    let line = "PROXY TCP4 192.0.2.7 198.51.100.2 1234 80\r\nGET / HTTP/1.1\r\nHost: a\r\n\r\n";
    assert_eq!(Client::plain(plane.http()).ask(line).status, 400);
    assert_eq!(backend.requests(), 0);
}

#[test]
fn connections_beyond_the_limit_are_closed_and_counted() {
    let plane = Plane::with(table(vec![], CertificateTable::default()), |config| {
        config.connections.total = 2;
    });
    let mut clients = [Client::plain(plane.http()), Client::plain(plane.http())];
    for client in &mut clients {
        assert_eq!(client.get("a", "/").status, 404);
    }
    assert!(Client::plain(plane.http()).closed());
    assert_eq!(*plane.heard.rejected.lock().unwrap(), [Rejected::TooMany]);
    drop(clients);
    wait_for(|| (plane.data.connections() == 0).then_some(()));
    assert_eq!(Client::plain(plane.http()).get("a", "/").status, 404);
}

#[test]
fn one_client_can_be_kept_from_taking_all_connections() {
    let plane = Plane::with(table(vec![], CertificateTable::default()), |config| {
        config.connections.per_client = Some(1);
        config.proxy_protocol = vec!["127.0.0.0/8".parse().unwrap()];
    });
    let request = |address: &str| format!("PROXY TCP4 {address} 192.0.2.1 1 80\r\nGET / HTTP/1.1\r\nHost: a\r\n\r\n");
    let mut first = Client::plain(plane.http());
    assert_eq!(first.ask(request("192.0.2.7")).status, 404);
    let mut second = Client::plain(plane.http());
    second.send(request("192.0.2.7"));
    assert!(second.closed());
    assert_eq!(Client::plain(plane.http()).ask(request("192.0.2.8")).status, 404);
}

#[test]
fn draining_finishes_what_is_under_way_and_nothing_else() {
    let backend = Backend::echo();
    let plane = Plane::start(vec![rule("", "/", &[backend.address])]);
    let mut idle = Client::plain(plane.http());
    assert_eq!(idle.get("a", "/").status, 200);
    let mut busy = Client::tls(plane.https(), "a");
    busy.send("GET /sleep/600 HTTP/1.1\r\nHost: a\r\n\r\n");
    let mut socket = Client::plain(plane.http());
    let upgrade = "GET /ws HTTP/1.1\r\nHost: a\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n\r\n";
    assert_eq!(socket.ask(upgrade).status, 101);
    let Plane { data, drainer, .. } = plane;
    let address = data.http()[0];
    std::thread::scope(|scope| {
        scope.spawn(|| {
            let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
            runtime.block_on(drainer.run(data.idle()));
        });
        let begun = Instant::now();
        assert!(idle.closed());
        assert!(begun.elapsed() < Duration::from_millis(500));
        let response = busy.response();
        assert_eq!((response.status, response.field("connection")), (200, Some("close")));
        assert!(busy.closed());
        drop((busy, idle));
        wait_for(|| TcpStream::connect(address).is_err().then_some(()));
        socket.send("still there");
        assert_eq!(socket.take(11), b"still there");
        let finished = Instant::now();
        drop(socket);
        wait_for(|| (data.connections() == 0).then_some(()));
        assert!(finished.elapsed() < Duration::from_secs(2));
    });
    data.stop();
}

/// An authority, and a client's certificate from it.
struct Issued {
    authorities: Authorities,
    config: Arc<rustls::ClientConfig>,
}

fn issued(version: &'static rustls::SupportedProtocolVersion) -> Issued {
    let key = rcgen::KeyPair::generate().unwrap();
    let mut params = rcgen::CertificateParams::new(Vec::new()).unwrap();
    params.is_ca = rcgen::IsCa::Ca(rcgen::BasicConstraints::Unconstrained);
    let root = params.self_signed(&key).unwrap();
    let issuer = rcgen::Issuer::new(params, key);
    let key = rcgen::KeyPair::generate().unwrap();
    let client = rcgen::CertificateParams::new(Vec::new()).unwrap().signed_by(&key, &issuer).unwrap();
    let provider = landfall_ingress::crypto_provider();
    let algorithms = provider.signature_verification_algorithms;
    let authorities = Authorities::parse(root.pem().as_bytes(), None, algorithms).unwrap();
    let mut config = client_of_versions(&[b"http/1.1"], &[version]);
    let der = PrivateKeyDer::Pkcs8(PrivatePkcs8KeyDer::from(key.serialize_der()));
    let signer = provider.key_provider.load_private_key(der).unwrap();
    let shown = SingleCertAndKey::from(CertifiedKey::new(vec![client.der().clone()], signer));
    Arc::make_mut(&mut config).client_auth_cert_resolver = Arc::new(shown);
    Issued { authorities, config }
}

#[test]
fn a_client_certificate_is_looked_at_for_each_request_and_resumption_spares_nobody() {
    for version in [&TLS12, &TLS13] {
        let (backend, ours, theirs) = (Backend::echo(), issued(version), issued(version));
        let asking = |authorities: Option<Authorities>| {
            let (first, _) = certificate("a.example");
            let rules = vec![rule("a.example", "/", &[backend.address])];
            let mut table = table(rules, certificates(&[("a.example", first)], &[]));
            let policy = authorities.map(|authorities| ClientCertificates {
                demand: Demand::Required,
                authorities: Ok(Arc::new(authorities)),
                depth: 1,
                error_page: None,
                pass: false,
                subject: None,
            });
            for routes in table.exact.values_mut() {
                Arc::get_mut(routes).unwrap().client_certificates = policy.clone().map(Arc::new);
            }
            table
        };
        let plane = Plane::with(asking(None), |_| {});
        let get = |config: &Arc<rustls::ClientConfig>| {
            let mut client = Client::with_config(plane.https(), "a.example", config.clone());
            (client.get("a.example", "/").status, client)
        };
        // A session in which nobody was asked is none in which somebody was.
        assert_eq!(get(&ours.config).0, 200);
        plane.table.store(Arc::new(asking(Some(ours.authorities))));
        for _ in 0..3 {
            assert_eq!(get(&ours.config).0, 200, "{version:?}");
        }
        assert_eq!(get(&theirs.config).0, 400, "{version:?}");
        assert_eq!(get(&client_of_versions(&[b"http/1.1"], &[version])).0, 400, "{version:?}");
        let (_, mut kept) = get(&ours.config);
        plane.table.store(Arc::new(asking(Some(theirs.authorities))));
        assert_eq!(kept.get("a.example", "/").status, 400, "{version:?}");
        assert_eq!(get(&ours.config).0, 400, "{version:?}");
        assert_eq!(get(&theirs.config).0, 200, "{version:?}");
    }
}
