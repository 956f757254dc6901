//! HTTP/2: by TLS and with prior knowledge, to HTTP/1 backends and to HTTP/2 backends, with trailers both ways.
#![allow(clippy::unwrap_used, clippy::panic, reason = "a test may panic")]

mod support;

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use futures::FutureExt;
use h2::client::SendRequest;
use http::{HeaderMap, HeaderValue, Request, Response, StatusCode, Version};
use landfall_ingress_model::backend::Protocol;
use landfall_ingress_model::tls::CertificateTable;
use rustls_pki_types::ServerName;
use support::backend::Backend;
use support::client::client_config;
use support::plane::{Plane, rule, table, wait_for};
use tokio::io::{AsyncRead, AsyncWrite, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};

trait Io: AsyncRead + AsyncWrite + Unpin + Send {}

impl<T: AsyncRead + AsyncWrite + Unpin + Send> Io for T {}

async fn connect(plane: &Plane, tls: bool) -> Box<dyn Io> {
    if !tls {
        return Box::new(TcpStream::connect(plane.http()).await.unwrap());
    }
    let tcp = TcpStream::connect(plane.https()).await.unwrap();
    let connector = tokio_rustls::TlsConnector::from(client_config(&[b"h2", b"http/1.1"]));
    let stream = connector.connect(ServerName::try_from("a.example").unwrap(), tcp).await.unwrap();
    assert_eq!(stream.get_ref().1.alpn_protocol(), Some(&b"h2"[..]));
    Box::new(stream)
}

async fn client(plane: &Plane, tls: bool) -> SendRequest<Bytes> {
    let (send, connection) = h2::client::handshake(connect(plane, tls).await).await.unwrap();
    tokio::spawn(async move {
        let _ = connection.await;
    });
    send.ready().await.unwrap()
}

fn get(path: &str) -> Request<()> {
    Request::get(format!("https://a.example{path}")).version(Version::HTTP_2).body(()).unwrap()
}

async fn ask(send: &SendRequest<Bytes>, request: Request<()>) -> (StatusCode, HeaderMap, Vec<u8>) {
    let mut send = send.clone().ready().await.unwrap();
    let (response, _) = send.send_request(request, true).unwrap();
    let response = response.await.unwrap();
    let (parts, body) = response.into_parts();
    (parts.status, parts.headers, read(body).await.0)
}

async fn read(mut body: h2::RecvStream) -> (Vec<u8>, Option<HeaderMap>) {
    let mut bytes = Vec::new();
    while let Some(chunk) = body.data().await {
        let chunk = chunk.unwrap();
        body.flow_control().release_capacity(chunk.len()).unwrap();
        bytes.extend_from_slice(&chunk);
    }
    let trailers = body.trailers().await.unwrap();
    (bytes, trailers)
}

#[tokio::test(flavor = "multi_thread")]
async fn requests_of_one_connection_reach_an_http1_backend() {
    let backend = Backend::echo();
    let plane = Plane::start(vec![rule("a.example", "/", &[backend.address])]);
    for tls in [false, true] {
        let send = client(&plane, tls).await;
        let answers = (0..20).map(|number| ask(&send, get(&format!("/sleep/{number}?q"))).boxed());
        for (number, (status, headers, body)) in futures::future::join_all(answers).await.into_iter().enumerate() {
            assert_eq!(status, 200);
            let text = String::from_utf8(body).unwrap();
            assert!(text.starts_with(&format!("GET /sleep/{number}?q HTTP/1.1\n")), "{text}");
            assert!(text.to_lowercase().contains("host: a.example\n"), "{text}");
            assert!(headers.get("connection").is_none());
        }
    }
    assert_eq!(plane.exchange(0).version, Version::HTTP_2);
}

