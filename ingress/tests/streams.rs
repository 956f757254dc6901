//! The TCP and UDP ports of Services, over sockets.
#![allow(clippy::unwrap_used, clippy::panic, reason = "a test may panic")]

mod support;

use std::io::{Read, Write};
use std::net::{Shutdown, SocketAddr, TcpListener, TcpStream, UdpSocket};
use std::sync::Arc;
use std::sync::atomic::{AtomicU16, AtomicU64, Ordering};
use std::time::{Duration, Instant};

use landfall_ingress::engine::Rejected;
use landfall_ingress::listener::{StreamPorts, Unopened};
use landfall_ingress_model::backend::{
    Affinity, Backend, BackendKey, BackendState, Balance, PortRef, Protocol, Target, Transport,
};
use landfall_ingress_model::table::{ProxyHeaders, StreamPolicy, StreamPort, StreamService, Streams};
use landfall_ingress_model::tls::CertificateTable;
use landfall_model::ObjectKey;
use support::plane::{Plane, table, wait_for};

const PATIENCE: Duration = Duration::from_secs(15);

fn state(endpoints: &[SocketAddr]) -> Arc<BackendState> {
    let mut endpoints = endpoints.to_vec();
    endpoints.sort_unstable();
    Arc::new(BackendState {
        protocol: Protocol::Http,
        affinity: Affinity::None,
        balance: Balance::RoundRobin,
        hash_by: None,
        cookie: None,
        target: Target::Endpoints(endpoints.as_slice().into()),
        unavailable: endpoints.is_empty().then(|| "it has no endpoint".into()),
    })
}

fn service(port: StreamPort, endpoints: &[SocketAddr]) -> StreamService {
    let key = BackendKey { service: ObjectKey::new("shop", "db"), port: PortRef::Number(1) };
    StreamService {
        port,
        backend: Arc::new(Backend::new(key, state(endpoints))),
        proxy: ProxyHeaders::default(),
        policy: Arc::default(),
    }
}

fn with(mut service: StreamService, change: impl FnOnce(&mut StreamPolicy)) -> StreamService {
    let mut policy = StreamPolicy::default();
    change(&mut policy);
    service.policy = Arc::new(policy);
    service
}

fn streams(services: impl IntoIterator<Item = StreamService>) -> Streams {
    let ports = services.into_iter().map(|service| (service.port, Arc::new(service))).collect();
    Streams { ports, policy: Arc::default() }
}

/// A port that nobody has just now, and that the kernel gives to nobody.
fn free(transport: Transport) -> StreamPort {
    static NEXT: AtomicU16 = AtomicU16::new(0);
    let begin = 20_000 + u16::try_from(std::process::id() % 100).unwrap() * 100;
    loop {
        let number = begin + NEXT.fetch_add(1, Ordering::SeqCst);
        let is_free = match transport {
            Transport::Tcp => TcpListener::bind(("127.0.0.1", number)).is_ok(),
            Transport::Udp => UdpSocket::bind(("127.0.0.1", number)).is_ok(),
        };
        if is_free {
            return StreamPort { transport, number };
        }
    }
}

fn address(port: StreamPort) -> SocketAddr {
    ([127, 0, 0, 1], port.number).into()
}

/// A plane with these services open.
fn start(services: impl IntoIterator<Item = StreamService>) -> (Plane, StreamPorts) {
    let plane = Plane::start(vec![]);
    let mut ports = plane.data.stream_ports();
    assert!(ports.follow(&streams(services)).is_empty());
    (plane, ports)
}

fn connect(port: StreamPort) -> TcpStream {
    let tcp = TcpStream::connect(address(port)).unwrap();
    tcp.set_read_timeout(Some(PATIENCE)).unwrap();
    tcp
}

fn ask(tcp: &mut TcpStream, text: &str) -> String {
    tcp.write_all(text.as_bytes()).unwrap();
    let mut answer = vec![0; 256];
    let length = tcp.read(&mut answer).unwrap();
    String::from_utf8(answer[..length].to_vec()).unwrap()
}

