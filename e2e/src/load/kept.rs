//! HTTP/1.1 connections that are kept, one request at a time on each.

use std::collections::VecDeque;
use std::io;
use std::pin::Pin;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::task::{Context, Poll};

use bytes::Bytes;
use http_body_util::Empty;
use hyper::client::conn::http1::SendRequest;
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::net::TcpStream;
use tokio::time::Instant;

use super::failure::{Failure, Kind};
use super::pace::Client;
use super::{Load, fresh};

/// Idle connections, the longest idle first, so that all of them stay in use.
pub(super) struct Kept {
    load: Arc<Load>,
    idle: Mutex<VecDeque<Connection>>,
}

struct Connection {
    sender: SendRequest<Empty<Bytes>>,
    label: String,
    /// Set by the first byte that comes; cleared before each request.
    heard: Arc<AtomicBool>,
}

/// How a request on a connection failed.
enum Failed {
    /// The connection closed before any byte of an answer.
    Unheard(Failure),
    /// In any other way.
    For(Failure),
}

impl Kept {
    /// All connections opened. One that can't be is opened by the request that needs it, which then tells why.
    pub(super) async fn open(load: &Arc<Load>) -> Self {
        let kept = Self { load: Arc::clone(load), idle: Mutex::default() };
        let deadline = load.deadline(Instant::now());
        let opening = (0..load.plan.kept).map(|_| kept.connect(deadline));
        for connection in futures::future::join_all(opening).await.into_iter().flatten() {
            kept.keep(connection);
        }
        kept
    }

    async fn connect(&self, deadline: Instant) -> Result<Connection, Failure> {
        let (stream, label) = fresh::connect(&self.load, deadline).await?;
        let heard = Arc::new(AtomicBool::new(false));
        let stream = Listened { stream, heard: Arc::clone(&heard) };
        let sender = fresh::over(stream).await.map_err(|error| Failure::of(Kind::Handshake, &error).on(&label))?;
        Ok(Connection { sender, label, heard })
    }

    /// An idle connection that is still open.
    fn idle(&self) -> Option<Connection> {
        loop {
            let connection = self.idle.lock().unwrap_or_else(PoisonError::into_inner).pop_front()?;
            if !connection.sender.is_closed() {
                return Some(connection);
            }
            self.load.tally.closed_by_server();
        }
    }

    fn keep(&self, connection: Connection) {
        let mut idle = self.idle.lock().unwrap_or_else(PoisonError::into_inner);
        if idle.len() < self.load.plan.kept {
            idle.push_back(connection);
        }
    }

    async fn ask(&self, mut connection: Connection, number: u64, deadline: Instant) -> Result<String, Failed> {
        connection.heard.store(false, Ordering::Relaxed);
        match fresh::exchange(&self.load, &mut connection.sender, number, deadline).await {
            Ok((backend, true)) => {
                self.load.tally.closed_by_server();
                Ok(backend)
            }
            Ok((backend, false)) => {
                // The connection's task may not have read the end of the answer yet.
                if connection.sender.ready().await.is_ok() {
                    self.keep(connection);
                } else {
                    self.load.tally.closed_by_server();
                }
                Ok(backend)
            }
            Err(failure) => {
                let failure = failure.on(&connection.label);
                if failure.kind != Kind::Lost {
                    return Err(Failed::For(failure));
                }
                self.load.tally.closed_by_server();
                let heard = connection.heard.load(Ordering::Relaxed);
                Err(if heard { Failed::For(failure) } else { Failed::Unheard(failure) })
            }
        }
    }
}

impl Client for Kept {
    async fn request(&self, number: u64, deadline: Instant) -> Result<Option<String>, Failure> {
        if let Some(connection) = self.idle() {
            match self.ask(connection, number, deadline).await {
                Ok(backend) => return Ok(Some(backend)),
                Err(Failed::For(failure)) => return Err(failure),
                // RFC 9112 section 9.3.1: a client may repeat an idempotent request on a new connection.
                Err(Failed::Unheard(_)) => self.load.tally.reopened(),
            }
        }
        let connection = self.connect(deadline).await?;
        match self.ask(connection, number, deadline).await {
            Ok(backend) => Ok(Some(backend)),
            // A new connection has no such excuse.
            Err(Failed::For(failure) | Failed::Unheard(failure)) => Err(failure),
        }
    }
}

/// A stream that notes whether anything came.
struct Listened {
    stream: TcpStream,
    heard: Arc<AtomicBool>,
}

impl AsyncRead for Listened {
    fn poll_read(mut self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        let before = buf.filled().len();
        let polled = Pin::new(&mut self.stream).poll_read(cx, buf);
        if buf.filled().len() > before {
            self.heard.store(true, Ordering::Relaxed);
        }
        polled
    }
}

impl AsyncWrite for Listened {
    fn poll_write(mut self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &[u8]) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.stream).poll_write(cx, buf)
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_flush(cx)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_shutdown(cx)
    }
}
