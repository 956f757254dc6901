//! Clients that take their time.

use std::time::Duration;

use anyhow::{Context, Result};
use socket2::{Domain, Socket, Type};
use tokio::io::AsyncWriteExt;
use tokio::net::TcpStream;

use crate::scene::{Budget, HOST, Scene};

/// Slow clients at a time.
const CLIENTS: usize = 2_000;
/// How long they are watched.
const WATCHED: Duration = Duration::from_secs(5);

/// A connection whose other end can send a few KB only.
fn narrow(scene: &Scene) -> Result<TcpStream> {
    let socket = Socket::new(Domain::IPV4, Type::STREAM, None)?;
    socket.set_recv_buffer_size(4096)?;
    socket.connect(&scene.ingress.http.into())?;
    socket.set_nonblocking(true)?;
    Ok(TcpStream::from_std(socket.into())?)
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn answers_that_nobody_reads_over_http1() -> Result<()> {
    let scene = Scene::start("2,000 clients that read nothing of 10 MB over HTTP/1.1").await?;
    let mut clients = Vec::with_capacity(CLIENTS);
    for _ in 0..CLIENTS {
        let mut client = narrow(&scene).context("a client is turned away")?;
        client.write_all(format!("GET /bytes/10000000 HTTP/1.1\r\nHost: {HOST}\r\n\r\n").as_bytes()).await?;
        clients.push(client);
    }
    tokio::time::sleep(WATCHED).await;
    // 64 KB for each.
    scene.end(clients, &Budget::megabytes(128)).await
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn heads_that_never_end() -> Result<()> {
    let scene = Scene::start("2,000 heads of 29 KB that never end").await?;
    let head = format!("GET / HTTP/1.1\r\nHost: {HOST}\r\nX-Long: {}", "x".repeat(29_000));
    let mut clients = Vec::with_capacity(CLIENTS);
    for _ in 0..CLIENTS {
        let mut client = TcpStream::connect(scene.ingress.http).await?;
        client.write_all(head.as_bytes()).await?;
        clients.push(client);
    }
    tokio::time::sleep(WATCHED).await;
    // Two bytes for each that is sent.
    scene.end(clients, &Budget::megabytes(116)).await
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn bodies_that_trickle() -> Result<()> {
    let scene = Scene::start("2,000 bodies of one byte a second").await?;
    let mut clients = Vec::with_capacity(CLIENTS);
    for _ in 0..CLIENTS {
        let mut client = TcpStream::connect(scene.ingress.http).await?;
        let head = format!("POST /upload HTTP/1.1\r\nHost: {HOST}\r\nContent-Length: 1000000\r\n\r\n");
        client.write_all(head.as_bytes()).await?;
        clients.push(client);
    }
    for _ in 0..WATCHED.as_secs() {
        for client in &mut clients {
            client.write_all(b"x").await?;
        }
        tokio::time::sleep(Duration::from_secs(1)).await;
    }
    scene.end(clients, &Budget::megabytes(128)).await
}