/// A TCP server that greets with its name, answers everything with it in front, and says goodbye at the end.
fn tcp_server(name: &'static str) -> SocketAddr {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = listener.local_addr().unwrap();
    std::thread::spawn(move || {
        for tcp in listener.incoming() {
            let mut tcp = tcp.unwrap();
            std::thread::spawn(move || {
                let mut data = [0; 1024];
                while let Ok(length @ 1..) = tcp.read(&mut data) {
                    let _ = tcp.write_all(&[name.as_bytes(), b":", &data[..length]].concat());
                }
                let _ = tcp.write_all(format!("{name}:goodbye").as_bytes());
            });
        }
    });
    address
}

/// A UDP server that answers each datagram `count` times with its name in front.
fn udp_server(name: &'static str, count: usize) -> (SocketAddr, Arc<AtomicU64>) {
    let socket = UdpSocket::bind("127.0.0.1:0").unwrap();
    let (address, heard) = (socket.local_addr().unwrap(), Arc::new(AtomicU64::new(0)));
    let counter = heard.clone();
    std::thread::spawn(move || {
        let mut data = vec![0; 65_535];
        while let Ok((length, from)) = socket.recv_from(&mut data) {
            counter.fetch_add(1, Ordering::SeqCst);
            for _ in 0..count {
                let _ = socket.send_to(&[name.as_bytes(), b":", &data[..length]].concat(), from);
            }
        }
    });
    (address, heard)
}

fn udp_client() -> UdpSocket {
    let socket = UdpSocket::bind("127.0.0.1:0").unwrap();
    socket.set_read_timeout(Some(PATIENCE)).unwrap();
    socket
}

fn receive(client: &UdpSocket, port: StreamPort) -> String {
    let mut data = vec![0; 65_535];
    let (length, from) = client.recv_from(&mut data).unwrap();
    assert_eq!(from, address(port), "an answer comes from the address that was asked");
    String::from_utf8(data[..length].to_vec()).unwrap()
}

fn ask_udp(client: &UdpSocket, port: StreamPort, text: &str) -> String {
    client.send_to(text.as_bytes(), address(port)).unwrap();
    receive(client, port)
}

#[test]
fn bytes_pass_as_they_are_and_an_end_in_one_direction_is_only_that() {
    let port = free(Transport::Tcp);
    let (plane, _ports) = start([service(port, &[tcp_server("a")])]);
    let mut client = connect(port);
    assert_eq!(ask(&mut client, "hello"), "a:hello");
    client.shutdown(Shutdown::Write).unwrap();
    let mut rest = String::new();
    client.read_to_string(&mut rest).unwrap();
    assert_eq!(rest, "a:goodbye");
    let record = wait_for(|| plane.heard.streams.lock().unwrap().pop());
    assert_eq!((record.received, record.sent, record.tries, record.rejected), (5, 16, 1, None));
}

#[test]
fn an_endpoint_that_takes_no_connection_is_passed_over() {
    let port = free(Transport::Tcp);
    let dead = [free(Transport::Tcp), free(Transport::Tcp)].map(address);
    let (plane, mut ports) = start([service(port, &[dead[0], dead[1], tcp_server("a")])]);
    for _ in 0..4 {
        assert_eq!(ask(&mut connect(port), "x"), "a:x");
    }
    assert!(!plane.heard.ejected.lock().unwrap().is_empty());
    // Nobody there at all: the connection ends.
    assert!(ports.follow(&streams([service(port, &dead)])).is_empty());
    assert_eq!(connect(port).read(&mut [0; 1]).unwrap_or(0), 0);
    let nobody = || plane.heard.streams.lock().unwrap().iter().find(|record| record.rejected.is_some()).cloned();
    assert_eq!(wait_for(nobody).rejected, Some(Rejected::NoEndpoint));
    // `proxy-stream-next-upstream: "false"`
    let one = with(service(port, &[dead[0], tcp_server("b")]), |policy| policy.tries = 1);
    assert!(ports.follow(&streams([one])).is_empty());
    let answers = [0; 2].map(|_| {
        let mut client = connect(port);
        client.write_all(b"x").unwrap();
        client.read(&mut [0; 8]).unwrap_or(0)
    });
    assert!(answers.contains(&0) && answers.contains(&3), "{answers:?}");
}

