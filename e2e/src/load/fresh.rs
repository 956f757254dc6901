//! A new connection for each request. Nothing is asked again: there is no old connection to put it down to.

use std::sync::Arc;

use bytes::Bytes;
use http::header::HOST;
use http::{Request, Response};
use http_body_util::{BodyExt, Empty};
use hyper::body::Incoming;
use hyper::client::conn::http1::{self, SendRequest};
use hyper_util::rt::TokioIo;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::TcpStream;
use tokio::time::{Instant, timeout_at};

use super::failure::{Failure, Kind};
use super::pace::Client;
use super::{Load, Scheme, answer};
use crate::tls::tcp;

pub(super) struct Fresh(pub(super) Arc<Load>);

impl Client for Fresh {
    async fn request(&self, number: u64, deadline: Instant) -> Result<Option<String>, Failure> {
        let load = &self.0;
        let (stream, label) = connect(load, deadline).await?;
        let mut sender = match load.scheme {
            Scheme::Http => over(stream).await,
            Scheme::Https => over(secure(load, stream, "http/1.1", deadline).await?).await,
        }
        .map_err(|error| Failure::of(Kind::Handshake, &error).on(&label))?;
        let (backend, _) = exchange(load, &mut sender, number, deadline).await.map_err(|failure| failure.on(&label))?;
        Ok(Some(backend))
    }
}

/// A TCP connection to the next target, and a text that names it.
pub(super) async fn connect(load: &Load, deadline: Instant) -> Result<(TcpStream, String), Failure> {
    let target = load.target().ok_or_else(|| Failure::new(Kind::Connect, "no target"))?;
    let opened = timeout_at(deadline, tcp(target)).await;
    let opened = opened.map_err(|_| Failure::new(Kind::Connect, format!("no connection to {target} in time")))?;
    let stream = opened.map_err(|error| Failure::of(Kind::Connect, &error).on(&target.to_string()))?;
    load.tally.opened();
    let local = stream.local_addr().map_or_else(|error| error.to_string(), |local| local.to_string());
    Ok((stream, format!("{local} to {target}")))
}

/// TLS on `stream`.
pub(super) async fn secure(
    load: &Load,
    stream: TcpStream,
    protocol: &str,
    deadline: Instant,
) -> Result<tokio_rustls::client::TlsStream<TcpStream>, Failure> {
    let label = stream.local_addr().map_or_else(|error| error.to_string(), |local| local.to_string());
    let trust = load.plan.trust.as_ref().ok_or_else(|| Failure::new(Kind::Handshake, "nobody to trust"))?;
    let shaken = timeout_at(deadline, trust.handshake(stream, &load.plan.host, &[protocol])).await;
    let shaken = shaken.map_err(|_| Failure::new(Kind::Handshake, "no TLS in time").on(&label))?;
    shaken.map_err(|error| Failure::new(Kind::Handshake, format!("{error:#}")).on(&label))
}

/// HTTP/1.1 on `stream`.
pub(super) async fn over<S>(stream: S) -> hyper::Result<SendRequest<Empty<Bytes>>>
where
    S: AsyncRead + AsyncWrite + Unpin + Send + 'static,
{
    let (sender, connection) = http1::handshake(TokioIo::new(stream)).await?;
    // Its error reaches whoever waits for an answer.
    tokio::spawn(connection);
    Ok(sender)
}

/// One request and its whole answer; the name of the backend and whether the server closes the connection.
pub(super) async fn exchange(
    load: &Load,
    sender: &mut SendRequest<Empty<Bytes>>,
    number: u64,
    deadline: Instant,
) -> Result<(String, bool), Failure> {
    let request = Request::get(answer::path(&load.plan, number)).header(HOST, &load.plan.host).body(Empty::new());
    let request = request.map_err(|error| Failure::of(Kind::Answer, &error))?;
    let lost = |error: hyper::Error| Failure::of(Kind::Lost, &error);
    let asked = async {
        let response: Response<Incoming> = sender.send_request(request).await.map_err(lost)?;
        let (head, body) = response.into_parts();
        let body = body.collect().await.map_err(lost)?.to_bytes();
        let closes = head.headers.get(http::header::CONNECTION).is_some_and(|value| value.as_bytes() == b"close");
        answer::backend(load, number, head.status, &body).map(|backend| (backend, closes))
    };
    timeout_at(deadline, asked).await.map_err(|_| Failure::new(Kind::Timeout, "no whole answer in time"))?
}
