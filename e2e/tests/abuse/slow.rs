//! Clients that take their time.

use std::time::Duration;

use anyhow::Result;
use tokio::io::AsyncWriteExt;

use crate::scene::{Counted, HOST, Scene};
use crate::target::Kind;
use crate::verdict::play;

/// Slow clients at a time.
const CLIENTS: usize = 2_000;
/// How long they are watched.
const WATCHED: Duration = Duration::from_secs(5);

/// Sends `head` on as many connections as there are clients.
async fn send(scene: &Scene, head: &str) -> Result<Vec<Counted>> {
    let mut clients = Vec::with_capacity(CLIENTS);
    for _ in 0..CLIENTS {
        let mut client = scene.connect().await?;
        client.write_all(head.as_bytes()).await?;
        clients.push(client);
    }
    Ok(clients)
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn answers_that_nobody_reads_over_http1() -> Result<()> {
    play("2,000 clients that read nothing of 10 MB", &[], async |scene| {
        let mut clients = Vec::with_capacity(CLIENTS);
        for _ in 0..CLIENTS {
            let mut client = scene.connect_narrow()?;
            client.write_all(format!("GET /bytes/10000000 HTTP/1.1\r\nHost: {HOST}\r\n\r\n").as_bytes()).await?;
            clients.push(client);
        }
        tokio::time::sleep(WATCHED).await;
        Ok(clients)
    })
    .await
}

/// Of 28 KB in lines that nginx takes, which is too much for HAProxy's buffer; and of one such line.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn heads_that_never_end() -> Result<()> {
    for (name, lines, refused) in [
        ("2,000 heads of 28 KB that never end", 4, &[Kind::Haproxy][..]),
        ("2,000 heads of 7 KB that never end", 1, &[]),
    ] {
        let line = format!("\r\nX-Long: {}", "x".repeat(7_000));
        let head = format!("GET / HTTP/1.1\r\nHost: {HOST}{}", line.repeat(lines));
        play(name, refused, async |scene| {
            let clients = send(scene, &head).await?;
            tokio::time::sleep(WATCHED).await;
            Ok(clients)
        })
        .await?;
    }
    Ok(())
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn bodies_that_trickle() -> Result<()> {
    let head = format!("POST /upload HTTP/1.1\r\nHost: {HOST}\r\nContent-Length: 1000000\r\n\r\n");
    play("2,000 bodies of one byte a second", &[], async |scene| {
        let mut clients = send(scene, &head).await?;
        for _ in 0..WATCHED.as_secs() {
            for client in &mut clients {
                client.write_all(b"x").await?;
            }
            tokio::time::sleep(Duration::from_secs(1)).await;
        }
        Ok(clients)
    })
    .await
}