#[test]
fn ports_open_close_and_lead_elsewhere_while_connections_go_on() {
    let (first, second) = (free(Transport::Tcp), free(Transport::Tcp));
    let (a, b) = (tcp_server("a"), tcp_server("b"));
    let (_plane, mut ports) = start([service(first, &[a])]);
    let mut old = connect(first);
    assert_eq!(ask(&mut old, "1"), "a:1");
    // Another Service behind the same port, and one more port.
    assert!(ports.follow(&streams([service(first, &[b]), service(second, &[a])])).is_empty());
    assert_eq!(ask(&mut connect(first), "2"), "b:2");
    assert_eq!(ask(&mut connect(second), "3"), "a:3");
    assert_eq!(ask(&mut old, "4"), "a:4");
    // The port is removed.
    assert!(ports.follow(&streams([service(second, &[a])])).is_empty());
    wait_for(|| TcpStream::connect(address(first)).is_err().then_some(()));
    assert_eq!(ask(&mut old, "5"), "a:5");
    // And comes back.
    assert!(ports.follow(&streams([service(first, &[b])])).is_empty());
    assert_eq!(ask(&mut connect(first), "6"), "b:6");
    assert_eq!(ask(&mut old, "7"), "a:7");
}

#[test]
fn endpoints_change_under_an_open_port_and_without_any_it_is_closed() {
    let port = free(Transport::Tcp);
    let (a, b) = (tcp_server("a"), tcp_server("b"));
    let (_plane, mut ports) = start([]);
    let table = streams([service(port, &[a])]);
    let backend = table.ports[&port].backend.clone();
    assert!(ports.follow(&table).is_empty());
    let mut old = connect(port);
    assert_eq!(ask(&mut old, "1"), "a:1");
    backend.publish(state(&[b]));
    assert_eq!(ask(&mut connect(port), "2"), "b:2");
    backend.publish(state(&[]));
    assert!(ports.follow(&table).is_empty());
    wait_for(|| TcpStream::connect(address(port)).is_err().then_some(()));
    assert_eq!(ask(&mut old, "3"), "a:3");
    backend.publish(state(&[a]));
    assert!(ports.follow(&table).is_empty());
    assert_eq!(ask(&mut connect(port), "4"), "a:4");
}

#[test]
fn a_port_that_another_has_is_named_and_its_neighbours_are_open() {
    let (taken, port) = (TcpListener::bind("127.0.0.1:0").unwrap(), free(Transport::Tcp));
    let number = taken.local_addr().unwrap().port();
    let in_use = StreamPort { transport: Transport::Tcp, number };
    let plane = Plane::start(vec![]);
    let mut ports = plane.data.stream_ports();
    let wanted = streams([service(in_use, &[tcp_server("a")]), service(port, &[tcp_server("b")])]);
    let unopened = ports.follow(&wanted);
    let [Unopened { port: refused, cause }] = &unopened[..] else { panic!("{unopened:?}") };
    assert_eq!((*refused, cause.cause.kind()), (in_use, std::io::ErrorKind::AddrInUse));
    assert_eq!(ask(&mut connect(port), "x"), "b:x");
    drop(taken);
    assert!(ports.follow(&wanted).is_empty());
    assert_eq!(ask(&mut connect(in_use), "x"), "a:x");
}