#[tokio::test(flavor = "multi_thread")]
async fn the_preface_may_come_in_pieces() {
    let plane = Plane::start(vec![]);
    let mut tcp = TcpStream::connect(plane.http()).await.unwrap();
    tcp.set_nodelay(true).unwrap();
    let preface = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n\0\0\0\x04\0\0\0\0\0";
    for byte in preface {
        tcp.write_all(&[*byte]).await.unwrap();
        tokio::time::sleep(Duration::from_millis(1)).await;
    }
    let mut frame = [0; 9];
    tokio::io::AsyncReadExt::read_exact(&mut tcp, &mut frame).await.unwrap();
    assert_eq!(frame[3], 4, "the server's SETTINGS come");
}

#[tokio::test(flavor = "multi_thread")]
async fn the_same_rules_hold_as_for_http1() {
    let backend = Backend::echo();
    let plane = Plane::start(vec![rule("a.example", "/", &[backend.address])]);
    let send = client(&plane, true).await;
    let (status, _, body) = ask(&send, get("/a/../%2e%2e/b")).await;
    assert_eq!(status, 200);
    assert!(body.starts_with(b"GET /b HTTP/1.1\n"));
    assert_eq!(ask(&send, get("/a%00")).await.0, 400);
    assert_eq!(ask(&send, get("/..%2f")).await.0, 400);
    assert_eq!(ask(&send, get(&format!("/{}", "x".repeat(9000)))).await.0, 414);
    let mut many = get("/");
    for number in 0..101 {
        many.headers_mut().append("x", HeaderValue::from(number));
    }
    assert_eq!(ask(&send, many).await.0, 431);
    let mut other = get("/");
    other.headers_mut().insert("host", HeaderValue::from_static("b.example"));
    assert_eq!(ask(&send, other).await.0, 400);
    let (status, headers, body) = ask(&send, Request::get("https://b.example/").body(()).unwrap()).await;
    assert_eq!(status, 404);
    let id = headers.get("x-request-id").unwrap().to_str().unwrap();
    assert!(String::from_utf8(body).unwrap().contains(id));
    // The connection has outlived all of it.
    assert_eq!(ask(&send, get("/")).await.0, 200);
}

/// A backend that speaks HTTP/2 in the clear: sends each chunk back as it comes, then trailers.
async fn h2_backend() -> SocketAddr {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    tokio::spawn(async move {
        while let Ok((tcp, _)) = listener.accept().await {
            tokio::spawn(async move {
                let mut connection = h2::server::handshake(tcp).await.unwrap();
                while let Some(Ok((request, respond))) = connection.accept().await {
                    tokio::spawn(echo_stream(request, respond));
                }
            });
        }
    });
    address
}

