//! A WebSocket client.

use std::net::SocketAddr;

use anyhow::{Context, Result, anyhow};
use futures::{SinkExt, StreamExt};
use tokio::io::{AsyncRead, AsyncWrite};
use tokio_tungstenite::tungstenite::Message;
use tokio_tungstenite::{WebSocketStream, client_async};

use crate::tls::{Trust, tcp};

/// What a WebSocket runs on.
pub trait Stream: AsyncRead + AsyncWrite + Unpin + Send {}
impl<S: AsyncRead + AsyncWrite + Unpin + Send> Stream for S {}

/// An open WebSocket.
pub struct Socket(WebSocketStream<Box<dyn Stream>>);

impl Socket {
    /// Opens `url` (`ws://` or, with `trust`, `wss://`) at `addr`, whatever the host in the URL resolves to.
    pub async fn open(url: &str, addr: SocketAddr, trust: Option<&Trust>) -> Result<Self> {
        let host = url.parse::<http::Uri>()?.host().context("the URL has no host")?.to_owned();
        let stream: Box<dyn Stream> = match trust {
            Some(trust) => Box::new(trust.connect(addr, &host, &["http/1.1"]).await?),
            None => Box::new(tcp(addr).await?),
        };
        Ok(Self(client_async(url, stream).await?.0))
    }

    /// Sends `payload` as one binary message and returns the next message.
    pub async fn echo(&mut self, payload: Vec<u8>) -> Result<Vec<u8>> {
        self.0.send(Message::binary(payload)).await?;
        self.next().await
    }

    /// Sends `text` as one text message and returns the next message as text.
    pub async fn echo_text(&mut self, text: &str) -> Result<String> {
        self.0.send(Message::text(text)).await?;
        Ok(String::from_utf8(self.next().await?)?)
    }

    /// The next message; an error when the socket is closed.
    pub async fn next(&mut self) -> Result<Vec<u8>> {
        loop {
            match self.0.next().await.ok_or_else(|| anyhow!("the socket was closed"))?? {
                Message::Close(_) => return Err(anyhow!("the socket was closed")),
                Message::Ping(_) | Message::Pong(_) => {}
                message => return Ok(message.into_data().to_vec()),
            }
        }
    }

    /// Waits until the server closes the socket, and returns the code that it gives.
    pub async fn closed(&mut self) -> Result<u16> {
        loop {
            match self.0.next().await.ok_or_else(|| anyhow!("cut without a close frame"))?? {
                Message::Close(Some(frame)) => return Ok(frame.code.into()),
                Message::Close(None) => return Err(anyhow!("closed without a code")),
                _ => {}
            }
        }
    }

    /// Closes the socket with the closing handshake.
    pub async fn close(mut self) -> Result<()> {
        Ok(self.0.close(None).await?)
    }
}