#[test]
fn proxy_headers_are_read_and_written_where_they_are_asked_for() {
    let port = free(Transport::Tcp);
    let proxied = |from_client, to_endpoint| StreamService {
        proxy: ProxyHeaders { from_client, to_endpoint },
        ..service(port, &[tcp_server("a")])
    };
    let (plane, mut ports) = start([proxied(true, false)]);
    let v1 = "PROXY TCP4 192.0.2.7 198.51.100.2 1234 5432\r\n";
    assert_eq!(ask(&mut connect(port), &format!("{v1}hello")), "a:hello");
    let record = wait_for(|| plane.heard.streams.lock().unwrap().pop());
    assert_eq!(record.client, "192.0.2.7:1234".parse().unwrap());
    let mut bare = connect(port);
    bare.write_all(b"hello, I bring no header at all").unwrap();
    assert_eq!(bare.read(&mut [0; 8]).unwrap_or(0), 0);
    assert_eq!(wait_for(|| plane.heard.streams.lock().unwrap().pop()).rejected, Some(Rejected::ProxyProtocol));

    assert!(ports.follow(&streams([proxied(true, true)])).is_empty());
    assert_eq!(ask(&mut connect(port), &format!("{v1}hello")), format!("a:{v1}hello"));
    let v2 = b"\r\n\r\n\0\r\nQUIT\n\x21\x11\0\x0c\xc0\0\x02\x08\xc6\x33\x64\x02\0\x01\x01\xbb";
    let mut client = connect(port);
    client.write_all(v2).unwrap();
    assert_eq!(ask(&mut client, ""), "a:PROXY TCP4 192.0.2.8 198.51.100.2 1 443\r\n");

    assert!(ports.follow(&streams([proxied(false, true)])).is_empty());
    let mut client = connect(port);
    let (own, number) = (client.local_addr().unwrap().port(), port.number);
    // The endpoint hears of the client before the client has said anything.
    assert_eq!(ask(&mut client, ""), format!("a:PROXY TCP4 127.0.0.1 127.0.0.1 {own} {number}\r\n"));
}

#[test]
fn a_connection_in_which_nothing_moves_ends() {
    let port = free(Transport::Tcp);
    let idle = with(service(port, &[tcp_server("a")]), |policy| policy.idle = Duration::from_millis(300));
    let (_plane, _ports) = start([idle]);
    let mut client = connect(port);
    let begun = Instant::now();
    assert_eq!(ask(&mut client, "x"), "a:x");
    assert_eq!(client.read(&mut [0; 16]).unwrap_or(0), 0);
    assert!(begun.elapsed() >= Duration::from_millis(300));
}

#[test]
fn open_connections_are_waited_for_at_the_end_and_newcomers_are_not_let_in() {
    let port = free(Transport::Tcp);
    let (plane, _ports) = start([service(port, &[tcp_server("a")])]);
    let mut client = connect(port);
    assert_eq!(ask(&mut client, "1"), "a:1");
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    let (data, drainer) = (&plane.data, &plane.drainer);
    std::thread::scope(|scope| {
        let ending = scope.spawn(|| runtime.block_on(drainer.run(data.idle())));
        wait_for(|| TcpStream::connect(address(port)).is_err().then_some(()));
        assert_eq!(ask(&mut client, "2"), "a:2");
        assert!(!ending.is_finished());
        drop(client);
        ending.join().unwrap();
    });
}

#[test]
fn datagrams_go_to_an_endpoint_and_back() {
    let port = free(Transport::Udp);
    let ((a, _), (b, _)) = (udp_server("a", 1), udp_server("b", 1));
    let (plane, mut ports) = start([service(port, &[a, b])]);
    let (one, two) = (udp_client(), udp_client());
    // One answer was expected and has come, so that the session is over, and the next one is with the next endpoint.
    let names: Vec<String> = (0..4).map(|_| ask_udp(&one, port, "x")).collect();
    assert_eq!(names.iter().filter(|name| *name == "a:x").count(), 2, "{names:?}");
    let large = "y".repeat(60_000);
    assert!(ask_udp(&two, port, &large).ends_with(&large));
    let record = wait_for(|| plane.heard.streams.lock().unwrap().first().cloned());
    assert_eq!((record.received, record.sent, record.rejected), (1, 3, None));
    // Any number of answers: a client stays with its endpoint, and each with its own.
    let lasting = with(service(port, &[a, b]), |policy| policy.responses = None);
    assert!(ports.follow(&streams([lasting])).is_empty());
    let (first, other) = (ask_udp(&one, port, "1"), ask_udp(&two, port, "1"));
    assert_ne!(first, other);
    for _ in 0..4 {
        assert_eq!((ask_udp(&one, port, "1"), ask_udp(&two, port, "1")), (first.clone(), other.clone()));
    }
    // The port is closed.
    assert!(ports.follow(&streams([])).is_empty());
    wait_for(|| UdpSocket::bind(address(port)).is_ok().then_some(()));
}

