//! HTTP/2 and gRPC: many streams on few connections.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use bytes::{BufMut, Bytes, BytesMut};
use h2::client::{Connection, SendRequest};
use h2::{Ping, PingPong, Reason, RecvStream};
use http::{HeaderMap, Request, Response, StatusCode, Version};
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::sync::Mutex;
use tokio::time::{Instant, interval, timeout, timeout_at};

use super::failure::{Failure, Kind};
use super::pace::Client;
use super::{Class, Load, Scheme, answer, fresh};
use crate::echo::BACKEND;

/// How often a connection is asked whether anybody is there, as gRPC clients do.
const PING_EVERY: Duration = Duration::from_secs(1);
/// How long the answer may take. Streams under way still have their own time; new ones go elsewhere.
const PONG_WITHIN: Duration = Duration::from_secs(2);
/// How often one request is sent at most: each attempt but the first needs a server that said that it did nothing.
const ATTEMPTS: usize = 4;
/// Where the echo backend's gRPC calls go; it answers any of them.
const GRPC_PATH: &str = "/landfall.Echo/Say";

/// Connections that share the streams of a class.
pub(super) struct Multiplexed {
    load: Arc<Load>,
    slots: Vec<Mutex<Option<Shared>>>,
}

#[derive(Clone)]
struct Shared {
    sender: SendRequest<Bytes>,
    label: Arc<str>,
    /// Nothing new is sent on it.
    over: Arc<AtomicBool>,
}

/// How a request on a connection failed.
enum Failed {
    /// The server has not seen it, or says that it did nothing with it.
    Unprocessed(Failure),
    /// In any other way.
    For(Failure),
}

impl Multiplexed {
    pub(super) fn new(load: &Arc<Load>) -> Self {
        let slots = (0..load.plan.shared).map(|_| Mutex::default()).collect();
        Self { load: Arc::clone(load), slots }
    }

    /// The connection of the slot for `number`, opened if there is none. Whoever comes meanwhile waits for it.
    async fn shared(&self, number: u64, deadline: Instant) -> Result<Shared, Failure> {
        let slot = usize::try_from(number).unwrap_or_default() % self.slots.len();
        let waited = timeout_at(deadline, self.slots[slot].lock()).await;
        let mut slot = waited.map_err(|_| Failure::new(Kind::Connect, "waited for a connection until the end"))?;
        if let Some(shared) = slot.as_ref().filter(|shared| !shared.over.load(Ordering::Relaxed)) {
            return Ok(shared.clone());
        }
        let shared = self.connect(deadline).await?;
        *slot = Some(shared.clone());
        Ok(shared)
    }

    async fn connect(&self, deadline: Instant) -> Result<Shared, Failure> {
        let (stream, label) = fresh::connect(&self.load, deadline).await?;
        match self.load.scheme {
            Scheme::Http => self.shake(stream, label, deadline).await,
            Scheme::Https => {
                let stream = fresh::secure(&self.load, stream, "h2", deadline).await?;
                if stream.get_ref().1.alpn_protocol() != Some(b"h2") {
                    return Err(Failure::new(Kind::Handshake, "the server did not choose h2").on(&label));
                }
                self.shake(stream, label, deadline).await
            }
        }
    }

    async fn shake<S>(&self, stream: S, label: String, deadline: Instant) -> Result<Shared, Failure>
    where
        S: AsyncRead + AsyncWrite + Unpin + Send + 'static,
    {
        let shaken = timeout_at(deadline, h2::client::handshake(stream)).await;
        let shaken = shaken.map_err(|_| Failure::new(Kind::Handshake, "no HTTP/2 in time").on(&label))?;
        let (sender, connection) = shaken.map_err(|error| Failure::of(Kind::Handshake, &error).on(&label))?;
        let over = Arc::new(AtomicBool::new(false));
        tokio::spawn(drive(Arc::clone(&self.load), connection, Arc::clone(&over)));
        Ok(Shared { sender, label: label.into(), over })
    }

    async fn ask(&self, shared: &Shared, number: u64, deadline: Instant) -> Result<Option<String>, Failed> {
        let asked = timeout_at(deadline, async {
            let (head, body, trailers) = self.exchange(shared, number).await?;
            self.judge(number, &head, &body, &trailers).map_err(Failed::For)
        });
        match asked.await {
            Ok(Ok(backend)) => Ok(backend),
            Ok(Err(Failed::For(failure))) => Err(Failed::For(failure.on(&shared.label))),
            Ok(Err(unprocessed)) => Err(unprocessed),
            Err(_) => Err(Failed::For(Failure::new(Kind::Timeout, "no whole answer in time").on(&shared.label))),
        }
    }

    async fn exchange(&self, shared: &Shared, number: u64) -> Result<(Response<()>, Bytes, HeaderMap), Failed> {
        let (request, message) =
            self.request(number).map_err(|error| Failed::For(Failure::of(Kind::Answer, &error)))?;
        let unsent = |error: h2::Error| Failed::Unprocessed(Failure::of(Kind::Lost, &error));
        let mut sender = shared.sender.clone().ready().await.map_err(unsent)?;
        let (response, mut stream) = sender.send_request(request, message.is_none()).map_err(unsent)?;
        if let Some(message) = message {
            // If the stream is broken, the answer says how.
            let _ = stream.send_data(message, true);
        }
        let response = response.await.map_err(|error| refused(&error))?;
        let (head, mut body) = response.into_parts();
        let lost = |error: h2::Error| Failed::For(Failure::of(Kind::Lost, &error));
        let bytes = read(&mut body).await.map_err(lost)?;
        let trailers = body.trailers().await.map_err(lost)?.unwrap_or_default();
        Ok((Response::from_parts(head, ()), bytes, trailers))
    }

