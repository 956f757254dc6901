//! What backends say and when they say it: interim responses, trailers, framing, early answers, silence.
#![allow(clippy::unwrap_used, clippy::panic, reason = "a test may panic")]

mod support;

use std::io::{Read, Write};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::time::{Duration, Instant};

use bytes::Bytes;
use h2::client::SendRequest;
use http::{HeaderMap, HeaderValue, Request, Response};
use landfall_ingress_model::backend::Protocol;
use landfall_ingress_model::tls::CertificateTable;
use support::backend::{Backend, respond};
use support::client::Client;
use support::plane::{Plane, rule, table, wait_for};

/// A backend that answers each request with these bytes and keeps its connection.
fn saying(bytes: &'static str) -> Backend {
    Backend::start(move |_, stream| {
        stream.write_all(bytes.as_bytes())?;
        Ok(true)
    })
}

/// The bytes that an HTTP/1.1 client gets to one GET, until there is silence.
fn raw(plane: &Plane) -> String {
    let mut tcp = TcpStream::connect(plane.http()).unwrap();
    tcp.write_all(b"GET / HTTP/1.1\r\nHost: a\r\n\r\n").unwrap();
    tcp.set_read_timeout(Some(Duration::from_secs(10))).unwrap();
    let mut bytes = Vec::new();
    let mut buffer = [0; 4096];
    while let Ok(read @ 1..) = tcp.read(&mut buffer) {
        bytes.extend_from_slice(&buffer[..read]);
        tcp.set_read_timeout(Some(Duration::from_millis(200))).unwrap();
    }
    String::from_utf8(bytes).unwrap()
}

#[test]
fn framing_is_ours_whatever_a_backend_says() {
    let cases: [(&str, u16, &[&str], &[&str]); 12] = [
        ("HTTP/1.1 204 No Content\r\nTransfer-Encoding: chunked\r\n\r\n", 204, &[], &["transfer-encoding"]),
        ("HTTP/1.1 204 No Content\r\nContent-Length: 5\r\n\r\n", 204, &[], &["content-length"]),
        ("HTTP/1.1 304 Not Modified\r\nContent-Length: 9\r\n\r\n", 304, &["content-length: 9"], &["transfer-encoding"]),
        (
            "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\nX-A: 1\r\ntransfer-encoding: chunked\r\n\r\n2\r\nok\r\n0\r\n\r\n",
            200,
            &["x-a: 1", "2\r\nok\r\n0\r\n\r\n"],
            &[],
        ),
        (
            "HTTP/1.1 200 OK\r\nContent-Length: 2\r\nContent-Length: 2\r\n\r\nok",
            200,
            &["content-length: 2", "\r\n\r\nok"],
            &[],
        ),
        ("HTTP/1.1 200 OK\r\nContent-Length: 2\r\nContent-Length: 3\r\n\r\nok", 502, &[], &["\r\nok"]),
        ("HTTP/1.1 200 OK\r\nTransfer-Encoding: xchunked\r\n\r\n2\r\nok", 502, &[], &["xchunked"]),
        ("HTTP/1.1 101 Switching Protocols\r\nUpgrade: x\r\nConnection: upgrade\r\n\r\n", 502, &[], &["switching"]),
        ("HTTP/1.0 200 OK\r\nContent-Length: 2\r\n\r\nok", 200, &["http/1.1 200 ok"], &["http/1.0"]),
        (
            "HTTP/1.1 103 Early Hints\r\nContent-Length: 3\r\nTransfer-Encoding: chunked\r\nLink: </a>\r\n\r\nHTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok",
            103,
            &["link: </a>", "http/1.1 200 ok"],
            &["content-length: 3", "chunked"],
        ),
        (
            "HTTP/1.1 200 OK\r\nDate: Thu, 26 Nov 2026 00:00:00 GMT\r\nServer: own\r\nContent-Length: 2\r\n\r\nok",
            200,
            &["date: thu, 26 nov 2026 00:00:00 gmt", "server: own"],
            &["landfall"],
        ),
        ("HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok", 200, &["server: landfall", "date: "], &[]),
    ];
    for (says, status, has, lacks) in cases {
        let plane = Plane::start(vec![rule("", "/", &[saying(says).address])]);
        let got = raw(&plane).to_lowercase();
        assert!(got.starts_with(&format!("http/1.1 {status} ")), "{says}\n{got}");
        for text in has {
            assert!(got.matches(text).count() == 1, "{text} once in\n{got}\nto {says}");
        }
        for text in lacks {
            assert!(!got.contains(text), "no {text} in\n{got}\nto {says}");
        }
    }
}

