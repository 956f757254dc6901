//! Clients for loads that h2load does not know.

use std::future::Future;
use std::time::{Duration, Instant};

use anyhow::{Result, ensure};
use futures::future::try_join_all;
use landfall_e2e::tls::{Trust, tcp};
use landfall_e2e::ws::Socket;
use rustls::HandshakeKind;
use rustls_pki_types::ServerName;
use tokio::io::{AsyncReadExt, AsyncWriteExt};

use crate::load::Load;
use crate::proxy::{HOST, Proxy};

/// Bytes of a message: what a chat or a dashboard sends.
const MESSAGE: usize = 64;

/// New connections that resume a session, with a request each; how many there were.
pub(crate) async fn resumed(proxy: &Proxy, trust: &Trust, load: &Load, length: Duration) -> Result<u64> {
    let ask = format!("GET {} HTTP/1.1\r\nHost: {HOST}\r\nConnection: close\r\n\r\n", load.path);
    let (connector, ask) = (&trust.connector(&["http/1.1"])?, ask.as_str());
    let once = async |kind: Option<HandshakeKind>| {
        let name = ServerName::try_from(HOST)?;
        let mut stream = connector.connect(name, tcp(proxy.https).await?).await?;
        stream.write_all(ask.as_bytes()).await?;
        let mut answer = Vec::new();
        stream.read_to_end(&mut answer).await?;
        ensure!(answer.starts_with(b"HTTP/1.1 200"), "{}", String::from_utf8_lossy(&answer));
        let had = stream.get_ref().1.handshake_kind();
        ensure!(kind.is_none() || had == kind, "the handshake was {had:?}");
        anyhow::Ok(())
    };
    // A session is resumed once and gives another one then, so each client has to begin one at the same time.
    try_join_all((0..load.clients).map(|_| once(None))).await?;
    all(load, length, async || once(Some(HandshakeKind::Resumed)).await).await
}

/// Messages on WebSockets, one after the other on each; how many came back.
pub(crate) async fn messages(proxy: &Proxy, load: &Load, length: Duration) -> Result<u64> {
    let url = format!("ws://{HOST}{}", load.path);
    let sockets = try_join_all((0..load.clients).map(|_| Socket::open(&url, proxy.http, None))).await?;
    let end = Instant::now() + length;
    let counts = sockets.into_iter().map(|mut socket| async move {
        let mut count = 0;
        while Instant::now() < end {
            let back = socket.echo(vec![b'x'; MESSAGE]).await?;
            ensure!(back.len() == MESSAGE, "{} bytes came back", back.len());
            count += 1;
        }
        Ok(count)
    });
    Ok(try_join_all(counts).await?.into_iter().sum())
}

/// Does something again and again, as often at once as the load has clients.
async fn all<F: Future<Output = Result<()>>>(load: &Load, length: Duration, once: impl Fn() -> F) -> Result<u64> {
    let end = Instant::now() + length;
    let once = &once;
    let counts = (0..load.clients).map(|_| async move {
        let mut count = 0;
        while Instant::now() < end {
            once().await?;
            count += 1;
        }
        anyhow::Ok(count)
    });
    Ok(try_join_all(counts).await?.into_iter().sum())
}
