//! Sends spans to the collector, by gRPC without TLS, as ingress-nginx does.

use std::sync::Arc;
use std::time::Duration;

use arc_swap::ArcSwap;
use bytes::{BufMut, Bytes, BytesMut};
use h2::client::SendRequest;
use http::{Method, Request};
use landfall_ingress_model::table::{Collector, Table};
use landfall_shared::drain::{Drain, Phase};
use prost::Message;
use thiserror::Error;
use tokio::net::TcpStream;
use tokio::sync::mpsc;
use tokio::time::{Instant, timeout, timeout_at};

use super::Counts;
use super::message::{Attributes, Export, Resource, ResourceSpans, Scope, ScopeSpans, Span};

/// How long a collector may take.
const PATIENCE: Duration = Duration::from_secs(10);
const METHOD: &str = "/opentelemetry.proto.collector.trace.v1.TraceService/Export";

/// Why spans could not be sent.
#[derive(Debug, Error)]
enum ExportError {
    #[error("the collector can't be connected to: {0}")]
    Connect(#[from] std::io::Error),
    #[error("the collector does not speak HTTP/2 as it should: {0}")]
    Http2(#[from] h2::Error),
    #[error("the collector did not answer in time")]
    TimedOut,
    #[error("the collector answered with status {0}")]
    Status(String),
}

/// Sends what waits in the queue.
#[derive(Debug)]
pub struct Exporter {
    waiting: mpsc::Receiver<Span>,
    counts: Counts,
    connection: Option<(Arc<Collector>, SendRequest<Bytes>)>,
    /// Whether the last attempt failed, which is said once.
    is_failing: bool,
}

impl Exporter {
    pub(super) fn new(waiting: mpsc::Receiver<Span>, counts: Counts) -> Self {
        Self { waiting, counts, connection: None, is_failing: false }
    }

    /// Sends spans to the collector that the table names, until the program has drained; what is left then goes at once.
    pub async fn run(mut self, table: Arc<ArcSwap<Table>>, drain: Drain) {
        let mut done = std::pin::pin!(drain.reached(Phase::Done));
        let mut is_over = false;
        loop {
            let first = tokio::select! {
                first = self.waiting.recv(), if !is_over => first,
                () = &mut done, if !is_over => {
                    is_over = true;
                    continue;
                }
                else => self.waiting.try_recv().ok(),
            };
            let Some(first) = first else { return };
            let Some(collector) = table.load().collector.clone() else { continue };
            let mut batch = vec![first];
            let deadline = Instant::now() + collector.delay;
            while batch.len() < collector.batch {
                let next = tokio::select! {
                    next = timeout_at(deadline, self.waiting.recv()), if !is_over => next.ok().flatten(),
                    () = &mut done, if !is_over => {
                        is_over = true;
                        continue;
                    }
                    else => self.waiting.try_recv().ok(),
                };
                let Some(next) = next else { break };
                batch.push(next);
            }
            self.send(&collector, batch).await;
        }
    }

    async fn send(&mut self, collector: &Arc<Collector>, spans: Vec<Span>) {
        let count = spans.len() as u64;
        let body = frame(collector, spans);
        match self.export(collector, body).await {
            Ok(()) => {
                self.counts.sent.inc_by(count);
                if std::mem::take(&mut self.is_failing) {
                    tracing::info!(host = &*collector.host, port = collector.port, "spans are sent again");
                }
            }
            Err(error) => {
                self.connection = None;
                self.counts.failed.inc_by(count);
                if !std::mem::replace(&mut self.is_failing, true) {
                    tracing::warn!(%error, host = &*collector.host, port = collector.port, "spans can't be sent");
                }
            }
        }
    }

    /// A connection that was kept may be dead by now, which is no failure.
    async fn export(&mut self, collector: &Arc<Collector>, body: Bytes) -> Result<(), ExportError> {
        let kept = self.connection.take().filter(|(to, _)| to == collector);
        if let Some((_, sender)) = kept
            && let Ok(Ok(sender)) = timeout(PATIENCE, call(sender, collector, body.clone())).await
        {
            self.connection = Some((collector.clone(), sender));
            return Ok(());
        }
        let exported = timeout(PATIENCE, async {
            let sender = connect(collector).await?;
            call(sender, collector, body).await
        });
        let sender = exported.await.map_err(|_| ExportError::TimedOut)??;
        self.connection = Some((collector.clone(), sender));
        Ok(())
    }
}

async fn connect(collector: &Collector) -> Result<SendRequest<Bytes>, ExportError> {
    let tcp = TcpStream::connect((&*collector.host, collector.port)).await?;
    tcp.set_nodelay(true)?;
    let (sender, connection) = h2::client::handshake(tcp).await?;
    // It ends with the sender; why is said by whoever sends next.
    tokio::spawn(async move {
        let _ = connection.await;
    });
    Ok(sender)
}

/// One call (<https://github.com/grpc/grpc/blob/master/doc/PROTOCOL-HTTP2.md>).
async fn call(
    sender: SendRequest<Bytes>,
    collector: &Collector,
    body: Bytes,
) -> Result<SendRequest<Bytes>, ExportError> {
    let mut sender = sender.ready().await?;
    let request = Request::builder()
        .method(Method::POST)
        .uri(format!("http://{}:{}{METHOD}", uri_host(&collector.host), collector.port))
        .header("content-type", "application/grpc")
        .header("te", "trailers")
        .header("user-agent", concat!("landfall-ingress/", env!("CARGO_PKG_VERSION")))
        .body(())
        .map_err(|error| ExportError::Status(error.to_string()))?;
    let (response, mut stream) = sender.send_request(request, false)?;
    stream.send_data(body, true)?;
    let (head, mut answer) = response.await?.into_parts();
    while let Some(data) = answer.data().await {
        let length = data?.len();
        answer.flow_control().release_capacity(length)?;
    }
    let trailers = answer.trailers().await?.unwrap_or_default();
    // An answer without a message has its trailers in the head.
    let status = trailers.get("grpc-status").or_else(|| head.headers.get("grpc-status"));
    match status.map(http::HeaderValue::as_bytes) {
        Some(b"0") => Ok(sender),
        Some(code) => Err(ExportError::Status(String::from_utf8_lossy(code).into_owned())),
        None => Err(ExportError::Status(head.status.to_string())),
    }
}

fn uri_host(host: &str) -> String {
    if host.contains(':') { format!("[{host}]") } else { host.to_owned() }
}

/// The message with the five bytes of gRPC in front: not compressed, and its length.
fn frame(collector: &Collector, spans: Vec<Span>) -> Bytes {
    let mut attributes = Attributes::default();
    attributes.text("service.name", &collector.service);
    attributes.text("telemetry.sdk.language", "rust");
    attributes.text("telemetry.sdk.name", "landfall");
    let scope = Scope { name: "landfall-ingress".into(), version: env!("CARGO_PKG_VERSION").into() };
    let export = Export {
        resource_spans: vec![ResourceSpans {
            resource: Some(Resource { attributes: attributes.0 }),
            scope_spans: vec![ScopeSpans { scope: Some(scope), spans }],
        }],
    };
    let length = export.encoded_len();
    let mut frame = BytesMut::with_capacity(length + 5);
    frame.put_u8(0);
    frame.put_u32(u32::try_from(length).unwrap_or(u32::MAX));
    // A buffer that grows has room.
    let _ = export.encode(&mut frame);
    frame.freeze()
}
