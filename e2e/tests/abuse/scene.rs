//! One attack on one program: what is looked at, and what is counted.

use std::io;
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::task::{Context, Poll};
use std::time::{Duration, Instant};

use anyhow::Result;
use landfall_e2e::client;
use landfall_e2e::echo::Echo;
use nix::sys::resource::{Resource, getrlimit, setrlimit};
use socket2::{Domain, Socket, Type};
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::net::TcpStream;
use tokio::task::JoinHandle;

use crate::good::{Good, Seen};
use crate::target::{Kind, Target};

/// The host that is attacked.
pub(crate) const HOST: &str = "shop.example";
/// The host of the well-behaved client, whose backend nobody else asks.
pub(crate) const GOOD: &str = "good.example";
/// How long the well-behaved client is watched before.
const BEFORE: Duration = Duration::from_secs(2);
/// How long an attack is looked at, at least.
const SHORTEST: Duration = Duration::from_secs(3);
/// How long memory may take to be given back.
const RELEASE: Duration = Duration::from_secs(5);

/// A fresh program for one attack.
pub(crate) struct Scene {
    pub(crate) target: Target,
    kind: Kind,
    before: u64,
    cpu: Duration,
    most: Arc<AtomicU64>,
    sent: Arc<AtomicU64>,
    watch: JoinHandle<()>,
    good: Good,
    begun: Instant,
    _web: Echo,
}

/// What an attack has cost one program.
#[derive(Debug)]
pub(crate) struct Cost {
    pub(crate) kind: Kind,
    /// Bytes that attackers wrote.
    pub(crate) sent: u64,
    /// Bytes by which the resident memory grew at most, and those that were left some seconds after the end.
    pub(crate) growth: u64,
    pub(crate) left: u64,
    pub(crate) cpu: Duration,
    pub(crate) good: Seen,
    /// No process of it has ended.
    pub(crate) is_whole: bool,
}

impl Scene {
    pub(crate) async fn start(kind: Kind) -> Result<Self> {
        let (_, most) = getrlimit(Resource::RLIMIT_NOFILE)?;
        setrlimit(Resource::RLIMIT_NOFILE, most, most)?;
        let web = Echo::local("web").await?;
        let good = Good::start()?;
        let target = Target::start(kind, web.addr, good.backend).await?;
        // What a program that has worked needs anyway is not charged to the attack.
        for _ in 0..200 {
            client::get(target.http, GOOD, "/").await?;
        }
        good.ask(target.http)?;
        tokio::time::sleep(BEFORE).await;
        let memory = target.memory();
        let before = memory();
        let most = Arc::new(AtomicU64::new(before));
        let watch = tokio::spawn(watch(memory, Arc::clone(&most)));
        let cpu = target.cpu();
        good.attack();
        let (sent, begun) = (Arc::default(), Instant::now());
        Ok(Self { target, kind, before, cpu, most, sent, watch, good, begun, _web: web })
    }

    /// A connection for HTTP/1.1.
    pub(crate) async fn connect(&self) -> io::Result<Counted> {
        Ok(self.counted(TcpStream::connect(self.target.http).await?))
    }

    /// A connection for HTTP/2.
    pub(crate) async fn connect_h2(&self) -> io::Result<Counted> {
        Ok(self.counted(TcpStream::connect(self.target.h2).await?))
    }

    /// A connection whose other end can send a few KB only.
    pub(crate) fn connect_narrow(&self) -> io::Result<Counted> {
        let socket = Socket::new(Domain::IPV4, Type::STREAM, None)?;
        socket.set_recv_buffer_size(4096)?;
        socket.connect(&self.target.http.into())?;
        socket.set_nonblocking(true)?;
        Ok(self.counted(TcpStream::from_std(socket.into())?))
    }

    fn counted(&self, tcp: TcpStream) -> Counted {
        Counted { tcp, sent: self.sent.clone() }
    }

    /// Looks at what the attack has cost, and lets it end by dropping `held`.
    pub(crate) async fn end<T>(self, held: T) -> Result<Cost> {
        // Some attacks are over at once, and others are asked after for long enough to say something.
        tokio::time::sleep_until((self.begun + SHORTEST).into()).await;
        let growth = self.most.load(Ordering::Relaxed).saturating_sub(self.before);
        let (cpu, sent) = (self.target.cpu().saturating_sub(self.cpu), self.sent.load(Ordering::Relaxed));
        drop(held);
        let good = tokio::task::spawn_blocking(move || self.good.end()).await??;
        self.watch.abort();
        // Nobody asks for anything meanwhile.
        tokio::time::sleep(RELEASE).await;
        let left = self.target.memory()().saturating_sub(self.before);
        let is_whole = self.target.is_whole();
        Ok(Cost { kind: self.kind, sent, growth, left, cpu, good, is_whole })
    }
}

async fn watch(memory: impl Fn() -> u64, most: Arc<AtomicU64>) {
    let mut every = tokio::time::interval(Duration::from_millis(10));
    loop {
        every.tick().await;
        most.fetch_max(memory(), Ordering::Relaxed);
    }
}

/// A connection whose bytes are counted.
pub(crate) struct Counted {
    tcp: TcpStream,
    sent: Arc<AtomicU64>,
}

impl AsyncRead for Counted {
    fn poll_read(mut self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.tcp).poll_read(cx, buf)
    }
}

impl AsyncWrite for Counted {
    fn poll_write(mut self: Pin<&mut Self>, cx: &mut Context<'_>, data: &[u8]) -> Poll<io::Result<usize>> {
        let written = std::task::ready!(Pin::new(&mut self.tcp).poll_write(cx, data))?;
        self.sent.fetch_add(written as u64, Ordering::Relaxed);
        Poll::Ready(Ok(written))
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.tcp).poll_flush(cx)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.tcp).poll_shutdown(cx)
    }
}
