//! The services behind: each says what it was asked, and notes it.
//!
//! The query of a request chooses the answer: `status=`, `set=NAME:VALUE` for a header field, `delay=` in milliseconds
//! and `how=close` or `how=chunked` for the framing.

use std::fmt::Write as _;
use std::io;
use std::net::{IpAddr, SocketAddr};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use anyhow::{Context, Result};
use rustls::ServerConfig;
use serde_json::json;
use tokio::io::{AsyncBufReadExt, AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt, BufReader};
use tokio::net::TcpListener;
use tokio::task::{JoinHandle, JoinSet};
use tokio_rustls::TlsAcceptor;

/// The header field of an answer that says which request it answers, for bodies that come compressed.
pub(crate) const SEEN: &str = "X-Echo-Seen";

/// A request that some service got.
#[derive(Clone, Debug)]
pub(crate) struct Seen {
    pub(crate) id: usize,
    pub(crate) service: Arc<str>,
    pub(crate) namespace: Arc<str>,
    pub(crate) pod: SocketAddr,
    pub(crate) method: String,
    pub(crate) path: String,
    pub(crate) headers: Vec<(String, String)>,
    /// How much of the body has come.
    pub(crate) length: Arc<AtomicUsize>,
}

/// What all services of a world have seen.
#[derive(Debug, Default)]
pub(crate) struct Log {
    seen: Mutex<Vec<Seen>>,
    ids: AtomicUsize,
}

/// One service: a port on one address or more.
#[derive(Debug)]
pub(crate) struct Echo {
    pub(crate) port: u16,
    accepting: Vec<JoinHandle<()>>,
}

/// Which service it is.
#[derive(Clone, Debug)]
pub(crate) struct Place {
    pub(crate) namespace: Arc<str>,
    pub(crate) service: Arc<str>,
}

impl Log {
    /// What was seen since [`Log::clear`].
    pub(crate) fn seen(&self) -> Vec<Seen> {
        self.seen.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    pub(crate) fn clear(&self) {
        self.seen.lock().unwrap_or_else(PoisonError::into_inner).clear();
    }

    fn push(&self, seen: Seen) {
        self.seen.lock().unwrap_or_else(PoisonError::into_inner).push(seen);
    }
}

impl Echo {
    /// Listens on one free port of all `addresses`.
    pub(crate) async fn start(
        place: Place,
        addresses: &[IpAddr],
        tls: Option<Arc<ServerConfig>>,
        log: &Arc<Log>,
    ) -> Result<Self> {
        let mut refused = None;
        // A port that is free on the first address may be taken on the next.
        for _ in 0..20 {
            match listen(addresses).await {
                Ok(listeners) => {
                    let port = listeners.first().context("no address")?.local_addr()?.port();
                    let acceptor = tls.map(TlsAcceptor::from);
                    let begin =
                        |listener| tokio::spawn(accept(listener, place.clone(), acceptor.clone(), Arc::clone(log)));
                    return Ok(Self { port, accepting: listeners.into_iter().map(begin).collect() });
                }
                Err(error) => refused = Some(error),
            }
        }
        Err(refused.context("no address")?.into())
    }
}

impl Drop for Echo {
    fn drop(&mut self) {
        self.accepting.iter().for_each(JoinHandle::abort);
    }
}

async fn listen(addresses: &[IpAddr]) -> io::Result<Vec<TcpListener>> {
    let mut listeners: Vec<TcpListener> = Vec::new();
    for address in addresses {
        let port = listeners.first().map_or(Ok(0), |first| first.local_addr().map(|addr| addr.port()))?;
        match TcpListener::bind((*address, port)).await {
            Ok(listener) => listeners.push(listener),
            // Not every machine has IPv6.
            Err(error) if error.kind() == io::ErrorKind::AddrNotAvailable && address.is_ipv6() => {}
            Err(error) => return Err(error),
        }
    }
    Ok(listeners)
}

async fn accept(listener: TcpListener, place: Place, tls: Option<TlsAcceptor>, log: Arc<Log>) {
    let Ok(pod) = listener.local_addr() else { return };
    // They live in this task, so that aborting it cuts them too.
    let mut connections = JoinSet::new();
    loop {
        tokio::select! {
            accepted = listener.accept() => {
                let Ok((stream, _)) = accepted else { continue };
                let (place, tls, log) = (place.clone(), tls.clone(), Arc::clone(&log));
                connections.spawn(async move {
                    let _ = stream.set_nodelay(true);
                    // Whoever breaks off is seen on the other side.
                    let _ = match tls {
                        None => serve(stream, pod, &place, &log).await,
                        Some(tls) => match tls.accept(stream).await {
                            Ok(stream) => serve(stream, pod, &place, &log).await,
                            Err(error) => Err(error),
                        },
                    };
                });
            }
            Some(_) = connections.join_next() => {}
        }
    }
}

async fn serve(
    stream: impl AsyncRead + AsyncWrite + Unpin,
    pod: SocketAddr,
    place: &Place,
    log: &Log,
) -> io::Result<()> {
    let mut stream = BufReader::new(stream);
    while let Some((seen, version)) = head(&mut stream, pod, place, log).await? {
        log.push(seen.clone());
        body(&mut stream, &seen).await?;
        let wanted = Wanted::of(&seen.path);
        if !wanted.delay.is_zero() {
            tokio::time::sleep(wanted.delay).await;
        }
        stream.write_all(&wanted.answer(&seen)).await?;
        stream.flush().await?;
        let leaving = field(&seen.headers, "connection").is_some_and(|value| value.eq_ignore_ascii_case("close"));
        if leaving || version == "HTTP/1.0" || wanted.how == How::Close {
            return stream.shutdown().await;
        }
    }
    Ok(())
}

/// The next request's head, noted at once; `None` at the end of the connection.
async fn head(
    stream: &mut (impl AsyncBufReadExt + Unpin),
    pod: SocketAddr,
    place: &Place,
    log: &Log,
) -> io::Result<Option<(Seen, String)>> {
    let first = line(stream).await?;
    let mut words = first.split(' ');
    let (Some(method), Some(path)) = (words.next().filter(|method| !method.is_empty()), words.next()) else {
        return Ok(None);
    };
    let version = words.next_back().unwrap_or_default().to_owned();
    let mut headers = Vec::new();
    loop {
        let line = line(stream).await?;
        let Some((name, value)) = line.split_once(':') else { break };
        headers.push((name.to_owned(), value.trim().to_owned()));
    }
    let id = log.ids.fetch_add(1, Ordering::Relaxed);
    let Place { namespace, service } = place.clone();
    let (method, path) = (method.to_owned(), path.to_owned());
    Ok(Some((Seen { id, service, namespace, pod, method, path, headers, length: Arc::default() }, version)))
}

async fn line(stream: &mut (impl AsyncBufReadExt + Unpin)) -> io::Result<String> {
    let mut bytes = Vec::new();
    stream.read_until(b'\n', &mut bytes).await?;
    Ok(String::from_utf8_lossy(&bytes).trim_end().to_owned())
}

async fn body(stream: &mut (impl AsyncBufReadExt + Unpin), seen: &Seen) -> io::Result<()> {
    if field(&seen.headers, "transfer-encoding").is_some() {
        loop {
            let length = line(stream).await?;
            let length = usize::from_str_radix(&length, 16).map_err(io::Error::other)?;
            take(stream, length, seen).await?;
            line(stream).await?;
            if length == 0 {
                return Ok(());
            }
        }
    }
    let length = field(&seen.headers, "content-length").and_then(|length| length.parse().ok());
    take(stream, length.unwrap_or(0), seen).await
}

async fn take(stream: &mut (impl AsyncRead + Unpin), mut length: usize, seen: &Seen) -> io::Result<()> {
    let mut buffer = vec![0; 8192];
    while length > 0 {
        let most = length.min(buffer.len());
        let read = stream.read(&mut buffer[..most]).await?;
        if read == 0 {
            return Err(io::ErrorKind::UnexpectedEof.into());
        }
        length -= read;
        seen.length.fetch_add(read, Ordering::Relaxed);
    }
    Ok(())
}

/// The value of the first field of that name.
fn field<'a>(headers: &'a [(String, String)], name: &str) -> Option<&'a str> {
    headers.iter().find(|(found, _)| found.eq_ignore_ascii_case(name)).map(|(_, value)| value.as_str())
}

