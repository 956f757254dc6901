//! What a table asks of connections before their first request: PROXY headers, names, and TLS that ends elsewhere.
#![allow(clippy::unwrap_used, clippy::panic, reason = "a test may panic")]

mod support;

use std::io::{Read, Write};
use std::net::TcpStream;
use std::sync::Arc;

use landfall_ingress::engine::Rejected;
use landfall_ingress_model::access::Access;
use landfall_ingress_model::host::{HostName, HostPattern};
use landfall_ingress_model::table::{ConnectionRules, HostRoutes, OtherNames, Table, WwwRedirect};
use landfall_ingress_model::tls::CertificateTable;
use rustls::ClientConnection;
use rustls_pki_types::{CertificateDer, ServerName};
use support::backend::Backend;
use support::client::{Client, client_config};
use support::plane::{Plane, Rule, certificate, rule, table, wait_for};

fn host(name: &str) -> HostName {
    HostName::from_authority(name).unwrap()
}

/// A table in which TLS of pass.example is not ended.
fn passing(rules: Vec<Rule>, certificates: CertificateTable) -> Table {
    let mut table = table(rules, certificates);
    let name = host("pass.example");
    let routes = table.exact.remove(&name).unwrap();
    let routes = HostRoutes {
        passes_through: true,
        prefix: routes.prefix.clone(),
        exact: routes.exact.clone(),
        ..HostRoutes::default()
    };
    table.exact.insert(name.clone(), Arc::new(routes));
    let passthrough = [HostPattern::Exact(name)].into();
    table.connections = Arc::new(ConnectionRules { passthrough, ..ConnectionRules::default() });
    table
}

/// The certificate that answers a name, and what the first request gets; in pieces of `piece` bytes.
fn ask(plane: &Plane, name: &str, piece: usize) -> Option<(CertificateDer<'static>, String)> {
    let mut tcp = TcpStream::connect(plane.https()).unwrap();
    tcp.set_nodelay(true).unwrap();
    let name = ServerName::try_from(name.to_owned()).unwrap();
    let mut tls = ClientConnection::new(client_config(&[b"http/1.1"]), name).unwrap();
    let mut hello = Vec::new();
    tls.write_tls(&mut hello).unwrap();
    for part in hello.chunks(piece) {
        tcp.write_all(part).unwrap();
    }
    let mut stream = rustls::StreamOwned::new(tls, tcp);
    stream.write_all(b"GET / HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n").ok()?;
    let mut text = String::new();
    stream.read_to_string(&mut text).ok()?;
    Some((stream.conn.peer_certificates()?[0].clone().into_owned(), text))
}

#[test]
fn tls_that_is_not_ended_here_reaches_the_endpoint_as_it_came() {
    let backend = Backend::echo();
    let ((theirs, their_der), (ours, our_der)) = (certificate("pass.example"), certificate("own.example"));
    let certificates = CertificateTable { default: Some(theirs), ..CertificateTable::default() };
    let endpoint = Plane::with(table(vec![rule("", "/", &[backend.address])], certificates), |_| {});
    let dead = Backend::refusing();
    let rules =
        vec![rule("pass.example", "/", &[dead, endpoint.https()]), rule("own.example", "/", &[backend.address])];
    let certificates = CertificateTable { default: Some(ours), ..CertificateTable::default() };
    let plane = Plane::with(passing(rules, certificates), |_| {});
    for piece in [usize::MAX, 1, 7] {
        let (certificate, text) = ask(&plane, "pass.example", piece).unwrap();
        assert!(certificate == their_der, "the endpoint's certificate answers");
        assert!(text.starts_with("HTTP/1.1 200") && text.contains("x-forwarded-proto: https"), "{text}");
        let (certificate, _) = ask(&plane, "own.example", piece).unwrap();
        assert!(certificate == our_der, "its neighbour's TLS ends here");
    }
    assert_eq!(*plane.heard.ejected.lock().unwrap(), [dead], "a dead endpoint is left out");
    assert_eq!(plane.heard.exchanges.lock().unwrap().len(), 3, "what is passed through is no request here");
}

