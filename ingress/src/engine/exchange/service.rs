//! Requests of our own to other services: questions about a request, and copies of it.

use std::future::poll_fn;
use std::net::{IpAddr, SocketAddr};
use std::sync::{Arc, LazyLock};
use std::time::Duration;

use bytes::Bytes;
use landfall_ingress_model::address::usable;
use landfall_ingress_model::backend::Protocol;
use landfall_ingress_model::fields::{Fields, HeaderEdits};
use landfall_ingress_model::pipeline::{Opinion, Question, parts};
use tokio::sync::Semaphore;
use tokio::time::Instant;

use super::Shared;
use crate::engine::body::{Length, Part};
use crate::engine::upstream::{Answer, Care, Origin, Outbound, Pool, Protocols, Upstream, server_name};
use crate::resolve::Resolver;

/// How long a service may take to take a connection.
const CONNECT: Duration = Duration::from_secs(5);
/// How long the answer to a copy is waited for, which is nobody's.
const COPY: Duration = Duration::from_mins(1);
/// Copies under way at once; what is more is not copied.
const COPIES: usize = 256;
/// Bytes of an answer's body that are read so that the connection can be used again.
const BODY: usize = 64 * 1024;

static COPYING: LazyLock<Arc<Semaphore>> = LazyLock::new(|| Arc::new(Semaphore::new(COPIES)));

/// The way to other services.
#[derive(Clone)]
pub(super) struct Services {
    pool: Arc<Pool>,
    resolver: Arc<Resolver>,
}

impl Services {
    pub(super) fn of(engine: &Shared) -> Self {
        Self { pool: engine.pool.clone(), resolver: engine.balancers.resolver().clone() }
    }

    /// Sends a copy of a request and forgets it. The request waits for nothing of that.
    pub(super) fn copy(self, question: Question, body: Option<Bytes>) {
        let Ok(permit) = COPYING.clone().try_acquire_owned() else { return };
        tokio::spawn(async move {
            let _ = tokio::time::timeout(COPY, self.ask(&question, body)).await;
            drop(permit);
        });
    }

    /// Asks a service. A kept connection may be dead, so that another one is tried then.
    pub(super) async fn ask(&self, question: &Question, body: Option<Bytes>) -> Option<Opinion> {
        let (tls, authority, rest) = parts(&question.url);
        let (host, port) = match authority.rsplit_once(':') {
            Some((host, port)) if !host.ends_with(':') => (host, port.parse().ok()?),
            _ => (authority, if tls { 443 } else { 80 }),
        };
        let mut addresses = self.addresses(host.trim_matches(['[', ']']), port).await?.into_iter();
        let mut address = addresses.next()?;
        let protocol = if tls { Protocol::Https } else { Protocol::Http };
        let target = if rest.starts_with('/') { rest.to_owned() } else { format!("/{rest}") };
        let length = body.as_ref().map_or(Length::None, |body| Length::Known(body.len() as u64));
        let fields = Fields::from(&question.fields);
        loop {
            let server_name = server_name(protocol, host, address, None);
            let origin = Origin { address, server_name, tls: None, protocol: Protocols::Http1 };
            let Ok(mut upstream) = self.pool.get(origin, Care::Once, CONNECT, Instant::now()).await else {
                address = addresses.next()?;
                continue;
            };
            let reused = upstream.is_reused();
            let edits = HeaderEdits::default();
            let outbound = Outbound {
                method: &question.method,
                target: &target,
                verbatim: false,
                fields: &fields,
                edits: &edits,
                body: length,
            };
            match answer_of(&mut upstream, &outbound, body.clone()).await {
                Some((opinion, whole)) => {
                    if let (true, Upstream::Http1(upstream)) = (whole, upstream)
                        && let Some(idle) = upstream.into_idle(Instant::now())
                    {
                        self.pool.put(idle);
                    }
                    return Some(opinion);
                }
                None if reused => {}
                None => return None,
            }
        }
    }

    /// The addresses of a service, in the order in which they are to be tried: each time another one is first.
    async fn addresses(&self, host: &str, port: u16) -> Option<Vec<SocketAddr>> {
        if let Ok(address) = host.parse::<IpAddr>() {
            let address = usable(address, self.resolver.origin()).ok()?;
            return Some(vec![(address, port).into()]);
        }
        let found = self.resolver.resolve(&Arc::from(host)).await.ok()?;
        let mut addresses: Vec<SocketAddr> = found.iter().map(|address| (*address, port).into()).collect();
        addresses.rotate_left(rand::random_range(0..found.len()));
        Some(addresses)
    }
}

/// The answer, and whether it was read to its end.
async fn answer_of(upstream: &mut Upstream, outbound: &Outbound<'_>, body: Option<Bytes>) -> Option<(Opinion, bool)> {
    upstream.request(outbound).ok()?;
    if let Some(body) = body {
        poll_fn(|cx| upstream.poll_room(cx)).await.ok()?;
        upstream.write(Part::Last(body)).ok()?;
    }
    poll_fn(|cx| upstream.poll_flush(cx)).await.ok()?;
    let head = loop {
        match poll_fn(|cx| upstream.poll_answer(cx)).await.ok()? {
            Answer::Interim(..) => {}
            Answer::Head(head) => break head,
        }
    };
    let opinion = Opinion { status: head.status, fields: head.fields.to_map() };
    let mut over = matches!(head.body, Length::None | Length::Known(0));
    let mut read = 0;
    while !over && read < BODY {
        let Ok(part) = poll_fn(|cx| upstream.poll_part(cx)).await else { return Some((opinion, false)) };
        read += part.len();
        over = part.is_final();
    }
    Some((opinion, over))
}
