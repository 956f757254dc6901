//! What one client can make the proxy hold, and how slow it may be.
#![allow(clippy::unwrap_used, clippy::panic, reason = "a test may panic")]

mod support;

use std::io::Write;
use std::net::TcpStream;
use std::num::NonZeroU64;
use std::sync::Arc;
use std::time::{Duration, Instant};

use bytes::Bytes;
use futures::future::{join_all, poll_fn};
use h2::client::{Builder, SendRequest};
use http::{HeaderValue, Request, StatusCode};
use landfall_ingress::listener::DataPlaneConfig;
use landfall_ingress::memory::Ledger;
use landfall_ingress_model::tls::CertificateTable;
use support::backend::Backend;
use support::client::Client;
use support::plane::{Plane, rule, table, wait_for};

/// A plane before `backend`, and its ledger.
fn plane(backend: &Backend, change: impl FnOnce(&mut DataPlaneConfig)) -> (Plane, Arc<Ledger>) {
    let ledger = Ledger::new(None);
    let plane = Plane::with(table(vec![rule("", "/", &[backend.address])], CertificateTable::default()), |config| {
        config.memory = ledger.clone();
        change(config);
    });
    (plane, ledger)
}

fn get(path: &str) -> Request<()> {
    Request::get(format!("http://a.example{path}")).body(()).unwrap()
}

async fn begin(plane: &Plane, builder: &Builder) -> (SendRequest<Bytes>, impl Future<Output = ()> + Unpin + use<>) {
    let tcp = tokio::net::TcpStream::connect(plane.http()).await.unwrap();
    let (send, connection) = builder.handshake::<_, Bytes>(tcp).await.unwrap();
    (send, Box::pin(async move { drop(connection.await) }))
}

