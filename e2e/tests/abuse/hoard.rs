//! HTTP/2 clients that make others hold something for them.

use std::time::Duration;

use anyhow::{Context, Result};
use bytes::Bytes;
use futures::future::{join_all, poll_fn};
use h2::client::{Builder, Connection, ResponseFuture, SendRequest};
use http::{HeaderValue, Request};
use tokio::net::TcpStream;
use tokio::time::timeout;

use crate::scene::{Budget, HOST, Scene};

/// Streams on one connection: what the ingress allows.
const STREAMS: usize = 100;
/// How long each connection is served by its client, and how long the ingress is watched then.
const BEGIN: Duration = Duration::from_millis(500);
const WATCHED: Duration = Duration::from_secs(5);

/// A connection that nobody drives any more, with what is needed for its streams to stay.
struct Hoarder {
    _connection: Connection<TcpStream, Bytes>,
    _send: SendRequest<Bytes>,
    _responses: Vec<ResponseFuture>,
}

/// A connection with `STREAMS` requests, which is then left alone.
async fn hoard(scene: &Scene, builder: &Builder, request: &Request<()>) -> Result<Hoarder> {
    let (send, mut connection) = builder.handshake(TcpStream::connect(scene.ingress.http).await?).await?;
    let mut responses = Vec::new();
    let mut asking = send.clone();
    let ask = async {
        while responses.len() < STREAMS {
            poll_fn(|cx| asking.poll_ready(cx)).await?;
            responses.push(asking.send_request(request.clone(), true)?.0);
        }
        // What was asked is sent by whoever drives the connection.
        std::future::pending::<Result<()>>().await
    };
    let mut ask = Box::pin(ask);
    let both = poll_fn(|cx| {
        if let std::task::Poll::Ready(asked) = ask.as_mut().poll(cx) {
            return std::task::Poll::Ready(asked);
        }
        std::pin::Pin::new(&mut connection).poll(cx).map(|ended| Ok(ended?))
    });
    if let Ok(ended) = timeout(BEGIN, both).await {
        ended.context("the connection was given up")?;
    }
    drop(ask);
    Ok(Hoarder { _connection: connection, _send: send, _responses: responses })
}

fn get(path: &str) -> Request<()> {
    Request::get(format!("http://{HOST}{path}")).body(()).unwrap_or_default()
}

async fn hoards(scene: &Scene, count: usize, builder: &Builder, request: &Request<()>) -> Result<Vec<Hoarder>> {
    join_all((0..count).map(|_| hoard(scene, builder, request))).await.into_iter().collect()
}

/// No window at all, one byte, and all there may be, of which nothing is read.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn answers_that_nobody_reads_over_http2() -> Result<()> {
    let windows = [("no window", 0), ("a window of one byte", 1), ("a window of 2 GB", i32::MAX.unsigned_abs())];
    let names = [
        "20 connections of 100 streams that read nothing of 10 MB, no window",
        "20 connections of 100 streams that read nothing of 10 MB, one byte of window",
        "20 connections of 100 streams that read nothing of 10 MB, 2 GB of window",
    ];
    for ((what, window), name) in windows.into_iter().zip(names) {
        let scene = Scene::start(name).await?;
        let mut builder = Builder::new();
        builder.initial_window_size(window).initial_connection_window_size(window.max(65_535)).enable_push(false);
        let held = hoards(&scene, 20, &builder, &get("/bytes/10000000")).await.context(what)?;
        tokio::time::sleep(WATCHED).await;
        // At most 64 KiB in the buffer of HTTP/2 and a piece of 32 KiB for each stream.
        scene.end(held, &Budget::megabytes(197)).await?;
    }
    Ok(())
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_bomb_of_header_fields() -> Result<()> {
    let scene = Scene::start("50 connections of 100 streams with 840 cookies of one byte, no window").await?;
    let mut request = get("/");
    for _ in 0..840 {
        request.headers_mut().append("cookie", HeaderValue::from_static("a"));
    }
    let mut builder = Builder::new();
    builder.initial_window_size(0).enable_push(false);
    let held = hoards(&scene, 50, &builder, &request).await?;
    tokio::time::sleep(WATCHED).await;
    scene.end(held, &Budget::megabytes(64)).await
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn requests_at_a_silent_backend() -> Result<()> {
    let scene = Scene::start("100 connections of 100 requests at a silent backend").await?;
    let held = hoards(&scene, 100, Builder::new().enable_push(false), &get("/sleep/60000")).await?;
    tokio::time::sleep(WATCHED).await;
    scene.end(held, &Budget::megabytes(99)).await
}