#[test]
fn a_backend_that_never_comes_to_an_answer_is_given_up() {
    let backend = Backend::start(|_, stream| {
        for _ in 0..10_000 {
            stream.write_all(b"HTTP/1.1 103 Early Hints\r\nX-A: 1\r\n\r\n")?;
        }
        Ok(true)
    });
    let plane = Plane::start(vec![rule("", "/", &[backend.address])]);
    let got = raw(&plane);
    assert!(got.matches("103 Early Hints").count() <= 32 && got.contains("HTTP/1.1 502 "), "{got}");
}

/// A backend that reads the head and answers it, and never reads the body.
fn hasty(answer: &'static str) -> SocketAddr {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = listener.local_addr().unwrap();
    std::thread::spawn(move || {
        let mut open = Vec::new();
        for mut tcp in listener.incoming().flatten() {
            let mut head = [0; 1024];
            let _ = tcp.read(&mut head);
            let _ = tcp.write_all(answer.as_bytes());
            open.push(tcp);
        }
    });
    address
}

/// Sends all of a body and only then looks for the answer, as most clients' libraries do.
fn upload(plane: &Plane, host: &str, size: usize) -> Option<u16> {
    let mut client = Client::plain(plane.http());
    let head = format!("PUT / HTTP/1.1\r\nHost: {host}\r\nContent-Length: {size}\r\n\r\n");
    client.wire.write_all(head.as_bytes()).ok()?;
    let block = vec![b'u'; 64 * 1024];
    for _ in 0..size / block.len() {
        client.wire.write_all(&block).ok()?;
    }
    client.read_response(false).map(|response| response.status)
}

#[test]
fn an_answer_during_an_upload_reaches_the_client() {
    const SIZE: usize = 320 * 64 * 1024;
    let plane = Plane::start(vec![
        rule("small", "/", &[Backend::echo().address]).policy(|policy| policy.max_body = Some(1024)),
        rule("none", "/", &[]),
        rule("hasty", "/", &[hasty("HTTP/1.1 401 Unauthorized\r\nContent-Length: 2\r\n\r\nno")]),
    ]);
    for (host, status) in [("small", 413), ("none", 503), ("other", 404), ("hasty", 401)] {
        assert_eq!(upload(&plane, host, SIZE), Some(status), "{host}");
    }
}

#[test]
fn a_refused_expectation_ends_the_connection_at_once() {
    let backend = hasty("HTTP/1.1 417 Expectation Failed\r\nContent-Length: 0\r\n\r\n");
    let plane = Plane::start(vec![rule("", "/", &[backend])]);
    let mut client = Client::plain(plane.http());
    let begun = Instant::now();
    let refused = client.ask("POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 3\r\nExpect: 100-continue\r\n\r\n");
    assert_eq!((refused.status, refused.field("connection")), (417, Some("close")));
    assert!(client.closed());
    assert!(begun.elapsed() < Duration::from_secs(2), "{:?}", begun.elapsed());
}

#[test]
fn an_authenticated_connection_is_its_clients_alone() {
    // Whoever has shown credentials on a connection is known on it from then on.
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = listener.local_addr().unwrap();
    std::thread::spawn(move || {
        for tcp in listener.incoming().flatten() {
            std::thread::spawn(move || {
                let mut tcp = tcp;
                let mut known = false;
                let mut head = [0; 2048];
                while let Ok(read @ 1..) = tcp.read(&mut head) {
                    let text = String::from_utf8_lossy(&head[..read]).to_lowercase();
                    known |= text.contains("authorization: ntlm type3");
                    let answer = if known {
                        "HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\nalice"
                    } else {
                        "HTTP/1.1 401 Unauthorized\r\nWWW-Authenticate: NTLM\r\nContent-Length: 0\r\n\r\n"
                    };
                    let _ = tcp.write_all(answer.as_bytes());
                }
            });
        }
    });
    let plane = Plane::start(vec![rule("", "/", &[address])]);
    for _ in 0..5 {
        let (mut alice, mut bob) = (Client::plain(plane.http()), Client::plain(plane.http()));
        assert_eq!(alice.get("a", "/").status, 401);
        let shown = alice.ask("GET / HTTP/1.1\r\nHost: a\r\nAuthorization: NTLM type3\r\n\r\n");
        assert_eq!(shown.text(), "alice");
        assert_eq!(alice.get("a", "/").text(), "alice", "the connection stays hers");
        assert_eq!(bob.get("a", "/").status, 401, "and nobody else gets it");
    }
}