    /// Request `number` and, for gRPC, its message.
    fn request(&self, number: u64) -> http::Result<(Request<()>, Option<Bytes>)> {
        let plan = &self.load.plan;
        let scheme = match self.load.scheme {
            Scheme::Http => "http",
            Scheme::Https => "https",
        };
        let request = Request::builder().version(Version::HTTP_2);
        if self.load.class != Class::Grpc {
            let uri = format!("{scheme}://{}{}", plan.host, answer::path(plan, number));
            return Ok((request.uri(uri).body(())?, None));
        }
        let request = request.method("POST").uri(format!("{scheme}://{}{GRPC_PATH}", plan.host));
        let request = request.header("content-type", "application/grpc").header("te", "trailers");
        Ok((request.body(())?, Some(message(number))))
    }

    fn judge(
        &self,
        number: u64,
        head: &Response<()>,
        body: &[u8],
        trailers: &HeaderMap,
    ) -> Result<Option<String>, Failure> {
        if self.load.class != Class::Grpc {
            return answer::backend(&self.load, number, head.status(), body).map(Some);
        }
        // An answer of trailers only has the status in its head.
        let status = trailers.get("grpc-status").or_else(|| head.headers().get("grpc-status"));
        if head.status() != StatusCode::OK || status.is_none_or(|status| status.as_bytes() != b"0") {
            let said = trailers.get("grpc-message").or_else(|| head.headers().get("grpc-message"));
            return Err(Failure::new(Kind::Status, format!("{}, gRPC {status:?} {said:?}", head.status())));
        }
        if body != message(number) {
            return Err(Failure::new(Kind::Answer, format!("not the answer to call {number}: {} bytes", body.len())));
        }
        let backend = head.headers().get(BACKEND).and_then(|name| name.to_str().ok());
        Ok(backend.map(str::to_owned))
    }
}

impl Client for Multiplexed {
    async fn request(&self, number: u64, deadline: Instant) -> Result<Option<String>, Failure> {
        let mut last = None;
        for _ in 0..ATTEMPTS {
            let shared = self.shared(number, deadline).await?;
            match self.ask(&shared, number, deadline).await {
                Ok(backend) => return Ok(backend),
                Err(Failed::For(failure)) => {
                    if failure.kind == Kind::Lost {
                        shared.end(&self.load);
                    }
                    return Err(failure);
                }
                Err(Failed::Unprocessed(failure)) => {
                    shared.end(&self.load);
                    self.load.tally.reopened();
                    last = Some(failure.on(&shared.label));
                }
            }
        }
        Err(last.unwrap_or_else(|| Failure::new(Kind::Lost, "never sent")))
    }
}

impl Shared {
    /// Nothing new is sent on it; what is under way may end.
    fn end(&self, load: &Load) {
        if !self.over.swap(true, Ordering::Relaxed) {
            load.tally.closed_by_server();
        }
    }
}

/// Carries the bytes of a connection until it ends.
async fn drive<S>(load: Arc<Load>, mut connection: Connection<S, Bytes>, over: Arc<AtomicBool>)
where
    S: AsyncRead + AsyncWrite + Unpin,
{
    let pings = connection.ping_pong();
    // Its error reaches the streams.
    tokio::select! {
        _ = &mut connection => {}
        () = silence(pings) => {
            over.store(true, Ordering::Relaxed);
            let _ = connection.await;
        }
    }
    if !over.swap(true, Ordering::Relaxed) {
        load.tally.closed_by_server();
    }
}

/// Returns once a ping was not answered.
async fn silence(pings: Option<PingPong>) {
    let Some(mut pings) = pings else { return std::future::pending().await };
    let mut every = interval(PING_EVERY);
    loop {
        every.tick().await;
        match timeout(PONG_WITHIN, pings.ping(Ping::opaque())).await {
            Ok(Ok(_)) => {}
            // The connection has ended, and says so itself.
            Ok(Err(_)) => return std::future::pending().await,
            Err(_) => return,
        }
    }
}

/// What an error instead of an answer means (RFC 9113 section 8.7).
fn refused(error: &h2::Error) -> Failed {
    let failure = Failure::of(Kind::Lost, error);
    // The library gives the error of GOAWAY only to streams beyond the last one that the server names.
    let beyond = error.is_go_away() && error.is_remote();
    let refused = error.is_reset() && error.is_remote() && error.reason() == Some(Reason::REFUSED_STREAM);
    if beyond || refused { Failed::Unprocessed(failure) } else { Failed::For(failure) }
}

async fn read(body: &mut RecvStream) -> Result<Bytes, h2::Error> {
    let mut bytes = BytesMut::new();
    while let Some(data) = body.data().await {
        let data = data?;
        body.flow_control().release_capacity(data.len())?;
        bytes.put(data);
    }
    Ok(bytes.freeze())
}

/// A gRPC message of one text field: flag, length, then the field (tag 1, its length, the text).
fn message(number: u64) -> Bytes {
    let text = format!("call {number}");
    let length = u8::try_from(text.len()).unwrap_or(u8::MAX);
    let mut message = BytesMut::new();
    message.put_u8(0);
    message.put_u32(u32::from(length) + 2);
    message.put_slice(&[0x0a, length]);
    message.put_slice(text.as_bytes());
    message.freeze()
}
