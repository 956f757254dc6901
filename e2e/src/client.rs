//! An HTTP client of one connection, which tells when the server closes it.

use std::fmt;
use std::net::SocketAddr;

use anyhow::{Context, Result, ensure};
use bytes::Bytes;
use http::{HeaderMap, Request, Response, Version};
use http_body_util::combinators::UnsyncBoxBody;
use http_body_util::{BodyExt, Empty, Full};
use hyper::body::Incoming;
use hyper::client::conn::{http1, http2};
use hyper_util::rt::{TokioExecutor, TokioIo};
use tokio::io::{AsyncRead, AsyncWrite};

use crate::tls::{Trust, tcp};

/// A request body.
pub type Body = UnsyncBoxBody<Bytes, anyhow::Error>;

/// One connection. It is never opened again: a request after the server closed it is an error.
pub struct Client {
    sender: Sender,
    scheme: &'static str,
}

enum Sender {
    Http1(http1::SendRequest<Body>),
    Http2(http2::SendRequest<Body>),
}

/// A whole answer.
#[derive(Debug)]
pub struct Answer {
    /// The status code.
    pub status: u16,
    /// The header fields.
    pub headers: HeaderMap,
    /// The body.
    pub body: Bytes,
}

impl Answer {
    /// The body as text.
    pub fn text(&self) -> String {
        String::from_utf8_lossy(&self.body).into_owned()
    }

    /// The first word of an echo backend's answer: its name.
    pub fn backend(&self) -> String {
        self.text().split_whitespace().next().unwrap_or_default().to_owned()
    }
}

impl fmt::Display for Answer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} {}", self.status, self.text().lines().next().unwrap_or_default())
    }
}

impl Client {
    /// HTTP/1.1 in the clear.
    pub async fn http1(addr: SocketAddr) -> Result<Self> {
        Ok(Self { sender: over_http1(tcp(addr).await?).await?, scheme: "http" })
    }

    /// HTTP/2 in the clear with prior knowledge.
    pub async fn http2(addr: SocketAddr) -> Result<Self> {
        Ok(Self { sender: over_http2(tcp(addr).await?).await?, scheme: "http" })
    }

    /// HTTP/1.1 over TLS as a client of `name`.
    pub async fn https1(addr: SocketAddr, name: &str, trust: &Trust) -> Result<Self> {
        let stream = trust.connect(addr, name, &["http/1.1"]).await?;
        Ok(Self { sender: over_http1(stream).await?, scheme: "https" })
    }

    /// HTTP/2 over TLS as a client of `name`; the server must choose it by ALPN.
    pub async fn https2(addr: SocketAddr, name: &str, trust: &Trust) -> Result<Self> {
        let stream = trust.connect(addr, name, &["h2", "http/1.1"]).await?;
        ensure!(stream.get_ref().1.alpn_protocol() == Some(b"h2"), "the server did not choose h2");
        Ok(Self { sender: over_http2(stream).await?, scheme: "https" })
    }

    /// `GET path` at `host`, to the end of the body.
    pub async fn get(&mut self, host: &str, path: &str) -> Result<Answer> {
        self.send(host, Request::get(path).body(empty())?).await
    }

    /// Sends `request` to `host` and reads the whole answer.
    pub async fn send(&mut self, host: &str, request: Request<Body>) -> Result<Answer> {
        let (head, body) = self.begin(host, request).await?.into_parts();
        let body = body.collect().await.context("in the body")?.to_bytes();
        Ok(Answer { status: head.status.as_u16(), headers: head.headers, body })
    }

    /// Sends `request` to `host` and returns as soon as the head of the answer is there.
    pub async fn begin(&mut self, host: &str, mut request: Request<Body>) -> Result<Response<Incoming>> {
        match &mut self.sender {
            Sender::Http1(sender) => {
                request.headers_mut().insert(http::header::HOST, host.parse()?);
                sender.ready().await.context("the connection was closed")?;
                Ok(sender.send_request(request).await?)
            }
            Sender::Http2(sender) => {
                let path = request.uri().path_and_query().map_or("/", http::uri::PathAndQuery::as_str);
                *request.uri_mut() = format!("{}://{host}{path}", self.scheme).parse()?;
                *request.version_mut() = Version::HTTP_2;
                sender.ready().await.context("the connection was closed")?;
                Ok(sender.send_request(request).await?)
            }
        }
    }

    /// Whether the server closed the connection.
    pub fn is_closed(&self) -> bool {
        match &self.sender {
            Sender::Http1(sender) => sender.is_closed(),
            Sender::Http2(sender) => sender.is_closed(),
        }
    }
}

/// One GET on a connection of its own.
pub async fn get(addr: SocketAddr, host: &str, path: &str) -> Result<Answer> {
    Client::http1(addr).await?.get(host, path).await
}

/// No body.
pub fn empty() -> Body {
    Empty::new().map_err(|never| match never {}).boxed_unsync()
}

/// A body of known length.
pub fn whole(bytes: impl Into<Bytes>) -> Body {
    Full::new(bytes.into()).map_err(|never| match never {}).boxed_unsync()
}

async fn over_http1(stream: impl AsyncRead + AsyncWrite + Unpin + Send + 'static) -> Result<Sender> {
    let (sender, connection) = http1::handshake(TokioIo::new(stream)).await?;
    // Its error reaches whoever sends the next request.
    tokio::spawn(connection.with_upgrades());
    Ok(Sender::Http1(sender))
}

async fn over_http2(stream: impl AsyncRead + AsyncWrite + Unpin + Send + 'static) -> Result<Sender> {
    let (sender, connection) = http2::handshake(TokioExecutor::new(), TokioIo::new(stream)).await?;
    tokio::spawn(connection);
    Ok(Sender::Http2(sender))
}