/// Lets a connection run for as long as the condition does not hold.
async fn drive(connection: &mut (impl Future<Output = ()> + Unpin), mut until: impl FnMut() -> bool) {
    let end = Instant::now() + Duration::from_secs(20);
    while !until() {
        assert!(Instant::now() < end, "what was awaited did not come");
        let _ = tokio::time::timeout(Duration::from_millis(10), &mut *connection).await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn what_a_connection_does_not_take_is_not_read_from_backends() {
    const STREAMS: usize = 20;
    const SIZE: usize = 4 * 1024 * 1024;
    let backend = Backend::echo();
    let (plane, ledger) = plane(&backend, |_| {});
    let mut builder = Builder::new();
    builder.initial_window_size(i32::MAX.unsigned_abs()).initial_connection_window_size(i32::MAX.unsigned_abs());
    let (send, mut connection) = begin(&plane, &builder).await;
    let mut responses = Vec::new();
    for _ in 0..STREAMS {
        responses.push(send.clone().send_request(get(&format!("/download/{SIZE}")), true).unwrap().0);
    }
    drive(&mut connection, || backend.requests() == STREAMS).await;
    // Nobody reads the socket now.
    std::thread::sleep(Duration::from_millis(500));
    let held = ledger.amounts();
    assert_eq!(held.exchanges, i64::try_from(STREAMS).unwrap());
    // The queue of the connection, the piece that filled it, and what came with each head.
    let most = 128 * 1024 + 32 * 1024 + STREAMS * 4096;
    assert!(held.bodies > 64 * 1024 && held.bodies <= i64::try_from(most).unwrap(), "{held:?}");
    // Whoever reads again gets everything.
    tokio::spawn(connection);
    let bodies = join_all(responses.into_iter().map(async |response| {
        let mut body = response.await.unwrap().into_body();
        let mut size = 0;
        while let Some(data) = body.data().await {
            let data = data.unwrap();
            size += data.len();
            body.flow_control().release_capacity(data.len()).unwrap();
        }
        size
    }));
    let sizes = tokio::time::timeout(Duration::from_mins(1), bodies).await.unwrap();
    assert_eq!(sizes, [SIZE; STREAMS]);
    drop(send);
    wait_for(|| (ledger.amounts().bytes() == 0).then_some(()));
}

#[test]
fn a_slow_reader_of_http1_holds_less_than_a_piece() {
    let backend = Backend::echo();
    let (plane, ledger) = plane(&backend, |_| {});
    let mut clients: Vec<TcpStream> = (0..20).map(|_| TcpStream::connect(plane.http()).unwrap()).collect();
    for client in &mut clients {
        client.write_all(b"GET /download/100000000 HTTP/1.1\r\nHost: a\r\n\r\n").unwrap();
    }
    // The kernel takes what it takes, and then nothing moves.
    let mut last = -1;
    let held = wait_for(|| {
        std::thread::sleep(Duration::from_millis(200));
        let now = ledger.amounts();
        let still = now.exchanges == 20 && now.bodies == last;
        last = now.bodies;
        still.then_some(now)
    });
    assert!(held.bodies <= 20 * 33 * 1024, "{held:?}");
    drop(clients);
    wait_for(|| (ledger.amounts().exchanges == 0 && ledger.amounts().bytes() == 0).then_some(()));
}

#[tokio::test(flavor = "multi_thread")]
async fn large_heads_wait_for_one_another_and_are_refused_in_the_end() {
    const STREAMS: usize = 60;
    let backend = Backend::echo();
    let (plane, ledger) = plane(&backend, |_| {});
    let (send, connection) = begin(&plane, &Builder::new()).await;
    tokio::spawn(connection);
    let mut request = get("/sleep/60000");
    let value = HeaderValue::from_str(&"x".repeat(20_000)).unwrap();
    request.headers_mut().insert("x-large", value);
    let mut responses = Vec::new();
    for _ in 0..STREAMS {
        let mut send = send.clone().ready().await.unwrap();
        responses.push(send.send_request(request.clone(), true).unwrap().0);
    }
    wait_for(|| (backend.requests() >= 25).then_some(()));
    let ended = tokio::time::timeout(Duration::from_secs(15), async {
        let mut refused = 0;
        let mut responses = responses;
        poll_fn(|cx| {
            responses.retain_mut(|response| match std::pin::Pin::new(response).poll(cx) {
                std::task::Poll::Ready(Err(error)) => {
                    assert_eq!(error.reason(), Some(h2::Reason::REFUSED_STREAM), "{error}");
                    refused += 1;
                    false
                }
                std::task::Poll::Ready(Ok(response)) => panic!("{response:?}"),
                std::task::Poll::Pending => true,
            });
            if refused + 27 >= STREAMS { std::task::Poll::Ready(()) } else { std::task::Poll::Pending }
        })
        .await;
        responses
    });
    let held = ended.await.expect("the others are refused after five seconds");
    let heads = ledger.amounts().heads;
    assert!((400_000..=600_000).contains(&heads), "{heads} bytes of heads");
    // Once they have gone, there is room again.
    drop(held);
    wait_for(|| (ledger.amounts().heads < 100_000).then_some(()));
    let response = send.clone().ready().await.unwrap().send_request(get("/"), true).unwrap().0.await.unwrap();
    assert_eq!(response.status(), StatusCode::OK);
}

#[tokio::test]
async fn cookies_of_a_byte_become_one_field() {
    let backend = Backend::start(|request, stream| {
        let cookies: Vec<&str> = request
            .fields
            .iter()
            .filter(|(name, _)| name.eq_ignore_ascii_case("cookie"))
            .map(|(_, value)| &**value)
            .collect();
        support::backend::respond(stream, &cookies.join("|"))
    });
    let (plane, _) = plane(&backend, |_| {});
    let (send, connection) = begin(&plane, &Builder::new()).await;
    tokio::spawn(connection);
    let mut request = get("/");
    for crumb in ["a=1", "b=2", "c=3"] {
        request.headers_mut().append("cookie", HeaderValue::from_static(crumb));
    }
    let response = send.clone().ready().await.unwrap().send_request(request, true).unwrap().0.await.unwrap();
    let body = response.into_body().data().await.unwrap().unwrap();
    assert_eq!(body, "a=1; b=2; c=3");
}

/// A client may pause for a second, and has to move a thousand bytes in each.
fn hurry(config: &mut DataPlaneConfig) {
    config.limits.client_timeout = Duration::from_secs(1);
    config.limits.body_timeout = Duration::from_secs(1);
    config.limits.min_rate = NonZeroU64::new(1000);
}

#[test]
fn a_body_that_trickles_is_given_up() {
    let backend = Backend::echo();
    let (plane, _) = plane(&backend, hurry);
    let upload = |bytes: &'static [u8], pieces: usize| {
        let mut client = Client::plain(plane.http());
        let length = bytes.len() * pieces;
        client.send(format!("POST /up HTTP/1.1\r\nHost: a\r\nContent-Length: {length}\r\n\r\n"));
        let begun = Instant::now();
        for _ in 0..pieces {
            // Whoever was given up can't send any more.
            client.send(bytes);
            std::thread::sleep(Duration::from_millis(50));
            if begun.elapsed() > Duration::from_secs(3) {
                break;
            }
        }
        client.response()
    };
    let slow = upload(b"x", 60);
    assert_eq!(slow.status, 408, "{}", slow.text());
    assert!(slow.text().contains("slower than it has to"), "{}", slow.text());
    assert_eq!(upload(&[b'x'; 200], 40).status, 200);
}

#[tokio::test(flavor = "multi_thread")]
async fn who_reads_a_byte_now_and_then_is_given_up() {
    let backend = Backend::echo();
    let (plane, ledger) = plane(&backend, hurry);
    let mut builder = Builder::new();
    builder.initial_window_size(1000);
    let (mut send, connection) = begin(&plane, &builder).await;
    tokio::spawn(connection);
    let mut body = send.send_request(get("/download/1000000"), true).unwrap().0.await.unwrap().into_body();
    let begun = Instant::now();
    let failed = loop {
        match body.data().await.unwrap() {
            Ok(data) => {
                assert!(begun.elapsed() < Duration::from_secs(8), "it was never given up");
                tokio::time::sleep(Duration::from_millis(200)).await;
                body.flow_control().release_capacity(data.len().min(40)).unwrap();
            }
            Err(error) => break error,
        }
    };
    assert!(failed.is_reset(), "{failed}");
    wait_for(|| (ledger.amounts().exchanges == 0).then_some(()));
    let error = plane.exchange(0).error.unwrap();
    assert!(error.contains("slower than it has to"), "{error}");
}

#[test]
fn a_stream_of_events_may_be_as_quiet_as_it_likes() {
    let backend = Backend::start(|_, stream| {
        stream.write_all(b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n")?;
        for _ in 0..12 {
            std::thread::sleep(Duration::from_millis(300));
            stream.write_all(b"1\r\n.\r\n")?;
        }
        stream.write_all(b"0\r\n\r\n")?;
        Ok(true)
    });
    let (plane, _) = plane(&backend, hurry);
    let answer = Client::plain(plane.http()).get("a", "/events");
    assert_eq!((answer.status, answer.body.len()), (200, 12));
}
