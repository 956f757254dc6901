//! A backend that says what it was asked: for a first try, for tests and for benchmarks.
//!
//! It speaks HTTP/1.1, HTTP/2 with prior knowledge, WebSocket and gRPC framing on one port. The last two segments
//! of the path choose an answer, so that it works below any prefix:
//!
//! | path | answer |
//! |---|---|
//! | `/status/N` | status N |
//! | `/sleep/N` | after N milliseconds |
//! | `/bytes/N` | N bytes with a Content-Length |
//! | `/chunks/N` | N lines without a length |
//! | `/upload` | how many bytes came |
//! | anything else | name, method, path, client and headers, as text or, with `Accept: application/json`, as JSON |

use std::io;
use std::net::SocketAddr;
use std::pin::pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use http::HeaderValue;
use hyper::service::service_fn;
use hyper_util::rt::{TokioExecutor, TokioIo};
use hyper_util::server::conn::auto;
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::watch;
use tokio::task::JoinHandle;

mod answer;
mod grpc;
mod socket;

/// The header field that names the backend in answers whose body is the client's own.
pub const BACKEND: &str = "x-backend";

/// One backend on one port; dropping it closes the port and cuts its connections.
#[derive(Debug)]
pub struct Echo {
    /// Where it listens.
    pub addr: SocketAddr,
    counters: Arc<Counters>,
    accepting: JoinHandle<()>,
    finish: watch::Sender<bool>,
}

/// What a backend has seen.
#[derive(Debug, Default)]
struct Counters {
    requests: AtomicU64,
    connections: AtomicU64,
}

impl Echo {
    /// Listens on `addr` (port 0 picks one) under the name that answers begin with.
    pub async fn start(name: &str, addr: SocketAddr) -> io::Result<Self> {
        let listener = TcpListener::bind(addr).await?;
        let addr = listener.local_addr()?;
        let counters = Arc::new(Counters::default());
        let (finish, finishing) = watch::channel(false);
        let accepting = tokio::spawn(accept(listener, finishing, Arc::from(name), Arc::clone(&counters)));
        Ok(Self { addr, counters, accepting, finish })
    }

    /// Takes no more connections, answers what is under way on those that are there, and sends WebSockets away.
    pub async fn finish(mut self) {
        self.finish.send_replace(true);
        // It can only fail by a panic, which was printed.
        let _ = (&mut self.accepting).await;
        // Every WebSocket holds a receiver until it is closed.
        self.finish.closed().await;
    }

    /// A backend on a free loopback port.
    pub async fn local(name: &str) -> io::Result<Self> {
        Self::start(name, SocketAddr::from(([127, 0, 0, 1], 0))).await
    }

    /// How many requests came.
    pub fn requests(&self) -> u64 {
        self.counters.requests.load(Ordering::Relaxed)
    }

    /// How many connections came.
    pub fn connections(&self) -> u64 {
        self.counters.connections.load(Ordering::Relaxed)
    }
}

impl Drop for Echo {
    fn drop(&mut self) {
        self.accepting.abort();
    }
}

async fn accept(listener: TcpListener, mut finishing: watch::Receiver<bool>, name: Arc<str>, counters: Arc<Counters>) {
    let told = finishing.clone();
    // The set lives in this task, so that aborting it cuts the connections too.
    let mut connections = tokio::task::JoinSet::new();
    loop {
        tokio::select! {
            accepted = listener.accept() => {
                if let Ok((stream, client)) = accepted {
                    counters.connections.fetch_add(1, Ordering::Relaxed);
                    let (name, counters) = (Arc::clone(&name), Arc::clone(&counters));
                    connections.spawn(serve(stream, client, told.clone(), name, counters));
                }
            }
            Some(_) = connections.join_next() => {}
            _ = finishing.wait_for(|finishing| *finishing) => break,
        }
    }
    drop(listener);
    connections.join_all().await;
}

async fn serve(
    stream: TcpStream,
    client: SocketAddr,
    mut finishing: watch::Receiver<bool>,
    name: Arc<str>,
    counters: Arc<Counters>,
) {
    // Small answers are what a benchmark measures; a delay here would be charged to the proxy.
    let _ = stream.set_nodelay(true);
    let leaving = finishing.clone();
    let service = service_fn(move |request| {
        counters.requests.fetch_add(1, Ordering::Relaxed);
        answer::answer(Arc::clone(&name), client, leaving.clone(), request)
    });
    let builder = auto::Builder::new(TokioExecutor::new());
    let mut connection = pin!(builder.serve_connection_with_upgrades(TokioIo::new(stream), service));
    // A client that breaks off is the client's business.
    tokio::select! {
        _ = connection.as_mut() => return,
        _ = finishing.wait_for(|finishing| *finishing) => connection.as_mut().graceful_shutdown(),
    }
    let _ = connection.await;
}

/// The value of [`BACKEND`].
fn backend(name: &str) -> HeaderValue {
    HeaderValue::from_str(name).unwrap_or(HeaderValue::from_static("?"))
}