#[test]
fn a_client_that_leaves_a_stuck_backend_is_noticed() {
    let deaf = TcpListener::bind("127.0.0.1:0").unwrap();
    let plane = Plane::start(vec![rule("", "/", &[deaf.local_addr().unwrap()])]);
    let mut client = Client::plain(plane.http());
    client.send("POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 1000000000\r\n\r\n");
    client.wire.tcp().set_write_timeout(Some(Duration::from_millis(300))).unwrap();
    let block = vec![0; 1024 * 1024];
    while client.wire.write_all(&block).is_ok() {}
    // As the kernel does it for a program that ends with something unread.
    socket2::SockRef::from(client.wire.tcp()).set_linger(Some(Duration::ZERO)).unwrap();
    drop(client);
    assert_eq!(plane.exchange(0).status, 499);
    wait_for(|| (plane.data.connections() == 0).then_some(()));
}

#[test]
fn clients_that_take_nothing_are_all_given_up_in_time() {
    const COUNT: usize = 100;
    let backend = Backend::echo();
    let limit = Duration::from_millis(500);
    let table = table(vec![rule("", "/", &[backend.address])], CertificateTable::default());
    let plane = Plane::with(table, |config| config.limits.client_timeout = limit);
    let clients: Vec<Client> = (0..COUNT)
        .map(|_| {
            let mut client = Client::plain(plane.http());
            client.send("GET /download/100000000 HTTP/1.1\r\nHost: a\r\n\r\n");
            client
        })
        .collect();
    for index in 0..COUNT {
        assert!(plane.exchange(index).error.is_some());
    }
    wait_for(|| (plane.data.connections() == 0).then_some(()));
    drop(clients);
}

/// An HTTP/2 backend: interim responses, then an echo in the body, then trailers that say what trailed the request.
async fn http2_backend() -> SocketAddr {
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    tokio::spawn(async move {
        while let Ok((tcp, _)) = listener.accept().await {
            tokio::spawn(async move {
                let mut connection = h2::server::handshake(tcp).await.unwrap();
                while let Some(Ok((request, respond))) = connection.accept().await {
                    tokio::spawn(one_stream(request, respond));
                }
            });
        }
    });
    address
}

async fn one_stream(request: Request<h2::RecvStream>, mut respond: h2::server::SendResponse<Bytes>) {
    let (parts, mut body) = request.into_parts();
    if parts.headers.contains_key("expect") {
        respond.send_informational(Response::builder().status(100).body(()).unwrap()).unwrap();
    }
    let hints = Response::builder().status(103).header("link", "</a.css>").body(()).unwrap();
    respond.send_informational(hints).unwrap();
    let mut bytes = Vec::new();
    while let Some(Ok(data)) = body.data().await {
        body.flow_control().release_capacity(data.len()).unwrap();
        bytes.extend(data);
    }
    let trailed = body.trailers().await.unwrap().unwrap_or_default();
    let mut send = respond.send_response(Response::new(()), false).unwrap();
    send.send_data(bytes.into(), false).unwrap();
    let mut trailers = HeaderMap::new();
    let sum = trailed.get("x-sum").cloned().unwrap_or(HeaderValue::from_static("none"));
    trailers.insert("x-came", sum);
    send.send_trailers(trailers).unwrap();
}

