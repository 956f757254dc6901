//! Frames that cost their sender nothing.

use std::time::Duration;

use anyhow::Result;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::time::timeout;

use crate::scene::{Budget, HOST, Scene};

/// Bytes that a flood sends at most, unless it is ended before.
const MOST: usize = 20_000_000;
/// Connections that send them.
const CLIENTS: usize = 4;

/// Length, type, flags, stream (RFC 9113 section 4.1) and payload.
fn frame(kind: u8, flags: u8, stream: u32, payload: &[u8]) -> Vec<u8> {
    let length = u32::try_from(payload.len()).unwrap_or_default().to_be_bytes();
    let mut bytes = vec![length[1], length[2], length[3], kind, flags];
    bytes.extend_from_slice(&stream.to_be_bytes());
    bytes.extend_from_slice(payload);
    bytes
}

/// A GET of `/` at [`HOST`], without Huffman coding or a table (RFC 7541 section 6).
fn request() -> Vec<u8> {
    let mut block = vec![0x82, 0x84, 0x86, 0x01, u8::try_from(HOST.len()).unwrap_or_default()];
    block.extend_from_slice(HOST.as_bytes());
    block
}

/// Sends `piece(n)` again and again; returns how many bytes were taken.
async fn send(scene: &Scene, piece: fn(u32) -> Vec<u8>) -> Result<usize> {
    let (mut read, mut write) = TcpStream::connect(scene.ingress.http).await?.into_split();
    // What is answered is read, so that nobody is held up.
    let reading = tokio::spawn(async move {
        let mut space = vec![0; 64 * 1024];
        while matches!(read.read(&mut space).await, Ok(1..)) {}
    });
    write.write_all(&[&b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n"[..], &frame(4, 0, 0, &[])].concat()).await?;
    let (mut sent, mut number) = (0, 0);
    while sent < MOST && !reading.is_finished() {
        let bytes: Vec<u8> = (0..500).flat_map(|next| piece(number + next)).collect();
        number += 500;
        match timeout(Duration::from_secs(5), write.write_all(&bytes)).await {
            Ok(Ok(())) => sent += bytes.len(),
            // It was ended, or is not read any more.
            _ => break,
        }
    }
    reading.abort();
    Ok(sent)
}

async fn flood(name: &'static str, piece: fn(u32) -> Vec<u8>) -> Result<()> {
    let scene = Scene::start(name).await?;
    let mut sent = 0;
    for flood in futures::future::join_all((0..CLIENTS).map(|_| send(&scene, piece))).await {
        sent += flood?;
    }
    landfall_e2e::figures::print(&format!("{name}: {sent} bytes were taken"));
    scene.end((), &Budget::megabytes(64)).await
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn frames_that_do_nothing() -> Result<()> {
    flood("a flood of PING", |_| frame(6, 0, 0, &[7; 8])).await?;
    flood("a flood of SETTINGS", |number| {
        let window = [0, 4, 0, 0, 0, u8::try_from(number % 2).unwrap_or_default()];
        frame(4, 0, 0, &window)
    })
    .await?;
    flood("a flood of PRIORITY", |_| frame(2, 0, 1, &[0, 0, 0, 0, 1])).await?;
    flood("a flood of unknown frames", |_| frame(0xb, 0, 0, &[])).await
}

/// A stream is opened and reset at once, which costs a server more than its client (CVE-2023-44487).
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn streams_that_are_reset_at_once() -> Result<()> {
    flood("a rapid reset", |number| {
        let stream = 2 * number + 1;
        [frame(1, 5, stream, &request()), frame(3, 0, stream, &[0, 0, 0, 8])].concat()
    })
    .await
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn header_blocks_without_an_end() -> Result<()> {
    flood("a flood of CONTINUATION", |number| {
        if number == 0 { frame(1, 1, 1, &request()) } else { frame(9, 0, 1, &[0, 1, b'a', 1, b'b']) }
    })
    .await
}
