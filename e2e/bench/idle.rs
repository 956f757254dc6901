//! What idle TLS connections cost.

use std::time::Duration;

use anyhow::{Context, Result, ensure};
use landfall_e2e::tls::Trust;
use tokio::io::{AsyncReadExt, AsyncWriteExt};

use crate::proxy::{HOST, Proxy};

/// Longer than any proxy needs to put away what the last request took.
const SETTLE: Duration = Duration::from_secs(1);

/// Opens `count` TLS connections, asks once on each, and returns the proxy's memory while all of them are idle.
pub(crate) async fn hold(proxy: &Proxy, trust: &Trust, count: usize) -> Result<u64> {
    let mut connections = Vec::with_capacity(count);
    for number in 0..count {
        let connection = open(proxy, trust).await.with_context(|| format!("connection {number}; see `ulimit -n`"))?;
        connections.push(connection);
    }
    tokio::time::sleep(SETTLE).await;
    let memory = proxy.memory()?;
    // One that had been closed behind our back would make the figure too good.
    for connection in &mut connections {
        ensure!(!closed(connection).await, "an idle connection was closed");
    }
    Ok(memory)
}

type Connection = tokio_rustls::client::TlsStream<tokio::net::TcpStream>;

async fn open(proxy: &Proxy, trust: &Trust) -> Result<Connection> {
    let mut stream = trust.connect(proxy.https, HOST, &["http/1.1"]).await?;
    stream.write_all(format!("GET / HTTP/1.1\r\nHost: {HOST}\r\n\r\n").as_bytes()).await?;
    let mut answer = Vec::new();
    let mut buffer = [0; 2048];
    loop {
        let read = stream.read(&mut buffer).await?;
        ensure!(read > 0, "closed before the answer");
        answer.extend_from_slice(&buffer[..read]);
        let head = answer.windows(4).position(|bytes| bytes == b"\r\n\r\n");
        // The backend's body is 1 KiB.
        if head.is_some_and(|end| answer.len() >= end + 4 + 1024) {
            ensure!(answer.starts_with(b"HTTP/1.1 200"), "{}", String::from_utf8_lossy(&answer));
            return Ok(stream);
        }
    }
}

async fn closed(connection: &mut Connection) -> bool {
    let mut byte = [0];
    // Nothing is to come, so waiting no time at all shows whether the end has.
    matches!(tokio::time::timeout(Duration::ZERO, connection.read(&mut byte)).await, Ok(Ok(0) | Err(_)))
}