#[derive(Clone, Copy, PartialEq)]
enum How {
    Length,
    Close,
    Chunked,
}

/// The answer that a query asks for.
struct Wanted<'a> {
    status: u16,
    set: Vec<(&'a str, &'a str)>,
    delay: Duration,
    how: How,
}

impl<'a> Wanted<'a> {
    fn of(path: &'a str) -> Self {
        let mut wanted = Self { status: 200, set: Vec::new(), delay: Duration::ZERO, how: How::Length };
        let options = path.split_once('?').map_or("", |(_, query)| query).split('&');
        for (name, value) in options.filter_map(|option| option.split_once('=')) {
            match name {
                "status" => wanted.status = value.parse().unwrap_or(200),
                "delay" => wanted.delay = Duration::from_millis(value.parse().unwrap_or(0)),
                "set" => wanted.set.extend(value.split_once(':')),
                "how" if value == "close" => wanted.how = How::Close,
                "how" if value == "chunked" => wanted.how = How::Chunked,
                _ => {}
            }
        }
        wanted
    }

    fn answer(&self, seen: &Seen) -> Vec<u8> {
        let said = json!({
            "seen": seen.id,
            "service": &*seen.service,
            "namespace": &*seen.namespace,
            "pod": seen.pod,
            "method": seen.method,
            "path": seen.path,
            "headers": seen.headers,
        });
        let body = said.to_string();
        let mut answer = format!("HTTP/1.1 {} Echo\r\nContent-Type: application/json\r\n", self.status);
        let _ = write!(answer, "{SEEN}: {}\r\n", seen.id);
        for (name, value) in &self.set {
            let _ = write!(answer, "{name}: {value}\r\n");
        }
        let bare = matches!(self.status, 100..=199 | 204 | 304);
        let _ = match self.how {
            _ if bare => write!(answer, "\r\n"),
            How::Length => write!(answer, "Content-Length: {}\r\n\r\n", body.len()),
            How::Close => write!(answer, "Connection: close\r\n\r\n"),
            How::Chunked => write!(answer, "Transfer-Encoding: chunked\r\n\r\n"),
        };
        let _ = match self.how {
            _ if bare || seen.method == "HEAD" => Ok(()),
            How::Chunked => write!(answer, "{:x}\r\n{body}\r\n0\r\n\r\n", body.len()),
            How::Length | How::Close => write!(answer, "{body}"),
        };
        answer.into_bytes()
    }
}