#[test]
fn tls_is_passed_to_nobody_whom_the_route_shuts_out_and_nowhere_without_a_path_for_all() {
    let backend = Backend::echo();
    let nobody = Access { deny: Box::default(), allow: Some(Box::default()) };
    let closed = rule("pass.example", "/", &[backend.address]).policy(|policy| policy.access = Some(Arc::new(nobody)));
    for rule in [closed, rule("pass.example", "/a", &[backend.address])] {
        let plane = Plane::with(passing(vec![rule], CertificateTable::default()), |_| {});
        assert!(ask(&plane, "pass.example", usize::MAX).is_none());
        wait_for(|| plane.heard.rejected.lock().unwrap().contains(&Rejected::Passthrough).then_some(()));
    }
    assert_eq!(backend.connections(), 0);
}

#[test]
fn a_name_that_no_rule_has_gets_no_handshake_where_that_is_asked_for() {
    let backend = Backend::echo();
    let plane = Plane::start(vec![rule("a.example", "/", &[backend.address])]);
    assert!(ask(&plane, "b.example", usize::MAX).is_some());
    let mut table = table(vec![rule("a.example", "/", &[backend.address])], CertificateTable::default());
    table.connections = Arc::new(ConnectionRules { rejects_unknown: true, ..ConnectionRules::default() });
    plane.table.store(Arc::new(table));
    assert!(ask(&plane, "b.example", usize::MAX).is_none());
    assert!(ask(&plane, "127.0.0.1", usize::MAX).is_none(), "nor does one without a name");
    assert!(ask(&plane, "a.example", usize::MAX).is_some());
    let redirect = WwwRedirect {
        host: host("a.example"),
        status: http::StatusCode::PERMANENT_REDIRECT,
        forwarding: Arc::default(),
        fields: Vec::new(),
    };
    let names = OtherNames { www: [(host("www.a.example"), redirect)].into(), ..OtherNames::default() };
    let mut table = self::table(vec![rule("a.example", "/", &[backend.address])], CertificateTable::default());
    table.connections = Arc::new(ConnectionRules { rejects_unknown: true, ..ConnectionRules::default() });
    table.names = Arc::new(names);
    plane.table.store(Arc::new(table));
    assert!(ask(&plane, "www.a.example", usize::MAX).is_some(), "one that is sent elsewhere is heard");
}

#[test]
fn a_table_can_ask_for_proxy_headers_and_say_whose_are_believed() {
    let backend = Backend::echo();
    let plane = Plane::start(vec![rule("", "/", &[backend.address])]);
    let request = "GET / HTTP/1.1\r\nHost: a\r\n\r\n";
    let line = format!("PROXY TCP4 192.0.2.7 198.51.100.2 1234 80\r\n{request}");
    let mut before = Client::plain(plane.http());
    assert_eq!(before.ask(request).status, 200);
    let ask_for = |proxies: &[&str]| {
        let mut table = table(vec![rule("", "/", &[backend.address])], CertificateTable::default());
        let proxies = proxies.iter().map(|net| net.parse().unwrap()).collect();
        table.connections = Arc::new(ConnectionRules { proxy_protocol: true, proxies, ..ConnectionRules::default() });
        plane.table.store(Arc::new(table));
    };
    ask_for(&[]);
    assert_eq!(before.ask(request).status, 200, "a connection that is open stays as it is");
    assert!(Client::plain(plane.http()).ask(&line).text().contains("x-forwarded-for: 192.0.2.7\n"));
    let mut client = Client::plain(plane.http());
    client.send(request);
    assert!(client.closed());
    ask_for(&["192.0.2.0/24"]);
    assert!(Client::plain(plane.http()).ask(&line).text().contains("x-forwarded-for: 127.0.0.1\n"));
}