/// The same over HTTP/1.1.
fn http1_backend() -> SocketAddr {
    let backend = Backend::start(|request, stream| {
        stream.write_all(b"HTTP/1.1 103 Early Hints\r\nLink: </a.css>\r\n\r\n")?;
        let came = request.trailers.iter().find(|(name, _)| name.eq_ignore_ascii_case("x-sum"));
        let came = came.map_or("none", |(_, value)| value);
        let body = String::from_utf8_lossy(&request.body).into_owned();
        write!(
            stream,
            "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\nTrailer: X-Came\r\n\r\n{:x}\r\n{body}\r\n0\r\nX-Came: {came}\r\n\r\n",
            body.len()
        )?;
        Ok(true)
    });
    backend.address
}

/// Statuses of the interim responses, the body, and the trailer field of an HTTP/1.1 client.
fn ask_http1(plane: &Plane) -> (Vec<u16>, String) {
    let mut client = Client::plain(plane.http());
    client.send(
        "POST / HTTP/1.1\r\nHost: a.example\r\nTransfer-Encoding: chunked\r\nExpect: 100-continue\r\nTrailer: X-Sum\r\n\r\n",
    );
    let mut interim = Vec::new();
    while !interim.contains(&100) {
        interim.push(client.read_response(true).unwrap().status);
    }
    client.send("5\r\nhello\r\n0\r\nX-Sum: 7\r\n\r\n");
    loop {
        let response = client.read_response(true).unwrap();
        if response.status == 200 {
            break;
        }
        interim.push(response.status);
    }
    let mut rest = String::from_utf8(client.ahead()).unwrap();
    let mut buffer = [0; 1024];
    while !rest.ends_with("\r\n\r\n") {
        let read = client.wire.read(&mut buffer).unwrap();
        rest.push_str(&String::from_utf8_lossy(&buffer[..read]));
    }
    (interim, rest.to_lowercase())
}

async fn client(plane: &Plane) -> SendRequest<Bytes> {
    let tcp = tokio::net::TcpStream::connect(plane.http()).await.unwrap();
    let (send, connection) = h2::client::handshake(tcp).await.unwrap();
    tokio::spawn(connection);
    send.ready().await.unwrap()
}

/// The same of an HTTP/2 client.
async fn ask_http2(plane: &Plane) -> (Vec<u16>, String, HeaderMap) {
    let mut send = client(plane).await;
    let request = Request::post("http://a.example/").header("expect", "100-continue").header("trailer", "x-sum");
    let (mut response, mut body) = send.send_request(request.body(()).unwrap(), false).unwrap();
    let mut interim = Vec::new();
    while !interim.contains(&100) {
        let next = std::future::poll_fn(|cx| response.poll_informational(cx));
        let next = tokio::time::timeout(Duration::from_secs(5), next).await.unwrap();
        interim.push(next.unwrap().unwrap().status().as_u16());
    }
    body.send_data(Bytes::from_static(b"hello"), false).unwrap();
    let mut trailers = HeaderMap::new();
    trailers.insert("x-sum", HeaderValue::from_static("7"));
    body.send_trailers(trailers).unwrap();
    while !interim.contains(&103) {
        let next = std::future::poll_fn(|cx| response.poll_informational(cx));
        interim.push(next.await.unwrap().unwrap().status().as_u16());
    }
    let mut incoming = response.await.unwrap().into_body();
    let mut bytes = Vec::new();
    while let Some(data) = incoming.data().await {
        bytes.extend(data.unwrap());
    }
    let trailers = incoming.trailers().await.unwrap().unwrap_or_default();
    (interim, String::from_utf8(bytes).unwrap(), trailers)
}

