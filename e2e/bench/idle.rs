//! What idle connections cost.

use std::time::Duration;

use anyhow::{Context, Result, ensure};
use landfall_e2e::tls::Trust;
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt};
use tokio::net::TcpStream;

use crate::proxy::{HOST, Proxy};

/// Longer than any proxy needs to put away what the last request took.
const SETTLE: Duration = Duration::from_secs(1);

/// A kind of connections that are held.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(crate) enum Held {
    /// HTTP/1.1 in the clear.
    Plain,
    /// HTTP/1.1 over TLS.
    Tls,
    /// HTTP/2 over TLS.
    Http2,
}

impl Held {
    pub(crate) const ALL: [Self; 3] = [Self::Plain, Self::Tls, Self::Http2];

    /// In the table.
    pub(crate) fn name(self) -> &'static str {
        match self {
            Self::Plain => "idle, plain",
            Self::Tls => "idle, TLS",
            Self::Http2 => "idle, HTTP/2",
        }
    }

    /// The most that 10,000 of them may take, in bytes.
    pub(crate) fn budget(self) -> f64 {
        match self {
            Self::Plain => 30e6,
            Self::Tls | Self::Http2 => 150e6,
        }
    }
}

trait Bytes: AsyncRead + AsyncWrite + Unpin + Send {}
impl<T: AsyncRead + AsyncWrite + Unpin + Send> Bytes for T {}

type Connection = Box<dyn Bytes>;

/// Opens `count` connections, asks once on each, and returns the proxy's memory while all of them are idle.
pub(crate) async fn hold(proxy: &Proxy, trust: &Trust, held: Held, count: usize) -> Result<u64> {
    let mut connections = Vec::with_capacity(count);
    for number in 0..count {
        let opened = match held {
            Held::Http2 => http2(proxy, trust).await,
            Held::Plain | Held::Tls => http1(proxy, trust, held).await,
        };
        connections.push(opened.with_context(|| format!("connection {number}; see `ulimit -n`"))?);
    }
    tokio::time::sleep(SETTLE).await;
    let memory = proxy.memory()?;
    // One that had been closed behind our back would make the figure too good.
    for connection in &mut connections {
        ensure!(!closed(connection).await, "an idle connection was closed");
    }
    Ok(memory)
}

async fn http1(proxy: &Proxy, trust: &Trust, held: Held) -> Result<Connection> {
    let mut stream: Connection = match held {
        Held::Plain => Box::new(TcpStream::connect(proxy.http).await?),
        Held::Tls | Held::Http2 => Box::new(trust.connect(proxy.https, HOST, &["http/1.1"]).await?),
    };
    stream.write_all(format!("GET / HTTP/1.1\r\nHost: {HOST}\r\n\r\n").as_bytes()).await?;
    let mut answer = Vec::new();
    let mut buffer = [0; 2048];
    loop {
        let read = stream.read(&mut buffer).await?;
        ensure!(read > 0, "closed before the answer");
        answer.extend_from_slice(&buffer[..read]);
        let end = answer.windows(4).position(|bytes| bytes == b"\r\n\r\n");
        // The backend's body is 1 KiB.
        if end.is_some_and(|end| answer.len() >= end + 4 + 1024) {
            ensure!(answer.starts_with(b"HTTP/1.1 200"), "{}", String::from_utf8_lossy(&answer));
            return Ok(stream);
        }
    }
}

/// The preface, an empty SETTINGS and a GET on stream 1 (RFC 9113 sections 3.4 and 6), spoken by hand so that ten
/// thousand clients fit into this process.
async fn http2(proxy: &Proxy, trust: &Trust) -> Result<Connection> {
    let mut stream = trust.connect(proxy.https, HOST, &["h2"]).await?;
    // RFC 7541: 0x82 is `:method GET`, 0x87 `:scheme https`, 0x84 `:path /`, 0x41 `:authority` with a literal value.
    let mut block = vec![0x82, 0x87, 0x84, 0x41, u8::try_from(HOST.len())?];
    block.extend_from_slice(HOST.as_bytes());
    let mut out = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n".to_vec();
    out.extend_from_slice(&[0, 0, 0, 4, 0, 0, 0, 0, 0]);
    out.extend_from_slice(&[0, 0, u8::try_from(block.len())?, 1, 0x5, 0, 0, 0, 1]);
    out.extend_from_slice(&block);
    stream.write_all(&out).await?;
    let mut frame = [0; 9];
    loop {
        stream.read_exact(&mut frame).await.context("closed before the answer")?;
        let length = u32::from_be_bytes([0, frame[0], frame[1], frame[2]]) as usize;
        let mut payload = vec![0; length];
        stream.read_exact(&mut payload).await?;
        let (kind, flags, number) = (frame[3], frame[4], frame[8]);
        if kind == 4 && flags == 0 {
            stream.write_all(&[0, 0, 0, 4, 1, 0, 0, 0, 0]).await?;
        }
        ensure!(kind != 3 && kind != 7, "the stream or the connection was ended: {payload:?}");
        // DATA or HEADERS with END_STREAM.
        if number == 1 && kind <= 1 && flags & 1 == 1 {
            return Ok(Box::new(stream));
        }
    }
}

async fn closed(connection: &mut Connection) -> bool {
    let mut bytes = [0; 1024];
    // Nothing but frames of the connection itself is to come, so waiting no time at all shows whether the end has.
    matches!(tokio::time::timeout(Duration::ZERO, connection.read(&mut bytes)).await, Ok(Ok(0) | Err(_)))
}
