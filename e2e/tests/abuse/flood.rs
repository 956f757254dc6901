//! Frames that cost their sender nothing.

use std::time::Duration;

use anyhow::Result;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::time::timeout;

use crate::frames::{CONTINUATION, HEADERS, PING, PREFACE, PRIORITY, RST_STREAM, SETTINGS, frame, request, window};
use crate::scene::Scene;
use crate::verdict::play;

/// Bytes that a flood sends at most, unless it is ended before.
const MOST: usize = 20_000_000;
/// Connections that send them.
const CLIENTS: usize = 4;

/// Sends `piece(n)` again and again.
async fn send(scene: &Scene, piece: fn(u32) -> Vec<u8>) -> Result<()> {
    let (mut read, mut write) = tokio::io::split(scene.connect_h2().await?);
    // What is answered is read, so that nobody is held up.
    let reading = tokio::spawn(async move {
        let mut space = vec![0; 64 * 1024];
        while matches!(read.read(&mut space).await, Ok(1..)) {}
    });
    write.write_all(&[PREFACE, &frame(SETTINGS, 0, 0, &[])].concat()).await?;
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
    Ok(())
}

async fn flood(name: &str, piece: fn(u32) -> Vec<u8>) -> Result<()> {
    play(name, &[], async |scene| {
        for sent in futures::future::join_all((0..CLIENTS).map(|_| send(scene, piece))).await {
            sent?;
        }
        Ok(())
    })
    .await
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn frames_that_do_nothing() -> Result<()> {
    flood("flood of PING", |_| frame(PING, 0, 0, &[7; 8])).await?;
    flood("flood of SETTINGS", |number| window(number % 2)).await?;
    flood("flood of PRIORITY", |_| frame(PRIORITY, 0, 1, &[0, 0, 0, 0, 1])).await?;
    flood("flood of unknown frames", |_| frame(0xb, 0, 0, &[])).await
}

/// A stream is opened and reset at once, which costs a server more than its client (CVE-2023-44487).
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn streams_that_are_reset_at_once() -> Result<()> {
    flood("rapid reset", |number| {
        let stream = 2 * number + 1;
        [frame(HEADERS, 5, stream, &request()), frame(RST_STREAM, 0, stream, &[0, 0, 0, 8])].concat()
    })
    .await
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn header_blocks_without_an_end() -> Result<()> {
    flood("flood of CONTINUATION", |number| {
        if number == 0 { frame(HEADERS, 1, 1, &request()) } else { frame(CONTINUATION, 0, 1, &[0, 1, b'a', 1, b'b']) }
    })
    .await
}