#[tokio::test(flavor = "multi_thread")]
async fn interim_responses_and_trailers_pass_every_pair_of_protocols() {
    for protocol in [Protocol::Http, Protocol::H2c] {
        let address = if protocol == Protocol::H2c { http2_backend().await } else { http1_backend() };
        let plane = Plane::start(vec![rule("a.example", "/", &[address]).protocol(protocol)]);
        let (mut interim, body, trailers) = ask_http2(&plane).await;
        interim.sort_unstable();
        assert_eq!((interim, body.as_str()), (vec![100, 103], "hello"), "{protocol:?}");
        assert_eq!(trailers["x-came"], "7", "{protocol:?}");
        let (mut interim, rest) = tokio::task::spawn_blocking(move || ask_http1(&plane)).await.unwrap();
        interim.sort_unstable();
        assert_eq!(interim, [100, 103], "{protocol:?}");
        assert!(rest.contains("hello") && rest.contains("x-came: 7"), "{protocol:?}: {rest}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn an_answer_is_not_followed_by_a_reset() {
    let plane = Plane::start(vec![]);
    let mut send = client(&plane).await;
    for _ in 0..20 {
        send = send.ready().await.unwrap();
        let (response, mut body) =
            send.send_request(Request::post("http://a.example/").body(()).unwrap(), false).unwrap();
        let response = response.await.unwrap();
        assert_eq!(response.status(), 404);
        // The body comes behind the answer, and is taken.
        body.send_data(Bytes::from_static(b"a=b"), true).unwrap();
        let mut incoming = response.into_body();
        while let Some(data) = incoming.data().await {
            data.unwrap();
        }
        let reset = tokio::time::timeout(Duration::from_millis(20), std::future::poll_fn(|cx| body.poll_reset(cx)));
        assert!(!matches!(reset.await, Ok(Ok(_))), "the stream was reset");
    }
}

fn grpc(path: &str) -> Request<()> {
    let request = Request::post(format!("http://a.example{path}")).header("content-type", "application/grpc");
    request.header("te", "trailers").body(()).unwrap()
}

#[tokio::test(flavor = "multi_thread")]
async fn calls_get_answers_that_their_clients_understand() {
    // One that never answers, and one that begins to.
    let silent = TcpListener::bind("127.0.0.1:0").unwrap();
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let begins = listener.local_addr().unwrap();
    tokio::spawn(async move {
        let (tcp, _) = listener.accept().await.unwrap();
        let mut connection = h2::server::handshake(tcp).await.unwrap();
        let mut held = Vec::new();
        while let Some(Ok((_, mut respond))) = connection.accept().await {
            held.push(respond.send_response(Response::new(()), false).unwrap());
        }
    });
    let quick = |policy: &mut landfall_ingress_model::table::RoutePolicy| {
        policy.read_timeout = Duration::from_millis(300);
        policy.connect_timeout = Duration::from_millis(300);
    };
    let plane = Plane::start(vec![
        rule("a.example", "/none", &[]).protocol(Protocol::H2c),
        rule("a.example", "/silent", &[silent.local_addr().unwrap()]).protocol(Protocol::H2c).policy(quick),
        rule("a.example", "/begins", &[begins]).protocol(Protocol::H2c).policy(quick),
    ]);
    let mut send = client(&plane).await;
    for (path, status) in [("/none", "14"), ("/silent", "4"), ("/begins", "4"), ("/unknown", "12")] {
        send = send.ready().await.unwrap();
        let (response, mut body) = send.send_request(grpc(path), false).unwrap();
        body.send_data(Bytes::from_static(&[0; 5]), true).unwrap();
        let response = response.await.unwrap();
        assert_eq!(response.status(), 200, "{path}");
        let head = response.headers().get("grpc-status").cloned();
        let mut incoming = response.into_body();
        while let Some(data) = incoming.data().await {
            data.unwrap();
        }
        let trailers = incoming.trailers().await.unwrap().unwrap_or_default();
        let code = head.or_else(|| trailers.get("grpc-status").cloned()).unwrap();
        assert_eq!(code, status, "{path}");
    }
}

#[test]
fn a_backend_keeps_its_connection_through_all_of_it() {
    let backend = Backend::start(|request, stream| respond(stream, request.path()));
    let plane = Plane::start(vec![rule("", "/", &[backend.address])]);
    let mut client = Client::plain(plane.http());
    for number in 0..50 {
        let path = format!("/{number}");
        let request = match number % 3 {
            0 => format!("GET {path} HTTP/1.1\r\nHost: a\r\n\r\n"),
            1 => format!("POST {path} HTTP/1.1\r\nHost: a\r\nContent-Length: 3\r\n\r\nabc"),
            _ => format!("PUT {path} HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n3\r\nabc\r\n0\r\n\r\n"),
        };
        assert_eq!(client.ask(request).text(), path);
    }
    assert_eq!(backend.connections(), 1);
}
