//! A small HTTP server.

use std::net::SocketAddr;

use serde_json::Value;
use tokio::io::{AsyncBufReadExt, AsyncReadExt, AsyncWriteExt, BufReader};
use tokio::net::{TcpListener, TcpStream};

use super::stand_ins::StandIn;

/// A request.
pub(super) struct Asked {
    pub(super) method: String,
    /// With its query.
    pub(super) path: String,
    pub(super) headers: Vec<(String, String)>,
    pub(super) body: Value,
}

impl Asked {
    pub(super) fn header(&self, name: &str) -> &str {
        self.headers.iter().find(|(known, _)| known == name).map_or("", |(_, value)| value)
    }

    pub(super) fn query(&self, name: &str) -> Option<&str> {
        let (_, query) = self.path.split_once('?')?;
        query.split('&').find_map(|pair| pair.strip_prefix(name)?.strip_prefix('='))
    }
}

/// A server; it ends with the test.
pub(super) struct Server(SocketAddr);

impl Server {
    pub(super) async fn start(stand_in: StandIn) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        tokio::spawn(async move {
            while let Ok((stream, _)) = listener.accept().await {
                answer(stream, &stand_in).await;
            }
        });
        Self(address)
    }

    pub(super) fn url(&self) -> String {
        format!("http://{}", self.0)
    }
}

async fn answer(stream: TcpStream, stand_in: &StandIn) {
    let mut stream = BufReader::new(stream);
    let mut lines = Vec::new();
    loop {
        let mut line = String::new();
        stream.read_line(&mut line).await.unwrap();
        if line.trim().is_empty() {
            break;
        }
        lines.push(line.trim().to_owned());
    }
    let Some(first) = lines.first().cloned() else { return };
    let mut words = first.split(' ').map(str::to_owned);
    let headers: Vec<(String, String)> = lines[1..]
        .iter()
        .filter_map(|line| line.split_once(": "))
        .map(|(name, value)| (name.to_ascii_lowercase(), value.to_owned()))
        .collect();
    let mut asked =
        Asked { method: words.next().unwrap(), path: words.next().unwrap(), headers, body: Value::default() };
    let mut body = vec![0; asked.header("content-length").parse().unwrap_or(0)];
    stream.read_exact(&mut body).await.unwrap();
    asked.body = serde_json::from_slice(&body).unwrap_or_default();
    let (status, text) = stand_in.answer(&asked);
    let head = format!("HTTP/1.1 {status} x\r\ncontent-length: {}\r\nretry-after: 1\r\n\r\n", text.len());
    stream.write_all((head + &text).as_bytes()).await.unwrap();
}