#[test]
fn an_answer_leaves_from_the_address_that_was_asked() {
    let port = free(Transport::Udp);
    let (server, _) = udp_server("a", 1);
    let plane = Plane::with(table(vec![], CertificateTable::default()), |config| {
        config.http = vec!["[::]:0".parse().unwrap()];
    });
    let mut ports = plane.data.stream_ports();
    assert!(ports.follow(&streams([service(port, &[server])])).is_empty());
    for (client, asked) in [("127.0.0.1:0", "127.0.0.1"), ("127.0.0.1:0", "127.0.0.77"), ("[::1]:0", "::1")] {
        let socket = UdpSocket::bind(client).unwrap();
        socket.set_read_timeout(Some(PATIENCE)).unwrap();
        let asked = SocketAddr::new(asked.parse().unwrap(), port.number);
        socket.send_to(b"x", asked).unwrap();
        let mut data = [0; 16];
        let (length, from) = socket.recv_from(&mut data).unwrap();
        assert_eq!((&data[..length], from), (&b"a:x"[..], asked));
    }
}

#[test]
fn a_session_brings_as_many_datagrams_back_as_are_expected() {
    let port = free(Transport::Udp);
    let (server, _) = udp_server("a", 3);
    let three = with(service(port, &[server]), |policy| policy.responses = Some(3));
    let (plane, _ports) = start([three]);
    let client = udp_client();
    assert_eq!(ask_udp(&client, port, "x"), "a:x");
    assert_eq!([receive(&client, port), receive(&client, port)], ["a:x", "a:x"]);
    let record = wait_for(|| plane.heard.streams.lock().unwrap().first().cloned());
    assert_eq!(record.sent, 9);
}

#[test]
fn a_datagram_that_an_endpoint_refuses_goes_to_another() {
    let port = free(Transport::Udp);
    let (server, _) = udp_server("a", 1);
    let (plane, _ports) = start([service(port, &[address(free(Transport::Udp)), server])]);
    for _ in 0..3 {
        assert_eq!(ask_udp(&udp_client(), port, "x"), "a:x");
    }
    assert_eq!(plane.heard.ejected.lock().unwrap().len(), 1);
}

#[test]
fn a_client_leaves_an_endpoint_that_the_service_has_no_more() {
    let port = free(Transport::Udp);
    let ((a, _), (b, heard)) = (udp_server("a", 0), udp_server("b", 0));
    let (_plane, mut ports) = start([]);
    let table = streams([with(service(port, &[a]), |policy| policy.responses = None)]);
    let backend = table.ports[&port].backend.clone();
    assert!(ports.follow(&table).is_empty());
    let client = udp_client();
    client.send_to(b"log line", address(port)).unwrap();
    backend.publish(state(&[b]));
    wait_for(|| {
        client.send_to(b"log line", address(port)).unwrap();
        (heard.load(Ordering::SeqCst) > 0).then_some(())
    });
}

#[test]
fn idle_sessions_end_and_of_too_many_the_unused_make_room() {
    let port = free(Transport::Udp);
    let (server, heard) = udp_server("a", 0);
    let plane = Plane::with(table(vec![], CertificateTable::default()), |config| config.connections.total = 40);
    let mut ports = plane.data.stream_ports();
    let silent = with(service(port, &[server]), |policy| policy.responses = None);
    assert!(ports.follow(&streams([silent])).is_empty());
    let clients: Vec<UdpSocket> = (0..30).map(|_| udp_client()).collect();
    for (index, client) in clients.iter().enumerate() {
        client.send_to(b"x", address(port)).unwrap();
        wait_for(|| (heard.load(Ordering::SeqCst) > index as u64).then_some(()));
        // One that makes room is gone a moment later.
        wait_for(|| (plane.data.connections() <= 10).then_some(()));
    }
    let short = with(service(port, &[server]), |policy| policy.idle = Duration::from_millis(100));
    assert!(ports.follow(&streams([])).is_empty());
    wait_for(|| (plane.data.connections() == 0).then_some(()));
    assert!(ports.follow(&streams([short])).is_empty());
    clients[0].send_to(b"x", address(port)).unwrap();
    wait_for(|| (plane.data.connections() == 1).then_some(()));
    wait_for(|| (plane.data.connections() == 0).then_some(()));
}
