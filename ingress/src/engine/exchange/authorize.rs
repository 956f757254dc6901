//! Finding out whether a request may pass: passwords, and the word of another service.

use std::future::poll_fn;
use std::net::IpAddr;
use std::sync::{Arc, LazyLock};
use std::time::{Duration, Instant};

use http::HeaderValue;
use http::header::CONTENT_LENGTH;
use landfall_ingress_model::address::usable;
use landfall_ingress_model::backend::{Affinity, Protocol};
use landfall_ingress_model::balance::{Balance, Choice};
use landfall_ingress_model::pipeline::{Answer as Page, Ask, Forward, HeaderEdits, Opinion, Question, parts};
use landfall_ingress_model::policy::verify;
use landfall_ingress_model::table::Route;
use moka::sync::Cache;
use tokio::sync::Semaphore;

use super::{Request, Shared};
use crate::engine::body::Length;
use crate::engine::framing::Fields;
use crate::engine::upstream::{Answer, Care, Origin, Outbound, Protocols, Upstream, server_name};

/// How long a service may take to take a connection, and to answer.
const CONNECT: Duration = Duration::from_secs(5);
const ANSWER: Duration = Duration::from_mins(1);
/// Bytes of its answer's body that are read so that the connection can be used again.
const BODY: usize = 64 * 1024;
/// Answers that are kept.
const KEPT: u64 = 10_000;

/// Passwords that are looked at together, so that they leave room for other work.
static PASSWORDS: LazyLock<Semaphore> =
    LazyLock::new(|| Semaphore::new(std::thread::available_parallelism().map_or(1, std::num::NonZero::get)));

/// What services said of requests, until it is to be asked again.
#[derive(Clone)]
pub(crate) struct Opinions(Cache<String, (Instant, Arc<Opinion>)>);

impl Default for Opinions {
    fn default() -> Self {
        Self(Cache::new(KEPT))
    }
}

impl Opinions {
    fn get(&self, key: &str) -> Option<Arc<Opinion>> {
        let (until, opinion) = self.0.get(key)?;
        (Instant::now() < until).then_some(opinion)
    }
}

/// Finds out whether a request may pass.
///
/// `Err` is the answer if it may not, and the route.
pub(super) async fn authorize(
    engine: &Shared,
    request: &Request,
    ask: Ask,
    id: &HeaderValue,
) -> Result<Box<Forward>, (Page, Option<Arc<Route>>)> {
    let right = match ask.login() {
        Some((hash, password)) => is_right(hash.to_owned(), password.to_owned()).await,
        None => false,
    };
    let opinion = match ask.question(right) {
        Some(question) => opinion(engine, &ask, question).await,
        None => None,
    };
    let route = ask.route().clone();
    ask.conclude(right, opinion.as_deref(), &request.fields.map, id).map_err(|page| (*page, Some(route)))
}

/// Whether a password has this hash; what takes that long must not hold other requests up.
async fn is_right(hash: String, password: Vec<u8>) -> bool {
    let Ok(permit) = PASSWORDS.acquire().await else { return false };
    let right = tokio::task::spawn_blocking(move || verify(&password, &hash)).await;
    drop(permit);
    right.unwrap_or(false)
}

/// What the service says, now or lately.
async fn opinion(engine: &Shared, ask: &Ask, question: &Question) -> Option<Arc<Opinion>> {
    if let Some(known) = question.key.as_deref().and_then(|key| engine.opinions.get(key)) {
        return Some(known);
    }
    let asked = tokio::time::timeout(ANSWER, ask_service(engine, question)).await.ok().flatten();
    let Some(opinion) = asked else {
        tracing::warn!(url = question.url, "the authentication service could not be asked");
        return None;
    };
    let opinion = Arc::new(opinion);
    if let (Some(key), Some(duration)) = (&question.key, ask.kept_for(&opinion)) {
        engine.opinions.0.insert(key.clone(), (Instant::now() + duration, opinion.clone()));
    }
    Some(opinion)
}

/// Asks the service. A kept connection may be dead, so that a new one is tried then.
async fn ask_service(engine: &Shared, question: &Question) -> Option<Opinion> {
    let (tls, authority, rest) = parts(&question.url);
    let (host, port) = match authority.rsplit_once(':') {
        Some((host, port)) if !host.ends_with(':') => (host, port.parse().ok()?),
        _ => (authority, if tls { 443 } else { 80 }),
    };
    let address = address(engine, host.trim_matches(['[', ']']), port).await?;
    let protocol = if tls { Protocol::Https } else { Protocol::Http };
    let target = if rest.starts_with('/') { rest.to_owned() } else { format!("/{rest}") };
    let mut fields = question.fields.clone();
    fields.remove(CONTENT_LENGTH);
    let fields = Fields::of_map(fields);
    loop {
        let origin = Origin { address, server_name: server_name(protocol, host, address), protocol: Protocols::Http1 };
        let now = tokio::time::Instant::now();
        let mut upstream = engine.pool.get(origin, Care::Once, CONNECT, now).await.ok()?;
        let reused = upstream.is_reused();
        let edits = HeaderEdits::default();
        let outbound =
            Outbound { method: &question.method, target: &target, fields: &fields, edits: &edits, body: Length::None };
        match answer_of(&mut upstream, &outbound).await {
            Some((opinion, true)) => {
                if let Upstream::Http1(upstream) = upstream
                    && let Some((origin, idle)) = upstream.into_idle(tokio::time::Instant::now())
                {
                    engine.pool.put(origin, idle);
                }
                return Some(opinion);
            }
            Some((opinion, false)) => return Some(opinion),
            None if reused => {}
            None => return None,
        }
    }
}

/// The answer, and whether it was read to its end.
async fn answer_of(upstream: &mut Upstream, outbound: &Outbound<'_>) -> Option<(Opinion, bool)> {
    upstream.request(outbound).ok()?;
    poll_fn(|cx| upstream.poll_flush(cx)).await.ok()?;
    let head = loop {
        match poll_fn(|cx| upstream.poll_answer(cx)).await.ok()? {
            Answer::Interim(..) => {}
            Answer::Head(head) => break head,
        }
    };
    let opinion = Opinion { status: head.status, fields: head.fields.map };
    let mut over = matches!(head.body, Length::None | Length::Known(0));
    let mut read = 0;
    while !over && read < BODY {
        let Ok(part) = poll_fn(|cx| upstream.poll_part(cx)).await else { return Some((opinion, false)) };
        read += part.len();
        over = part.is_final();
    }
    Some((opinion, over))
}

/// An address of the service.
async fn address(engine: &Shared, host: &str, port: u16) -> Option<std::net::SocketAddr> {
    if let Ok(address) = host.parse::<IpAddr>() {
        let address = usable(address, engine.resolver.origin()).ok()?;
        return Some((address, port).into());
    }
    let balancer = engine.resolver.balancer(&Arc::from(host), port).await.ok()?;
    let choice = Choice {
        balance: Balance::default(),
        affinity: Affinity::None,
        client: IpAddr::from([0, 0, 0, 0]),
        key: None,
        pinned: None,
        excluded: &[],
    };
    balancer.pick(&choice, Instant::now()).map(|pick| pick.addr)
}
