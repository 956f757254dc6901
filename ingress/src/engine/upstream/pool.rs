//! Connections to endpoints that wait for their next request. One pool for each worker.

use std::collections::{HashMap, VecDeque};
use std::mem::MaybeUninit;
use std::net::SocketAddr;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, Weak};
use std::time::Duration;

use foldhash::fast::RandomState;
use landfall_ingress_model::policy::UpstreamTls;
use rustls::crypto::CryptoProvider;
use rustls_pki_types::ServerName;
use socket2::SockRef;
use tokio::time::{Instant, sleep, timeout_at};

use super::Upstream;
use super::connect::{ConnectError, Connector};
use super::http1::Http1Upstream;
use super::http2::{Http2Upstream, Multiplexed};
use super::stream::{UpstreamStream, speaks_h2, tcp};
use crate::engine::wire::Wire;

/// Pause between two looks for connections that have waited too long.
const SWEEP: Duration = Duration::from_secs(5);

/// The versions of HTTP that may be spoken with an endpoint.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub(in crate::engine) enum Protocols {
    /// HTTP/1.1 only.
    Http1,
    /// HTTP/2 with prior knowledge.
    Http2,
    /// Whichever is agreed on in the TLS handshake.
    Either,
}

/// Everything that makes two connections different.
#[derive(Clone, PartialEq, Eq, Hash, Debug)]
pub(in crate::engine) struct Origin {
    /// The endpoint.
    pub(in crate::engine) address: SocketAddr,
    /// The name asked for in the TLS handshake; `None` in the clear.
    pub(in crate::engine) server_name: Option<ServerName<'static>>,
    /// How TLS is spoken, where something is said of it.
    pub(in crate::engine) tls: Option<Arc<UpstreamTls>>,
    /// The versions of HTTP.
    pub(in crate::engine) protocol: Protocols,
}

/// How carefully a waiting connection is looked at before it is used.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(in crate::engine) enum Care {
    /// The request may be sent again if the connection turns out to be dead.
    Repeatable,
    /// It may not, so the kernel is asked, too.
    Once,
}

/// A connection that waits. It stays where it is in memory, from one request to the next.
pub(in crate::engine) struct Idle {
    upstream: Box<Http1Upstream>,
    since: Instant,
}

impl Idle {
    pub(super) fn new(upstream: Box<Http1Upstream>, since: Instant) -> Self {
        Self { upstream, since }
    }

    /// Where it leads to.
    pub(in crate::engine) fn origin(&self) -> &Origin {
        &self.upstream.origin
    }

    /// The connection for another request, unless the endpoint has closed it or said something that nobody asked for.
    pub(in crate::engine) fn resume(mut self, care: Care) -> Option<Box<Http1Upstream>> {
        let wire = &mut self.upstream.wire;
        if !wire.is_quiet() || (care == Care::Once && !is_open(wire)) {
            return None;
        }
        self.upstream.renew();
        Some(self.upstream)
    }
}

/// What a request can go out on at once.
enum Found {
    Idle(Box<Http1Upstream>),
    Shared(Multiplexed),
}

impl Found {
    fn into_upstream(self, origin: Origin) -> Upstream {
        match self {
            Self::Idle(upstream) => Upstream::Http1(upstream),
            Self::Shared(shared) => Upstream::Http2(Box::new(Http2Upstream::new(shared, origin, true))),
        }
    }
}

/// What the runtime has not yet heard of, the kernel may know.
fn is_open(wire: &Wire<UpstreamStream>) -> bool {
    let mut space = [MaybeUninit::uninit(); 1];
    // With TLS, something to read may be a ticket; whatever it is, another connection is as good.
    let read = SockRef::from(tcp(wire.stream())).peek(&mut space);
    read.is_err_and(|error| error.kind() == std::io::ErrorKind::WouldBlock)
}

/// How many connections wait, and for how long they are of use.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(in crate::engine) struct PoolLimits {
    /// Connections that wait.
    pub(in crate::engine) idle: usize,
    /// How long one waits.
    pub(in crate::engine) idle_time: Duration,
    /// Requests on one connection of HTTP/1.1.
    pub(in crate::engine) requests: u32,
    /// How long one connection of HTTP/1.1 is used.
    pub(in crate::engine) age: Duration,
}

/// The connections of one worker.
pub(in crate::engine) struct Pool {
    connector: Connector,
    waiting: Mutex<Waiting>,
    /// One turn for each origin at connecting by HTTP/2, so that many requests at once share one connection.
    turns: Mutex<HashMap<Origin, Arc<tokio::sync::Mutex<()>>>>,
}

struct Waiting {
    limits: PoolLimits,
    idle: HashMap<Origin, VecDeque<Idle>, RandomState>,
    count: usize,
    shared: HashMap<Origin, Vec<Multiplexed>, RandomState>,
}

impl Pool {
    /// A pool within limits. To be made on its runtime.
    pub(in crate::engine) fn new(
        provider: &Arc<CryptoProvider>,
        limits: PoolLimits,
    ) -> Result<Arc<Self>, rustls::Error> {
        let (idle, shared) = (HashMap::default(), HashMap::default());
        let pool = Arc::new(Self {
            connector: Connector::new(provider)?,
            waiting: Mutex::new(Waiting { limits, idle, count: 0, shared }),
            turns: Mutex::default(),
        });
        tokio::spawn(sweep(Arc::downgrade(&pool)));
        Ok(pool)
    }

    /// Sets other limits. They hold for whatever comes back from now on.
    pub(in crate::engine) fn limit(&self, limits: PoolLimits) {
        self.lock().limits = limits;
    }