async fn echo_stream(request: Request<h2::RecvStream>, mut respond: h2::server::SendResponse<Bytes>) {
    let (parts, mut body) = request.into_parts();
    let mut response = Response::new(());
    let te = parts.headers.get("te").cloned().unwrap_or(HeaderValue::from_static("none"));
    response.headers_mut().insert("x-te", te);
    response.headers_mut().insert("x-path", HeaderValue::from_str(&parts.uri.to_string()).unwrap());
    let mut send = respond.send_response(response, false).unwrap();
    while let Some(Ok(chunk)) = body.data().await {
        body.flow_control().release_capacity(chunk.len()).unwrap();
        send.send_data(chunk, false).unwrap();
    }
    let mut trailers = HeaderMap::new();
    trailers.insert("grpc-status", HeaderValue::from_static("0"));
    send.send_trailers(trailers).unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn streams_pass_both_ways_at_once_with_their_trailers() {
    let address = h2_backend().await;
    let plane = Plane::start(vec![rule("a.example", "/", &[address]).protocol(Protocol::H2c)]);
    for tls in [false, true] {
        let mut send = client(&plane, tls).await;
        let mut request = get("/pkg.Service/Method");
        *request.method_mut() = http::Method::POST;
        request.headers_mut().insert("te", HeaderValue::from_static("trailers"));
        request.headers_mut().insert("content-type", HeaderValue::from_static("application/grpc"));
        let (response, mut body) = send.send_request(request, false).unwrap();
        body.send_data(Bytes::from_static(b"one"), false).unwrap();
        let response = tokio::time::timeout(Duration::from_secs(5), response).await.unwrap().unwrap();
        assert_eq!(response.headers()["x-te"], "trailers");
        assert_eq!(response.headers()["x-path"], "http://a.example/pkg.Service/Method");
        let mut answer = response.into_body();
        // Each message comes back before the next is sent.
        for message in ["one", "two", "three"] {
            if message != "one" {
                body.send_data(Bytes::from_static(message.as_bytes()), false).unwrap();
            }
            let chunk = tokio::time::timeout(Duration::from_secs(5), answer.data()).await.unwrap().unwrap().unwrap();
            answer.flow_control().release_capacity(chunk.len()).unwrap();
            assert_eq!(chunk, message);
        }
        body.send_data(Bytes::new(), true).unwrap();
        let (rest, trailers) = read(answer).await;
        assert!(rest.is_empty());
        assert_eq!(trailers.unwrap()["grpc-status"], "0");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn many_streams_share_a_connection_to_an_http2_backend() {
    let address = h2_backend().await;
    let plane = Plane::start(vec![rule("a.example", "/", &[address]).protocol(Protocol::H2c)]);
    let send = client(&plane, true).await;
    let asks = (0..100).map(|_| ask(&send, get("/")));
    for (status, ..) in futures::future::join_all(asks).await {
        assert_eq!(status, 200);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn an_http1_client_reaches_an_http2_backend() {
    let address = h2_backend().await;
    let plane = Plane::start(vec![rule("a.example", "/", &[address]).protocol(Protocol::H2c)]);
    let text = tokio::task::spawn_blocking(move || {
        let mut client = support::client::Client::plain(plane.http());
        let response = client.ask("POST /x HTTP/1.1\r\nHost: a.example\r\nContent-Length: 5\r\n\r\nhello");
        assert_eq!(response.status, 200, "{}", response.head);
        response.text()
    });
    assert_eq!(text.await.unwrap(), "hello");
}

#[tokio::test(flavor = "multi_thread")]
async fn large_bodies_pass_both_ways() {
    const SIZE: usize = 16 * 1024 * 1024;
    let backend = Backend::echo();
    let plane = Plane::start(vec![rule("a.example", "/", &[backend.address])]);
    let mut send = client(&plane, true).await;
    let request = Request::post("https://a.example/up").body(()).unwrap();
    let (response, mut body) = send.send_request(request, false).unwrap();
    let mut left = SIZE;
    while left > 0 {
        body.reserve_capacity(left.min(64 * 1024));
        let capacity = std::future::poll_fn(|cx| body.poll_capacity(cx)).await.unwrap().unwrap();
        let part = capacity.min(left);
        body.send_data(Bytes::from(vec![b'u'; part]), part == left).unwrap();
        left -= part;
    }
    let (bytes, _) = read(response.await.unwrap().into_body()).await;
    assert!(String::from_utf8_lossy(&bytes).contains(&format!("body {SIZE}: ")));
    let (status, _, bytes) = ask(&send, get(&format!("/download/{SIZE}"))).await;
    assert_eq!((status, bytes.len()), (StatusCode::OK, SIZE));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_flood_of_resets_ends_the_connection() {
    let backend = Backend::echo();
    let plane = Plane::start(vec![rule("a.example", "/", &[backend.address])]);
    let (mut send, connection) = h2::client::handshake(connect(&plane, true).await).await.unwrap();
    let ended = tokio::spawn(connection);
    for _ in 0..5000 {
        let Ok(mut ready) = send.ready().await else { break };
        let Ok((_, mut stream)) = ready.send_request(get("/sleep/1000"), false) else { break };
        stream.send_reset(h2::Reason::CANCEL);
        send = ready;
    }
    let outcome = tokio::time::timeout(Duration::from_secs(10), ended).await;
    assert!(outcome.is_ok(), "the connection was given up");
    assert!(backend.requests() < 2000);
    assert_eq!(ask(&client(&plane, true).await, get("/")).await.0, 200, "others are served");
}

#[tokio::test(flavor = "multi_thread")]
async fn draining_says_goodbye_and_finishes_what_is_under_way() {
    let backend = Backend::echo();
    let plane = Plane::start(vec![rule("a.example", "/", &[backend.address])]);
    let (send, connection) = h2::client::handshake(connect(&plane, true).await).await.unwrap();
    let ended = tokio::spawn(connection);
    let under_way = tokio::spawn({
        let send = send.clone();
        async move { ask(&send, get("/sleep/500")).await.0 }
    });
    let counts = backend.clone();
    tokio::task::spawn_blocking(move || wait_for(|| (counts.requests() == 1).then_some(()))).await.unwrap();
    let Plane { data, drainer, .. } = plane;
    drainer.run(data.idle()).await;
    assert_eq!(under_way.await.unwrap(), 200);
    drop(send);
    let outcome = tokio::time::timeout(Duration::from_secs(5), ended).await.unwrap().unwrap();
    assert!(outcome.is_ok(), "{outcome:?}");
    tokio::task::spawn_blocking(|| data.stop()).await.unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn a_stream_that_nobody_reads_is_given_up() {
    let backend = Backend::echo();
    let rules = vec![rule("a.example", "/", &[backend.address])];
    let plane = Plane::with(table(rules, CertificateTable::default()), |config| {
        config.limits.client_timeout = Duration::from_millis(300);
    });
    let mut send = client(&plane, true).await;
    let (response, _) = send.send_request(get("/download/100000000"), true).unwrap();
    // The answer begins, and its window is never opened again.
    let body = response.await.unwrap().into_body();
    let exchange = tokio::task::spawn_blocking(move || plane.exchange(0)).await.unwrap();
    assert!(exchange.error.is_some());
    drop(body);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_client_without_a_preface_is_not_waited_for() {
    let plane = Plane::with(table(vec![], CertificateTable::default()), |config| {
        config.limits.head_timeout = Duration::from_millis(300);
    });
    let mut silent = connect(&plane, true).await;
    let read = tokio::time::timeout(Duration::from_secs(5), tokio::io::AsyncReadExt::read_u8(&mut silent)).await;
    assert!(read.unwrap().is_err());
}

#[tokio::test(flavor = "multi_thread")]
async fn an_idle_connection_is_closed_in_the_end() {
    let plane = Plane::with(table(vec![], CertificateTable::default()), |config| {
        config.limits.idle_timeout = Duration::from_millis(300);
    });
    let plane = Arc::new(plane);
    let (send, connection) = h2::client::handshake(connect(&plane, true).await).await.unwrap();
    let ended = tokio::spawn(connection);
    assert_eq!(ask(&send, get("/")).await.0, 404);
    tokio::time::timeout(Duration::from_secs(5), ended).await.unwrap().unwrap().ok();
}

#[tokio::test(flavor = "multi_thread")]
async fn an_upload_that_ends_in_an_empty_frame_ends_once_for_its_backend() {
    let backend = Backend::echo();
    let plane = Plane::start(vec![rule("a.example", "/", &[backend.address])]);
    let send = client(&plane, false).await;
    for round in 0..5 {
        let request = Request::post("https://a.example/up").body(()).unwrap();
        let (response, mut body) = send.clone().ready().await.unwrap().send_request(request, false).unwrap();
        body.send_data(Bytes::from_static(b"hello"), false).unwrap();
        body.send_data(Bytes::new(), true).unwrap();
        let (bytes, _) = read(response.await.unwrap().into_body()).await;
        assert!(String::from_utf8_lossy(&bytes).ends_with("body 5: hello"), "round {round}");
        // The next one on the same connection to the backend gets its own answer.
        let (status, _, bytes) = ask(&send, get(&format!("/next/{round}"))).await;
        assert_eq!(status, 200, "round {round}");
        assert!(bytes.starts_with(format!("GET /next/{round} HTTP/1.1\n").as_bytes()), "round {round}");
    }
    assert_eq!((backend.requests(), backend.connections()), (10, 1));
}
