//! HTTP/2 clients that make others hold something for them.

use std::time::Duration;

use anyhow::Result;
use bytes::Bytes;
use futures::future::{join_all, poll_fn};
use h2::client::{Builder, Connection, ResponseFuture, SendRequest};
use http::{HeaderValue, Method, Request};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::time::timeout;

use crate::frames::{HEADERS, PREFACE, frame, request, string, window};
use crate::scene::{Counted, HOST, Scene};
use crate::target::Kind;
use crate::verdict::play;

/// Streams on one connection: what the ingress allows.
const STREAMS: usize = 100;
/// How long a client may take to ask, and serves its connection then; and how long the attacked is watched after that.
const ASK: Duration = Duration::from_secs(10);
const BEGIN: Duration = Duration::from_millis(500);
const WATCHED: Duration = Duration::from_secs(5);

/// A connection that nobody drives any more, with what is needed for its streams to stay.
struct Hoarder {
    _connection: Connection<Counted, Bytes>,
    _send: SendRequest<Bytes>,
    _responses: Vec<ResponseFuture>,
    _bodies: Vec<h2::SendStream<Bytes>>,
}

/// A connection with `STREAMS` requests, which is then left alone. With a body, as much of it is sent as is taken.
async fn hoard(scene: &Scene, builder: &Builder, request: &Request<()>, body: &Bytes) -> Result<Hoarder> {
    let (send, mut connection) = builder.handshake(scene.connect_h2().await?).await?;
    let (mut responses, mut bodies) = (Vec::new(), Vec::new());
    let mut asking = send.clone();
    let ask = async {
        while responses.len() < STREAMS {
            poll_fn(|cx| asking.poll_ready(cx)).await?;
            let (response, mut stream) = asking.send_request(request.clone(), body.is_empty())?;
            responses.push(response);
            if !body.is_empty() {
                stream.send_data(body.clone(), false)?;
                bodies.push(stream);
            }
        }
        anyhow::Ok(())
    };
    let mut ask = Box::pin(ask);
    let both = poll_fn(|cx| {
        if let std::task::Poll::Ready(asked) = ask.as_mut().poll(cx) {
            return std::task::Poll::Ready(asked);
        }
        std::pin::Pin::new(&mut connection).poll(cx).map(|ended| Ok(ended?))
    });
    // Whoever ends the connection has defended itself.
    let _ = timeout(ASK, both).await;
    drop(ask);
    let _ = timeout(BEGIN, &mut connection).await;
    Ok(Hoarder { _connection: connection, _send: send, _responses: responses, _bodies: bodies })
}

fn get(path: &str) -> Request<()> {
    Request::get(format!("http://{HOST}{path}")).body(()).unwrap_or_default()
}

async fn hoards(scene: &Scene, count: usize, builder: &Builder, request: &Request<()>) -> Result<Vec<Hoarder>> {
    let none = Bytes::new();
    let held = join_all((0..count).map(|_| hoard(scene, builder, request, &none))).await.into_iter().collect();
    tokio::time::sleep(WATCHED).await;
    held
}

/// No window at all, one byte, and all there may be, of which nothing is read.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn answers_that_nobody_reads_over_http2() -> Result<()> {
    for (name, window) in [
        ("20 × 100 unread answers of 10 MB, no window", 0),
        ("20 × 100 unread answers of 10 MB, window of one byte", 1),
        ("20 × 100 unread answers of 10 MB, window of 2 GB", i32::MAX.unsigned_abs()),
    ] {
        let mut builder = Builder::new();
        builder.initial_window_size(window).initial_connection_window_size(window.max(65_535)).enable_push(false);
        play(name, &[], async |scene| hoards(scene, 20, &builder, &get("/bytes/10000000")).await).await?;
    }
    Ok(())
}

/// 840 are refused by all but nginx; 90 are served.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn cookies_in_many_fields() -> Result<()> {
    let mut builder = Builder::new();
    builder.initial_window_size(0).enable_push(false);
    for (name, cookies, path, refused) in [
        ("50 × 100 requests with 840 cookies of a byte, no window", 840, "/", &[Kind::Haproxy][..]),
        ("50 × 100 requests with 90 cookies of a byte, silent backend", 90, "/sleep/60000", &[]),
    ] {
        let mut request = get(path);
        for _ in 0..cookies {
            request.headers_mut().append("cookie", HeaderValue::from_static("a"));
        }
        play(name, refused, async |scene| hoards(scene, 50, &builder, &request).await).await?;
    }
    Ok(())
}

/// A field of 3.9 KB in the table of HPACK, named seven times by each request with a byte each.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn fields_out_of_the_table() -> Result<()> {
    let name = "50 × 100 requests of 7 × 3.9 KB by index, no window";
    // HAProxy takes no head that is larger than its buffer of 16 KB.
    play(name, &[Kind::Haproxy], async |scene| {
        let held = join_all((0..50).map(|_| index(scene))).await.into_iter().collect::<Result<Vec<_>>>();
        tokio::time::sleep(WATCHED).await;
        held
    })
    .await
}

async fn index(scene: &Scene) -> Result<Counted> {
    /// The first place in the dynamic table (RFC 7541 section 2.3.3), as an indexed field.
    const NEWEST: u8 = 0x80 | 62;
    let mut stream = scene.connect_h2().await?;
    stream.write_all(&[PREFACE, &window(0)].concat()).await?;
    for number in 0..STREAMS {
        let mut block = request();
        if number == 0 {
            block.push(0x40);
            string(b"x-a", &mut block);
            string(&[b'a'; 3900], &mut block);
        } else {
            block.push(NEWEST);
        }
        block.extend([NEWEST; 6]);
        let stream_number = u32::try_from(2 * number + 1)?;
        if stream.write_all(&frame(HEADERS, 5, stream_number, &block)).await.is_err() {
            break;
        }
    }
    // Settings and answers are taken, so that nobody waits for the socket.
    let mut space = vec![0; 64 * 1024];
    while let Ok(Ok(1..)) = timeout(BEGIN, stream.read(&mut space)).await {}
    Ok(stream)
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn requests_at_a_silent_backend() -> Result<()> {
    let mut builder = Builder::new();
    builder.enable_push(false);
    let name = "100 × 100 requests at a silent backend";
    play(name, &[], async |scene| hoards(scene, 100, &builder, &get("/sleep/60000")).await).await
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn uploads_that_no_backend_reads() -> Result<()> {
    let mut builder = Builder::new();
    builder.enable_push(false).max_send_buffer_size(1 << 20);
    let mut request = get("/sleep/60000");
    *request.method_mut() = Method::POST;
    let body = Bytes::from(vec![b'x'; 1 << 20]);
    play("50 × 100 uploads that no backend reads", &[], async |scene| {
        let held = join_all((0..50).map(|_| hoard(scene, &builder, &request, &body))).await;
        tokio::time::sleep(WATCHED).await;
        held.into_iter().collect::<Result<Vec<_>>>()
    })
    .await
}