    /// A connection for one request: one that waits, or a new one within `limit`.
    pub(in crate::engine) async fn get(
        self: &Arc<Self>,
        origin: Origin,
        care: Care,
        limit: Duration,
        now: Instant,
    ) -> Result<Upstream, ConnectError> {
        if let Some(found) = self.waiting(&origin, care, now) {
            return Ok(found.into_upstream(origin));
        }
        // Boxed, so that requests on connections that have waited do not hold the space for it.
        if origin.protocol == Protocols::Http1 {
            return Box::pin(self.connect(origin, limit)).await;
        }
        Box::pin(self.connect_shared(origin, care, limit)).await
    }

    /// Connects where HTTP/1.1 alone may be spoken.
    async fn connect(&self, origin: Origin, limit: Duration) -> Result<Upstream, ConnectError> {
        let stream = self.connector.connect(&origin, limit).await?;
        Ok(Upstream::Http1(Box::new(Http1Upstream::new(Wire::new(stream), origin))))
    }

    /// Connects where HTTP/2 may be spoken.
    async fn connect_shared(
        self: &Arc<Self>,
        origin: Origin,
        care: Care,
        limit: Duration,
    ) -> Result<Upstream, ConnectError> {
        let deadline = Instant::now() + limit;
        let turn = self.turns.lock().unwrap_or_else(PoisonError::into_inner).entry(origin.clone()).or_default().clone();
        let turn = timeout_at(deadline, turn.lock_owned()).await.map_err(|_| ConnectError::TimedOut)?;
        // Whoever was here before has left a connection that can be shared.
        if let Some(found) = self.waiting(&origin, care, Instant::now()) {
            return Ok(found.into_upstream(origin));
        }
        let stream = self.connector.connect(&origin, limit).await?;
        if origin.protocol == Protocols::Either && !speaks_h2(&stream) {
            return Ok(Upstream::Http1(Box::new(Http1Upstream::new(Wire::new(stream), origin))));
        }
        let begun = timeout_at(deadline, Multiplexed::begin(stream)).await.map_err(|_| ConnectError::TimedOut)?;
        let shared = begun.map_err(ConnectError::Http2)?;
        let used = Http2Upstream::new(shared.clone(), origin.clone(), false);
        self.lock().shared.entry(origin).or_default().push(shared);
        drop(turn);
        Ok(Upstream::Http2(Box::new(used)))
    }

    fn waiting(&self, origin: &Origin, care: Care, now: Instant) -> Option<Found> {
        let mut waiting = self.lock();
        if origin.protocol != Protocols::Http2 {
            while let Some(idle) = waiting.idle.get_mut(origin).and_then(VecDeque::pop_back) {
                waiting.count -= 1;
                let young = now.saturating_duration_since(idle.since) < waiting.limits.idle_time;
                if let Some(upstream) = young.then(|| idle.resume(care)).flatten() {
                    return Some(Found::Idle(upstream));
                }
            }
        }
        if origin.protocol != Protocols::Http1
            && let Some(shared) = waiting.shared.get_mut(origin)
        {
            shared.retain(Multiplexed::is_open);
            return shared.iter().find(|shared| shared.has_room()).cloned().map(Found::Shared);
        }
        None
    }

    /// Takes a connection back that stands exactly behind a response.
    pub(in crate::engine) fn put(&self, idle: Idle) {
        let mut waiting = self.lock();
        let limits = waiting.limits;
        let is_spent = idle.upstream.requests >= limits.requests
            || idle.since.saturating_duration_since(idle.upstream.born) >= limits.age;
        if limits.idle == 0 || is_spent {
            return;
        }
        while waiting.count >= limits.idle {
            waiting.drop_oldest();
        }
        waiting.count += 1;
        if let Some(others) = waiting.idle.get_mut(idle.origin()) {
            others.push_back(idle);
        } else {
            waiting.idle.insert(idle.origin().clone(), VecDeque::from([idle]));
        }
    }

    /// Gives all waiting connections up, when there is no room for new ones.
    pub(in crate::engine) fn clear(&self) {
        let mut waiting = self.lock();
        waiting.idle.clear();
        waiting.count = 0;
    }

    fn lock(&self) -> MutexGuard<'_, Waiting> {
        self.waiting.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Drops what has waited too long or was closed.
    fn sweep(&self) {
        let mut waiting = self.lock();
        let limit = waiting.limits.idle_time;
        let mut count = 0;
        waiting.idle.retain(|_, idle| {
            idle.retain_mut(|idle| idle.since.elapsed() < limit && idle.upstream.wire.is_quiet());
            count += idle.len();
            !idle.is_empty()
        });
        waiting.count = count;
        waiting.shared.retain(|_, shared| {
            shared.retain(|shared| shared.is_open() && !shared.is_idle_for(limit));
            !shared.is_empty()
        });
        drop(waiting);
        let mut turns = self.turns.lock().unwrap_or_else(PoisonError::into_inner);
        turns.retain(|_, turn| Arc::strong_count(turn) > 1);
    }
}

impl Waiting {
    fn drop_oldest(&mut self) {
        let some = self.idle.iter_mut().filter(|(_, idle)| !idle.is_empty());
        let oldest = some.min_by_key(|(_, idle)| idle.front().map(|idle| idle.since));
        if let Some((_, idle)) = oldest
            && idle.pop_front().is_some()
        {
            self.count -= 1;
        } else {
            self.count = 0;
        }
    }
}

async fn sweep(pool: Weak<Pool>) {
    loop {
        sleep(SWEEP).await;
        let Some(pool) = pool.upgrade() else { return };
        pool.sweep();
    }
}
